//! Why an order was not carried out, for those who gave it: over HTTP by a status, on the console by an SQLSTATE.

use std::borrow::Cow;

use hyper::StatusCode;

use crate::admin::answer::Refused;
use crate::error::{ClientError, Fault, SqlState};
use crate::wake::WakeError;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(in crate::admin) enum Undone {
    #[error("there is no such endpoint")]
    NoEndpoint,
    #[error("there is no such session")]
    NoSession,
    /// Where lines must be written, nothing is done without one.
    #[error("the audit log takes nothing; nothing was done")]
    NotAudited,
    #[error(transparent)]
    NotWoken(#[from] WakeError),
    #[error("{}", in_use(*.0))]
    InUse(usize),
    #[error("it is being started or looked at")]
    UnderWay,
    #[error("pgwake does not stop this server")]
    NotSuspendable,
    #[error("it runs nothing that can be cancelled")]
    NothingToCancel,
    /// In the words of the reload.
    #[error("nothing was reloaded: {0}")]
    NotReloaded(String),
}

fn in_use(clients: usize) -> Cow<'static, str> {
    match clients {
        1 => "one client has it in use".into(),
        clients => format!("{clients} clients have it in use").into(),
    }
}

impl Undone {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoint | Self::NoSession => StatusCode::NOT_FOUND,
            Self::NotAudited => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        }
    }
}

impl From<Undone> for Refused {
    fn from(undone: Undone) -> Self {
        Self::new(undone.status(), undone.to_string())
    }
}

impl ClientError for Undone {
    fn sqlstate(&self) -> SqlState {
        // Not among pgwake's own for clients: invalid_catalog_name, system_error, object_in_use.
        match self {
            Self::NoEndpoint | Self::NoSession => SqlState("3D000"),
            Self::NotAudited => SqlState("58000"),
            _ => SqlState("55006"),
        }
    }

    fn message(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn fault(&self) -> Fault {
        Fault::Client
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        crate::error::examples! {
            Self::NoEndpoint => [Self::NoEndpoint],
            Self::NoSession => [Self::NoSession],
            Self::NotAudited => [Self::NotAudited],
            Self::NotWoken(_) => WakeError::examples().into_iter().map(Self::NotWoken),
            Self::InUse(_) => [Self::InUse(1), Self::InUse(2)],
            Self::UnderWay => [Self::UnderWay],
            Self::NotSuspendable => [Self::NotSuspendable],
            Self::NothingToCancel => [Self::NothingToCancel],
            Self::NotReloaded(_) => [Self::NotReloaded("pgwake.toml:7: a number without a unit".to_owned())],
        }
    }
}
