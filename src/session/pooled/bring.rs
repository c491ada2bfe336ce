//! Brings a server session to what its new client carries, and asks afterwards what the client carries now.
//!
//! What to say and what the answers mean is `profile`'s work. The client's first message waits until all of it has been
//! answered without an error: it must run as the client's role and under its settings, or not at all.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    Pooled,
    talk::{Heard, TalkError, talk},
    turn::Turn,
};
use crate::cancel::Settled;
use crate::session::{
    end_with,
    error::SessionError,
    exchange::Facts,
    pooling::Database,
    profile::{
        self, Pins,
        apply::Flight,
        capture::Question,
        functions::{self, Functions},
    },
    record::{Outcome, SessionRecord},
    statements::{Name, Statement, next_serial},
    turn::said_by_server,
    words::{Tags, Words, functions_may_have_changed, may_have_changed},
};
use crate::tls::Stream;
use crate::wire::{refuse, say};

/// Why a session could not be brought to what its client carries.
#[derive(Debug, thiserror::Error)]
pub(super) enum BringError {
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Pooled<'_> {
    /// The session is this client's from now on. Not cancel safe: it is closed with it.
    pub(super) async fn bring(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        let carried = &mut turn.loan.session.carried;
        if turn.loan.changed_hands {
            let aliases = std::mem::take(&mut carried.prepared.aliases);
            for name in &aliases {
                say::close_statement(name, &mut flight.bytes);
            }
            if !aliases.is_empty() {
                flight.sync();
            }
        }
        if carried.has_strange_sequences() && self.pooling.asks_sequences() {
            carried.sequences_discarded();
            flight.query("DISCARD SEQUENCES");
        }
        let state = carried.state.as_ref();
        let is_same = state
            .is_some_and(|state| state.pins.is_empty() && state.profile.is_same(&self.profile))
            && carried.names.has_all(&self.names);
        if !is_same {
            let names = self.names.iter().filter(|name| !carried.names.contains(name));
            flight.carry(state, &self.profile, names);
        }
        if flight.readies > 0 {
            self.fly(turn, &flight).await?;
        }
        if !is_same {
            self.carries(turn);
        }
        if turn.database.is_none() {
            self.learn_functions(turn).await?;
        }
        Ok(())
    }

    fn carries(&self, turn: &mut Turn) {
        let carried = &mut turn.loan.session.carried;
        if carried.state.is_none() {
            carried.sequences_discarded();
        }
        carried.state = Some(profile::Carried::fresh(self.profile.clone()));
        carried.names.extend(&self.names);
    }

    /// Asks what the functions of the database can do: once per wake, and after they have changed.
    async fn learn_functions(&self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        flight.query(functions::SQL);
        let rows = self.fly(turn, &flight).await?;
        let read = Functions::read(&rows).map_err(TalkError::Wire)?;
        let database = Database {
            functions: Arc::new(read.words),
            names: read.names,
            is_careful: read.is_careful,
            idle_in_transaction: read.idle_in_transaction,
        };
        let generation = turn.loan.lease.generation();
        self.pooling.learn(&self.database, generation, database.clone());
        turn.database = Some(database);
        Ok(())
    }

    async fn fly(&self, turn: &mut Turn, flight: &Flight) -> Result<Vec<bytes::Bytes>, BringError> {
        let session = &mut *turn.loan.session;
        let mut heard = Heard {
            reported: std::mem::take(&mut session.carried.reported),
            notifications: BytesMut::new(),
        };
        let answer = talk(&mut session.stream, &mut heard, &flight.bytes, flight.readies).await;
        session.carried.reported = heard.reported;
        // A simple Query drops it, and what sets something takes its place.
        session.carried.prepared.unnamed = next_serial();
        if !heard.notifications.is_empty() {
            turn.down.put(&[&heard.notifications]);
        }
        Ok(answer?)
    }

    /// A stranger's numbers are gone.
    pub(super) async fn discard_sequences(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        self.pooling.note_asks_sequences();
        let mut flight = Flight::default();
        flight.query("DISCARD SEQUENCES");
        self.fly(turn, &flight).await?;
        turn.loan.session.carried.sequences_discarded();
        Ok(())
    }

