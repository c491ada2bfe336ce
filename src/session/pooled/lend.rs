//! A server session for one turn: a lease on an awake compute, the right to use a session, and the session itself:
//! the client's own, one that rests, a new one, or one that another client does not need now.
//!
//! Everything that can be had at once is taken without a wait; only otherwise is the client *held*: told by NOTICE,
//! watched for leaving, and released by a cancel.

mod error;
mod left;
mod line;

use std::{pin::pin, time::Duration};

use bytes::BytesMut;
use futures_util::future::maybe_done;
use tokio::time::{Instant, sleep, timeout};

use super::Pooled;
use crate::cancel::{ServerTarget, Target};
use crate::pool::{Fresh, Identity, Lent, LoginError, Permit, ServerSession, Slot, connect};
use crate::session::{
    carried::Carried,
    error::SessionError,
    hold::Held,
    profile,
    record::{SessionRecord, Step},
    reported::Reported,
    roster::Doing,
};
use crate::tenant::quota::Permit as Permitted;
use crate::tls::Stream;
use crate::wake::AwakeLease;
pub(super) use error::LendError;
use line::Place;

/// How often a server that says 57P03 is asked again.
const STARTING_RETRY: Duration = Duration::from_millis(50);
/// How often a server that was not there, or that left while it was logged in to, is tried again for one client.
const TRIES_MAX: usize = 20;

/// What a turn holds.
pub(super) struct Loan {
    pub(super) session: Lent<Carried>,
    /// When it began.
    pub(super) since: Instant,
    // Given back in this order: whoever gets the permit next finds the session, and the compute awake.
    pub(super) _permit: Permit,
    pub(super) lease: AwakeLease,
    /// Whether somebody else used the session last.
    pub(super) changed_hands: bool,
    /// How its transaction stands.
    pub(super) status: u8,
}

impl Pooled {
    /// Borrows a session for a client that is here.
    async fn lend_to(&mut self, client: &mut Stream, record: &mut SessionRecord) -> Result<Loan, LendError> {
        self.follow_credential();
        let mut lease = match self.lend_at_once() {
            Ok(loan) => return Ok(loan),
            Err(lease) => lease,
        };
        self.cancel.wait();
        let since = Instant::now();
        self.listed.does(Doing::Waiting, since);
        let pooling = self.pooling.clone();
        let mut place = Place {
            since,
            permit: pin!(maybe_done(pooling.pool.permit(since))),
        };
        if let Some(lent) = self.lend_soon(client, &mut lease, &mut place).await {
            return Ok(lent);
        }
        let mut early = BytesMut::new();
        let held = Held::new(client, &mut early, record, &self.house, &self.endpoint).since(place.since);
        // Who has no lease stands in line once it has one.
        let place = lease.is_some().then_some(place);
        // Within one box: a turn has no place for what few of them need.
        let lent = Box::pin(async {
            let mut held = held.cancelled_by(self.cancel.clone());
            self.lend_held(&mut held, (lease, place), record).await
        });
        let lent = lent.await;
        self.up.push(&early);
        lent
    }

    /// A password that has changed: the newest one that somebody has proved for the role is used from now on.
    fn follow_credential(&mut self) {
        if self.proof.follow() {
            let (beginning, beginnings) = (&self.beginning, &self.pooling.beginnings);
            let fingerprint = self.proof.proved.fingerprint;
            self.beginning = beginnings.shared(beginning.role(), &beginning.parameters, fingerprint);
        }
    }

    /// What can be had without any wait: an awake compute, a free permit, the client's own session or one that suits. Else
    /// the lease, if that much can be had.
    fn lend_at_once(&mut self) -> Result<Loan, Option<AwakeLease>> {
        let door = self.door.as_ref();
        let lease = door.and_then(|door| door.lease_now(self.as_client()));
        let lease = lease.ok_or(None)?;
        let Some(permit) = self.pooling.pool.try_permit() else {
            return Err(Some(lease));
        };
        match self.idle_session(&lease) {
            Some(session) => Ok(self.loan(session, Instant::now(), lease, permit)),
            None => Err(Some(lease)),
        }
    }

    fn loan(
        &mut self,
        mut session: Lent<Carried>,
        since: Instant,
        lease: AwakeLease,
        permit: Permit,
    ) -> Loan {
        let pending = std::mem::take(&mut session.pending);
        let carried = &mut session.carried;
        let changed_hands = carried.owner != self.serial;
        carried.change_hands(self.serial);
        carried.reported.note_all(&pending);
        Loan {
            session,
            since,
            lease,
            _permit: permit,
            changed_hands,
            status: b'I',
        }
    }

