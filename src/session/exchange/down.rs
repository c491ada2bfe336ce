//! What the server says.

use bytes::Bytes;

use super::{Exchange, PREFIX_BYTES, Pooled};
use crate::session::expected::{Asker, Kind, Passing};
use crate::session::lane::{Editing, Lane};
use crate::session::statements::{Effect, Shape, Statement};
use crate::session::words::Tags;
use crate::wire::frame::Front;
use crate::wire::reply::error_fields;
use crate::wire::say;

/// Most of a ParameterStatus that is looked at; Postgres' longest value is a search_path.
const PARAMETER_BYTES_MAX: usize = 4096;
/// Most of an ErrorResponse in which a statement's name is looked for.
const ERROR_BYTES_MAX: usize = 4096;

/// A NotificationResponse begins with its sender's process number
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
const SENDER_BYTES: usize = 4;

/// What a ParameterStatus of it begins with.
const APPLICATION: &[u8] = b"application_name\0";

impl Pooled<'_> {
    /// The server has answered: the effect stays.
    fn commit(&mut self, effect: Effect) {
        match &effect {
            Effect::DiscardsSequences => self.carried.sequences_discarded(),
            Effect::Closed(_, Some(gone)) | Effect::ClosedWithAlias(_, Some(gone)) => {
                self.facts.unsettled.gone(gone.statement.id);
            }
            _ => (),
        }
        self.statements.commit(effect);
    }
}

