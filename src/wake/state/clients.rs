//! What clients do to the machine: ask, leave, work, rest, give back, and say that they could not connect.

use tokio::time::Instant;

use super::{
    super::{
        idle::{Holding, IdleRule, Leases, Weight},
        lease::LeaseSignal,
        waiting::Ticket,
    },
    Action, Asking, Door, Machine, Next, Refusal, State,
};
use crate::ids::Generation;

impl Machine {
    pub(super) fn asked(&mut self, ticket: Ticket, weight: Weight, deadline: Instant, now: Instant) {
        if !self.lets_in() {
            let refusal = Refusal::Closed;
            return self.act(Action::Refuse { ticket, refusal });
        }
        if let Weight::Ignored(by) = weight
            && !self.has_room_for_ignored()
        {
            let refusal = Refusal::Ignored(by);
            return self.act(Action::Refuse { ticket, refusal });
        }
        match self.state {
            // Who was held before is let in before.
            State::Ready(_) if !self.waiting.is_empty() => self.waiting.enter(ticket, weight, deadline),
            State::Ready(ref mut leases) => {
                leases.grant(weight);
                self.act(Action::Grant { ticket });
            }
            State::Settling { ref mut leases, .. } if !weight.counts() => {
                leases.grant(weight);
                self.act(Action::Grant { ticket });
            }
            State::Emptying { mut leases, .. } | State::Settling { mut leases, .. } => {
                leases.grant(weight);
                self.stay_ready(leases);
                self.act(Action::Grant { ticket });
            }
            State::Inspecting | State::InLine | State::Waking { .. } => {
                self.waiting.enter(ticket, weight, deadline);
            }
            State::Unknown | State::Asleep | State::Failed | State::Suspending => {
                if let Some(failure) = self.failure.as_ref().filter(|failure| failure.is_recent(now)) {
                    let refusal = Refusal::Failed(failure.reason().clone(), failure.backoff(now));
                    return self.act(Action::Refuse { ticket, refusal });
                }
                self.waiting.enter(ticket, weight, deadline);
                if self.is_at_rest() && self.may_act() {
                    self.line_up();
                }
            }
        }
    }

    /// Grants a lease where that is all that comes of it: it is awake to stay, and nobody waits.
    pub(in crate::wake) fn grant_at_once(&mut self, weight: Weight) -> bool {
        let is_open = self.lets_in() && self.waiting.is_empty();
        match &mut self.state {
            State::Ready(leases) if is_open => {
                leases.grant(weight);
                true
            }
            _ => false,
        }
    }

    /// Takes one back from somebody who worked, where that is all that comes of it: others work on.
    pub(in crate::wake) fn give_back_at_once(&mut self, generation: Generation, weight: Weight) -> bool {
        match &mut self.state {
            State::Ready(leases) if generation == self.generation => leases.give_back_beside_others(weight),
            _ => false,
        }
    }

    /// Whether one who does not count may have a lease, or wait for one: that of others, by what they have begun. Those on
    /// their way to sleep take no more of his turns, or they would never be over.
    pub(in crate::wake) fn has_room_for_ignored(&self) -> bool {
        match self.state {
            State::Ready(_) | State::InLine | State::Waking { .. } | State::Inspecting => true,
            // Whether it is suspended at all is still to be found out.
            State::Settling { next, .. } => next == Next::Empty,
            State::Suspending => self.is_wanted(),
            State::Emptying { .. } => false,
            // While it is frozen, somebody may wait for what becomes of that.
            State::Unknown | State::Asleep | State::Failed => !self.may_act() && self.is_wanted(),
        }
    }

    pub(super) fn change_leases(
        &mut self,
        generation: Generation,
        change: impl FnOnce(&mut Leases, IdleRule),
    ) {
        let rule = self.idle_rule();
        if generation != self.generation {
            return;
        }
        match &mut self.state {
            State::Ready(leases) | State::Emptying { leases, .. } | State::Settling { leases, .. } => {
                change(leases, rule);
            }
            _ => (),
        }
    }

    pub(super) fn resumed(&mut self, generation: Generation, weight: Weight, now: Instant) {
        self.change_leases(generation, |leases, _| leases.resume(weight, now));
        let (State::Emptying { leases, .. } | State::Settling { leases, .. }) = self.state else {
            return;
        };
        if generation == self.generation && self.door != Door::StopOrdered && weight.counts() {
            self.stay_ready(leases);
        }
    }

    pub(super) fn returned(&mut self, generation: Generation, lease: (Weight, Holding), now: Instant) {
        self.change_leases(generation, |leases, rule| leases.give_back(lease, rule, now));
        if let State::Emptying { leases, .. } = self.state
            && !leases.has_some_to_end()
        {
            self.settle(leases, Next::Stop);
        }
    }

    pub(super) fn stay_ready(&mut self, leases: Leases) {
        self.asking = Asking::AsConfigured;
        self.state = State::Ready(leases);
        self.act(Action::Signal(LeaseSignal::Steady));
    }

    pub(super) fn unreachable(&mut self, generation: Generation) {
        let current = self.awake() == Some(generation);
        if !current || !self.rules.startable || self.door == Door::StopOrdered || !self.may_act() {
            return;
        }
        self.lose("the compute could not be reached at its address");
        // It may run all the same: whoever looks finds out, and one that nobody asks for again still gets to sleep.
        self.inspect();
    }
}
