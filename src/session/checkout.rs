//! A server session for a client: a lease on an awake compute, and a login under that lease.
//!
//! The client is held meanwhile. A server that is still starting (57P03) is waited for until the hold ends; one
//! that is not where it should be is reported, and waked again, since nothing of the client's was sent yet.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{
    House,
    error::SessionError,
    hold::{Held, HoldEnd},
    record::{SessionRecord, Step},
};
use crate::auth::Authenticated;
use crate::config::{Endpoint, ExpectedServer};
use crate::ids::{EndpointName, Generation};
use crate::pool::{Freshness, Identity, LoginError, ServerSession, Way, connect};
use crate::tenant::quota::{ClientPermit, OverLimit, Permit};
use crate::wake::{AwakeLease, Client, WakeError};

/// How often a server that says 57P03 is asked again: its recovery takes seconds, not milliseconds, and each
/// question costs it a fork.
const STARTING_RETRY: Duration = Duration::from_millis(50);
/// How often a compute that said it was ready, and was not there, is waked again for one client.
const REWAKES_MAX: usize = 2;

/// What a checkout needs to know of a client.
pub(super) struct Checkout<'a> {
    pub(super) house: &'a House,
    pub(super) who: &'a Authenticated,
    pub(super) permit: &'a ClientPermit,
    /// What the server gets as startup parameters.
    pub(super) parameters: &'a [(Bytes, Bytes)],
}

/// Why there is no server session.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    #[error(transparent)]
    Wake(#[from] WakeError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

impl From<HoldEnd> for CheckoutError {
    fn from(end: HoldEnd) -> Self {
        Self::Session(match end {
            HoldEnd::ClientGone => SessionError::ClientGone,
            HoldEnd::Terminated => SessionError::Terminated,
            HoldEnd::ShutDown | HoldEnd::Cancelled => SessionError::ShuttingDownBefore,
            HoldEnd::Barred => SessionError::AddressBarred,
        })
    }
}

impl House {
    /// Whether the server that a lease leads to is the endpoint's own, as far as that can be told: before anything is proved
    /// to it. Bounded; cancel safe.
    pub(super) async fn recognise(
        &self,
        endpoint: &Endpoint,
        lease: &AwakeLease,
    ) -> Result<(), SessionError> {
        let address = lease.address();
        // As it is configured now: who came in before has no right to another server.
        let now = self.directory.endpoint(&endpoint.name);
        let endpoint = now.as_deref().unwrap_or(endpoint);
        if endpoint.expects(&address.server, &address.tls) == ExpectedServer::Any {
            return Ok(());
        }
        let recognised = self.roles.recognise(endpoint, lease.generation()).await;
        recognised.map_err(|_| SessionError::OtherServer(endpoint.name.clone()))
    }

    /// Nobody answers where a server should be. Whoever does so next may be another one.
    pub(super) fn unreachable(&self, endpoint: &EndpointName, generation: Generation) {
        self.roles.lost_sight(endpoint);
        self.wakes.unreachable(endpoint, generation);
    }

    /// The server did not let in who has proved himself to pgwake: perhaps the role has changed there, and nobody has said
    /// so. The next try finds it as it is.
    pub(super) fn not_let_in(&self, endpoint: &Endpoint, error: &LoginError) {
        if error.is_about_the_role() {
            self.roles.suspect(endpoint);
        }
    }

    /// The server takes no logins (57P03). Where pooled sessions are open it does not begin: somebody is ending it, and it
    /// waits for them to leave.
    pub(super) fn takes_no_logins(&self, endpoint: &Endpoint) {
        let pooling = self.pooling.get(&endpoint.name);
        if let Some(pooling) = pooling.filter(|pooling| pooling.pool.live() > 0) {
            pooling.pool.retire();
        }
    }

    /// How a lease's address is reached.
    pub(super) fn way(&self, lease: &AwakeLease) -> Way<'_> {
        Way {
            sockets: &self.sockets,
            freshness: match lease.may_be_stale() {
                true => Freshness::MayBeStale,
                false => Freshness::Fresh,
            },
        }
    }
}

impl Checkout<'_> {
    /// Waits for the compute and logs in. Not cancel safe: see [`Held::wait`].
    pub(super) async fn run(
        &self,
        held: &mut Held<'_>,
        record: &mut SessionRecord,
    ) -> Result<(AwakeLease, ServerSession, Permit), CheckoutError> {
        let endpoint = &self.who.endpoint;
        // Before anything is woken for it.
        let permit = self.permit.server_session()?;
        let since = Instant::now();
        let deadline = since + endpoint.hold_timeout;
        let mut rewakes = 0;
        loop {
            self.house.tell_wake_asked(endpoint, record).await;
            let asked = Instant::now();
            let wakes = &self.house.wakes;
            let client = Client {
                permit: self.permit,
                right: &self.who.right,
                weight: record.weight,
            };
            let waiting = wakes.lease_for(client, &endpoint.name, deadline);
            let waited = held.wait(waiting, || wakes.phase(&endpoint.name)).await;
            record.step_ended(Step::Hold);
            let waited = waited?;
            let was_cold = waited.as_ref().map(AwakeLease::was_cold);
            self.house.tell_woken(was_cold, asked.elapsed(), record).await;
            let lease = waited?;
            record.cold |= lease.was_cold();
            let session = self.log_in(held, &lease, since).await;
            lease.arrived();
            record.step_ended(Step::Connect);
            match session {
                Err(CheckoutError::Login(error)) if error.is_unreachable() && rewakes < REWAKES_MAX => {
                    tracing::debug!(endpoint = %endpoint.name, %error, "compute was ready and is not there");
                    self.house.unreachable(&endpoint.name, lease.generation());
                    rewakes += 1;
                }
                // As of a postmaster that was killed with this login before it; whether it is there shows at the next.
                Err(CheckoutError::Login(error)) if error.has_left() && rewakes < REWAKES_MAX => {
                    drop(lease);
                    held.wait(sleep(STARTING_RETRY), || "server is starting").await?;
                    rewakes += 1;
                }
                Err(CheckoutError::Login(error)) => {
                    self.house.not_let_in(endpoint, &error);
                    return Err(error.into());
                }
                session => return session.map(|session| (lease, session, permit)),
            }
        }
    }

    async fn log_in(
        &self,
        held: &mut Held<'_>,
        lease: &AwakeLease,
        since: Instant,
    ) -> Result<ServerSession, CheckoutError> {
        let what = || "server is starting";
        let hold_timeout = self.who.endpoint.hold_timeout;
        let identity = Identity {
            role: &self.who.role,
            credential: Some(&self.who.credential),
            parameters: self.parameters,
        };
        loop {
            let recognised = self.house.recognise(&self.who.endpoint, lease);
            held.wait(Box::pin(recognised), what).await??;
            let connecting = timeout(
                self.house.limits.load().connect_timeout,
                connect(lease.address(), identity, self.house.way(lease)),
            );
            match held.wait(Box::pin(connecting), what).await? {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) if error.is_starting() => {
                    self.house.takes_no_logins(&self.who.endpoint);
                    if since.elapsed() + STARTING_RETRY > hold_timeout {
                        return Err(self.still_starting(since, &error).into());
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(LoginError::Timeout.into()),
            }
            held.wait(sleep(STARTING_RETRY), what).await?;
        }
    }

    fn still_starting(&self, since: Instant, error: &LoginError) -> SessionError {
        SessionError::StillStarting {
            endpoint: self.who.endpoint.name.clone(),
            waited: since.elapsed(),
            said: error.to_string(),
        }
    }
}
