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
    /// What each series has more than at the last look. Sources that say nothing are forgotten.
    pub(super) fn more(&mut self, said: Said<T>) -> BTreeMap<Key, T> {
        let mut more = BTreeMap::<Key, T>::new();
        for (source, now) in &said {
            let last = self.0.get(source).copied().unwrap_or_default();
            // It has begun again.
            let last = if *now < last { T::default() } else { last };
            *more.entry(source.1.clone()).or_default() += *now - last;
        }
        self.0 = said;
        more
    }
}
