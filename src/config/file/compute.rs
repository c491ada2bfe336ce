//! `compute`: a table whose kind decides which other keys there are.

use crate::config::{
    problem::{Report, Spot, Wrong},
    read::{Opened, Read, Setting},
    tree::Node,
    value::read_word,
};

use super::{CommandTable, FixedTable, ProcessTable};

/// `compute`: its kind decides which other keys there are.
pub(crate) enum ComputeTable {
    /// `kind = "process"`
    Process(Box<ProcessTable>),
    /// `kind = "fixed"`
    Fixed(Box<FixedTable>),
    /// `kind = "command"`
    Command(Box<CommandTable>),
}

impl Read for ComputeTable {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let known = [
            &["kind"],
            ProcessTable::KEYS,
            FixedTable::KEYS,
            CommandTable::KEYS,
        ];
        let table = Opened::open(node, spot, &known, report)?;
        let kind: Setting<Kind> = table.setting("kind", spot, report);
        let kind = match kind {
            Setting::Given(kind) => kind.value,
            Setting::Refused => return None,
            Setting::Absent => {
                let fix = "write kind = \"process\" (a local data directory), kind = \"fixed\" (a server that is always there) or kind = \"command\" (a server that commands start and stop)";
                report.add(spot, Wrong::new("the kind of compute is missing", fix));
                return None;
            }
        };
        for (name, node) in table.iter().filter(|(name, _)| !kind.has(name)) {
            let kinds = Kind::WORDS.iter().filter(|(_, other)| other.has(name));
            let words: Vec<_> = kinds.map(|(word, _)| format!("{word:?}")).collect();
            // Keys of no kind have been told.
            if !words.is_empty() {
                let kinds = format!("kind = {}", words.join(" or "));
                let message = format!("this key is for {kinds}");
                let fix = format!("remove it, or write {kinds}");
                report.add(&spot.key(name, &node.place), Wrong::new(message, fix));
            }
        }
        Some(match kind {
            Kind::Process => Self::Process(Box::new(ProcessTable::pick(&table, spot, report))),
            Kind::Fixed => Self::Fixed(Box::new(FixedTable::pick(&table, spot, report))),
            Kind::Command => Self::Command(Box::new(CommandTable::pick(&table, spot, report))),
        })
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        keys.push(format!("{path}.kind"));
        ProcessTable::keys(path, keys);
        FixedTable::keys(path, keys);
        CommandTable::own_keys(path, keys);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Process,
    Fixed,
    Command,
}

impl Kind {
    const WORDS: [(&'static str, Self); 3] = [
        ("process", Self::Process),
        ("fixed", Self::Fixed),
        ("command", Self::Command),
    ];

    /// Whether a compute of this kind has such a key.
    fn has(self, key: &str) -> bool {
        let tables: &[&[&str]] = match self {
            Self::Process => &[ProcessTable::KEYS],
            Self::Fixed => &[FixedTable::KEYS],
            Self::Command => &[FixedTable::KEYS, CommandTable::KEYS],
        };
        key == "kind" || tables.iter().any(|keys| keys.contains(&key))
    }
}

impl Read for Kind {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        read_word(node, spot, Self::WORDS, report)
    }
}
