//! Statements that pgwake may answer itself: the empty one, and BEGIN, COMMIT and ROLLBACK without options.
//!
//! Only what is exactly one of them counts; everything else is for Postgres.

/// A statement's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Simple {
    /// White space, semicolons and line comments.
    Empty,
    /// `BEGIN` or `START TRANSACTION`, with its command tag.
    Begin(&'static str),
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT`.
    Rollback,
    /// Anything else.
    Other,
}

/// What a statement is; `text` may end with a NUL.
pub(super) fn simple(text: &[u8]) -> Simple {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if is_other_at_once(text) {
        return Simple::Other;
    }
    if is_empty(text) {
        return Simple::Empty;
    }
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let mut words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let mut next = || words.next().unwrap_or_default();
    let (first, second, third) = (next(), next(), next());
    let is = |word: &[u8], known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    let noise = second.is_empty() || is(second, "work") || is(second, "transaction");
    if !third.is_empty() {
        Simple::Other
    } else if is(first, "start") && is(second, "transaction") {
        Simple::Begin("START TRANSACTION")
    } else if !noise {
        Simple::Other
    } else if is(first, "begin") {
        Simple::Begin("BEGIN")
    } else if is(first, "commit") || is(first, "end") {
        Simple::Commit
    } else if is(first, "rollback") || is(first, "abort") {
        Simple::Rollback
    } else {
        Simple::Other
    }
}

/// Most statements show by two letters that they are none of these.
fn is_other_at_once(text: &[u8]) -> bool {
    let [first, second, ..] = text.trim_ascii_start() else {
        return false;
    };
    first.is_ascii_alphabetic()
        && !matches!(
            (first.to_ascii_lowercase(), second.to_ascii_lowercase()),
            (b'b', b'e') | (b's', b't') | (b'c', b'o') | (b'e', b'n') | (b'r', b'o') | (b'a', b'b')
        )
}

fn is_empty(text: &[u8]) -> bool {
    // A comment that is no text in the client's encoding is an error.
    if !text.is_ascii() {
        return false;
    }
    // Either ends a comment, as in Postgres.
    text.split(|byte| matches!(byte, b'\n' | b'\r')).all(|line| {
        let line = line.trim_ascii_start();
        line.starts_with(b"--")
            || line
                .iter()
                .all(|byte| byte.is_ascii_whitespace() || *byte == b';')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_exactly_one_of_them_counts() {
        for empty in ["", " ", ";", " ;; \n", "-- ping", "--\n ; \n-- x\n\0"] {
            assert_eq!(simple(empty.as_bytes()), Simple::Empty, "{empty:?}");
        }
        for begin in ["BEGIN", "begin;", " Begin Work ; ", "BEGIN TRANSACTION\0"] {
            assert_eq!(simple(begin.as_bytes()), Simple::Begin("BEGIN"), "{begin:?}");
        }
        let start = simple(b"start\ttransaction;\0");
        assert_eq!(start, Simple::Begin("START TRANSACTION"));
        for commit in ["commit", "END", "COMMIT WORK;", "end transaction"] {
            assert_eq!(simple(commit.as_bytes()), Simple::Commit, "{commit:?}");
        }
        for rollback in ["rollback", "ABORT;", "rollback work"] {
            assert_eq!(simple(rollback.as_bytes()), Simple::Rollback, "{rollback:?}");
        }
    }

    #[test]
    fn everything_else_is_for_postgres() {
        for other in [
            "begin;;",
            "begin; select 1",
            "begin isolation level serializable",
            "start transaction read only",
            "start",
            "commit and chain",
            "rollback to savepoint a",
            "rollback prepared 'x'",
            "commit prepared 'x'",
            "begin -- now",
            "-- x\rselect 1; select 2 -- \n select",
            "-- x\rselect 1",
            "-- é",
            "/* */",
            "select 1",
            "end if",
        ] {
            assert_eq!(simple(other.as_bytes()), Simple::Other, "{other:?}");
        }
    }
}
