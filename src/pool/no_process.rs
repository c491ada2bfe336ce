//! What a postmaster says that can start no process for a client: in the words of before protocol 3, since it says so itself.
//!
//! `E`, a text and a NUL, and the connection is closed (`report_fork_failure_to_client` in Postgres): where a length should
//! be, the text begins. libpq knows that, too. Called by `server_session`, while somebody logs in.

use bytes::Bytes;

use crate::error::SqlState;
use crate::wire::message::Message;

/// Postgres' own room for it.
pub(super) const BYTES_MAX: usize = 1 + 1000;

/// What was read as an ErrorResponse of now: the server has no room for one more, and may soon have it again.
pub(super) fn as_error(read: &[u8]) -> Option<Message> {
    let text = read.strip_prefix(b"E")?;
    let end = text.iter().position(|byte| *byte == 0)?;
    let text = text[..end].trim_ascii_end();
    if text.is_empty() {
        return None;
    }
    let head = format!("SFATAL\0VFATAL\0C{}\0M", SqlState::TOO_MANY_CONNECTIONS.0);
    Some(Message {
        tag: b'E',
        body: Bytes::from([head.as_bytes(), text, b"\0\0"].concat()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::reply::error_fields;

    #[test]
    fn its_text_is_kept() {
        let said = b"Ecould not fork new process for connection: Resource temporarily unavailable\n\0";
        let fields = error_fields(&as_error(said).unwrap().body);
        assert_eq!(fields.sqlstate, "53300");
        assert_eq!(
            fields.message,
            "could not fork new process for connection: Resource temporarily unavailable"
        );
        assert!(fields.ends_session);
        for other in [
            &b"Ecould not fork"[..],
            b"E\0",
            b"E\n\0",
            b"Rcould not fork\0",
            b"",
        ] {
            assert_eq!(as_error(other), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(read in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(message) = as_error(&read) {
                prop_assert_eq!(error_fields(&message.body).sqlstate, "53300");
            }
        }
    }
}
