//! Why a client that may wake a compute got no lease on it, in the words that it reads.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::backoff::Backoff;
use crate::config::IgnoredBy;
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::EndpointName;
use crate::tenant::quota::OverLimit;

/// One start of a compute, as the log and the DETAIL of errors call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WakeId(pub(super) u32);

impl fmt::Display for WakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WakeError {
    /// The caller's deadline came first. The wake goes on.
    #[error("compute for endpoint \"{endpoint}\" is still starting")]
    TimedOut {
        /// Whose compute.
        endpoint: EndpointName,
        /// How long the caller was held.
        waited: Duration,
        /// The wake that was waited for, if it had begun.
        wake: Option<WakeId>,
    },
    /// The caller's deadline came before the compute's turn to be started.
    #[error("compute for endpoint \"{endpoint}\" waits for its turn to be started")]
    InLine {
        /// Whose compute.
        endpoint: EndpointName,
        /// How long the caller was held.
        waited: Duration,
        /// How many others wait for theirs.
        others: usize,
        /// What all of them wait for: a key of the configuration, and its value.
        limit: (&'static str, usize),
    },
    /// The compute takes logins, but the caller's deadline came before its turn.
    #[error("compute for endpoint \"{endpoint}\" has too many logins at once")]
    LoggingIn {
        /// Whose compute.
        endpoint: EndpointName,
        /// How long the caller was held.
        waited: Duration,
        /// How many are still held.
        others: usize,
    },
    /// The wake failed, now or a moment ago.
    #[error("compute for endpoint \"{endpoint}\" could not be started")]
    Failed {
        /// Whose compute.
        endpoint: EndpointName,
        /// What the compute says.
        reason: Arc<str>,
        /// The wake that failed.
        wake: Option<WakeId>,
        /// When it may be started again.
        backoff: Backoff,
    },
    /// It is not awake, and the caller is one who does not wake it.
    #[error("compute for endpoint \"{endpoint}\" is suspended")]
    Ignored {
        /// Whose compute.
        endpoint: EndpointName,
        /// Why the caller does not.
        by: IgnoredBy,
    },
    /// It would be one wake, or one awake compute, too many.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The endpoint was taken out of the configuration while its client was on its way in, or here.
    #[error("endpoint \"{0}\" is gone")]
    Removed(EndpointName),
    /// An operator has disabled the endpoint.
    #[error("endpoint \"{endpoint}\" is disabled")]
    Disabled {
        /// Which.
        endpoint: EndpointName,
    },
    /// pgwake ends, and wakes nothing any more.
    #[error("pgwake is shutting down")]
    ShuttingDown,
}

impl ClientError for WakeError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::OverLimit(over) => over.sqlstate(),
            Self::Removed(_) => SqlState::ADMIN_SHUTDOWN,
            _ => SqlState::CANNOT_CONNECT_NOW,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        let (text, wake) = match self {
            Self::TimedOut { waited, wake, .. } => (format!("waited {:.1} s", waited.as_secs_f64()), wake),
            Self::Failed {
                reason,
                wake,
                backoff,
                ..
            } => {
                let wake = wake.map_or_else(String::new, |wake| format!(" (wake {wake})"));
                return Some(format!("{reason}{wake}; {}", not_started(*backoff)).into());
            }
            Self::InLine {
                waited,
                others,
                limit: (limit, max),
                ..
            } => {
                let waited = waited.as_secs_f64();
                return Some(
                    format!("waited {waited:.1} s; {others} others wait, and {limit} is {max}").into(),
                );
            }
            Self::LoggingIn { waited, others, .. } => {
                let waited = waited.as_secs_f64();
                return Some(format!("waited {waited:.1} s; {others} others wait as well").into());
            }
            Self::Ignored { by, .. } => return Some(not_woken(*by).into()),
            Self::OverLimit(over) => return over.detail(),
            Self::Disabled { .. } => return Some("its operator has disabled it for the time being".into()),
            Self::Removed(_) | Self::ShuttingDown => return None,
        };
        Some(match wake {
            Some(wake) => format!("{text} (wake {wake})").into(),
            None => text.into(),
        })
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::TimedOut { waited, .. } | Self::InLine { waited, .. } | Self::LoggingIn { waited, .. } => {
                let seconds = waited.as_secs_f64().round();
                format!("try again; its operator can raise hold_timeout above {seconds} s, and you connect_timeout").into()
            }
            Self::Failed { backoff, .. } => {
                let seconds = backoff.again_in.as_secs_f64().ceil().max(1.0);
                format!("try again in {seconds} s; the operator's log says more under this wake").into()
            }
            Self::Ignored { .. } => {
                "others wake it by using it; idle_ignore lists the roles and application names that do not"
                    .into()
            }
            Self::OverLimit(over) => return over.hint(),
            Self::Removed(_) => return None,
            Self::Disabled { .. } => "try again later, or ask the operator".into(),
            Self::ShuttingDown => "try again in a moment".into(),
        })
    }

    fn fault(&self) -> Fault {
        match self {
            Self::TimedOut { .. } | Self::LoggingIn { .. } | Self::Failed { .. } => Fault::Compute,
            // It is meant so: nothing for an operator to look into.
            Self::Ignored { .. } => Fault::Client,
            Self::OverLimit(over) => over.fault(),
            Self::Removed(_) | Self::Disabled { .. } => Fault::Tenant,
            Self::InLine { .. } | Self::ShuttingDown => Fault::Pgwake,
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        let endpoint = EndpointName::parse("demo-main").expect("it is a name");
        let backoff = Backoff {
            in_a_row: 3,
            again_in: Duration::from_millis(1800),
        };
        let (waited, wake, reason) = (
            Duration::from_secs(30),
            Some(WakeId(7)),
            Arc::<str>::from("the disk is full"),
        );
        crate::error::examples! {
            Self::TimedOut { .. } => [Self::TimedOut { endpoint: endpoint.clone(), waited, wake }],
            Self::InLine { .. } => [Self::InLine { endpoint: endpoint.clone(), waited, others: 92, limit: ("limits.wakes_at_once_max", 8) }],
            Self::LoggingIn { .. } => [Self::LoggingIn { endpoint: endpoint.clone(), waited, others: 3 }],
            Self::Failed { .. } => [Self::Failed { endpoint: endpoint.clone(), reason: Arc::clone(&reason), wake, backoff }],
            Self::Ignored { .. } => [IgnoredBy::Role, IgnoredBy::ApplicationName].map(|by| Self::Ignored { endpoint: endpoint.clone(), by }),
            Self::OverLimit(_) => OverLimit::examples().into_iter().map(Self::OverLimit),
            Self::Removed(_) => [Self::Removed(endpoint.clone())],
            Self::Disabled { .. } => [Self::Disabled { endpoint: endpoint.clone() }],
            Self::ShuttingDown => [Self::ShuttingDown],
        }
    }
}

