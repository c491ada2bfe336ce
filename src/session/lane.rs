//! One direction of the relay: reads a chunk, lets an editor see the messages in it, writes it on.
//!
//! ```text
//!           inbox: one buffer, as it was read
//!   ┌───────────────┬────────────────────────────┐
//!   │ cleared       │ not yet seen by the editor │ ◀── read
//!   └───────┬───────┴────────────────────────────┘
//!  outbox ──┴──▶ written together: what the editor wrote anew, then what it cleared
//! ```
//!
//! What the editor clears is written from where it was read, without a copy; only where it writes something
//! anew, what came before is moved to the outbox. A message is cleared as it comes, in pieces, so a row of any
//! size passes in constant memory; the editor may ask to see the beginning of a message, or a small one whole.
//! While nothing is on its way there is no buffer. Nothing is read before all that was read is written.

mod flow;

use std::time::Duration;

use super::buffers::{self, Size};
use super::pacing::Pacing;
use crate::tenant::quota::Meter;
use crate::wire::frame::{Broken, Front, HEADER_BYTES, Sender, front};

/// Why a direction ended.
#[derive(Debug)]
pub(super) enum LaneEnd {
    /// The side that is read from closed or broke; all that it had sent has been passed on.
    ReadClosed,
    /// The side that is written to broke.
    WriteFailed,
    /// A message broke the framing; what came before it has been passed on.
    Broken(Broken),
}

/// Who looks at messages and says what becomes of them.
pub(super) trait Editor {
    /// Looks at what stands in the lane until it needs more bytes, or does not want to go on.
    fn edit(&mut self, lane: &mut Lane) -> Editing;
}

/// How far an editor came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Editing {
    /// It has seen everything and takes more.
    Open,
    /// What it has seen is to be written; it takes no more now.
    Paused,
}

/// What becomes of the rest of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Pass,
    Skip,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    sender: Sender,
    inbox: Option<Box<[u8]>>,
    /// Where the cleared part begins, where it ends, where what was read ends.
    start: usize,
    cleared: usize,
    end: usize,
    outbox: Vec<u8>,
    outbox_written: usize,
    /// Of the message that the editor has dealt with and that has not come whole.
    rest_bytes: usize,
    rest: Rest,
    /// So much of the message at the front the editor wants to see at once.
    wanted: usize,
    size: Size,
    /// Written bytes may still sit in the TLS layer.
    unflushed: bool,
    /// What ends this direction once all that came before it is passed on.
    last: Option<LaneEnd>,
    bytes: u64,
    /// Where what can be taken back begins, and how many bytes were written then.
    kept: Option<(usize, u64)>,
    /// How fast it may be read.
    pacing: Option<Pacing>,
}

/// For whoever may have to say again what was passed on.
impl Lane {
    /// From here on what is passed on can be taken back, for as long as it fits into the buffer that it was read into.
    pub(super) fn keep(&mut self) {
        self.kept = self.is_at_rest().then_some((self.cleared, self.bytes));
    }

    /// It is not taken back.
    pub(super) fn let_go(&mut self) {
        self.kept = None;
    }

    /// Whether all that was passed on can be taken back.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some() && self.last.is_none()
    }

    /// What was passed on stands in front again, as if none of it had been.
    pub(super) fn take_back(&mut self) {
        if let Some((at, bytes)) = self.kept.take() {
            (self.start, self.cleared, self.bytes) = (at, at, bytes);
            self.outbox.clear();
            (self.outbox_written, self.rest_bytes, self.wanted, self.unflushed) = (0, 0, 0, false);
        }
    }
}

