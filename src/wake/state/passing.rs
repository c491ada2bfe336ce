//! What time and the end of the process do to the machine.

use tokio::time::Instant;

use super::{
    super::{backoff::Jitter, idle::Leases, lease::LeaseSignal},
    Action, Asking, Door, EMPTYING_MAX, Machine, Next, Refusal, Stage, State,
};

impl Machine {
    pub(super) fn time_passed(&mut self, jitter: Jitter, now: Instant) {
        while let Some(ticket) = self.waiting.take_expired(now) {
            let refusal = Refusal::TimedOut(self.stage());
            self.act(Action::Refuse { ticket, refusal });
        }
        match self.state {
            State::Waking { until } if until <= now => {
                let seconds = self.rules.start_timeout.as_secs_f64();
                self.fail(
                    format!("it was not ready after {seconds:.1} s").into(),
                    jitter,
                    now,
                );
                self.stop();
            }
            State::Ready(leases) if self.suspends_at().is_some_and(|at| at <= now) => {
                self.empty(leases, now);
            }
            State::Emptying { leases, until } if until <= now => self.settle(leases, Next::Stop),
            _ => self.give_up_if_unwanted(now),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.state {
            State::InLine => Stage::InLine,
            State::Ready(_) => Stage::LoggingIn,
            _ => Stage::Starting,
        }
    }

    pub(super) fn suspend_ordered(&mut self, now: Instant) {
        if !self.rules.suspendable || self.door != Door::Open {
            return;
        }
        match self.state {
            State::Ready(leases) if leases.counted.active == 0 && !self.waiting.has_counted() => {
                self.asking = Asking::Nobody;
                self.empty(leases, now);
            }
            // It is under way; from now on because of the order.
            State::Emptying { .. } | State::Settling { .. } => self.asking = Asking::Nobody,
            _ => (),
        }
    }

    pub(super) fn room_wanted(&mut self, now: Instant) {
        if let State::Ready(leases) = self.state
            && self.unneeded_since(now).is_some()
        {
            self.empty(leases, now);
        }
    }

    pub(super) fn empty(&mut self, leases: Leases, now: Instant) {
        self.refuse_ignored();
        if self.asks() {
            self.settle(leases, Next::Empty);
        } else if leases.has_some_to_end() {
            self.end_idle(leases, now);
        } else {
            self.settle(leases, Next::Stop);
        }
    }

    fn end_idle(&mut self, leases: Leases, now: Instant) {
        let until = now + EMPTYING_MAX;
        self.state = State::Emptying { leases, until };
        self.act(Action::Signal(LeaseSignal::EndIfIdle));
    }

    pub(super) fn settle(&mut self, leases: Leases, next: Next) {
        self.round += 1;
        let round = self.round;
        self.state = State::Settling { leases, round, next };
        let asks = self.asks();
        self.act(Action::Settle { round, asks });
    }

    pub(super) fn settled(&mut self, round: u64, now: Instant) {
        let State::Settling {
            leases,
            round: current,
            next,
        } = self.state
        else {
            return;
        };
        if current != round {
            return;
        }
        if next == Next::Empty && leases.has_some_to_end() && self.door != Door::StopOrdered {
            return self.end_idle(leases, now);
        }
        self.lives.stopped();
        self.act(Action::Signal(LeaseSignal::Suspended));
        self.stop();
    }

    pub(super) fn lose(&mut self, reason: &str) {
        self.act(Action::Signal(LeaseSignal::Lost(reason.into())));
    }

    pub(super) fn close(&mut self, door: Door) {
        if self.is_ceded() {
            return;
        }
        self.door = door;
        self.wanted_until = None;
        self.refuse_all(&Refusal::Closed);
        if matches!(self.state, State::InLine) {
            self.leave_line();
        }
    }

    pub(super) fn stop_ordered(&mut self) {
        if self.is_ceded() {
            return self.let_go();
        }
        self.close(Door::StopOrdered);
        match self.state {
            State::Ready(leases) | State::Emptying { leases, .. } if self.rules.suspendable => {
                self.settle(leases, Next::Stop)
            }
            State::Ready(_) => self.end_now(),
            // A start may take long, and nobody waits for it any more.
            State::Waking { .. } if self.rules.startable => self.stop(),
            _ => (),
        }
    }

    /// The end of a compute that nobody uses any more.
    pub(super) fn end_now(&mut self) {
        self.lose("pgwake is shutting down");
        if self.rules.suspendable {
            self.stop();
        } else {
            self.state = State::Asleep;
        }
    }
}
