//! A light look at the arguments of `set_config`: which setting, and whether for the transaction alone.
//!
//! It follows quotes and brackets and nothing else. Comments, dollar quotes and escapes before a quote end the look:
//! then the call counts as one for the session.

use super::Words;
use super::names::{NAME_BYTES_MAX, is_dotted};
use super::naming::{Short, is_of_no_meaning};
use crate::session::profile::APPLICATION_NAME;

/// Their names, for `set_config(setting_name => …)`.
const PARAMETERS: [&[u8]; 3] = [b"setting_name", b"new_value", b"is_local"];
/// Room for `is_local=>true::pg_catalog.bool`.
const THIRD_BYTES_MAX: usize = 40;

/// Where the look is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments {
    /// Open brackets; 0 before the first one.
    depth: u32,
    /// Which argument.
    index: usize,
    /// The quote that is open, or 0.
    quote: u8,
    last: u8,
    /// The first argument without blanks.
    first: Short<NAME_BYTES_MAX>,
    /// How the second one begins.
    second: Short<2>,
    /// The third.
    third: Short<THIRD_BYTES_MAX>,
}

/// What the first argument is.
enum Name<'a> {
    Literal(&'a [u8]),
    Bound,
    Unseen,
}

impl Arguments {
    /// Behind the word.
    pub(super) const START: Self = Self {
        depth: 0,
        index: 0,
        quote: 0,
        last: 0,
        first: Short::EMPTY,
        second: Short::EMPTY,
        third: Short::EMPTY,
    };

    /// Takes the next byte; `false`: it has seen enough.
    pub(super) fn goes_on(&mut self, byte: u8) -> bool {
        let last = std::mem::replace(&mut self.last, byte);
        if self.depth == 0 {
            self.depth = u32::from(byte == b'(');
            return self.depth == 1 || byte == b'"' || byte.is_ascii_whitespace();
        }
        if self.quote != 0 {
            self.push(byte);
            if byte == self.quote {
                self.quote = 0;
                return last != b'\\';
            }
            return true;
        }
        if last == b'$' && !byte.is_ascii_digit() {
            return false;
        }
        match (last, byte) {
            (b'-', b'-') | (b'/', b'*') => return false,
            (b'=', b'>') | (b':', b'=') if self.depth == 1 => return self.is_named(),
            (_, b'\'' | b'"') => self.quote = byte,
            (_, b'(' | b'[') => self.depth += 1,
            (_, b')' | b']') if self.depth == 1 => {
                self.depth = 0;
                self.index += 1;
                return false;
            }
            (_, b')' | b']') => self.depth -= 1,
            (_, b',') if self.depth == 1 => {
                self.index += 1;
                return true;
            }
            _ if byte.is_ascii_whitespace() => return true,
            _ => (),
        }
        self.push(byte.to_ascii_lowercase());
        true
    }

    fn push(&mut self, byte: u8) {
        match self.index {
            0 => self.first.push(byte),
            1 => self.second.push(byte),
            2 => self.third.push(byte),
            _ => (),
        }
    }

    /// Behind `name =>` or `name :=`: whether it is the name of this argument. Of the second one any
    /// will do.
    fn is_named(&mut self) -> bool {
        let is_own = |text: Option<&[u8]>, name: &[u8]| {
            text.and_then(|text| text.strip_suffix(b"=").or(text.strip_suffix(b":"))) == Some(name)
        };
        match self.index {
            0 if is_own(self.first.text(), PARAMETERS[0]) => self.first = Short::EMPTY,
            1 => self.second = Short::EMPTY,
            2 if is_own(self.third.text(), PARAMETERS[2]) => self.third = Short::EMPTY,
            _ => return false,
        }
        true
    }

    /// What the call is, and the custom setting's name where it is a literal one.
    pub(super) fn result(&self) -> (Words, Option<&[u8]>) {
        let is_complete = self.depth == 0 && self.index == 3;
        let scope = if is_complete && self.third.text().is_some_and(is_true) {
            Words::SET_CONFIG_LOCAL
        } else {
            Words::SET_CONFIG
        };
        if self.depth == 0 && self.index == 0 {
            // Only a mention: `proname = 'set_config'`.
            return (scope, None);
        }
        match self.name() {
            Name::Literal(name) if !name.contains(&b'.') => {
                (scope | meaning(scope, name) | self.default(name), None)
            }
            Name::Literal(name) if is_dotted(name) => (scope, Some(name)),
            Name::Bound => (scope | Words::NAME_BOUND, None),
            // Before Postgres 14, names may have other characters in them.
            Name::Literal(_) | Name::Unseen => (scope | Words::NAME_UNSEEN, None),
        }
    }

    /// A null takes a setting back to its default. Only of one does it matter to the messages behind it.
    fn default(&self, name: &[u8]) -> Words {
        let value = self.second.beginning();
        let is_literal = value.starts_with(b"'") || value.starts_with(b"e'");
        if !is_literal && name.eq_ignore_ascii_case(APPLICATION_NAME) {
            Words::DEFAULT
        } else {
            Words::NONE
        }
    }

    fn name(&self) -> Name<'_> {
        let Some(text) = self.first.text().filter(|_| self.index > 0) else {
            return Name::Unseen;
        };
        let text = without_cast(text);
        if let Some(number) = text.strip_prefix(b"$") {
            return if number.iter().all(u8::is_ascii_digit) {
                Name::Bound
            } else {
                Name::Unseen
            };
        }
        let literal = text.strip_prefix(b"'").or(text.strip_prefix(b"e'"));
        let name = literal.and_then(|literal| literal.strip_suffix(b"'"));
        match name {
            Some(name) if !name.contains(&b'\'') && !name.contains(&b'\\') => Name::Literal(name),
            _ => Name::Unseen,
        }
    }
}

/// Whether what is set for the transaction may matter to the meaning of a statement.
fn meaning(scope: Words, name: &[u8]) -> Words {
    if scope == Words::SET_CONFIG_LOCAL && !is_of_no_meaning(name) {
        Words::SET_LOCAL_MEANING
    } else {
        Words::NONE
    }
}

/// Without `::text` and its like.
fn without_cast(text: &[u8]) -> &[u8] {
    let Some(at) = text.windows(2).rposition(|pair| pair == b"::") else {
        return text;
    };
    let is_type = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if text[at + 2..].iter().all(is_type) {
        &text[..at]
    } else {
        text
    }
}

fn is_true(text: &[u8]) -> bool {
    matches!(
        without_cast(text),
        b"true" | b"'true'" | b"'t'" | b"'on'" | b"'yes'" | b"'1'"
    )
}
