//! The program that has started pgwake and wants to know how it is: systemd with `Type=notify`, or whoever else sets
//! `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! It only speaks, in datagrams of lines; whether there is something to say is `server`'s business. What cannot be
//! sent is logged, and pgwake goes on. Postgres is never told of the socket: computes start with an environment of
//! their own. Who calls: `cli` makes it, `server` tells.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// How long a word waits for room at a supervisor that does not listen.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Who wants to know, if anybody.
#[derive(Debug, Default)]
pub struct Supervisor {
    channel: Option<Channel>,
    ping_every: Option<Duration>,
    /// What was last said of how it is.
    status: Mutex<String>,
}

#[derive(Debug)]
struct Channel {
    socket: UnixDatagram,
    to: SocketAddr,
}

/// A reload, as long as this lives.
#[derive(Debug)]
pub struct Reloading<'a>(&'a Supervisor);

impl Supervisor {
    /// The one that the environment names. One that cannot be told anything is logged, and counts as none.
    pub fn of_environment() -> Self {
        Self::of(|name| env::var_os(name), process::id()).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: nobody is told how pgwake is");
            Self::default()
        })
    }

    /// # Errors
    /// The system has no socket, or the address is none.
    fn of(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> io::Result<Self> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // A watchdog may be meant for another process of the same unit.
        let is_meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let patience = number("WATCHDOG_USEC").filter(|patience| *patience > 1 && is_meant);
        Self::at(
            &address,
            patience.map(|patience| Duration::from_micros(patience / 2)),
        )
    }

    /// One that listens at a path, or at an abstract name behind an `@`.
    ///
    /// # Errors
    /// The system has no socket, or the address is none.
    pub fn at(address: &OsStr, ping_every: Option<Duration>) -> io::Result<Self> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => {
                let error = "neither a path nor an abstract socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self {
            channel: Some(Channel { socket, to }),
            ping_every,
            status: Mutex::default(),
        })
    }

    /// Whether anybody wants to know.
    pub fn is_there(&self) -> bool {
        self.channel.is_some()
    }

    /// How often it wants to hear [`Self::alive`]: twice within its patience.
    pub fn ping_every(&self) -> Option<Duration> {
        self.ping_every
    }

    /// Clients may come.
    pub fn ready(&self, status: &str) {
        self.say_with_status("READY=1", status);
    }

    /// The configuration is being read again, until what this gives is dropped.
    pub fn reloading(&self) -> Reloading<'_> {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        Reloading(self)
    }

    /// The end has begun, and may take so long.
    pub fn stopping(&self, within: Duration, status: &str) {
        let said = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros());
        self.say_with_status(&said, status);
    }

    /// Another process is the one to look after from now on. Nothing is to be said after this.
    pub fn replaced_by(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
    }

    /// How pgwake is, in a line; the same as before is not said again.
    pub fn status(&self, status: &str) {
        if *self.last_status() != *status {
            self.say_with_status("", status);
        }
    }

    /// All goes on.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say_with_status(&self, said: &str, status: &str) {
        let status: String = status.lines().collect::<Vec<_>>().join(" ");
        self.say(format!("{said}\nSTATUS={status}").trim_start());
        *self.last_status() = status;
    }

    fn last_status(&self) -> std::sync::MutexGuard<'_, String> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, said: &str) {
        if let Some(Channel { socket, to }) = &self.channel
            && let Err(error) = socket.send_to_addr(said.as_bytes(), to)
        {
            tracing::debug!(%error, said, "the supervisor was not told");
        }
    }
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.say("READY=1");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn supervisor(variables: &[(&'static str, &str)]) -> io::Result<Supervisor> {
        let variables: HashMap<_, OsString> = variables
            .iter()
            .map(|(name, value)| (*name, OsString::from(value)))
            .collect();
        Supervisor::of(|name| variables.get(name).cloned(), 7)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_is_said_comes_in_whole_lines_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("pgwake-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, variable) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.to_str().unwrap().to_owned(),
            ),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}")),
        ] {
            let supervisor = supervisor(&[("NOTIFY_SOCKET", &variable)]).unwrap();

            supervisor.ready("serving\nall");
            supervisor.status("serving all");
            supervisor.status("serving some");
            drop(supervisor.reloading());
            supervisor.stopping(Duration::from_secs(2), "ending");
            supervisor.alive();

            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving all");
            assert_eq!(
                heard(&socket),
                "STATUS=serving some",
                "what was said already is not said again"
            );
            let reloading = heard(&socket);
            let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(at.parse::<u64>().unwrap() > 0, "{reloading}");
            assert_eq!(heard(&socket), "READY=1");
            assert_eq!(
                heard(&socket),
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=ending"
            );
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let ping_every = |more: &[(&'static str, &str)]| {
            let all = [&[("NOTIFY_SOCKET", "/nonexistent")], more].concat();
            supervisor(&all).unwrap().ping_every()
        };
        let patience = ("WATCHDOG_USEC", "3000000");
        let half = Some(Duration::from_millis(1500));
        assert_eq!(ping_every(&[patience]), half);
        assert_eq!(ping_every(&[patience, ("WATCHDOG_PID", "7")]), half);
        assert_eq!(ping_every(&[patience, ("WATCHDOG_PID", "8")]), None);
        for wrong in ["0", "soon", ""] {
            assert_eq!(ping_every(&[("WATCHDOG_USEC", wrong)]), None, "{wrong}");
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        assert!(!supervisor(&[]).unwrap().is_there());
        assert!(!supervisor(&[("NOTIFY_SOCKET", "")]).unwrap().is_there());
        assert!(supervisor(&[("NOTIFY_SOCKET", "relative")]).is_err());
        // Nothing is there; saying it is no harm.
        let gone = supervisor(&[("NOTIFY_SOCKET", "/nonexistent/notify")]).unwrap();
        gone.ready("");
        assert!(gone.is_there());
    }
}
