//! Plain values: texts, numbers, words of a list, paths and names.
//!
//! Durations, secrets and addresses have files of their own. Who calls: the tables of `file`, through [`Read`].

use std::path::PathBuf;

use crate::audit::WhenFull;
use crate::ids::{EndpointName, NameError, TenantName};

use super::{
    CertificateName, DefaultEndpoint, ListenTls, LoginMethod, Made, PoolMode, SuspendVeto, WakeOn,
    problem::{Report, Spot, Wrong},
    read::{Name, Read, nearest},
    tree::{Node, Value},
};

/// The text that a value is; `example` tells what to write where it is something else.
pub(crate) fn read_text<'a>(
    node: &'a Node,
    spot: &Spot,
    example: &str,
    report: &mut Report,
) -> Option<&'a str> {
    let wrong = match &node.value {
        Value::Text(text) if text.is_empty() => Wrong::new("an empty text", format!("write {example}")),
        Value::Text(text) if text.contains('\0') => Wrong::new("contains a NUL", "remove `\\u0000`"),
        Value::Text(text) => return Some(text),
        other => {
            let message = format!("expected a string, found {}", other.kind());
            Wrong::new(message, format!("write {example}"))
        }
    };
    report.add(spot, wrong);
    None
}

/// One of a few words.
pub(crate) fn read_word<T, const N: usize>(
    node: &Node,
    spot: &Spot,
    words: [(&'static str, T); N],
    report: &mut Report,
) -> Option<T> {
    let names = words.each_ref().map(|(word, _)| *word);
    let all = any_of(&names);
    let text = read_text(node, spot, &all, report)?;
    let found = words.into_iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let fix = match nearest(text, names.into_iter()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write {all}"),
        };
        report.add(spot, Wrong::new(format!("{text:?} is not one of {all}"), fix));
    }
    found.map(|(_, value)| value)
}

/// `"a", "b" or "c"`
fn any_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => String::new(),
    }
}

impl Read for String {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        read_text(node, spot, "a text in quotes", report).map(Self::from)
    }
}

impl Read for bool {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        let message = format!("expected true or false, found {}", node.value.kind());
        report.add(spot, Wrong::new(message, "write true or false, without quotes"));
        None
    }
}

impl Read for PathBuf {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "a path in quotes", report)?;
        if text.starts_with('~') {
            let fix = "write the path in full, or relative to the folder of this file";
            report.add(spot, Wrong::new("`~` is only known to shells", fix));
            return None;
        }
        Some(spot.resolve(text.as_ref()))
    }
}

/// A number of things, from `LEAST` to `MOST`; a number beyond that is a slip.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count<const LEAST: usize, const MOST: usize>(pub(crate) usize);

impl<const LEAST: usize, const MOST: usize> Read for Count<LEAST, MOST> {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let fix = format!("write a whole number from {LEAST} to {MOST}, without quotes");
        let message = match &node.value {
            Value::Integer(text) => match text.parse() {
                Ok(count) if (LEAST..=MOST).contains(&count) => return Some(Self(count)),
                _ => format!("{text} is not a number from {LEAST} to {MOST}"),
            },
            other => format!("expected an integer, found {}", other.kind()),
        };
        report.add(spot, Wrong::new(message, fix));
        None
    }
}

fn name_wrong(text: &str, error: &NameError) -> Wrong {
    let lowered = text
        .to_ascii_lowercase()
        .replace(['_', '.', ' '], "-")
        .replace("--", "-");
    let fix = match EndpointName::parse(lowered.trim_end_matches("-pooler").trim_matches('-')) {
        Ok(name) => format!("write `{name}`"),
        Err(_) => "write a name such as `demo-main`".to_owned(),
    };
    Wrong::new(format!("{text:?} is not a name: {error}"), fix)
}

impl Name for EndpointName {
    const PLACEHOLDER: &'static str = "<endpoint>";

    fn parse_name(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|error| name_wrong(text, &error))
    }
}

impl Read for DefaultEndpoint {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "the name of an endpoint in quotes", report)?;
        let (name, pooling) = PoolMode::split_name(text);
        let name = report.note(spot, EndpointName::parse_name(name))?;
        Some(Self { name, pooling })
    }
}

impl Name for TenantName {
    const PLACEHOLDER: &'static str = "<tenant>";

    fn parse_name(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).map_err(|error| name_wrong(text, &error))
    }
}

/// The name of a Postgres role: 1 to 63 bytes
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoleName(pub(crate) String);

impl Name for RoleName {
    const PLACEHOLDER: &'static str = "<role>";

