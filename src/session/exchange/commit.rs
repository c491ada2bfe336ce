//! Whether a lost statement may have ended a transaction for good. Only to say the truth about it: nothing else
//! depends on these words.

use super::PREFIX_BYTES;
use crate::session::words::Tags;

/// What was done that others must know of.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::session) struct Touched {
    /// Roles may have changed.
    pub(in crate::session) roles: bool,
    /// What clients of transaction pooling must know of, where this is none.
    pub(in crate::session) tags: Tags,
}

impl Touched {
    /// Takes in the body of a CommandComplete, which means these.
    pub(super) fn note(&mut self, tag: &[u8], means: Tags) {
        if !means.is_empty() {
            self.roles |= touches_roles(tag);
            self.tags |= means;
        }
    }

    /// Whether there is anything.
    pub(super) fn is_any(self) -> bool {
        let known =
            Tags::ROLES | Tags::DATABASE | Tags::ALTER_SYSTEM | Tags::FUNCTION_DDL | Tags::CALLING_DDL;
        self.roles || self.tags.has(known) || self.tags.change_texts()
    }
}

/// The beginning of the last text that has no answer yet. It costs less to keep than to look at.
#[derive(Debug)]
pub(super) struct LastText {
    bytes: [u8; PREFIX_BYTES],
    len: usize,
}

impl Default for LastText {
    fn default() -> Self {
        Self {
            bytes: [0; PREFIX_BYTES],
            len: 0,
        }
    }
}

impl LastText {
    /// Another one comes behind it; gives the one before.
    pub(super) fn replace(&mut self, text: &[u8]) -> Self {
        let len = text.len().min(PREFIX_BYTES);
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..len].copy_from_slice(&text[..len]);
        std::mem::replace(self, Self { bytes, len })
    }

    /// All texts have their answer.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// See [`may_commit`].
    pub(super) fn may_commit(&self) -> bool {
        may_commit(&self.bytes[..self.len])
    }
}

/// Whether a statement's first bytes hold a word that ends a transaction for good, or the statement is too long
/// to see all of it. (A false alarm costs a client no more than the caution that 08007 asks for.)
fn may_commit(prefix: &[u8]) -> bool {
    // In one pass, by two letters.
    let ends_at = |at: usize, first: u8, second: u8| {
        let word: &[u8] = match (first | 0x20, second | 0x20) {
            (b'c', b'o') => b"commit",
            (b'e', b'n') => b"end",
            (b'p', b'r') => b"prepare transaction",
            _ => return false,
        };
        let here = prefix[at..].get(..word.len());
        here.is_some_and(|here| here.eq_ignore_ascii_case(word))
    };
    let mut pairs = prefix.iter().zip(prefix.iter().skip(1)).enumerate();
    prefix.len() >= PREFIX_BYTES || pairs.any(|(at, (first, second))| ends_at(at, *first, *second))
}

/// Whether a command tag may stand for a change of roles. DO and CALL hide what they run.
fn touches_roles(tag: &[u8]) -> bool {
    let tags: [&[u8]; 5] = [b"CREATE ROLE", b"ALTER ROLE", b"DROP ROLE", b"DO\0", b"CALL"];
    tags.iter().any(|known| tag.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_end_a_transaction_is_seen_wherever_it_stands() {
        for ends in [
            "COMMIT",
            "commit\0",
            "select 1; Commit",
            "END",
            "insert into t values (1);end",
            "PREPARE TRANSACTION 'x'",
            "cocommit",
        ] {
            assert!(may_commit(ends.as_bytes()), "{ends:?}");
        }
        for other in [
            "",
            "c",
            "select 1",
            "commi",
            "en",
            "prepare q as select 1",
            "c\x0fmmit",
        ] {
            assert!(!may_commit(other.as_bytes()), "{other:?}");
        }
        assert!(may_commit(&[b' '; PREFIX_BYTES]), "its end is not seen");
    }
}
