//! The errors that a session itself ends with, in the words that the client reads.

use std::{borrow::Cow, time::Duration};

use super::exchange::Loss;
use crate::config::{DurationText, IgnoredBy};
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::EndpointName;
use crate::tenant::quota::OverLimit;
use crate::wire::WireError;
use crate::wire::options::POOL_SETTING;

/// Why a session ends that neither the client nor its server ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("plaintext where TLS is required")]
    PlaintextRefused,
    #[error("not logged in within {0:?}")]
    LoginTimeout(Duration),
    #[error("unknown way of pooling {0:?} asked for")]
    UnknownPooling(String),
    #[error("client left")]
    ClientGone,
    #[error("unknown message type {0:#04x} from the client")]
    UnknownMessage(u8),
    #[error("message with an impossible length from the client")]
    BadLength,
    #[error("message from the client that is not laid out as it should be")]
    BadMessage,
    #[error("server lost: {reason}")]
    ServerLost { reason: String, loss: Loss },
    #[error("server of endpoint {endpoint} still starting after {waited:?}: {said}")]
    StillStarting {
        endpoint: EndpointName,
        waited: Duration,
        said: String,
    },
    #[error("idle session ended so that the compute can be suspended")]
    IdleEnded { endpoint: EndpointName },
    #[error("ended so that the compute can be suspended: the client does not keep it awake")]
    Ignored {
        endpoint: EndpointName,
        by: IgnoredBy,
        /// What has become of what it had open, if anything was.
        open: Option<Loss>,
    },
    #[error("no server session within {waited:?}")]
    PoolTimeout { waited: Duration, size: usize },
    #[error("cancelled while waiting")]
    CancelledWhileWaiting,
    #[error("in a failed transaction")]
    InFailedTransaction,
    #[error("idle in a transaction for too long")]
    IdleInTransaction,
    #[error("the role's password was changed, or it may not log in any more")]
    PasswordChanged,
    #[error("a prepared statement's rows have changed")]
    PlanChanged,
    #[error("the token that the session began with has expired")]
    TokenExpired,
    #[error("the session has reached the age of {limit:?}")]
    TooOld { limit: Duration },
    #[error("idle for {limit:?}")]
    IdleTooLong { limit: Duration },
    #[error("idle in a transaction for {limit:?}")]
    IdleInTransactionTooLong { limit: Duration },
    #[error("its address is not allowed any more")]
    AddressBarred,
    #[error("endpoint {0} is gone")]
    EndpointRemoved(EndpointName),
    #[error("another server answers at the address of endpoint {0}")]
    OtherServer(EndpointName),
    #[error("another server has taken the place of the one of endpoint {0}")]
    ServerReplaced(EndpointName),
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    #[error("too many pinned sessions")]
    TooManyPinned { max: usize },
    #[error("too many operators at the console")]
    ConsoleFull,
    #[error("ended by an operator")]
    Terminated,
    #[error("pgwake shuts down")]
    ShuttingDown,
    #[error("pgwake shuts down before the session began")]
    ShuttingDownBefore,
}

impl SessionError {
    /// Whether pgwake meant it so: there is nothing for an operator to look into.
    pub(super) fn is_planned(&self) -> bool {
        matches!(
            self,
            Self::IdleEnded { .. }
                | Self::Ignored { .. }
                | Self::TokenExpired
                | Self::TooOld { .. }
                | Self::AddressBarred
                | Self::EndpointRemoved(_)
                | Self::IdleTooLong { .. }
                | Self::IdleInTransactionTooLong { .. }
                | Self::Terminated
                | Self::ShuttingDown
                | Self::ShuttingDownBefore
        )
    }
}

