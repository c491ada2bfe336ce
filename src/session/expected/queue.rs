//! Requests without their answer, in order, and what they leave undecided for whatever is sent behind them.
//!
//! No question that is asked for each message walks along the queue: it may be very long.

use super::deciding::{Deciding, Place, Span};
use super::entries::Entries;
use super::{Asker, Entry, Kind};
use crate::session::statements::{Effect, Name};

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: Entries,
    /// Those that decide what a name stands for, or whether a statement is on the session. Boxed: in most turns there are none.
    deciding: Option<Box<Deciding>>,
    /// The end of the last one that decides what the unnamed statement is; 0: there is none.
    unnamed: u64,
    /// The end of the last one that ends with ReadyForQuery; 0: there is none.
    ready: u64,
    /// How many requests there ever were: the end of the last one.
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
        self.entries.first()
    }

    /// Whether the entry at this place is of this kind.
    pub(super) fn is(&self, at: usize, kind: Kind) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.kind == kind)
    }

    pub(super) fn effects(&mut self) -> impl DoubleEndedIterator<Item = &mut Effect> {
        self.entries.iter_mut().map(|entry| &mut entry.effect)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.pushed += 1;
        self.note(self.entries.len() - 1);
    }

    /// The last request turns out to take the meaning of any name.
    pub(super) fn takes_any_name(&mut self) {
        if let Some(last) = self.entries.last_mut() {
            let at_once = std::mem::take(&mut last.effect);
            last.effect = Effect::Deallocates(Vec::new(), Box::new(at_once));
            self.note(self.entries.len() - 1);
        }
    }

    /// The request at this place has the number that this place has now.
    fn note(&mut self, at: usize) {
        let end = self.first() + at as u64 + 1;
        let Some(Entry { kind, effect, .. }) = self.entries.get(at) else {
            return;
        };
        if kind.ends_with_ready() {
            self.ready = self.ready.max(end);
        }
        if effect.is_about_unnamed() {
            self.unnamed = self.unnamed.max(end);
        }
        // What takes meanings away by being executed is not ignored together with what is sent behind it.
        let at_once = *kind == Kind::Execute;
        let (place, ready, deciding) = (Place { end, at_once }, self.ready, &mut self.deciding);
        effect.subjects(|subject| deciding.get_or_insert_default().note(subject, place, ready));
    }

    /// See [`Deciding::forget`].
    fn forget(&mut self, effect: &Effect, end: u64) {
        if let Some(deciding) = &mut self.deciding {
            deciding.forget(effect, end);
        }
    }

    /// The number of the next request; all have one, in the order in which they are sent.
    pub(super) fn next(&self) -> u64 {
        self.pushed
    }

    /// The end of the last request that ends with ReadyForQuery, on its way or answered.
    pub(super) fn since_ready(&self) -> u64 {
        self.ready
    }

    /// The number of the first request that has not been answered.
    pub(super) fn first(&self) -> u64 {
        self.pushed - self.entries.len() as u64
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop()?;
        self.forget(&entry.effect, self.first());
        Some(entry)
    }

    /// Takes out the one behind the front.
    pub(super) fn take_second(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_second()?;
        // Numbers are counted from the last one: the front has that of the one that is gone.
        let number = self.first();
        self.forget(&entry.effect, number + 1);
        for end in [&mut self.ready, &mut self.unnamed] {
            if *end == number + 1 {
                *end = number;
            }
        }
        self.note(0);
        Some(entry)
    }

    /// Takes out everything in front of the next Sync; says whether there is one.
    pub(super) fn take_to_sync(&mut self) -> (Vec<Entry>, bool) {
        let sync = self.entries.iter().position(|entry| entry.kind == Kind::Sync);
        let end = sync.unwrap_or(self.entries.len());
        let taken = self.entries.take(end);
        let first = self.first();
        taken.iter().for_each(|entry| self.forget(&entry.effect, first));
        (taken, sync.is_some())
    }

    /// Takes out everything, and says whose it was.
    pub(super) fn take_owed(&mut self) -> Vec<(Asker, Kind)> {
        // As behind most turns.
        if self.is_empty() {
            return Vec::new();
        }
        let pushed = self.pushed;
        let taken = std::mem::take(self).entries.into_iter();
        self.pushed = pushed;
        taken.map(|entry| (entry.asker, entry.kind)).collect()
    }

    /// Takes out all that would be changed, the latest first.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        (self.deciding, self.unnamed) = (None, 0);
        self.effects().rev().map(std::mem::take).collect()
    }

    /// The request at the front has taken the meaning of the next name that it speaks of.
    pub(super) fn take_deallocated(&mut self) -> Option<Name> {
        let Effect::Deallocates(names, _) = &mut self.entries.first_mut()?.effect else {
            return None;
        };
        let name = names.pop()?;
        let end = self.first() + 1;
        if let Some(deciding) = &mut self.deciding {
            deciding.forget_name(&name, end);
        }
        self.note(0);
        Some(name)
    }

    /// Whether something on its way ends with ReadyForQuery.
    pub(super) fn has_ready(&self) -> bool {
        self.ready > self.first()
    }

    /// Whether an error may have the server ignore what is sent now, up to a Sync: a Query ends no such thing.
    pub(super) fn may_skip(&self) -> bool {
        let mut unsynced = self
            .entries
            .iter()
            .rev()
            .take_while(|entry| entry.kind != Kind::Sync);
        let ends_alone = |entry: &Entry| entry.kind.ends_with_ready() || entry.kind == Kind::CopyEnd;
        !unsynced.all(ends_alone)
    }

    fn span(&self) -> Span {
        Span {
            first: self.first(),
            ready: self.ready,
        }
    }

    /// Whether one of them may decide what some name stands for.
    pub(super) fn is_any_undecided(&self) -> bool {
        let first = self.first();
        self.deciding
            .as_ref()
            .is_some_and(|deciding| deciding.is_any_undecided(first))
    }

    /// Whether something decides what a name stands for. In front of an unanswered Sync that is anything about it: if
    /// it fails, what is sent behind the Sync meets another meaning. Behind the last Sync all of it is ignored together,
    /// so there it is only what takes meanings away by being executed.
    pub(super) fn is_undecided(&self, name: &[u8]) -> bool {
        let deciding = self.deciding.as_ref();
        deciding.is_some_and(|deciding| deciding.is_undecided(name, self.span()))
    }

    /// The same for a statement: whether it is on the session.
    pub(super) fn is_statement_undecided(&self, id: u64) -> bool {
        let deciding = self.deciding.as_ref();
        deciding.is_some_and(|deciding| deciding.is_statement_undecided(id, self.span()))
    }

    /// The same for the unnamed statement, where nothing behind the last Sync has decided it anew.
    pub(super) fn is_unnamed_undecided(&self) -> bool {
        self.first() < self.unnamed && self.unnamed <= self.ready
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::expected::Asker;
    use crate::session::statements::Subject;

    /// What happens to a queue.
    #[derive(Debug, Clone)]
    enum Act {
        Push(Kind, What),
        Pop,
        TakeSecond,
        TakeToSync,
        TakeDeallocated,
    }

    /// What a request changes, by small numbers.
    #[derive(Debug, Clone)]
    enum What {
        Nothing,
        Names(u8),
        Closes(u8),
        Puts(u64, Option<u8>),
        Evicts(u64),
        Deallocates(Vec<u8>),
        Unnamed,
    }

    fn name(number: u8) -> Name {
        Name::from([number])
    }

    fn effect(what: &What) -> Effect {
        match what {
            What::Nothing => Effect::Nothing,
            What::Names(own) => Effect::Named(name(*own)),
            What::Closes(own) => Effect::Closed(name(*own), None),
            What::Puts(id, own) => Effect::Put(*id, own.map(name)),
            What::Evicts(id) => Effect::Evicted(*id),
            What::Deallocates(names) => {
                let names = names.iter().map(|own| name(*own)).collect();
                Effect::Deallocates(names, Box::new(Effect::UnnamedPut(0)))
            }
            What::Unnamed => Effect::UnnamedPut(0),
        }
    }

    fn act() -> impl Strategy<Value = Act> {
        let kind = prop::sample::select(vec![Kind::Parse, Kind::Execute, Kind::Simple, Kind::Sync]);
        let what = prop_oneof![
            Just(What::Nothing),
            (0..3u8).prop_map(What::Names),
            (0..3u8).prop_map(What::Closes),
            (0..3u64, prop::option::of(0..3u8)).prop_map(|(id, own)| What::Puts(id, own)),
            (0..3u64).prop_map(What::Evicts),
            prop::collection::vec(0..3u8, 0..3).prop_map(What::Deallocates),
            Just(What::Unnamed),
        ];
        prop_oneof![
            6 => (kind, what).prop_map(|(kind, what)| Act::Push(kind, what)),
            3 => Just(Act::Pop),
            1 => Just(Act::TakeSecond),
            1 => Just(Act::TakeToSync),
            1 => Just(Act::TakeDeallocated),
        ]
    }

    fn last(queue: &Queue, is: impl Fn(&Entry) -> bool) -> Option<usize> {
        let entries = queue.entries.iter().enumerate();
        entries.filter(|(_, entry)| is(entry)).map(|(at, _)| at).last()
    }

    /// The subjects of the requests that decide something for what is sent next, found by walking along the queue.
    fn deciding(queue: &Queue) -> Vec<Subject<'_>> {
        let earlier = last(queue, |entry| entry.kind.ends_with_ready()).map_or(0, |ready| ready + 1);
        let mut found = Vec::new();
        for (at, entry) in queue.entries.iter().enumerate() {
            if at < earlier || entry.kind == Kind::Execute {
                entry.effect.subjects(|subject| found.push(subject));
            }
        }
        found
    }

    fn check(queue: &Queue) {
        let found = deciding(queue);
        for number in 0..3u8 {
            let is_about = |subject: &Subject<'_>| match subject {
                Subject::Name(own) => **own == name(number),
                Subject::AnyName => true,
                Subject::Statement(_) => false,
            };
            let decides = found.iter().any(is_about);
            assert_eq!(queue.is_undecided(&[number]), decides, "{number} in {queue:?}");
            let id = u64::from(number);
            let is_about = |subject: &Subject<'_>| match subject {
                Subject::Statement(own) => *own == id,
                Subject::AnyName => true,
                Subject::Name(_) => false,
            };
            let decides = found.iter().any(is_about);
            assert_eq!(queue.is_statement_undecided(id), decides, "{id} in {queue:?}");
        }
        let ready = last(queue, |entry| entry.kind.ends_with_ready());
        let unnamed = last(queue, |entry| entry.effect.is_about_unnamed());
        assert_eq!(queue.has_ready(), ready.is_some(), "{queue:?}");
        let is_undecided = unnamed.is_some_and(|unnamed| ready.is_some_and(|ready| unnamed <= ready));
        assert_eq!(queue.is_unnamed_undecided(), is_undecided, "{queue:?}");
    }

    proptest! {
        #[test]
        fn what_is_known_at_once_is_what_a_walk_along_the_queue_finds(acts in prop::collection::vec(act(), 0..60)) {
            let mut queue = Queue::default();
            for act in acts {
                match act {
                    Act::Push(kind, what) => {
                        let (asker, effect) = (Asker::Client, effect(&what));
                        queue.push(Entry { kind, asker, effect });
                    }
                    Act::Pop => drop(queue.pop()),
                    Act::TakeSecond => drop(queue.take_second()),
                    Act::TakeToSync => drop(queue.take_to_sync()),
                    Act::TakeDeallocated => drop(queue.take_deallocated()),
                }
                check(&queue);
            }
            while queue.pop().is_some() {}
            prop_assert!(queue.deciding.as_ref().is_none_or(|deciding| deciding.is_empty()), "{queue:?}");
        }
    }
}
