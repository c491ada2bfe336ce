//! Which server an endpoint's roles are read from: the one that it was, or another behind the same address.
//!
//! A server tells its system identifier with its roles. What another server says of roles is not believed; whoever lends
//! its sessions asks here before. It does not decide what becomes of those who are there. Who calls: `session` before it
//! connects, `server` for its own login, `admin`.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{ASKED_READING_WAIT, ReadRole, RoleBook};
use crate::config::{Endpoint, ExpectedServer, RolesFrom};
use crate::ids::{EndpointName, Generation, ScramVerifier, SystemIdentifier, Verifier};
use crate::store::StoreError;

/// For so long a server is taken for the one that it was when it was last read. A new session after that waits for a
/// reading: a few milliseconds, so seldom that they do not count.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(10);
/// Where a server cannot be read it is not tried more often.
pub(super) const DOUBTED_EVERY: Duration = Duration::from_secs(1);
/// A reading that is under way may have begun before the compute was where it is now.
const READINGS_WAITED_FOR: usize = 2;

/// Another server has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its server has the system identifier {found}, and not {expected} as before")]
pub(crate) struct OtherServer {
    /// Of the endpoint's own.
    pub(crate) expected: SystemIdentifier,
    /// Of the one that answers.
    pub(crate) found: SystemIdentifier,
}

/// What a server has told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// All roles, in any order.
    pub(crate) roles: Vec<ReadRole>,
    /// Which one it is; `None`: it does not tell.
    pub(crate) server: Option<SystemIdentifier>,
    /// Which one is taken for the endpoint's own.
    pub(crate) expected: ExpectedServer,
    /// Since which wake it is there.
    pub(crate) generation: Generation,
}

impl Told {
    /// Whether it may be believed, where the roles that are remembered were told by this one.
    pub(super) fn judge(&self, remembered: Option<SystemIdentifier>) -> Result<(), OtherServer> {
        let expected = match self.expected {
            ExpectedServer::Any => None,
            ExpectedServer::AsBefore => remembered,
            ExpectedServer::Is(number) => Some(number),
        };
        match (expected, self.server) {
            (Some(expected), Some(found)) if expected != found => Err(OtherServer { expected, found }),
            _ => Ok(()),
        }
    }

    /// What the server of this number tells, if any.
    #[cfg(test)]
    pub(in crate::auth) fn by(server: Option<i64>, roles: impl IntoIterator<Item = ReadRole>) -> Self {
        Self {
            roles: roles.into_iter().collect(),
            server: server.map(SystemIdentifier),
            expected: ExpectedServer::AsBefore,
            generation: Generation(1),
        }
    }

    /// Whether it should have told who it is.
    pub(super) fn is_silent(&self) -> bool {
        self.server.is_none() && self.expected != ExpectedServer::Any
    }
}

impl RoleBook {
    /// Has it read which server is there, unless that was done a moment ago, and waits for it. A server that cannot be
    /// read, or does not tell, is taken for the endpoint's own. Takes as long as two readings at most. Cancel safe: the
    /// reading goes on.
    pub(crate) async fn recognise(
        &self,
        endpoint: &Endpoint,
        generation: Generation,
    ) -> Result<(), OtherServer> {
        let readings = Arc::clone(&self.page(&endpoint.name).readings);
        for _ in 0..READINGS_WAITED_FOR {
            let Some(number) = readings.doubt(generation, &self.tasks) else {
                break;
            };
            // Too late is not an error: it is as if the server could not be read.
            let _ = time::timeout(ASKED_READING_WAIT, readings.ended(number)).await;
        }
        readings.other().map_or(Ok(()), Err)
    }

    /// A server session has broken, or cannot be had: whoever answers next is looked at first.
    pub(crate) fn lost_sight(&self, endpoint: &EndpointName) {
        self.page(endpoint).readings.lost_sight();
    }

    /// The server that was found in place of the endpoint's own, while that is so.
    pub(crate) fn other_server(&self, endpoint: &EndpointName) -> Option<OtherServer> {
        self.page(endpoint).readings.other()
    }

    /// The server that the endpoint's roles were read from, if it has told that.
    pub(crate) fn server(&self, endpoint: &EndpointName) -> Option<SystemIdentifier> {
        self.page(endpoint).readings.server()
    }

    /// What the endpoint's own server has of the role that reads roles: another one asks for a proof against something
    /// else. `None`: nobody knows which server is its own.
    pub(crate) fn own_verifier(
        &self,
        endpoint: &Endpoint,
        expected: ExpectedServer,
    ) -> Option<ScramVerifier> {
        let RolesFrom::Postgres(reading) = &endpoint.roles_from else {
            return None;
        };
        let readings = Arc::clone(&self.page(&endpoint.name).readings);
        let server = readings.server()?;
        match expected {
            ExpectedServer::AsBefore => (),
            ExpectedServer::Is(number) if number == server => (),
            ExpectedServer::Is(_) | ExpectedServer::Any => return None,
        }
        let roles = readings.latest()?;
        let own = roles.iter().find(|role| role.name == reading.role)?;
        match Verifier::parse(own.verifier.as_ref()?.reveal()) {
            Ok(Verifier::Scram(verifier)) => Some(verifier),
            _ => None,
        }
    }

    /// Whichever server answers next is the endpoint's own. Its roles stay until that one is read, which begins now where
    /// the compute is awake.
    ///
    /// # Errors
    /// Where the store cannot be written: a restart will remember the old one.
    pub(crate) async fn forget_server(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let readings = Arc::clone(&self.page(&endpoint.name).readings);
        let forgotten = readings.forget_server().await;
        self.changed(endpoint);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(server: Option<i64>, expected: ExpectedServer) -> Told {
        Told {
            expected,
            ..Told::by(server, [])
        }
    }

    #[test]
    fn the_first_server_is_believed_and_from_then_on_no_other() {
        let before = ExpectedServer::AsBefore;
        let [one, other] = [SystemIdentifier(1), SystemIdentifier(2)];
        assert_eq!(told(Some(1), before).judge(None), Ok(()));
        assert_eq!(told(Some(1), before).judge(Some(one)), Ok(()));
        let found = told(Some(2), before).judge(Some(one)).unwrap_err();
        assert_eq!((found.expected, found.found), (one, other));
        assert_eq!(
            found.to_string(),
            "its server has the system identifier 2, and not 1 as before"
        );
    }

    #[test]
    fn a_number_counts_whatever_was_before_and_any_server_may_be_asked_for() {
        let pinned = ExpectedServer::Is(SystemIdentifier(2));
        assert_eq!(told(Some(2), pinned).judge(Some(SystemIdentifier(1))), Ok(()));
        assert!(told(Some(1), pinned).judge(Some(SystemIdentifier(1))).is_err());
        assert!(told(Some(1), pinned).judge(None).is_err());
        let any = told(Some(2), ExpectedServer::Any);
        assert_eq!(any.judge(Some(SystemIdentifier(1))), Ok(()));
    }

    #[test]
    fn one_that_does_not_tell_is_taken_for_it() {
        let silent = told(None, ExpectedServer::AsBefore);
        assert_eq!(silent.judge(Some(SystemIdentifier(1))), Ok(()));
        assert!(silent.is_silent());
        assert!(!told(None, ExpectedServer::Any).is_silent());
    }
}
