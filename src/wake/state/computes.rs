//! What a compute does to the machine: it is looked at, comes up, fails, dies and stops. Answers of an older
//! generation than the machine's are late, and ignored.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        backoff::{Failure, Jitter},
        idle::{Leases, Weight},
        lease::LeaseSignal,
    },
    Action, Asking, Door, Machine, Refusal, State,
};
use crate::ids::Generation;

impl Machine {
    pub(super) fn inspect_ordered(&mut self) {
        if matches!(self.state, State::Unknown) && self.door == Door::Open {
            self.inspect();
        }
    }

    pub(super) fn look_again_ordered(&mut self) {
        if matches!(self.state, State::Unknown | State::Asleep | State::Failed) && self.door == Door::Open {
            self.inspect();
        }
    }

    pub(super) fn inspect(&mut self) {
        self.generation = self.generation.next();
        self.state = State::Inspecting;
        let generation = self.generation;
        self.act(Action::Inspect { generation });
    }

    pub(super) fn start(&mut self, now: Instant) {
        let until = now + self.rules.start_timeout;
        self.state = State::Waking { until };
        let generation = self.generation;
        self.act(Action::Start { generation });
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Suspending;
        let generation = self.generation;
        self.act(Action::Stop { generation });
    }

    pub(super) fn found_running(&mut self, generation: Generation, now: Instant) {
        if self.is_inspecting(generation) {
            self.serve(now);
        }
    }

    pub(super) fn started(&mut self, generation: Generation, now: Instant) {
        if self.is_waking(generation) {
            self.serve(now);
        }
    }

    /// It takes logins: those who are held are let in.
    fn serve(&mut self, now: Instant) {
        self.lives.begin(self.failure.take(), now);
        self.wanted_until = None;
        if self.door == Door::StopOrdered {
            return self.end_now();
        }
        (self.asking, self.veto) = (Asking::AsConfigured, None);
        self.state = State::Ready(Leases::none(now));
        self.let_in();
        self.act(Action::Announce);
    }

    pub(super) fn found_asleep(&mut self, generation: Generation) {
        if self.is_inspecting(generation) {
            self.sleep_or_line_up();
        }
    }

    pub(super) fn start_failed(
        &mut self,
        generation: Generation,
        (reason, retry_after): (Arc<str>, Option<Duration>),
        jitter: Jitter,
        now: Instant,
    ) {
        if self.is_waking(generation) {
            let failure = Failure::after(self.failure.as_ref(), reason, jitter, now);
            self.give_up(failure.not_before(retry_after, now), now);
            self.state = State::Failed;
        }
    }

    pub(super) fn fail(&mut self, reason: Arc<str>, jitter: Jitter, now: Instant) {
        self.give_up(Failure::after(self.failure.as_ref(), reason, jitter, now), now);
    }

    /// Whoever waits hears of it, and nobody is started for a while.
    fn give_up(&mut self, failure: Failure, now: Instant) {
        let (reason, backoff) = (failure.reason().clone(), failure.backoff(now));
        self.failure = Some(failure);
        self.refuse_all(&Refusal::Failed(reason, backoff));
    }

    pub(super) fn died(&mut self, generation: Generation, reason: &Arc<str>, jitter: Jitter, now: Instant) {
        if self.awake() != Some(generation) {
            return;
        }
        self.act(Action::Signal(LeaseSignal::Lost(reason.clone())));
        if let Some(failure) = self.lives.end(reason, jitter, now) {
            self.give_up(failure, now);
        }
        self.sleep_or_line_up();
    }

    pub(super) fn stopped(&mut self, generation: Generation) {
        if self.is_stopping(generation) {
            self.sleep_or_line_up();
        }
    }

    /// Something of it may still run: whoever waits, waits for a look at it.
    pub(super) fn stop_failed(&mut self, generation: Generation) {
        if !self.is_stopping(generation) {
            return;
        }
        if self.door == Door::StopOrdered || !self.may_act() {
            self.state = State::Unknown;
        } else {
            self.inspect();
        }
    }

    pub(super) fn is_inspecting(&self, generation: Generation) -> bool {
        generation == self.generation && matches!(self.state, State::Inspecting)
    }

    pub(super) fn is_waking(&self, generation: Generation) -> bool {
        generation == self.generation && matches!(self.state, State::Waking { .. })
    }

    fn is_stopping(&self, generation: Generation) -> bool {
        generation == self.generation && matches!(self.state, State::Suspending)
    }

    fn sleep_or_line_up(&mut self) {
        if self.is_wanted() && !self.may_act() {
            self.rest();
        } else if self.is_wanted() {
            self.line_up();
        } else {
            self.sleep();
        }
    }

    pub(super) fn sleep(&mut self) {
        self.wanted_until = None;
        self.refuse_ignored();
        self.rest();
    }

    /// The same, where somebody may want it woken later.
    pub(super) fn rest(&mut self) {
        self.state = match self.failure {
            Some(_) => State::Failed,
            None => State::Asleep,
        };
    }

    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for (ticket, _) in self.waiting.take_all() {
            let refusal = refusal.clone();
            self.act(Action::Refuse { ticket, refusal });
        }
    }

    /// Of those who wait nobody counts, and nobody whom they have joined is left.
    pub(super) fn refuse_ignored(&mut self) {
        for (ticket, weight) in self.waiting.take_all() {
            let Weight::Ignored(by) = weight else {
                unreachable!("it is woken for those who count");
            };
            let refusal = Refusal::Ignored(by);
            self.act(Action::Refuse { ticket, refusal });
        }
    }
}
