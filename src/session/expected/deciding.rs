//! What requests on their way leave undecided for whatever is sent behind them: by what they are about, so that a
//! question costs the same however many they are.
//!
//! It knows requests by their numbers alone: the queue says which ones are answered, and where its last Sync stands.

use foldhash::HashMap;

use crate::session::statements::{Effect, Name, Subject};

/// Requests that decide what names stand for, and which statements are on the session. A request is told by its end, the
/// number of the one behind it: 0 is none.
#[derive(Debug, Default)]
pub(super) struct Deciding {
    names: HashMap<Name, Last>,
    statements: HashMap<u64, Last>,
    any_name: Last,
}

/// The last requests about the same.
#[derive(Debug, Default, Clone, Copy)]
struct Last {
    /// The last one.
    sent: u64,
    /// The last of those that decide also for what is sent behind no Sync.
    decides: u64,
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) end: u64,
    /// Whether it decides also for what is sent behind no Sync.
    pub(super) at_once: bool,
}

/// Where a queue stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The number of the first request without its answer.
    pub(super) first: u64,
    /// The end of the last one that ends with ReadyForQuery.
    pub(super) ready: u64,
}

impl Deciding {
    /// A request about this has its place in the queue, the last one or one that was another's. `ready`: see [`Span`].
    pub(super) fn note(&mut self, subject: Subject<'_>, place: Place, ready: u64) {
        self.last_mut(subject).note(place, ready);
    }

    /// All up to this end have left the queue, and this was one of them.
    pub(super) fn forget(&mut self, effect: &Effect, end: u64) {
        effect.subjects(|subject| match subject {
            Subject::Name(name) => self.forget_name(name, end),
            Subject::AnyName => _ = self.any_name.forget(end),
            Subject::Statement(id) => {
                if self.statements.get_mut(&id).is_some_and(|last| last.forget(end)) {
                    self.statements.remove(&id);
                }
            }
        });
    }

    /// The same for one of its names.
    pub(super) fn forget_name(&mut self, name: &Name, end: u64) {
        if self.names.get_mut(name).is_some_and(|last| last.forget(end)) {
            self.names.remove(name);
        }
    }

    /// Whether one on its way decides what a name stands for.
    pub(super) fn is_undecided(&self, name: &[u8], span: Span) -> bool {
        let named = self.names.get(name);
        self.any_name.decides(span) || named.is_some_and(|last| last.decides(span))
    }

    /// Whether one on its way may decide what some name stands for.
    pub(super) fn is_any_undecided(&self, first: u64) -> bool {
        !self.names.is_empty() || self.any_name.sent > first
    }

    /// Whether one on its way decides if a statement is on the session: what takes any name away may take it, too.
    pub(super) fn is_statement_undecided(&self, id: u64, span: Span) -> bool {
        let put = self.statements.get(&id);
        self.any_name.decides(span) || put.is_some_and(|last| last.decides(span))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.statements.is_empty()
    }

    fn last_mut(&mut self, subject: Subject<'_>) -> &mut Last {
        match subject {
            Subject::Name(name) => self.names.entry(name.clone()).or_default(),
            Subject::AnyName => &mut self.any_name,
            Subject::Statement(id) => self.statements.entry(id).or_default(),
        }
    }
}

impl Last {
    fn note(&mut self, Place { end, at_once }: Place, ready: u64) {
        if self.sent <= ready {
            self.decides = self.decides.max(self.sent);
        }
        if at_once || end <= ready {
            self.decides = self.decides.max(end);
        }
        self.sent = self.sent.max(end);
    }

    /// Whether none is left.
    fn forget(&mut self, end: u64) -> bool {
        for last in [&mut self.sent, &mut self.decides] {
            if *last <= end {
                *last = 0;
            }
        }
        self.sent == 0
    }

    fn decides(self, span: Span) -> bool {
        let last = if self.sent <= span.ready {
            self.sent
        } else {
            self.decides
        };
        last > span.first
    }
}
