//! Where clients come in, and which endpoint they mean where they name none. Plain data, as checked.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::{Network, PoolMode};
use crate::ids::{EndpointName, POOLER_SUFFIX};

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// TCP or Unix socket.
    pub address: ListenAddress,
    /// What is asked of clients. A Unix socket is never refused for lack of TLS.
    pub tls: ListenTls,
    /// The endpoint of clients that name none.
    pub default_endpoint: Option<DefaultEndpoint>,
    /// Who sends a PROXY header ahead of each client: load balancers.
    pub proxies: Vec<Network>,
    /// Permissions of a Unix socket; `None`: what the umask leaves.
    pub mode: Option<u32>,
}

/// The endpoint of clients that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// Transaction pooling where it was written as `<endpoint>-pooler`; `None`: the endpoint's own mode.
    pub pooling: Option<PoolMode>,
}

impl fmt::Display for DefaultEndpoint {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.pooling {
            Some(PoolMode::Transaction) => POOLER_SUFFIX,
            Some(PoolMode::Session) | None => "",
        };
        write!(f, "{}{suffix}", self.name)
    }
}

/// A TCP address or the path of a Unix socket (`….s.PGSQL.5432` for libpq to find it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// IPv4 or IPv6; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// Made at start, removed at the end.
    Unix(PathBuf),
}

/// Whether a TCP client must speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenTls {
    /// Plaintext is refused with 08004.
    Required,
    /// Plaintext is allowed; TLS is answered where the client asks for it.
    Optional,
}

/// A PEM chain, leaf first, and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Path of the chain.
    pub certificate: PathBuf,
    /// Path of the key (PKCS#8, PKCS#1 or SEC1), not readable by others.
    pub key: PathBuf,
}
