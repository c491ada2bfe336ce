//! Why there is no branch, in the words that whoever wants it reads.

use std::{borrow::Cow, fmt, time::Duration};

use crate::compute::CopyError;
use crate::config::{DurationText, SizeText};
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::{EndpointName, NameError};
use crate::store::StoreError;
use crate::wake::WakeError;

/// Why a branch was not made, reset or removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BranchError {
    /// There is none, and logging in makes none.
    #[error("there is no branch \"{0}\"")]
    None(String),
    /// There is no such endpoint to branch from.
    #[error("there is no endpoint \"{0}\"")]
    NoParent(EndpointName),
    /// Its data is not pgwake's to copy.
    #[error("endpoint \"{parent}\" cannot have branches")]
    NoSource {
        /// The endpoint.
        parent: EndpointName,
        /// In one sentence.
        reason: String,
    },
    /// A login to the endpoint would be refused as well.
    #[error(transparent)]
    ParentRefuses(WakeError),
    /// It cannot be called so.
    #[error("this cannot be a branch's name: {0}")]
    Name(#[from] NameError),
    /// There are as many as there may be.
    #[error("{whose} has as many branches as it may have")]
    TooMany {
        /// `endpoint "demo-main"`
        whose: String,
        /// The key, and how many.
        limit: String,
    },
    /// They take as much as they may.
    #[error("the branches of tenant \"{tenant}\" take as much as they may")]
    TooLarge {
        /// Whose.
        tenant: String,
        /// What it would add.
        bytes: u64,
        /// What they all may take.
        max: u64,
    },
    /// There is too little room.
    #[error("no room for a branch of endpoint \"{parent}\"")]
    NoRoom {
        /// The endpoint.
        parent: EndpointName,
        /// What it would take.
        bytes: u64,
        /// What others that are being made will take.
        others: u64,
        /// What has to stay free.
        free_min: u64,
    },
    /// It would take longer than whoever wants it waits.
    #[error("a branch of endpoint \"{parent}\" takes too long to make")]
    TooSlow {
        /// The endpoint.
        parent: EndpointName,
        /// How much has to be copied.
        bytes: u64,
        /// How long that takes.
        takes: Duration,
        /// How long is waited.
        within: Duration,
    },
    /// It was not ready in time.
    #[error("branch \"{name}\" was not ready in time")]
    TimedOut {
        /// Which.
        name: EndpointName,
        /// How long was waited.
        waited: Duration,
    },
    /// Something went wrong.
    #[error("branch \"{name}\": it could not be done")]
    Failed {
        /// Which.
        name: EndpointName,
        /// In one sentence.
        reason: String,
    },
    /// pgwake ends.
    #[error("pgwake is shutting down, and makes no branch")]
    ShuttingDown,
}

