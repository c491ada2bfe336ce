//! The little of the Postgres protocol that a load generator says and reads.
//!
//! Written here instead of taken from a client library, because a measurement must know each write and read: one
//! write per request, reads as large as what has come. See
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::ops::Range;

use crate::failure::Failure;

/// Asks for TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Protocol 3.0.
const VERSION: i32 = 196_608;

/// The longest message that is believed: nothing here asks for more.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Appends a message whose body `write` appends.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    put_sized(out, write);
}

fn put_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    write(out);
    let length = i32::try_from(out.len() - at).expect("a request of this program is far below 2 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text and its NUL.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}

/// A StartupMessage.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_sized(&mut out, |out| {
        out.extend(VERSION.to_be_bytes());
        for (name, value) in parameters {
            put_text(out, name);
            put_text(out, value);
        }
        out.push(0);
    });
    out
}

/// What has been read and not yet looked at.
#[derive(Debug, Default)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

/// One message; its body is a range of the input.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Range<usize>,
}

impl Input {
    /// With room for this many bytes at first.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes],
            begin: 0,
            end: 0,
        }
    }

    /// Where the next bytes are to be read into; grows for a message that does not fit.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize((self.buffer.len() * 2).max(1024), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes have been read.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// A length that no message has.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Failure> {
        let left = &self.buffer[self.begin..self.end];
        let [tag, a, b, c, d, ..] = *left else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
        if !(4..MESSAGE_BYTES_MAX).contains(&length) {
            return Err(Failure::Unexpected(format!("a message of {length} bytes")));
        }
        if left.len() <= length {
            return Ok(None);
        }
        let body = self.begin + 5..self.begin + 1 + length;
        self.begin = body.end;
        Ok(Some(Message { tag, body }))
    }

    /// A message's body; it holds until the next [`Self::room`].
    pub(crate) fn body(&self, message: &Message) -> &[u8] {
        &self.buffer[message.body.clone()]
    }
}

/// What an ErrorResponse says.
pub(crate) fn refusal(body: &[u8]) -> Failure {
    let mut sqlstate = String::from("XXXXX");
    let mut message = String::new();
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'C', text)) => sqlstate = String::from_utf8_lossy(text).into_owned(),
            Some((b'M', text)) => message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    Failure::Refused { sqlstate, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_are_split() {
        let mut bytes = Vec::new();
        put(&mut bytes, b'C', |out| put_text(out, "SELECT 1"));
        put(&mut bytes, b'Z', |out| out.push(b'I'));
        for step in 1..=bytes.len() {
            let mut input = Input::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(step) {
                input.room()[..chunk.len()].copy_from_slice(chunk);
                input.filled(chunk.len());
                while let Some(message) = input.next().unwrap() {
                    seen.push((message.tag, input.body(&message).to_vec()));
                }
            }
            assert_eq!(seen, [(b'C', b"SELECT 1\0".to_vec()), (b'Z', b"I".to_vec())]);
        }
    }

    #[test]
    fn a_length_that_no_message_has_is_an_error() {
        let mut input = Input::with_room(16);
        input.room()[..5].copy_from_slice(&[b'Z', 0, 0, 0, 3]);
        input.filled(5);
        assert!(input.next().is_err());
    }

    #[test]
    fn a_refusal_is_known_by_its_sqlstate() {
        let failure = refusal(b"SFATAL\0C57P03\0Mstarting up\0\0");
        assert_eq!(failure.code(), "57P03");
    }
}
