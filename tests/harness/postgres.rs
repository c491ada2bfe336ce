//! Real Postgres servers: one per test, on a fresh copy of a data directory that was made once.
//!
//! A server listens on a Unix socket in its own short directory and on 127.0.0.1 at a port that the system chose,
//! asks for SCRAM everywhere and forgets durability. It ends with its value: postmaster, backends, orphans, files;
//! and, by the parent-death signal, also where the tests themselves are killed. Hold it in the test's own thread.

mod template;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config};

use template::copy_other_data_directory;
pub(crate) use template::{Version, copy_data_directory, programs};

use super::{
    account::Account, certificates::ServerCertificate, directories::Directory, processes,
    tls_client::connect_plain, wait::PATIENCE,
};

/// The superuser of every server and data directory.
pub(crate) const SUPERUSER: &str = "postgres";
/// Its password.
pub(crate) const PASSWORD: &str = "the superuser's password";

/// A server to be started.
pub(crate) struct Prepared {
    version: Version,
    directory: Directory,
    settings: Vec<String>,
}

/// A server that takes logins; it ends with this value.
pub(crate) struct Postgres {
    version: Version,
    directory: Directory,
    port: u16,
    child: Child,
}

impl Prepared {
    /// Copies a data directory for a server of this version.
    pub(crate) fn new(version: Version) -> Self {
        let directory = Directory::for_postgres();
        copy_data_directory(version, &directory.path().join("data"));
        Self {
            version,
            directory,
            settings: Vec::new(),
        }
    }

    /// The same, of another cluster than all others.
    pub(crate) fn of_another(version: Version) -> Self {
        let directory = Directory::for_postgres();
        copy_other_data_directory(version, &directory.path().join("data"));
        Self {
            version,
            directory,
            settings: Vec::new(),
        }
    }

    /// Sets a parameter of postgresql.conf.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Turns TLS on.
    pub(crate) fn tls(self, certificate: &ServerCertificate) -> Self {
        let paths = certificate.write(self.directory.path(), "server");
        for path in [&paths.certificate, &paths.key] {
            if let Some(account) = Account::for_postgres() {
                account.own(path);
            }
        }
        self.setting("ssl", "on")
            .setting("ssl_cert_file", paths.certificate.to_str().unwrap())
            .setting("ssl_key_file", paths.key.to_str().unwrap())
    }

    /// Starts it and waits until it takes logins.
    pub(crate) async fn start(self) -> Postgres {
        let Self {
            version,
            mut directory,
            settings,
        } = self;
        let mut attempts = 5;
        loop {
            let port = free_port();
            let child = spawn(version, directory.path(), port, &settings);
            let mut server = Postgres {
                version,
                directory,
                port,
                child,
            };
            let Err(log) = server.ready().await else {
                return server;
            };
            // Somebody took the port between the look for it and the start.
            attempts -= 1;
            let port_taken = log.contains("Address already in use");
            assert!(port_taken && attempts > 0, "Postgres did not start:\n{log}");
            directory = server.give_up();
        }
    }
}

/// A port that nobody listens on in this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(version: Version, directory: &Path, port: u16, settings: &[String]) -> Child {
    let log = fs::File::create(directory.join("log")).unwrap();
    // setpriv becomes the postmaster: it keeps its process number.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some(Account { uid, gid }) = Account::for_postgres() {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
    }
    command
        .arg(programs(version).join("postgres"))
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-c", &format!("port={port}"), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
        .args(["-c", &format!("unix_socket_directories={}", directory.display())])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0);
    command.spawn().unwrap()
}

impl Postgres {
    /// A server with the settings of a fresh data directory.
    pub(crate) async fn start(version: Version) -> Self {
        Prepared::new(version).start().await
    }

    /// Its data directory: the working directory of all its processes.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory of its Unix socket: libpq's `host`.
    pub(crate) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The number of its first process.
    pub(crate) fn postmaster(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// libpq's connection string of its superuser, by the Unix socket.
    pub(crate) fn connection_string(&self) -> String {
        let password = PASSWORD.replace('\'', "\\'");
        format!(
            "host={} port={} user={SUPERUSER} password='{password}' dbname=postgres",
            self.socket_directory().display(),
            self.port,
        )
    }

    /// The same for tokio-postgres.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.socket_directory())
            .port(self.port)
            .user(SUPERUSER)
            .password(PASSWORD)
            .dbname("postgres")
            .connect_timeout(PATIENCE);
        config
    }

    /// The superuser's session, by the Unix socket.
    pub(crate) async fn connect(&self) -> Client {
        connect_plain(&self.config()).await.unwrap()
    }

    /// Kills all of it, and starts it into a recovery that goes on once `command` ends: until then it says 57P03.
    pub(crate) fn crash_into_recovery(&mut self, command: &str) {
        processes::kill_all_in(&self.data());
        self.child.wait().unwrap();
        let signal = self.data().join("recovery.signal");
        fs::write(&signal, "").unwrap();
        if let Some(account) = Account::for_postgres() {
            account.own(&signal);
        }
        // Whatever is asked for is not in the archive: the server goes on with what it has.
        let settings = [format!("restore_command={command}; false")];
        self.child = spawn(self.version, self.directory.path(), self.port, &settings);
    }

    /// Waits for the postmaster's word that it takes logins; its log where it ends before.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The eighth line: https://www.postgresql.org/docs/current/storage-file-layout.html
            let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if status.lines().nth(7).is_some_and(|word| word.trim() == "ready") {
                return Ok(());
            }
            if self.child.try_wait().unwrap().is_some() {
                return Err(self.log());
            }
            assert!(
                Instant::now() < deadline,
                "Postgres is not ready:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Takes the directory out of a server that has ended.
    fn give_up(mut self) -> Directory {
        std::mem::replace(&mut self.directory, Directory::new())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        if matches!(self.child.try_wait(), Ok(None)) {
            processes::signal(self.postmaster(), Signal::QUIT);
            if !processes::ended_within(self.postmaster(), Duration::from_secs(5)) {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
        // Each backend leads a process group of its own and outlives a postmaster that was killed.
        processes::kill_all_in(&data);
    }
}
