//! What a client binds and executes, in transaction pooling: its names become the session's, and what a DEALLOCATE by
//! the extended protocol takes away is known before it is answered.

use std::sync::Arc;

use super::{Exchange, shapes::Fit};
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::sql_names::{Named, may_name};
use crate::session::statements::{Effect, Name, Statement, Used};
use crate::session::words::Words;
use crate::wire::extended::{self, BindNames};
use crate::wire::frame::Front;

/// Longest Bind whose names, and whose values where they may name a setting, are looked at.
const BIND_SEEN_MAX: usize = 64 * 1024;
/// Most portals of DEALLOCATE at a time; drivers have one.
const ENDS_MAX: usize = 16;

/// What is remembered of portals.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Those of DEALLOCATE and DISCARD, with the names that they speak of, the last one first; none: of all.
    pub(super) ends: Vec<(Box<[u8]>, Vec<Name>)>,
    /// The one that was bound last, where the client does not know what the statement's rows are.
    untold: Option<Untold>,
}

impl Bound {
    /// The portal may be gone, and its name be another's: SQL has cursors by the same names.
    pub(super) fn forget_untold(&mut self) {
        self.untold = None;
    }
}

#[derive(Debug)]
struct Untold {
    portal: Box<[u8]>,
    statement: Arc<Statement>,
    name: Name,
}

