//! Names of prepared statements as SQL says them: `EXECUTE name`, `EXPLAIN EXECUTE name`, `DEALLOCATE name`.
//!
//! Looked for word by word, in texts that have one of these words at all; what is found in vain costs nothing but a
//! look. A DEALLOCATE takes a name away only where a statement begins: each that Postgres answers takes the next one. Who
//! calls: `exchange`, because a statement that was prepared at protocol level has another name on its session, where SQL
//! does not find it.

use std::{mem, sync::Arc};

use super::sql_parts::{block_comment, parts};
use super::statements::{Name, Statement, Statements};
use super::words::Words;
use crate::wire::extended::identifier;

/// Most names that are looked for in one text.
const NAMES_MAX: usize = 64;

/// A statement that SQL calls by the name that its client gave it.
pub(super) struct Named {
    pub(super) name: Name,
    pub(super) statement: Called,
    pub(super) does: Does,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Called {
    /// A statement of the protocol's.
    Protocol(Arc<Statement>),
    /// One of SQL's that its session lacks.
    Lacking,
    /// None of these: one that is deallocated, or all of them.
    Other,
}

/// The statements that a text may speak of.
pub(super) struct Known<'a> {
    pub(super) statements: &'a Statements,
    /// Those of SQL's that the session lacks.
    pub(super) lacking: &'a [Name],
    /// Nothing on its way decides what any name stands for: else all names count, also those that are not known now.
    pub(super) is_decided: bool,
}

impl Known<'_> {
    fn called(&self, name: &[u8]) -> Called {
        match self.statements.get(name) {
            Some(statement) => Called::Protocol(statement.clone()),
            None if self.lacking.iter().any(|lacking| **lacking == *name) => Called::Lacking,
            None => Called::Other,
        }
    }

    fn is_empty(&self) -> bool {
        self.is_decided
            && self.statements.len() == 0
            && !self.statements.has_long_named()
            && self.lacking.is_empty()
    }
}

/// What SQL does to a statement that it calls by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It runs it.
    Run,
    /// It takes the name away.
    Deallocate,
    /// Whatever it does, the name has to be there.
    Find,
}

impl Named {
    /// Whether it takes the name away.
    pub(super) fn deallocates(&self) -> bool {
        self.does == Does::Deallocate
    }

    /// It stands where no statement begins.
    fn only_finds(&mut self) {
        if self.deallocates() {
            self.does = Does::Find;
        }
    }

    /// The statement of the protocol's, where it is run.
    pub(super) fn run(&self) -> Option<&Arc<Statement>> {
        match &self.statement {
            Called::Protocol(statement) if self.does == Does::Run => Some(statement),
            _ => None,
        }
    }

    /// Whether it stands for a statement that SQL may not find without pgwake.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.statement, Called::Other)
    }
}

/// What DEALLOCATE calls all of them.
pub(super) const ALL: &[u8] = b"all";

/// The statements that `text`, which has these `words`, speaks of, and those that they speak of when it runs them.
pub(super) fn named_in_sql(text: &[u8], words: Words, known: &Known<'_>) -> Vec<Named> {
    let mut found = Vec::new();
    find(text, words, known, &mut found);
    found
}

/// Whether a text with these words may speak of any.
pub(super) fn may_name(words: Words) -> bool {
    words.has(Words::EXECUTE | Words::DEALLOCATE | Words::PREPARE)
}

fn find(text: &[u8], words: Words, known: &Known<'_>, found: &mut Vec<Named>) {
    if known.is_empty() || !may_name(words) {
        return;
    }
    let parts = parts(text);
    // Nobody knows where a statement begins: perhaps here.
    let is_doubtful = parts.is_none();
    for part in parts.unwrap_or_else(|| vec![text]) {
        let mut rest = Rest(part);
        let mut begins = true;
        while let Some(word) = rest.next_word() {
            let begins = mem::replace(&mut begins, is_doubtful);
            let Some(mut named) = named_by(word, &mut rest, known) else {
                continue;
            };
            if !begins {
                named.only_finds();
            }
            if known.is_decided && !named.is_known() && !named.deallocates() {
                continue;
            }
            if found.len() == NAMES_MAX {
                return;
            }
            let run = named.run().cloned();
            found.push(named);
            let behind = found.len();
            // One that runs itself comes to an end by the number of names.
            if let Some(statement) = run {
                find(statement.text(), statement.seen.words, known, found);
            }
            if !begins {
                found[behind..].iter_mut().for_each(Named::only_finds);
            }
        }
    }
}

