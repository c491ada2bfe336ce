//! The waiting room of one endpoint: who waits, since when relative to the others, until when at most, and whether that
//! has the compute woken.
//!
//! Plain data for `state`: it answers nobody. A waiter leaves in O(log n), so that ten thousand who leave at
//! once are no event.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::idle::Weight;

/// One asking for a lease. Given out in the order of arrival, never twice for an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Ticket(pub(super) u64);

/// Those who are held, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRoom {
    waiting: BTreeMap<Ticket, Waiter>,
    soonest: BTreeSet<(Instant, Ticket)>,
    /// How many of them count.
    counted: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    deadline: Instant,
    weight: Weight,
}

impl WaitingRoom {
    /// Takes one in.
    pub(super) fn enter(&mut self, ticket: Ticket, weight: Weight, deadline: Instant) {
        self.waiting.insert(ticket, Waiter { deadline, weight });
        self.soonest.insert((deadline, ticket));
        self.counted += usize::from(weight.counts());
    }

    /// Lets one go; `None`: it was already answered.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Weight> {
        let Waiter { deadline, weight } = self.waiting.remove(&ticket)?;
        self.soonest.remove(&(deadline, ticket));
        self.counted -= usize::from(weight.counts());
        Some(weight)
    }

    /// Empties the room: everyone, in the order of arrival.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Ticket, Weight)> + use<> {
        self.soonest.clear();
        self.counted = 0;
        let all = std::mem::take(&mut self.waiting).into_iter();
        all.map(|(ticket, waiter)| (ticket, waiter.weight))
    }

    /// Takes the one who came first.
    pub(super) fn take_first(&mut self) -> Option<(Ticket, Weight)> {
        let ticket = *self.waiting.first_key_value()?.0;
        self.leave(ticket).map(|weight| (ticket, weight))
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
        self.waiting.is_empty()
    }

    /// Whether somebody waits for whom the compute is woken.
    pub(super) fn has_counted(&self) -> bool {
        self.counted > 0
    }

    /// How many of those there are.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
