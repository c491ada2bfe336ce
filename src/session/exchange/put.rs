//! What pgwake adds to what a client says: statements that its session lacks, the BEGIN that was answered before.
//!
//! Everything here is sent in front of a message of the client's, in the same write; its answers are kept from the
//! client.

use std::sync::Arc;

use super::{Exchange, Scanned};
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::sql_names::{Does, Named};
use crate::session::statements::{Effect, Name, OWN_NAMES, Place, Seen, ServerName, Statement, Used};
use crate::session::words::{FunctionWords, Scan, Words};
use crate::wire::extended;
use crate::wire::frame::Front;

impl<'a> Exchange<'a> {
    /// The BEGIN that the client has had the answer to. By the extended protocol and without Sync: if it fails, the
    /// server ignores what comes behind it, and nothing of the client's transaction commits by itself. The client, which
    /// said it by a simple Query, finds no portal of it.
    pub(super) fn put_begin(&mut self, lane: &mut Lane) {
        if self.put_begin_alone(lane) {
            put(lane, b'C', &[b"P\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::Nothing);
        }
    }

    /// The same ahead of a simple Query, which drops the unnamed portal itself. Says whether there is one.
    pub(super) fn put_begin_alone(&mut self, lane: &mut Lane) -> bool {
        let pooled = self.pooled();
        if !std::mem::take(&mut pooled.facts.begins) {
            return false;
        }
        if !std::mem::replace(&mut pooled.carried.prepared.begin, true) {
            put(lane, b'P', &[&OWN_NAMES.begin, b"\0BEGIN\0\0\0"]);
            self.send(Kind::Parse, Asker::Pgwake, Effect::BeginPut);
        }
        put(lane, b'B', &[b"\0", &OWN_NAMES.begin, &[0; 7]]);
        self.send(Kind::Bind, Asker::Pgwake, Effect::Begins);
        put(lane, b'E', &[b"\0", &[0; 4]]);
        self.send(Kind::Execute, Asker::Pgwake, Effect::Begins);
        self.expected.begins();
        true
    }

    /// What shows the statements of the session does not show pgwake's own BEGIN, which may have been put there for it.
    pub(super) fn hide_begin(&mut self, lane: &mut Lane, words: Words) {
        let prepared = &mut self.pooled().carried.prepared;
        if words.has(Words::STATEMENTS_READ) && std::mem::take(&mut prepared.begin) {
            put(lane, b'C', &[b"S", &OWN_NAMES.begin, b"\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::BeginClosed);
        }
    }

    /// No statement is on the session that is none of the client's.
    pub(super) fn close_others(&mut self, lane: &mut Lane) {
        let pooled = self.pooled();
        for id in pooled.carried.prepared.evict_others(pooled.statements) {
            put(lane, b'C', &[b"S", ServerName::of(id).as_bytes(), b"\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::Evicted(id));
        }
    }

    /// A stranger's numbers are gone, within the client's own pipeline.
    pub(super) fn put_discard(&mut self, lane: &mut Lane) {
        let discard = &*OWN_NAMES.discard;
        // An error may have left it there.
        self.put_close(lane, b"S", discard);
        put(lane, b'P', &[discard, b"\0DISCARD SEQUENCES\0\0\0"]);
        self.send(Kind::Parse, Asker::Pgwake, Effect::Nothing);
        put(lane, b'B', &[discard, b"\0", discard, &[0; 7]]);
        self.send(Kind::Bind, Asker::Pgwake, Effect::Nothing);
        put(lane, b'E', &[discard, &[0; 5]]);
        self.send(Kind::Execute, Asker::Pgwake, Effect::DiscardsSequences);
        self.put_close(lane, b"P", discard);
        self.put_close(lane, b"S", discard);
    }

    fn put_close(&mut self, lane: &mut Lane, of: &[u8], name: &[u8]) {
        put(lane, b'C', &[of, name, b"\0"]);
        self.send(Kind::Close, Asker::Pgwake, Effect::Nothing);
    }

    /// A client's statement has the name on the session that its client gave it.
    pub(super) fn put_alias(&mut self, lane: &mut Lane, name: &Name, statement: &Statement) {
        if self.pooled().carried.prepared.aliases.has_statement(name) {
            return;
        }
        self.close_stand_in(lane, name);
        let pooled = self.pooled();
        pooled.carried.prepared.aliases.put_statement(name.clone());
        pooled.statements.alias(name);
        put(lane, b'P', &[name, b"\0", &statement.behind_name]);
        self.send(Kind::Parse, Asker::Pgwake, Effect::Aliased(name.clone()));
    }

    /// Something has a name of the client's on the session, where SQL or another Parse finds it.
    pub(super) fn put_stand_in(&mut self, lane: &mut Lane, name: &[u8]) {
        let ignores = self.expected.ignores();
        let pooled = self.pooled();
        if ignores || pooled.carried.prepared.aliases.has(name) {
            return;
        }
        pooled.carried.prepared.aliases.put_stand_in(name.into());
        pooled.statements.alias(name);
        // A function may have prepared one of this name, unseen: an error would have the server ignore the Query behind it.
        self.put_close(lane, b"S", name);
        put(lane, b'P', &[name, b"\0\0\0\0"]);
        self.send(Kind::Parse, Asker::Pgwake, Effect::Aliased(name.into()));
    }

    /// The same of all that SQL only finds by their names: what it runs cannot be stood in for.
    pub(super) fn put_stand_ins(&mut self, lane: &mut Lane, named: &[Named]) {
        let is_run = |name: &Name| {
            named
                .iter()
                .any(|named| named.does == Does::Run && named.name == *name)
        };
        let found = named
            .iter()
            .filter(|named| named.is_known() && !is_run(&named.name));
        found.for_each(|named| self.put_stand_in(lane, &named.name));
    }

    /// Nothing is run that only stands in for something.
    pub(super) fn close_stand_in(&mut self, lane: &mut Lane, name: &[u8]) {
        let ignores = self.expected.ignores();
        let aliases = &mut self.pooled().carried.prepared.aliases;
        if aliases.has_stand_in(name) && !ignores {
            aliases.remove(name);
            put(lane, b'C', &[b"S", name, b"\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::StandInClosed(name.into()));
        }
    }

    /// Postgres refuses a name that SQL has taken; and first what it would refuse under any name.
    pub(super) fn try_name(&mut self, lane: &mut Lane, name: &[u8], behind_name: &[u8]) {
        if self.expected.ignores() || self.pooled().carried.prepared.aliases.has(name) {
            return;
        }
        put(lane, b'P', &[name, b"\0", behind_name]);
        self.send(Kind::Parse, Asker::Pgwake, Effect::Nothing);
        self.put_close(lane, b"S", name);
    }

    /// A client's statement is on the session.
    pub(super) fn ensure(&mut self, lane: &mut Lane, statement: &Arc<Statement>) {
        if self.is_there(statement.id) {
            return;
        }
        let is_foreign = self.has_unknown_settings() || !statement.suits(self.pooled().profile);
        self.close_if_there(lane, statement);
        self.make_room(lane);
        let pooled = self.pooled();
        if is_foreign {
            pooled.carried.prepared.put_foreign(statement.id);
            pooled.facts.foreign.push(statement.id);
        } else {
            pooled.carried.prepared.put(statement.id);
        }
        let name = statement.server_name();
        put(lane, b'P', &[name.as_bytes(), b"\0", &statement.behind_name]);
        self.send(Kind::Parse, Asker::Pgwake, Effect::Put(statement.id, None));
    }

    /// Whether a statement is on the session, and is what its client means by it.
    pub(super) fn is_there(&mut self, id: u64) -> bool {
        let pooled = self.pooled();
        let prepared = &mut pooled.carried.prepared;
        (!prepared.is_foreign(id) || pooled.facts.foreign.contains(&id)) && prepared.uses(id)
    }

    /// Its name is free on the session.
    pub(super) fn close_if_there(&mut self, lane: &mut Lane, statement: &Statement) {
        let prepared = &mut self.pooled().carried.prepared;
        if prepared.shape(statement.id).is_some() {
            prepared.lost(statement.id);
            put(lane, b'C', &[b"S", statement.server_name().as_bytes(), b"\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::Evicted(statement.id));
        }
    }

    /// The client's unnamed statement is on the session, or none where it has none: a stranger's is never run.
    pub(super) fn ensure_unnamed(&mut self, lane: &mut Lane) {
        let pooled = self.pooled();
        let prepared = &mut pooled.carried.prepared;
        let before = prepared.unnamed;
        let wanted = pooled.statements.unnamed().map_or(0, |unnamed| unnamed.serial);
        if before == wanted {
            return;
        }
        prepared.unnamed = wanted;
        // A long one that is not there any more is nowhere: Postgres says so.
        let is_lost = pooled.statements.has_long_unnamed();
        let kind = match pooled.statements.unnamed().filter(|_| !is_lost) {
            Some(unnamed) => {
                put(lane, b'P', &[b"\0", &unnamed.behind_name]);
                Kind::Parse
            }
            None => {
                put(lane, b'C', &[b"S\0"]);
                Kind::Close
            }
        };
        self.send(kind, Asker::Pgwake, Effect::UnnamedPut(before));
    }

    /// The client's unnamed statement as one with a name, where the session would make something else of its text.
    pub(super) fn moved_unnamed(&mut self) -> Option<Used> {
        let is_known = !self.has_unknown_settings();
        let pooled = self.pooled();
        let profile = is_known.then_some(&**pooled.profile);
        let prepared = &pooled.carried.prepared;
        pooled.statements.moved_unnamed(pooled.texts, profile, prepared)
    }

    /// A statement is being prepared under settings that Postgres has not told yet.
    pub(super) fn note_unsettled(&mut self, name: &[u8], id: u64) {
        let (request, since) = (self.expected.next(), self.expected.since_ready());
        let pooled = self.pooled();
        let place = Place {
            request,
            since,
            is_careful: pooled.is_careful && pooled.facts.has_run,
        };
        let facts = &mut pooled.facts;
        facts
            .unsettled
            .note(name.into(), id, place, &pooled.carried.reported);
    }

    /// There is room for one more statement on the session.
    pub(super) fn make_room(&mut self, lane: &mut Lane) {
        let pooled = self.pooled();
        let max = pooled.limits.statements_max;
        for id in pooled.carried.prepared.evict(max) {
            put(lane, b'C', &[b"S", ServerName::of(id).as_bytes(), b"\0"]);
            self.send(Kind::Close, Asker::Pgwake, Effect::Evicted(id));
        }
    }

    /// Nobody knows how many ReadyForQuery are to come; behind this one there are none.
    pub(super) fn put_fence(&mut self, lane: &mut Lane) {
        // No portal has this name: closing it does nothing.
        put(lane, b'C', &[b"P", &OWN_NAMES.begin, b"\0"]);
        self.send(Kind::Fence, Asker::Pgwake, Effect::Nothing);
        put(lane, b'S', &[]);
        self.send(Kind::Sync, Asker::Pgwake, Effect::Nothing);
    }

    /// It keeps the client's own name, and the session stays with this client, which may be one too many, until the statement is
    /// gone. `None`: not now.
    pub(super) fn parse_unmovable(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let name = extended::parse_name(lane.body(front)).map(Name::from);
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            if self.expected.is_undecided(name) {
                return self.hold(lane);
            }
            if self.pooled().statements.get(name).is_some() {
                self.put_begin(lane);
                // Postgres says so itself once it has that name on the session, too.
                self.put_stand_in(lane, name);
                self.pass_as(lane, front, Kind::Parse, Effect::Nothing);
                return Some(());
            }
        }
        self.wait_for_pin()?;
        if !self.has_pin() {
            self.refuse_pin(lane, front, Kind::Parse);
            return Some(());
        }
        // What it says is not known before all of it has come.
        (self.commit_possible, self.commit_prepared) = (true, true);
        self.put_begin(lane);
        let mut scan = Scan::default();
        let mut parts = lane.body(front).splitn(2, |byte| *byte == 0);
        let begins = parts.nth(1).unwrap_or_default();
        scan.feed(begins, self.pooled().functions);
        let pooled = self.pooled();
        let prepared = &mut pooled.carried.prepared;
        let (effect, of) = match name {
            Some(name) if name.is_empty() => {
                let effect = pooled.statements.replace_unnamed_by_long(prepared);
                (Some(effect), Scanned::Unnamed(prepared.unnamed))
            }
            Some(name) => (pooled.statements.prepare_long(&name), Scanned::Named),
            None => (None, Scanned::Named),
        };
        pooled.facts.unmovable |= effect.is_none();
        pooled.facts.scan = effect.is_some().then(|| (Box::new(scan), of));
        self.pass_as(lane, front, Kind::Parse, effect.unwrap_or_default());
        Some(())
    }

    /// A message that the server refuses before it does anything with it.
    pub(super) fn pass_misshapen(&mut self, lane: &mut Lane, front: Front, kind: Kind) {
        self.put_begin(lane);
        self.pass_as(lane, front, kind, Effect::Nothing);
    }

    /// What a text shows counts for the turn.
    pub(super) fn note(&mut self, seen: &Seen) {
        let facts = self.facts();
        facts.words |= seen.words;
        facts.names.extend(&seen.names);
    }

    /// Behind a reset the session may have the name of another client's application.
    pub(super) fn note_reset(&mut self, words: Words) {
        let pooled = self.pooled();
        pooled.facts.is_reset |= words.may_reset() && pooled.own_application() != pooled.carried.opened_as;
    }

    /// What prepares something, and what sets something that it depends on.
    pub(super) fn note_settings(&mut self, words: Words) {
        let (since, next) = (self.expected.since_ready(), self.expected.next());
        let sets = self.may_set(words);
        let unsettled = &mut self.facts().unsettled;
        if sets {
            unsettled.sets(next, since);
        }
        if words.has(Words::SET_LOCAL_MEANING) {
            unsettled.sets_locally(next);
        }
        if words.has(Words::PREPARE) {
            unsettled.prepares(next);
        }
    }

    /// Whether a text may set something; EXECUTE does where a statement of SQL's does that it may mean.
    pub(super) fn may_set(&mut self, words: Words) -> bool {
        let sets = |words: Words| {
            words
                .without(Words::EXECUTE)
                .has(Words::SETTINGS | Words::SET_LOCAL_MEANING)
        };
        let pooled = self.pooled();
        let functions = pooled.functions;
        let executed = || pooled.facts.words | pooled.profile.statement_words(functions);
        sets(words) || (words.has(Words::EXECUTE) && sets(executed()))
    }

    pub(super) fn finish_scan(&mut self, scan: &mut Scan) -> Seen {
        let functions = self.pooled().functions;
        let words = scan.finish(functions);
        let names = scan.take_names();
        Seen {
            words,
            names,
            functions: functions.map_or(0, FunctionWords::serial),
        }
    }

    /// Looks on in a text that comes in pieces.
    pub(super) fn scan_rest(&mut self, lane: &mut Lane) {
        let Some((mut scan, of)) = self.facts().scan.take() else {
            return;
        };
        scan.feed(lane.rest(), self.pooled().functions);
        lane.pass_rest();
        if !lane.is_between_seen_messages() {
            self.facts().scan = Some((scan, of));
            return;
        }
        let seen = self.finish_scan(&mut scan);
        match of {
            Scanned::Unnamed(serial) => self.pooled().statements.see_long_unnamed(serial, seen),
            Scanned::Named => self.pooled().statements.see_long(seen),
            Scanned::Query => {
                self.note(&seen);
                if seen.words.has(Words::DISCARD | Words::DEALLOCATE) {
                    self.expected.takes_any_name();
                }
            }
        }
    }
}

/// A message of pgwake's own.
pub(super) fn put(lane: &mut Lane, tag: u8, body: &[&[u8]]) {
    let length = 4 + body.iter().map(|part| part.len()).sum::<usize>();
    // Texts that are remembered are far shorter than the longest message.
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    lane.put(&[&[tag], &length]);
    lane.put(body);
}