    async fn lend_held(
        &mut self,
        held: &mut Held<'_>,
        (mut lease, mut place): (
            Option<AwakeLease>,
            Option<Place<'_, impl Future<Output = Permit>>>,
        ),
        record: &mut SessionRecord,
    ) -> Result<Loan, LendError> {
        let mut tries = 0;
        loop {
            let lease = match lease.take() {
                Some(lease) => lease,
                // Boxed, as what is rarer than a wait for another client: many wait.
                None => Box::pin(self.hold_lease(held, record)).await?,
            };
            if !self.is_greeted {
                record.step_ended(Step::Hold);
            }
            match self.lend_under(lease, place.take(), held).await {
                Err((LendError::Login(error), lease)) if error.is_absent() && tries < TRIES_MAX => {
                    tracing::debug!(endpoint = %self.endpoint.name, %error, "compute was ready and is not there");
                    if error.is_unreachable() {
                        let generation = lease.generation();
                        self.house.unreachable(&self.endpoint.name, generation);
                    } else {
                        Box::pin(held.wait(sleep(STARTING_RETRY), || "server is starting")).await?;
                    }
                    tries += 1;
                }
                Err((error, _)) => return Err(error),
                Ok(loan) => return Ok(loan),
            }
        }
    }

    async fn hold_lease(
        &mut self,
        held: &mut Held<'_>,
        record: &mut SessionRecord,
    ) -> Result<AwakeLease, LendError> {
        let deadline = Instant::now() + self.endpoint.hold_timeout;
        let (wakes, name) = (&self.house.wakes, &self.endpoint.name);
        self.house.tell_wake_asked(&self.endpoint, record).await;
        let asked = Instant::now();
        let waiting = wakes.lease_for(self.as_client(), name, deadline);
        let waited = held.wait(waiting, || wakes.phase(name)).await?;
        let was_cold = waited.as_ref().map(AwakeLease::was_cold);
        self.house.tell_woken(was_cold, asked.elapsed(), record).await;
        let lease = waited?;
        // How many log in at once is the pool's own affair.
        lease.arrived();
        record.cold |= lease.was_cold();
        Ok(lease)
    }

    /// A client that stands in line for a permit already keeps its place.
    async fn lend_under(
        &mut self,
        lease: AwakeLease,
        place: Option<Place<'_, impl Future<Output = Permit>>>,
        held: &mut Held<'_>,
    ) -> Result<Loan, (LendError, AwakeLease)> {
        let pooling = self.pooling.clone();
        let what = || "waiting for a server session";
        let since = place.as_ref().map_or_else(Instant::now, |place| place.since);
        let deadline = since + self.endpoint.pool.wait_timeout;
        let permit = async {
            let kept = match place {
                Some(place) => place.permit().await,
                None => None,
            };
            match kept {
                Some(permit) => permit,
                None => pooling.pool.permit(since).await,
            }
        };
        let permit = match held.wait_until(deadline, permit, what).await {
            Ok(Some(permit)) => permit,
            Ok(None) => return Err((self.waited_too_long(), lease)),
            Err(end) => return Err((end.into(), lease)),
        };
        match self.session(&lease, held, deadline).await {
            Ok(session) => Ok(self.loan(session, Instant::now(), lease, permit)),
            Err(error) => Err((error, lease)),
        }
    }

    fn waited_too_long(&self) -> LendError {
        SessionError::PoolTimeout {
            waited: self.endpoint.pool.wait_timeout,
            size: self.endpoint.pool.size,
        }
        .into()
    }

    /// One that is idle, a new one, or one that another client keeps.
    async fn session(
        &mut self,
        lease: &AwakeLease,
        held: &mut Held<'_>,
        deadline: Instant,
    ) -> Result<Lent<Carried>, LendError> {
        let what = || "waiting for a server session";
        let pooling = self.pooling.clone();
        loop {
            let slot = match self.session_in_a_moment(lease, held).await? {
                Ok(session) => return Ok(session),
                Err(Some(slot)) => slot,
                Err(None) => {
                    let waiting = held.wait_until(deadline, pooling.pool.slot(), what);
                    let slot = Box::pin(waiting).await?;
                    slot.ok_or_else(|| self.waited_too_long())?
                }
            };
            let counted = Box::pin(self.counted(held, deadline)).await?;
            match Box::pin(self.connect(lease, (slot, counted), held)).await {
                Err(LendError::Login(LoginError::Refused { fields, .. }))
                    if fields.sqlstate.starts_with("53")
                        && pooling.pool.live() > 0
                        && Instant::now() < deadline =>
                {
                    // The server has no room, and sessions that will come free: they are waited for.
                    if self
                        .house
                        .storms
                        .is_first(self.endpoint.name.as_str(), &fields.sqlstate)
                    {
                        tracing::warn!(endpoint = %self.endpoint.name, sqlstate = fields.sqlstate, error = fields.message,
                            "the server takes no more sessions");
                    }
                    pooling.pool.lower_to_live();
                    Box::pin(held.wait(sleep(STARTING_RETRY), what)).await?;
                }
                connected => return connected,
            }
        }
    }

