//! Counters that others keep and that begin again with nothing where their endpoint was gone: what is shown never falls.
//!
//! Each source is compared with what it said last, and only what it has more is added to its series. Called by `reading`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{AddAssign, Sub},
};

use super::reading::Key;

/// What each source has said of its series.
#[derive(Debug)]
pub(super) struct Said<T> {
    by_source: BTreeMap<String, BTreeMap<Key, T>>,
    /// Series of sources of which nothing was ever counted: most of ten thousand endpoints sleep.
    nothing: BTreeSet<Key>,
}

/// What all of them said last.
#[derive(Debug)]
pub(super) struct Rising<T>(BTreeMap<String, BTreeMap<Key, T>>);

impl<T> Default for Said<T> {
    fn default() -> Self {
        Self {
            by_source: BTreeMap::new(),
            nothing: BTreeSet::new(),
        }
    }
}

impl<T> Default for Rising<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy + Default + Ord + AddAssign> Said<T> {
    /// Adds what a source says of a series; `before`: what it said earlier.
    pub(super) fn add(&mut self, source: &str, key: Key, value: T, before: &Rising<T>) {
        let own = match self.by_source.get_mut(source) {
            Some(own) => own,
            None if value == T::default() && !before.0.contains_key(source) => {
                self.nothing.insert(key);
                return;
            }
            None => self.by_source.entry(source.to_owned()).or_default(),
        };
        *own.entry(key).or_default() += value;
    }
}

impl<T: Copy + Default + Ord + AddAssign + Sub<Output = T>> Rising<T> {
    /// What each series has more than at the last look.
    pub(super) fn more(&mut self, said: Said<T>) -> BTreeMap<Key, T> {
        let nothing = said.nothing.into_iter().map(|key| (key, T::default()));
        let mut more: BTreeMap<Key, T> = nothing.collect();
        for (source, all) in said.by_source {
            let own = self.0.entry(source).or_default();
            for (key, now) in all {
                let series = more.entry(key.clone()).or_default();
                let last = own.insert(key, now).unwrap_or_default();
                // It has begun again.
                let last = if now < last { T::default() } else { last };
                *series += now - last;
            }
        }
        more
    }

    /// What this one has said is remembered apart from now on: another may come under its name.
    pub(super) fn parting(&mut self, name: &str) -> Self {
        Self(self.0.remove_entry(name).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each collection went through all counters of all endpoints, most of which have never counted anything.
    #[test]
    fn who_never_counted_is_not_remembered_and_what_begins_again_never_falls() {
        let key: Key = ("turns", Vec::new());
        let mut rising = Rising::<u64>::default();
        let mut look = |now: [u64; 2]| {
            let mut said = Said::default();
            for (source, value) in ["one", "two"].into_iter().zip(now) {
                said.add(source, key.clone(), value, &rising);
            }
            let more = rising.more(said)[&key];
            (more, rising.0.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(look([0, 0]), (0, vec![]));
        assert_eq!(look([0, 5]), (5, vec!["two".to_owned()]));
        assert_eq!(look([1, 0]), (1, vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(look([1, 5]).0, 5);
    }
}
