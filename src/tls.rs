//! TLS on both sides: the certificate of our own that a client is shown, and the one that a server shows us.
//!
//! The `listener` and `session` bring a client's socket here after its SSLRequest (or at once, for direct TLS)
//! and get a [`Secured`] stream back, with the name that the client asked for; `pool`, `cancel` and `compute` dial servers.
//! Nothing here reads a startup packet, knows what a name stands for or sets a deadline: the caller bounds
//! every call with its own.

mod accept;
mod client_check;
mod dial;
mod end_point;
mod idle;
mod reach;
mod server_check;
mod socket;
mod sockets;
mod store;
mod stream;
mod watch;
mod web;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};

pub use accept::{Opening, Secured, accept};
pub use dial::{DialError, Dialed, dial};
pub use socket::Socket;
pub use sockets::{OwnAddresses, SocketSettings, has_pending_bytes, settle};
pub use store::{AskClients, CertificateStore, Prepared, Reloaded, Served};
pub use stream::Stream;
pub use watch::Watching;

pub(crate) use client_check::client_verifier;
pub(crate) use dial::SSL_REQUEST;
pub(crate) use end_point::end_point;
pub(crate) use reach::reach;
pub(crate) use server_check::client_config;
pub(crate) use store::read_certificates;
pub(crate) use watch::{Folders, until_quiet};
pub(crate) use web::web_client;

/// What a Postgres client or server calls itself in ALPN
/// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>).
pub(crate) const ALPN_POSTGRESQL: &[u8] = b"postgresql";

/// Why certificates cannot be served, or why a client's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file that cannot be used.
    #[error("{}: {problem}", file.display())]
    File {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with it, and where possible what to do.
        problem: String,
    },
    /// The system does not let the certificates' folders be watched.
    #[error("certificates cannot be watched for changes: {0}")]
    Watch(#[source] io::Error),
    /// A client wants TLS and no certificate is configured.
    #[error("no certificate is configured")]
    NoCertificate,
    /// Direct TLS without ALPN `postgresql`.
    #[error("direct tls without the alpn protocol `postgresql`")]
    NoProtocolOffered,
    /// The client spoke something else, agreed to nothing or left.
    #[error("tls handshake failed: {0}")]
    Handshake(#[source] io::Error),
}

impl TlsError {
    pub(crate) fn file(file: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Passed explicitly everywhere: a process-wide default would depend on who came first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Suites with AES-128 before those with AES-256: a handshake's keys are made with SHA-256, which processors know, and not
/// with SHA-384, which was a quarter of a login's instructions.
fn server_provider() -> Arc<CryptoProvider> {
    let mut provider = Arc::unwrap_or_clone(provider());
    let is_other = |suite: &SupportedCipherSuite| {
        let name = suite.suite().as_str();
        !name.is_some_and(|name| name.contains("AES_128"))
    };
    provider.cipher_suites.sort_by_key(is_other);
    Arc::new(provider)
}

#[cfg(test)]
mod testing;
