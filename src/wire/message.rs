//! One whole message with its 5-byte header, for the conversations before the relay.
//!
//! From a client exactly one is read and never a byte of the next, so that what follows reaches whoever reads
//! next; what a server has sent is taken apart as far as it came.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::WireError;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The first byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Bytes,
}

impl Message {
    /// Appends the message to `out` as it was on the wire.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.tag);
        // A body that was read has at most i32::MAX - 4 bytes: its length came from the wire as an i32.
        let length =
            i32::try_from(self.body.len() + 4).expect("a message read from the wire fits its length");
        out.put_i32(length);
        out.put_slice(&self.body);
    }
}

/// Reads one message of a client's login, which must have this tag and at most `body_max` bytes of body, and not a
/// byte of the next. The body may be a password: it is wiped on drop. Not cancel safe: a dropped read may have
/// taken a part of the message; give the stream up then.
///
/// # Errors
/// [`WireError::Gone`] where the peer left (`UnexpectedEof`), [`WireError::Unexpected`] for another tag,
/// [`WireError::Violation`] for a length below 4 or above the limit; both before the body is waited for, or
/// anything is allocated for it.
pub async fn read_message<S: AsyncRead + Unpin>(
    stream: &mut S,
    tag: u8,
    body_max: usize,
) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    if header[0] != tag {
        return Err(WireError::Unexpected(header[0]));
    }
    let mut body = Zeroizing::new(vec![0; body_length(header, body_max)?]);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Takes one whole message out of what has been read so far; `None` where it is not complete yet.
///
/// # Errors
/// [`WireError::Violation`] for a length below 4 or above the limit, before the body is waited for.
pub fn take_message(read: &mut BytesMut, body_max: usize) -> Result<Option<Message>, WireError> {
    let Some(header) = read.first_chunk::<5>() else {
        return Ok(None);
    };
    let body_length = body_length(*header, body_max)?;
    if read.len() - 5 < body_length {
        return Ok(None);
    }
    let mut message = read.split_to(5 + body_length);
    let tag = message[0];
    Ok(Some(Message {
        tag,
        body: message.split_off(5).freeze(),
    }))
}

fn body_length(header: [u8; 5], body_max: usize) -> Result<usize, WireError> {
    let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let body_length = usize::try_from(i64::from(length) - 4)
        .ok()
        .filter(|body_length| *body_length <= body_max);
    body_length.ok_or(WireError::Violation("invalid message length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn exactly_one_message_is_taken() {
        let mut bytes: &[u8] = b"Q\0\0\0\x06ab-next";
        let body = read_message(&mut bytes, b'Q', 100).await.unwrap();
        assert_eq!(&body[..], b"ab");
        assert_eq!(bytes, b"-next");
    }

    #[tokio::test]
    async fn lengths_out_of_bounds_are_violations() {
        for length in [i32::MIN, -1, 0, 3, 105, i32::MAX] {
            let mut bytes = vec![b'p'];
            bytes.extend(length.to_be_bytes());
            bytes.extend([0; 200]);
            let result = read_message(&mut &bytes[..], b'p', 100).await;
            assert!(matches!(result, Err(WireError::Violation(_))), "length {length}");
        }
    }

    #[tokio::test]
    async fn the_body_of_another_message_is_not_waited_for() {
        let (mut client, mut stream) = tokio::io::duplex(64);
        // The body does not come, and the stream stays open.
        client.write_all(b"Q\0\0\0\x30").await.unwrap();
        let result = read_message(&mut stream, b'p', 100).await;
        assert!(matches!(result, Err(WireError::Unexpected(b'Q'))));
    }

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let whole = b"Q\0\0\0\x06ab-next";
        for cut in 0..7 {
            assert_eq!(
                take_message(&mut BytesMut::from(&whole[..cut]), 100).unwrap(),
                None
            );
        }
        let mut read = BytesMut::from(&whole[..]);
        let message = take_message(&mut read, 100).unwrap().unwrap();
        assert_eq!((message.tag, &message.body[..]), (b'Q', &b"ab"[..]));
        let mut out = BytesMut::new();
        message.put(&mut out);
        assert_eq!(&out[..], &whole[..7]);
        assert_eq!(&read[..], b"-next");
        assert!(take_message(&mut BytesMut::from(&whole[..]), 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_read_on(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut rest = &bytes[..];
            let tag = bytes.first().copied().unwrap_or_default();
            if let Ok(body) = runtime.block_on(read_message(&mut rest, tag, 200)) {
                prop_assert_eq!(bytes.len() - rest.len(), 5 + body.len());
            }
        }
    }
}
