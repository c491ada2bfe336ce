//! What the client says, in transaction pooling: its names become the session's, its texts are looked at.

use super::{
    Exchange, Facts, Pooled, Scanned,
    put::put,
    shapes::{Asked, Fit},
};
use crate::session::buffers::SMALL_BYTES;
use crate::session::error::SessionError;
use crate::session::expected::{Asker, Kind};
use crate::session::lane::{Editing, Lane};
use crate::session::sql_names::Named;
use crate::session::statements::{Effect, Seen};
use crate::session::words::{Scan, Words};
use crate::wire::extended::{self, Object};
use crate::wire::frame::{Front, HEADER_BYTES};

/// Longest Query that is seen whole before it passes; a longer one passes as it comes, unless it begins to speak of prepared
/// statements, or would be shown another client's.
const QUERY_BYTES_MAX: usize = SMALL_BYTES - HEADER_BYTES;
/// The names in a Bind have usually ended by then.
const NAMES_SEEN: usize = 128;
/// Longest Describe or Close that is looked at; few names are longer than 63 bytes.
const OBJECT_BYTES_MAX: usize = SMALL_BYTES - HEADER_BYTES;

impl<'a> Exchange<'a> {
    pub(super) fn edit_up_pooled(&mut self, lane: &mut Lane) -> Editing {
        loop {
            self.scan_rest(lane);
            // What has passed in part is passed on in any case: nothing can end within a message.
            lane.pass_rest();
            if !lane.is_between_seen_messages() {
                return Editing::Open;
            }
            if self.has_begin_failed() || self.terminated {
                return Editing::Paused;
            }
            if self.expected.wants_fence() {
                self.put_fence(lane);
            }
            if self.expected.is_full() {
                return Editing::Paused;
            }
            if self.waits_for_application() {
                return Editing::Paused;
            }
            let Some(front) = lane.front(|front| self.wanted(front)) else {
                self.flush_the_last(lane);
                return Editing::Open;
            };
            let seen_min = self.facts().seen_min;
            if !self.may_begin(lane, front) || self.pass_pooled(lane, front).is_some() {
                self.used = true;
                let facts = self.facts();
                (facts.gate, facts.databases_closed, facts.seen_min) = (None, false, 0);
                (facts.is_held, facts.is_flushed, facts.pins_awaited) = (false, false, false);
                (facts.asked, facts.refused) = (Asked::Nothing, None);
                facts.unaliased.clear();
            } else if self.facts().seen_min == seen_min {
                self.facts().is_held = true;
                return Editing::Paused;
            }
        }
    }

