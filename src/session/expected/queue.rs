//! Requests without their answer, in order, and what they leave undecided for whatever is sent behind them.
//!
//! Almost none decides anything: then these questions cost nothing, however long the queue is.

use std::collections::VecDeque;

use super::{Entry, Kind};
use crate::session::statements::Effect;

/// An emptied queue keeps room for so many.
const KEPT_ROOM: usize = 16;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// How many of them decide what a name stands for, or whether a statement is on the session.
    deciding: usize,
    /// How many decide what the unnamed statement is.
    unnamed: usize,
    /// How many of these stand in front of the last Sync.
    unnamed_earlier: usize,
    /// How many requests there ever were.
    pushed: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Whether the entry at this place is of this kind.
    pub(super) fn is(&self, at: usize, kind: Kind) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.kind == kind)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    pub(super) fn effects(&mut self) -> impl DoubleEndedIterator<Item = &mut Effect> {
        self.entries.iter_mut().map(|entry| &mut entry.effect)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.deciding += usize::from(entry.effect.decides());
        self.unnamed += usize::from(entry.effect.is_about_unnamed());
        if entry.kind.ends_with_ready() {
            self.unnamed_earlier = self.unnamed;
        }
        self.entries.push_back(entry);
        self.pushed += 1;
    }

    /// The number of the next request; all have one, in the order in which they are sent.
    pub(super) fn next(&self) -> u64 {
        self.pushed
    }

    /// The number of the first request that has not been answered.
    pub(super) fn first(&self) -> u64 {
        self.pushed - self.entries.len() as u64
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.taken(&entry.effect);
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ROOM {
            self.entries.shrink_to(KEPT_ROOM);
        }
        Some(entry)
    }

    /// Takes out the one behind the front.
    pub(super) fn take_second(&mut self) -> Option<Entry> {
        let entry = self.entries.remove(1)?;
        self.taken(&entry.effect);
        Some(entry)
    }

    /// Takes out everything in front of the next Sync; says whether there is one.
    pub(super) fn take_to_sync(&mut self) -> (Vec<Entry>, bool) {
        let sync = self.entries.iter().position(|entry| entry.kind == Kind::Sync);
        let end = sync.unwrap_or(self.entries.len());
        let taken: Vec<_> = self.entries.drain(..end).collect();
        taken.iter().for_each(|entry| self.taken(&entry.effect));
        (taken, sync.is_some())
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> {
        let pushed = self.pushed;
        let taken = std::mem::take(self).entries.into_iter();
        self.pushed = pushed;
        taken
    }

    /// Takes out all that would be changed, the latest first.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        (self.deciding, self.unnamed, self.unnamed_earlier) = (0, 0, 0);
        self.effects().rev().map(std::mem::take).collect()
    }

    fn taken(&mut self, effect: &Effect) {
        self.deciding -= usize::from(effect.decides());
        if effect.is_about_unnamed() {
            self.unnamed -= 1;
            // What is taken out stands at the front.
            self.unnamed_earlier = self.unnamed_earlier.saturating_sub(1);
        }
    }

    /// How many stand in front of the last Sync, with it.
    fn earlier(&self) -> usize {
        let last = self
            .entries
            .iter()
            .rposition(|entry| entry.kind.ends_with_ready());
        last.map_or(0, |last| last + 1)
    }

    /// Whether something decides what a name stands for. In front of an unanswered Sync that is anything about it: if
    /// it fails, what is sent behind the Sync meets another meaning. Behind the last Sync all of it is ignored together,
    /// so there it is only what takes meanings away by being executed.
    pub(super) fn is_undecided(&self, name: &[u8]) -> bool {
        if self.deciding == 0 {
            return false;
        }
        let earlier = self.earlier();
        let mut entries = self.entries.iter().enumerate();
        entries.any(|(at, entry)| {
            let decides = at < earlier || entry.kind == Kind::Execute;
            decides && entry.effect.is_about(name)
        })
    }

    /// The same for a statement: whether it is on the session.
    pub(super) fn is_statement_undecided(&self, id: u64) -> bool {
        if self.deciding == 0 {
            return false;
        }
        let mut entries = self.entries.iter().take(self.earlier());
        entries.any(|entry| entry.effect.is_about_statement(id))
    }

    /// The same for the unnamed statement, where nothing behind the last Sync has decided it anew.
    pub(super) fn is_unnamed_undecided(&self) -> bool {
        self.unnamed > 0 && self.unnamed == self.unnamed_earlier
    }
}
