//! What the endpoint's lock guards: the machine, those who are held, and the work that its decisions make.
//!
//! Turns actions into [`Work`] at the moment of the decision, so that doing it later needs no second look at a
//! state that has moved on.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    mem,
    sync::Arc,
    time::Duration,
};

use foldhash::HashSet;
use futures_util::future::BoxFuture;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::super::{
    Admission,
    error::WakeId,
    figures::{ComputeState, Vetoes, WakeFigures},
    idle::{Tally, Weight},
    lease::{Answer, Awake, LeaseSignal},
    line::{Place, Takes},
    state::{Action, Event, Machine, Refusal, Rules, State},
    waiting::Ticket,
};
use super::{
    budget::{Budget, Client},
    starts::{Room, Start},
};
use crate::ids::Generation;
use crate::tenant::quota::{OverLimit, Permit, WakeBudget};

pub(super) struct Inner {
    pub(super) machine: Machine,
    pub(super) work: VecDeque<Work>,
    /// Whether somebody is doing `work`.
    pub(super) working: bool,
    tickets: u64,
    pub(super) held: HashMap<Ticket, Held>,
    /// The generation that takes logins, or took them last.
    pub(super) awake: Option<Arc<Awake>>,
    /// What is to be announced of it.
    pub(super) arrival: Option<Arrival>,
    pub(super) wake: Option<WakeId>,
    /// When it began.
    pub(super) wake_began: Instant,
    pub(super) wakes_started: u64,
    /// Arrivals that met a start which was under way.
    pub(super) joined: u64,
    /// Since when the machine is in its state.
    pub(super) state_since: Instant,
    /// How long it was awake in earlier stretches, and when the present one began.
    awake_before: Duration,
    awake_since: Option<Instant>,
    pub(super) admission: Admission,
    pub(super) vetoes: Vetoes,
    /// The servers' processes of those who keep it from no sleep: whose leases rest, or do not count.
    pub(super) own: HashSet<i32>,
    /// Its place in the line of computes that are to be started.
    pub(super) place: Option<Place>,
    /// It may be started now.
    pub(super) turn: Option<Start>,
    /// Whether it takes room on this machine, and what it has.
    takes: Takes,
    pub(super) room: Option<Room>,
    /// Why its last stop failed, after which it may run on.
    pub(super) left: Option<Arc<str>>,
    /// How long the last start took.
    pub(super) last_start: Duration,
    /// The task of the last start.
    pub(super) starting: Option<JoinHandle<()>>,
    /// When the timer's task looks next; `None`: there is no task.
    pub(super) timer: Option<Instant>,
    /// In whose name it is awake.
    pub(super) budget: Budget,
}

pub(super) struct Held {
    pub(super) since: Instant,
    pub(super) weight: Weight,
    pub(super) answer: oneshot::Sender<Answer>,
    /// It counts as held.
    pub(super) _place: Option<Permit>,
}