impl Exchange<'_> {
    pub(super) fn edit_down(&mut self, lane: &mut Lane) -> Editing {
        loop {
            if lane.is_between_seen_messages() && self.is_to_say() {
                self.note_heard();
                while let Some(entry) = self.expected.take_said() {
                    lane.put(&[say::PARSE_COMPLETE]);
                    self.commit(entry.effect);
                }
            }
            let wanted = |front: Front| match front.tag {
                b't' | b'T' if self.is_describing() => Shape::SEEN_MAX,
                b'Z' => 1,
                b'E' if self.may_refuse() => ERROR_BYTES_MAX,
                b'C' | b'E' => PREFIX_BYTES,
                b'S' => PARAMETER_BYTES_MAX,
                b'A' => SENDER_BYTES,
                _ => 0,
            };
            let Some(front) = lane.front(wanted) else {
                return Editing::Open;
            };
            // Of an error it is to be seen which one it is.
            if front.tag != b'E' {
                self.note_heard();
                if self.is_to_say() {
                    continue;
                }
            }
            match front.tag {
                // The server goes on behind the client's next Sync; the client has an answer elsewhere.
                _ if self.has_begin_failed() => lane.skip(front),
                b'Z' => self.ready(lane, front),
                b'E' => self.failed(lane, front),
                b'S' => self.parameter(lane, front),
                b'A' => self.notified(lane, front),
                b'D' => self.rows(lane, front),
                b'T' if self.answers_query() => self.rows(lane, front),
                b't' | b'T' | b'n' => {
                    if self.is_describing() {
                        self.described(front.tag, lane.body(front));
                    }
                    self.received(lane, front);
                }
                b'C' => {
                    self.completed(lane.body(front));
                    self.received(lane, front);
                }
                _ => self.received(lane, front),
            }
        }
    }

    /// Rows end no answer, nor does what describes them to a Query: all that have come whole go the way of the first.
    fn rows(&mut self, lane: &mut Lane, first: Front) {
        let is_of_query = self.answers_query();
        match self.expected.received(first.tag) {
            (Passing::Swallow, _) => lane.skip(first),
            (Passing::Forward, _) => {
                lane.pass(first);
                lane.pass_all(|tag| tag == b'D' || (tag == b'T' && is_of_query));
            }
        }
    }

    /// Whether the answer that comes next is a Query's.
    fn answers_query(&self) -> bool {
        let front = self.expected.front();
        front.is_some_and(|entry| entry.kind == Kind::Simple)
    }

    fn received(&mut self, lane: &mut Lane, front: Front) {
        let (passing, answered) = self.expected.received(front.tag);
        if let Some(entry) = answered {
            self.commit(entry.effect);
        }
        if let Some(lost) = self.expected.take_lost() {
            self.undo(*lost);
        }
        match passing {
            Passing::Forward => lane.pass(front),
            Passing::Swallow => lane.skip(front),
        }
    }

    /// The sender has the number that its client was told.
    fn notified(&mut self, lane: &mut Lane, front: Front) {
        let senders = self.pooled.as_ref().map(|pooled| pooled.senders);
        let pid = lane.body(front).first_chunk().copied().map(i32::from_be_bytes);
        match senders.zip(pid).and_then(|(senders, pid)| senders.told(pid)) {
            Some(told) => lane.replace(front, SENDER_BYTES, &[&told.to_be_bytes()]),
            None => lane.pass(front),
        }
    }

    fn commit(&mut self, effect: Effect) {
        if let Some(pooled) = &mut self.pooled {
            pooled.commit(effect);
        }
    }

    fn ready(&mut self, lane: &mut Lane, front: Front) {
        let status = lane.body(front).first().copied().unwrap_or(b'E');
        let passing = self.expected.ready(status);
        if self.expected.is_answered() {
            self.commit_possible = false;
            if let Some(last_text) = &mut self.last_text {
                last_text.clear();
            }
        }
        if status == b'I' && self.touched.is_any() {
            (self.tell_touched)(std::mem::take(&mut self.touched));
        }
        if status == b'I' {
            self.transaction_ended();
        }
        if let Some(pooled) = &mut self.pooled {
            if status == b'I' && pooled.facts.change_texts() {
                pooled.texts.renew();
            }
            pooled.carried.prepared.end_batch();
            let first = self.expected.first();
            pooled
                .facts
                .unsettled
                .ready(&pooled.carried.reported, first, status);
            // What was noted may also be of what stands behind this answer, where something does.
            if self.expected.is_answered() {
                pooled.facts.all_answered(status);
            }
            if status == b'I' {
                pooled.may_let_go();
            }
        }
        match passing {
            Passing::Forward => lane.pass(front),
            Passing::Swallow => lane.skip(front),
        }
    }

    fn completed(&mut self, tag: &[u8]) {
        let tags = Tags::of(tag);
        self.touched.note(tag, tags);
        let is_ours = self
            .expected
            .front()
            .is_some_and(|entry| entry.asker == Asker::Pgwake);
        let Some(pooled) = self.pooled.as_mut().filter(|_| !is_ours) else {
            return;
        };
        pooled.facts.tags |= tags;
        // Also before it is committed: its own transaction may prepare a text then.
        if pooled.facts.change_texts() {
            pooled.texts.renew();
        }
        if tag.starts_with(b"ROLLBACK\0") {
            pooled.facts.unsettled.undone(self.expected.first());
        }
        if tags.is_empty() {
            return;
        }
        if tags.has(Tags::PREPARE) {
            pooled.facts.unsettled.prepared();
        }
        if tags.has(Tags::DISCARD_ALL | Tags::DEALLOCATE_ALL) {
            pooled.statements.forget_named();
            pooled.facts.unsettled.forget_named();
            pooled.carried.prepared.forget_named();
            pooled.facts.lacking.clear();
            self.expected.take_deallocated();
        } else if tags.has(Tags::DEALLOCATE)
            && let Some(name) = self.expected.take_deallocated()
        {
            let gone = pooled.statements.unname(&name);
            pooled.commit(gone);
            pooled.facts.lacking.retain(|lacking| *lacking != name);
            pooled.carried.prepared.aliases.remove(&name);
        }
    }

    fn failed(&mut self, lane: &mut Lane, front: Front) {
        let fields = error_fields(lane.body(front));
        if self.ended_unheard(lane, front, &fields) {
            return;
        }
        self.note_heard();
        if self.is_to_say() {
            return;
        }
        if self.begin_failed(lane, front) || (fields.ends_session && self.ended_idle(lane, front)) {
            return;
        }
        self.statement_failed(&fields.sqlstate, &fields.message);
        if let Some(pooled) = &mut self.pooled {
            let (reported, request) = (&pooled.carried.reported, self.expected.first());
            pooled.facts.unsettled.failed(reported, request);
        }
        let words = self
            .refusal_of_front()
            .or_else(|| self.refusal_of_name(&fields.sqlstate, &fields.message))
            .or_else(|| self.in_own_words(lane.body(front)));
        if fields.ends_session {
            self.fatal = Some(Box::new(fields));
        }
        let mut ignored = self.expected.failed();
        if let (Some(failed), Some(pooled)) = (ignored.pop(), &mut self.pooled) {
            let prepared = &mut pooled.carried.prepared;
            let ignored = ignored.into_iter().map(|entry| entry.effect);
            let left = self.expected.effects();
            pooled.statements.undo_all(ignored, failed.effect, prepared, left);
        }
        match words {
            Some(words) if self.fatal.is_none() => lane.replace(front, lane.body(front).len(), &[&words]),
            _ => lane.pass(front),
        }
    }

    /// The server ended a session that its client had just done with: that is no business of the client's.
    fn ended_idle(&mut self, lane: &mut Lane, front: Front) -> bool {
        let is_done = self.is_releasable();
        let Some(pooled) = self
            .pooled
            .as_mut()
            .filter(|pooled| is_done && !pooled.facts.is_pinned)
        else {
            return false;
        };
        pooled.facts.is_lost = true;
        lane.skip(front);
        true
    }

    /// Whether pgwake's own BEGIN is answered next.
    pub(super) fn is_beginning(&self) -> bool {
        self.expected.front().is_some_and(|entry| {
            entry.asker == Asker::Pgwake && matches!(entry.effect, Effect::BeginPut | Effect::Begins)
        })
    }

    /// pgwake's own BEGIN failed: what the client sent behind it is ignored by the server, and answered elsewhere.
    fn begin_failed(&mut self, lane: &mut Lane, front: Front) -> bool {
        let is_begin = self.is_beginning();
        let Some(pooled) = self.pooled.as_mut().filter(|_| is_begin) else {
            return false;
        };
        // All of it has come where it is of a usual size; the session is given up in any case.
        pooled.facts.begin_failed = Some(Bytes::copy_from_slice(lane.body(front)));
        self.undo_everything();
        lane.skip(front);
        true
    }

    /// The request at the front is one that pgwake refuses, by letting the server refuse something in its place.
    fn refusal_of_front(&self) -> Option<Bytes> {
        match self.expected.front().map(|entry| &entry.effect) {
            Some(Effect::Refused(message)) => Some(message.clone()),
            _ => None,
        }
    }

    /// The error with the client's own name of the statement that it is about.
    fn in_own_words(&self, body: &[u8]) -> Option<Bytes> {
        let (statement, name) = self.expected.front()?.effect.used()?;
        let server_name = statement.server_name();
        let server_name = server_name.as_bytes();
        let at = body
            .windows(server_name.len())
            .position(|part| part == server_name)?;
        let (before, behind) = body.split_at(at);
        Some([before, name, &behind[server_name.len()..]].concat().into())
    }

    /// A plan that does not fit its tables any more is nobody's from now on; a statement that is not there after all
    /// is put there again.
    fn statement_failed(&mut self, sqlstate: &str, message: &str) {
        let (Some(pooled), Some(entry)) = (&mut self.pooled, self.expected.front()) else {
            return;
        };
        let Some((statement, _)) = entry.effect.used() else {
            return;
        };
        match sqlstate {
            // Its columns are others now; or a type of it is gone, which Postgres calls an internal error.
            "0A000" | "XX000" => pooled.texts.retire(statement),
            // Not one that an EXECUTE speaks of.
            "26000" if names(message, statement) => pooled.carried.prepared.lost(statement.id),
            _ => (),
        }
    }

    /// What the session has now; and after a reset the client's own name of its application instead of that of the
    /// client who opened the session, if that is news to it.
    fn parameter(&mut self, lane: &mut Lane, front: Front) {
        let Some(pooled) = &mut self.pooled else {
            return lane.pass(front);
        };
        let body = lane.body(front);
        let known = pooled.carried.reported.get(b"application_name").cloned();
        pooled.carried.reported.note(body);
        let Some(said) = body.strip_prefix(APPLICATION) else {
            return lane.pass(front);
        };
        let said = said.strip_suffix(b"\0").unwrap_or(said);
        let may_be_reset =
            pooled.facts.words.may_reset() && pooled.carried.opened_as != pooled.own_application();
        let is_reset = may_be_reset && *said == *pooled.carried.opened_as;
        let told = if is_reset {
            pooled.own_application()
        } else {
            Bytes::copy_from_slice(said)
        };
        let facts = &mut pooled.facts;
        facts.is_told_own_application = is_reset;
        let before = facts.told_application.replace(told.clone());
        if may_be_reset && before.or(known) == Some(told.clone()) {
            lane.skip(front);
        } else if is_reset {
            lane.replace(front, front.body_bytes, &[APPLICATION, &told, b"\0"]);
        } else {
            lane.pass(front);
        }
    }
}

/// Whether an error's message has a statement's name on the session in it.
fn names(message: &str, statement: &Statement) -> bool {
    str::from_utf8(statement.server_name().as_bytes()).is_ok_and(|name| message.contains(name))
}
