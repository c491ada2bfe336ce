//! The wake machine of one endpoint: `(state, event, now) → (state, actions)`.
//!
//! Pure: no I/O, no clock, no chance (jitter comes in as a number), no Postgres. It decides; `driver` calls it
//! under the endpoint's lock, does what it says, and is the only caller.
//!
//! ```text
//!    Unknown ──inspect──▶ Inspecting ──found running──▶ Ready
//!       │                     │ not running
//!       │ asked               ▼
//!       └──────────────▶ Asleep, or asked: InLine
//!
//!    Asleep ──asked──▶ InLine ──called──▶ Waking; nobody wants it any more: Asleep
//!
//!                      Waking ──started──▶ Ready ◀───────────────┐ asked, resumed:
//!      ▲                 │ │                 │ idle              │ nothing restarts
//!      │          failed │ │ start_timeout   ▼                   │
//!      │                 ▼ │              Emptying (some hold) ──┤
//!      │             Failed│                 │ all gone, or 5 s  │
//!      │  asked later:     │                 ▼                   │
//!      │  InLine           │              Settling (hook runs) ──┘ vetoed: asked again later
//!      │                   │                 │ settled
//!      │                   ▼                 ▼
//!      └──stopped────── Suspending ◀─────────┘
//!           asked meanwhile: held, and InLine after the stop; stop failed: Inspecting
//!
//!    Ready, Emptying, Settling ──died──▶ Asleep, or InLine where somebody waits; ──unreachable──▶ Inspecting
//! ```
//!
//! **Invariant:** at most one of Start, Inspect and Stop is under way, and the state says which (Waking,
//! Inspecting, Suspending). The one exception: a Stop after a start that timed out ends that start first.
//! **Invariant:** somebody waits only in these three states, so that every waiter has an answer under way; in InLine,
//! where it is called some day; and in Ready, while as many of those who were held log in as may at once.
//! **Invariant:** in InLine somebody waits who counts, or wants it to be woken without waiting.
//! **Invariant:** who does not count ([`Weight::Ignored`](super::idle::Weight)) causes no LineUp and no Start, moves no time, and
//! calls off no suspend: from Emptying on he gets no lease, and those that he has are waited for as long as Emptying lasts.
//! **Invariant:** where there is a veto to be asked, Stop follows only a Settling whose question was answered with no; or an
//! order. Before resting leaseholders are ended it is asked, too: Settling then comes before Emptying as well.
//! **Invariant:** leases exist in Ready, Emptying and Settling; leaving these three tells them
//! [`LeaseSignal::Lost`](super::lease::LeaseSignal::Lost) or `Suspended`, and what they say afterwards carries an old generation and is
//! ignored.

mod clients;
mod computes;
mod custody;
mod event;
mod in_line;
mod passing;
mod veto;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(super) use self::event::{Action, Event, Refusal, Stage};
use self::veto::{Asking, Next, Standing};

use super::{
    backoff::{Backoff, Failure, Lives},
    idle::{IdleRule, Leases, Weight},
    waiting::WaitingRoom,
};
use crate::ids::Generation;

/// How long resting leaseholders get to end their sessions: a goodbye to each client, no more. And how long those who do
/// not count get for what they have open: an exporter's queries take less, and what hangs keeps no compute awake.
pub(super) const EMPTYING_MAX: Duration = Duration::from_secs(5);

/// What the configuration says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) idle: IdleRule,
    pub(super) start_timeout: Duration,
    /// How long it stays awake, whatever happens or does not.
    pub(super) awake_min: Duration,
    /// Whether somebody who may know better is asked before it is suspended.
    pub(super) asks_veto: bool,
    /// How many of those who were held log in at once.
    pub(super) logins_at_once: usize,
    /// Whether it can be stopped at all.
    pub(super) suspendable: bool,
    /// Whether it can be started, so that one which cannot be reached is worth a look.
    pub(super) startable: bool,
}

