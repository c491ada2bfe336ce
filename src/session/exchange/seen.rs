//! What is seen of what a message runs, where its text has come before, or never comes.

use super::Exchange;
use crate::session::lane::Lane;
use crate::session::sql_names::{Known, Named, named_in_sql};
use crate::session::statements::Seen;
use crate::session::words::{FunctionWords, Scan, Words};
use crate::wire::frame::Front;

/// The numbers of functions whose work Postgres does not show, the same in all its versions.
const SET_CONFIG: u32 = 2078;
const SETSEED: u32 = 1599;
const NEXTVAL: u32 = 1574;
const CURRVAL: u32 = 1575;
const LASTVAL: u32 = 2559;
/// With two arguments, and with three.
const SETVAL: [u32; 2] = [1576, 1765];

impl Exchange<'_> {
    /// The statements that a text speaks of by their names.
    pub(super) fn named(&self, text: &[u8], words: Words) -> Vec<Named> {
        let Some(pooled) = &self.pooled else {
            return Vec::new();
        };
        let known = Known {
            statements: pooled.statements,
            lacking: &pooled.facts.lacking,
            is_decided: !self.expected.is_any_undecided(),
        };
        named_in_sql(text, words, &known)
    }

    /// What the text of a prepared statement shows.
    pub(super) fn seen_of(&mut self, name: &[u8]) -> Seen {
        let pooled = self.pooled();
        let functions = pooled.functions.map_or(0, FunctionWords::serial);
        let (seen, behind_name) = match (name, pooled.statements.unnamed()) {
            (b"", Some(unnamed)) => (&unnamed.seen, &unnamed.behind_name[..]),
            (b"", None) => return Seen::default(),
            (name, _) => match pooled.statements.get(name) {
                Some(statement) => (&statement.seen, &*statement.behind_name),
                None => return pooled.statements.seen_of_long(Some(name)),
            },
        };
        // Of a long one nothing else is known.
        if seen.functions == functions || (name.is_empty() && pooled.statements.has_long_unnamed()) {
            return seen.clone();
        }
        // Functions have changed since, or it was first prepared in another database.
        let mut scan = Scan::default();
        let text = behind_name.split(|byte| *byte == 0).next().unwrap_or_default();
        scan.feed(text, pooled.functions);
        self.finish_scan(&mut scan)
    }

    /// What the statements show that a text runs by their names.
    pub(super) fn seen_of_all(&mut self, named: &[Named]) -> Seen {
        let mut all = Seen::default();
        for named in named.iter().filter(|named| named.run().is_some()) {
            let seen = self.seen_of(&named.name);
            all.words |= seen.words;
            all.names.extend(&seen.names);
        }
        all
    }

    /// What a function does that is called by its number shows in no text and no tag. `None`: something must happen first.
    pub(super) fn call(&mut self, lane: &mut Lane, front: Front) -> Option<()> {
        let function = lane.body(front).first_chunk().copied().map(u32::from_be_bytes);
        if matches!(function, Some(LASTVAL | CURRVAL)) {
            self.wait_at_gate(lane, Words::SEQUENCE_READ)?;
        }
        let body = lane.body(front);
        let is_whole = body.len() == front.body_bytes;
        let facts = self.facts();
        facts.words |= Words::OBSCURE;
        facts.note_values(body);
        match function {
            Some(SET_CONFIG) if is_whole => facts.words |= Words::SET_CONFIG,
            Some(SET_CONFIG) => facts.words |= Words::NAME_UNSEEN,
            Some(SETSEED) => facts.words |= Words::SETSEED,
            Some(LASTVAL | CURRVAL) => facts.words |= Words::SEQUENCE_READ,
            Some(NEXTVAL) => facts.words |= Words::NEXTVAL,
            Some(function) if SETVAL.contains(&function) => facts.words |= Words::NEXTVAL,
            _ => (),
        }
        Some(())
    }
}
