//! What runs an endpoint's server, and where that is reached. Plain data, as checked; `compute` makes what it says.

use std::{path::PathBuf, time::Duration};

use super::{ControlledCompute, Endpoint, Made};
use crate::ids::Secret;

/// What runs an endpoint's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compute {
    /// A local Postgres that pgwake starts and stops.
    Process(ProcessCompute),
    /// A server that is always there.
    Fixed(FixedCompute),
    /// A server that commands start and stop.
    Command(Box<CommandCompute>),
    /// A server that a control plane starts and stops.
    Controlled(ControlledCompute),
}

/// A local Postgres data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessCompute {
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Folder of `postgres` and `initdb`; `None`: `/usr/lib/postgresql/<PG_VERSION>/bin`, then PATH.
    pub programs: Option<PathBuf>,
    /// User to run as where pgwake is root and the data directory does not say; `None`: `postgres`, then `nobody`.
    pub run_as: Option<String>,
    /// Database made on first use.
    pub database: Option<String>,
    /// Role that owns it; `None`: the first listed role.
    pub owner: Option<String>,
    /// SQL that a new data directory's superuser runs once, in that database.
    pub bootstrap: Option<PathBuf>,
    /// What Postgres is started with, over what its files say; each name once.
    pub settings: Vec<ServerSetting>,
    /// Where the data directory comes from, and whether a missing one is made.
    pub made: Made,
}

/// A setting of a Postgres server (<https://www.postgresql.org/docs/current/config-setting.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSetting {
    /// Its name in lower case: letters, digits, `_` and `.`; none of those that are pgwake's own.
    pub name: String,
    /// Its value as Postgres reads it.
    pub value: String,
}

impl Compute {
    /// What its server is started with.
    pub(crate) fn settings(&self) -> &[ServerSetting] {
        match self {
            Self::Process(process) => &process.settings,
            Self::Fixed(_) | Self::Command(_) | Self::Controlled(_) => &[],
        }
    }

    /// Whether nothing but settings tells the two apart: they are one compute then.
    pub(crate) fn is_same_but_for_settings(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Process(process), Self::Process(other)) => {
                let settings = process.settings.clone();
                *process
                    == ProcessCompute {
                        settings,
                        ..other.clone()
                    }
            }
            _ => self == other,
        }
    }

    /// The host where its server is reached over TCP; `None`: through a socket, or that is known only once it runs.
    pub(crate) fn tcp_host(&self) -> Option<&str> {
        let address = match self {
            Self::Process(_) => None,
            Self::Fixed(fixed) => Some(&fixed.address),
            Self::Command(command) => command.address.as_ref(),
            // Wherever that is: pgwake's own user counts for nothing there.
            Self::Controlled(_) => return Some("its control plane's address"),
        };
        match address? {
            ServerAddress::Tcp { host, .. } => Some(host),
            ServerAddress::Unix(_) => None,
        }
    }
}

impl Endpoint {
    /// Whether the two are one endpoint under other rules: its tenant and its compute are the same.
    pub(crate) fn differs_in_rules_alone(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.compute.is_same_but_for_settings(&other.compute)
    }

    /// How long its compute may take to stop, before that is forced or given up.
    pub(crate) fn stop_takes_at_most(&self) -> Duration {
        let own = match &self.compute {
            Compute::Command(command) => command.stop_timeout,
            Compute::Process(_) | Compute::Fixed(_) | Compute::Controlled(_) => None,
        };
        own.unwrap_or(self.stop_timeout)
    }
}

/// A server that commands start and stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCompute {
    /// Starts it, and ends once it takes logins or will do so soon.
    pub start: CommandLine,
    /// Stops it; `None`: it is never suspended.
    pub stop: Option<CommandLine>,
    /// Tells by its exit status whether it runs: 0 that it does, 3 that it does not.
    pub status: CommandLine,
    /// What the commands have in their environment, beside what pgwake gives them.
    pub environment: Vec<Variable>,
    /// Where it listens; `None`: the commands print it.
    pub address: Option<ServerAddress>,
    /// How it is reached over TCP; `None`: plaintext, and only on this machine.
    pub tls: Option<ServerTls>,
    /// How long `start` may take; `None`: as long as the whole start.
    pub start_timeout: Option<Duration>,
    /// How long `stop` may take; `None`: as long as the endpoint's stop.
    pub stop_timeout: Option<Duration>,
    /// How long `status` may take.
    pub status_timeout: Duration,
    /// How often an awake one is looked at; `None`: only when it cannot be reached.
    pub status_every: Option<Duration>,
}

/// A program and its arguments, with nothing left to be put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// A path, or a name that is looked for in PATH.
    pub program: String,
    /// One by one, as the program gets them.
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// All of it, the program first.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        [self.program.as_str()]
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
    }
}

/// A variable of a command's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, which may well be a secret.
    pub value: Secret,
}

/// A server reached over TCP or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedCompute {
    /// Where it listens.
    pub address: ServerAddress,
    /// How it is reached over TCP.
    pub tls: ServerTls,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// Host name or IP address, and port.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The socket file itself.
    Unix(PathBuf),
}

/// TLS towards a server, in libpq's terms (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerTls {
    /// Plaintext.
    Disable,
    /// Encrypted; the certificate is not checked.
    Require,
    /// The chain must lead to `ca`.
    VerifyCa {
        /// PEM file with the trusted roots.
        ca: PathBuf,
    },
    /// As `VerifyCa`, and the certificate must name the host.
    VerifyFull {
        /// PEM file with the trusted roots.
        ca: PathBuf,
    },
}
