//! What the demo shows: what runs, what to paste, what to look for.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use crate::config::DurationText;
use crate::ids::Secret;

/// The demo's one screen.
pub(super) struct Screen<'a> {
    pub(super) address: SocketAddr,
    pub(super) endpoints: &'a [&'a str],
    /// What may be connected to although it is not there yet.
    pub(super) branch: &'a str,
    pub(super) password: &'a Secret,
    /// Where the dashboard is.
    pub(super) operators: Option<SocketAddr>,
    /// What its buttons need.
    pub(super) token: &'a Secret,
    pub(super) ca: &'a Path,
    pub(super) suspend_after: DurationText,
    /// Whether the databases are only being made.
    pub(super) is_new: bool,
}

impl Screen<'_> {
    /// Writes it. Password and token are on it: they guard a demo on this machine.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n  pgwake listens on {}. Every Postgres behind it sleeps until it is asked for.\n",
            self.address
        )?;
        if self.is_new {
            writeln!(
                out,
                "  This is the first start: each is made now, runs once, and goes to sleep.\n"
            )?;
        }
        writeln!(out, "  Paste a line into another terminal, from this folder:\n")?;
        for name in self.endpoints {
            self.write_line(name, out)?;
        }
        writeln!(
            out,
            "  And this is one for a task of its own: a copy of {} as it is when you connect, gone an hour after its last use.\n",
            self.endpoints[0]
        )?;
        self.write_line(self.branch, out)?;
        if let Some(operators) = self.operators {
            // Behind the #: browsers send that to nobody.
            let token = self.token.reveal();
            writeln!(
                out,
                "  Watch it in a browser:\n\n    http://{operators}/#token={token}\n"
            )?;
        }
        writeln!(out, "  What to look for:")?;
        writeln!(
            out,
            "    - the prompt comes in well under a second, though no Postgres was running;"
        )?;
        writeln!(
            out,
            "    - this log says when each is woken, ready and suspended, and how long that took;"
        )?;
        writeln!(
            out,
            "    - {} after the last psql has ended, no postgres process is left;",
            self.suspend_after
        )?;
        writeln!(
            out,
            "    - the next psql wakes it again, with its data. A wrong password wakes nothing.\n"
        )?;
        writeln!(
            out,
            "  Ctrl-C ends everything. The data stays for the next time.\n"
        )?;
        out.flush()
    }

    fn write_line(&self, name: &str, out: &mut impl Write) -> io::Result<()> {
        let (ip, port) = (self.address.ip(), self.address.port());
        writeln!(
            out,
            "    psql \"host={name}.db.localhost hostaddr={ip} port={port} dbname=app user=app password={} \
             sslmode=verify-full sslrootcert={} channel_binding=require\"\n",
            self.password.reveal(),
            self.ca.display(),
        )
    }
}
