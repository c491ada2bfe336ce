//! What becomes of a server session whose client has left in the middle: what runs is cancelled, what is open is
//! rolled back, and it rests; where that does not come out at once, it is closed.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::{
    Pooled,
    talk::{Heard, drain},
    turn::Turn,
};
use crate::session::{
    expected::Kind,
    profile::{Pins, apply::Flight},
    statements::Prepared,
    words::{Tags, Words},
};
use crate::shutdown::Phase;
use crate::wire::say;

/// For everything together. Opening another session takes milliseconds.
const SALVAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Parse of a text that ends a transaction behind messages without a Sync, which would commit what they have done.
const PARSE_ROLLBACK: &[u8] = b"P\0\0\0\x10\0ROLLBACK\0\0\0";
/// Ends any transaction; outside of one it is a warning.
const ROLLBACK: &[u8] = b"Q\0\0\0\x0dROLLBACK\0";
/// What others may wait for, or stumble over, when its client has left. All else is taken away when somebody needs the session.
const LET_GO: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT pg_catalog.pg_advisory_unlock_all(); \
    UNLISTEN *; CLOSE ALL; DISCARD TEMP";
/// Which of the statements on their way got there, nobody knows.
const DEALLOCATE_ALL: &[u8] = b"Q\0\0\0\x13DEALLOCATE ALL\0";

impl Pooled {
    /// Gives back the session of a client that is gone. Not cancel safe: the session is closed with it.
    pub(super) async fn salvage(&mut self, mut turn: Box<Turn>) {
        self.cancel.park();
        // Nothing can be said inside a message, and a part of an answer or a COPY would have to be understood first.
        let is_clear = self.up.is_between_messages()
            && turn.down.is_empty()
            && turn.facts.begin_failed.is_none()
            && !turn.owed.iter().any(|(_, kind)| *kind == Kind::CopyEnd)
            && !turn.was_copying
            && !turn.facts.unmovable
            && !self.statements.has_long_named()
            && !may_hide(&turn)
            && !turn
                .loan
                .session
                .carried
                .state
                .as_ref()
                .is_none_or(|state| state.pins.must_close());
        if !is_clear || self.shutdown.phase() == Phase::Stopping {
            if turn.owed.is_empty() {
                return self.close(turn);
            }
            self.cancel_running(&turn).await;
            return self.close(turn);
        }
        let salvaged = timeout(SALVAGE_TIMEOUT, self.roll_back(&mut turn)).await;
        if !matches!(salvaged, Ok(true)) || !self.is_settled(&turn).await {
            return self.close(turn);
        }
        self.bytes_down += turn.down.bytes();
        // What the turn did, and what of it was rolled back, nobody knows.
        let carried = &mut turn.loan.session.carried;
        carried.note_sequences(&turn.facts, None);
        carried.names.extend(&turn.facts.names);
        carried.names.extend(&turn.facts.values);
        carried.prepared = Prepared::default();
        carried.state = None;
        self.pooling.pool.rest(turn.loan.session);
    }

    /// Has the session of a client that leaves let go of what pinned it. `false`: it is to be closed.
    pub(super) async fn let_go(&self, turn: &mut Turn) -> bool {
        let mut flight = Flight::default();
        flight.query(LET_GO);
        // What it has prepared by SQL is known by its state alone, which nobody knows behind this.
        flight.bytes.extend_from_slice(DEALLOCATE_ALL);
        flight.readies += 1;
        let answered = Box::pin(self.fly(turn, &mut flight)).await;
        let carried = &mut turn.loan.session.carried;
        (carried.state, carried.prepared) = (None, Prepared::default());
        answered.is_ok()
    }

    async fn cancel_running(&self, turn: &Turn) {
        if let Some(target) = &turn.loan.session.carried.target {
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                () = self.house.cancels.deliver_to(target) => (),
                () = shutdown.reached(Phase::Stopping) => (),
            }
        }
    }

    async fn roll_back(&self, turn: &mut Turn) -> bool {
        if !turn.owed.is_empty() {
            self.cancel_running(turn).await;
        }
        let is_ready = |kind: &Kind| matches!(kind, Kind::Simple | Kind::Sync);
        let owed = turn.owed.iter().filter(|(_, kind)| is_ready(kind)).count();
        // One Sync too many is answered like any other. An error may have the server ignore what stands in front of it.
        let unsynced = [PARSE_ROLLBACK, say::BIND_UNNAMED, say::EXECUTE_UNNAMED, say::SYNC].concat();
        let mut flight = BytesMut::from(&[&unsynced, ROLLBACK, DEALLOCATE_ALL].concat()[..]);
        say::query(LET_GO, &mut flight);
        let session = &mut *turn.loan.session;
        let mut heard = Heard {
            reported: std::mem::take(&mut session.carried.reported),
            ..Heard::default()
        };
        let drained = drain(&mut session.stream, &mut heard, &flight, owed + 4).await;
        session.carried.reported = heard.reported;
        drained.is_ok()
    }
}

/// Whether what was said may have left what no reset undoes, or what cannot be seen: which of it was done, nobody knows.
fn may_hide(turn: &Turn) -> bool {
    let hides =
        Words::OBSCURE | Words::TRIGGER_FUNCTION | Words::EXECUTE | Words::DO | Words::CALL | Words::SLOT;
    let words = turn.facts.words;
    let pins = Pins::foreseen(words) | Pins::NONE.remembered(words, Tags::DO);
    turn.known.is_careful()
        || words.has(hides)
        || pins.must_close()
        || turn.facts.names.has_overflowed()
        || turn.facts.values.has_overflowed()
}
