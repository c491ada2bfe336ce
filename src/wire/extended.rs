//! The names in the messages of the extended query protocol
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>), read from what has come of a body.

use super::cursor::{Cursor, TooShort};

/// As much of a name as Postgres tells statements and portals apart by (NAMEDATALEN - 1).
pub const NAME_BYTES_MAX: usize = 63;

/// Whether a message of the client's is laid out as Postgres reads it, to its end and no further; `body` is all of it.
/// Always true of those that Postgres does not look into.
pub fn is_well_formed(tag: u8, body: &[u8]) -> bool {
    let mut cursor = Cursor::new(body);
    let read = match tag {
        b'Q' => cursor.text().is_ok(),
        b'P' => return parse(body).is_some(),
        b'B' => bind_rest(&mut cursor).is_ok(),
        b'D' | b'C' => matches!(cursor.u8(), Ok(b'S' | b'P')) && cursor.text().is_ok(),
        b'E' => cursor.text().is_ok() && cursor.i32().is_ok(),
        b'S' | b'H' => true,
        _ => return true,
    };
    read && cursor.is_at_end()
}

fn bind_rest(cursor: &mut Cursor<'_>) -> Result<(), TooShort> {
    cursor.text()?;
    cursor.text()?;
    let formats = usize::try_from(cursor.i16()?).unwrap_or(0);
    cursor.bytes(formats * 2)?;
    for _ in 0..cursor.i16()? {
        // Below 0 is NULL.
        let bytes = usize::try_from(cursor.i32()?).unwrap_or(0);
        cursor.bytes(bytes)?;
    }
    let formats = usize::try_from(cursor.i16()?).unwrap_or(0);
    cursor.bytes(formats * 2).map(drop)
}

/// A Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseBody<'a> {
    /// The statement's name, as far as it matters; empty: the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub query: &'a [u8],
    /// All behind the name: what a Parse under another name has there, too.
    pub behind_name: &'a [u8],
}

/// Reads a whole Parse message; `None` where it is not laid out as one.
pub fn parse(body: &[u8]) -> Option<ParseBody<'_>> {
    let mut cursor = Cursor::new(body);
    let name = known_by(cursor.text().ok()?);
    let behind_name = cursor.rest();
    let query = cursor.text().ok()?;
    let types = usize::try_from(cursor.i16().ok()?).unwrap_or(0);
    cursor.bytes(types * 4).ok()?;
    cursor.is_at_end().then_some(ParseBody {
        name,
        query,
        behind_name,
    })
}

/// The name in a Parse of which no more may have come; `None` where its end has not.
pub fn parse_name(body: &[u8]) -> Option<&[u8]> {
    Cursor::new(body).text().ok().map(known_by)
}

/// As much of an identifier in SQL as Postgres keeps: no letter is cut in two.
pub fn identifier(name: &[u8]) -> &[u8] {
    let is_inside = |at: &usize| name.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = name.len().min(NAME_BYTES_MAX);
    &name[..(0..=end).rev().find(|at| !is_inside(at)).unwrap_or(end)]
}

/// What of a name tells it from others. One that would be cut within a letter is left as it is: what is left of it could
/// not be said to the server.
fn known_by(name: &[u8]) -> &[u8] {
    match name.get(NAME_BYTES_MAX) {
        Some(next) if next & 0xc0 != 0x80 => &name[..NAME_BYTES_MAX],
        _ => name,
    }
}

/// The names at the front of a Bind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindNames<'a> {
    /// The portal's, all of it.
    pub portal: &'a [u8],
    /// The statement's, as far as it matters; empty: the unnamed one.
    pub statement: &'a [u8],
    /// All of that.
    pub statement_whole: &'a [u8],
    /// How many bytes of the body both take, with their ends.
    pub bytes: usize,
}

/// Reads the front of a Bind message.
///
/// # Errors
/// The names have no end in what has come.
pub fn bind_names(body: &[u8]) -> Result<BindNames<'_>, TooShort> {
    let mut cursor = Cursor::new(body);
    let portal = cursor.text()?;
    let statement_whole = cursor.text()?;
    let bytes = body.len() - cursor.rest().len();
    Ok(BindNames {
        portal,
        statement: known_by(statement_whole),
        statement_whole,
        bytes,
    })
}

/// What a Describe or Close means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A prepared statement, by as much of its name as matters.
    Statement(&'a [u8]),
    /// A portal, or what only the server can judge.
    Portal,
}

