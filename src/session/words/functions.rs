//! The functions of a database that can change the state of a session, as trigger words.
//!
//! Which they are, `profile::functions` asks Postgres; here they are only looked up.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use super::keyword::Filter;
use super::{CustomNames, Words};

/// Postgres cuts identifiers to this many bytes, or a few less within a character of several.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// What calling a function does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Effect {
    /// The words of its source and of those that it calls.
    pub(in crate::session) words: Words,
    /// The custom settings that its source names.
    pub(in crate::session) names: CustomNames,
}

impl Effect {
    /// Where the name may be that of a table or a trigger as well: nothing is foreseen of what Postgres tells afterwards.
    pub(super) fn words_of_mention(&self) -> Words {
        self.words.without(Words::TOLD_AFTERWARDS)
    }
}

/// Functions' names in lower case, each with what it does. Names that are not one plain word of ASCII are not in
/// it: a scan could not find them.
#[derive(Clone, Debug)]
pub(in crate::session) struct FunctionWords {
    /// Tells them from all others.
    serial: u64,
    by_name: HashMap<Box<[u8]>, Effect>,
    filter: Filter,
}

impl FunctionWords {
    /// All functions that matter; names that differ in case only share what they do.
    pub(in crate::session) fn new(functions: impl IntoIterator<Item = (Box<[u8]>, Effect)>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut words = Self {
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            by_name: HashMap::new(),
            filter: Filter::EMPTY,
        };
        for (name, effect) in functions {
            words.add(&name, effect);
        }
        words
    }

    /// Tells from which functions a text's words are; 0 is nobody's.
    pub(in crate::session) fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether texts have the same words with both.
    pub(in crate::session) fn is_same(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }

    /// Whether a scan can find this name.
    pub(in crate::session) fn can_be_found(name: &[u8]) -> bool {
        name.len() <= IDENTIFIER_BYTES_MAX
            && name
                .first()
                .is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }

    fn add(&mut self, name: &[u8], effect: Effect) {
        if !Self::can_be_found(name) {
            return;
        }
        self.filter.add(name);
        let known = self.by_name.entry(name.to_ascii_lowercase().into()).or_default();
        known.words |= effect.words;
        known.names.extend(&effect.names);
    }

    /// What the function of this name does, which stands at `place`; a name that is too long is cut as Postgres
    /// cuts it.
    #[inline]
    pub(super) fn look_up(&self, word: &[u8], place: usize) -> Option<&Effect> {
        match word.get(..IDENTIFIER_BYTES_MAX) {
            Some(cut) => self.find(cut),
            None if self.filter.may_have(place) => self.find(word),
            None => None,
        }
    }

    #[cold]
    fn find(&self, word: &[u8]) -> Option<&Effect> {
        let mut lower = [0; IDENTIFIER_BYTES_MAX];
        let lower = &mut lower[..word.len()];
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower)
    }

    /// Names, in no order.
    #[cfg(test)]
    pub(in crate::session) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.by_name.keys().map(|name| &**name)
    }
}
