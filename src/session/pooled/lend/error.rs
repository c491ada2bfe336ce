//! Why there is no server session for a turn.

use crate::pool::LoginError;
use crate::session::{error::SessionError, hold::HoldEnd};
use crate::tenant::quota::OverLimit;
use crate::wake::WakeError;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(in crate::session::pooled) enum LendError {
    #[error(transparent)]
    Wake(#[from] WakeError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl LendError {
    /// The limit that it was for, if it was.
    pub(in crate::session::pooled) fn over_limit(&self) -> Option<&OverLimit> {
        match self {
            Self::Session(SessionError::OverLimit(over)) | Self::Wake(WakeError::OverLimit(over)) => {
                Some(over)
            }
            _ => None,
        }
    }
}

impl From<HoldEnd> for LendError {
    fn from(end: HoldEnd) -> Self {
        Self::Session(match end {
            HoldEnd::ClientGone => SessionError::ClientGone,
            HoldEnd::Terminated => SessionError::Terminated,
            HoldEnd::ShutDown => SessionError::ShuttingDown,
            HoldEnd::Cancelled => SessionError::CancelledWhileWaiting,
            HoldEnd::Barred => SessionError::AddressBarred,
        })
    }
}
