//! The statements of a text: taken apart at its semicolons, with an eye for quotes and comments alone.
//!
//! What they say is not looked at, and where a quote's end depends on settings nothing is taken apart. Who calls:
//! `sql_names` and `profile`, to know where a statement begins and ends that a text may only speak of.

/// The statements of a text; `None` where its quotes cannot be told.
pub(super) fn parts(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(byte) = text.get(at) {
        let rest = &text[at..];
        at += match byte {
            b';' => {
                parts.push(&text[start..at]);
                start = at + 1;
                1
            }
            b'\'' => 1 + quoted(&rest[1..], b'\'')?,
            b'"' => 1 + quoted(&rest[1..], b'"')?,
            b'$' => dollar_quoted(text, at)?,
            b'-' if rest.starts_with(b"--") => {
                let is_end = |byte: &u8| matches!(*byte, b'\n' | b'\r');
                rest.iter().position(is_end).unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => block_comment(rest)?,
            _ => 1,
        };
    }
    parts.push(&text[start..]);
    Some(parts)
}

/// How many bytes a quoted text has behind its first quote, with its last. What a backslash means in it depends on
/// settings.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let end = rest.iter().position(|byte| *byte == quote)?;
    (!rest[..end].contains(&b'\\')).then_some(end + 1)
}

/// The same for `$tag$…$tag$`; a `$` that begins none counts as itself. `None`: it may be part of a name or begin one.
fn dollar_quoted(text: &[u8], at: usize) -> Option<usize> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    let rest = &text[at + 1..];
    let tag = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
    let opens = rest.get(tag) == Some(&b'$') && !rest.first().is_some_and(u8::is_ascii_digit);
    if !opens {
        return Some(1);
    }
    if before.is_some_and(|before| is_part(before) || *before == b'$') {
        return None;
    }
    let quote = &text[at..at + tag + 2];
    let body = &text[at + quote.len()..];
    let end = body.windows(quote.len()).position(|part| part == quote)?;
    Some(quote.len() + end + quote.len())
}

/// How long the comment is that a text begins with; others may be in it. `None`: it does not end.
pub(super) fn block_comment(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        at += match text.get(at..at + 2)? {
            b"/*" => {
                depth += 1;
                2
            }
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => {
                depth -= 1;
                2
            }
            _ => 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_quotes_and_comments_part_nothing() {
        for text in [
            "select ';', \"a;b\"",
            "select $$;$$, $a$;$$;$a$, $1",
            "select 1 -- ;",
            "select /* ; /* ; */ ; */ 1",
        ] {
            assert_eq!(parts(text.as_bytes()), Some(vec![text.as_bytes()]), "{text}");
        }
        let text: &[u8] = b"a;b -- c\r;/* */d";
        assert_eq!(parts(text), Some(vec![&b"a"[..], b"b -- c\r", b"/* */d"]));
    }

    #[test]
    fn what_depends_on_settings_is_not_taken_apart() {
        for text in [
            "select '\\'; '",
            "select 'open",
            "select /* open",
            "a$$;$$",
            "select $a$ open",
        ] {
            assert_eq!(parts(text.as_bytes()), None, "{text}");
        }
    }
}
