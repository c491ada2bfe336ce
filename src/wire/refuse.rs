//! ErrorResponse and NoticeResponse as pgwake writes them, with the session's id in every DETAIL.

use std::fmt::Write as _;

use bytes::BytesMut;
use pgwire::messages::{
    Message,
    response::{ErrorResponse, NoticeResponse},
};

use crate::error::{ClientError, SqlState};
use crate::ids::SessionId;

/// Appends a FATAL ErrorResponse: pgwake ends the session with it.
pub fn fatal(error: &dyn ClientError, session: SessionId, out: &mut BytesMut) {
    refusal("FATAL", error, session, out);
}

/// Appends the same with the routine in which Postgres says it: some drivers look for that.
pub fn error_in(error: &dyn ClientError, routine: &str, session: SessionId, out: &mut BytesMut) {
    let mut fields = fields("ERROR", error.sqlstate().0, &error.message());
    fields.push((b'D', detail(error.detail().as_deref(), session)));
    fields.push((b'R', routine.to_owned()));
    encode(&ErrorResponse::new(fields), out);
}

fn refusal(severity: &str, error: &dyn ClientError, session: SessionId, out: &mut BytesMut) {
    let mut fields = fields(severity, error.sqlstate().0, &error.message());
    fields.push((b'D', detail(error.detail().as_deref(), session)));
    fields.extend(error.hint().map(|hint| (b'H', hint.into_owned())));
    encode(&ErrorResponse::new(fields), out);
}

/// Appends an ErrorResponse after which the session goes on.
pub fn error(error: &dyn ClientError, session: SessionId, out: &mut BytesMut) {
    refusal("ERROR", error, session, out);
}

/// Appends an ErrorResponse with the words that a server refused a login with; the session goes on.
pub fn repeated(sqlstate: &str, message: &str, session: SessionId, out: &mut BytesMut) {
    repeat("ERROR", (sqlstate, message), session, out);
}

/// Appends a FATAL ErrorResponse with the words of a server that only pgwake had asked.
pub fn repeated_fatal(sqlstate: &str, message: &str, session: SessionId, out: &mut BytesMut) {
    repeat("FATAL", (sqlstate, message), session, out);
}

fn repeat(severity: &str, (sqlstate, message): (&str, &str), session: SessionId, out: &mut BytesMut) {
    let mut fields = fields(severity, sqlstate, message);
    fields.push((b'D', detail(None, session)));
    encode(&ErrorResponse::new(fields), out);
}

/// Appends a NOTICE. Only after AuthenticationOk: before it, libpq takes it for an error.
pub fn notice(message: &str, session: SessionId, out: &mut BytesMut) {
    let mut fields = fields("NOTICE", SqlState::SUCCESS.0, message);
    fields.push((b'D', detail(None, session)));
    encode(&NoticeResponse::new(fields), out);
}

fn fields(severity: &str, sqlstate: &str, message: &str) -> Vec<(u8, String)> {
    vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', sqlstate.to_owned()),
        // A NUL would end the field early; names that clients choose may stand in a message.
        (b'M', message.replace('\0', "")),
    ]
}

fn detail(detail: Option<&str>, session: SessionId) -> String {
    let mut text = String::new();
    if let Some(detail) = detail {
        text.push_str(&detail.replace('\0', ""));
        text.push(' ');
    }
    write!(text, "(pgwake session {session})").expect("a String takes every text");
    text
}

fn encode(message: &impl Message, out: &mut BytesMut) {
    message
        .encode(out)
        .expect("pgwire encodes into memory and refuses no error field");
}
