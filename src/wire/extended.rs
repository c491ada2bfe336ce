//! The names in the messages of the extended query protocol
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>), read from what has come of a body.

use super::cursor::{Cursor, TooShort};

/// A Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseBody<'a> {
    /// The statement's name; empty: the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub query: &'a [u8],
    /// All behind the name: what a Parse under another name has there, too.
    pub behind_name: &'a [u8],
}

/// Reads a whole Parse message.
///
/// # Errors
/// A text has no end.
pub fn parse(body: &[u8]) -> Result<ParseBody<'_>, TooShort> {
    let mut cursor = Cursor::new(body);
    let name = cursor.text()?;
    let behind_name = cursor.rest();
    let query = cursor.text()?;
    Ok(ParseBody {
        name,
        query,
        behind_name,
    })
}

/// The names at the front of a Bind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindNames<'a> {
    /// The portal's.
    pub portal: &'a [u8],
    /// The statement's; empty: the unnamed one.
    pub statement: &'a [u8],
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
    let statement = cursor.text()?;
    let bytes = body.len() - cursor.rest().len();
    Ok(BindNames {
        portal,
        statement,
        bytes,
    })
}

/// What a Describe or Close means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal, or what only the server can judge.
    Portal,
}

/// Reads a whole Describe or Close message.
pub fn object(body: &[u8]) -> Object<'_> {
    let mut cursor = Cursor::new(body);
    match (cursor.u8(), cursor.text()) {
        (Ok(b'S'), Ok(name)) if cursor.is_at_end() => Object::Statement(name),
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

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&body);
            let _ = bind_names(&body);
            let _ = object(&body);
        }
    }
}
