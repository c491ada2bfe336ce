//! Counters that others keep and that begin again with nothing where their endpoint was gone: what is shown never falls.
//!
//! Each source is compared with what it said last, and only what it has more is added to its series. Called by `reading`.

use std::{
    collections::BTreeMap,
    ops::{AddAssign, Sub},
};

use super::reading::Key;

/// What a source has said of a series.
pub(super) type Said<T> = BTreeMap<(String, Key), T>;

/// What all of them said last.
#[derive(Debug)]
pub(super) struct Rising<T>(Said<T>);

impl<T> Default for Rising<T> {
    fn default() -> Self {
        Self(Said::new())
    }
}

impl<T: Copy + Default + Ord + AddAssign + Sub<Output = T>> Rising<T> {
    /// What each series has more than at the last look.
    pub(super) fn more(&mut self, said: Said<T>) -> BTreeMap<Key, T> {
        let mut more = BTreeMap::<Key, T>::new();
        for (source, now) in said {
            let series = more.entry(source.1.clone()).or_default();
            let last = self.0.insert(source, now).unwrap_or_default();
            // It has begun again.
            let last = if now < last { T::default() } else { last };
            *series += now - last;
        }
        more
    }

    /// What this one has said is remembered apart from now on: another may come under its name.
    pub(super) fn parting(&mut self, name: &str) -> Self {
        let first = (name.to_owned(), ("", Vec::new()));
        let mut own = self.0.split_off(&first);
        let other = own.keys().find(|(of, _)| of != name).cloned();
        if let Some(other) = other {
            self.0.append(&mut own.split_off(&other));
        }
        Self(own)
    }
}
