//! Startup packets over arbitrary bytes and splits.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;

/// Gives the bytes in pieces of the given lengths, then the rest at once.
struct InPieces<'a> {
    rest: &'a [u8],
    pieces: std::vec::IntoIter<usize>,
}

impl AsyncRead for InPieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let piece = self.pieces.next().unwrap_or(usize::MAX).max(1);
        let count = piece.min(buf.remaining()).min(self.rest.len());
        buf.put_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        Poll::Ready(Ok(()))
    }
}

/// The result and how many bytes were taken.
fn read(bytes: &[u8], pieces: Vec<usize>) -> (String, usize) {
    let mut stream = InPieces {
        rest: bytes,
        pieces: pieces.into_iter(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(read_packet(&mut stream));
    (format!("{result:?}"), bytes.len() - stream.rest.len())
}

fn packet(code: i32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(rest.len() + 8).unwrap().to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(rest);
    bytes
}

async fn parsed(bytes: &[u8]) -> Result<Option<Packet>, WireError> {
    read_packet(&mut &bytes[..]).await
}

#[tokio::test]
async fn each_kind_of_packet_is_recognised() {
    assert_eq!(
        parsed(&packet(SSL_REQUEST, b"")).await.unwrap(),
        Some(Packet::SslRequest)
    );
    assert_eq!(
        parsed(&packet(GSSENC_REQUEST, b"")).await.unwrap(),
        Some(Packet::GssEncRequest)
    );
    let cancel = parsed(&packet(CANCEL_REQUEST, b"\0\0\0\x07abcd")).await.unwrap();
    assert_eq!(
        cancel,
        Some(Packet::Cancel(CancelKey {
            pid: 7,
            secret: Bytes::from_static(b"abcd")
        }))
    );
    assert_eq!(parsed(b"").await.unwrap(), None);
}

#[tokio::test]
async fn parameters_keep_their_order_and_the_last_value_counts() {
    let bytes = packet(196_610, b"user\0app\0options\0-c a=b\0user\0bob\0\0");
    let Some(Packet::Start(startup)) = parsed(&bytes).await.unwrap() else {
        panic!("not a startup packet")
    };
    assert_eq!(startup.minor, 2);
    assert_eq!(startup.role(), b"bob");
    assert_eq!(startup.database(), b"bob");
    assert_eq!(startup.parameter("options"), Some(&b"-c a=b"[..]));
}

#[tokio::test]
async fn what_breaks_the_layout_is_refused() {
    for bytes in [
        packet(196_608, b"user\0app\0"),         // no terminator
        packet(196_608, b"user\0app\0\0x"),      // bytes behind it
        packet(196_608, b"user\0\0\0"),          // nobody
        packet(196_608, b"\0"),                  // no parameters at all
        packet(SSL_REQUEST, b"x"),               // SSLRequest with a body
        packet(CANCEL_REQUEST, b"\0\0\0\x07ab"), // short key
        packet(CANCEL_REQUEST, &[0; 300]),       // long key
        vec![0, 0, 0, 7, 0, 0, 0],
        vec![0x7f, 0xff, 0xff, 0xff],
    ] {
        let result = parsed(&bytes).await;
        assert!(
            matches!(result, Err(WireError::Violation(_))),
            "{bytes:?}: {result:?}"
        );
    }
    let old = parsed(&packet(131_072, b"user\0app\0\0")).await;
    assert!(
        matches!(old, Err(WireError::Version { major: 2, minor: 0 })),
        "{old:?}"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_in_arbitrary_pieces_give_the_same_and_never_read_on(
        code in prop_oneof![Just(SSL_REQUEST), Just(GSSENC_REQUEST), Just(CANCEL_REQUEST), Just(196_608), any::<i32>()],
        body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'u'), any::<u8>()], 0..200),
        length_off_by in prop_oneof![4 => Just(0_i32), 1 => -20..20_i32],
        next in proptest::collection::vec(any::<u8>(), 0..20),
        pieces in proptest::collection::vec(1..20_usize, 0..40),
    ) {
        let mut bytes = packet(code, &body);
        let length = i32::try_from(bytes.len()).unwrap() + length_off_by;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes.extend(next);
        let at_once = read(&bytes, vec![]);
        prop_assert_eq!(&at_once, &read(&bytes, pieces));
        prop_assert_eq!(&at_once, &read(&bytes, vec![1; 400]));
        prop_assert!(at_once.1 <= usize::try_from(length.max(4)).unwrap());
    }
}

#[test]
fn whoever_says_anything_but_no_comes_to_replicate() {
    let asks = |values: &[&'static str]| {
        let parameters = values
            .iter()
            .map(|value| (Bytes::from("replication"), Bytes::from(*value)));
        Startup {
            minor: 0,
            parameters: parameters.collect(),
        }
        .asks_for_replication()
    };
    for yes in ["true", "database", "on", "1", "YES", "t", "o", "", "nonsense"] {
        assert!(asks(&[yes]), "{yes:?}");
    }
    for no in ["false", "off", "no", "0", "F", "Of"] {
        assert!(!asks(&[no]), "{no:?}");
    }
    assert!(asks(&["database", "false"]));
    assert!(!asks(&[]));
}