/// A compute that came up, as it is told to the log and watched.
pub(super) struct Arrival {
    pub(super) died: BoxFuture<'static, String>,
    pub(super) adopted: bool,
    pub(super) wake: Option<WakeId>,
    pub(super) took: Duration,
    pub(super) phases: Vec<(&'static str, Duration)>,
}

/// The machine's actions, with what they need.
pub(super) enum Work {
    Grant(Held, Arc<Awake>),
    /// With how many others are held.
    Refuse(Held, Refusal, Option<WakeId>, usize),
    Inspect(Generation),
    LineUp(Generation, Duration),
    LeaveLine,
    Start(Generation, WakeId, Option<Start>),
    Stop(Generation, Ends),
    /// With whether to ask.
    Settle(u64, Arc<Awake>, bool),
    Announce(Arc<Awake>, Arrival),
    Signal(Arc<Awake>, LeaseSignal),
    /// It runs on this machine, and was not started from here.
    TakeRoom,
    /// It does not run there any more: to be dropped.
    GiveRoom(Room),
    StartTimer,
    RearmTimer,
    TellChange,
}

/// What a stop ends.
pub(super) enum Ends {
    /// A compute that takes logins, or took them last.
    Awake(Arc<Awake>),
    /// A start that has had its time.
    StartLate,
    /// A start that nobody needs any more, since its endpoint or pgwake goes.
    StartUnneeded,
}

/// What an arrival meets.
pub(super) enum Verdict {
    Granted(Arc<Awake>),
    Refused(Refusal),
    Held,
}

impl Inner {
    pub(super) fn new(rules: Rules, budget: WakeBudget, takes: Takes) -> Self {
        Self {
            budget: Budget::new(budget, rules),
            machine: Machine::new(rules),
            work: VecDeque::new(),
            working: false,
            tickets: 0,
            held: HashMap::new(),
            awake: None,
            arrival: None,
            wake: None,
            wake_began: Instant::now(),
            wakes_started: 0,
            joined: 0,
            state_since: Instant::now(),
            awake_before: Duration::ZERO,
            awake_since: None,
            admission: Admission::Enabled,
            vetoes: Vetoes::default(),
            own: HashSet::default(),
            place: None,
            turn: None,
            takes,
            room: None,
            left: None,
            last_start: Duration::ZERO,
            starting: None,
            timer: None,
        }
    }

    /// A place in the order of arrival.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Others hold from now on; the timer is set by them.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.machine.set_rules(rules);
        self.after_step(mem::discriminant(self.machine.state()), Vec::new());
    }

    /// Somebody is about to ask: see [`Budget::asked`].
    pub(super) fn charge(&mut self, client: Client<'_>, now: Instant) -> Result<Option<Permit>, OverLimit> {
        self.budget.asked(&self.machine, client, now)
    }

    pub(super) fn ask(
        &mut self,
        (ticket, weight): (Ticket, Weight),
        deadline: Instant,
        now: Instant,
    ) -> Verdict {
        let before = mem::discriminant(self.machine.state());
        let was_waking = matches!(self.machine.state(), State::InLine | State::Waking { .. });
        let mut verdict = Verdict::Held;
        let mut further = Vec::new();
        let asked = Event::Asked {
            ticket,
            weight,
            deadline,
        };
        for action in self.machine.step(asked, now) {
            match action {
                Action::Grant { .. } => {
                    let awake = self
                        .awake
                        .clone()
                        .expect("only a compute that takes logins is granted");
                    verdict = Verdict::Granted(awake);
                }
                Action::Refuse { refusal, .. } => verdict = Verdict::Refused(refusal),
                action => further.push(action),
            }
        }
        self.after_step(before, further);
        if was_waking && matches!(verdict, Verdict::Held) {
            self.joined += 1;
        }
        verdict
    }

    pub(super) fn step(&mut self, event: Event) {
        let before = mem::discriminant(self.machine.state());
        let actions = self.machine.step(event, Instant::now()).collect();
        self.after_step(before, actions);
    }

    fn after_step(&mut self, before: mem::Discriminant<State>, actions: Vec<Action>) {
        for action in actions {
            let work = self.work_of(action);
            self.work.extend(work);
        }
        if mem::discriminant(self.machine.state()) != before {
            self.budget.follow(&self.machine);
            self.follow_room();
            self.work.push_back(Work::TellChange);
            self.note_state();
        }
        match (self.machine.due(), self.timer) {
            (Some(due), None) => {
                self.timer = Some(due);
                self.work.push_back(Work::StartTimer);
            }
            (Some(due), Some(set)) if due < set => {
                self.timer = Some(due);
                self.work.push_back(Work::RearmTimer);
            }
            // So that its task ends. A timer that is set too early while something runs is left alone: it looks
            // again when it rings, and a busy endpoint does not touch it with every statement.
            (None, Some(_)) if self.machine.is_at_rest() => self.work.push_back(Work::RearmTimer),
            _ => (),
        }
    }

