//! Brings a server session to what its new client carries.
//!
//! What to say and what the answers mean is `profile`'s work. The client's first message waits until all of it has been
//! answered without an error: it must run as the client's role and under its settings, or not at all.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    Pooled,
    talk::{Heard, TalkError, no_answer, talk},
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
    senders::Senders,
    statements::UNKNOWN,
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
    /// The first error of what may fail.
    pub(super) refused: Option<bytes::Bytes>,
}

impl Pooled {
    /// The session is this client's from now on. Not cancel safe: it is closed with it.
    pub(super) async fn bring(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        let changed_hands = turn.loan.changed_hands;
        let carried = &mut turn.loan.session.carried;
        if changed_hands {
            for name in carried.prepared.aliases.take() {
                say::close_statement(&name, &mut flight.bytes);
            }
            for name in carried.prepared.take_outdated() {
                say::close_statement(name.as_bytes(), &mut flight.bytes);
            }
            if !flight.bytes.is_empty() {
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
            self.cancel.wait();
            Box::pin(self.fly_over(turn, &mut flight, whose)).await?.missing
        } else {
            Vec::new()
        };
        if !is_same {
            self.carries(turn, &missing);
        }
        if let Some(state) = &turn.loan.session.carried.state {
            turn.facts.lacking = self.profile.lacking_in(&state.profile);
        }
        if turn.known.database.is_none() {
            self.cancel.wait();
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
        Self::flown(turn, &self.pooling.senders, flight, (Whose::Own, no_answer())).await
    }

    /// The same on a session that was `whose` so far.
    async fn fly_over(
        &self,
        turn: &mut Turn,
        flight: &mut Flight,
        whose: Whose,
    ) -> Result<Answer, BringError> {
        Self::flown(turn, &self.pooling.senders, flight, (whose, no_answer())).await
    }

    /// The same on its own; it waits for the answer until `ended`.
    pub(super) async fn fly_until(
        (turn, senders): (&mut Turn, &Senders),
        flight: &mut Flight,
        ended: impl Future<Output = TalkError>,
    ) -> Result<Answer, BringError> {
        Self::flown(turn, senders, flight, (Whose::Own, ended)).await
    }

    /// What is heard on a session that was another's was for that one, and is told nobody.
    async fn flown(
        turn: &mut Turn,
        senders: &Senders,
        flight: &mut Flight,
        (whose, ended): (Whose, impl Future<Output = TalkError>),
    ) -> Result<Answer, BringError> {
        let session = &mut *turn.loan.session;
        let mut heard = Heard {
            reported: std::mem::take(&mut session.carried.reported),
            may_fail: flight.may_fail(),
            ..Heard::default()
        };
        let question = (&flight.bytes[..], flight.readies);
        let answer = talk(&mut session.stream, &mut heard, question, ended).await;
        session.carried.reported = heard.reported;
        // A simple Query drops it, and what sets something takes its place.
        session.carried.prepared.unnamed = UNKNOWN;
        if !heard.notifications.is_empty() && whose == Whose::Own {
            senders.name_all(&mut heard.notifications);
            turn.down.put(&[&heard.notifications]);
        }
        let rows = answer?;
        let prepares = std::mem::take(&mut flight.prepares).into_iter();
        let failed = |ready| heard.failed.iter().any(|(failed, _)| *failed == ready);
        let missing = prepares.filter(|(ready, _)| failed(*ready));
        Ok(Answer {
            rows,
            missing: missing.map(|(_, place)| place).collect(),
            refused: heard.failed.into_iter().next().map(|(_, message)| message),
        })
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
