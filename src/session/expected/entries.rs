//! Entries in order. Most turns have one: that is no reason for an allocation.

use std::collections::VecDeque;

use super::Entry;

/// When it is empty it keeps room for so many.
const KEPT_ROOM: usize = 16;

/// The entries; those behind the first are in a queue of their own, which is empty where there is no first.
#[derive(Debug, Default)]
pub(super) struct Entries {
    first: Option<Entry>,
    behind: VecDeque<Entry>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.behind.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.first.as_ref()
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Entry> {
        self.first.as_mut()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Entry> {
        self.behind.back_mut().or(self.first.as_mut())
    }

    pub(super) fn get(&self, at: usize) -> Option<&Entry> {
        match at.checked_sub(1) {
            None => self.first(),
            Some(at) => self.behind.get(at),
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.first.iter().chain(&self.behind)
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.first.iter_mut().chain(&mut self.behind)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match &self.first {
            None => self.first = Some(entry),
            Some(_) => self.behind.push_back(entry),
        }
    }

    /// Takes out the first.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.first.take()?;
        self.move_up();
        Some(entry)
    }

    /// Takes out the one behind the first.
    pub(super) fn pop_second(&mut self) -> Option<Entry> {
        self.behind.pop_front()
    }

    /// Takes out this many from the front.
    pub(super) fn take(&mut self, count: usize) -> Vec<Entry> {
        if count == 0 {
            return Vec::new();
        }
        let taken = self
            .first
            .take()
            .into_iter()
            .chain(self.behind.drain(..count - 1))
            .collect();
        self.move_up();
        taken
    }

    fn move_up(&mut self) {
        if self.behind.capacity() == 0 {
            return;
        }
        self.first = self.behind.pop_front();
        if self.behind.is_empty() && self.behind.capacity() > KEPT_ROOM {
            self.behind.shrink_to(KEPT_ROOM);
        }
    }
}

impl IntoIterator for Entries {
    type Item = Entry;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<Entry>, std::collections::vec_deque::IntoIter<Entry>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.behind)
    }
}
