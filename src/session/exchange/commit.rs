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
    /// Takes in a command tag.
    pub(super) fn note(&mut self, tag: &[u8]) {
        self.roles |= touches_roles(tag);
        self.tags.note(tag);
    }

    /// Whether there is anything.
    pub(super) fn is_any(self) -> bool {
        let known =
            Tags::ROLES | Tags::DATABASE | Tags::ALTER_SYSTEM | Tags::FUNCTION_DDL | Tags::CALLING_DDL;
        self.roles || self.tags.has(known)
    }
}

/// Whether a statement's first bytes hold a word that ends a transaction for good, or the statement is too long
/// to see all of it. (A false alarm costs a client no more than the caution that 08007 asks for.)
pub(super) fn may_commit(prefix: &[u8]) -> bool {
    let has = |word: &[u8]| {
        prefix
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word))
    };
    prefix.len() >= PREFIX_BYTES || has(b"commit") || has(b"end") || has(b"prepare transaction")
}

/// Whether a command tag may stand for a change of roles. DO and CALL hide what they run.
fn touches_roles(tag: &[u8]) -> bool {
    let tags: [&[u8]; 5] = [b"CREATE ROLE", b"ALTER ROLE", b"DROP ROLE", b"DO\0", b"CALL"];
    tags.iter().any(|known| tag.starts_with(known))
}
