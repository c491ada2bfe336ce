//! From the tree to raw types: what a key may be, how lists and tables are read, what an unknown key is told.
//!
//! The macro `table!` declares a table's keys once; reading, refusing unknown keys and listing all keys (for the
//! test of `config/reference.toml`) follow from that. Nothing stops at the first mistake. What keys mean together
//! is `check`'s work. Who calls: `file` declares with it, `value` and its neighbours implement [`Read`].

use std::collections::BTreeMap;

use super::{
    file::Root,
    problem::{Report, Spot, Wrong, join_keys},
    tree::{Node, Table, Value},
};

/// Something that can be read from a value of the tree.
pub(crate) trait Read: Sized {
    /// The value, or `None` and at least one problem.
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self>;

    /// Adds the paths of all keys that are accepted at `path` and below.
    fn keys(path: &str, keys: &mut Vec<String>) {
        keys.push(path.to_owned());
    }
}

/// A value and where it was said.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it was said.
    pub(crate) spot: Spot,
}

/// What a key of a table came to.
pub(crate) enum Setting<T> {
    /// Not said.
    Absent,
    /// Said, and wrong; it was reported.
    Refused,
    /// Said.
    Given(At<T>),
}

impl<T> Setting<T> {
    /// The value where it was said and is right.
    pub(crate) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Refused => None,
        }
    }

    /// Whether nothing was said.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Whether it was said, and wrong.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }

    /// A key of the table that this is.
    pub(crate) fn key<U>(&self, pick: impl FnOnce(&T) -> &Setting<U>) -> &Setting<U> {
        match self {
            Self::Given(at) => pick(&at.value),
            Self::Absent => &Setting::Absent,
            Self::Refused => &Setting::Refused,
        }
    }
}

/// A table whose keys have been looked at.
pub(crate) struct Opened<'a> {
    table: &'a Table,
    /// Keys that are not there, but that another one was most likely meant to be.
    misspelt: Vec<&'static str>,
}

impl<'a> Opened<'a> {
    /// Opens the table that `node` is; keys outside `known` are reported.
    pub(crate) fn open(
        node: &'a Node,
        spot: &Spot,
        known: &[&[&'static str]],
        report: &mut Report,
    ) -> Option<Self> {
        let known = known.concat();
        let Value::Table(table) = &node.value else {
            let message = format!("expected a table, found {}", node.value.kind());
            let fix = format!("write a table with the keys `{}`", known.join("`, `"));
            report.add(spot, Wrong::new(message, fix));
            return None;
        };
        let mut misspelt = Vec::new();
        for (name, node) in table {
            if known.contains(&name.as_str()) {
                continue;
            }
            let near = nearest(name, known.iter().copied());
            let wrong = match near {
                Some(near) => Wrong::new("unknown key", format!("did you mean `{near}`?")),
                None => unknown_key(name, &known),
            };
            report.add(&spot.key(name, &node.place), wrong);
            misspelt.extend(known.iter().filter(|key| Some(**key) == near));
        }
        Some(Self { table, misspelt })
    }

    /// Reads one key.
    pub(crate) fn setting<T: Read>(&self, name: &str, parent: &Spot, report: &mut Report) -> Setting<T> {
        let Some(node) = self.table.get(name) else {
            return match self.misspelt.contains(&name) {
                true => Setting::Refused,
                false => Setting::Absent,
            };
        };
        let spot = parent.key(name, &node.place);
        match T::read(node, &spot, report) {
            Some(value) => Setting::Given(At { value, spot }),
            None => Setting::Refused,
        }
    }

    /// Its entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.table.iter().map(|(name, node)| (name.as_str(), node))
    }
}

/// What to say of a key that is like none of its table: where else there is such a key, or which keys there are.
fn unknown_key(name: &str, known: &[&str]) -> Wrong {
    let message = "unknown key";
    let mut keys = Vec::new();
    Root::keys("", &mut keys);
    let elsewhere: Vec<_> = keys
        .iter()
        .filter(|key| key.rsplit('.').next() == Some(name))
        .collect();
    let fix = match elsewhere.as_slice() {
        [] => format!("remove it; known here are `{}`", known.join("`, `")),
        [key] if *key == name => format!("`{name}` stands above the first [table] of a file: move it up"),
        [key] => format!("it belongs to `{key}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|key| format!("`{key}`")).collect();
            format!("it belongs to {} or `{last}`", first.join(", "))
        }
    };
    Wrong::new(message, fix)
}

/// The word that was most likely meant, where one is near enough.
pub(crate) fn nearest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |word: &&str| strsim::osa_distance(written, word) <= 1 + word.len().min(written.len()) / 5;
    words
        .filter(near)
        .min_by_key(|word| strsim::osa_distance(written, word))
}