/// Reads a whole Describe or Close message.
pub fn object(body: &[u8]) -> Object<'_> {
    let mut cursor = Cursor::new(body);
    match (cursor.u8(), cursor.text()) {
        (Ok(b'S'), Ok(name)) if cursor.is_at_end() => Object::Statement(known_by(name)),
        _ => Object::Portal,
    }
}

/// A column of a RowDescription: its name, and its type with length and modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Column<'a> {
    /// As the statement calls it.
    pub name: &'a [u8],
    /// Ten bytes: number, length, modifier.
    pub of: &'a [u8],
}

/// The columns that have come of a RowDescription.
pub fn columns(body: &[u8]) -> impl Iterator<Item = Column<'_>> {
    let mut cursor = Cursor::new(body.get(2..).unwrap_or_default());
    std::iter::from_fn(move || {
        let name = cursor.text().ok()?;
        // Its table and number there, and its format: the same column may come from another table.
        cursor.bytes(6).ok()?;
        let of = cursor.bytes(10).ok()?;
        cursor.bytes(2).ok()?;
        Some(Column { name, of })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_found_at_the_front() {
        let whole = parse(b"one\0select 1\0\0\0").unwrap();
        assert_eq!((whole.name, whole.query), (&b"one"[..], &b"select 1"[..]));
        assert_eq!(whole.behind_name, b"select 1\0\0\0");
        let names = bind_names(b"p\0one\0\0\0\0\0\0\0").unwrap();
        assert_eq!(
            (names.portal, names.statement, names.bytes),
            (&b"p"[..], &b"one"[..], 6)
        );
        assert_eq!(object(b"Sone\0"), Object::Statement(b"one"));
        assert_eq!(object(b"Pone\0"), Object::Portal);
        assert_eq!(object(b"Sone"), Object::Portal);
    }

    #[test]
    fn long_identifiers_are_cut_off() {
        for (long, known) in [("n".repeat(70), 63), ("é".repeat(40), 62), ("n".repeat(63), 63)] {
            assert_eq!(identifier(long.as_bytes()), &long.as_bytes()[..known]);
        }
    }

    #[test]
    fn names_are_told_apart_by_as_much_as_postgres_looks_at() {
        let [one, other] = ["one", "other"].map(|end| format!("{}{end}", "n".repeat(63)).into_bytes());
        let known = "n".repeat(63).into_bytes();
        let body = |name: &[u8]| [name, b"\0select 1\0\0\0"].concat();
        for name in [one, other] {
            assert_eq!(parse(&body(&name)).unwrap().name, known);
            let bind = [b"\0", &name[..], b"\0"].concat();
            let names = bind_names(&bind).unwrap();
            assert_eq!((names.statement, names.bytes), (&known[..], bind.len()));
            assert_eq!(
                object(&[b"S", &name[..], b"\0"].concat()),
                Object::Statement(&known)
            );
        }
        let cut = "é".repeat(40).into_bytes();
        assert_eq!(parse(&body(&cut)).unwrap().name, cut);
    }

    #[test]
    fn a_byte_less_or_more_is_no_message() {
        let whole: [(u8, &[u8]); 8] = [
            (b'Q', b"select 1\0"),
            (b'P', b"one\0select $1\0\0\x01\0\0\0\x17"),
            (
                b'B',
                b"p\0one\0\0\x01\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01a\0\x01\0\x01",
            ),
            (b'D', b"Sone\0"),
            (b'C', b"Pone\0"),
            (b'E', b"p\0\0\0\0\0"),
            (b'S', b""),
            (b'H', b""),
        ];
        for (tag, body) in whole {
            assert!(is_well_formed(tag, body), "{}", char::from(tag));
            for cut in 0..body.len() {
                assert!(!is_well_formed(tag, &body[..cut]), "{} {cut}", char::from(tag));
            }
            assert!(
                !is_well_formed(tag, &[body, b"\0"].concat()),
                "{}",
                char::from(tag)
            );
        }
        assert!(
            !is_well_formed(b'C', b"Qone\0"),
            "neither a statement nor a portal"
        );
        assert!(is_well_formed(b'c', b"whatever"), "nobody looks into CopyDone");
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&body);
            let _ = bind_names(&body);
            let _ = object(&body);
            for tag in *b"QPBDCESHF" {
                let _ = is_well_formed(tag, &body);
            }
        }
    }
}
