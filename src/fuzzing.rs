//! Every decoder of bytes that somebody sends who has proved nothing yet, as one function of bytes each, with what must
//! hold of it: for the fuzz targets in `tests/fuzz`, and for the property tests below, which do the same everywhere.
//!
//! Compiled for tests and fuzzing alone.

use std::{
    fmt::Debug,
    hint::black_box,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use crate::auth;
use crate::wire::{
    extended,
    frame::{HEADER_BYTES, Sender, front},
    message::{read_message, take_message},
    options::take_own_words,
    proxy_header::read_proxy_header,
    reply,
    startup::{PACKET_BYTES_MAX, read_packet},
};

/// Longest body of a message before the login.
const BODY_BYTES_MAX: usize = 4096;

/// Bytes that come in pieces of this length, and then end.
struct Pieces<'a> {
    rest: &'a [u8],
    length: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.length.min(buffer.remaining()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(count);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// Reads once with all bytes at once and once with one at a time: the same comes of it, from the same bytes.
fn however_it_comes<T: Debug>(bytes: &[u8], read: impl AsyncFn(&mut Pieces<'_>) -> T) -> usize {
    let read = |length| {
        let mut pieces = Pieces { rest: bytes, length };
        // What comes from memory is never waited for.
        let result = read(&mut pieces).now_or_never().expect("nothing is waited for");
        (format!("{result:?}"), bytes.len() - pieces.rest.len())
    };
    let at_once = read(usize::MAX);
    assert_eq!(at_once, read(1));
    at_once.1
}

/// The first packet of a connection.
pub fn startup_packet(bytes: &[u8]) {
    let taken = however_it_comes(bytes, async |pieces| read_packet(pieces).await);
    assert!(taken <= PACKET_BYTES_MAX, "{taken} bytes were taken");
}

/// What a load balancer sends ahead of it.
pub fn proxy_header(bytes: &[u8]) {
    however_it_comes(bytes, async |pieces| read_proxy_header(pieces).await);
}

/// `options` of a startup packet.
pub fn options(bytes: &[u8]) {
    let taken = take_own_words(bytes);
    assert!(taken.rest.len() <= bytes.len(), "more is left than there was");
    if taken.own.is_empty() {
        let again = take_own_words(&taken.rest);
        assert!(again.own.is_empty(), "a word was there only the second time");
    }
}

/// A message in the middle of a login.
pub fn login_message(bytes: &[u8]) {
    however_it_comes(bytes, async |pieces| {
        read_message(pieces, b'p', BODY_BYTES_MAX).await
    });
    let mut read = BytesMut::from(bytes);
    if let Ok(Some(message)) = take_message(&mut read, BODY_BYTES_MAX) {
        assert_eq!(HEADER_BYTES + message.body.len() + read.len(), bytes.len());
    }
}

/// The inside of SASL messages: the first one, and a proof behind it. No bytes are a proof.
pub fn sasl(bytes: &[u8]) {
    auth::decode_sasl(bytes);
}

/// A token in a password's place.
pub fn token(bytes: &[u8]) {
    auth::decode_token(bytes);
}

/// A set of keys, as whoever answers at an issuer's address may send it.
pub fn key_set(bytes: &[u8]) {
    auth::decode_key_set(bytes);
}

/// Messages as they are framed in both directions.
pub fn frames(bytes: &[u8]) {
    for sender in [Sender::Client, Sender::Server] {
        // Hidden from a compiler that would prove it, and leave nothing to run.
        if let Ok(Some(front)) = front(black_box(bytes), sender) {
            assert!(bytes.len() >= HEADER_BYTES);
            let declared = i32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            assert_eq!(
                i64::try_from(front.body_bytes).ok(),
                Some(i64::from(declared) - 4)
            );
        }
    }
}

/// What a server says to a login, and the bodies of messages that are looked into.
pub fn bodies(bytes: &[u8]) {
    let _ = reply::authentication_request(&Bytes::copy_from_slice(bytes));
    let _ = reply::error_fields(bytes);
    let _ = reply::data_row(bytes);
    let _ = extended::parse(bytes);
    let _ = extended::bind_names(bytes);
    let _ = extended::object(bytes);
    assert!(extended::columns(bytes).count() <= bytes.len());
}

#[cfg(test)]
mod tests;
