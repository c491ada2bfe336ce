//! What stands before a client's message: something that must happen first, or a limit.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Exchange, put::put, shapes::Asked};
use crate::session::error::SessionError;
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::profile::Pins;
use crate::session::sql_names::{Called, Does, Named};
use crate::session::statements::{Effect, Name, Statement, UNKNOWN, Used};
use crate::session::words::Words;
use crate::wire::frame::{Front, HEADER_BYTES};
use crate::wire::refuse;

/// A text that Postgres refuses in any state of a transaction: what it says gives way to pgwake's own words.
const REFUSED_TEXT: &[u8] = b"pgwake\0";

/// What must have happened before the message at the front may pass.
#[derive(Debug, Clone)]
pub(in crate::session) enum Gate {
    /// DISCARD SEQUENCES: a stranger's numbers are on the session.
    Sequences,
    /// A reset has given the session another application_name than its client's.
    Application,
    /// Statements on the session that are none of the client's would be shown to it.
    Statements,
    /// pgwake's idle sessions would stand in the way of a statement about databases.
    Databases,
    /// Others may be about to give the right to pin back.
    Pins,
    /// A statement must be prepared under the settings that it was first prepared under.
    Prepare(Arc<Statement>),
    /// A statement must be on the session under the name that SQL calls it.
    Alias(Name, Arc<Statement>),
    /// The same of one that SQL has prepared.
    Lacking(Name),
}