impl ClientError for SessionError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Wire(error) => error.sqlstate(),
            Self::PlaintextRefused => SqlState::REJECTED,
            Self::LoginTimeout(_) => SqlState::CANCELLED,
            Self::UnknownPooling(_) => SqlState::INVALID_PARAMETER,
            Self::ClientGone => SqlState::SERVER_LOST,
            Self::UnknownMessage(_) | Self::BadLength | Self::BadMessage => SqlState::PROTOCOL_VIOLATION,
            Self::ServerLost {
                loss: Loss::Unknown, ..
            } => SqlState::OUTCOME_UNKNOWN,
            Self::ServerLost {
                loss: Loss::RolledBack,
                ..
            } => SqlState::SERVER_LOST,
            Self::StillStarting { .. } | Self::ShuttingDownBefore | Self::OtherServer(_) => {
                SqlState::CANNOT_CONNECT_NOW
            }
            Self::TooManyPinned { .. } | Self::PoolTimeout { .. } | Self::ConsoleFull => {
                SqlState::TOO_MANY_CONNECTIONS
            }
            Self::CancelledWhileWaiting => SqlState::CANCELLED,
            Self::InFailedTransaction => SqlState::IN_FAILED_TRANSACTION,
            Self::IdleInTransaction | Self::IdleInTransactionTooLong { .. } => SqlState::IDLE_IN_TRANSACTION,
            Self::OverLimit(over) => over.sqlstate(),
            Self::PasswordChanged
            | Self::TokenExpired
            | Self::TooOld { .. }
            | Self::AddressBarred
            | Self::ServerReplaced(_)
            | Self::EndpointRemoved(_) => SqlState::ADMIN_SHUTDOWN,
            Self::PlanChanged => SqlState::NOT_SUPPORTED,
            Self::IdleEnded { .. } | Self::IdleTooLong { .. } => SqlState::IDLE_SESSION_TIMEOUT,
            Self::Ignored { .. } | Self::ShuttingDown | Self::Terminated => SqlState::ADMIN_SHUTDOWN,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Wire(error) => error.message(),
            Self::PlaintextRefused => "TLS is required".into(),
            Self::LoginTimeout(_) => "login took too long".into(),
            Self::UnknownPooling(said) => {
                format!("invalid value for parameter \"{POOL_SETTING}\": \"{said}\"").into()
            }
            Self::ClientGone => "connection lost".into(),
            Self::UnknownMessage(tag) => format!("invalid frontend message type {tag}").into(),
            Self::BadLength => "invalid message length".into(),
            Self::BadMessage => "invalid message format".into(),
            Self::ServerLost { .. } => "the connection to the server was lost".into(),
            Self::StillStarting { endpoint, .. } => {
                format!("compute for endpoint \"{endpoint}\" is still starting").into()
            }
            Self::IdleEnded { endpoint } => {
                format!("idle session ended: the compute of endpoint \"{endpoint}\" is being suspended")
                    .into()
            }
            Self::Ignored { endpoint, .. } => {
                format!("session ended: the compute of endpoint \"{endpoint}\" is being suspended").into()
            }
            Self::PoolTimeout { .. } => "no server session came free in time".into(),
            // As Postgres says them.
            Self::CancelledWhileWaiting => "canceling statement due to user request".into(),
            Self::InFailedTransaction => {
                "current transaction is aborted, commands ignored until end of transaction block".into()
            }
            Self::PlanChanged => "cached plan must not change result type".into(),
            Self::TooOld { .. } => "this session has reached the age that sessions may have".into(),
            Self::IdleTooLong { .. } => "terminating connection due to idle-session timeout".into(),
            Self::AddressBarred => "this address is not allowed at the endpoint any more".into(),
            Self::EndpointRemoved(name) => format!("endpoint \"{name}\" has been removed").into(),
            Self::OtherServer(name) | Self::ServerReplaced(name) => {
                format!("the server of endpoint \"{name}\" is not the one that it was").into()
            }
            Self::OverLimit(over) => over.message(),
            Self::IdleInTransaction | Self::IdleInTransactionTooLong { .. } => {
                "terminating connection due to idle-in-transaction timeout".into()
            }
            Self::TokenExpired => "the token that this session began with has expired".into(),
            Self::PasswordChanged => "the role's password was changed, or it may not log in any more".into(),
            Self::ConsoleFull => "the console takes nobody in now".into(),
            // As Postgres says it.
            Self::Terminated => "terminating connection due to administrator command".into(),
            Self::TooManyPinned { .. } => "too many clients keep a server session of their own".into(),
            Self::ShuttingDown | Self::ShuttingDownBefore => "pgwake is shutting down".into(),
        }
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::ServerLost {
                reason,
                loss: Loss::Unknown,
            } => Some(format!("{reason}; whether the last statement took effect is unknown").into()),
            Self::ServerLost {
                reason,
                loss: Loss::RolledBack,
            } => Some(reason.clone().into()),
            Self::StillStarting { waited, said, .. } => {
                Some(format!("waited {:.1} s, the server says: {said}", waited.as_secs_f64()).into())
            }
            Self::Ignored { by, open, .. } => Some(ignored(*by, *open)),
            Self::PoolTimeout { waited, size } => Some(
                format!(
                    "waited {:.1} s; all {size} server sessions of the endpoint are in use (pool.size, pool.wait_timeout)",
                    waited.as_secs_f64()
                )
                .into(),
            ),
            Self::TooManyPinned { max } => Some(
                format!(
                    "temporary tables, LISTEN, WITH HOLD cursors, session advisory locks and what is too long to be \
                     remembered (pool.statement_bytes_max) cannot move to another server session; pool.pinned_max allows {max} \
                     clients to have them"
                )
                .into(),
            ),
            Self::TooOld { limit } => Some(format!("limits allow {}", DurationText(*limit)).into()),
            Self::IdleTooLong { limit } => {
                Some(format!("limits allow {} without a statement", DurationText(*limit)).into())
            }
            Self::IdleInTransactionTooLong { limit } => {
                Some(format!("limits allow {} within a transaction", DurationText(*limit)).into())
            }
            Self::OtherServer(_) => Some("pgwake has found another server at its address, and lets nobody work there".into()),
            Self::ServerReplaced(_) => Some("pgwake has found another server at its address".into()),
            Self::AddressBarred => Some("its access list was changed".into()),
            Self::OverLimit(over) => over.detail(),
            Self::LoginTimeout(limit) => Some(format!("the limit is {:.0} s", limit.as_secs_f64()).into()),
            _ => None,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::PlaintextRefused => Some("connect with sslmode=require or stricter".into()),
            Self::UnknownPooling(_) => Some(
                "write \"session\" or \"transaction\", such as options='-c pgwake.pool=transaction'".into(),
            ),
            Self::ServerLost { loss: Loss::Unknown, .. } => {
                Some("connect again and look before the statement is repeated".into())
            }
            Self::ServerLost { .. } | Self::ShuttingDown => Some("connect again".into()),
            Self::StillStarting { waited, .. } => {
                Some(format!("try again; raise connect_timeout above {:.0}", waited.as_secs_f64()).into())
            }
            Self::IdleEnded { .. } => Some(
                "connect again when needed: that wakes the compute; suspend_idle_sessions = false keeps idle sessions"
                    .into(),
            ),
            Self::Ignored { .. } => Some(
                "connect again while others use it; idle_ignore lists the roles and application names that do not count"
                    .into(),
            ),
            Self::PoolTimeout { .. } => Some("try again; shorter transactions, or a larger pool.size, help".into()),
            Self::OtherServer(_) | Self::ServerReplaced(_) => {
                Some("try again later; the operator's log names both servers, and what to do".into())
            }
            Self::TokenExpired => Some("connect again with a new token".into()),
            Self::PasswordChanged => Some("connect again, with the new password if there is one".into()),
            Self::TooManyPinned { .. } => Some(
                "try again later, do it in one transaction, or connect to the endpoint without -pooler".into(),
            ),
            Self::TooOld { .. } | Self::IdleTooLong { .. } => Some("connect again when needed".into()),
            Self::IdleInTransactionTooLong { .. } => Some("end transactions that wait for nothing".into()),
            Self::OverLimit(over) => over.hint(),
            Self::ShuttingDownBefore | Self::ConsoleFull => Some("try again in a moment".into()),
            _ => None,
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::ServerLost { .. }
            | Self::StillStarting { .. }
            | Self::OtherServer(_)
            | Self::ServerReplaced(_) => Fault::Compute,
            Self::IdleEnded { .. }
            | Self::Ignored { .. }
            | Self::ConsoleFull
            | Self::Terminated
            | Self::ShuttingDown
            | Self::ShuttingDownBefore => Fault::Pgwake,
            Self::TooManyPinned { .. } | Self::PoolTimeout { .. } | Self::PasswordChanged => Fault::Tenant,
            Self::OverLimit(over) => over.fault(),
            _ => Fault::Client,
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        Self::of_every_variant()
    }
}

/// Why a client was not waited for, or not for longer.
fn ignored(by: IgnoredBy, open: Option<Loss>) -> Cow<'static, str> {
    let whose = match by {
        IgnoredBy::Role => "this role does not keep it awake",
        IgnoredBy::ApplicationName => "clients of this application_name do not keep it awake",
    };
    match open {
        None => whose.into(),
        Some(Loss::RolledBack) => format!("{whose}; what was open was waited for, and is rolled back").into(),
        Some(Loss::Unknown) => format!(
            "{whose}; what was open was waited for, and whether the last statement took effect is unknown"
        )
        .into(),
    }
}

#[cfg(test)]
mod tests;