/// Where the compute is.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nobody looked yet.
    Unknown,
    /// Somebody is looking.
    Inspecting,
    /// It does not run.
    Asleep,
    /// It waits for its turn to be started.
    InLine,
    /// It is being started.
    Waking { until: Instant },
    /// It takes logins.
    Ready(Leases),
    /// Nothing was done for long enough; those who rest, and those who do not count, are told to end.
    Emptying { leases: Leases, until: Instant },
    /// Nobody is left, or those who are told to end are about to be; the hook before the suspend runs.
    Settling { leases: Leases, round: u64, next: Next },
    /// It is being stopped.
    Suspending,
    /// It does not run, and the last try to start it failed.
    Failed,
}

/// How far the end of this process has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    Open,
    /// Another pgwake is about to take the compute over: nothing is begun, and who needs a start waits.
    Frozen,
    /// It is another pgwake's, which keeps it awake for those who are still here.
    Lent,
    /// It is another pgwake's, and nobody here has to do with it any more.
    Gone,
    Closed,
    StopOrdered,
}

/// One endpoint's machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    rules: Rules,
    state: State,
    /// Of the last start or inspection; late answers and old leases carry an older one.
    generation: Generation,
    /// How often settling began.
    round: u64,
    /// Whose wish the suspend is that is under way.
    asking: Asking,
    /// The last veto.
    veto: Option<Standing>,
    waiting: WaitingRoom,
    /// Until when it is to be woken although nobody waits.
    wanted_until: Option<Instant>,
    failure: Option<Failure>,
    lives: Lives,
    door: Door,
    actions: Vec<Action>,
}

