//! What a client prepares, in transaction pooling: its names become the session's, unless the session has the same
//! statement already.

use super::Exchange;
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::statements::{Effect, Seen};
use crate::session::words::{Scan, Words};
use crate::wire::extended;
use crate::wire::frame::Front;

impl Exchange<'_> {
    /// `None`: not now.
    pub(super) fn parse(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let body = lane.body(front);
        // However it comes.
        let is_whole = self.may_be_seen_whole(front);
        let parse = match extended::parse(body) {
            Some(parse) if is_whole => parse,
            None if is_whole => {
                self.pass_misshapen(lane, front, Kind::Parse);
                return Some(());
            }
            // Too long to be remembered.
            _ => return self.parse_unmovable(lane, front),
        };
        if self.expected.is_undecided(parse.name) {
            return self.hold(lane);
        }
        let mut scan = Scan::default();
        scan.feed(parse.query, self.pooled().functions);
        let seen = self.finish_scan(&mut scan);
        let is_unnamed = parse.name.is_empty();
        let is_unmovable = self.is_unmovable(parse.name, parse.behind_name);
        let named = self.named(parse.query, seen.words);
        if !is_unnamed {
            self.wait_for_profile()?;
        }
        self.wait_at_gate(lane, seen.words)?;
        self.put_aliases(lane, &named)?;
        if is_unmovable {
            return self.parse_unmovable(lane, front);
        }
        let commits = seen.words.has(Words::MAY_COMMIT);
        self.commit_possible |= commits;
        self.commit_prepared |= commits && !is_unnamed;
        self.put_begin(lane);
        if is_unnamed {
            let pooled = self.pooled();
            let prepared = &mut pooled.carried.prepared;
            let effect = pooled.statements.replace_unnamed(
                lane.body(front).get(1..).unwrap_or_default(),
                seen,
                pooled.profile,
                prepared,
            );
            let serial = prepared.unnamed;
            pooled.statements.count_unnamed(pooled.texts);
            if self.has_unknown_settings() {
                self.note_unsettled(b"", serial);
            }
            self.pass_as(lane, front, Kind::Parse, effect);
        } else {
            self.parse_named(lane, front, seen);
        }
        Some(())
    }

    /// Whether a name would be one more than the client may have, or its text more than all clients together; or the name may
    /// stand for such a one already, as Postgres knows.
    fn is_unmovable(&mut self, name: &[u8], behind_name: &[u8]) -> bool {
        if name.is_empty() {
            return !self.pooled().texts.has_room_unnamed(behind_name);
        }
        let is_shared = !self.has_unknown_settings();
        let pooled = self.pooled();
        let (texts, profile) = (&pooled.texts, pooled.profile);
        let may_be_kept =
            || texts.has_room(behind_name, profile) || is_shared && texts.knows(behind_name, profile);
        let has_room = pooled.statements.len() < pooled.limits.statements_max && may_be_kept();
        pooled.statements.is_long(name) || !has_room && pooled.statements.get(name).is_none()
    }

    fn parse_named(&mut self, lane: &mut Lane, front: Front, seen: Seen) {
        let body = lane.body(front).to_vec();
        let Some(parse) = extended::parse(&body) else {
            return self.pass(lane, front);
        };
        let (name, behind_name) = (parse.name, parse.behind_name);
        let name_bytes = body.len() - behind_name.len();
        if self.pooled().statements.get(name).is_some() {
            // Postgres says so itself once it has that name on the session, too.
            self.put_stand_in(lane, name);
            return self.pass(lane, front);
        }
        // SQL may have prepared one of this name, in this turn or before, and may have taken it away since; or it is no text in
        // the client's encoding: Postgres says so.
        let name_whole = &body[..name_bytes - 1];
        let is_sqls = self.pooled().profile.has_statement(name);
        if is_sqls || self.facts().words.has(Words::PREPARE) || !name_whole.is_ascii() {
            self.try_name(lane, name_whole, behind_name);
        }
        let is_certain = self.expected.is_certain();
        // Nobody knows yet under which ones it is prepared.
        let own = self.has_unknown_settings();
        let pooled = self.pooled();
        let mut statement = if own {
            pooled
                .texts
                .own_statement(behind_name.into(), pooled.profile, seen)
        } else {
            pooled.texts.statement(behind_name, pooled.profile, seen)
        };
        if self.is_there(statement.id) {
            let pooled = self.pooled();
            if is_certain {
                let name = pooled.statements.name(name, statement);
                lane.skip(front);
                return self.send(Kind::SayParsed, Asker::Client, Effect::Named(name));
            }
            // In a failed transaction Postgres refuses it, so it must be asked.
            let (text, seen) = (statement.behind_name.clone(), statement.seen.clone());
            statement = pooled.texts.own_statement(text, pooled.profile, seen);
        }
        self.close_if_there(lane, &statement);
        self.make_room(lane);
        if own {
            self.note_unsettled(name, statement.id);
        }
        let pooled = self.pooled();
        pooled.carried.prepared.put(statement.id);
        let (id, server_name) = (statement.id, statement.server_name().clone());
        let effect = Effect::Put(id, Some(pooled.statements.name(name, statement)));
        lane.replace(front, name_bytes, &[server_name.as_bytes(), b"\0"]);
        self.send(Kind::Parse, Asker::Client, effect);
    }
}
