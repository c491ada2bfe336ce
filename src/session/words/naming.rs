//! The name behind SET or RESET, where it is a custom setting's: `app . "tenant_id"` as `app.tenant_id`.

use super::Words;
use super::names::NAME_BYTES_MAX;

/// A short text that is collected without allocating.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Short<MAX> {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; MAX],
        len: 0,
    };

    /// Adds a byte; beyond `MAX` only its length is counted.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    /// As much as there is room for.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.bytes[..self.len.min(MAX)]
    }

    /// `None`: it was too long.
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }
}

/// Which word stands before the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `set`.
    Set,
    /// `reset`.
    Reset,
}

/// Between which words a blank or a comment stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gap {
    None,
    /// A `/` or `-`, of which a second byte makes a comment.
    Maybe(u8),
    Line,
    /// With the byte before.
    Block(u8),
}

/// Collects the name from the bytes behind the word SET or RESET.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    kind: Kind,
    at_start: bool,
    is_local: bool,
    name: Short<NAME_BYTES_MAX>,
    last: u8,
    in_word: bool,
    /// The first word stands in quotes: it is no keyword.
    is_quoted: bool,
    gap: Gap,
    /// Something stands between the word and what is behind it.
    is_apart: bool,
    /// A comment within a comment: where it ends is not told.
    is_lost: bool,
    /// The word behind the name.
    second: Short<2>,
}

impl Naming {
    /// Behind the word. A statement that begins with it is one; elsewhere it may be prose in a comment.
    pub(super) const fn new(kind: Kind, at_start: bool) -> Self {
        Self {
            kind,
            at_start,
            is_local: false,
            name: Short::EMPTY,
            last: 0,
            in_word: false,
            is_quoted: false,
            gap: Gap::None,
            is_apart: false,
            is_lost: false,
            second: Short::EMPTY,
        }
    }