    /// The right to one more server session of its tenant. Where there are too many, idle ones are closed for it, the one
    /// that was used longest ago first; others may take their places, until `deadline`.
    async fn counted(&self, held: &mut Held<'_>, deadline: Instant) -> Result<Permitted, LendError> {
        if let Ok(counted) = self.permit.server_session() {
            return Ok(counted);
        }
        let directory = &self.house.directory;
        let siblings = directory
            .endpoints()
            .filter(|endpoint| endpoint.tenant == self.endpoint.tenant);
        let siblings: Vec<_> = siblings
            .filter_map(|endpoint| self.house.pooling.get(&endpoint.name))
            .collect();
        loop {
            let idle = siblings
                .iter()
                .filter_map(|pooling| Some((pooling.pool.idle_since()?, pooling)));
            let oldest = idle.min_by_key(|(since, _)| *since);
            let oldest = oldest.filter(|_| Instant::now() < deadline);
            let Some((_, pooling)) = oldest else {
                return Ok(self.permit.server_session().map_err(SessionError::OverLimit)?);
            };
            let closing = Box::pin(pooling.pool.close_oldest_idle());
            held.wait(closing, || "waiting for a server session").await?;
            if let Ok(counted) = self.permit.server_session() {
                return Ok(counted);
            }
        }
    }

    async fn connect(
        &mut self,
        lease: &AwakeLease,
        place: (Slot, Permitted),
        held: &mut Held<'_>,
    ) -> Result<Lent<Carried>, LendError> {
        let pooling = self.pooling.clone();
        let _turn = held
            .wait(pooling.pool.connecting(), || "waiting for a server session")
            .await?;
        let since = Instant::now();
        let what = || "server is starting";
        loop {
            let identity = Identity {
                role: self.beginning.role(),
                credential: Some(&self.proof.proved.credential),
                parameters: &self.beginning.parameters,
            };
            let recognised = self.house.recognise(&self.endpoint, lease);
            held.wait(Box::pin(recognised), what).await??;
            let connecting = connect(lease.address(), identity, self.house.way(lease));
            let connecting = timeout(self.house.limits.load().connect_timeout, connecting);
            match held.wait(Box::pin(connecting), what).await? {
                Ok(Ok(session)) => return Ok(self.opened(session, place, lease)),
                Ok(Err(error)) if error.is_starting() => {
                    self.house.takes_no_logins(&self.endpoint);
                    if since.elapsed() + STARTING_RETRY > self.endpoint.hold_timeout {
                        return Err(self.still_starting(since, &error).into());
                    }
                }
                Ok(Err(error)) => {
                    if matches!(error, LoginError::Refused { .. }) {
                        pooling.refused(&self.beginning.key);
                    }
                    return Err(error.into());
                }
                Err(_) => return Err(LoginError::Timeout.into()),
            }
            held.wait(sleep(STARTING_RETRY), what).await?;
        }
    }

    fn opened(
        &self,
        session: ServerSession,
        (slot, counted): (Slot, Permitted),
        lease: &AwakeLease,
    ) -> Lent<Carried> {
        let target = session.key.clone().map(|server_key| Target {
            endpoint: self.endpoint.name.clone(),
            address: lease.address().clone(),
            server_key,
        });
        let state = profile::Carried::fresh(self.beginning.profile.clone());
        let reported = Reported::from_greeting(&session.greeting);
        let opened_as = reported.get(b"application_name").cloned().unwrap_or_default();
        let mut carried = Carried::opened_by(self.serial, opened_as, state);
        carried.names = self.beginning.names.clone();
        carried.counted = Some(counted);
        carried.target = target.map(ServerTarget::new);
        if let Some(target) = &carried.target {
            self.pooling.senders.add(target);
        }
        carried.reported = self.pooling.greeted(&self.beginning.key, reported);
        let fresh = Fresh {
            server: session,
            carried,
            generation: lease.generation(),
        };
        self.pooling.pool.adopt(&self.beginning.key, slot, fresh)
    }

    fn still_starting(&self, since: Instant, error: &LoginError) -> SessionError {
        SessionError::StillStarting {
            endpoint: self.endpoint.name.clone(),
            waited: since.elapsed(),
            said: error.to_string(),
        }
    }
}
