//! Whether the server has heard of what the client has sent in a turn. One that rests may end its session at the very
//! moment at which it is lent; then another one can be asked, and the client need not know.

use super::{Exchange, Pooled};
use crate::session::lane::Lane;
use crate::session::statements::Effect;
use crate::wire::frame::Front;
use crate::wire::reply::ErrorFields;

/// The server says so only of a session that has had nothing to do, and before it does anything else.
const IDLE_SESSION_TIMEOUT: &str = "57P05";

/// Somebody has had the session forget pgwake's BEGIN.
const UNKNOWN_STATEMENT: &str = "26000";

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// The server has said nothing yet, and all that was sent can be taken back.
    Unheard,
    /// It may have heard.
    Begun,
    /// It has ended the session without having heard.
    Ended,
}

impl Exchange<'_> {
    /// What is sent can be taken back until the server says something.
    pub(in crate::session) fn unheard(mut self) -> Self {
        self.hearing = Hearing::Unheard;
        self
    }

    /// The server may have heard, or what was sent cannot be taken back any more.
    pub(in crate::session) fn note_heard(&mut self) {
        if self.hearing == Hearing::Unheard {
            self.hearing = Hearing::Begun;
        }
    }

    /// Whether the server may have heard.
    pub(in crate::session) fn may_be_heard(&self) -> bool {
        self.hearing == Hearing::Begun
    }

    /// Whether pgwake itself has something to say now. While what was sent can be taken back, and the server is going to
    /// answer, it waits for that.
    pub(in crate::session) fn is_to_say(&self) -> bool {
        let may_say = match self.hearing {
            Hearing::Unheard => !self.expected.has_ready(),
            Hearing::Begun => true,
            Hearing::Ended => false,
        };
        may_say && self.expected.is_to_say()
    }

    /// Whether the server has ended the session without having heard of what was sent, which is to be taken back.
    pub(in crate::session) fn has_ended_unheard(&self) -> bool {
        self.hearing == Hearing::Ended
    }

    /// The server's first word is that it has ended the session, or that it ignores all that was sent. Other errors than
    /// that it was idle for too long may come in the middle of what was sent, of which a part may be done.
    pub(super) fn ended_unheard(&mut self, lane: &mut Lane, front: Front, fields: &ErrorFields) -> bool {
        let is_before = if fields.ends_session {
            fields.sqlstate == IDLE_SESSION_TIMEOUT || self.expected.is_answered()
        } else {
            fields.sqlstate == UNKNOWN_STATEMENT && self.is_beginning()
        };
        if self.hearing != Hearing::Unheard || !is_before || lane.is_blocked() {
            return false;
        }
        self.undo_everything();
        self.hearing = Hearing::Ended;
        lane.skip(front);
        true
    }

    /// Nothing of what was sent is done.
    pub(super) fn undo_everything(&mut self) {
        let Some(Pooled {
            statements, carried, ..
        }) = &mut self.pooled
        else {
            return;
        };
        let effects = self.expected.take_effects();
        statements.undo_all(
            effects,
            Effect::Nothing,
            &mut carried.prepared,
            std::iter::empty(),
        );
    }
}