fn not_woken(by: IgnoredBy) -> &'static str {
    match by {
        IgnoredBy::Role => "this role does not wake it",
        IgnoredBy::ApplicationName => "clients of this application_name do not wake it",
    }
}

/// For how long, and after what.
fn not_started(backoff: Backoff) -> String {
    let seconds = backoff.again_in.as_secs_f64();
    match backoff.in_a_row {
        1 => format!("not started again for {seconds:.1} s"),
        failures => format!("after {failures} failures in a row not started again for {seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> EndpointName {
        EndpointName::parse("acme-main").unwrap()
    }

    #[test]
    fn deadline_is_told_with_how_long_it_was_and_what_to_raise() {
        let error = WakeError::TimedOut {
            endpoint: acme(),
            waited: Duration::from_millis(30_004),
            wake: Some(WakeId(0x7f3a_0001)),
        };
        assert_eq!(error.sqlstate(), SqlState("57P03"));
        assert_eq!(
            error.message(),
            "compute for endpoint \"acme-main\" is still starting"
        );
        assert_eq!(error.detail().unwrap(), "waited 30.0 s (wake 7f3a0001)");
        assert_eq!(
            error.hint().unwrap(),
            "try again; its operator can raise hold_timeout above 30 s, and you connect_timeout"
        );
    }

    #[test]
    fn who_waits_for_others_is_told_how_many() {
        let (endpoint, waited) = (acme(), Duration::from_secs(30));
        let in_line = WakeError::InLine {
            endpoint: endpoint.clone(),
            waited,
            others: 92,
            limit: ("limits.wakes_at_once_max", 8),
        };
        assert_eq!(in_line.sqlstate(), SqlState("57P03"));
        assert_eq!(
            in_line.detail().unwrap(),
            "waited 30.0 s; 92 others wait, and limits.wakes_at_once_max is 8"
        );
        let others = 3;
        let logging_in = WakeError::LoggingIn {
            endpoint,
            waited,
            others,
        };
        assert_eq!(logging_in.sqlstate(), SqlState("57P03"));
        assert_eq!(
            logging_in.detail().unwrap(),
            "waited 30.0 s; 3 others wait as well"
        );
    }

    #[test]
    fn failure_is_told_with_its_reason() {
        let error = WakeError::Failed {
            endpoint: acme(),
            reason: "the disk is full".into(),
            wake: Some(WakeId(0x7f3a_0001)),
            backoff: Backoff {
                in_a_row: 1,
                again_in: Duration::from_millis(487),
            },
        };
        assert_eq!(error.sqlstate(), SqlState("57P03"));
        assert_eq!(
            error.message(),
            "compute for endpoint \"acme-main\" could not be started"
        );
        assert_eq!(
            error.detail().unwrap(),
            "the disk is full (wake 7f3a0001); not started again for 0.5 s"
        );
        assert!(error.hint().unwrap().starts_with("try again in 1 s;"));
        assert_eq!(error.fault(), Fault::Compute);
    }

    #[test]
    fn failures_in_a_row_are_told_with_when_the_next_start_may_be() {
        let backoff = Backoff {
            in_a_row: 4,
            again_in: Duration::from_millis(3412),
        };
        let error = WakeError::Failed {
            endpoint: acme(),
            reason: "the disk is full".into(),
            wake: None,
            backoff,
        };
        assert_eq!(
            error.detail().unwrap(),
            "the disk is full; after 4 failures in a row not started again for 3.4 s"
        );
        assert!(error.hint().unwrap().starts_with("try again in 4 s;"));
    }
}
