//! Whether a lost statement may have ended a transaction for good. Only to say the truth about it: nothing else
//! depends on these words.

use super::PREFIX_BYTES;

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
pub(super) fn touches_roles(tag: &[u8]) -> bool {
    let tags: [&[u8]; 5] = [b"CREATE ROLE", b"ALTER ROLE", b"DROP ROLE", b"DO\0", b"CALL"];
    tags.iter().any(|known| tag.starts_with(known))
}
