//! One turn: a session is borrowed, brought to what the client carries, relayed with, looked after and kept.

use std::pin::pin;

use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    Pooled, Wants,
    bring::BringError,
    functions::Known,
    lend::{LendError, Loan},
    local::Sent,
    talk::TalkError,
};
use crate::error::ClientError;
use crate::pool::LoginError;
use crate::session::{
    error::SessionError,
    exchange::{self, Exchange, Facts},
    expected::{Asker, Kind},
    idling::IdleWatch,
    lane::Lane,
    pins::PinPermit,
    record::{Outcome, SessionRecord},
    relay::{End, IdleReports, Relay, Sides},
    roster::Doing,
    turn::{Last, finish, said_by_server},
};
use crate::tenant::quota::Paced;
use crate::tls::Stream;
use crate::wire::frame::Sender;
use crate::wire::refuse;
use crate::wire::reply::error_fields;

/// How often a session may be lost before anything of the client's was sent to it.
const LOST_MAX: usize = 3;

/// Why a client has no session for its turn.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unserved {
    #[error(transparent)]
    Unlent(#[from] LendError),
    #[error(transparent)]
    Unbrought(#[from] BringError),
}

/// What lasts for a turn, whatever interrupts its relay. Boxed: it is moved often.
pub(super) struct Turn {
    pub(super) loan: Loan,
    pub(super) facts: Facts,
    pub(super) down: Lane,
    pub(super) known: Known,
    /// Since when the client believes in the transaction that the session was to begin.
    begun: Option<Instant>,
    /// Nothing has been sent to the session for its client.
    is_fresh: bool,
    /// The client keeps the session for what cannot be moved.
    pub(super) pinned: Option<PinPermit>,
    /// What the server owed when the relay ended.
    pub(super) owed: Vec<(Asker, Kind)>,
    /// How the rest stood then.
    last: Option<Last>,
    /// It was reading COPY data then.
    pub(super) was_copying: bool,
    /// The client has said Terminate.
    pub(super) is_over: bool,
}

impl Pooled {
    /// Serves requests until the session may be given back. Not cancel safe.
    pub(super) async fn turn(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<Wants, Outcome> {
        // What is rare is boxed: each turn has a place for all that is not.
        if let Err(over) = self.rate.begin() {
            self.up.pause_for(self.rate.pause());
            let error = LendError::Session(over.into());
            return Box::pin(self.refuse(client, error, record)).await;
        }
        let mut turn = match self.brought(client, record).await {
            Ok(turn) => turn,
            Err(Unserved::Unlent(error)) => return Box::pin(self.refuse(client, error, record)).await,
            Err(Unserved::Unbrought(error)) => {
                return Err(Box::pin(self.end_for(client, error, record)).await);
            }
        };
        self.listed.does(Doing::Active, turn.loan.since);
        if let Err(error) = self.run_at(&turn) {
            self.keep(turn).await;
            return Box::pin(self.refuse(client, error.into(), record)).await;
        }
        self.tell_changes(&mut turn);
        turn.begun = self.local.take_begun();
        turn.facts.begins = turn.begun.is_some();
        self.relay(client, turn, record).await
    }

    /// Borrows a session and brings it to what the client carries. One that is lost meanwhile is no loss: nothing of
    /// the client's was sent yet. Not cancel safe.
    pub(super) async fn brought(
        &mut self,
        client: &mut Stream,
        record: &mut SessionRecord,
    ) -> Result<Box<Turn>, Unserved> {
        let mut lost = 0;
        loop {
            let loan = self.lend(client, record).await?;
            let mut turn = self.begin(loan);
            match self.bring(&mut turn).await {
                Ok(()) => return Ok(turn),
                // What one refuses for what was done there (temp_buffers) another may take.
                Err(BringError::Talk(error))
                    if error.is_of_session() && lost < LOST_MAX || error.is_refusal() && lost == 0 =>
                {
                    lost += 1;
                    self.close(turn);
                }
                Err(error) => {
                    self.close(turn);
                    return Err(error.into());
                }
            }
        }
    }

    fn begin(&mut self, loan: Loan) -> Box<Turn> {
        let answers = self.answers.take();
        let answers = answers.unwrap_or_else(|| self.permit.meter(Paced::BytesOut));
        Box::new(Turn {
            facts: Facts::default(),
            down: Lane::new(Sender::Server).paced(answers),
            known: self.take_known(loan.lease.generation()),
            loan,
            begun: None,
            is_fresh: true,
            pinned: None,
            owed: Vec::new(),
            last: None,
            was_copying: false,
            is_over: false,
        })
    }

    /// From now on the client's cancels strike this session.
    fn run_at(&self, turn: &Turn) -> Result<(), SessionError> {
        match &turn.loan.session.carried.target {
            Some(target) => {
                turn.loan.lease.works_at(target.pid());
                let run = self.cancel.run(target);
                run.map_err(|_| SessionError::CancelledWhileWaiting)
            }
            None => Ok(()),
        }
    }

    async fn relay(
        &mut self,
        client: &mut Stream,
        mut turn: Box<Turn>,
        record: &mut SessionRecord,
    ) -> Result<Wants, Outcome> {
        loop {
            let end = self.relay_once(client, &mut turn, record).await;
            let done = match end {
                End::Gate => Box::pin(self.pass_gate(client, &mut turn)).await.map(|()| false),
                End::Released => self.look_after(&mut turn).await.map(|pinned| !pinned),
                End::Unheard => {
                    self.start_over(turn);
                    return Ok(Wants::Session);
                }
                end => return Box::pin(self.ended(client, turn, end, record)).await,
            };
            let is_over = turn.is_over;
            match done {
                // The client's cancels strike it again.
                Ok(false) if !is_over => drop(self.run_at(&turn)),
                Ok(_) => {
                    self.keep(turn).await;
                    return Ok(if is_over { Wants::Leave } else { Wants::Session });
                }
                Err(BringError::Talk(TalkError::Over(end))) => {
                    // Where it stands in its answers nobody knows.
                    turn.facts.unmovable = true;
                    turn.owed.push((Asker::Pgwake, Kind::Sync));
                    return Box::pin(self.ended(client, turn, *end, record)).await;
                }
                Err(error) => {
                    self.close(turn);
                    return Err(Box::pin(self.end_for(client, error, record)).await);
                }
            }
        }
    }

    async fn relay_once(&mut self, client: &mut Stream, turn: &mut Turn, record: &SessionRecord) -> End {
        let tell_touched = |touched: exchange::Touched| {
            if touched.roles {
                self.house.roles.changed(&self.endpoint);
            }
        };
        let before = self.passed();
        let session = &mut *turn.loan.session;
        let pooled = exchange::Pooled {
            statements: &mut self.statements,
            carried: &mut session.carried,
            texts: &self.pooling.texts,
            senders: &self.pooling.senders,
            functions: turn.known.functions().map(|functions| &**functions),
            is_careful: turn.known.is_careful(),
            profile: &self.profile,
            limits: &self.endpoint.pool,
            pins: &self.pooling.pins,
            application: &self.beginning.application,
            facts: &mut turn.facts,
            session: record.id,
        };
        let mut exchange =
            Exchange::new(&tell_touched, Some(pooled)).limited_to(&mut self.rate, &self.refusals);
        if std::mem::take(&mut turn.is_fresh) && usize::from(self.lost) < LOST_MAX {
            self.up.keep();
            exchange = exchange.unheard();
        }
        exchange.expected.resume(turn.loan.status);
        let reports = IdleReports::of(&self.endpoint, &turn.loan.lease);
        // All else is active until it is released, and told then.
        let keeper = turn.pinned.as_ref().map(|_| &*self.listed);
        let sides = Sides {
            client,
            server: &mut session.stream,
            up: &mut self.up,
            down: &mut turn.down,
        };
        let mut relay = Relay::new(sides, &mut exchange, reports)
            .until(self.ends_at)
            .watched(IdleWatch::of(self.permit.times()))
            .standing(&mut self.standing)
            .listed(keeper, before);
        let end = {
            let relay = pin!(relay.run(&turn.loan.lease, &mut self.shutdown));
            self.house.relayed(relay, &self.refusals, record).await
        };
        drop(relay);
        if !exchange.has_ended_unheard() {
            self.up.let_go();
            self.lost = 0;
            self.queries += exchange.queries();
        }
        turn.last = Some(Last::of(&exchange, &turn.down));
        turn.is_over = exchange.is_terminated();
        turn.loan.status = exchange.expected.status();
        turn.was_copying = exchange.expected.is_copying();
        turn.owed = exchange.expected.take_owed();
        end
    }

    /// The session had ended before it heard of what the client sent: another one hears of all of it.
    fn start_over(&mut self, turn: Box<Turn>) {
        self.lost += 1;
        if let Some(since) = turn.begun {
            self.local.begun(since);
        }
        self.close(turn);
        self.up.take_back();
    }

    /// There is no session: the client reads why, and stays where another try may be better.
    pub(super) async fn refuse(
        &mut self,
        client: &mut Stream,
        error: LendError,
        record: &mut SessionRecord,
    ) -> Result<Wants, Outcome> {
        self.cancel.park();
        if let Some(over) = error.over_limit() {
            self.refusals.put(over.clone());
            self.house.tell_refusals(&self.refusals, record).await;
        }
        let mut message = BytesMut::new();
        match &error {
            LendError::Session(SessionError::ClientGone) => {
                return Err(Outcome::of(&SessionError::ClientGone));
            }
            LendError::Session(error @ (SessionError::ShuttingDown | SessionError::Terminated)) => {
                return Err(self.end(client, error, record).await);
            }
            LendError::Session(error) => refuse::error(error, record.id, &mut message),
            LendError::Wake(error) => refuse::error(error, record.id, &mut message),
            LendError::Login(LoginError::Refused { fields, .. }) if is_for_now(&fields.sqlstate) => {
                refuse::repeated(&fields.sqlstate, &fields.message, record.id, &mut message);
            }
            LendError::Login(error) if error.sqlstate().0.starts_with("57") => {
                refuse::error(error, record.id, &mut message);
            }
            LendError::Login(_) => (),
        }
        let refused = match error {
            LendError::Login(error) if message.is_empty() => {
                return Err(self.end_for_login(client, error, record).await);
            }
            LendError::Login(LoginError::Refused { fields, .. }) => said_by_server(&fields),
            LendError::Login(error) => Outcome::failed(&error),
            LendError::Wake(error) => Outcome::failed(&error),
            LendError::Session(error) => Outcome::of(&error),
        };
        self.house.note_refused(record, &refused);
        let mut out = BytesMut::new();
        self.local.refuse(&message, &mut self.up, &mut out);
        self.say(client, &out, record).await?;
        Ok(Wants::Session)
    }

    /// The relay is over, and so is the session's use by this client, or even the stay.
    async fn ended(
        &mut self,
        client: &mut Stream,
        mut turn: Box<Turn>,
        end: End,
        record: &mut SessionRecord,
    ) -> Result<Wants, Outcome> {
        self.cancel.park();
        if let (End::BeginFailed, Some(body)) = (&end, turn.facts.begin_failed.take()) {
            let requests = std::mem::take(&mut turn.owed);
            self.close(turn);
            let mut error = BytesMut::new();
            let fields = error_fields(&body);
            refuse::repeated(&fields.sqlstate, &fields.message, record.id, &mut error);
            let mut out = BytesMut::new();
            let requests = requests.into_iter().filter(|(asker, _)| *asker == Asker::Client);
            self.local
                .refuse_sent(&error, requests.filter_map(|(_, kind)| sent(kind)), &mut out);
            self.say(client, &out, record).await?;
            return Ok(Wants::Session);
        }
        let abandoned = end.leaves_server_behind();
        let is_over = matches!(end, End::Terminated);
        if end.is_loss_of_server() {
            self.house.roles.lost_sight(&self.endpoint.name);
        }
        let last = turn.last.take().expect("a relay has ended");
        let outcome = finish(client, end, last, &self.endpoint.name, record).await;
        if abandoned {
            self.salvage(turn).await;
        } else {
            self.close(turn);
        }
        if is_over { Ok(Wants::Leave) } else { Err(outcome) }
    }

    /// The session is not lent again.
    pub(super) fn close(&mut self, turn: Box<Turn>) {
        self.cancel.park();
        self.bytes_down += turn.down.bytes();
        if self.up.is_between_messages() {
            self.pooling.pool.close(turn.loan.session);
        }
        // Inside a message that its client will never end a Terminate would be read as the end of that message:
        // dropped, the connection closes without a word.
    }

    /// What ParameterStatus has told the client is true again before the first reply.
    pub(super) fn tell_changes(&mut self, turn: &mut Turn) {
        let mut changes = BytesMut::new();
        let reported = &mut turn.loan.session.carried.reported;
        reported.tell_changes(&mut self.believed, &mut changes);
        if !changes.is_empty() {
            turn.down.put(&[&changes]);
        }
    }
}

/// Whether a server that refuses a login may take it later.
fn is_for_now(sqlstate: &str) -> bool {
    sqlstate.starts_with("53") || sqlstate.starts_with("57")
}

fn sent(kind: Kind) -> Option<Sent> {
    match kind {
        Kind::Simple => Some(Sent::Simple),
        Kind::Sync => Some(Sent::Sync),
        Kind::CopyEnd => None,
        _ => Some(Sent::Extended),
    }
}
