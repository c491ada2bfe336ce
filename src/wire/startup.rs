//! The packets that come before any tagged message: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
//!
//! It only reads and takes apart; which endpoint is meant and who may come in is decided further on.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{WireError, cursor::Cursor};

/// Longest packet before authentication: Postgres' own MAX_STARTUP_PACKET_LENGTH.
pub const PACKET_BYTES_MAX: usize = 10_000;
/// Most parameters of a StartupMessage; Postgres has some 350, and clients send a handful.
pub const PARAMETERS_MAX: usize = 256;
/// Longest secret of a cancel key: protocol 3.2 allows 4 to 256 bytes.
pub const CANCEL_SECRET_BYTES_MAX: usize = 256;
/// The newest minor version that pgwake speaks.
pub const NEWEST_MINOR: u16 = 2;

const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What a client may send before it has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel the statement of the session that this key was given to.
    Cancel(CancelKey),
    /// Asks for a session.
    Start(Startup),
}

/// The key of a session as BackendKeyData gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// Process id.
    pub pid: i32,
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: Bytes,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelKey {{ pid: {}, secret: … }}", self.pid)
    }
}

/// A StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Minor version asked for; the major version is 3.
    pub minor: u16,
    /// Names and values in the order they came; `user` is there and not empty.
    pub parameters: Vec<(Bytes, Bytes)>,
}

impl Startup {
    /// The last value given for `name`, as Postgres takes it.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters
            .iter()
            .rev()
            .find(|(key, _)| key == name.as_bytes())
            .map(|(_, value)| &value[..])
    }

    /// The role that the client wants to be.
    pub fn role(&self) -> &[u8] {
        self.parameter("user").unwrap_or_default()
    }

    /// The database: as said, else Postgres' default, the role's name.
    pub fn database(&self) -> &[u8] {
        self.parameter("database")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.role())
    }

    /// Whether the client comes to replicate: `replication` says anything but no
    /// (<https://www.postgresql.org/docs/current/protocol-replication.html>). What it says wrongly is for Postgres to
    /// refuse.
    pub fn asks_for_replication(&self) -> bool {
        // Postgres takes every beginning of these that is not also one of "on".
        let no = ["f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"];
        let says_no = |value: &[u8]| no.iter().any(|no| value.eq_ignore_ascii_case(no.as_bytes()));
        self.parameters
            .iter()
            .any(|(name, value)| &name[..] == b"replication" && !says_no(value))
    }

    /// Names of protocol options (`_pq_.…`) that the client asks for; pgwake supports none.
    pub fn protocol_options(&self) -> impl Iterator<Item = &[u8]> {
        self.parameters
            .iter()
            .map(|(key, _)| &key[..])
            .filter(|key| key.starts_with(b"_pq_."))
    }
}

/// Reads one packet. `None`: the client closed before its first byte (a probe). Not cancel safe.
///
/// # Errors
/// [`WireError`]: gone in the middle, or not a packet; nothing longer than [`PACKET_BYTES_MAX`] is read.
pub async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Packet>, WireError> {
    let mut length = [0; 4];
    let begun = stream.read(&mut length).await?;
    if begun == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[begun..]).await?;
    let body_length = usize::try_from(i64::from(i32::from_be_bytes(length)) - 4).unwrap_or(0);
    if !(4..=PACKET_BYTES_MAX - 4).contains(&body_length) {
        return Err(WireError::Violation("invalid length of startup packet"));
    }
    let mut body = vec![0; body_length];
    stream.read_exact(&mut body).await?;
    parse(Bytes::from(body)).map(Some)
}

fn parse(body: Bytes) -> Result<Packet, WireError> {
    let mut cursor = Cursor::new(&body);
    let code = cursor
        .i32()
        .map_err(|_| WireError::Violation("startup packet is too short"))?;
    match code {
        SSL_REQUEST if cursor.is_at_end() => Ok(Packet::SslRequest),
        GSSENC_REQUEST if cursor.is_at_end() => Ok(Packet::GssEncRequest),
        SSL_REQUEST | GSSENC_REQUEST => Err(WireError::Violation("invalid length of encryption request")),
        CANCEL_REQUEST => {
            let pid = cursor
                .i32()
                .map_err(|_| WireError::Violation("cancel request is too short"))?;
            let secret = body.slice_ref(cursor.rest());
            if !(4..=CANCEL_SECRET_BYTES_MAX).contains(&secret.len()) {
                return Err(WireError::Violation("invalid length of cancel key"));
            }
            Ok(Packet::Cancel(CancelKey { pid, secret }))
        }
        version => parse_startup(version, &body, cursor),
    }
}

fn parse_startup(version: i32, body: &Bytes, mut cursor: Cursor<'_>) -> Result<Packet, WireError> {
    let [a, b, c, d] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != 3 {
        return Err(WireError::Version { major, minor });
    }
    let unterminated =
        |_| WireError::Violation("invalid startup packet layout: expected terminator as last byte");
    let mut parameters = Vec::new();
    loop {
        let name = cursor.text().map_err(unterminated)?;
        if name.is_empty() {
            break;
        }
        let value = cursor.text().map_err(unterminated)?;
        if parameters.len() == PARAMETERS_MAX {
            return Err(WireError::Violation("too many startup parameters"));
        }
        parameters.push((body.slice_ref(name), body.slice_ref(value)));
    }
    if !cursor.is_at_end() {
        return Err(WireError::Violation(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    let startup = Startup { minor, parameters };
    if startup.role().is_empty() {
        return Err(WireError::Violation(
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    Ok(Packet::Start(startup))
}

#[cfg(test)]
mod tests;
