//! What the machine does when another pgwake takes the compute over: it holds still while that is arranged, and then
//! either goes on, or begins nothing any more.
//!
//! ```text
//!    Open ──frozen──▶ Frozen ──thawed──▶ Open
//!                        │ ceded
//!                        ├─ takes logins ─▶ Lent ──let go──▶ Gone
//!                        └─ anything else ────────────────▶ Gone
//! ```
//!
//! **Invariant:** while frozen, and ever after it was ceded, no Start, Stop or Inspect is said. What was under way when it
//! froze comes to its end, and the driver waits for that before anything is ceded.

use tokio::time::Instant;

use super::{
    super::{idle::Weight, lease::LeaseSignal},
    Action, Door, Machine, Refusal, State,
};

impl Machine {
    pub(super) fn freeze(&mut self) {
        if self.door != Door::Open {
            return;
        }
        self.door = Door::Frozen;
        match self.state {
            // Who waits goes on waiting, and it is wanted for as long as it was.
            State::InLine => {
                self.act(Action::LeaveLine);
                self.rest();
            }
            State::Emptying { leases, .. } | State::Settling { leases, .. } => self.stay_ready(leases),
            _ => (),
        }
    }

    pub(super) fn thaw(&mut self, now: Instant) {
        if self.door != Door::Frozen {
            return;
        }
        self.door = Door::Open;
        self.give_up_if_unwanted(now);
        match self.state {
            State::Unknown => self.inspect(),
            State::Asleep | State::Failed if self.is_wanted() => self.line_up(),
            _ => (),
        }
    }

    pub(super) fn cede(&mut self) {
        if self.door != Door::Frozen {
            return;
        }
        self.wanted_until = None;
        self.refuse_all(&Refusal::Closed);
        self.door = match self.leases() {
            Some(_) => Door::Lent,
            None => Door::Gone,
        };
    }

    pub(super) fn let_go(&mut self) {
        if self.door != Door::Lent {
            return;
        }
        self.door = Door::Gone;
        self.refuse_all(&Refusal::Closed);
        if self.leases().is_some() {
            let reason = "another pgwake has taken over";
            self.act(Action::Signal(LeaseSignal::Lost(reason.into())));
            self.state = State::Unknown;
        }
    }

    /// Whether it is this pgwake that starts, stops and looks.
    pub(in crate::wake) fn may_act(&self) -> bool {
        !matches!(self.door, Door::Frozen | Door::Lent | Door::Gone)
    }

    /// Whether it is another pgwake's.
    pub(in crate::wake) fn is_ceded(&self) -> bool {
        matches!(self.door, Door::Lent | Door::Gone)
    }

    /// Whether nothing of it is under way.
    pub(in crate::wake) fn is_still(&self) -> bool {
        !matches!(
            self.state,
            State::Inspecting | State::InLine | State::Waking { .. } | State::Suspending
        )
    }

    /// Whether somebody who asks now may have a lease, at once or later.
    pub(super) fn lets_in(&self) -> bool {
        match self.door {
            Door::Open | Door::Frozen => true,
            Door::Lent => self.leases().is_some(),
            Door::Gone | Door::Closed | Door::StopOrdered => false,
        }
    }

    /// Whether somebody who asks now waits for what becomes of it.
    pub(super) fn would_hold_frozen(&self, weight: Weight, now: Instant) -> bool {
        let waits = match self.state {
            State::Ready(_) => !self.waiting.is_empty(),
            State::Emptying { .. } | State::Settling { .. } => false,
            State::Unknown | State::Asleep | State::Failed | State::Suspending => !self.is_known_to_fail(now),
            State::Inspecting | State::InLine | State::Waking { .. } => true,
        };
        self.door == Door::Frozen && waits && (weight.counts() || self.has_room_for_ignored())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{super::idle::IdleRule, super::waiting::Ticket, Event, Rules},
        *,
    };

    const LATER: Duration = Duration::from_secs(1000);

    fn machine() -> Machine {
        Machine::new(Rules {
            idle: IdleRule::EndsResting(Duration::from_secs(5)),
            asks_veto: false,
            start_timeout: Duration::from_secs(60),
            awake_min: Duration::ZERO,
            logins_at_once: 2,
            suspendable: true,
            startable: true,
        })
    }

    fn asked(number: u64, now: Instant) -> Event {
        Event::Asked {
            ticket: Ticket(number),
            weight: Weight::Counts,
            deadline: now + 2 * LATER,
        }
    }