impl Exchange<'_> {
    pub(super) fn bind(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let body = lane.body(front);
        let Ok(names) = extended::bind_names(body) else {
            self.see_more_of_bind(front, body.len())?;
            self.put_begin(lane);
            self.pass(lane, front);
            return Some(());
        };
        let (portal, statement) = (Box::<[u8]>::from(names.portal), names.statement);
        let is_undecided = match statement {
            b"" => self.expected.is_unnamed_undecided(),
            name => self.expected.is_undecided(name),
        };
        if is_undecided {
            return self.hold(lane);
        }
        let seen = self.seen_of(statement);
        if seen.words.has(Words::NAME_BOUND) {
            self.see_more_of_bind(front, body.len())?;
            let facts = self.facts();
            facts.note_values(body);
            if front.body_bytes > BIND_SEEN_MAX {
                facts.words |= Words::NAME_UNSEEN;
            }
        }
        let named = self.named_in(statement, seen.words);
        let used = self.used(names);
        self.wait_at_gate(lane, seen.words)?;
        self.put_aliases(lane, &named)?;
        if let Use::Known(_, used) = &used {
            self.wait_for_settings(lane, &used.statement)?;
            if self.wait_for_shape(lane, used)? == Fit::Not {
                self.refuse_plan(lane, front, &used.statement);
                return Some(());
            }
        }
        let runs = self.seen_of_all(&named);
        self.wait_to_pin(seen.words | runs.words)?;
        self.note(&seen);
        self.note(&runs);
        self.note_settings(seen.words | runs.words);
        self.note_reset(seen.words | runs.words);
        self.commit_possible |= seen.words.has(Words::MAY_COMMIT);
        if !self.may_pin(seen.words | runs.words) {
            self.refuse_pin(lane, front, Kind::Parse);
            return Some(());
        }
        self.put_begin(lane);
        self.hide_begin(lane, seen.words);
        self.put_stand_ins(lane, &named);
        self.note_bound(&portal, &used, seen.words | runs.words, named);
        match used {
            Use::Unnamed => {
                self.ensure_unnamed(lane);
                self.pass(lane, front);
            }
            Use::Unknown(name) => {
                self.close_stand_in(lane, &name);
                self.pass(lane, front);
            }
            Use::Known(bytes, used) => {
                self.ensure(lane, &used.statement);
                let name = used.statement.server_name();
                lane.replace(front, bytes, &[&portal, b"\0", name.as_bytes(), b"\0"]);
                self.send(Kind::Bind, Asker::Client, Effect::Uses(used.statement, used.name));
            }
        }
        Some(())
    }

    fn used(&mut self, names: BindNames<'_>) -> Use {
        if names.statement.is_empty() {
            let moved = self.moved_unnamed();
            return moved.map_or(Use::Unnamed, |used| Use::Known(names.bytes, used));
        }
        match self.use_of(names.statement) {
            Some(mut used) => {
                if names.statement_whole.len() > names.statement.len() {
                    // Postgres speaks of it as its client does.
                    used.name = names.statement_whole.into();
                }
                Use::Known(names.bytes, used)
            }
            None => Use::Unknown(names.statement.into()),
        }
    }

    /// `None`: as much of a Bind as is ever looked at has not come yet.
    fn see_more_of_bind(&mut self, front: Front, have: usize) -> Option<()> {
        let all = front.body_bytes.min(BIND_SEEN_MAX);
        if have >= all {
            return Some(());
        }
        self.facts().seen_min = all;
        None
    }

    fn note_bound(&mut self, portal: &[u8], used: &Use, words: Words, named: Vec<Named>) {
        let bound = &mut self.facts().bound;
        bound.untold = match used {
            Use::Known(_, used) if !used.told.has_rows() => Some(Untold {
                portal: portal.into(),
                statement: used.statement.clone(),
                name: used.name.clone(),
            }),
            _ => None,
        };
        bound.ends.retain(|(other, _)| **other != *portal);
        if words.has(Words::DISCARD | Words::DEALLOCATE) {
            if bound.ends.len() == ENDS_MAX {
                bound.ends.remove(0);
            }
            let gone = named.into_iter().rev().filter(Named::deallocates);
            bound
                .ends
                .push((portal.into(), gone.map(|named| named.name).collect()));
        }
    }

    pub(super) fn execute(&mut self, lane: &mut Lane, front: Front) {
        self.commit_possible |= self.commit_prepared;
        self.facts().has_run = true;
        self.put_begin(lane);
        let portal = text(lane.body(front));
        let mut ends = self.facts().bound.ends.iter();
        let effect = match ends.find(|(end, _)| **end == *portal) {
            Some((_, names)) => Effect::Deallocates(names.clone(), Box::default()),
            None => Effect::Nothing,
        };
        self.pass_as(lane, front, Kind::Execute, effect);
    }

    /// The statement of a portal that is described, where the client learns by that what its rows are.
    pub(super) fn describes(&mut self, portal: &[u8]) -> Effect {
        match &self.facts().bound.untold {
            Some(untold) if *untold.portal == *portal => {
                Effect::Describes(untold.statement.clone(), untold.name.clone())
            }
            _ => Effect::Nothing,
        }
    }

    /// A statement's text.
    fn text_of(&self, name: &[u8]) -> Option<&[u8]> {
        let statements = &self.pooled.as_ref()?.statements;
        let behind_name = match name {
            b"" => &statements.unnamed()?.behind_name[..],
            name => &statements.get(name)?.behind_name,
        };
        Some(text(behind_name))
    }

    /// What a statement runs is on the session under the name that its client gave it: its rows are those of that.
    pub(super) fn put_aliases_of(&mut self, lane: &mut Lane, name: &[u8]) -> Option<()> {
        let words = self.seen_of(name).words;
        let named = self.named_in(name, words);
        self.put_aliases(lane, &named)
    }

    /// The statements that a statement speaks of by the names that its client gave them.
    fn named_in(&self, name: &[u8], words: Words) -> Vec<Named> {
        // Few do: the text of the others is not even looked for.
        if !may_name(words) {
            return Vec::new();
        }
        self.text_of(name)
            .map(|text| self.named(text, words))
            .unwrap_or_default()
    }
}

/// The statement that a Bind means.
enum Use {
    Unnamed,
    /// One that nobody knows.
    Unknown(Box<[u8]>),
    /// With the length of both names.
    Known(usize, Used),
}

/// What stands in front of the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