/// Elements, each with its place. Wrong ones are reported and left out.
#[derive(Debug, Clone)]
pub(crate) struct List<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for List<T> {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            let message = format!("expected a list, found {}", node.value.kind());
            report.add(spot, Wrong::new(message, "write a list: [ … ]"));
            return None;
        };
        let read = nodes.iter().enumerate().map(|(index, node)| {
            let spot = spot.element(index, &node.place);
            T::read(node, &spot, report).map(|value| At { value, spot })
        });
        let items: Vec<_> = read.flatten().collect();
        let nothing_is_right = items.is_empty() && !nodes.is_empty();
        (!nothing_is_right).then_some(Self(items))
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        T::keys(path, keys);
    }
}

/// The name of a table whose keys the operator chooses.
pub(crate) trait Name: Sized + Ord {
    /// How it is shown in the path of a key.
    const PLACEHOLDER: &'static str;

    /// Parses the name.
    fn parse_name(text: &str) -> Result<Self, Wrong>;
}

/// Tables by name. Those whose name is wrong are reported and left out.
pub(crate) struct Named<N, T>(pub(crate) BTreeMap<N, At<T>>);

impl<N: Name, T: Read> Read for Named<N, T> {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            let message = format!("expected a table, found {}", node.value.kind());
            let fix = format!("write [{}]", join_keys(&spot.key, N::PLACEHOLDER));
            report.add(spot, Wrong::new(message, fix));
            return None;
        };
        let mut named = BTreeMap::new();
        for (text, node) in table {
            let spot = spot.key(text, &node.place);
            let name = report.note(&spot, N::parse_name(text));
            let value = T::read(node, &spot, report);
            if let (Some(name), Some(value)) = (name, value) {
                named.insert(name, At { value, spot });
            }
        }
        Some(Self(named))
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        T::keys(&join_keys(path, N::PLACEHOLDER), keys);
    }
}

/// Declares a table: its keys and what each of them is. `+ field: Table` takes in the keys of another table.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident $(+ $shared:ident: $Shared:ident)? {
        $($(#[$key_doc:meta])* $key:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        pub(crate) struct $name {
            $(
                /// The keys that it shares with other tables.
                pub(crate) $shared: $Shared,
            )?
            $($(#[$key_doc])* pub(crate) $key: $crate::config::read::Setting<$type>,)*
        }

        impl $name {
            /// Its own keys.
            pub(crate) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            /// Reads its own keys, whatever else is there.
            pub(crate) fn pick(
                table: &$crate::config::read::Opened<'_>,
                spot: &$crate::config::problem::Spot,
                report: &mut $crate::config::problem::Report,
            ) -> Self {
                Self {
                    $($shared: $Shared::pick(table, spot, report),)?
                    $($key: table.setting(stringify!($key), spot, report),)*
                }
            }
        }

        impl $crate::config::read::Read for $name {
            fn read(
                node: &$crate::config::tree::Node,
                spot: &$crate::config::problem::Spot,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                let known = &[$($Shared::KEYS,)? Self::KEYS];
                let table = $crate::config::read::Opened::open(node, spot, known, report)?;
                Some(Self::pick(&table, spot, report))
            }

            fn keys(path: &str, keys: &mut Vec<String>) {
                $(<$Shared as $crate::config::read::Read>::keys(path, keys);)?
                $(
                    let key = $crate::config::problem::join_keys(path, stringify!($key));
                    <$type as $crate::config::read::Read>::keys(&key, keys);
                )*
            }
        }
    };
}

pub(crate) use table;
