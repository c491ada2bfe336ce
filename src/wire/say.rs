//! The messages that pgwake says, encoded with `pgwire`.
//!
//! Errors and notices are in `refuse`.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::{
    Message,
    response::{CommandComplete, ReadyForQuery, TransactionStatus},
    startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey},
};

use super::startup::{CancelKey, NEWEST_MINOR, Startup};

/// Answers an SSLRequest with yes.
pub const TLS_YES: &[u8] = b"S";
/// Answers an SSLRequest or GSSENCRequest with no.
pub const ENCRYPTION_NO: &[u8] = b"N";

/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// BindComplete.
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// ParameterDescription without parameters.
pub const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";
/// NoData.
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
/// EmptyQueryResponse.
pub const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";
/// Bind of the unnamed statement, which has no parameters, to a server.
pub const BIND_UNNAMED: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";
/// Execute of the unnamed portal, all of it, to a server.
pub const EXECUTE_UNNAMED: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";
/// Sync to a server.
pub const SYNC: &[u8] = b"S\0\0\0\x04";

fn put(message: &impl Message, out: &mut BytesMut) {
    message
        .encode(out)
        .expect("pgwire encodes into memory and refuses none of the messages that pgwake says");
}

/// Authentication*.
pub fn authentication(message: &Authentication, out: &mut BytesMut) {
    put(message, out);
}

/// BackendKeyData with our own key.
pub fn backend_key_data(key: &CancelKey, out: &mut BytesMut) {
    put(
        &BackendKeyData::new(key.pid, SecretKey::Bytes(key.secret.clone())),
        out,
    );
}

/// ReadyForQuery outside a transaction.
pub fn ready_idle(out: &mut BytesMut) {
    put(&ReadyForQuery::new(TransactionStatus::Idle), out);
}

/// Parse; all behind the name as it stands in another Parse.
pub fn parse(name: &[u8], behind_name: &[u8], out: &mut BytesMut) {
    out.put_u8(b'P');
    out.put_u32(
        u32::try_from(name.len() + behind_name.len() + 5).expect("texts that are remembered are bounded"),
    );
    out.put_slice(name);
    out.put_u8(0);
    out.put_slice(behind_name);
}

/// Close of a statement.
pub fn close_statement(name: &[u8], out: &mut BytesMut) {
    out.put_slice(b"C");
    out.put_u32(u32::try_from(name.len() + 6).expect("names are bounded"));
    out.put_u8(b'S');
    out.put_slice(name);
    out.put_u8(0);
}

/// ReadyForQuery with this status: `I`, `T` or `E`.
pub fn ready(status: u8, out: &mut BytesMut) {
    out.put_slice(b"Z\0\0\0\x05");
    out.put_u8(status);
}

/// CommandComplete.
pub fn command_complete(tag: &str, out: &mut BytesMut) {
    put(&CommandComplete::new(tag.to_owned()), out);
}

/// ParameterStatus; name and value as bytes, since values may be in any encoding.
pub fn parameter_status(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.put_u8(b'S');
    out.put_u32(u32::try_from(name.len() + value.len() + 6).expect("a ParameterStatus is small"));
    for text in [name, value] {
        out.put_slice(text);
        out.put_u8(0);
    }
}

/// NegotiateProtocolVersion, where the client asked for a newer minor version or for protocol options: said
/// once, before authentication.
pub fn negotiation(startup: &Startup, out: &mut BytesMut) {
    let options: Vec<String> = startup
        .protocol_options()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    if startup.minor > NEWEST_MINOR || !options.is_empty() {
        // Postgres sends the whole version, major and minor.
        let version = (3 << 16) | i32::from(startup.minor.min(NEWEST_MINOR));
        put(&NegotiateProtocolVersion::new(version, options), out);
    }
}

/// A StartupMessage of protocol 3.0 to a server, with the parameters as they are: values may be any bytes but
/// NUL, so it is written out here.
pub fn startup(parameters: &[(Bytes, Bytes)], out: &mut BytesMut) {
    let start = out.len();
    out.put_i32(0);
    out.put_i32(3 << 16);
    for (name, value) in parameters {
        for text in [name, value] {
            out.put_slice(text);
            out.put_u8(0);
        }
    }
    out.put_u8(0);
    // A client's own packet has at most PACKET_BYTES_MAX bytes; this one is not longer than twice that.
    let length = i32::try_from(out.len() - start).expect("a startup packet is small");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A password or SASL message (`p`) to a server.
pub fn password_message(body: &[u8], out: &mut BytesMut) {
    out.put_u8(b'p');
    out.put_i32(i32::try_from(body.len() + 4).expect("a password message is small"));
    out.put_slice(body);
}

/// SASLInitialResponse to a server.
pub fn sasl_initial_response(mechanism: &str, first: &[u8], out: &mut BytesMut) {
    let mut body = BytesMut::with_capacity(mechanism.len() + first.len() + 5);
    body.put_slice(mechanism.as_bytes());
    body.put_u8(0);
    body.put_i32(i32::try_from(first.len()).expect("a SASL message is small"));
    body.put_slice(first);
    password_message(&body, out);
}

/// A simple Query to a server.
pub fn query(sql: &str, out: &mut BytesMut) {
    put(&pgwire::messages::simplequery::Query::new(sql.to_owned()), out);
}

/// Terminate to a server.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A CancelRequest to a server.
pub fn cancel_request(key: &CancelKey) -> Bytes {
    let mut out = BytesMut::new();
    put(
        &pgwire::messages::cancel::CancelRequest::new(key.pid, SecretKey::Bytes(key.secret.clone())),
        &mut out,
    );
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(minor: u16, name: &'static str) -> Startup {
        let parameters = vec![
            (Bytes::from_static(b"user"), Bytes::from_static(b"app")),
            (Bytes::from_static(name.as_bytes()), Bytes::from_static(b"on")),
        ];
        Startup { minor, parameters }
    }

    #[test]
    fn only_what_is_not_supported_is_negotiated() {
        let said = |minor, name| {
            let mut out = BytesMut::new();
            negotiation(&startup(minor, name), &mut out);
            out
        };
        assert!(said(0, "geqo").is_empty());
        assert!(said(2, "geqo").is_empty());
        assert_eq!(&said(9999, "geqo")[..], b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        assert_eq!(&said(0, "_pq_.x")[..], b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn a_cancel_request_carries_the_whole_key() {
        let key = CancelKey {
            pid: 7,
            secret: Bytes::from_static(b"abcd"),
        };
        assert_eq!(
            &cancel_request(&key)[..],
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07abcd"
        );
    }
}