    /// Takes the next byte. `false`: the look has ended before it.
    pub(super) fn goes_on(&mut self, byte: u8) -> bool {
        if self.gap != Gap::None {
            return self.comment(byte);
        }
        let was_apart = std::mem::replace(&mut self.is_apart, true);
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => {
                let is_next = !self.in_word && self.last != b'.' && self.last != 0;
                if self.second.len > 0 || (is_next && !self.take_scope()) {
                    if self.second.len > 0 && is_next {
                        return false;
                    }
                    self.in_word = true;
                    self.second.push(byte.to_ascii_lowercase());
                    return true;
                }
                self.in_word = true;
            }
            b'.' if self.second.len == 0 => self.in_word = false,
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b'"' => {
                self.is_quoted |= byte == b'"' && self.last == 0;
                self.in_word = false;
                return self.second.len == 0;
            }
            b'/' | b'-' if self.second.len == 0 => {
                self.gap = Gap::Maybe(byte);
                return true;
            }
            _ => {
                self.is_apart = was_apart;
                return false;
            }
        }
        self.last = byte;
        self.name.push(byte);
        true
    }

    /// What may be a comment ends a word and is no part of the name.
    fn comment(&mut self, byte: u8) -> bool {
        self.in_word = false;
        self.gap = match (self.gap, byte) {
            (Gap::Maybe(b'-'), b'-') => Gap::Line,
            (Gap::Maybe(b'/'), b'*') => Gap::Block(0),
            (Gap::None | Gap::Maybe(_), _) => return false,
            (Gap::Line, b'\n' | b'\r') | (Gap::Block(b'*'), b'/') => Gap::None,
            (Gap::Line, _) => Gap::Line,
            (Gap::Block(before), _) => {
                self.is_lost |= (before, byte) == (b'/', b'*');
                Gap::Block(byte)
            }
        };
        true
    }

    /// What was collected is `session` or `local`: the name comes behind it.
    fn take_scope(&mut self) -> bool {
        let name = self.name.text().unwrap_or_default();
        let is_local = name.eq_ignore_ascii_case(b"local");
        let is_scope = !self.is_quoted && (is_local || name.eq_ignore_ascii_case(b"session"));
        if is_scope {
            self.name = Short::EMPTY;
            self.is_local = is_local;
        }
        is_scope
    }

    /// What the text says, where it ended before `end`; 0: with the text.
    pub(super) fn words(&self, end: u8) -> Words {
        if !self.is_statement(end) {
            return Words::NONE;
        }
        // Of a statement, or of one that a function puts together.
        let unseen = match self.name.text() {
            None if self.at_start => Words::NAME_UNSEEN,
            _ if self.is_lost && self.at_start => Words::NAME_UNSEEN,
            _ if self.is_unseen(end) => Words::SET_UNSEEN,
            _ => Words::NONE,
        };
        unseen
            | match self.kind {
                Kind::Set if self.is_exempt() => Words::NONE,
                Kind::Set if self.is_local => self.local_meaning(),
                Kind::Set => Words::SET_STATEMENT | Words::SET_SESSION,
                Kind::Reset => Words::RESET,
            }
    }

    /// Whether what is set for the transaction may matter to the meaning of a statement.
    fn local_meaning(&self) -> Words {
        if is_of_no_meaning(self.name.beginning()) {
            Words::NONE
        } else {
            Words::SET_LOCAL_MEANING
        }
    }

    /// Whether the name is put together elsewhere, or too long.
    fn is_unseen(&self, end: u8) -> bool {
        let is_cut = self.kind == Kind::Set && self.in_word && matches!(end, b'\'' | b'%');
        self.is_lost
            || is_cut
            || self
                .name
                .text()
                .is_none_or(|name| name.is_empty() || name.ends_with(b".") || name.starts_with(b"$"))
    }

    /// `SET TRANSACTION …` and `SET CONSTRAINTS …`.
    fn is_exempt(&self) -> bool {
        let name = self.name.beginning();
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        self.second.len > 0 && !self.is_quoted && (is("transaction") || is("constraints"))
    }

    /// Whether it reads like a statement, or like one that a function puts together; not like prose.
    fn is_statement(&self, end: u8) -> bool {
        const NAMES: [&str; 8] = [
            "role",
            "time",
            "names",
            "schema",
            "xml",
            "authorization",
            "characteristics",
            "all",
        ];
        let name = self.name.beginning();
        let is_one_of_sql = || {
            NAMES
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        };
        if end == b'\'' && !self.is_apart {
            // The word in quotes is data.
            return false;
        }
        if self.at_start || self.is_lost || is_one_of_sql() {
            return true;
        }
        if self.second.len > 0 {
            return self.kind == Kind::Set && self.second.text() == Some(b"to");
        }
        match end {
            b'=' => self.kind == Kind::Set,
            b';' | 0 => self.kind == Kind::Reset && !name.is_empty(),
            b'\'' | b'%' | b'|' | b'+' => true,
            _ => false,
        }
    }

    /// The name, where the text is a statement and the name not too long.
    pub(super) fn name(&self, end: u8) -> Option<&[u8]> {
        self.name.text().filter(|_| self.is_statement(end))
    }
}

/// Whether a setting is one that no statement's meaning depends on, as far as one can say without Postgres: custom ones,
/// limits, and what planners are told.
pub(super) fn is_of_no_meaning(name: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] = [
        b"application_name",
        b"client_min_messages",
        b"jit",
        b"maintenance_work_mem",
        b"synchronous_commit",
        b"work_mem",
    ];
    const BEGINNINGS: [&[u8]; 3] = [b"enable_", b"transaction_", b"log_"];
    let begins = |with: &&[u8]| {
        name.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let ends =
        |with: &[u8]| name.len() >= with.len() && name[name.len() - with.len()..].eq_ignore_ascii_case(with);
    name.contains(&b'.')
        || ends(b"_timeout")
        || BEGINNINGS.iter().any(begins)
        || WORDS.iter().any(|word| name.eq_ignore_ascii_case(word))
}
