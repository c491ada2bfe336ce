//! What runs an endpoint's server, and where that is reached. Plain data; `compute` makes what it says.

use std::path::PathBuf;

/// What runs an endpoint's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compute {
    /// A local Postgres that pgwake starts and stops.
    Process(ProcessCompute),
    /// A server that is always there.
    Fixed(FixedCompute),
}

/// A local Postgres data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessCompute {
    /// Made on first use where it does not exist.
    pub data_dir: PathBuf,
    /// Folder of `postgres` and `initdb`; `None`: `/usr/lib/postgresql/<PG_VERSION>/bin`, then PATH.
    pub programs: Option<PathBuf>,
    /// User to run as where pgwake is root and the data directory does not say; `None`: `postgres`, then `nobody`.
    pub run_as: Option<String>,
    /// Database made on first use.
    pub database: Option<String>,
    /// Role that owns it; `None`: the first listed role.
    pub owner: Option<String>,
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
