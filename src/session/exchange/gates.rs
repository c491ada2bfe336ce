//! What stands before a client's message: something that must happen first, or a limit.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Exchange, Gate, put::put};
use crate::session::error::SessionError;
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::profile::Pins;
use crate::session::sql_names::Named;
use crate::session::statements::{Effect, Statement, next_serial};
use crate::session::words::Words;
use crate::wire::frame::{Front, HEADER_BYTES};
use crate::wire::refuse;

/// A text that Postgres refuses in any state of a transaction: what it says gives way to pgwake's own words.
const REFUSED_TEXT: &[u8] = b"pgwake\0";

impl Exchange<'_> {
    /// `None`: something must happen first.
    pub(super) fn wait_at_gate(&mut self, words: Words, named: &[Named]) -> Option<()> {
        // Nothing of ours may be sent into a pipeline that has no Sync yet, nor into a failed transaction.
        if self.expected.is_unsynced() || self.expected.status() == b'E' {
            return Some(());
        }
        let pooled = self.pooled();
        let aliases = &pooled.carried.prepared.aliases;
        let missing = named.iter().find(|named| !aliases.contains(&named.name));
        let gate = if words.has(Words::SEQUENCE_READ) && pooled.has_strange_sequences() {
            Gate::Sequences
        } else if words.has(Words::DATABASE) && !pooled.facts.databases_closed {
            Gate::Databases
        } else if let Some(named) = missing {
            Gate::Alias(named.name.clone(), named.statement.clone())
        } else {
            return Some(());
        };
        pooled.facts.gate = Some(gate);
        None
    }

    /// A statement that is not on the session, and was prepared under other settings than the client has now. In the
    /// middle of a transaction it is prepared under these: its settings may not be changed there.
    pub(super) fn wait_for_settings(&mut self, statement: &Arc<Statement>) -> Option<()> {
        let is_free = self.expected.is_idle() && !self.pooled().facts.begins;
        let pooled = self.pooled();
        if !is_free || statement.suits(pooled.profile) || pooled.carried.prepared.uses(statement.id) {
            return Some(());
        }
        pooled.facts.gate = Some(Gate::Prepare(statement.clone()));
        None
    }

    /// Whether the client may pin its session, where the words say that it is going to.
    pub(super) fn may_pin(&mut self, words: Words) -> bool {
        let pooled = self.pooled();
        if Pins::foreseen(words).is_empty() || pooled.facts.is_pinned || pooled.facts.pin.is_some() {
            return true;
        }
        pooled.facts.pin = pooled.pins.permit();
        pooled.facts.pin.is_some()
    }

    /// Postgres refuses something else in the message's place, so that its transaction is what it is after an error;
    /// the client reads pgwake's words.
    pub(super) fn refuse(&mut self, lane: &mut Lane, front: Front, kind: Kind) {
        let pooled = self.pooled();
        let error = SessionError::TooManyPinned {
            max: pooled.pins.max(),
        };
        let mut message = BytesMut::new();
        refuse::error(&error, pooled.session, &mut message);
        self.put_begin(lane);
        lane.skip(front);
        match kind {
            Kind::Simple => {
                put(lane, b'Q', &[REFUSED_TEXT]);
                // Which one the session has then depends on whether it ignores this.
                self.pooled().carried.prepared.unnamed = next_serial();
            }
            // Under a name: the unnamed statement stays what it is.
            _ => put(lane, b'P', &[REFUSED_TEXT, REFUSED_TEXT, b"\0\0"]),
        }
        // Without its header, which the server's has.
        let body = message.freeze().slice(HEADER_BYTES..);
        self.send(kind, Asker::Client, Effect::Refused(body));
    }
}
