//! Reading, writing and the buffers of a lane; see `lane` for what lies in them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{Editing, Editor, Lane, LaneEnd};
use crate::session::buffers::{self, Size};
use crate::tls::Stream;

/// Chunks that a direction passes on before the other one, and the signals to the session, have their turn.
const CHUNKS_AT_ONCE: usize = 16;

impl Lane {
    /// Passes on as much as both sides and the editor allow.
    pub(in crate::session) fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        editor: &mut impl Editor,
    ) -> Poll<LaneEnd> {
        let mut chunks = 0;
        loop {
            let editing = editor.edit(self);
            if ready!(self.poll_drain(cx, to)).is_err() {
                return Poll::Ready(LaneEnd::WriteFailed);
            }
            if self.last.is_some() || editing == Editing::Paused {
                break;
            }
            if chunks == CHUNKS_AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            chunks += 1;
            match self.poll_read(cx, from) {
                Poll::Ready(true) => (),
                Poll::Ready(false) => self.last = Some(LaneEnd::ReadClosed),
                Poll::Pending => break,
            }
        }
        // Nothing more to read: only now is it worth a flush.
        if ready!(self.poll_flush(cx, to)).is_err() {
            return Poll::Ready(LaneEnd::WriteFailed);
        }
        match self.last {
            // Told each time that it is asked: what came before it may have no answer yet.
            Some(LaneEnd::Broken(broken)) => Poll::Ready(LaneEnd::Broken(broken)),
            _ => self.last.take().map_or(Poll::Pending, Poll::Ready),
        }
    }

    /// Reads to the end and throws away what comes: whoever it was for has left.
    pub(in crate::session) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        editor: &mut impl Editor,
    ) -> Poll<LaneEnd> {
        loop {
            let editing = editor.edit(self);
            self.outbox.clear();
            self.outbox_written = 0;
            self.start = self.cleared;
            self.settle();
            if let Some(end) = self.last.take() {
                return Poll::Ready(end);
            }
            if editing == Editing::Paused {
                return Poll::Pending;
            }
            if !ready!(self.poll_read(cx, from)) {
                return Poll::Ready(LaneEnd::ReadClosed);
            }
        }
    }

    /// Reads what there is without passing anything on; `Ready(false)` at the end.
    pub(in crate::session) fn poll_read(&mut self, cx: &mut Context<'_>, from: &mut Stream) -> Poll<bool> {
        if let Some(pacing) = &mut self.pacing
            && pacing.poll_ready(cx).is_pending()
        {
            self.settle();
            return Poll::Pending;
        }
        // Most looks find nothing: they cost no buffer.
        if from.poll_news(cx).is_pending() {
            return self.nothing_came();
        }
        self.make_room(1);
        let end = self.end;
        let Some(inbox) = &mut self.inbox else {
            return Poll::Ready(false);
        };
        match from.poll_read_news(cx, &mut inbox[end..]) {
            Poll::Ready(Ok(count @ 1..)) => {
                self.end += count;
                self.size = match inbox.len() - self.end {
                    0 => Size::Large,
                    _ => Size::Small,
                };
                if let Some(pacing) = &mut self.pacing {
                    pacing.charge(count);
                }
                Poll::Ready(true)
            }
            Poll::Ready(_) => {
                self.settle();
                Poll::Ready(false)
            }
            Poll::Pending => self.nothing_came(),
        }
    }

    fn nothing_came(&mut self) -> Poll<bool> {
        self.size = Size::Small;
        self.settle();
        Poll::Pending
    }

    /// Writes out what may be. `Ready(Ok)` once nothing is left.
    pub(in crate::session) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while self.is_blocked() {
            let cleared = match &self.inbox {
                Some(inbox) => &inbox[self.start..self.cleared],
                None => &[],
            };
            let outbox = &self.outbox[self.outbox_written..];
            let written = if outbox.is_empty() {
                Pin::new(&mut *to).poll_write(cx, cleared)
            } else if cleared.is_empty() {
                Pin::new(&mut *to).poll_write(cx, outbox)
            } else {
                Pin::new(&mut *to).poll_write_vectored(cx, &[IoSlice::new(outbox), IoSlice::new(cleared)])
            };
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes += count as u64;
            self.unflushed = true;
            self.written(count);
        }
        self.settle();
        Poll::Ready(Ok(()))
    }

    /// Pushes out what the TLS layer may still hold.
    pub(in crate::session) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, count: usize) {
        let from_outbox = count.min(self.outbox.len() - self.outbox_written);
        self.outbox_written += from_outbox;
        self.start += count - from_outbox;
        if self.outbox_written == self.outbox.len() {
            self.outbox.clear();
            self.outbox_written = 0;
        }
    }

    /// Gives back the buffers that nothing stands in.
    fn settle(&mut self) {
        if self.outbox.is_empty() {
            buffers::give_back_outgoing(std::mem::take(&mut self.outbox));
        }
        if self.start == self.end
            && self.kept.is_none()
            && let Some(inbox) = self.inbox.take()
        {
            (self.start, self.cleared, self.end) = (0, 0, 0);
            buffers::give_back(inbox);
        }
    }

    /// Room for at least `bytes` more, and for all of what the editor wants to see.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let used = self.end - self.start;
        let needed = (used + bytes).max(self.cleared - self.start + self.wanted);
        let Some(inbox) = &mut self.inbox else {
            self.inbox = Some(if needed <= buffers::SMALL_BYTES {
                buffers::take(self.size)
            } else {
                vec![0; needed].into_boxed_slice()
            });
            return;
        };
        if inbox.len() - self.start >= needed {
            return;
        }
        // What stood in front gives way.
        self.kept = None;
        if inbox.len() >= needed {
            inbox.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = match needed {
                ..=buffers::LARGE_BYTES => buffers::take(Size::Large),
                _ => vec![0; needed].into_boxed_slice(),
            };
            larger[..used].copy_from_slice(&inbox[self.start..self.end]);
            buffers::give_back(std::mem::replace(inbox, larger));
        }
        self.cleared -= self.start;
        self.start = 0;
        self.end = used;
    }
}