    /// One that takes logins, with this many leases out.
    fn ready(leases: u64, now: Instant) -> Machine {
        let mut machine = machine();
        drop(machine.step(asked(1, now), now));
        let generation = machine.generation;
        drop(machine.step(Event::Called { generation }, now));
        drop(machine.step(Event::Started { generation }, now));
        if leases == 0 {
            let holding = super::super::super::idle::Holding::Active;
            drop(machine.step(Event::Arrived { generation }, now));
            let weight = Weight::Counts;
            let returned = Event::Returned {
                generation,
                weight,
                holding,
            };
            drop(machine.step(returned, now));
        }
        machine
    }

    fn acts(actions: &[Action]) -> bool {
        let act = |action: &Action| {
            matches!(
                action,
                Action::Start { .. } | Action::Stop { .. } | Action::Inspect { .. } | Action::LineUp { .. }
            )
        };
        actions.iter().any(act)
    }

    #[test]
    fn who_asks_while_it_is_frozen_waits_and_is_woken_for_once_it_thaws() {
        let now = Instant::now();
        let mut machine = machine();
        drop(machine.step(Event::Frozen, now));
        let actions: Vec<_> = machine.step(asked(1, now), now).collect();
        assert!(actions.is_empty(), "{actions:?}");
        assert!(machine.is_still());

        let actions: Vec<_> = machine.step(Event::Thawed, now).collect();

        assert!(acts(&actions), "{actions:?}");
    }

    #[test]
    fn one_that_waits_for_its_turn_leaves_the_line_and_comes_back_to_it() {
        let now = Instant::now();
        let mut machine = machine();
        drop(machine.step(asked(1, now), now));
        let actions: Vec<_> = machine.step(Event::Frozen, now).collect();
        assert_eq!(actions, [Action::LeaveLine]);
        let generation = machine.generation;
        let actions: Vec<_> = machine.step(Event::Called { generation }, now).collect();
        assert!(actions.is_empty(), "{actions:?}");

        let actions: Vec<_> = machine.step(Event::Thawed, now).collect();

        assert!(acts(&actions), "{actions:?}");
    }

    #[test]
    fn nothing_is_suspended_while_it_is_frozen_or_afterwards_anothers() {
        let now = Instant::now();
        let mut machine = ready(0, now);
        assert!(machine.due().is_some());
        for event in [Event::Frozen, Event::Ceded] {
            drop(machine.step(event, now));
            assert_eq!(machine.due(), None);
            let jitter = super::super::super::backoff::Jitter::from_bits(0);
            let later: Vec<_> = machine.step(Event::TimePassed { jitter }, now + LATER).collect();
            assert!(later.is_empty(), "{later:?}");
            for order in [
                Event::SuspendOrdered,
                Event::RoomWanted,
                Event::InspectOrdered,
                Event::LookAgainOrdered,
            ] {
                let actions: Vec<_> = machine.step(order, now + LATER).collect();
                assert!(actions.is_empty(), "{actions:?}");
            }
        }
    }

    #[test]
    fn a_lent_compute_grants_leases_until_it_is_let_go_and_is_never_stopped_from_here() {
        let now = Instant::now();
        let mut machine = ready(1, now);
        drop(machine.step(Event::Frozen, now));
        drop(machine.step(Event::Ceded, now));
        let granted: Vec<_> = machine.step(asked(2, now), now).collect();
        assert_eq!(granted, [Action::Grant { ticket: Ticket(2) }]);

        let actions: Vec<_> = machine.step(Event::StopOrdered, now).collect();

        assert!(
            matches!(actions[..], [Action::Signal(LeaseSignal::Lost(_))]),
            "{actions:?}"
        );
        let refused: Vec<_> = machine.step(asked(3, now), now).collect();
        assert!(matches!(refused[..], [Action::Refuse { .. }]), "{refused:?}");
    }

    #[test]
    fn one_that_sleeps_refuses_everybody_once_it_is_anothers() {
        let now = Instant::now();
        let mut machine = machine();
        drop(machine.step(Event::Frozen, now));
        drop(machine.step(asked(1, now), now));
        let refused: Vec<_> = machine.step(Event::Ceded, now).collect();
        assert!(matches!(refused[..], [Action::Refuse { .. }]), "{refused:?}");
        let refused: Vec<_> = machine.step(asked(2, now), now).collect();
        assert!(matches!(refused[..], [Action::Refuse { .. }]), "{refused:?}");
    }
}