/// What a word and what stands behind it speak of.
fn named_by(word: &[u8], rest: &mut Rest<'_>, known: &Known<'_>) -> Option<Named> {
    let does = match word {
        word if is(word, "execute") => Does::Run,
        word if is(word, "deallocate") => Does::Deallocate,
        // Postgres refuses one of a name that exists.
        word if is(word, "prepare") => Does::Find,
        _ => return None,
    };
    let mut behind = Rest(rest.0);
    let mut name = behind.name();
    if does == Does::Deallocate && name.as_deref() == Some(b"prepare") {
        name = behind.name();
        *rest = Rest(behind.0);
    }
    let name = name?;
    let name = identifier(&name);
    Some(Named {
        statement: known.called(name),
        name: name.into(),
        does,
    })
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

/// What has not been looked at.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The next word, wherever it stands.
    fn next_word(&mut self) -> Option<&'a [u8]> {
        loop {
            self.skip_space();
            if let Some(word) = self.word() {
                return Some(word);
            }
            (_, self.0) = self.0.split_first()?;
        }
    }

    fn word(&mut self) -> Option<&'a [u8]> {
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(*byte, b'_' | b'$') || *byte >= 0x80;
        let end = self
            .0
            .iter()
            .position(|byte| !is_part(byte))
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// An identifier as Postgres reads it: in lower case, or as it stands between double quotes.
    fn name(&mut self) -> Option<Vec<u8>> {
        self.skip_space();
        if let Some(mut quoted) = self.0.strip_prefix(b"\"") {
            let mut name = Vec::new();
            loop {
                let end = quoted.iter().position(|byte| *byte == b'"')?;
                name.extend_from_slice(&quoted[..end]);
                quoted = &quoted[end + 1..];
                // Two are one.
                match quoted.strip_prefix(b"\"") {
                    Some(rest) => quoted = rest,
                    None => break,
                }
                name.push(b'"');
            }
            self.0 = quoted;
            return Some(name);
        }
        self.word().map(<[u8]>::to_ascii_lowercase)
    }

    /// White space and comments.
    fn skip_space(&mut self) {
        loop {
            self.0 = self.0.trim_ascii_start();
            let length = match self.0 {
                [b'-', b'-', ..] => self.0.iter().position(|byte| matches!(*byte, b'\n' | b'\r')),
                [b'/', b'*', ..] => block_comment(self.0),
                _ => return,
            };
            self.0 = length.map_or(&[][..], |length| &self.0[length..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::profile::Profile;
    use crate::session::statements::{Seen, Texts};

    fn found(text: &str) -> Vec<(String, bool)> {
        let texts = Arc::new(Texts::default());
        let mut statements = Statements::default();
        for name in ["sqlx_s_1", "Mixed", "q\"x"] {
            let statement = texts.statement(name.as_bytes(), &Profile::of_startup(b""), Seen::default());
            statements.name(name.as_bytes(), statement);
        }
        let words = Words::of(text.as_bytes(), None);
        let name = |named: &Named| String::from_utf8(named.name.to_vec()).unwrap();
        let known = Known {
            statements: &statements,
            lacking: &[],
            is_decided: true,
        };
        let named = named_in_sql(text.as_bytes(), words, &known);
        named
            .iter()
            .filter(|named| named.is_known())
            .map(|named| (name(named), named.deallocates()))
            .collect()
    }

    #[test]
    fn words_name_a_statement() {
        let one = || vec![("sqlx_s_1".to_owned(), false)];
        assert_eq!(found("EXECUTE sqlx_s_1(1)"), one());
        assert_eq!(found("  explain analyze verbose execute SQLX_S_1"), one());
        assert_eq!(
            found("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE sqlx_s_1(NULL)"),
            one()
        );
        assert_eq!(
            found("deallocate prepare \"Mixed\";"),
            vec![("Mixed".into(), true)]
        );
        assert_eq!(found("prepare sqlx_s_1 as select 1"), one());
        assert_eq!(found("DEALLOCATE sqlx_s_1"), vec![("sqlx_s_1".into(), true)]);
    }

    #[test]
    fn names_are_found_behind_other_statements_and_comments() {
        let text =
            "begin; /* by name */ execute /* x */ sqlx_s_1(1); -- execute\n deallocate \"Mixed\"; commit";
        assert_eq!(
            found(text),
            vec![("sqlx_s_1".to_owned(), false), ("Mixed".to_owned(), true)]
        );
    }

    #[test]
    fn names_and_comments_are_read_as_postgres_reads_them() {
        assert_eq!(found("execute \"q\"\"x\""), vec![("q\"x".to_owned(), false)]);
        let one = vec![("sqlx_s_1".to_owned(), false)];
        for text in [
            "execute /* /* */ execute */ sqlx_s_1",
            "execute /*/ */ sqlx_s_1",
            "execute -- x\rsqlx_s_1",
            "-- x\rexecute sqlx_s_1",
        ] {
            assert_eq!(found(text), one, "{text:?}");
        }
        assert_eq!(found("execute /* /* */ sqlx_s_1"), vec![]);
        assert_eq!(found("execute \"sqlx_s_1"), vec![]);
    }

    #[test]
    fn a_deallocate_takes_a_name_where_a_statement_begins() {
        let both = [("sqlx_s_1".to_owned(), false), ("Mixed".to_owned(), true)];
        for spoken_of in [
            "select 'deallocate sqlx_s_1'",
            "select $a$ deallocate sqlx_s_1; $a$",
            "do $$begin execute 'deallocate sqlx_s_1'; end$$",
            "select \"deallocate sqlx_s_1\"",
            "select deallocate sqlx_s_1",
            "execute sqlx_s_1",
        ] {
            assert_eq!(
                found(&format!("{spoken_of}; deallocate \"Mixed\"")),
                both,
                "{spoken_of}"
            );
        }
        let one = [("Mixed".to_owned(), true)];
        for comment in ["/* deallocate sqlx_s_1 */", "-- deallocate sqlx_s_1\n"] {
            assert_eq!(
                found(&format!("{comment} deallocate \"Mixed\"")),
                one,
                "{comment}"
            );
        }
        // Whether the quote has ended depends on settings.
        assert_eq!(found("select '\\'; deallocate \"Mixed\""), one);
    }

    #[test]
    fn what_is_executed_may_name_others() {
        let (texts, mut statements) = (Arc::new(Texts::default()), Statements::default());
        for (name, text) in [
            ("a", "deallocate b\0"),
            ("b", "execute a\0"),
            ("loop", "execute loop\0"),
        ] {
            let words = Words::of(text.as_bytes(), None);
            let seen = Seen {
                words,
                ..Seen::default()
            };
            let statement = texts.statement(text.as_bytes(), &Profile::of_startup(b""), seen);
            statements.name(name.as_bytes(), statement);
        }
        let known = Known {
            statements: &statements,
            lacking: &[],
            is_decided: true,
        };
        let found = |text: &str| named_in_sql(text.as_bytes(), Words::of(text.as_bytes(), None), &known);
        let names = |named: &Named| (named.name.to_vec(), named.deallocates());
        let all: Vec<_> = found("execute b").iter().map(names).collect();
        assert_eq!(
            all,
            [
                (b"b".to_vec(), false),
                (b"a".to_vec(), false),
                (b"b".to_vec(), true)
            ]
        );
        assert_eq!(found("execute loop").len(), NAMES_MAX);
    }

    #[test]
    fn other_words_do_not() {
        for text in [
            "",
            "select 1",
            "execute unknown",
            "execute Mixed",
            "deallocate all",
            "explain select 1",
            "prepare other as select 1",
            "prepare transaction 'x'",
        ] {
            assert_eq!(found(text), vec![], "{text}");
        }
    }
}
