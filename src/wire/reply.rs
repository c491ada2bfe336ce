//! What a server says during its login and to pgwake's own queries. Servers are not trusted either: every
//! field is optional and every length is checked.

use bytes::Bytes;

use super::{WireError, cursor::Cursor};

/// Longest message of a server's login.
pub const LOGIN_MESSAGE_BYTES_MAX: usize = 65_535;

/// What a server asks for in its login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationRequest {
    /// The login is done.
    Ok,
    /// The password as it is.
    CleartextPassword,
    /// The MD5 answer to this salt.
    Md5Password([u8; 4]),
    /// One of these SASL mechanisms: NUL-terminated names and a NUL.
    Sasl(Bytes),
    /// The server's first SASL message.
    SaslContinue(Bytes),
    /// The server's last SASL message.
    SaslFinal(Bytes),
    /// A method that pgwake does not speak.
    Other(i32),
}

/// Reads the body of an Authentication message.
///
/// # Errors
/// The body is shorter than its kind needs.
pub fn authentication_request(body: &Bytes) -> Result<AuthenticationRequest, WireError> {
    let short = |_| WireError::Violation("the server's authentication message is too short");
    let mut cursor = Cursor::new(body);
    Ok(match cursor.i32().map_err(short)? {
        0 => AuthenticationRequest::Ok,
        3 => AuthenticationRequest::CleartextPassword,
        5 => {
            let salt = cursor.bytes(4).map_err(short)?;
            AuthenticationRequest::Md5Password([salt[0], salt[1], salt[2], salt[3]])
        }
        10 => AuthenticationRequest::Sasl(body.slice_ref(cursor.rest())),
        11 => AuthenticationRequest::SaslContinue(body.slice_ref(cursor.rest())),
        12 => AuthenticationRequest::SaslFinal(body.slice_ref(cursor.rest())),
        other => AuthenticationRequest::Other(other),
    })
}

/// The fields of an ErrorResponse that pgwake looks at; the whole of it is forwarded as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields {
    /// `C`, e.g. `57P03`.
    pub sqlstate: String,
    /// `M`.
    pub message: String,
    /// Whether the severity (`V`, before Postgres 9.6 only `S`) is FATAL or PANIC: the server closes after it.
    pub ends_session: bool,
}

/// Reads what can be read of an ErrorResponse's body, also of the first part of one.
pub fn error_fields(body: &[u8]) -> ErrorFields {
    let mut fields = ErrorFields::default();
    let mut cursor = Cursor::new(body);
    while let Ok(kind) = cursor.u8() {
        let Ok(value) = cursor.text() else { break };
        let text = || String::from_utf8_lossy(value).into_owned();
        match kind {
            b'C' => fields.sqlstate = text(),
            b'M' => fields.message = text(),
            b'S' | b'V' => fields.ends_session |= matches!(value, b"FATAL" | b"PANIC"),
            _ => (),
        }
    }
    fields
}

/// The values of a DataRow; `None` is NULL.
///
/// # Errors
/// The body is shorter than it says.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let short = |_| WireError::Violation("the server's row is shorter than it says");
    let mut cursor = Cursor::new(body);
    let count = cursor.i16().map_err(short)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = cursor.i32().map_err(short)?;
        values.push(match usize::try_from(length) {
            Ok(length) => Some(cursor.bytes(length).map_err(short)?),
            Err(_) => None,
        });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_is_read_as_far_as_it_goes() {
        let fields = error_fields(b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(fields.sqlstate, "57P03");
        assert!(fields.ends_session);
        assert_eq!(error_fields(b"VERROR\0C42P01\0Mrela").sqlstate, "42P01");
        assert_eq!(error_fields(b""), ErrorFields::default());
    }

    #[test]
    fn an_authentication_request_is_told_by_its_number() {
        let body = Bytes::from_static(b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let names = Bytes::from_static(b"SCRAM-SHA-256\0\0");
        assert_eq!(
            authentication_request(&body).unwrap(),
            AuthenticationRequest::Sasl(names)
        );
        assert!(authentication_request(&Bytes::from_static(b"\0\0\0\x05abc")).is_err());
    }

    #[test]
    fn a_row_has_values_and_nulls() {
        let row = data_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap();
        assert_eq!(row, vec![Some(&b"a"[..]), None]);
        assert!(data_row(b"\0\x01\0\0\0\x09a").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = authentication_request(&Bytes::from(body.clone()));
            let _ = error_fields(&body);
            let _ = data_row(&body);
        }
    }
}
