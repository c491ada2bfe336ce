//! One direction of the relay: reads a chunk, lets an observer look at the messages in it, writes it on.
//!
//! Bytes are neither held back until a message is complete nor copied; a chunk that the other side does not
//! take yet is all that is ever buffered, so a row of any size passes in constant memory. While nothing is on
//! its way there is no buffer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, Size};
use crate::tls::Stream;
use crate::wire::scan::{Broken, Observer, Scanner};

/// Chunks that a direction passes on before the other one, and the signals to the session, have their turn.
const CHUNKS_AT_ONCE: usize = 16;

/// Why a direction ended.
#[derive(Debug)]
pub(super) enum PumpEnd {
    /// The side that is read from closed or broke; all that it had sent has been passed on.
    ReadClosed,
    /// The side that is written to broke.
    WriteFailed,
    /// A message broke the framing; what came before it has been passed on.
    Broken(Broken),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pump {
    scanner: Scanner,
    chunk: Option<Chunk>,
    size: Size,
    /// Written bytes may still sit in the TLS layer.
    unflushed: bool,
    /// What ends this direction once all that came before it is passed on.
    last: Option<PumpEnd>,
    bytes: u64,
}

#[derive(Debug)]
struct Chunk {
    buffer: Box<[u8]>,
    written: usize,
    end: usize,
}

impl Pump {
    /// A direction that begins between two messages.
    pub(super) fn new() -> Self {
        Self {
            scanner: Scanner::default(),
            chunk: None,
            size: Size::Small,
            unflushed: false,
            last: None,
            bytes: 0,
        }
    }

    /// Puts bytes in front that were read before the relay began.
    pub(super) fn begin_with(&mut self, early: &[u8], observer: &mut impl Observer) {
        if !early.is_empty() {
            self.take_in(early.to_vec().into_boxed_slice(), early.len(), observer);
        }
    }

    /// How many bytes were passed on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is half read or half written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.chunk.is_none() && !self.unflushed && self.scanner.is_between_messages()
    }

    /// Whether the stream that is written to stands between two messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.chunk.is_none() && self.scanner.is_between_messages()
    }

    /// Whether bytes wait for the other side to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.chunk.is_some()
    }

    /// Whether the side that is read from has closed, and what it sent last is still on its way.
    pub(super) fn has_seen_the_end(&self) -> bool {
        matches!(self.last, Some(PumpEnd::ReadClosed))
    }

    /// Writes out what has been read. `Ready(Ok)` once nothing is left.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while let Some(chunk) = &mut self.chunk {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &chunk.buffer[chunk.written..chunk.end]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes += count as u64;
            self.unflushed = true;
            chunk.written += count;
            if chunk.written == chunk.end
                && let Some(chunk) = self.chunk.take()
            {
                buffers::give_back(chunk.buffer);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on as much as both sides allow.
    pub(super) fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        observer: &mut impl Observer,
    ) -> Poll<PumpEnd> {
        let mut chunks = 0;
        loop {
            if ready!(self.poll_drain(cx, to)).is_err() {
                return Poll::Ready(PumpEnd::WriteFailed);
            }
            if self.last.is_some() {
                break;
            }
            if chunks == CHUNKS_AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            chunks += 1;
            match self.poll_read(cx, from, observer) {
                Poll::Ready(true) => (),
                Poll::Ready(false) => self.last = Some(PumpEnd::ReadClosed),
                Poll::Pending => break,
            }
        }
        // Nothing more to read: only now is it worth a flush.
        if self.unflushed {
            match ready!(Pin::new(to).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(_) => return Poll::Ready(PumpEnd::WriteFailed),
            }
        }
        self.last.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Reads to the end and throws away what comes: whoever it was for has left.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        observer: &mut impl Observer,
    ) -> Poll<PumpEnd> {
        loop {
            if let Some(chunk) = self.chunk.take() {
                buffers::give_back(chunk.buffer);
            }
            if let Some(end) = self.last.take() {
                return Poll::Ready(end);
            }
            if !ready!(self.poll_read(cx, from, observer)) {
                return Poll::Ready(PumpEnd::ReadClosed);
            }
        }
    }

    /// Reads the next chunk; `false` at the end. The buffer is held only as long as there are bytes for it.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        observer: &mut impl Observer,
    ) -> Poll<bool> {
        let mut buffer = buffers::take(self.size);
        let mut read = ReadBuf::new(&mut buffer);
        let result = Pin::new(from).poll_read(cx, &mut read);
        let count = read.filled().len();
        match result {
            Poll::Ready(Ok(())) if count > 0 => {
                self.size = if count == buffer.len() {
                    Size::Large
                } else {
                    Size::Small
                };
                self.take_in(buffer, count, observer);
                Poll::Ready(true)
            }
            Poll::Ready(_) => {
                buffers::give_back(buffer);
                Poll::Ready(false)
            }
            Poll::Pending => {
                self.size = Size::Small;
                buffers::give_back(buffer);
                Poll::Pending
            }
        }
    }

    fn take_in(&mut self, buffer: Box<[u8]>, count: usize, observer: &mut impl Observer) {
        let end = match self.scanner.scan(&buffer[..count], observer) {
            Ok(()) => count,
            Err((passing, broken)) => {
                self.last = Some(PumpEnd::Broken(broken));
                passing
            }
        };
        if end == 0 {
            buffers::give_back(buffer);
        } else {
            self.chunk = Some(Chunk {
                buffer,
                written: 0,
                end,
            });
        }
    }
}
