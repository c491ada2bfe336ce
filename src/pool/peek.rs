//! A look at an idle session before it is lent: what has its server said meanwhile?
//!
//! One read that does not wait, where the runtime has heard of anything, and no ping: it costs no round trip, and what
//! dies right after it would have died right after a ping too. Who calls: `endpoint_pool`, without its lock.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::tls::Stream;
use crate::wire::message::take_message;

/// What an idle server says is small: a few notices, or a ParameterStatus (14 kinds, under 100 bytes each) after
/// its configuration was read again. A server with more to say is not waited for.
const SAID_BYTES_MAX: usize = 2048;

/// The ParameterStatus messages that have come, whole; `None` where the session is not to be lent: the server has
/// closed it or said why it will, or has said what no idle server says. Notices and notifications are dropped: who
/// they were for has no session any more.
pub(super) fn peek(stream: &mut Stream) -> Option<Bytes> {
    let mut said = [0; SAID_BYTES_MAX];
    match stream.read_arrived(&mut said) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Bytes::new()),
        Ok(count) if count > 0 && count < SAID_BYTES_MAX => understand(&said[..count]),
        Ok(_) | Err(_) => None,
    }
}

fn understand(said: &[u8]) -> Option<Bytes> {
    let mut said = BytesMut::from(said);
    let mut statuses = BytesMut::new();
    while !said.is_empty() {
        let message = take_message(&mut said, SAID_BYTES_MAX).ok()??;
        match message.tag {
            b'S' => message.put(&mut statuses),
            b'N' | b'A' => (),
            _ => return None,
        }
    }
    Some(statuses.freeze())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::Shutdown};

    use proptest::prelude::*;
    use tokio::net::UnixStream;

    use super::*;

    const STATUS: &[u8] = b"S\0\0\0\x12TimeZone\0Asia\0";
    const NOTICE: &[u8] = b"N\0\0\0\x0eSNOTICE\0\0\0";

    /// What is found where a server has said this and perhaps left.
    fn found(said: &[u8], leaves: bool) -> Option<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let (server, ours) = std::os::unix::net::UnixStream::pair().unwrap();
        (&server).write_all(said).unwrap();
        if leaves {
            server.shutdown(Shutdown::Write).unwrap();
        }
        ours.set_nonblocking(true).unwrap();
        // The runtime has not looked at this socket yet.
        peek(&mut Stream::Unix(UnixStream::from_std(ours).unwrap()))
    }

    #[test]
    fn silence_is_fine() {
        assert_eq!(found(b"", false), Some(Bytes::new()));
    }

    #[test]
    fn notices_are_dropped_and_parameters_are_told() {
        let notification = b"A\0\0\0\x0c\0\0\0\x07a\0b\0";
        let said = [NOTICE, STATUS, notification, STATUS].concat();
        assert_eq!(found(&said, false).unwrap(), [STATUS, STATUS].concat());
    }

    #[test]
    fn a_server_that_left_or_says_why_it_will_is_not_lent() {
        assert_eq!(found(b"", true), None);
        let fatal = b"E\0\0\0\x16SFATAL\0C57P01\0Mx\0\0";
        assert_eq!(found(fatal, false), None);
        assert_eq!(found(&[STATUS, fatal].concat(), true), None);
    }

    #[test]
    fn what_no_idle_server_says_is_not_understood() {
        assert_eq!(found(b"Z\0\0\0\x05I", false), None);
        assert_eq!(found(&STATUS[..STATUS.len() - 1], false), None);
        assert_eq!(
            found(&STATUS.repeat(SAID_BYTES_MAX / STATUS.len() + 1), false),
            None
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(said in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = understand(&said);
        }
    }
}