impl Exchange<'_> {
    /// `None`: something must happen first.
    pub(super) fn wait_at_gate(&mut self, lane: &mut Lane, words: Words) -> Option<()> {
        if !self.may_talk() {
            return self.hide_strangers(lane, words);
        }
        let pooled = self.pooled();
        let gate = if words.has(Words::SEQUENCE_READ) && pooled.has_strange_sequences() {
            Gate::Sequences
        } else if words.has(Words::DATABASE) && !pooled.facts.databases_closed {
            Gate::Databases
        } else if words.has(Words::STATEMENTS_READ) && pooled.carried.prepared.shows_others(pooled.statements)
        {
            Gate::Statements
        } else {
            return Some(());
        };
        self.stand_at(gate)
    }

    /// Where nothing of pgwake's own can be said apart, what others have left on the session goes away in the client's own
    /// pipeline. `None`: whether it has numbers of its own is being answered.
    fn hide_strangers(&mut self, lane: &mut Lane, words: Words) -> Option<()> {
        if !words.has(Words::SEQUENCE_READ | Words::STATEMENTS_READ) || self.expected.ignores() {
            return Some(());
        }
        if words.has(Words::STATEMENTS_READ) {
            self.close_others(lane);
        }
        let is_strange = words.has(Words::SEQUENCE_READ) && self.pooled().has_strange_sequences();
        if is_strange && self.expected.is_unsynced() {
            if self.expected.front().is_some() {
                return self.hold(lane);
            }
            self.put_discard(lane);
        }
        Some(())
    }

    /// Whether a text may read a stranger's numbers behind the end of a failed transaction: nothing can discard them before.
    pub(super) fn may_read_strangers(&mut self, words: Words) -> bool {
        let reads = words.has(Words::SEQUENCE_READ) && self.expected.has_failed();
        reads && !self.expected.is_unsynced() && self.pooled().has_strange_sequences()
    }

    /// What must be done first depends on what the answers say that are still to come.
    fn stand_at(&mut self, gate: Gate) -> Option<()> {
        if self.expected.is_answered() {
            self.facts().gate = Some(gate);
        }
        None
    }

    /// Nothing that waits for an answer of its own may be sent into a pipeline that has no Sync yet, nor into a failed
    /// transaction.
    fn may_talk(&self) -> bool {
        !self.expected.is_unsynced() && !self.expected.has_failed()
    }

    /// `None`: what a simple Query calls by its client's names must be on the session under these.
    pub(super) fn wait_for_aliases(&mut self, named: &[Named]) -> Option<()> {
        if !self.may_talk() {
            return Some(());
        }
        if named.iter().any(|named| self.expected.is_undecided(&named.name)) {
            return None;
        }
        let pooled = self.pooled();
        let is_there = |name: &Name| pooled.carried.prepared.aliases.has_statement(name);
        let is_missing = |name| !is_there(name) && !pooled.facts.unaliased.contains(name);
        let run = named.iter().filter(|named| named.does == Does::Run);
        let mut missing = run.filter(|named| is_missing(&named.name));
        let gate = missing.find_map(|Named { name, statement, .. }| match statement {
            Called::Protocol(statement) => Some(Gate::Alias(name.clone(), statement.clone())),
            Called::Lacking => Some(Gate::Lacking(name.clone())),
            Called::Other => None,
        });
        match gate {
            Some(gate) => self.stand_at(gate),
            None => Some(()),
        }
    }

    /// The same for an extended message, in whose pipeline they are put there. `None`: also where it is not known what
    /// a name stands for.
    pub(super) fn put_aliases(&mut self, lane: &mut Lane, named: &[Named]) -> Option<()> {
        if named.iter().any(|named| self.expected.is_undecided(&named.name)) {
            return self.hold(lane);
        }
        self.wait_for_aliases(named)?;
        if self.expected.is_unsynced() && !self.expected.ignores() {
            self.put_aliases_here(lane, named);
        }
        Some(())
    }

    fn put_aliases_here(&mut self, lane: &mut Lane, named: &[Named]) {
        for named in named {
            if let Some(statement) = named.run() {
                self.put_alias(lane, &named.name, statement);
            }
        }
    }

    /// The same for a Query behind extended messages that have no Sync yet. `None`: also where they are being put there; an
    /// error of that has the server ignore the Query.
    pub(super) fn put_aliases_of_query(&mut self, lane: &mut Lane, named: &[Named]) -> Option<()> {
        self.wait_for_aliases(named)?;
        if !self.expected.is_unsynced() || self.expected.ignores() || self.expected.has_failed() {
            return Some(());
        }
        if named.iter().any(|named| self.expected.is_undecided(&named.name)) {
            return self.hold(lane);
        }
        if !named.iter().any(|named| named.run().is_some()) {
            return Some(());
        }
        // What comes before it decides whether it is read at all, and in which transaction.
        if self.expected.front().is_some() {
            return self.hold(lane);
        }
        let aliases = &self.pooled().carried.prepared.aliases;
        let is_there = |named: &Named| named.run().is_none() || aliases.has_statement(&named.name);
        if named.iter().all(is_there) {
            return Some(());
        }
        self.put_aliases_here(lane, named);
        let facts = self.facts();
        (facts.asked, facts.is_flushed) = (Asked::Called, false);
        self.hold(lane)
    }

    /// Whether what the Query at the front calls could not be put there: the client has the error, which is its answer.
    pub(super) fn is_answered_by_error(&mut self) -> bool {
        self.facts().asked == Asked::Called && self.expected.ignores()
    }

    /// Nothing is left of such a Query but ReadyForQuery, and that it drops the unnamed statement.
    pub(super) fn end_query(&mut self, lane: &mut Lane, front: Front) {
        let pooled = self.pooled();
        let effect = pooled.statements.drop_unnamed(&mut pooled.carried.prepared);
        lane.skip(front);
        put(lane, b'S', &[]);
        self.send(Kind::Sync, Asker::Client, effect);
    }

    /// Behind a reset the session may have the application_name of the client who opened it: between transactions the turn ends
    /// for that, within one it is set there, and gone with the reset where that is undone. A COPY has no answer before its data.
    pub(super) fn waits_for_application(&mut self) -> bool {
        let facts = &self.pooled().facts;
        let (is_reset, is_told) = (facts.is_reset, facts.is_told_own_application);
        if !is_reset || self.expected.is_unsynced() || self.expected.is_copying() {
            return false;
        }
        let is_within = self.expected.is_answered() && self.expected.status() == b'T';
        if is_within && is_told {
            self.facts().gate = Some(Gate::Application);
        }
        !self.expected.is_answered() || self.expected.status() == b'I' || (is_within && is_told)
    }

    /// The statement that a name stands for, as Postgres would read its text now.
    pub(super) fn use_of(&mut self, name: &[u8]) -> Option<Used> {
        let pooled = self.pooled();
        let mut used = pooled.statements.use_of(name)?;
        if used.statement.suits(pooled.profile) {
            return Some(used);
        }
        if !self.has_unknown_settings() && !self.expected.ignores() && !self.expected.has_failed() {
            let pooled = self.pooled();
            pooled.statements.read_anew(&mut used, pooled.profile);
        }
        Some(used)
    }

    /// A statement that is not on the session, and was prepared under other settings than the client has now. In the
    /// middle of a transaction it is prepared under these: its settings may not be changed there.
    pub(super) fn wait_for_settings(&mut self, lane: &mut Lane, statement: &Arc<Statement>) -> Option<()> {
        if self.expected.is_statement_undecided(statement.id) {
            return self.hold(lane);
        }
        if self.is_there(statement.id) {
            return Some(());
        }
        self.wait_for_profile()?;
        if statement.suits(self.pooled().profile) || self.expected.is_unsynced() {
            return Some(());
        }
        if self.expected.is_answered() && self.expected.status() != b'I' {
            return Some(());
        }
        // It may also come to stand outside of any transaction.
        self.stand_at(Gate::Prepare(statement.clone()))
    }

    /// `None`: the turn has changed settings, and nobody knows yet which ones a statement would be prepared under. It
    /// ends first, where it can.
    pub(super) fn wait_for_profile(&mut self) -> Option<()> {
        let may_end = (self.expected.is_idle() || !self.expected.is_answered())
            && !self.pooled().statements.has_long_unnamed();
        if !self.has_unknown_settings() || self.expected.is_unsynced() || !may_end {
            return Some(());
        }
        self.used = true;
        None
    }

    /// Whether the turn may have changed settings, and Postgres has not been asked yet.
    pub(super) fn has_unknown_settings(&mut self) -> bool {
        let pooled = self.pooled();
        let facts = &pooled.facts;
        facts.words.has(Words::SETTINGS | Words::SET_LOCAL_MEANING) || (pooled.is_careful && facts.has_run)
    }

    /// `None`: the client may not pin its session, but another one that does may be about to let go of its own.
    pub(super) fn wait_to_pin(&mut self, words: Words) -> Option<()> {
        if Pins::foreseen(words).is_empty() {
            return Some(());
        }
        self.wait_for_pin()
    }

    /// The same where it is certain that the client is going to.
    pub(super) fn wait_for_pin(&mut self) -> Option<()> {
        let may_talk = self.may_talk();
        let pooled = self.pooled();
        let facts = &pooled.facts;
        let has_right = facts.is_pinned || facts.pin.is_some();
        if has_right || facts.pins_awaited || !may_talk || !pooled.pins.may_come_free() {
            return Some(());
        }
        self.stand_at(Gate::Pins)
    }

    /// Whether the client may pin its session, where the words say that it is going to.
    pub(super) fn may_pin(&mut self, words: Words) -> bool {
        Pins::foreseen(words).is_empty() || self.has_pin()
    }

    /// The same where it is certain that it is going to.
    pub(super) fn has_pin(&mut self) -> bool {
        let pooled = self.pooled();
        if !pooled.facts.is_pinned && pooled.facts.pin.is_none() {
            pooled.facts.pin = pooled.pins.permit();
        }
        pooled.facts.is_pinned || pooled.facts.pin.is_some()
    }

    /// The client may not pin its session.
    pub(super) fn refuse_pin(&mut self, lane: &mut Lane, front: Front, kind: Kind) {
        let max = self.pooled().pins.max();
        self.refuse_with(lane, front, kind, &SessionError::TooManyPinned { max });
    }

    /// pgwake's own error is the answer.
    pub(super) fn refuse_with(&mut self, lane: &mut Lane, front: Front, kind: Kind, error: &SessionError) {
        let mut message = BytesMut::new();
        refuse::error(error, self.pooled().session, &mut message);
        // Without its header, which the server's has.
        self.refuse(lane, front, kind, message.freeze().slice(HEADER_BYTES..));
    }

    /// What had to happen before the message was refused with this error.
    pub(super) fn refuse_first(&mut self, lane: &mut Lane, front: Front, error: Bytes) {
        let kind = match front.tag {
            b'Q' => Kind::Simple,
            _ => Kind::Parse,
        };
        self.refuse(lane, front, kind, error);
    }

    /// What Postgres said of a name that could not be put on the session, where it says now that it does not know that
    /// name, or that the transaction has failed. (To DEALLOCATE it would have said nothing of the kind.)
    pub(super) fn refusal_of_name(&mut self, sqlstate: &str, message: &str) -> Option<Bytes> {
        let facts = &mut self.pooled.as_mut()?.facts;
        let gone = match self.expected.front().map(|entry| &entry.effect) {
            Some(Effect::Deallocates(names, _)) => &names[..],
            _ => &[],
        };
        let is_meant = |name: &Name| match sqlstate {
            "25P02" => true,
            "26000" => !gone.contains(name) && str::from_utf8(name).is_ok_and(|name| message.contains(name)),
            _ => false,
        };
        let at = facts.unaliased_for.iter().position(|(name, _)| is_meant(name))?;
        Some(facts.unaliased_for.swap_remove(at).1)
    }

    /// Postgres refuses something else in the message's place, so that its transaction is what it is after an error;
    /// the client reads pgwake's words.
    pub(super) fn refuse(&mut self, lane: &mut Lane, front: Front, kind: Kind, body: Bytes) {
        if self.pooled.is_some() {
            self.put_begin(lane);
        }
        lane.skip(front);
        match kind {
            Kind::Simple => {
                put(lane, b'Q', &[REFUSED_TEXT]);
                if let Some(pooled) = &mut self.pooled {
                    // Which one the session has then depends on whether it ignores this.
                    pooled.carried.prepared.unnamed = UNKNOWN;
                }
            }
            // Under a name: the unnamed statement stays what it is.
            _ => put(lane, b'P', &[REFUSED_TEXT, REFUSED_TEXT, b"\0\0"]),
        }
        self.send(kind, Asker::Client, Effect::Refused(body));
    }
}
