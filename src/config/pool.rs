//! How server sessions are lent to an endpoint's clients, as checked.

use std::time::Duration;

use crate::ids::POOLER_SUFFIX;

/// How server sessions are lent to an endpoint's clients. All but `mode` and `connects_at_once` is for transaction
/// pooling alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// For clients that do not ask for the other one.
    pub mode: PoolMode,
    /// Most server sessions that exist for transaction pooling.
    pub size: usize,
    /// How long a client waits for one before its statement fails (53300).
    pub wait_timeout: Duration,
    /// Most of them that log in to the server at the same time.
    pub connects_at_once: usize,
    /// A session that is older is closed when it comes back.
    pub lifetime: Duration,
    /// A session that rests for longer is closed.
    pub idle_time: Duration,
    /// Most sessions that clients may pin; never more than `size`.
    pub pinned_max: usize,
    /// Most different startup settings that clients may come with.
    pub startup_variants_max: usize,
    /// How long a session stays with its client after an INSERT where sequences have been asked for their values.
    pub sequence_grace: Duration,
    /// Most prepared statements of one client.
    pub statements_max: usize,
    /// Longest text of a prepared statement that is remembered.
    pub statement_bytes_max: usize,
    /// What wakes a compute for a client that may be greeted without it.
    pub wake_on: WakeOn,
}

/// When a server session is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// At the end of each transaction.
    Transaction,
}

impl PoolMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Session, Self::Transaction];

    /// The word for it in configurations, in `options` and in access lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }

    /// The endpoint that a name means, and the pooling that it asks for: `<endpoint>-pooler` is transaction
    /// pooling of `<endpoint>`. Whether there is such an endpoint makes no difference.
    pub fn split_name(name: &str) -> (&str, Option<Self>) {
        match name.strip_suffix(POOLER_SUFFIX) {
            Some(endpoint) => (endpoint, Some(Self::Transaction)),
            None => (name, None),
        }
    }
}

/// What wakes a compute for a client that may be greeted without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeOn {
    /// Its login.
    Connect,
    /// Its first statement.
    Query,
}
