//! Reads `a=value,b=value` one attribute at a time, never past the message.
//!
//! It knows the shape of an attribute, not its meaning. Called by both ends of SCRAM.

use super::{MESSAGE_BYTES_MAX, NONCE_BYTES};
use crate::auth::secrets::fill_random;
use base64::{Engine, prelude::BASE64_STANDARD};

/// What is wrong with a message; the DETAIL of the error that tells of it.
pub(super) type Malformed = &'static str;

/// A message, and how far it has been read.
pub(super) struct Attributes<'m> {
    message: &'m [u8],
    /// Where the next attribute starts; `None` behind the last one.
    next: Option<usize>,
}

impl<'m> Attributes<'m> {
    pub(super) fn of(message: &'m [u8]) -> Result<Self, Malformed> {
        if message.is_empty() {
            return Err("The message is empty.");
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err("The message is too long.");
        }
        if message.contains(&0) {
            return Err("Message length does not match input length.");
        }
        Ok(Self {
            message,
            next: Some(0),
        })
    }

    /// Where the next attribute starts; `None` at the end.
    pub(super) fn position(&self) -> Option<usize> {
        self.next
    }

    /// The name of the next attribute, unread.
    pub(super) fn peek(&self) -> Option<u8> {
        self.message.get(self.next?).copied()
    }

    /// The next attribute's name and value.
    pub(super) fn any(&mut self) -> Result<(u8, &'m [u8]), Malformed> {
        let rest = &self.message[self.next.unwrap_or(self.message.len())..];
        let (&name, rest) = rest
            .split_first()
            .ok_or("Attribute expected, but found end of string.")?;
        if !name.is_ascii_alphabetic() {
            return Err("Attribute expected, but found invalid character.");
        }
        let value = rest
            .strip_prefix(b"=")
            .ok_or("Character \"=\" expected for attribute.")?;
        let comma = value.iter().position(|byte| *byte == b',');
        let start = self.message.len() - value.len();
        self.next = comma.map(|comma| start + comma + 1);
        Ok((name, &value[..comma.unwrap_or(value.len())]))
    }

    /// The value of the next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: u8) -> Result<&'m [u8], Malformed> {
        match self.any()? {
            (found, value) if found == name => Ok(value),
            _ => Err("An attribute is missing, or not where it belongs."),
        }
    }
}

/// A value that stands for itself in a nonce: printable ASCII but the comma, at least one.
pub(super) fn is_nonce(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',')
}

/// A new nonce.
pub(super) fn new_nonce() -> String {
    let mut bytes = [0; NONCE_BYTES];
    fill_random(&mut bytes);
    BASE64_STANDARD.encode(bytes)
}

/// 32 bytes in base64: a proof, a signature.
pub(super) fn key_bytes(value: &[u8]) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(value).ok()?.try_into().ok()
}