impl Lane {
    /// A direction that begins between two messages of `sender`.
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            inbox: None,
            start: 0,
            cleared: 0,
            end: 0,
            outbox: Vec::new(),
            outbox_written: 0,
            rest_bytes: 0,
            rest: Rest::Pass,
            wanted: 0,
            size: Size::Small,
            unflushed: false,
            last: None,
            bytes: 0,
            kept: None,
            pacing: None,
        }
    }

    /// What slows it down, for another lane.
    pub(super) fn take_meter(&mut self) -> Option<Meter> {
        self.pacing.take().map(Pacing::into_meter)
    }

    /// The same, read no faster than `meter` allows.
    pub(super) fn paced(mut self, meter: Meter) -> Self {
        self.pacing = Some(Pacing::new(meter));
        self
    }

    /// Its client was refused something that came too fast, and is not read for so long.
    pub(super) fn pause_for(&mut self, time: Duration) {
        if let Some(pacing) = &mut self.pacing {
            pacing.pause_for(time);
        }
    }

    /// Whether it is not read for a while, because it was read too fast.
    pub(super) fn is_paused(&self) -> bool {
        self.pacing.as_ref().is_some_and(Pacing::is_paused)
    }

    /// Puts bytes behind those that have been read, which came another way.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.make_room(bytes.len());
            let end = self.end + bytes.len();
            if let Some(inbox) = &mut self.inbox {
                inbox[self.end..end].copy_from_slice(bytes);
            }
            self.end = end;
        }
    }

    /// How many bytes were written on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits to be written and no message is half written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_between_messages() && !self.unflushed
    }

    /// Whether the stream that is written to stands between two messages.
    pub(super) fn is_between_messages(&self) -> bool {
        !self.is_blocked() && (self.rest_bytes == 0 || self.rest == Rest::Skip)
    }

    /// Whether bytes wait for the other side to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.start < self.cleared || !self.outbox.is_empty()
    }

    /// Whether nothing has been read that was not dealt with.
    pub(super) fn is_empty(&self) -> bool {
        self.cleared == self.end && self.rest_bytes == 0
    }

    /// Whether all that was read and not dealt with are whole messages, a Terminate at the end.
    pub(super) fn ends_with_terminate(&self) -> bool {
        let mut rest = self.unseen();
        let mut last = None;
        while self.rest_bytes == 0
            && let Some((tag, behind)) = self.first_whole(rest)
        {
            (rest, last) = (behind, Some(tag));
        }
        rest.is_empty() && last == Some(b'X')
    }

    /// What ended it, where nobody passes anything on.
    pub(super) fn take_end(&mut self) -> Option<LaneEnd> {
        self.last.take()
    }

    /// Whether a message broke the framing. Nothing is read any more, and whoever ends the lane says so.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.last, Some(LaneEnd::Broken(_)))
    }

    /// What broke the framing passes: the other side judges it.
    pub(super) fn pass_broken(&mut self) {
        self.cleared = self.end;
    }

    /// Whether the side that is read from has closed, and what it sent last is still on its way.
    pub(super) fn has_seen_the_end(&self) -> bool {
        matches!(self.last, Some(LaneEnd::ReadClosed))
    }
}

/// For the editor.
impl Lane {
    /// The message at the front, with as much of its body as has come; at least `seen_min` of it, or all of it where
    /// it is shorter. `None`: more bytes are needed, or the stream is broken, or what came is dealt with.
    pub(super) fn front(&mut self, seen_min: impl FnOnce(Front) -> usize) -> Option<Front> {
        self.pass_rest();
        if self.rest_bytes > 0 || self.last.is_some() {
            return None;
        }
        self.wanted = 0;
        match front(self.unseen(), self.sender) {
            Ok(None) => None,
            Ok(Some(front)) => {
                let wanted = HEADER_BYTES + seen_min(front).min(front.body_bytes);
                if self.unseen().len() < wanted {
                    self.wanted = wanted;
                    return None;
                }
                Some(front)
            }
            Err(broken) => {
                self.last = Some(LaneEnd::Broken(broken));
                self.end = self.end.min(self.cleared + HEADER_BYTES);
                None
            }
        }
    }

    /// What has come of the rest of a message that the editor has let pass in part.
    pub(super) fn rest(&self) -> &[u8] {
        let unseen = self.unseen();
        &unseen[..unseen.len().min(self.rest_bytes)]
    }

