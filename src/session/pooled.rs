//! One client's stay in transaction pooling: parked between transactions, with a server session borrowed for each.
//!
//! ```text
//!            ┌────────────── next request ─────────────┐
//!   greet ▶ park ── answered here (`local`) ──▶ park   │
//!            └──▶ lend ▶ bring ▶ relay ▶ look after ▶ keep
//! ```
//!
//! A parked client holds no permit, no lease and no buffer, so its compute may sleep. What its session carries
//! (settings, prepared statements) is its own and is brought to whichever server session it borrows. `session` calls.

mod bring;
mod functions;
mod gates;
mod greet;
mod keeping;
mod lend;
mod local;
mod salvage;
mod talk;
mod times;
mod turn;
mod words;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    Departure, House,
    beginning::Beginning,
    error::SessionError,
    exchange::{Refusals, TransactionRate},
    idling::{Alarm, Ending, Patience},
    lane::{Lane, LaneEnd},
    pooling::Pooling,
    profile::Profile,
    proved::Proof,
    record::{Outcome, SessionRecord},
    reported::Reported,
    roster::{Listed, Passed},
    say_goodbye,
    standing::{Dismissal, Standing},
    statements::{Held, Statements, next_serial},
    words::CustomNames,
};
use crate::auth::{Authenticated, WakeRight};
use crate::cancel::{PooledRegistration, SecretLength};
use crate::config::Endpoint;
use crate::pool::Ticket;
use crate::runtime::threads;
use crate::shutdown::{Phase, SessionWatch};
use crate::tenant::quota::{ClientPermit, Meter, Paced};
use crate::tls::Stream;
use crate::wake::{Client, Door, Weight};
use crate::wire::frame::{Broken, Sender};
use local::{Answered, Known, Local};

/// What a client begins its stay with.
pub(super) struct Guest {
    pub(super) who: Authenticated,
    /// What its server sessions get as startup parameters.
    pub(super) parameters: Vec<(Bytes, Bytes)>,
    pub(super) secret_length: SecretLength,
    pub(super) permit: ClientPermit,
    pub(super) standing: Standing,
}

/// A client of transaction pooling.
pub(super) struct Pooled {
    house: Arc<House>,
    endpoint: Arc<Endpoint>,
    beginning: Arc<Beginning>,
    right: WakeRight,
    permit: ClientPermit,
    weight: Weight,
    standing: Standing,
    /// When its stay ends.
    ends_at: Option<(Instant, Ending)>,
    /// Rings when it has been parked for too long, or has to leave.
    alarm: Alarm,
    /// Rings when it has stood in line for too long to be told nothing.
    patience: Patience,
    rate: TransactionRate,
    /// What it was refused, for the audit log.
    refusals: Refusals,
    pooling: Arc<Pooling>,
    /// Where its leases come from. `None`: its endpoint went as it came.
    door: Option<Door>,
    /// What its server sessions are logged in with.
    proof: Proof,
    /// Tells it from all other clients.
    serial: u64,
    /// What it has sent and nobody has dealt with.
    up: Lane,
    /// Measures what it is answered; with the turn while there is one.
    answers: Option<Meter>,
    local: Local,
    statements: Statements,
    /// What its session carries.
    profile: Arc<Profile>,
    /// The room that this takes.
    profile_held: Option<Held>,
    /// Custom settings that its session has had.
    names: CustomNames,
    /// Values of its that look like a custom setting's name, and are none.
    other_names: CustomNames,
    /// What ParameterStatus has told it.
    believed: Reported,
    /// What its last turn knew of its database.
    known: Option<functions::Known>,
    /// Its last server session, if nobody else has needed it.
    kept: Option<Ticket>,
    cancel: Arc<PooledRegistration>,
    /// What it has not been told of its login.
    welcome: Vec<u8>,
    is_greeted: bool,
    /// How many sessions, one after the other, had ended before they heard of what it says.
    lost: u8,
    shutdown: SessionWatch,
    /// How others see it.
    listed: Arc<Listed>,
    bytes_down: u64,
    /// How often it has asked something.
    queries: u64,
}

