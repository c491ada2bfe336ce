//! Where one message ends and the next begins: the 5-byte header that every message after the startup has
//! (<https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS>).
//!
//! It looks at the front of what has come and takes nothing; who passes bytes on, and when, is `session`'s work.

/// Tag and length.
pub const HEADER_BYTES: usize = 5;

/// The greatest length that a server takes from a client, with the length itself: what it can allocate at once. At a greater one
/// it closes the connection.
const CLIENT_LENGTH_MAX: i32 = 0x3fff_fffe;

/// The message that stands at the front of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The first byte.
    pub tag: u8,
    /// How many bytes follow the header.
    pub body_bytes: usize,
}

/// What breaks the framing. Nothing of that message may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A tag that no message has.
    Tag(u8),
    /// A length below 4, or one that no server takes.
    Length,
}

/// Which tags a direction may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// <https://www.postgresql.org/docs/current/protocol-message-formats.html>, those marked (F).
    Client,
    /// Those marked (B); one that is not known yet is passed on, since the client asked for it.
    Server,
}

impl Sender {
    fn allows(self, tag: u8) -> bool {
        match self {
            Self::Client => b"QPBEDSCHFXdcf".contains(&tag),
            Self::Server => tag.is_ascii_graphic(),
        }
    }
}

/// The message at the front of `bytes`; `None` where its header is not complete.
///
/// # Errors
/// [`Broken`]; a tag that may not be is told before the rest of its header has come.
pub fn front(bytes: &[u8], sender: Sender) -> Result<Option<Front>, Broken> {
    let Some(tag) = bytes.first().copied() else {
        return Ok(None);
    };
    if !sender.allows(tag) {
        return Err(Broken::Tag(tag));
    }
    let Some([_, length @ ..]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    if sender == Sender::Client && length > CLIENT_LENGTH_MAX {
        return Err(Broken::Length);
    }
    let body_bytes = usize::try_from(i64::from(length) - 4).map_err(|_| Broken::Length)?;
    Ok(Some(Front { tag, body_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_it_is_complete() {
        let bytes = b"Q\0\0\0\x06ab";
        for cut in 0..5 {
            assert_eq!(front(&bytes[..cut], Sender::Client), Ok(None));
        }
        let whole = Front {
            tag: b'Q',
            body_bytes: 2,
        };
        assert_eq!(front(bytes, Sender::Client), Ok(Some(whole)));
    }

    #[test]
    fn what_is_no_message_is_broken() {
        assert_eq!(front(b"\x01", Sender::Client), Err(Broken::Tag(1)));
        assert_eq!(front(b"Z", Sender::Client), Err(Broken::Tag(b'Z')));
        assert_eq!(front(b"\x01", Sender::Server), Err(Broken::Tag(1)));
        for length in [i32::MIN, -1, 0, 3, 0x3fff_ffff, i32::MAX] {
            let bytes = [&b"Q"[..], &length.to_be_bytes()].concat();
            assert_eq!(
                front(&bytes, Sender::Client),
                Err(Broken::Length),
                "length {length}"
            );
        }
    }
}