    /// One that waits for its turn gives its room back as it lines up.
    fn follow_room(&mut self) {
        if self.machine.is_at_rest() {
            self.work.extend(self.room.take().map(Work::GiveRoom));
        } else if self.takes == Takes::Room && self.room.is_none() && self.machine.awake().is_some() {
            self.work.push_back(Work::TakeRoom);
        }
    }

    fn note_state(&mut self) {
        let now = Instant::now();
        self.state_since = now;
        match (self.machine.awake(), self.awake_since) {
            (Some(_), None) => self.awake_since = Some(now),
            (None, Some(since)) => {
                self.awake_before += now - since;
                self.awake_since = None;
            }
            _ => (),
        }
    }

    /// How it stands.
    pub(super) fn figures(&self) -> WakeFigures {
        let rules = self.machine.rules();
        let leases = self.machine.leases().map(|leases| leases.counted);
        let Tally { active, resting } = leases.unwrap_or_default();
        let awake = self.awake_since.map_or(Duration::ZERO, |since| since.elapsed());
        WakeFigures {
            state: match self.machine.state() {
                State::Unknown => ComputeState::Unknown,
                State::Inspecting => ComputeState::Inspecting,
                State::Asleep => ComputeState::Asleep,
                State::InLine => ComputeState::InLine,
                State::Waking { .. } => ComputeState::Waking,
                State::Ready(_) => ComputeState::Awake,
                State::Emptying { .. } | State::Settling { .. } => ComputeState::Emptying,
                State::Suspending => ComputeState::Suspending,
                State::Failed => ComputeState::Failed,
            },
            since: self.state_since,
            is_disabled: self.admission == Admission::Disabled,
            is_suspendable: rules.suspendable,
            suspend_after: rules.idle.suspend_after(),
            suspends_at: self.machine.suspends_at(),
            veto: self.machine.veto(Instant::now()),
            vetoes: self.vetoes,
            active,
            resting,
            held: self.held.len(),
            held_counted: self.machine.waiting_counted(),
            held_since: self.held.values().map(|held| held.since).min(),
            started: self.wakes_started,
            joined: self.joined,
            awake: self.awake_before + awake,
            wake: self.wake,
            failure: self.machine.failure(),
            left: self.left.clone(),
            backoff: self.machine.backoff(Instant::now()),
        }
    }

    /// The action with what it needs; none where who is to be answered has left.
    fn work_of(&mut self, action: Action) -> Option<Work> {
        Some(match action {
            Action::Grant { ticket } => Work::Grant(self.held.remove(&ticket)?, self.awake.clone()?),
            Action::Refuse { ticket, refusal } => {
                let no_wake = matches!(refusal, Refusal::TimedOut(_))
                    && !matches!(self.machine.state(), State::Waking { .. });
                let wake = self.wake.filter(|_| !no_wake);
                let held = self.held.remove(&ticket)?;
                Work::Refuse(held, refusal, wake, self.held.len())
            }
            Action::Inspect { generation } => Work::Inspect(generation),
            Action::LineUp { generation } => Work::LineUp(generation, self.last_start),
            Action::LeaveLine => Work::LeaveLine,
            Action::Start { generation } => {
                let wake = WakeId(random_bits() as u32);
                self.wake = Some(wake);
                self.wake_began = Instant::now();
                self.wakes_started += 1;
                Work::Start(generation, wake, self.turn.take())
            }
            Action::Stop { generation } => {
                let awake = self.awake.clone().filter(|awake| awake.generation == generation);
                let ends = match awake {
                    Some(awake) => Ends::Awake(awake),
                    None if self.machine.is_stop_ordered() => Ends::StartUnneeded,
                    None => Ends::StartLate,
                };
                Work::Stop(generation, ends)
            }
            Action::Settle { round, asks } => Work::Settle(round, self.awake.clone()?, asks),
            Action::Announce => Work::Announce(self.awake.clone()?, self.arrival.take()?),
            Action::Signal(signal) => Work::Signal(self.awake.clone()?, signal),
        })
    }
}

/// Chance that nobody has to guard: for log ids and jitter.
pub(super) fn random_bits() -> u64 {
    RandomState::new().hash_one(())
}