/// What a client is parked until.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It has sent something.
    More,
    /// It has left.
    Gone,
    /// pgwake ends, or an operator ends it.
    Over,
    /// It may not be here any more.
    Dismissed(Dismissal),
    /// Its time is over.
    Late,
}

/// What a parked client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// A server session.
    Session,
    /// To leave.
    Leave,
}

impl Pooled {
    /// A client that has proved who it is, of an endpoint that pools.
    pub(super) fn new(
        guest: Guest,
        pooling: Arc<Pooling>,
        house: &Arc<House>,
        record: &SessionRecord,
    ) -> Option<Self> {
        let listed = record.present.as_ref()?.shared();
        let Guest {
            who,
            parameters,
            secret_length,
            permit,
            standing,
        } = guest;
        let proof = pooling.prove(&who.role, who.credential);
        let beginnings = &pooling.beginnings;
        let beginning = beginnings.shared(&who.role, &parameters, proof.proved.fingerprint);
        let cancel = Arc::new(house.cancels.register_pooled(secret_length, record.bell.clone()));
        listed.set_key(cancel.key());
        Some(Self {
            house: house.clone(),
            door: house.wakes.door(&who.endpoint.name),
            endpoint: who.endpoint,
            right: who.right,
            ends_at: Ending::of(who.ends_at, permit.times()),
            alarm: Alarm::default(),
            patience: Patience::default(),
            standing,
            rate: TransactionRate::new(permit.meter(Paced::Transactions), record.id),
            proof,
            profile: beginning.profile.clone(),
            serial: next_serial(),
            up: Lane::new(Sender::Client).paced(permit.meter(Paced::BytesIn)),
            answers: None,
            permit,
            weight: record.weight,
            local: Local::new(record.id),
            statements: Statements::default(),
            profile_held: None,
            names: beginning.names.clone(),
            beginning,
            other_names: CustomNames::default(),
            believed: Reported::default(),
            refusals: Refusals::default(),
            known: None,
            kept: None,
            cancel,
            welcome: who.welcome,
            is_greeted: false,
            lost: 0,
            shutdown: record.shutdown(house),
            listed,
            bytes_down: 0,
            queries: 0,
            pooling,
        })
    }

    /// Serves the client until its stay is over, or another thread should. Not cancel safe: the stream is given up with it.
    pub(super) async fn serve(&mut self, client: &mut Stream, record: &mut SessionRecord) -> Departure {
        let outcome = match self.stay(client, record).await {
            Ok(Some(thread)) => return Departure::To(thread),
            Ok(None) => Outcome::ended(),
            Err(outcome) => outcome,
        };
        record.passed = self.passed();
        if let Some(ticket) = self.kept.take() {
            self.pooling.pool.rest_kept(ticket);
        }
        Departure::Over(outcome)
    }

    fn passed(&self) -> Passed {
        Passed {
            bytes_in: self.up.bytes(),
            bytes_out: self.bytes_down,
            queries: self.queries,
        }
    }

