//! The one PREPARE in a text: Postgres remembers the whole text of the Query that a statement was prepared with.
//!
//! In doubt there is none: then the statement stays where it is.

use crate::session::sql_parts::parts;

/// The part of `text` that prepares `name`, and nothing else: all of it, as it was sent, where nothing else is in it.
pub(super) fn prepare_in<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let mut statements = parts(text)?;
    statements.retain(|part| !part.trim_ascii().is_empty());
    let mut found = statements.iter().filter(|part| prepares(part, name));
    let part = *found.next()?;
    if found.next().is_some() {
        return None;
    }
    Some(if statements.len() == 1 { text } else { part })
}

fn prepares(part: &[u8], name: &[u8]) -> bool {
    let part = part.trim_ascii_start();
    let Some((word, rest)) = part.split_at_checked(7) else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    if !word.eq_ignore_ascii_case(b"prepare") {
        return false;
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        return is_quoted(quoted, name);
    }
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(*byte, b'_' | b'$') || *byte >= 0x80;
    let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
    rest[..end].to_ascii_lowercase() == name
}

/// Whether a text begins with `name` as it stands between quotes, and the last quote.
fn is_quoted(mut text: &[u8], name: &[u8]) -> bool {
    for byte in name {
        let quoted: &[u8] = if *byte == b'"' { b"\"\"" } else { &[*byte] };
        let Some(rest) = text.strip_prefix(quoted) else {
            return false;
        };
        text = rest;
    }
    text.starts_with(b"\"") && !text.starts_with(b"\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, name: &str) -> Option<String> {
        let part = prepare_in(text.as_bytes(), name.as_bytes())?;
        Some(String::from_utf8(part.trim_ascii().to_vec()).unwrap())
    }

    #[test]
    fn the_one_prepare_of_that_name_is_found() {
        let ended_by_a_carriage_return = "prepare q as select 1 -- c\r; insert into t values (1)";
        assert_eq!(
            found(ended_by_a_carriage_return, "q").as_deref(),
            Some("prepare q as select 1 -- c")
        );
        assert_eq!(
            found(
                "/* ; */ select 1; prepare q as select 1 /* ; /* ; */ */ ; select 2",
                "q"
            )
            .as_deref(),
            Some("prepare q as select 1 /* ; /* ; */ */")
        );
        let one = Some("prepare q1 as select ';', $1, $a$;$a$ -- ;".to_owned());
        let text = "begin; prepare q1 as select ';', $1, $a$;$a$ -- ;\n; prepare q2 as select 1; rollback";
        assert_eq!(found(text, "q1"), one);
        assert_eq!(found(text, "q2").as_deref(), Some("prepare q2 as select 1"));
        assert_eq!(
            found("PREPARE \"Q\" (int) AS SELECT 1", "Q").as_deref(),
            Some("PREPARE \"Q\" (int) AS SELECT 1")
        );
    }

    #[test]
    fn what_nothing_else_is_with_is_said_again_as_it_was() {
        for text in [
            "prepare q as select 1;",
            " prepare q as select 1 ;; ",
            "prepare q as select 1",
        ] {
            assert_eq!(prepare_in(text.as_bytes(), b"q"), Some(text.as_bytes()));
        }
    }

    #[test]
    fn a_name_in_quotes_is_read_as_it_stands() {
        for (text, name, is_found) in [
            ("prepare \"a \"\"b\" as select 1", "a \"b", true),
            ("prepare \"a\"\"b\" as select 1", "a", false),
            ("prepare \"ab\" as select 1", "a", false),
        ] {
            assert_eq!(found(text, name).is_some(), is_found, "{text}");
        }
    }

    #[test]
    fn in_doubt_there_is_none() {
        for text in [
            "prepare q as select a$$$; select 1; select $$x$$",
            "prepare q as select a$b$; select 1; select $b$",
            "do $$begin execute 'prepare q as select 1'; end$$",
            "prepare q as select 1; deallocate q; prepare q as select 2",
            "prepare q as select e'\\''; select ';'",
            "prepare other as select 1",
            "prepare q as select 'open",
            "prep",
            "",
        ] {
            assert_eq!(found(text, "q"), None, "{text}");
        }
    }
}