    /// A statement is on the session as it was first prepared, whatever the client has set since.
    pub(super) async fn prepare_under(
        &mut self,
        turn: &mut Turn,
        statement: &Statement,
    ) -> Result<(), BringError> {
        let mut flight = Flight::default();
        flight.switch(&self.profile, &statement.under);
        let name = statement.server_name();
        say::parse(name.as_bytes(), &statement.behind_name, &mut flight.bytes);
        flight.sync();
        flight.switch(&statement.under, &self.profile);
        self.fly(turn, &flight).await?;
        turn.loan.session.carried.prepared.put(statement.id);
        Ok(())
    }

    /// A statement is on the session under the name that SQL calls it.
    pub(super) async fn put_alias(
        &mut self,
        turn: &mut Turn,
        name: Name,
        statement: &Statement,
    ) -> Result<(), BringError> {
        let mut flight = Flight::default();
        say::parse(&name, &statement.behind_name, &mut flight.bytes);
        flight.sync();
        self.fly(turn, &flight).await?;
        self.statements.alias(&name);
        turn.loan.session.carried.prepared.aliases.push(name);
        Ok(())
    }

    /// After the last answer of a transaction: what the turn did to the session. Says whether the client keeps it.
    pub(super) async fn look_after(&mut self, turn: &mut Turn) -> Result<bool, BringError> {
        self.cancel.park();
        if !self.is_settled(turn).await {
            turn.facts.unmovable = true;
        }
        let facts = std::mem::take(&mut turn.facts);
        turn.facts.is_lost = facts.is_lost;
        if facts.words.has(Words::SEQUENCE_READ) {
            self.pooling.note_asks_sequences();
        }
        let grace = self
            .pooling
            .asks_sequences()
            .then_some(self.endpoint.pool.sequence_grace);
        let carried = &mut turn.loan.session.carried;
        carried.note_sequences(&facts, grace);
        if facts.tags.has(Tags::ROLES | Tags::DATABASE | Tags::ALTER_SYSTEM) {
            self.pooling.changed();
            self.pooling.pool.approve(&mut turn.loan.session);
        }
        if functions_may_have_changed(facts.words, facts.tags) {
            self.pooling.forget_database(&self.database);
        }
        if self.may_have_changed(turn, &facts) {
            self.capture(turn, &facts).await?;
        }
        self.believed = turn.loan.session.carried.reported.clone();
        if facts.is_told_own_application {
            self.believed.note_application(&self.application);
        }
        self.pin(turn, facts)
    }

    fn may_have_changed(&self, turn: &Turn, facts: &Facts) -> bool {
        let is_careful = turn.database.as_ref().is_none_or(|database| database.is_careful);
        let pins = turn.loan.session.carried.state.as_ref().map(|state| state.pins);
        // A custom setting's name stays when its value goes, with SET LOCAL, too: Postgres says whether there is one.
        let has_new_names = facts
            .names
            .iter()
            .any(|name| !self.names.contains(name) && !self.other_names.contains(name));
        is_careful
            || has_new_names
            || pins.is_none_or(|pins| pins.may_have_changed(facts.tags))
            || may_have_changed(self.words(turn, facts), facts.tags)
    }

    /// What the turn said, with what SQL's EXECUTE ran.
    fn words(&self, turn: &Turn, facts: &Facts) -> Words {
        let words = facts.words | self.profile.standing_words();
        if !words.has(Words::EXECUTE) {
            return words;
        }
        let functions = turn.database.as_ref().map(|database| &*database.functions);
        words | self.profile.statement_words(functions)
    }

