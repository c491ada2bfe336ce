//! What clients do to the machine: ask, leave, work, rest, give back, and say that they could not connect.

use tokio::time::Instant;

use super::{
    super::{
        idle::{Holding, IdleRule, Leases},
        lease::LeaseSignal,
        waiting::Ticket,
    },
    Action, Asking, Door, Machine, Next, Refusal, State,
};
use crate::ids::Generation;

impl Machine {
    pub(super) fn asked(&mut self, ticket: Ticket, deadline: Instant, now: Instant) {
        if !self.lets_in() {
            let refusal = Refusal::Closed;
            return self.act(Action::Refuse { ticket, refusal });
        }
        match self.state {
            // Who was held before is let in before.
            State::Ready(_) if !self.waiting.is_empty() => self.waiting.enter(ticket, deadline),
            State::Ready(ref mut leases) => {
                leases.grant(now);
                self.act(Action::Grant { ticket });
            }
            State::Emptying { mut leases, .. } | State::Settling { mut leases, .. } => {
                leases.grant(now);
                self.stay_ready(leases);
                self.act(Action::Grant { ticket });
            }
            State::Inspecting | State::InLine | State::Waking { .. } => self.waiting.enter(ticket, deadline),
            State::Unknown | State::Asleep | State::Failed | State::Suspending => {
                if let Some(failure) = self.failure.as_ref().filter(|failure| failure.is_recent(now)) {
                    let refusal = Refusal::Failed(failure.reason().clone(), failure.backoff(now));
                    return self.act(Action::Refuse { ticket, refusal });
                }
                self.waiting.enter(ticket, deadline);
                if self.is_at_rest() && self.may_act() {
                    self.line_up();
                }
            }
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

    pub(super) fn resumed(&mut self, generation: Generation, now: Instant) {
        self.change_leases(generation, |leases, _| leases.resume(now));
        let (State::Emptying { leases, .. } | State::Settling { leases, .. }) = self.state else {
            return;
        };
        if generation == self.generation && self.door != Door::StopOrdered {
            self.stay_ready(leases);
        }
    }

    pub(super) fn returned(&mut self, generation: Generation, holding: Holding, now: Instant) {
        self.change_leases(generation, |leases, rule| leases.give_back(holding, rule, now));
        if let State::Emptying { leases, .. } = self.state
            && leases.resting == 0
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