impl BranchError {
    pub(super) fn failed(name: &EndpointName, reason: impl fmt::Display) -> Self {
        Self::Failed {
            name: name.clone(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn of_store(name: &EndpointName, error: &StoreError) -> Self {
        if matches!(error, StoreError::Ceded(_)) {
            return Self::ShuttingDown;
        }
        tracing::error!(branch = %name, %error, "branches cannot be remembered");
        Self::failed(name, "pgwake's state_dir cannot be written")
    }

    /// Its parent runs, and pgwake may not use it.
    pub(super) fn of_wake(error: WakeError) -> Self {
        match error {
            WakeError::ShuttingDown => Self::ShuttingDown,
            error => Self::ParentRefuses(error),
        }
    }

    /// Of a copy that was to become `name`.
    pub(super) fn of_copy(name: &EndpointName, error: CopyError) -> Self {
        let parent = name.branch().map_or_else(|| name.clone(), |(parent, _)| parent);
        match error {
            CopyError::NoRoom => Self::NoRoom {
                parent,
                bytes: 0,
                others: 0,
                free_min: 0,
            },
            CopyError::Refused(reason) => Self::NoSource { parent, reason },
            CopyError::Failed(error) => {
                tracing::warn!(branch = %name, reason = error.reason, detail = error.detail, "a copy failed");
                Self::failed(name, error.reason)
            }
            CopyError::Empty | CopyError::Wanted | CopyError::Awake | CopyError::GivenUp => {
                Self::failed(name, error)
            }
        }
    }
}

fn size(bytes: u64) -> String {
    // In whole MiB, as people say sizes.
    let mib = usize::try_from(bytes.div_ceil(1 << 20)).unwrap_or(usize::MAX);
    SizeText(mib.saturating_mul(1 << 20)).to_string()
}

impl ClientError for BranchError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::None(_) | Self::NoParent(_) => SqlState::REJECTED,
            Self::NoSource { .. } => SqlState::NOT_SUPPORTED,
            Self::Name(_) => SqlState::INVALID_PARAMETER,
            Self::TooMany { .. } | Self::TooLarge { .. } | Self::TooSlow { .. } => SqlState::LIMIT_EXCEEDED,
            Self::NoRoom { .. } => SqlState::DISK_FULL,
            Self::ParentRefuses(error) => error.sqlstate(),
            Self::TimedOut { .. } | Self::Failed { .. } | Self::ShuttingDown => SqlState::CANNOT_CONNECT_NOW,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::None(_) | Self::NoParent(_) | Self::Name(_) | Self::ShuttingDown => return None,
            Self::ParentRefuses(error) => return error.detail(),
            Self::NoSource { reason, .. } | Self::Failed { reason, .. } => reason.clone().into(),
            Self::TooMany { limit, .. } => limit.clone().into(),
            Self::TooLarge { bytes, max, .. } => format!(
                "it would add {}, and {} are the limit (branches.tenant_bytes_max)",
                size(*bytes),
                size(*max)
            )
            .into(),
            Self::NoRoom { bytes: 0, .. } => "the disk was full before it was whole".into(),
            Self::NoRoom {
                bytes,
                others,
                free_min,
                ..
            } => {
                let others = match others {
                    0 => String::new(),
                    others => format!(", others that are being made {}", size(*others)),
                };
                format!(
                    "it takes {}{others}, and {} have to stay free (limits.disk_free_min)",
                    size(*bytes),
                    size(*free_min)
                )
                .into()
            }
            Self::TooSlow {
                bytes, takes, within, ..
            } => format!(
                "{} have to be copied, which takes about {:.0} s, and {} are waited for it",
                size(*bytes),
                takes.as_secs_f64().ceil(),
                DurationText(*within)
            )
            .into(),
            Self::TimedOut { waited, .. } => format!("waited {:.1} s", waited.as_secs_f64()).into(),
        })
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::None(_) => "ask for it to be made, or have the endpoint's `branches.on_connect` set".into(),
            Self::TooMany { .. } | Self::TooLarge { .. } => "delete some that are not needed any more".into(),
            Self::NoRoom { .. } => "ask the operator for room on the disk".into(),
            Self::ParentRefuses(error) => return error.hint(),
            Self::TooSlow { .. } => {
                "have it made by `pgwake branch create --max`, or put the data on a file system that clones files".into()
            }
            Self::TimedOut { .. } | Self::ShuttingDown => "try again in a moment".into(),
            Self::NoParent(_) | Self::NoSource { .. } | Self::Name(_) | Self::Failed { .. } => return None,
        })
    }

    fn fault(&self) -> Fault {
        match self {
            Self::None(_) | Self::NoParent(_) | Self::Name(_) => Fault::Client,
            Self::NoSource { .. } | Self::TooMany { .. } | Self::TooLarge { .. } | Self::TooSlow { .. } => {
                Fault::Tenant
            }
            Self::NoRoom { .. } | Self::TimedOut { .. } | Self::Failed { .. } | Self::ShuttingDown => {
                Fault::Pgwake
            }
            Self::ParentRefuses(error) => error.fault(),
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        let parent = EndpointName::parse("demo-main").expect("it is a name");
        let name = EndpointName::parse_any("demo-main--x").expect("it is a name");
        crate::error::examples! {
            Self::None(_) => [Self::None("demo-main--x".to_owned())],
            Self::NoParent(_) => [Self::NoParent(parent.clone())],
            Self::NoSource { .. } => [Self::NoSource { parent: parent.clone(), reason: "it is fixed".to_owned() }],
            Self::ParentRefuses(_) => [Self::ParentRefuses(WakeError::Disabled { endpoint: parent.clone() })],
            Self::Name(_) => [Self::Name(NameError::Hyphen)],
            Self::TooMany { .. } => [Self::TooMany { whose: "tenant \"demo\"".to_owned(), limit: String::new() }],
            Self::TooLarge { .. } => [Self::TooLarge { tenant: "demo".to_owned(), bytes: 2, max: 1 }],
            Self::NoRoom { .. } => [Self::NoRoom { parent: parent.clone(), bytes: 2, others: 0, free_min: 1 }],
            Self::TooSlow { .. } => [Self::TooSlow {
                parent, bytes: 1, takes: Duration::from_secs(2), within: Duration::from_secs(1),
            }],
            Self::TimedOut { .. } => [Self::TimedOut { name: name.clone(), waited: Duration::ZERO }],
            Self::Failed { .. } => [Self::failed(&name, "it broke")],
            Self::ShuttingDown => [Self::ShuttingDown],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_takes_too_long_is_refused_with_its_size_and_its_time() {
        let error = BranchError::TooSlow {
            parent: EndpointName::parse("demo-main").unwrap(),
            bytes: 50 << 30,
            takes: Duration::from_secs(512),
            within: Duration::from_secs(30),
        };
        assert_eq!(error.sqlstate(), SqlState::LIMIT_EXCEEDED);
        assert_eq!(
            error.detail().unwrap(),
            "50GiB have to be copied, which takes about 512 s, and 30s are waited for it"
        );
    }
}
