//! What a client says, message by message, as data: so that it can be made at random, written in any pieces,
//! printed and left out.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::fmt;

use bytes::{BufMut, BytesMut};

/// What Describe and Close are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Statement,
    Portal,
}

/// A message of the client.
#[derive(Clone, PartialEq)]
pub(crate) enum Said {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        /// In text form; `None` is NULL.
        values: Vec<Option<Vec<u8>>>,
        /// Format codes of results.
        results: Vec<i16>,
    },
    Describe(Kind, String),
    Execute {
        portal: String,
        /// No limit where it is 0.
        rows: i32,
    },
    Close(Kind, String),
    Sync,
    Flush,
    Data {
        bytes: Vec<u8>,
        /// The server fails on it at once.
        is_wrong: bool,
    },
    CopyDone,
    CopyFail(String),
    /// FunctionCall with arguments in text form.
    CallTexts {
        function: u32,
        arguments: Vec<String>,
    },
    /// FunctionCall with arguments of four bytes.
    Call {
        function: u32,
        arguments: Vec<i32>,
    },
}

/// OID of `int4pl`, the sum of two numbers.
pub(crate) const INT4PL: u32 = 177;

impl Said {
    pub(crate) fn query(sql: impl Into<String>) -> Self {
        Self::Query(sql.into())
    }

    pub(crate) fn parse(name: &str, sql: &str) -> Self {
        Self::Parse {
            name: name.to_owned(),
            sql: sql.to_owned(),
            types: Vec::new(),
        }
    }

    /// Binds texts; results in text form.
    pub(crate) fn bind(portal: &str, statement: &str, values: &[&str]) -> Self {
        let value = |value: &&str| Some(value.as_bytes().to_vec());
        Self::Bind {
            portal: portal.to_owned(),
            statement: statement.to_owned(),
            values: values.iter().map(value).collect(),
            results: Vec::new(),
        }
    }

    pub(crate) fn execute(portal: &str, rows: i32) -> Self {
        Self::Execute {
            portal: portal.to_owned(),
            rows,
        }
    }

    pub(crate) fn describe(kind: Kind, name: &str) -> Self {
        Self::Describe(kind, name.to_owned())
    }

    pub(crate) fn close(kind: Kind, name: &str) -> Self {
        Self::Close(kind, name.to_owned())
    }

    pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Self {
        Self::Data {
            bytes: bytes.as_ref().to_vec(),
            is_wrong: false,
        }
    }

    /// What a COPY into a column of numbers fails on.
    pub(crate) fn wrong_data() -> Self {
        Self::Data {
            bytes: b"no number\tx\n".to_vec(),
            is_wrong: true,
        }
    }

    /// Parse, Bind, Execute of the unnamed statement and portal; no Sync.
    pub(crate) fn run(sql: &str, values: &[&str]) -> [Self; 3] {
        [
            Self::parse("", sql),
            Self::bind("", "", values),
            Self::execute("", 0),
        ]
    }

    /// Whether it is of the extended protocol and has an answer of its own.
    pub(crate) fn is_extended(&self) -> bool {
        matches!(
            self,
            Self::Parse { .. }
                | Self::Bind { .. }
                | Self::Describe(..)
                | Self::Execute { .. }
                | Self::Close(..)
        )
    }

    /// Whether the server sends all it has to say once it has read this.
    pub(crate) fn pushes(&self) -> bool {
        matches!(
            self,
            Self::Query(_) | Self::Sync | Self::Flush | Self::Call { .. } | Self::CallTexts { .. }
        )
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Query(sql) => frame(out, b'Q', |body| text(body, sql)),
            Self::Parse { name, sql, types } => frame(out, b'P', |body| {
                text(body, name);
                text(body, sql);
                body.put_u16(count(types));
                types.iter().for_each(|oid| body.put_u32(*oid));
            }),
            Self::Bind {
                portal,
                statement,
                values,
                results,
            } => frame(out, b'B', |body| {
                text(body, portal);
                text(body, statement);
                body.put_u16(0);
                body.put_u16(count(values));
                values.iter().for_each(|one| value(body, one.as_deref()));
                body.put_u16(count(results));
                results.iter().for_each(|format| body.put_i16(*format));
            }),
            Self::Describe(kind, name) => frame(out, b'D', |body| named(body, *kind, name)),
            Self::Close(kind, name) => frame(out, b'C', |body| named(body, *kind, name)),
            Self::Execute { portal, rows } => frame(out, b'E', |body| {
                text(body, portal);
                body.put_i32(*rows);
            }),
            Self::Sync => frame(out, b'S', |_| ()),
            Self::Flush => frame(out, b'H', |_| ()),
            Self::Data { bytes, .. } => frame(out, b'd', |body| body.put_slice(bytes)),
            Self::CopyDone => frame(out, b'c', |_| ()),
            Self::CopyFail(why) => frame(out, b'f', |body| text(body, why)),
            Self::CallTexts { function, arguments } => frame(out, b'F', |body| {
                body.put_u32(*function);
                body.put_u16(0);
                body.put_u16(count(arguments));
                for argument in arguments {
                    value(body, Some(argument.as_bytes()));
                }
                body.put_u16(0);
            }),
            Self::Call { function, arguments } => frame(out, b'F', |body| {
                body.put_u32(*function);
                body.put_u16(1);
                body.put_u16(1);
                body.put_u16(count(arguments));
                for argument in arguments {
                    value(body, Some(&argument.to_be_bytes()));
                }
                body.put_u16(1);
            }),
        }
    }
}