    fn parse_name(text: &str) -> Result<Self, Wrong> {
        match text.len() {
            // One such role would keep every data directory of its tenant from being made.
            1..=63 if text.starts_with("pg_") || ["public", "none"].contains(&text) => Err(Wrong::new(
                format!("{text:?} cannot be a role: Postgres reserves that name"),
                "write another name",
            )),
            1..=63 if !text.contains('\0') => Ok(Self(text.to_owned())),
            _ => Err(Wrong::new(
                format!("{text:?} cannot be a role of Postgres"),
                "write a name of 1 to 63 bytes",
            )),
        }
    }
}

impl Read for RoleName {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "the name of a role in quotes", report)?;
        report.note(spot, Self::parse_name(text))
    }
}

impl From<RoleName> for String {
    fn from(name: RoleName) -> Self {
        name.0
    }
}

/// What a client may call itself. Postgres keeps 63 bytes of it, and makes of what is not printable ASCII something
/// else (<https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME>): such a name would
/// not be found again in `pg_stat_activity`.
#[derive(Debug, Clone)]
pub(crate) struct ApplicationName(String);

impl Read for ApplicationName {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "the application_name of clients in quotes", report)?;
        if text.len() <= 63 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Some(Self(text.to_owned()));
        }
        let message = format!("{text:?} cannot be an application_name that Postgres keeps as it is");
        let fix = "write a name of 1 to 63 printable ASCII characters";
        report.add(spot, Wrong::new(message, fix));
        None
    }
}

impl From<ApplicationName> for String {
    fn from(name: ApplicationName) -> Self {
        name.0
    }
}

/// The name of a database, of as many bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DatabaseName(pub(crate) String);

impl Name for DatabaseName {
    const PLACEHOLDER: &'static str = "<database>";

    fn parse_name(text: &str) -> Result<Self, Wrong> {
        match text.len() {
            // https://www.postgresql.org/docs/current/manage-ag-templatedbs.html
            9 if text == "template0" => Err(Wrong::new(
                "nobody can connect to \"template0\"",
                "write another name",
            )),
            1..=63 if !text.contains('\0') => Ok(Self(text.to_owned())),
            _ => Err(Wrong::new(
                format!("{text:?} cannot be a database of Postgres"),
                "write a name of 1 to 63 bytes",
            )),
        }
    }
}

impl Read for DatabaseName {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "the name of a database in quotes", report)?;
        report.note(spot, Self::parse_name(text))
    }
}

impl Read for SuspendVeto {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        read_word(node, spot, Self::ALL.map(|veto| (veto.as_str(), veto)), report)
    }
}

impl Read for LoginMethod {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [
            ("auto", Self::Auto),
            ("scram", Self::Scram),
            ("password", Self::Password),
            ("token", Self::Token),
            ("password-or-token", Self::PasswordOrToken),
            ("certificate", Self::Certificate),
        ];
        read_word(node, spot, words, report)
    }
}

impl Read for PoolMode {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = Self::ALL.map(|mode| (mode.as_str(), mode));
        read_word(node, spot, words, report)
    }
}

impl Read for CertificateName {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = Self::ALL.map(|name| (name.as_str(), name));
        read_word(node, spot, words, report)
    }
}

/// `audit.to`, before it is known which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditTo {
    Nowhere,
    Stdout,
    File,
}

impl Read for AuditTo {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [
            ("nowhere", Self::Nowhere),
            ("stdout", Self::Stdout),
            ("file", Self::File),
        ];
        read_word(node, spot, words, report)
    }
}

impl Read for WhenFull {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [("drop", Self::Drop), ("block", Self::Block)];
        read_word(node, spot, words, report)
    }
}

impl Read for Made {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [("once", Self::OnFirstUse), ("always", Self::WheneverMissing)];
        read_word(node, spot, words, report)
    }
}

impl Read for WakeOn {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [("connect", Self::Connect), ("query", Self::Query)];
        read_word(node, spot, words, report)
    }
}

impl Read for ListenTls {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [("required", Self::Required), ("optional", Self::Optional)];
        read_word(node, spot, words, report)
    }
}

/// `tls` of a fixed compute, before it is known which roots it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerTlsMode {
    /// Plaintext.
    Disable,
    /// Encrypted, unchecked.
    Require,
    /// The chain is checked.
    VerifyCa,
    /// Chain and name are checked.
    VerifyFull,
}

impl Read for ServerTlsMode {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [
            ("disable", Self::Disable),
            ("require", Self::Require),
            ("verify-ca", Self::VerifyCa),
            ("verify-full", Self::VerifyFull),
        ];
        read_word(node, spot, words, report)
    }
}
