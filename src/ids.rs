//! Names, numbers and secrets as types of their own, parsed at the edge and passed on as what they are.
//!
//! Plain data at the bottom of the house: it names no other module. What a name *means* (which endpoint
//! exists, which verifier is right) is decided elsewhere.

mod name;
mod secret;
mod verifier;

use std::fmt;

pub use name::{BranchName, EndpointName, NameError, POOLER_SUFFIX, TenantName, split_branch};
pub use secret::Secret;
pub use verifier::{Md5Verifier, ScramVerifier, Verifier, VerifierError};

/// One client's stay, as it appears in logs and in the DETAIL of every error that pgwake writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// A session id from random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::str::FromStr for SessionId {
    type Err = ();

    /// As it is shown.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = digits.then(|| u64::from_str_radix(text, 16).ok());
        bits.flatten().map(Self).ok_or(())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number that a Postgres cluster gets when it is made, and that its physical copies share
/// (<https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-CONTROL-SYSTEM>).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SystemIdentifier(pub i64);

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often a compute has been woken since pgwake started: a lease, a server session and every late answer
/// belong to one generation and are worthless in the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