    pub(super) fn pooled(&mut self) -> &mut Pooled<'a> {
        self.pooled.as_mut().expect("only called in transaction pooling")
    }

    pub(super) fn facts(&mut self) -> &mut Facts {
        self.pooled().facts
    }

    fn wanted(&self, front: Front) -> usize {
        let Some(pooled) = &self.pooled else {
            return 0;
        };
        match front.tag {
            b'Q' => pooled.facts.seen_min.max(QUERY_BYTES_MAX),
            b'P' if front.body_bytes <= pooled.limits.statement_bytes_max => front.body_bytes,
            b'P' => NAMES_SEEN,
            b'B' => pooled.facts.seen_min.max(NAMES_SEEN),
            b'E' if !pooled.facts.bound.ends.is_empty() => NAMES_SEEN,
            b'D' | b'C' | b'F' => OBJECT_BYTES_MAX,
            _ => 0,
        }
    }

    /// `None`: not now. Either more of it must come, or a gate stands before it.
    fn pass_pooled(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        if let Some(error) = self.facts().refused.take() {
            self.refuse_first(lane, front, error);
            return Some(());
        }
        match front.tag {
            b'Q' => return self.query(lane, front),
            b'P' => return self.parse(lane, front),
            b'B' => return self.bind(lane, front),
            b'D' => return self.describe(lane, front),
            b'C' => return self.close(lane, front),
            b'E' => self.execute(lane, front),
            b'X' => {
                self.terminated = true;
                self.pooled().may_let_go();
                if self.expected.is_unsynced() {
                    // The server would answer only when it has been told to, or left.
                    put(lane, b'H', &[]);
                }
                lane.skip(front);
            }
            _ => {
                if front.tag == b'F' {
                    self.call(lane, front)?;
                }
                self.put_begin(lane);
                self.pass(lane, front);
            }
        }
        Some(())
    }

    fn query(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let body = lane.body(front);
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let is_whole = body.len() == front.body_bytes;
        if is_whole && text.len() == body.len() {
            self.pass_misshapen(lane, front, Kind::Simple);
            return Some(());
        }
        let mut scan = Scan::default();
        scan.feed(text, self.pooled().functions);
        if !is_whole && self.may_be_seen_whole(front) && self.must_be_seen_whole(scan.words()) {
            self.facts().seen_min = front.body_bytes;
            return None;
        }
        let (seen, rest) = if is_whole {
            (self.finish_scan(&mut scan), None)
        } else {
            (Seen::default(), Some((Box::new(scan), Scanned::Query)))
        };
        if is_whole && seen.shows_nothing() {
            self.pass_plain_query(lane, front);
            return Some(());
        }
        let named = self.named(text, seen.words);
        // What has not come yet may hold any word.
        let gating = if is_whole {
            seen.words
        } else {
            Words::SEQUENCE_READ | Words::STATEMENTS_READ
        };
        self.wait_at_gate(lane, gating)?;
        self.put_aliases_of_query(lane, &named)?;
        if self.is_answered_by_error() {
            self.end_query(lane, front);
            return Some(());
        }
        self.commit_possible |= !is_whole || seen.words.has(Words::MAY_COMMIT);
        if self.may_read_strangers(seen.words) && may_be_several(lane.body(front)) {
            self.refuse_with(lane, front, Kind::Simple, &SessionError::InFailedTransaction);
            return Some(());
        }
        let runs = self.seen_of_all(&named);
        self.wait_to_pin(seen.words | runs.words)?;
        if !self.may_pin(seen.words | runs.words) {
            self.refuse_pin(lane, front, Kind::Simple);
            return Some(());
        }
        self.note(&seen);
        self.note(&runs);
        self.note_settings(seen.words | runs.words);
        if seen.words.has(Words::PREPARE)
            && may_be_several(lane.body(front))
            && self.may_set(seen.words | runs.words)
        {
            self.facts().unsettled.mixes();
        }
        self.run_query(lane, rest);
        self.hide_begin(lane, gating);
        self.put_stand_ins(lane, &named);
        let pooled = self.pooled();
        let prepared = &mut pooled.carried.prepared;
        let gone = named.into_iter().rev().filter(Named::deallocates);
        let gone: Vec<_> = gone.map(|named| named.name).collect();
        let mut effect = pooled.statements.drop_unnamed(prepared);
        if !gone.is_empty() || (seen.words | runs.words).has(Words::DISCARD | Words::DEALLOCATE) {
            effect = Effect::Deallocates(gone, Box::new(effect));
        }
        self.note_reset(seen.words | runs.words);
        self.pass_as(lane, front, Kind::Simple, effect);
        Some(())
    }

    /// Most texts show nothing: nothing must happen first, and nothing is to be noted.
    fn pass_plain_query(&mut self, lane: &mut Lane, front: Front) {
        self.run_query(lane, None);
        let pooled = self.pooled();
        let effect = pooled.statements.drop_unnamed(&mut pooled.carried.prepared);
        self.pass_as(lane, front, Kind::Simple, effect);
    }

    /// A Query passes next, of which this is still to be looked at.
    fn run_query(&mut self, lane: &mut Lane, rest: Option<(Box<Scan>, Scanned)>) {
        let facts = self.facts();
        (facts.scan, facts.has_run) = (rest, true);
        facts.bound.forget_untold();
        self.put_begin_alone(lane);
    }

    pub(super) fn may_be_seen_whole(&mut self, front: Front) -> bool {
        front.body_bytes <= self.pooled().limits.statement_bytes_max
    }

    /// Whether what a Query begins with is not enough to know which statements its session must have and which it must not.
    fn must_be_seen_whole(&mut self, begins_with: Words) -> bool {
        let pooled = self.pooled();
        begins_with.has(Words::OF_STATEMENTS) || pooled.carried.prepared.shows_others(pooled.statements)
    }

    fn describe(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let used = match object(lane, front) {
            Object::Statement(b"") => {
                if self.expected.is_unnamed_undecided() {
                    return self.hold(lane);
                }
                self.put_aliases_of(lane, b"")?;
                let moved = self.moved_unnamed();
                if moved.is_none() {
                    self.put_begin(lane);
                    self.ensure_unnamed(lane);
                }
                moved
            }
            Object::Statement(name) if self.expected.is_undecided(name) => return self.hold(lane),
            Object::Statement(name) => {
                let name = name.to_vec();
                let used = self.use_of(&name);
                match used {
                    Some(_) => self.put_aliases_of(lane, &name)?,
                    None => self.close_stand_in(lane, &name),
                }
                used
            }
            Object::Portal => {
                let body = lane.body(front);
                let effect = self.describes(body.get(1..body.len().saturating_sub(1)).unwrap_or_default());
                self.put_begin(lane);
                self.pass_as(lane, front, Kind::DescribePortal, effect);
                return Some(());
            }
        };
        let Some(used) = used else {
            self.put_begin(lane);
            self.pass(lane, front);
            return Some(());
        };
        self.wait_for_settings(lane, &used.statement)?;
        if self.wait_for_shape(lane, &used)? == Fit::Not {
            self.refuse_plan(lane, front, &used.statement);
            return Some(());
        }
        self.put_begin(lane);
        self.ensure(lane, &used.statement);
        let name = used.statement.server_name();
        lane.replace(front, front.body_bytes, &[b"S", name.as_bytes(), b"\0"]);
        let effect = if used.told.is_whole() {
            Effect::Uses(used.statement, used.name)
        } else {
            Effect::Describes(used.statement, used.name)
        };
        self.send(Kind::DescribeStatement, Asker::Client, effect);
        Some(())
    }

    /// The server closes what it does not have without an error: nobody but this client loses anything.
    fn close(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        if let Object::Statement(name) = extended::object(lane.body(front))
            && self.expected.is_undecided(name)
        {
            return self.hold(lane);
        }
        self.put_begin(lane);
        let pooled = self.pooled();
        let effect = match object(lane, front) {
            Object::Statement(b"") => {
                let effect = pooled.statements.drop_unnamed(&mut pooled.carried.prepared);
                // A Close drops it for certain.
                pooled.carried.prepared.unnamed = 0;
                effect
            }
            Object::Statement(name) => {
                if pooled.profile.has_statement(name) {
                    // It closes what SQL has prepared, too: Postgres says what is left.
                    pooled.facts.words |= Words::OBSCURE;
                }
                pooled.statements.close(name, &mut pooled.carried.prepared)
            }
            Object::Portal => {
                pooled.facts.bound.forget_untold();
                Effect::Nothing
            }
        };
        self.pass_as(lane, front, Kind::Close, effect);
        Some(())
    }
}

/// Whether a text may be of several statements.
fn may_be_several(body: &[u8]) -> bool {
    let text = body.trim_ascii_end();
    let text = text.strip_suffix(b"\0").unwrap_or(text).trim_ascii_end();
    text.strip_suffix(b";").unwrap_or(text).contains(&b';')
}

/// What a Describe or Close means, however it comes.
fn object(lane: &Lane, front: Front) -> Object<'_> {
    if front.body_bytes > OBJECT_BYTES_MAX {
        return Object::Portal;
    }
    extended::object(lane.body(front))
}
