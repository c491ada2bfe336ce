//! An endpoint of the reference control plane, and the Postgres that runs for it.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{
    account::Account,
    certificates::CertificatePaths,
    postgres::{Version, programs},
};

/// An endpoint.
pub(super) struct Owned {
    pub(super) answer: Value,
    pub(super) version: u64,
    /// It is nobody's any more, though its compute may still run.
    pub(super) is_removed: bool,
    pub(super) data_dir: PathBuf,
    pub(super) generation: u64,
    /// The highest order of a wake: what comes with a lower one comes late.
    pub(super) woken_by: u64,
    /// What its Postgres shows.
    pub(super) tls: Option<CertificatePaths>,
    pub(super) running: Option<Running>,
}

/// A Postgres. It ends with this value.
pub(super) struct Running {
    pub(super) child: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Owned {
    /// Where it takes logins, if it does.
    pub(super) fn place(&self) -> Option<Value> {
        let running = self.running.as_ref()?;
        // The eighth line: https://www.postgresql.org/docs/current/storage-file-layout.html
        let status = fs::read_to_string(self.data_dir.join("postmaster.pid")).ok()?;
        let ready = status.lines().nth(7).is_some_and(|word| word.trim() == "ready");
        let own = status.lines().next() == Some(&running.child.id().to_string());
        (ready && own).then(|| {
            let host = if self.tls.is_some() {
                "localhost"
            } else {
                "127.0.0.1"
            };
            let address = format!("{host}:{}", running.port);
            json!({ "address": address, "generation": self.generation })
        })
    }

    /// Starts it where it does not run.
    pub(super) fn start(&mut self) {
        let ended = |running: &mut Running| running.child.try_wait().unwrap().is_some();
        if self.running.as_mut().is_some_and(|running| !ended(running)) {
            return;
        }
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        // setpriv becomes the postmaster: it keeps its process number.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(Account { uid, gid }) = Account::for_postgres() {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--clear-groups");
        }
        command
            .arg(programs(Version::Debian).join("postgres"))
            .arg("-D")
            .arg(&self.data_dir)
            .args(["-c", &format!("port={port}"), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .current_dir(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some(CertificatePaths { certificate, key }) = &self.tls {
            command.args(["-c", "ssl=on"]);
            command.args(["-c", &format!("ssl_cert_file={}", certificate.display())]);
            command.args(["-c", &format!("ssl_key_file={}", key.display())]);
        }
        self.generation += 1;
        self.running = Some(Running {
            child: command.spawn().unwrap(),
            port,
        });
    }
}
