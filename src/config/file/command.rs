//! `compute = { kind = "command", … }`: commands as lists of arguments, and what they find in their environment.
//!
//! Names are put in by `check`, which knows them.

use std::{env, time::Duration};

use crate::config::{
    Variable,
    duration::SuspendAfter,
    problem::{Report, Spot, Wrong, join_keys},
    read::{At, List, Read, table},
    tree::{Node, Value},
    value::read_text,
};
use crate::ids::Secret;

use super::FixedTable;

/// Words of a command line, and bytes of each: far more than one needs, far less than the system takes.
const WORDS_MAX: usize = 64;
const WORD_BYTES_MAX: usize = 4096;

table! {
    /// `compute = { kind = "command", … }`; where the server listens and how is said as for `fixed`.
    CommandTable + server: FixedTable {
        /// Starts it.
        start: CommandWords,
        /// Stops it.
        stop: CommandWords,
        /// Tells whether it runs.
        status: CommandWords,
        /// What the commands find in their environment.
        environment: List<EnvironmentVariable>,
        /// How long `start` may take.
        start_timeout: Duration,
        /// How long `stop` may take.
        stop_timeout: Duration,
        /// How long `status` may take.
        status_timeout: Duration,
        /// How often an awake one is looked at.
        status_every: SuspendAfter,
    }
}

impl CommandTable {
    /// The keys that no other kind has.
    pub(super) fn own_keys(path: &str, keys: &mut Vec<String>) {
        keys.extend(Self::KEYS.iter().map(|key| join_keys(path, key)));
    }
}

/// A program and its arguments, at least the program.
pub(crate) struct CommandWords(pub(crate) Vec<At<Argument>>);

impl Read for CommandWords {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let fix = "write the program and each of its arguments: [\"systemctl\", \"start\", \"pg-{endpoint}\"]; there is no shell";
        let message = match &node.value {
            Value::List(nodes) if nodes.is_empty() => "an empty command".to_owned(),
            Value::List(nodes) if nodes.len() > WORDS_MAX => {
                format!("a command of {} words; {WORDS_MAX} are the limit", nodes.len())
            }
            Value::List(nodes) => {
                let words = List::<Argument>::read(node, spot, report)?.0;
                // A command that lacks one of its words is another command.
                return (words.len() == nodes.len()).then_some(Self(words));
            }
            other => format!("expected a list of arguments, found {}", other.kind()),
        };
        report.add(spot, Wrong::new(message, fix));
        None
    }
}

/// One word of a command, with placeholders.
pub(crate) struct Argument(pub(crate) String);

impl Read for Argument {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "one argument in quotes", report)?;
        if text.len() <= WORD_BYTES_MAX {
            return Some(Self(text.to_owned()));
        }
        let message = format!(
            "an argument of {} bytes; {WORD_BYTES_MAX} are the limit",
            text.len()
        );
        report.add(spot, Wrong::new(message, "put it into a script, and name that"));
        None
    }
}

/// A variable that is handed on (`"NAME"`) or set (`"NAME=value"`).
pub(crate) struct EnvironmentVariable(pub(crate) Variable);

impl Read for EnvironmentVariable {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "\"NAME\" or \"NAME=value\"", report)?;
        report.note(spot, parse_variable(text).map(Self))
    }
}

fn parse_variable(text: &str) -> Result<Variable, Wrong> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(right) || name.as_bytes()[0].is_ascii_digit() {
        let message = format!("{name:?} is not the name of a variable");
        let fix = "write \"NAME\" to hand on pgwake's own variable, or \"NAME=value\"";
        return Err(Wrong::new(message, fix));
    }
    if name.starts_with("PGWAKE_") {
        let message = format!("{name} is pgwake's own");
        let fix =
            "remove it: commands have PGWAKE_ENDPOINT and PGWAKE_TENANT, and no other variable of pgwake's";
        return Err(Wrong::new(message, fix));
    }
    let value = value.or_else(|| env::var(name).ok()).ok_or_else(|| {
        let fix = "set it where pgwake is started, or write \"NAME=value\"";
        Wrong::new(format!("the environment variable {name} is not set"), fix)
    })?;
    Ok(Variable {
        name: name.to_owned(),
        value: Secret::new(value),
    })
}
