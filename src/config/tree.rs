//! A TOML file as a tree of values that know their line, and several such trees as one.
//!
//! Syntax only: no key has a meaning here. All syntax errors of a file are reported, not just the first. Texts
//! are wiped when dropped, because any of them may be a secret. Who calls: `sources` builds it, `read` walks it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

use super::problem::{Place, Report, Spot, Wrong};

/// A value and the line of its key (or, for an element of a list, its own line).
pub(crate) struct Node {
    /// Where it stands.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) value: Value,
}

/// The kinds of TOML values; no key takes a date, so it is only told apart.
pub(crate) enum Value {
    /// A string.
    Text(Zeroizing<String>),
    /// An integer in decimal notation, or as written where it is in another.
    Integer(String),
    /// A number with a decimal point or an exponent, without `_`.
    Float(String),
    /// `true` or `false`.
    Bool(bool),
    /// A date or time.
    Datetime,
    /// `[…]` or the tables of `[[…]]`.
    List(Vec<Node>),
    /// `{…}`, `[…]` headers and dotted keys.
    Table(Table),
}

/// Keys and their values.
pub(crate) type Table = BTreeMap<String, Node>;

impl Value {
    /// With its article, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a decimal number",
            Self::Bool(_) => "a boolean",
            Self::Datetime => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses a file's text. Syntax errors are reported, and nothing is returned then: what can be guessed of such
/// a file would only be reported as further mistakes.
pub(crate) fn parse(file: &Arc<Path>, text: &str, report: &mut Report) -> Option<Table> {
    let lines = Lines::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(lines.table(document.into_inner()));
    }
    let mut line_before = None;
    for error in errors {
        let line = error.span().map_or(0, |span| lines.line(span.start));
        // What follows on the same line is most often the same mistake again.
        if line_before.replace(line) == Some(line) {
            continue;
        }
        let message = error.message().trim().replace('\n', ", ");
        let (message, fix) = match (message.as_str(), error.span().and_then(|span| text.get(span))) {
            ("duplicate key", Some(key)) => (
                format!("`{key}` stands twice in this file"),
                "keep one of the two; the header of a table stands only once in a file",
            ),
            _ => (
                format!("not TOML: {message}"),
                "write it as TOML: strings in quotes, one `key = value` a line (https://toml.io)",
            ),
        };
        report.add(&Spot::of_line(file, line), Wrong::new(message, fix));
    }
    None
}

/// Adds what a further file says. Tables are joined; any other key may be said once only.
pub(crate) fn merge(into: &mut Table, from: Table, parent: &Spot, report: &mut Report) {
    for (name, node) in from {
        let Some(existing) = into.get_mut(&name) else {
            into.insert(name, node);
            continue;
        };
        let spot = parent.key(&name, &node.place);
        match (&mut existing.value, node.value) {
            (Value::Table(into), Value::Table(from)) => merge(into, from, &spot, report),
            _ => {
                let message = format!("set twice: already set at {}", existing.place);
                report.add(&spot, Wrong::new(message, "keep one of the two"));
            }
        }
    }
}

/// The starts of a text's lines, to turn positions into lines.
struct Lines {
    file: Arc<Path>,
    starts: Vec<usize>,
}

impl Lines {
    fn new(file: &Arc<Path>, text: &str) -> Self {
        let after_newline = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file: Arc::clone(file),
            starts: std::iter::once(0).chain(after_newline).collect(),
        }
    }

    fn line(&self, position: usize) -> usize {
        self.starts.partition_point(|start| *start <= position)
    }

    fn node(&self, position: usize, value: DeValue<'_>) -> Node {
        let place = Place {
            file: Arc::clone(&self.file),
            line: self.line(position),
        };
        Node {
            place,
            value: self.value(value),
        }
    }

    fn value(&self, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(Zeroizing::new(text.into_owned())),
            DeValue::Integer(number) => Value::Integer(number.to_string()),
            DeValue::Float(number) => Value::Float(number.to_string()),
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(values) => Value::List(
                values
                    .into_iter()
                    .map(|value| self.node(value.span().start, value.into_inner()))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }

    fn table(&self, table: DeTable<'_>) -> Table {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
            let node = self.node(key.span().start, value.into_inner());
            (std::borrow::Cow::into_owned(key.into_inner()), node)
        };
        table.into_iter().map(entry).collect()
    }
}
