//! Where pgwake may refuse something in a failed transaction that Postgres answers, or refuses in other words.

use crate::harness::raw::Message;

/// What is expected behind the first of `expected`, where `got` may stand in its place.
///
/// Where a statement is not on the session, nobody can prepare it there before the transaction has ended. And a Query that fails
/// before it has a portal leaves the one of pgwake's BEGIN.
pub(super) fn behind_same_refusal<'e>(expected: &'e [Message], got: &Message) -> Option<&'e [Message]> {
    let (first, behind) = expected.split_first()?;
    let is_refused = got.tag == b'E' && got.sqlstate() == "25P02";
    let is_next = |tag| behind.first().is_some_and(|next| next.tag == tag);
    match first.tag {
        // A Bind with too few values.
        b'E' if first.sqlstate() == "08P01" => is_refused.then_some(behind),
        b'E' if first.fields()[&'M'] == "portal \"\" does not exist" => {
            (is_refused || (got.tag == b'n' && is_next(b'Z'))).then_some(behind)
        }
        // A Describe of what has no rows; all that stands behind it is ignored then.
        b't' if is_refused && is_next(b'n') => {
            let ready = behind.iter().position(|next| next.tag == b'Z')?;
            (behind[ready].body[..] == *b"E").then(|| &behind[ready..])
        }
        _ => None,
    }
}
