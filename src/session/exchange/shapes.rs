//! A statement that is prepared anew on another session is what its client was told, or Postgres' own error.
//!
//! Postgres refuses to run a plan whose rows have changed since it was prepared. A session on which it is prepared only
//! now has nothing to compare with: the one who remembers is pgwake, from what Describe told the client. Only where
//! the two are not known to be the same is the session asked, in front of the client's message, and awaited.

use bytes::BytesMut;

use super::{Exchange, put::put};
use crate::session::error::SessionError;
use crate::session::expected::{Asker, Kind};
use crate::session::lane::Lane;
use crate::session::statements::{Effect, Shape, Statement, Used};
use crate::wire::frame::{Front, HEADER_BYTES};
use crate::wire::refuse;

/// Where Postgres says so. Drivers tell this error from others with the same SQLSTATE by it.
const ROUTINE: &str = "RevalidateCachedQuery";

/// What the session was asked for the message at the front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Asked {
    #[default]
    Nothing,
    /// What the statement that it has looks like.
    Described,
    /// The same of the statement as it is prepared now.
    Prepared,
    /// To have the statements that it calls by the names that its client gave them.
    Called,
}

/// Whether a statement on the session is what its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    Not,
}

impl Exchange<'_> {
    /// `None`: the session is being asked.
    pub(super) fn wait_for_shape(&mut self, lane: &mut Lane, used: &Used) -> Option<Fit> {
        // Where the server refuses or ignores what comes there is nothing to be deceived by.
        if used.told.is_unknown() || self.expected.ignores() || self.expected.has_failed() {
            return Some(Fit::Fits);
        }
        let id = used.statement.id;
        let asked = self.facts().asked;
        let there = self.pooled().carried.prepared.shape(id);
        let suits = used.statement.suits(self.pooled().profile);
        match (there, there.and_then(|there| used.told.fits(there)), asked) {
            (_, Some(true), _) => return Some(Fit::Fits),
            (_, Some(false), Asked::Prepared) => return Some(Fit::Not),
            // Prepared under other settings: here it would become something else.
            (Some(_), Some(false), _) if !suits => return Some(Fit::Not),
            (Some(_), None, Asked::Nothing) => self.ask(lane, used, Asked::Described),
            (_, Some(false), _) | (None, _, Asked::Nothing) => self.ask(lane, used, Asked::Prepared),
            // It was refused: so is what comes now.
            (None, ..) => return Some(Fit::Fits),
            // The answer has not come.
            (_, None, _) => (),
        }
        self.hold(lane)
    }

    fn ask(&mut self, lane: &mut Lane, used: &Used, asked: Asked) {
        self.put_begin(lane);
        let statement = &used.statement;
        if asked == Asked::Prepared {
            self.close_if_there(lane, statement);
            self.ensure(lane, statement);
        }
        let name = statement.server_name();
        put(lane, b'D', &[b"S", name.as_bytes(), b"\0"]);
        let effect = Effect::Describes(statement.clone(), used.name.clone());
        self.send(Kind::DescribeStatement, Asker::Pgwake, effect);
        self.expected.asks();
        let facts = self.facts();
        (facts.asked, facts.is_flushed) = (asked, false);
    }

    /// The message at the front waits for answers to what was sent before it; the server sends them now.
    pub(super) fn hold<T>(&mut self, lane: &mut Lane) -> Option<T> {
        if self.expected.is_unsynced() && !std::mem::replace(&mut self.facts().is_flushed, true) {
            put(lane, b'H', &[]);
        }
        None
    }

    /// The client's plan does not fit its tables any more.
    pub(super) fn refuse_plan(&mut self, lane: &mut Lane, front: Front, statement: &Statement) {
        let pooled = self.pooled();
        pooled.texts.retire(statement);
        let mut message = BytesMut::new();
        refuse::error_in(&SessionError::PlanChanged, ROUTINE, pooled.session, &mut message);
        // Without its header, which the server's has.
        self.refuse(lane, front, Kind::Parse, message.freeze().slice(HEADER_BYTES..));
    }

    /// Whether the answer that comes next tells a shape that is to be known.
    pub(super) fn is_describing(&self) -> bool {
        let front = self.expected.front();
        front.is_some_and(|entry| matches!(entry.effect, Effect::Describes(..)))
    }

    /// A part of an answer to Describe.
    pub(super) fn described(&mut self, tag: u8, body: &[u8]) {
        let (Some(pooled), Some(entry)) = (&mut self.pooled, self.expected.front()) else {
            return;
        };
        let Effect::Describes(statement, name) = &entry.effect else {
            return;
        };
        let shape = Shape::of(tag, body);
        pooled.carried.prepared.learn(statement.id, shape);
        if entry.asker == Asker::Client {
            pooled.statements.tell(name, statement, shape);
        }
    }
}