/// What somebody else runs between two turns, on the session that both want.
pub(crate) const STRANGER: &str = "select 'a stranger'";

/// Parse and Describe of a statement, as drivers prepare one.
pub(crate) fn prepare(name: &str, sql: &str) -> Vec<Said> {
    vec![
        Said::parse(name, sql),
        Said::describe(Kind::Statement, name),
        Said::Sync,
    ]
}

/// Bind, Describe and Execute of a statement, as drivers run one.
pub(crate) fn execute(name: &str, values: &[&str]) -> Vec<Said> {
    vec![
        Said::bind("", name, values),
        Said::describe(Kind::Portal, ""),
        Said::execute("", 0),
        Said::Sync,
    ]
}

/// All of them, as they stand on the wire.
pub(crate) fn encoded(said: &[Said]) -> BytesMut {
    let mut out = BytesMut::new();
    said.iter().for_each(|message| message.encode(&mut out));
    out
}

fn frame(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) {
    let mut body = BytesMut::new();
    fill(&mut body);
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.put_slice(&body);
}

fn text(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

fn named(body: &mut BytesMut, kind: Kind, name: &str) {
    body.put_u8(match kind {
        Kind::Statement => b'S',
        Kind::Portal => b'P',
    });
    text(body, name);
}

fn value(body: &mut BytesMut, value: Option<&[u8]>) {
    let Some(value) = value else {
        body.put_i32(-1);
        return;
    };
    body.put_i32(i32::try_from(value.len()).unwrap());
    body.put_slice(value);
}

fn count<T>(items: &[T]) -> u16 {
    u16::try_from(items.len()).unwrap()
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statement => "statement",
            Self::Portal => "portal",
        })
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(sql) => write!(f, "Query({})", short(sql.as_bytes())),
            Self::Parse { name, sql, types } => {
                write!(f, "Parse({name:?} = {}, {types:?})", short(sql.as_bytes()))
            }
            Self::Bind {
                portal,
                statement,
                values,
                results,
            } => {
                let value = |value: &Option<Vec<u8>>| value.as_deref().map_or("NULL".to_owned(), short);
                let values: Vec<_> = values.iter().map(value).collect();
                write!(f, "Bind({portal:?} of {statement:?}, {values:?}, {results:?})")
            }
            Self::Describe(kind, name) => write!(f, "Describe({kind:?} {name:?})"),
            Self::Execute { portal, rows } => write!(f, "Execute({portal:?}, {rows})"),
            Self::Close(kind, name) => write!(f, "Close({kind:?} {name:?})"),
            Self::Sync => f.write_str("Sync"),
            Self::Flush => f.write_str("Flush"),
            Self::Data { bytes, .. } => write!(f, "CopyData({})", short(bytes)),
            Self::CopyDone => f.write_str("CopyDone"),
            Self::CopyFail(why) => write!(f, "CopyFail({why})"),
            Self::CallTexts { function, arguments } => {
                write!(f, "FunctionCall({function}, {arguments:?})")
            }
            Self::Call { function, arguments } => write!(f, "FunctionCall({function}, {arguments:?})"),
        }
    }
}

/// As much of a text as one wants to read.
fn short(bytes: &[u8]) -> String {
    let shown = bytes.len().min(160);
    let rest = bytes.len() - shown;
    let more = if rest > 0 {
        format!("… and {rest} bytes")
    } else {
        String::new()
    };
    format!("{}{more}", bytes[..shown].escape_ascii())
}
