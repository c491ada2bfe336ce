//! How long a parked client may stay: what it is told when its time is over.

use std::time::Duration;

use tokio::time::Instant;

use super::Pooled;
use crate::session::{error::SessionError, idling::Ending};

impl Pooled {
    /// Why a client ends whose alarm rings: it has been idle until `deadline`, or its stay is over.
    pub(super) fn lateness(&self, deadline: Option<Instant>) -> SessionError {
        match self.ends_at {
            Some((at, ending)) if deadline.is_none_or(|deadline| at < deadline) => match ending {
                Ending::Age(limit) => SessionError::TooOld { limit },
                Ending::Token => SessionError::TokenExpired,
            },
            _ => self.idle_until().1,
        }
    }

    /// Until when it may do nothing, and what it is told then.
    pub(super) fn idle_until(&self) -> (Option<Instant>, SessionError) {
        let times = self.permit.times();
        let Some(since) = self.local.in_transaction_since() else {
            let limit = times.idle.unwrap_or_default();
            let until = times.idle.map(|idle| Instant::now() + idle);
            return (until, SessionError::IdleTooLong { limit });
        };
        let by_server = self.idle_in_transaction_until();
        let by_limit = times.idle_in_transaction.map(|limit| since + limit);
        match (by_limit, times.idle_in_transaction) {
            (Some(until), Some(limit)) if by_server.is_none_or(|by_server| until < by_server) => {
                (Some(until), SessionError::IdleInTransactionTooLong { limit })
            }
            _ => (by_server, SessionError::IdleInTransaction),
        }
    }

    /// A transaction that only pgwake knows of is not held open for longer than the server would hold it.
    fn idle_in_transaction_until(&self) -> Option<Instant> {
        let since = self.local.in_transaction_since()?;
        let limit = match self.profile.setting(b"idle_in_transaction_session_timeout") {
            Some(set) => milliseconds(set)?,
            None => {
                self.pooling
                    .last_known(self.beginning.database())?
                    .idle_in_transaction?
            }
        };
        Some(since + limit)
    }
}

/// A setting in its unit; 0 switches it off.
fn milliseconds(setting: &[u8]) -> Option<Duration> {
    let number: u64 = str::from_utf8(setting).ok()?.parse().ok()?;
    (number > 0).then(|| Duration::from_millis(number))
}