    /// Asks Postgres what the client carries now. Where it does not tell, the client keeps the session.
    async fn capture(&mut self, turn: &mut Turn, facts: &Facts) -> Result<(), BringError> {
        let words = self.words(turn, facts);
        let carried = &mut turn.loan.session.carried;
        let mut candidates = self.names.clone();
        candidates.extend(&carried.names);
        candidates.extend(&facts.names);
        candidates.extend(&self.other_names);
        if let Some(database) = &turn.database {
            candidates.extend(&database.names);
        }
        let (opened_as, reported) = (carried.opened_as.clone(), carried.reported.clone());
        let pins = carried.state.as_ref().map_or(Pins::UNKNOWN, |state| state.pins);
        let before = self.profile.clone();
        let question = Question {
            login_role: &self.role,
            application: (&self.application, &opened_as),
            server_major: reported.server_major(),
            before: &before,
            pins,
            turn: (words, facts.tags),
            candidates,
        };
        let mut flight = Flight::default();
        question.put(&mut flight.bytes);
        flight.readies = 1;
        let captured = match self.fly(turn, &flight).await {
            Ok(rows) => question.read(&rows).map_err(TalkError::Wire)?,
            Err(BringError::Talk(TalkError::Refused { fields, .. })) => {
                tracing::debug!(
                    sqlstate = fields.sqlstate,
                    error = fields.message,
                    "a session does not tell its state"
                );
                if let Some(state) = &mut turn.loan.session.carried.state {
                    state.pins |= Pins::UNKNOWN;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.profile = captured.profile;
        self.names.extend(&captured.names);
        let others = facts.names.iter().filter(|name| !captured.names.contains(name));
        others.for_each(|name| self.other_names.insert(name));
        let carried = &mut turn.loan.session.carried;
        carried.names.extend(&captured.names);
        carried.state = Some(captured.carried);
        Ok(())
    }

    /// Whether the client keeps its session; if so, it is counted.
    fn pin(&mut self, turn: &mut Turn, facts: Facts) -> Result<bool, BringError> {
        let pins = turn
            .loan
            .session
            .carried
            .state
            .as_ref()
            .map_or(Pins::UNKNOWN, |state| state.pins);
        if !facts.unmovable && pins.is_empty() {
            if turn.pinned.take().is_some() {
                tracing::debug!(endpoint = %self.endpoint.name, "client gives its session back again");
            }
            return Ok(false);
        }
        if turn.pinned.is_none() {
            let reasons = pins.names().collect::<Vec<_>>().join(", ");
            tracing::debug!(endpoint = %self.endpoint.name, role = self.role, reasons, "client keeps its session");
        }
        (turn.facts.unmovable, turn.facts.is_pinned) = (facts.unmovable, true);
        turn.pinned = turn
            .pinned
            .take()
            .or(facts.pin)
            .or_else(|| self.pooling.pins.permit_over());
        if turn.pinned.is_none() {
            let max = self.pooling.pins.max();
            return Err(SessionError::TooManyPinned { max }.into());
        }
        Ok(true)
    }

    /// No cancel that was meant for this client is still on its way to the session. `false`: that is not known.
    pub(super) async fn is_settled(&self, turn: &Turn) -> bool {
        match &turn.loan.session.carried.target {
            Some(target) if target.has_in_flight() => matches!(target.settled().await, Settled::Safe),
            _ => true,
        }
    }

    /// The session is idle again.
    pub(super) async fn keep(&mut self, turn: Turn) {
        self.cancel.park();
        self.bytes_down += turn.down.bytes();
        // What no reset undoes, or nobody knows, reaches nobody else.
        let state = turn.loan.session.carried.state.as_ref();
        let must_close = state.is_none_or(|state| state.pins.must_close());
        if must_close || turn.facts.unmovable || turn.facts.is_lost || !self.is_settled(&turn).await {
            return self.pooling.pool.close(turn.loan.session);
        }
        self.kept = Some(self.pooling.pool.keep(turn.loan.session));
    }

    /// The client's stay ends because its session could not be looked after.
    pub(super) async fn end_for(
        &mut self,
        client: &mut Stream,
        error: BringError,
        record: &SessionRecord,
    ) -> Outcome {
        match error {
            BringError::Session(error) => self.end(client, &error, record).await,
            BringError::Talk(TalkError::Refused { fields, .. }) => {
                let mut message = BytesMut::new();
                refuse::repeated_fatal(&fields.sqlstate, &fields.message, record.id, &mut message);
                end_with(client, &message).await;
                said_by_server(&fields)
            }
            BringError::Talk(error) => {
                let reason = error.to_string();
                let loss = crate::session::exchange::Loss::RolledBack;
                self.end(client, &SessionError::ServerLost { reason, loss }, record)
                    .await
            }
        }
    }
}
