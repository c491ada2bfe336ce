//! Why a connect or a request failed, and the short code under which it is counted.
//!
//! Counted errors are keyed by SQLSTATE where the other side said one, else by a word for what happened.

use std::{fmt, io};

/// What went wrong for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// An ErrorResponse.
    Refused { sqlstate: String, message: String },
    /// The connection broke.
    Io(io::ErrorKind),
    /// The TLS handshake failed, or TLS was refused.
    Tls(String),
    /// The other side said something that does not belong there.
    Unexpected(String),
    /// No answer in time.
    Late,
}

impl Failure {
    /// What it is counted as.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Refused { sqlstate, .. } => sqlstate.clone(),
            Self::Io(kind) => format!("{kind:?}"),
            Self::Tls(_) => "tls".into(),
            Self::Unexpected(_) => "unexpected".into(),
            Self::Late => "late".into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { sqlstate, message } => write!(f, "{sqlstate}: {message}"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::Tls(what) => write!(f, "TLS: {what}"),
            Self::Unexpected(what) => write!(f, "unexpected: {what}"),
            Self::Late => f.write_str("no answer in time"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}