impl Machine {
    /// An endpoint that nobody looked at yet.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Unknown,
            generation: Generation::default(),
            round: 0,
            asking: Asking::AsConfigured,
            veto: None,
            waiting: WaitingRoom::default(),
            wanted_until: None,
            failure: None,
            lives: Lives::default(),
            door: Door::Open,
            actions: Vec::new(),
        }
    }

    /// Others hold from now on. A start that is under way keeps its time.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// One step. What is to be done comes out in the order in which it is to be done; an arrival that is
    /// answered at once is answered by the last action.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> std::vec::Drain<'_, Action> {
        match event {
            Event::Asked {
                ticket,
                weight,
                deadline,
            } => self.asked(ticket, weight, deadline, now),
            Event::Left { ticket } => self.left(ticket, now),
            Event::Detached { ticket, until } => self.detached(ticket, until, now),
            Event::Called { generation } => self.called(generation, now),
            Event::Arrived { generation } => self.arrived(generation),
            Event::Rested { generation, weight } => {
                self.change_leases(generation, |leases, _| leases.rest(weight, now));
            }
            Event::Resumed { generation, weight } => self.resumed(generation, weight, now),
            Event::Returned {
                generation,
                weight,
                holding,
            } => {
                self.returned(generation, (weight, holding), now);
            }
            Event::InspectOrdered => self.inspect_ordered(),
            Event::LookAgainOrdered => self.look_again_ordered(),
            Event::FoundRunning { generation } => self.found_running(generation, now),
            Event::Started { generation } => self.started(generation, now),
            Event::FoundAsleep { generation } => self.found_asleep(generation),
            Event::StartFailed {
                generation,
                reason,
                jitter,
                retry_after,
            } => self.start_failed(generation, (reason, retry_after), jitter, now),
            Event::Died {
                generation,
                reason,
                jitter,
            } => self.died(generation, &reason, jitter, now),
            Event::Unreachable { generation } => self.unreachable(generation),
            Event::Settled { round } => self.settled(round, now),
            Event::Vetoed { round, reason } => self.vetoed(round, reason, now),
            Event::Stopped { generation } => self.stopped(generation),
            Event::StopFailed { generation } => self.stop_failed(generation),
            Event::TimePassed { jitter } => self.time_passed(jitter, now),
            Event::SuspendOrdered => self.suspend_ordered(now),
            Event::RoomWanted => self.room_wanted(now),
            Event::Closed => self.close(Door::Closed),
            Event::StopOrdered => self.stop_ordered(),
            Event::Frozen => self.freeze(),
            Event::Thawed => self.thaw(now),
            Event::Ceded => self.cede(),
            Event::LetGo => self.let_go(),
        }
        self.actions.drain(..)
    }

    /// When [`Event::TimePassed`] is to come, if nothing else does before.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Waking { until } | State::Emptying { until, .. } => Some(*until),
            State::Ready(_) => self.suspends_at(),
            State::Inspecting | State::InLine | State::Suspending => self.wanted_until,
            _ => None,
        };
        [self.waiting.next_deadline(), state].into_iter().flatten().min()
    }

    /// Where it is.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether it is to end for good.
    pub(super) fn is_stop_ordered(&self) -> bool {
        self.door == Door::StopOrdered
    }

    /// The generation that takes logins now.
    pub(super) fn awake(&self) -> Option<Generation> {
        self.leases().map(|_| self.generation)
    }

    /// Whether somebody who asks now, and nobody else, causes a wake.
    pub(super) fn would_wake(&self, weight: Weight, now: Instant) -> bool {
        self.door == Door::Open
            && weight.counts()
            && match self.state {
                State::Unknown | State::Asleep | State::Failed | State::Suspending => {
                    !self.is_known_to_fail(now)
                }
                State::Inspecting => true,
                State::InLine
                | State::Waking { .. }
                | State::Ready(_)
                | State::Emptying { .. }
                | State::Settling { .. } => false,
            }
    }

    /// Whether somebody who asks now is held.
    pub(super) fn would_hold(&self, weight: Weight, now: Instant) -> bool {
        let joins = match self.state {
            State::InLine | State::Waking { .. } => true,
            State::Inspecting | State::Suspending => !weight.counts() && self.has_room_for_ignored(),
            State::Ready(_) => !self.waiting.is_empty(),
            _ => false,
        };
        self.would_wake(weight, now)
            || (joins && self.door == Door::Open)
            || self.would_hold_frozen(weight, now)
    }

    /// How many of those who wait count.
    pub(super) fn waiting_counted(&self) -> usize {
        self.waiting.counted()
    }

    fn is_known_to_fail(&self, now: Instant) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| failure.is_recent(now))
    }

    /// Whether a compute that came up under this generation is the one that is waited for.
    pub(super) fn expects(&self, generation: Generation) -> bool {
        self.is_inspecting(generation) || self.is_waking(generation)
    }

    /// Why the last start failed.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure.as_ref().map(|failure| failure.reason().clone())
    }

    /// How many starts in a row have failed, and when the next one may be tried.
    pub(super) fn backoff(&self, now: Instant) -> Option<Backoff> {
        self.failure.as_ref().map(|failure| failure.backoff(now))
    }

    /// What does not change.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// When it is suspended if nothing happens before.
    pub(super) fn suspends_at(&self) -> Option<Instant> {
        match &self.state {
            State::Ready(leases) if self.may_act() && !self.waiting.has_counted() => {
                let at = leases.suspend_at(self.idle_rule(), self.rules.awake_min)?;
                Some(self.veto.as_ref().map_or(at, |veto| at.max(veto.until)))
            }
            _ => None,
        }
    }

    /// Since when nobody has needed it, where it may be suspended before its time.
    pub(super) fn unneeded_since(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Ready(_) if self.veto(now).is_some() => None,
            State::Ready(leases) if self.door == Door::Open && !self.waiting.has_counted() => {
                leases.unneeded_since(self.idle_rule(), self.rules.awake_min, now)
            }
            _ => None,
        }
    }

    /// Whether nothing runs and nothing is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Unknown | State::Asleep | State::Failed)
    }

    /// Whether anybody holds a lease.
    pub(super) fn has_leases(&self) -> bool {
        self.leases().is_some_and(|leases| leases.count() > 0)
    }

    /// Whether it is being looked at, so that nobody knows whether it runs.
    pub(super) fn is_looking(&self) -> bool {
        matches!(self.state, State::Inspecting)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn leases(&self) -> Option<&Leases> {
        match &self.state {
            State::Ready(leases) | State::Emptying { leases, .. } | State::Settling { leases, .. } => {
                Some(leases)
            }
            _ => None,
        }
    }

    fn idle_rule(&self) -> IdleRule {
        if self.rules.suspendable {
            self.rules.idle
        } else {
            IdleRule::Never
        }
    }
}

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod table;