    /// Whether the messages that the editor has dealt with have come whole.
    pub(super) fn is_between_seen_messages(&self) -> bool {
        self.rest_bytes == 0
    }

    /// What has come of the body of the message at the front.
    pub(super) fn body(&self, front: Front) -> &[u8] {
        let unseen = &self.unseen()[HEADER_BYTES..];
        &unseen[..unseen.len().min(front.body_bytes)]
    }

    /// The message at the front passes as it is.
    pub(super) fn pass(&mut self, front: Front) {
        self.rest = Rest::Pass;
        self.rest_bytes = HEADER_BYTES + front.body_bytes;
        self.pass_rest();
    }

    /// The messages at the front pass that have come whole and have such a tag.
    pub(super) fn pass_all(&mut self, has_tag: impl Fn(u8) -> bool) {
        if self.rest_bytes > 0 {
            return;
        }
        let unseen = self.unseen();
        let mut rest = unseen;
        while let Some((tag, behind)) = self.first_whole(rest)
            && has_tag(tag)
        {
            rest = behind;
        }
        self.cleared += unseen.len() - rest.len();
    }

    /// The message at the front is thrown away.
    pub(super) fn skip(&mut self, front: Front) {
        self.rest = Rest::Skip;
        self.rest_bytes = HEADER_BYTES + front.body_bytes;
        self.pass_rest();
    }

    /// The first `replaced` bytes of the message's body, which have come, give way to `with`; the rest passes.
    pub(super) fn replace(&mut self, front: Front, replaced: usize, with: &[&[u8]]) {
        let rest = front.body_bytes - replaced;
        let length = 4 + rest + with.iter().map(|part| part.len()).sum::<usize>();
        // Names have been made a little longer: a message that was too long for a length already is broken there.
        let length = i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
        self.put(&[&[front.tag], &length]);
        self.put(with);
        self.rest = Rest::Skip;
        self.rest_bytes = HEADER_BYTES + replaced;
        self.pass_rest();
        self.rest = Rest::Pass;
        self.rest_bytes = rest;
        self.pass_rest();
    }

    /// Writes something of our own in front of the message at the front. Only between messages.
    pub(super) fn put(&mut self, parts: &[&[u8]]) {
        debug_assert!(self.rest_bytes == 0 || self.rest == Rest::Skip);
        if self.outbox.capacity() == 0 {
            self.outbox = buffers::take_outgoing();
        }
        if let Some(inbox) = &self.inbox {
            self.outbox.extend_from_slice(&inbox[self.start..self.cleared]);
            self.start = self.cleared;
        }
        for part in parts {
            self.outbox.extend_from_slice(part);
        }
    }

    /// The tag of the message that `bytes` begin with, if it has come whole, and what stands behind it.
    fn first_whole<'b>(&self, bytes: &'b [u8]) -> Option<(u8, &'b [u8])> {
        let front = front(bytes, self.sender).ok()??;
        let behind = bytes.get(HEADER_BYTES + front.body_bytes..)?;
        Some((front.tag, behind))
    }

    fn unseen(&self) -> &[u8] {
        match &self.inbox {
            Some(inbox) => &inbox[self.cleared..self.end],
            None => &[],
        }
    }

    /// Deals with what has come of the rest of a message.
    pub(super) fn pass_rest(&mut self) {
        let count = self.rest_bytes.min(self.end - self.cleared);
        if count == 0 {
            return;
        }
        self.rest_bytes -= count;
        if self.rest == Rest::Skip {
            self.drop_unseen(count);
        } else {
            self.cleared += count;
        }
    }

    /// Takes `count` bytes out behind what is cleared.
    fn drop_unseen(&mut self, count: usize) {
        if self.start < self.cleared {
            // They stand between bytes that are to be written: those in front move out of the way.
            self.put(&[]);
        }
        self.start += count;
        self.cleared = self.start;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        buffers::give_back_outgoing(std::mem::take(&mut self.outbox));
        if let Some(inbox) = self.inbox.take() {
            buffers::give_back(inbox);
        }
    }
}

#[cfg(test)]
mod tests;
