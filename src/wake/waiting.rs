//! The waiting room of one endpoint: who waits, since when relative to the others, and until when at most.
//!
//! Plain data for `state`: it answers nobody. A waiter leaves in O(log n), so that ten thousand who leave at
//! once are no event.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// One asking for a lease. Given out in the order of arrival, never twice for an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Ticket(pub(super) u64);

/// Those who are held, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRoom {
    deadlines: BTreeMap<Ticket, Instant>,
    soonest: BTreeSet<(Instant, Ticket)>,
}

impl WaitingRoom {
    /// Takes one in.
    pub(super) fn enter(&mut self, ticket: Ticket, deadline: Instant) {
        self.deadlines.insert(ticket, deadline);
        self.soonest.insert((deadline, ticket));
    }

    /// Lets one go; `false`: it was already answered.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let deadline = self.deadlines.remove(&ticket);
        deadline.is_some_and(|deadline| self.soonest.remove(&(deadline, ticket)))
    }

    /// Empties the room: everyone, in the order of arrival.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Ticket> + use<> {
        self.soonest.clear();
        std::mem::take(&mut self.deadlines).into_keys()
    }

    /// Takes the one who came first.
    pub(super) fn take_first(&mut self) -> Option<Ticket> {
        let ticket = *self.deadlines.first_key_value()?.0;
        self.leave(ticket);
        Some(ticket)
    }

    /// Takes one whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Ticket> {
        let (deadline, ticket) = *self.soonest.first()?;
        if deadline > now {
            return None;
        }
        self.leave(ticket);
        Some(ticket)
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.soonest.first().map(|(deadline, _)| *deadline)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
