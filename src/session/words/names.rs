//! Names of custom settings (`app.tenant_id`): Postgres lists them nowhere, no reset removes them, and one that a
//! session has had is '' where a fresh session has NULL
//! (<https://www.postgresql.org/docs/current/runtime-config-custom.html>).

use std::sync::Arc;

use crate::wire::extended::{self, identifier};

/// Most names that are remembered for a client or a server session.
const NAMES_MAX: usize = 64;
/// Longest name that is remembered, in bytes. Two identifiers of Postgres have 63 each.
pub(super) const NAME_BYTES_MAX: usize = 127;

/// A set of custom settings' names, in lower case as Postgres compares them. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct CustomNames {
    /// Sorted; `None` where there never was one.
    names: Option<Arc<Vec<Box<[u8]>>>>,
    overflowed: bool,
}

impl CustomNames {
    /// Adds a name; what is no custom setting's name is left out. Of one with long identifiers SQL means another one than a
    /// function does.
    pub(in crate::session) fn insert(&mut self, name: &[u8]) {
        if !is_dotted(name) {
            return;
        }
        if name.len() > extended::NAME_BYTES_MAX {
            let parts: Vec<_> = name.split(|byte| *byte == b'.').map(identifier).collect();
            self.insert_whole(&parts.join(&b'.'));
        }
        self.insert_whole(name);
    }

    fn insert_whole(&mut self, name: &[u8]) {
        let name: Box<[u8]> = name.to_ascii_lowercase().into();
        let Err(at) = self.names().binary_search(&name) else {
            return;
        };
        if self.names().len() == NAMES_MAX || name.len() > NAME_BYTES_MAX {
            self.overflowed = true;
            return;
        }
        Arc::make_mut(self.names.get_or_insert_default()).insert(at, name);
    }

    fn names(&self) -> &[Box<[u8]>] {
        self.names.as_deref().map_or(&[], |names| names)
    }

    /// Adds all of another set.
    pub(in crate::session) fn extend(&mut self, other: &Self) {
        if self.names.is_none() {
            self.names.clone_from(&other.names);
        } else if !self.has_all(other) {
            other.iter().for_each(|name| self.insert(name));
        }
        self.overflowed |= other.overflowed;
    }

    /// Whether every name of `other` is in this set, as far as they are known.
    pub(in crate::session) fn has_all(&self, other: &Self) -> bool {
        let is_same = match (&self.names, &other.names) {
            (Some(names), Some(others)) => Arc::ptr_eq(names, others),
            _ => false,
        };
        is_same || other.iter().all(|name| self.contains(name))
    }

    /// Whether this one is, in any case.
    pub(in crate::session) fn contains(&self, name: &[u8]) -> bool {
        let lower = name.to_ascii_lowercase();
        self.names()
            .binary_search_by(|known| (**known).cmp(&lower[..]))
            .is_ok()
    }

    /// More were there than are remembered.
    pub(in crate::session) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether there is none.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.names().is_empty() && !self.overflowed
    }

    /// In order.
    pub(in crate::session) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names().iter().map(|name| &**name)
    }
}

/// Everything in a text that could be a custom setting's name: identifiers with dots between. Most are columns of
/// tables; only Postgres knows. Usable on the values of Bind, too.
pub(in crate::session) fn dotted_names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_name_byte(*byte))
        .filter(|run| run.len() <= NAME_BYTES_MAX && is_dotted(run))
}

/// Custom settings in a StartupMessage: every server session that is started with it has them.
pub(in crate::session) fn names_of_startup<'p>(
    parameters: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
) -> CustomNames {
    let mut names = CustomNames::default();
    for (name, value) in parameters {
        names.insert(name);
        if name == b"options" {
            names_of_options(value, &mut names);
        }
    }
    names
}

/// `-c name=value` and `--name=value`.
fn names_of_options(options: &[u8], names: &mut CustomNames) {
    let mut words = options.split(u8::is_ascii_whitespace);
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix(b"-c").or(word.strip_prefix(b"--")) {
            Some(b"") => words.next().unwrap_or_default(),
            Some(setting) => setting,
            None => continue,
        };
        let name = setting.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name: Vec<u8> = name
            .iter()
            .map(|byte| if *byte == b'-' { b'_' } else { *byte })
            .collect();
        names.insert(&name);
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.') || byte >= 0x80
}

/// Identifiers with dots between: what Postgres takes for a custom setting's name.
pub(super) fn is_dotted(name: &[u8]) -> bool {
    let is_identifier = |part: &[u8]| {
        part.first()
            .is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_' || *first >= 0x80)
            && part.iter().all(|byte| is_name_byte(*byte))
    };
    name.contains(&b'.') && name.split(|byte| *byte == b'.').all(is_identifier)
}
