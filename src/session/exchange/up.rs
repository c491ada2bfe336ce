//! What the client says.

use super::{Exchange, PREFIX_BYTES};
use crate::session::expected::{Asker, Kind};
use crate::session::lane::{Editing, Lane};
use crate::session::statements::Effect;
use crate::wire::frame::Front;

/// Session pooling: everything passes.
impl Exchange<'_> {
    pub(super) fn edit_up(&mut self, lane: &mut Lane) -> Editing {
        while !self.expected.is_full() {
            let Some(front) = lane.front(|_| PREFIX_BYTES) else {
                self.flush_the_last(lane);
                return Editing::Open;
            };
            if !self.may_begin(lane, front) {
                continue;
            }
            match front.tag {
                b'Q' | b'P' => self.note_text(front.tag, lane.body(front)),
                b'E' => self.commit_possible |= self.commit_prepared,
                b'X' => self.terminated = true,
                _ => (),
            }
            self.pass(lane, front);
        }
        Editing::Paused
    }

    /// The message passes as it is.
    pub(super) fn pass(&mut self, lane: &mut Lane, front: Front) {
        let kind = match front.tag {
            b'Q' | b'F' => Kind::Simple,
            b'P' => Kind::Parse,
            b'B' => Kind::Bind,
            b'D' if lane.body(front).first() == Some(&b'S') => Kind::DescribeStatement,
            b'D' => Kind::DescribePortal,
            b'E' => Kind::Execute,
            b'C' => Kind::Close,
            b'S' => Kind::Sync,
            b'c' | b'f' => Kind::CopyEnd,
            // Postgres answers one that says anything as it answers what is wrong in a Parse.
            b'H' if front.body_bytes > 0 && !self.expected.is_copying() => Kind::Parse,
            // Flush, CopyData and the like: nothing answers them, and they begin nothing.
            _ => return lane.pass(front),
        };
        self.pass_as(lane, front, kind, Effect::Nothing);
    }

    pub(super) fn pass_as(&mut self, lane: &mut Lane, front: Front, kind: Kind, effect: Effect) {
        lane.pass(front);
        self.send(kind, Asker::Client, effect);
    }

    fn note_text(&mut self, tag: u8, body: &[u8]) {
        let Some(last_text) = &mut self.last_text else {
            return;
        };
        self.commit_possible |= last_text.replace(body).may_commit();
        let is_named = body.first().is_some_and(|byte| *byte != 0);
        if tag == b'P' && is_named && last_text.may_commit() {
            (self.commit_possible, self.commit_prepared) = (true, true);
        }
    }
}