    /// `Some`: the thread that should serve it from now on.
    async fn stay(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<Option<usize>, Outcome> {
        if !self.is_greeted {
            Box::pin(self.greet(client, record)).await?;
        }
        loop {
            match self.park(client, record).await? {
                Wants::Leave => return Ok(None),
                // Boxed: thousands of clients are parked, few have a turn.
                Wants::Session => {
                    if Box::pin(self.turn(client, record)).await? == Wants::Leave {
                        return Ok(None);
                    }
                }
            }
            if let Some(thread) = self.better_thread() {
                return Ok(Some(thread));
            }
        }
    }

    /// Nothing of the client is on its way: it may go to another thread, if that is better.
    fn better_thread(&mut self) -> Option<usize> {
        let thread = threads::better().filter(|_| self.up.is_empty())?;
        // It would ring on the thread that it was set on.
        (self.alarm, self.patience) = (Alarm::default(), Patience::default());
        Some(thread)
    }

    /// Waits until the client wants something that pgwake cannot answer itself.
    async fn park(&mut self, client: &mut Stream, record: &SessionRecord) -> Result<Wants, Outcome> {
        if !self.listed.is_parked() {
            self.listed.parks(self.passed(), Instant::now());
        }
        loop {
            let mut out = BytesMut::new();
            let mut known = Known {
                statements: &mut self.statements,
                texts: &self.pooling.texts,
                profile: &self.profile,
            };
            let answered = self.local.answer(&mut self.up, &mut known, &mut out);
            let queries = self.local.take_queries();
            if queries > 0 {
                self.queries += queries;
                self.listed.set_passed(self.passed());
            }
            // A client that has left behind a Terminate has what it asked for before done all the same.
            if !out.is_empty()
                && let Err(gone) = self.say(client, &out, record).await
                && self.up.is_empty()
            {
                return Err(gone);
            }
            match answered {
                Answered::UpToServers => return Ok(Wants::Session),
                Answered::UpToTerminate => return Ok(Wants::Leave),
                Answered::All => self.read(client, record).await?,
            }
        }
    }

    /// Reads what the client sends next; its errors, its leaving and the end of pgwake end the stay.
    async fn read(&mut self, client: &mut Stream, record: &SessionRecord) -> Result<(), Outcome> {
        if let Some(LaneEnd::Broken(broken)) = self.up.take_end() {
            return Err(self.end(client, &broken_by_client(broken), record).await);
        }
        let (deadline, _) = self.idle_until();
        let stay = self.ends_at.map(|(at, _)| at);
        self.alarm.set([deadline, stay].into_iter().flatten().min());
        // Who has begun a transaction may finish it, also where Postgres has not heard of it yet.
        let ends_with = match self.local.in_transaction_since() {
            Some(_) => Phase::Stopping,
            None => Phase::Draining,
        };
        let reason = match poll_fn(|cx| self.poll_next(cx, client, ends_with)).await {
            Next::More => return Ok(()),
            Next::Gone => return Err(Outcome::of(&SessionError::ClientGone)),
            Next::Over => record.ending(),
            Next::Dismissed(dismissal) => dismissal.error(&self.endpoint.name),
            Next::Late => self.lateness(deadline),
        };
        Err(self.end(client, &reason, record).await)
    }

    /// What has come from the client goes first. By hand instead of `select!`: thousands of clients wait here, and each
    /// would have a place for every future of it.
    fn poll_next(&mut self, cx: &mut Context<'_>, client: &mut Stream, ends_with: Phase) -> Poll<Next> {
        if let Poll::Ready(is_more) = self.up.poll_read(cx, client) {
            return Poll::Ready(if is_more { Next::More } else { Next::Gone });
        }
        if self.shutdown.poll_reached(cx, ends_with).is_ready() {
            return Poll::Ready(Next::Over);
        }
        if let Some(dismissal) = self.standing.lost_at_rest() {
            return Poll::Ready(Next::Dismissed(dismissal));
        }
        self.alarm.poll(cx).map(|()| Next::Late)
    }

    /// As which it asks for leases.
    fn as_client(&self) -> Client<'_> {
        Client {
            permit: &self.permit,
            right: &self.right,
            weight: self.weight,
        }
    }

    /// Writes to the client; it may take its time, but not beyond the end of pgwake.
    async fn say(
        &mut self,
        client: &mut Stream,
        bytes: &[u8],
        record: &SessionRecord,
    ) -> Result<(), Outcome> {
        self.bytes_down += bytes.len() as u64;
        let saying = async {
            client.write_all(bytes).await?;
            client.flush().await
        };
        let said = tokio::select! { biased;
            said = saying => said.is_ok(),
            () = self.shutdown.reached(Phase::Stopping) => false,
        };
        if said {
            return Ok(());
        }
        tracing::debug!(session = %record.id, "client does not take its answer");
        Err(Outcome::of(&SessionError::ClientGone))
    }

    /// Tells the client why its stay ends.
    async fn end(&self, client: &mut Stream, reason: &SessionError, record: &SessionRecord) -> Outcome {
        say_goodbye(client, reason, record.id).await;
        Outcome::of(reason)
    }
}

fn broken_by_client(broken: Broken) -> SessionError {
    match broken {
        Broken::Tag(tag) => SessionError::UnknownMessage(tag),
        Broken::Length => SessionError::BadLength,
    }
}
