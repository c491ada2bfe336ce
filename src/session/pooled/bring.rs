//! Brings a server session to what its new client carries.
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
use crate::session::{
    end_with,
    error::SessionError,
    profile::{
        self,
        apply::{Flight, Whose},
    },
    record::{Outcome, SessionRecord},
    statements::{Name, Statement, next_serial},
    turn::said_by_server,
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

/// What came back from a flight.
pub(super) struct Answer {
    /// Bodies of all rows.
    pub(super) rows: Vec<bytes::Bytes>,
    /// The places in the profile of statements that Postgres refuses to prepare again.
    missing: Vec<usize>,
}

impl Pooled<'_> {
    /// The session is this client's from now on. Not cancel safe: it is closed with it.
    pub(super) async fn bring(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        let changed_hands = turn.loan.changed_hands;
        let carried = &mut turn.loan.session.carried;
        if changed_hands {
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
        let is_same = state.is_some_and(|state| {
            state.pins.is_empty() && !(state.hides && changed_hands) && state.profile.is_same(&self.profile)
        }) && carried.names.has_all(&self.names);
        let whose = if changed_hands { Whose::Other } else { Whose::Own };
        if !is_same {
            let names = self.names.iter().filter(|name| !carried.names.contains(name));
            flight.carry((state, whose), &self.profile, names);
        }
        let missing = if flight.readies > 0 {
            Box::pin(self.fly_over(turn, &mut flight, whose)).await?.missing
        } else {
            Vec::new()
        };
        if !is_same {
            self.carries(turn, &missing);
        }
        if turn.known.database.is_none() {
            Box::pin(self.learn_functions(turn)).await?;
        }
        Ok(())
    }

    fn carries(&self, turn: &mut Turn, missing: &[usize]) {
        let changed_hands = turn.loan.changed_hands;
        let carried = &mut turn.loan.session.carried;
        if carried.state.is_none() {
            carried.sequences_discarded();
        }
        let profile = if missing.is_empty() {
            self.profile.clone()
        } else {
            Arc::new(self.profile.without_statements(missing))
        };
        let hides = !changed_hands && carried.state.as_ref().is_some_and(|state| state.hides);
        carried.state = Some(profile::Carried {
            hides,
            ..profile::Carried::fresh(profile)
        });
        carried.names.extend(&self.names);
    }

    pub(super) async fn fly(&self, turn: &mut Turn, flight: &mut Flight) -> Result<Answer, BringError> {
        self.fly_over(turn, flight, Whose::Own).await
    }

    /// The same on a session that was `whose` so far: what it hears that was for another is told nobody.
    async fn fly_over(
        &self,
        turn: &mut Turn,
        flight: &mut Flight,
        whose: Whose,
    ) -> Result<Answer, BringError> {
        let session = &mut *turn.loan.session;
        let mut heard = Heard {
            reported: std::mem::take(&mut session.carried.reported),
            may_fail: flight.prepares.iter().map(|(ready, _)| *ready).collect(),
            ..Heard::default()
        };
        let answer = talk(&mut session.stream, &mut heard, &flight.bytes, flight.readies).await;
        session.carried.reported = heard.reported;
        // A simple Query drops it, and what sets something takes its place.
        session.carried.prepared.unnamed = next_serial();
        if !heard.notifications.is_empty() && whose == Whose::Own {
            turn.down.put(&[&heard.notifications]);
        }
        let rows = answer?;
        let prepares = std::mem::take(&mut flight.prepares).into_iter();
        let missing = prepares.filter(|(ready, _)| heard.failed.contains(ready));
        Ok(Answer {
            rows,
            missing: missing.map(|(_, place)| place).collect(),
        })
    }

    /// A stranger's numbers are gone.
    pub(super) async fn discard_sequences(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        self.pooling.note_asks_sequences();
        let mut flight = Flight::default();
        flight.query("DISCARD SEQUENCES");
        self.fly(turn, &mut flight).await?;
        turn.loan.session.carried.sequences_discarded();
        Ok(())
    }

    /// No statement is on the session that is none of the client's.
    pub(super) async fn close_others(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        for name in turn.loan.session.carried.prepared.take_others(&self.statements) {
            say::close_statement(&name, &mut flight.bytes);
        }
        flight.sync();
        self.fly(turn, &mut flight).await?;
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
        // Somebody's turn may have put it there under settings that are not its own.
        say::close_statement(name.as_bytes(), &mut flight.bytes);
        say::parse(name.as_bytes(), &statement.behind_name, &mut flight.bytes);
        flight.sync();
        flight.switch(&statement.under, &self.profile);
        self.fly(turn, &mut flight).await?;
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
        // In a transaction nothing is set: it would be the client's.
        let switches = turn.loan.status == b'I' && !statement.suits(&self.profile);
        if switches {
            flight.switch(&self.profile, &statement.under);
        }
        say::parse(&name, &statement.behind_name, &mut flight.bytes);
        flight.sync();
        if switches {
            flight.switch(&statement.under, &self.profile);
        }
        self.fly(turn, &mut flight).await?;
        self.statements.alias(&name);
        turn.loan.session.carried.prepared.aliases.push(name);
        Ok(())
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
