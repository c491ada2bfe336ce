//! Messages as bytes: reading them, looking into errors, and what opens a connection.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Protocol 3.0.
pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;
/// Protocol 3.2 (Postgres 18): cancel keys may be longer than four bytes.
pub(crate) const PROTOCOL_3_2: u32 = PROTOCOL_3_0 + 2;
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST>
const CANCEL_REQUEST: u32 = 80_877_102;

/// A message of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) tag: u8,
    /// All behind its length.
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", char::from(self.tag), self.body.escape_ascii())
    }
}

impl Message {
    /// Reads one; `None` where the stream ends in front of it. An end in its middle is an error of the test.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let tag = stream.read_u8().await.ok()?;
        let length = stream.read_u32().await.unwrap();
        let mut body = vec![0; length.checked_sub(4).unwrap() as usize];
        stream.read_exact(&mut body).await.unwrap();
        Some(Self { tag, body })
    }

    /// The payload of an Authentication message of this kind; panics on any other.
    pub(crate) fn authentication(&self, kind: u32) -> &[u8] {
        assert_eq!(
            (self.tag, self.body.get(..4)),
            (b'R', Some(&kind.to_be_bytes()[..])),
            "{self:?}"
        );
        &self.body[4..]
    }

    /// The fields of an ErrorResponse or NoticeResponse by their letter; panics on any other message.
    pub(crate) fn fields(&self) -> BTreeMap<char, String> {
        assert!(matches!(self.tag, b'E' | b'N'), "not an error: {self:?}");
        let fields = self
            .body
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty());
        fields
            .map(|field| {
                let text = String::from_utf8(field[1..].to_vec()).unwrap();
                (char::from(field[0]), text)
            })
            .collect()
    }

    /// The SQLSTATE of an ErrorResponse.
    pub(crate) fn sqlstate(&self) -> String {
        assert_eq!(self.tag, b'E', "{self:?}");
        self.fields()[&'C'].clone()
    }

    /// Name and value of a ParameterStatus.
    pub(crate) fn parameter(&self) -> (String, String) {
        assert_eq!(self.tag, b'S', "{self:?}");
        let mut parts = self.body.split(|byte| *byte == 0);
        let mut text = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
        (text(), text())
    }

    /// Process number and secret of a BackendKeyData.
    pub(crate) fn cancel_key(&self) -> (u32, &[u8]) {
        assert_eq!(self.tag, b'K', "{self:?}");
        let (pid, secret) = self.body.split_at(4);
        (u32::from_be_bytes(pid.try_into().unwrap()), secret)
    }

    /// The columns of a DataRow as text; NULL is `None`.
    pub(crate) fn row(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?}");
        let (count, mut rest) = self.body.split_at(2);
        let columns = u16::from_be_bytes(count.try_into().unwrap());
        (0..columns)
            .map(|_| {
                let (length, behind) = rest.split_at(4);
                let length = i32::from_be_bytes(length.try_into().unwrap());
                let (value, behind) = behind.split_at(usize::try_from(length).unwrap_or(0));
                rest = behind;
                (length >= 0).then(|| String::from_utf8(value.to_vec()).unwrap())
            })
            .collect()
    }
}

/// A startup packet.
pub(crate) fn startup(protocol: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = protocol.to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    with_length(body)
}

/// A CancelRequest, with a secret of any length.
pub(crate) fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    with_length([&CANCEL_REQUEST.to_be_bytes(), &pid.to_be_bytes(), secret].concat())
}

fn with_length(body: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [length.to_be_bytes().to_vec(), body].concat()
}
