//! The Postgres wire protocol on bytes (<https://www.postgresql.org/docs/current/protocol.html>).
//!
//! What pgwake *says* is encoded with `pgwire` (`say`, `refuse`); what a stranger or a server sends is read with
//! a bounds-checked cursor confined to one message (`startup`, `proxy_header`, `message`, `reply`) or only looked at as it
//! passes (`frame`, `extended`). Generic over byte streams: it knows neither TLS nor sessions.

pub mod cursor;
pub mod extended;
pub mod frame;
pub mod message;
pub mod options;
pub mod proxy_header;
pub mod refuse;
pub mod reply;
pub mod say;
pub mod startup;

use crate::error::{ClientError, Fault, SqlState};

use std::{borrow::Cow, io};

/// Why bytes could not be read as what they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer left, or the connection broke.
    #[error("connection lost: {0}")]
    Gone(#[from] io::Error),
    /// The bytes break the protocol; the text says how.
    #[error("{0}")]
    Violation(&'static str),
    /// A message of this type, where another one belongs.
    #[error("unexpected message type {0}")]
    Unexpected(u8),
    /// A protocol major version other than 3.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version {
        /// As sent.
        major: u16,
        /// As sent.
        minor: u16,
    },
}

impl ClientError for WireError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Gone(_) => SqlState::SERVER_LOST,
            Self::Violation(_) | Self::Unexpected(_) => SqlState::PROTOCOL_VIOLATION,
            Self::Version { .. } => SqlState::NOT_SUPPORTED,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Gone(_) => "connection lost".into(),
            Self::Violation(text) => (*text).into(),
            Self::Unexpected(_) | Self::Version { .. } => self.to_string().into(),
        }
    }

    fn fault(&self) -> Fault {
        Fault::Client
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        crate::error::examples! {
            Self::Gone(_) => [Self::Gone(io::ErrorKind::UnexpectedEof.into())],
            Self::Violation(_) => VIOLATIONS_OF_CLIENTS.map(Self::Violation),
            Self::Unexpected(_) => [Self::Unexpected(0)],
            Self::Version { .. } => [Self::Version { major: 2, minor: 0 }],
        }
    }
}

/// What clients read of their own violations. All others are a server's, and at most the DETAIL of another error.
#[cfg(test)]
pub(crate) const VIOLATIONS_OF_CLIENTS: [&str; 11] = [
    "invalid message length",
    "invalid length of startup packet",
    "startup packet is too short",
    "invalid length of encryption request",
    "cancel request is too short",
    "invalid length of cancel key",
    "invalid startup packet layout: expected terminator as last byte",
    "too many startup parameters",
    "no PostgreSQL user name specified in startup packet",
    "encryption was asked for twice",
    "too many encryption requests",
];
