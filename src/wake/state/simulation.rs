//! Seeded simulation: clients who ask, leave, rest and vanish, and a compute that starts, fails, hangs, dies and
//! answers late, in virtual time; after every step the invariants of the house. Some of the clients do not count: they wake
//! nothing, and keep nothing awake. Now and then another pgwake asks for the compute, and gets it or not.
//!
//! `WAKE_SEED=17` replays one seed, `WAKE_SEEDS=100000` runs more of them. A failure prints its seed and the
//! last steps.

use std::{collections::BTreeMap, env};

use super::*;
use crate::config::IgnoredBy;
use crate::wake::{
    backoff::Jitter,
    idle::{Holding, Tally},
    lease::LeaseSignal,
    waiting::Ticket,
};

const SEEDS: u64 = 3000;
const STEPS: usize = 300;

/// What a hook, or a question, takes at most.
const HOOK_MAX: Duration = Duration::from_secs(2);

const IGNORED: Weight = Weight::Ignored(IgnoredBy::Role);

#[test]
fn invariants_hold_for_every_seed() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("WAKE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WAKE_SEEDS").unwrap_or(SEEDS),
    };
    let mut seen = Seen::default();
    for seed in seeds.clone() {
        World::new(seed).run(&mut seen);
    }
    if seeds.end - seeds.start >= SEEDS {
        seen.check();
    }
}

/// What happened over all seeds: a simulation in which nothing happens proves nothing.
#[derive(Default, Debug)]
struct Seen {
    granted: u64,
    timed_out: u64,
    refused: u64,
    suspended: u64,
    given_up: u64,
    called_off: u64,
    lost: u64,
    left: u64,
    left_line: u64,
    made_room: u64,
    let_in: u64,
    vetoed: u64,
    approved: u64,
    ignored_granted: u64,
    ignored_let_in: u64,
    ignored_refused: u64,
    ignored_told_late: u64,
    ignored_cut_off: u64,
    ignored_alone: u64,
    thawed: u64,
    lent: u64,
    gone: u64,
}

impl Seen {
    fn check(&self) {
        let least = [
            self.granted,
            self.timed_out,
            self.refused,
            self.suspended,
            self.given_up,
            self.called_off,
            self.lost,
            self.left,
            self.left_line,
            self.made_room,
            self.let_in,
            self.vetoed,
            self.approved,
            self.ignored_granted,
            self.ignored_let_in,
            self.ignored_refused,
            self.ignored_told_late,
            self.ignored_cut_off,
            self.ignored_alone,
            self.thawed,
        ];
        assert!(least.iter().all(|count| *count > 1000), "{self:?}");
        assert!(self.lent > 50 && self.gone > 50, "{self:?}");
    }
}

/// splitmix64: the same numbers on every machine and in every year.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    pub(super) fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let count = all.len() as u64;
        (count > 0).then(|| all[self.below(count) as usize])
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Inspect,
    Start,
    Stop,
}

struct Waiter {
    deadline: Instant,
    weight: Weight,
}

struct Lease {
    generation: Generation,
    weight: Weight,
    holding: Holding,
    /// It was held, and has not logged in yet.
    arriving: bool,
    lost: bool,
}

/// What will happen by itself.
#[derive(Clone, Debug)]
enum Coming {
    /// The operation under way ends so.
    Ends { event: Event, runs_afterwards: bool },
    /// An answer that nobody waits for any more.
    Heard(Event),
    /// The hook of the settling with this number (counted here) is done.
    HookDone { number: u64, round: u64 },
    /// The question of the settling with this number is answered.
    Answered { number: u64, round: u64 },
    /// The compute ends by itself.
    Dies,
}

struct World {
    seed: u64,
    chance: Chance,
    machine: Machine,
    now: Instant,
    coming: Vec<(Instant, Coming)>,
    under_way: Option<(Operation, Generation, Instant)>,
    /// Whether the compute runs, in truth.
    runs: bool,
    /// Whether the machine was told something untrue about it and could not know.
    misled: bool,
    /// Nothing goes wrong any more.
    kind: bool,
    closed: bool,
    stop_ordered: bool,
    /// Another pgwake asks for it, or has it: nothing is begun.
    frozen: bool,
    /// Another one has it.
    ceded: bool,
    /// An operator's suspend is under way: whoever rests is ended, however short the rest and whatever the rule.
    suspend_ordered: bool,
    /// Others need its room: it need not have been idle for long.
    room_wanted: bool,
    /// Of a hundred clients so many do not count.
    ignored_percent: u64,
    tickets: u64,
    waiters: BTreeMap<Ticket, Waiter>,
    /// Until when one who counts and has left wants it woken.
    wished_until: Option<Instant>,
    leases: BTreeMap<Ticket, Lease>,
    /// Who asks in this very step.
    asking: Option<Ticket>,
    last_activity: Instant,
    /// When one who counts was last heard of, in whatever way.
    last_heard: Instant,
    awake_since: Instant,
    /// Since when it is on its way to sleep.
    leaving_since: Option<Instant>,
    /// When those who have leases were told to end.
    told_at: Option<Instant>,
    /// How often settling began.
    settlings: u64,
    /// The last settling whose hook was done.
    settled: u64,
    /// Whether something beside pgwake needs the compute, in truth.
    needed: bool,
    /// The last settling whose question was answered with no.
    approved: u64,
    /// When the last veto was heard.
    vetoed_at: Option<Instant>,
    seen: Seen,
    history: Vec<(Instant, Event)>,
    began: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let after = chance.one_of(&[0, 500, 20_000, 300_000]).unwrap();
        let after = Duration::from_millis(after);
        let idle = [
            IdleRule::KeptByResting(after),
            IdleRule::EndsResting(after),
            IdleRule::EndsResting(after),
            IdleRule::Never,
        ];
        let suspendable = chance.percent(95);
        let rules = Rules {
            idle: chance.one_of(&idle).unwrap(),
            awake_min: Duration::from_millis(chance.one_of(&[0, 0, 5_000, 60_000]).unwrap()),
            asks_veto: chance.percent(60),
            start_timeout: Duration::from_secs(chance.one_of(&[2, 10, 60]).unwrap()),
            logins_at_once: chance.one_of(&[1, 2, 5]).unwrap(),
            suspendable,
            // Some are started and never stopped.
            startable: suspendable || chance.percent(50),
        };
        let runs = chance.percent(20);
        let ignored_percent = chance.one_of(&[0, 40, 60, 100]).unwrap();
        let now = Instant::now();
        Self {
            seed,
            chance,
            machine: Machine::new(rules),
            now,
            coming: Vec::new(),
            under_way: None,
            runs,
            misled: runs,
            kind: false,
            closed: false,
            stop_ordered: false,
            frozen: false,
            ceded: false,
            suspend_ordered: false,
            room_wanted: false,
            ignored_percent,
            tickets: 0,
            waiters: BTreeMap::new(),
            wished_until: None,
            leases: BTreeMap::new(),
            asking: None,
            last_activity: now,
            last_heard: now,
            awake_since: now,
            leaving_since: None,
            told_at: None,
            settlings: 0,
            settled: 0,
            needed: false,
            approved: 0,
            vetoed_at: None,
            seen: Seen::default(),
            history: Vec::new(),
            began: now,
        }
    }

    fn run(mut self, seen: &mut Seen) {
        if self.chance.percent(50) {
            self.hear(Event::InspectOrdered);
        }
        for _ in 0..STEPS {
            let longest = self.chance.one_of(&[0, 10, 1000, 30_000]).unwrap();
            let pause = self.chance.millis(longest);
            self.pass(pause);
            self.client_acts();
            match self.chance.below(100) {
                0..2 if !self.frozen => self.freezes(),
                0..40 if self.frozen => self.thaws(),
                _ => (),
            }
        }
        self.kind = true;
        if self.chance.percent(10) {
            self.part();
            return self.add_to(seen);
        }
        self.thaws();
        if self.chance.percent(50) {
            self.end()
        } else {
            self.calm_down()
        }
        self.add_to(seen);
    }

    fn add_to(&self, seen: &mut Seen) {
        seen.granted += self.seen.granted;
        seen.timed_out += self.seen.timed_out;
        seen.refused += self.seen.refused;
        seen.suspended += self.seen.suspended;
        seen.given_up += self.seen.given_up;
        seen.called_off += self.seen.called_off;
        seen.lost += self.seen.lost;
        seen.left += self.seen.left;
        seen.left_line += self.seen.left_line;
        seen.made_room += self.seen.made_room;
        seen.let_in += self.seen.let_in;
        seen.vetoed += self.seen.vetoed;
        seen.approved += self.seen.approved;
        seen.ignored_granted += self.seen.ignored_granted;
        seen.ignored_let_in += self.seen.ignored_let_in;
        seen.ignored_refused += self.seen.ignored_refused;
        seen.ignored_told_late += self.seen.ignored_told_late;
        seen.ignored_cut_off += self.seen.ignored_cut_off;
        seen.ignored_alone += self.seen.ignored_alone;
        seen.thawed += self.seen.thawed;
        seen.lent += self.seen.lent;
        seen.gone += self.seen.gone;
    }

    fn freezes(&mut self) {
        self.frozen = true;
        self.hear(Event::Frozen);
    }

    fn thaws(&mut self) {
        if self.frozen {
            self.frozen = false;
            self.seen.thawed += 1;
            self.hear(Event::Thawed);
        }
    }

    /// Another pgwake takes it over: what is under way ends first, and who has a lease keeps it to the end.
    fn part(&mut self) {
        self.freezes();
        self.pass(Duration::from_secs(200));
        assert!(self.machine.is_still(), "not still: {:?}", self.machine.state);
        self.ceded = true;
        self.hear(Event::Ceded);
        assert!(self.waiters.is_empty(), "somebody waits for what is another's");
        let (is_lent, granted) = (self.machine.awake().is_some(), self.seen.granted);
        self.ask_as(Weight::Counts);
        assert_eq!(is_lent, self.seen.granted > granted, "{:?}", self.machine.state);
        self.seen.lent += u64::from(is_lent);
        self.seen.gone += u64::from(!is_lent);
        self.pass(Duration::from_secs(1000));
        self.all_give_back();
        self.hear(Event::LetGo);
        self.ask_as(Weight::Counts);
        self.pass(Duration::from_secs(1000));
        assert!(self.leases.is_empty(), "granted by one that has let go");
        assert_eq!(self.machine.due(), None, "something is left to do");
    }

    /// Everything comes to its end, whoever still holds a lease.
    fn end(&mut self) {
        self.closed = true;
        self.hear(Event::Closed);
        let pause = self.chance.millis(100);
        self.pass(pause);
        self.ask();
        self.stop_ordered = true;
        self.hear(Event::StopOrdered);
        self.pass(Duration::from_secs(600));
        assert!(self.machine.is_at_rest(), "not at rest: {:?}", self.machine.state);
        assert!(
            self.leases.values().all(|lease| lease.lost),
            "a lease outlived the end"
        );
        assert!(
            !self.machine.rules.suspendable || !self.runs || self.misled,
            "something is left running"
        );
        assert_eq!(self.machine.due(), None, "something is left to do");
    }

    /// Everybody goes; then one more comes and goes: it must be served, and the compute must get to sleep, whatever those do
    /// who do not count.
    fn calm_down(&mut self) {
        self.coming.retain(|(_, coming)| !matches!(coming, Coming::Dies));
        self.needed = false;
        self.all_give_back();
        self.pass(Duration::from_secs(200));
        self.all_give_back();
        assert!(self.waiters.is_empty(), "somebody waits for ever");
        let granted = self.seen.granted;
        self.ask_as(Weight::Counts);
        self.pass(Duration::from_secs(39));
        assert!(
            self.seen.granted > granted,
            "not served by a compute that works: {:?}",
            self.machine.state
        );
        self.ask_as(IGNORED);
        self.those_who_count_give_back();
        for _ in 0..40 {
            self.ask_as(IGNORED);
            self.one_changes(Holding::Active, Holding::Resting);
            self.one_changes(Holding::Resting, Holding::Active);
            self.pass(Duration::from_secs(10));
        }
        let sleeps = self.machine.rules.suspendable && !matches!(self.machine.rules.idle, IdleRule::Never);
        assert_eq!(self.machine.is_at_rest(), sleeps, "{:?}", self.machine.state);
        assert_eq!(self.runs, !sleeps);
    }

    /// Who gives back may let in another one.
    fn all_give_back(&mut self) {
        while let Some(ticket) = self.leases.keys().next().copied() {
            self.give_back(ticket);
        }
    }

    fn those_who_count_give_back(&mut self) {
        let counts = |(_, lease): &(&Ticket, &Lease)| lease.weight.counts();
        while let Some(ticket) = self.leases.iter().find(counts).map(|(ticket, _)| *ticket) {
            self.give_back(ticket);
        }
    }

    /// Time passes, and with it everything that comes by itself.
    fn pass(&mut self, pause: Duration) {
        let end = self.now + pause;
        let mut at_once = 0;
        loop {
            let due = self.machine.due();
            let next = self.coming.iter().map(|(at, _)| *at).chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 1000, "time stands still");
            self.now = self.now.max(next);
            let mut ready: Vec<_> = (0..self.coming.len())
                .filter(|i| self.coming[*i].0 <= self.now)
                .map(Some)
                .collect();
            if due.is_some_and(|due| due <= self.now) {
                ready.push(None);
            }
            match self.chance.one_of(&ready).unwrap() {
                Some(index) => {
                    let (_, coming) = self.coming.swap_remove(index);
                    self.comes(coming);
                }
                None => self.time_passed(),
            }
        }
        self.now = end;
    }

    fn time_passed(&mut self) {
        let jitter = Jitter::from_bits(self.chance.next());
        self.hear(Event::TimePassed { jitter });
    }

    fn comes(&mut self, coming: Coming) {
        match coming {
            Coming::Ends {
                event,
                runs_afterwards,
            } => {
                self.under_way = None;
                self.runs = runs_afterwards;
                match event {
                    Event::Started { .. } | Event::FoundRunning { .. } => {
                        self.misled = false;
                        self.may_die();
                    }
                    _ => self.misled |= self.runs,
                }
                self.hear(event);
            }
            Coming::Heard(event) => self.hear(event),
            Coming::HookDone { number, round } => {
                self.settled = self.settled.max(number);
                self.hear(Event::Settled { round });
            }
            Coming::Answered { number, round } => self.answered(number, round),
            Coming::Dies => self.dies(),
        }
    }

    /// As it is in truth, or with nothing: that is a veto, too.
    fn answered(&mut self, number: u64, round: u64) {
        self.settled = self.settled.max(number);
        let is_silent = !self.kind && self.chance.percent(10);
        if self.needed || is_silent {
            let is_waited_for =
                matches!(self.machine.state, State::Settling { round: current, .. } if current == round);
            let before = self.vetoed_at;
            if is_waited_for {
                self.vetoed_at = Some(self.now);
            }
            self.hear(Event::Vetoed {
                round,
                reason: "needed".into(),
            });
            if is_waited_for && matches!(self.machine.state, State::Ready(_)) {
                self.room_wanted = false;
                self.seen.vetoed += 1;
            } else {
                self.vetoed_at = before;
            }
            return;
        }
        self.approved = self.approved.max(number);
        self.seen.approved += 1;
        self.hear(Event::Settled { round });
    }

    fn may_die(&mut self) {
        if !self.kind && self.chance.percent(30) {
            let at = self.now + self.chance.millis(60_000);
            self.coming.retain(|(_, coming)| !matches!(coming, Coming::Dies));
            self.coming.push((at, Coming::Dies));
        }
    }

    /// The news of it comes a little later, sometimes to an older generation.
    fn dies(&mut self) {
        if !self.runs || self.under_way.is_some() {
            return;
        }
        self.runs = false;
        let generation = self.machine.generation;
        let reason: Arc<str> = "died".into();
        let at = self.now + self.chance.millis(20);
        let event = Event::Died {
            generation,
            reason,
            jitter: Jitter::from_bits(self.chance.next()),
        };
        self.coming.push((at, Coming::Heard(event)));
    }

    fn client_acts(&mut self) {
        let ended = matches!(self.machine.state, State::Emptying { .. });
        match self.chance.below(100) {
            0..30 => self.ask(),
            30..34 => self.one_leaves(),
            34..40 => self.those_who_count_leave(),
            40..47 => self.one_arrives(),
            47..55 => self.one_changes(Holding::Active, Holding::Resting),
            // Those who are told to end mostly do.
            55..57 => self.one_changes(Holding::Resting, Holding::Active),
            57..65 if !ended => self.one_changes(Holding::Resting, Holding::Active),
            57..95 => {
                let all: Vec<_> = self.leases.keys().copied().collect();
                if let Some(ticket) = self.chance.one_of(&all) {
                    self.give_back(ticket);
                }
            }
            95..97 => {
                let generations: Vec<_> = self.leases.values().map(|lease| lease.generation).collect();
                if let Some(generation) = self.chance.one_of(&generations) {
                    self.hear(Event::Unreachable { generation });
                }
            }
            97 if self.chance.below(2) == 0 => self.hear(Event::SuspendOrdered),
            97 if self.chance.below(2) == 0 => self.needed = !self.needed,
            97 => self.hear(Event::InspectOrdered),
            _ => {
                self.all_give_back();
                if self.chance.percent(30) {
                    self.hear(Event::RoomWanted);
                }
            }
        }
    }

    fn ask(&mut self) {
        let weight = match self.chance.percent(self.ignored_percent) {
            true => IGNORED,
            false => Weight::Counts,
        };
        self.ask_as(weight);
    }

    fn ask_as(&mut self, weight: Weight) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let deadline = self.now
            + self
                .chance
                .millis(40_000)
                .max(Duration::from_secs(if self.kind { 40 } else { 0 }));
        self.waiters.insert(ticket, Waiter { deadline, weight });
        self.asking = Some(ticket);
        self.hear(Event::Asked {
            ticket,
            weight,
            deadline,
        });
        self.asking = None;
    }

    fn one_leaves(&mut self) {
        let all: Vec<_> = self.waiters.keys().copied().collect();
        if let Some(ticket) = self.chance.one_of(&all) {
            self.leaves(ticket);
        }
    }

    /// Whoever has joined them is left alone.
    fn those_who_count_leave(&mut self) {
        let counts = |(_, waiter): &(&Ticket, &Waiter)| waiter.weight.counts();
        while let Some(ticket) = self.waiters.iter().find(counts).map(|(ticket, _)| *ticket) {
            self.leaves(ticket);
        }
    }

    fn leaves(&mut self, ticket: Ticket) {
        if let Some(waiter) = self.waiters.remove(&ticket) {
            self.seen.left += 1;
            let until = self.now + self.chance.millis(10_000);
            let event = match self.chance.percent(30) {
                true => Event::Detached { ticket, until },
                false => Event::Left { ticket },
            };
            if waiter.weight.counts() && matches!(event, Event::Detached { .. }) {
                self.wished_until = self.wished_until.max(Some(until));
            }
            self.hear(event);
        }
    }

    fn one_changes(&mut self, from: Holding, to: Holding) {
        let all: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.holding == from)
            .map(|(ticket, _)| *ticket)
            .collect();
        let Some(ticket) = self.chance.one_of(&all) else {
            return;
        };
        self.arrives(ticket);
        let lease = self.leases.get_mut(&ticket).unwrap();
        lease.holding = to;
        let (generation, weight, lost) = (lease.generation, lease.weight, lease.lost);
        if !lost && weight.counts() {
            self.last_activity = self.now;
        }
        self.hear(match to {
            Holding::Active => Event::Resumed { generation, weight },
            Holding::Resting => Event::Rested { generation, weight },
        });
    }

    fn one_arrives(&mut self) {
        let all: Vec<_> = self.leases.keys().copied().collect();
        if let Some(ticket) = self.chance.one_of(&all) {
            self.arrives(ticket);
        }
    }

    /// As the driver says it: before the lease is anything else.
    fn arrives(&mut self, ticket: Ticket) {
        let lease = self.leases.get_mut(&ticket).unwrap();
        let generation = lease.generation;
        if std::mem::take(&mut lease.arriving) {
            self.hear(Event::Arrived { generation });
        }
    }

    fn give_back(&mut self, ticket: Ticket) {
        self.arrives(ticket);
        let Lease {
            generation,
            weight,
            holding,
            lost,
            ..
        } = self.leases.remove(&ticket).unwrap();
        if !lost && weight.counts() && holding == Holding::Active {
            self.last_activity = self.now;
        }
        self.hear(Event::Returned {
            generation,
            weight,
            holding,
        });
    }

    /// One step of the machine, and what it says.
    fn hear(&mut self, event: Event) {
        self.history.push((self.now, event.clone()));
        let in_use = self.held(Holding::Active) > 0;
        let may_end = self.stop_ordered || matches!(event, Event::Died { .. } | Event::Unreachable { .. });
        let is_order = matches!(event, Event::SuspendOrdered);
        let is_wish = matches!(event, Event::RoomWanted);
        let weight = weight_of(&event);
        if weight == Some(Weight::Counts) {
            self.last_heard = self.now;
        }
        let actions: Vec<_> = self.machine.step(event, self.now).collect();
        // Where it is under way already, it goes on by the order.
        let is_under_way = matches!(
            self.machine.state,
            State::Emptying { .. } | State::Settling { .. }
        );
        self.suspend_ordered |= is_order && !self.closed && (is_under_way || !actions.is_empty());
        self.room_wanted |= is_wish && !actions.is_empty();
        self.seen.made_room += u64::from(is_wish && !actions.is_empty());
        let ends = actions
            .iter()
            .any(|action| matches!(action, Action::Signal(signal) if signal.is_over()));
        let matters = |action: &Action| {
            use Action::{Inspect, LineUp, Signal, Start};
            let is_wake = matches!(action, LineUp { .. } | Start { .. } | Inspect { .. });
            is_wake || *action == Signal(LeaseSignal::Steady)
        };
        assert!(
            weight != Some(IGNORED) || !actions.iter().any(matters),
            "one who does not count wakes it, or calls a suspend off: {actions:?}"
        );
        assert!(!ends || !in_use || may_end, "suspended under an open statement");
        for action in actions {
            self.obey(action);
        }
        self.check();
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Grant { ticket } => self.granted(ticket),
            Action::Refuse { ticket, refusal } => self.refused(ticket, &refusal),
            Action::Inspect { generation } => self.inspect(generation),
            Action::LineUp { generation } => {
                assert!(!self.frozen, "lined up while another asks for it");
                let is_wished = self.wished_until.is_some_and(|until| until >= self.now);
                assert!(
                    self.has_counted_waiters() || is_wished,
                    "woken for nobody who counts"
                );
                let longest = self.chance.one_of(&[0, 0, 500, 20_000]).unwrap();
                let at = self.now + self.chance.millis(if self.kind { 500 } else { longest });
                self.coming
                    .push((at, Coming::Heard(Event::Called { generation })));
            }
            // A call may be on its way all the same, and must be ignored.
            Action::LeaveLine => self.seen.left_line += 1,
            Action::Start { generation } => self.start(generation),
            Action::Stop { generation } => self.stop(generation),
            Action::Settle { round, asks } => self.settle(round, asks),
            Action::Announce => {
                assert!(self.machine.awake().is_some());
                (self.suspend_ordered, self.room_wanted) = (false, false);
                self.vetoed_at = None;
                (self.leaving_since, self.told_at) = (None, None);
                (self.awake_since, self.last_heard) = (self.now, self.last_heard.max(self.now));
            }
            Action::Signal(signal @ (LeaseSignal::Lost(_) | LeaseSignal::Suspended)) => {
                if signal == LeaseSignal::Suspended && !self.stop_ordered {
                    self.cut_off();
                }
                (self.leaving_since, self.told_at) = (None, None);
                for lease in self.leases.values_mut().filter(|lease| !lease.lost) {
                    lease.lost = true;
                    self.seen.lost += 1;
                }
            }
            Action::Signal(LeaseSignal::EndIfIdle) => {
                let ends_resting = matches!(self.machine.rules.idle, IdleRule::EndsResting(_));
                let keeps = self.held(Holding::Resting) > 0 && !ends_resting;
                assert!(!keeps || self.suspend_ordered);
                self.told_at = Some(self.now);
                self.leaving_since.get_or_insert(self.now);
                assert_eq!(self.held(Holding::Active), 0, "ended under an open statement");
                let may = !self.machine.rules.asks_veto || self.approved == self.settlings;
                assert!(may || self.suspend_ordered, "ended for a suspend that is vetoed");
            }
            Action::Signal(LeaseSignal::Steady) => {
                self.seen.called_off += 1;
                (self.leaving_since, self.told_at) = (None, None);
                (self.suspend_ordered, self.room_wanted) = (false, false);
            }
        }
    }

    fn granted(&mut self, ticket: Ticket) {
        let asked = self.waiters.remove(&ticket);
        let weight = asked.expect("answered twice, or never asked").weight;
        assert!(!self.closed, "{ticket:?} was granted after the end");
        let generation = self
            .machine
            .awake()
            .expect("granted on a compute that is not ready");
        let holding = Holding::Active;
        let arriving = self.asking != Some(ticket);
        if arriving && self.leases.values().any(|lease| !lease.lost) {
            self.seen.let_in += 1;
        }
        if weight.counts() {
            self.last_activity = self.now;
            self.last_heard = self.now;
        } else {
            assert_eq!(self.told_at, None, "let in to what is on its way to sleep");
            self.seen.ignored_granted += 1;
            self.seen.ignored_let_in += u64::from(arriving);
            let alone = self.held(Holding::Active) + self.held(Holding::Resting) == 0;
            self.seen.ignored_alone += u64::from(alone);
        }
        self.leases.insert(
            ticket,
            Lease {
                generation,
                weight,
                holding,
                arriving,
                lost: false,
            },
        );
        self.seen.granted += 1;
    }

    fn refused(&mut self, ticket: Ticket, refusal: &Refusal) {
        let Waiter { deadline, weight } = self
            .waiters
            .remove(&ticket)
            .expect("answered twice, or never asked");
        match refusal {
            Refusal::Disabled => unreachable!("the driver says that, not the machine"),
            Refusal::TimedOut(_) => {
                assert!(
                    deadline <= self.now,
                    "{ticket:?} was sent away before its deadline"
                );
                self.seen.timed_out += 1;
            }
            Refusal::Ignored(by) => {
                assert_eq!(weight, Weight::Ignored(*by), "one who counts is ignored");
                let others = self.has_counted_waiters();
                assert!(!others, "those who do not count may wait with those who do");
                use State::{InLine, Inspecting, Ready, Waking};
                let state = &self.machine.state;
                let is_served = matches!(state, Ready(_) | InLine | Waking { .. } | Inspecting);
                assert!(!is_served, "refused in {state:?}");
                self.seen.ignored_refused += 1;
                self.seen.ignored_told_late += u64::from(self.asking != Some(ticket));
            }
            Refusal::Failed(..) => self.seen.refused += 1,
            Refusal::Closed => assert!(self.closed || self.ceded),
        }
    }

    /// It is suspended under those who did not count, and have something open: they were waited for.
    fn cut_off(&mut self) {
        let is_open =
            |lease: &&Lease| !lease.lost && !lease.weight.counts() && lease.holding == Holding::Active;
        let open = self.leases.values().filter(is_open).count();
        if open > 0 {
            let told_at = self.told_at.expect("cut off without a word");
            assert!(self.now >= told_at + EMPTYING_MAX, "cut off too early");
            self.seen.ignored_cut_off += open as u64;
        }
    }

    fn begin(&mut self, operation: Operation, generation: Generation, outcome: (Duration, Event, bool)) {
        let (takes, event, runs_afterwards) = outcome;
        let ends_a_start = operation == Operation::Stop && self.under_way.is_some();
        assert!(
            !self.frozen || (ends_a_start && !self.ceded),
            "begun while another asks for it: {operation:?}"
        );
        self.under_way = Some((operation, generation, self.now));
        let coming = Coming::Ends {
            event,
            runs_afterwards,
        };
        self.coming.push((self.now + takes, coming));
    }

    fn inspect(&mut self, generation: Generation) {
        assert_eq!(self.under_way, None, "two things at once");
        let takes = self.chance.millis(500);
        let blind = !self.kind && self.chance.percent(5);
        let event = match self.runs && !blind {
            true => Event::FoundRunning { generation },
            false => Event::FoundAsleep { generation },
        };
        self.begin(Operation::Inspect, generation, (takes, event, self.runs));
    }

    fn start(&mut self, generation: Generation) {
        assert_eq!(self.under_way, None, "two things at once");
        assert!(!self.stop_ordered, "woken after the end");
        let luck = if self.kind { 0 } else { self.chance.below(100) };
        let jitter = Jitter::from_bits(self.chance.next());
        let takes = match luck {
            0..75 => self.chance.millis(1500),
            75..85 => self.chance.millis(100_000),
            _ => Duration::from_secs(1_000_000),
        };
        let fails = !self.kind && self.chance.percent(25);
        let outcome = match fails {
            true => Event::StartFailed {
                generation,
                reason: "failed".into(),
                jitter,
                retry_after: None,
            },
            false => Event::Started { generation },
        };
        self.begin(Operation::Start, generation, (takes, outcome, !fails));
    }

    fn stop(&mut self, generation: Generation) {
        match self.under_way {
            None => {
                let settled = self.settled == self.settlings;
                assert!(settled || self.stop_ordered, "stopped without having settled");
                let may = !self.machine.rules.asks_veto || self.approved == self.settlings;
                assert!(
                    may || self.suspend_ordered || self.stop_ordered,
                    "suspended under a veto"
                );
                self.seen.suspended += 1;
            }
            Some((operation, of, since)) => {
                assert_eq!(
                    (operation, of),
                    (Operation::Start, generation),
                    "two things at once"
                );
                let too_late = since + self.machine.rules.start_timeout == self.now;
                assert!(too_late || self.stop_ordered, "given up at another time");
                self.given_up(generation);
            }
        }
        assert!(
            self.leases.values().all(|lease| lease.lost),
            "stopped under a lease that was not told"
        );
        let luck = if self.kind { 0 } else { self.chance.below(100) };
        let takes = self.chance.millis(if luck < 80 { 300 } else { 30_000 });
        let fails = luck >= 90;
        let still_runs = fails && self.runs && self.chance.percent(50);
        let event = match fails {
            true => Event::StopFailed { generation },
            false => Event::Stopped { generation },
        };
        self.begin(Operation::Stop, generation, (takes, event, still_runs));
    }

    /// The start ends here; its answer may have been on its way already, and comes late.
    fn given_up(&mut self, generation: Generation) {
        self.seen.given_up += 1;
        self.coming
            .retain(|(_, coming)| !matches!(coming, Coming::Ends { .. }));
        if self.chance.percent(50) {
            let at = self.now + self.chance.millis(40_000);
            self.coming
                .push((at, Coming::Heard(Event::Started { generation })));
        }
        self.runs |= self.chance.percent(50);
    }

    fn settle(&mut self, round: u64, asks: bool) {
        assert!(!self.frozen, "about to be suspended while another asks for it");
        if !self.stop_ordered {
            assert_eq!(self.held(Holding::Active), 0, "suspended under an open statement");
        }
        if !self.stop_ordered && !self.suspend_ordered {
            let after = match self.machine.rules.idle {
                IdleRule::KeptByResting(after) => {
                    assert_eq!(
                        self.held(Holding::Resting),
                        0,
                        "suspended under a session that keeps it awake"
                    );
                    after
                }
                IdleRule::EndsResting(after) => after,
                IdleRule::Never => panic!("suspended although it never should be"),
            };
            let is_early = self.now < self.last_activity + after;
            assert!(!is_early || self.room_wanted, "suspended too early");
            let least = self.machine.rules.awake_min;
            assert!(self.now >= self.awake_since + least, "awake for too short a time");
        }
        let ordered = self.suspend_ordered || self.stop_ordered;
        assert_eq!(
            asks,
            self.machine.rules.asks_veto && !ordered,
            "asked, or not, against the rules"
        );
        if let (true, Some(at)) = (asks, self.vetoed_at) {
            let after = self.machine.rules.idle.suspend_after().unwrap();
            let pause = after.clamp(Duration::from_secs(1), Duration::from_secs(60));
            assert!(self.now >= at + pause, "asked again too early");
        }
        let at = self.now + self.chance.millis(HOOK_MAX.as_millis() as u64);
        self.leaving_since.get_or_insert(self.now);
        self.settlings += 1;
        let number = self.settlings;
        self.coming.push(match asks {
            true => (at, Coming::Answered { number, round }),
            false => (at, Coming::HookDone { number, round }),
        });
    }

    fn has_counted_waiters(&self) -> bool {
        self.waiters.values().any(|waiter| waiter.weight.counts())
    }

    /// By those who count.
    fn held(&self, holding: Holding) -> usize {
        self.held_by(Weight::Counts, holding)
    }

    fn held_by(&self, weight: Weight, holding: Holding) -> usize {
        let is_held = |lease: &&Lease| !lease.lost && lease.holding == holding && lease.weight == weight;
        self.leases.values().filter(is_held).count()
    }

    /// Nobody who does not count postpones it, and what it waits for has an end.
    fn check_sleep(&self) {
        if self.frozen {
            return;
        }
        let machine = &self.machine;
        let rules = &machine.rules;
        let after = match rules.idle {
            IdleRule::KeptByResting(after) if self.held(Holding::Resting) == 0 => after,
            IdleRule::EndsResting(after) => after,
            IdleRule::KeptByResting(_) | IdleRule::Never => return,
        };
        let is_needed = self.held(Holding::Active) > 0 || self.has_counted_waiters();
        if matches!(machine.state, State::Ready(_)) && rules.suspendable && !is_needed {
            let pause = after.clamp(Duration::from_secs(1), Duration::from_secs(60));
            let veto = self.vetoed_at.map(|at| at + pause);
            let idle = (self.last_heard + after).max(self.awake_since + rules.awake_min);
            let latest = Some(idle).max(veto);
            let due = machine.due();
            assert!(
                due.is_some() && due <= latest,
                "suspended at {due:?} at the earliest"
            );
        }
        if let Some(since) = self.leaving_since {
            let longest = EMPTYING_MAX + 2 * HOOK_MAX;
            assert!(self.now <= since + longest, "it does not get to sleep");
        }
    }

    fn check(&self) {
        let machine = &self.machine;
        assert_eq!(machine.waiting.len(), self.waiters.len(), "a waiter was lost");
        self.check_sleep();
        assert!(
            self.waiters.values().all(|waiter| waiter.deadline >= self.now),
            "somebody waits beyond its deadline"
        );
        let arriving = self
            .leases
            .values()
            .filter(|lease| !lease.lost && lease.arriving)
            .count();
        let is_on_its_way = match &machine.state {
            State::InLine => true,
            State::Ready(_) => arriving == machine.rules.logins_at_once,
            _ => self.under_way.is_some(),
        };
        assert!(
            self.waiters.is_empty() || is_on_its_way || (self.frozen && !self.ceded),
            "somebody waits for nothing"
        );
        assert!(
            arriving <= machine.rules.logins_at_once,
            "more log in at once than may"
        );
        if matches!(machine.state, State::InLine) {
            let is_wanted = self.has_counted_waiters() || machine.wanted_until.is_some();
            assert!(is_wanted, "it waits for its turn, and nobody wants it to");
        }
        if matches!(machine.state, State::Suspending) {
            let is_wanted = self.has_counted_waiters() || machine.wanted_until.is_some();
            assert!(is_wanted || self.waiters.is_empty(), "somebody waits for no wake");
        }
        let expected = match &machine.state {
            State::Inspecting => Some(Operation::Inspect),
            State::Waking { .. } => Some(Operation::Start),
            State::Suspending => Some(Operation::Stop),
            _ => None,
        };
        let (operation, generation) = match self.under_way {
            Some((operation, generation, _)) => (Some(operation), generation),
            None => (None, machine.generation),
        };
        assert_eq!(
            (operation, generation),
            (expected, machine.generation),
            "the state does not say what is done"
        );
        match machine.leases() {
            Some(leases) => {
                let tally = |weight| Tally {
                    active: self.held_by(weight, Holding::Active),
                    resting: self.held_by(weight, Holding::Resting),
                };
                let held = (tally(Weight::Counts), tally(IGNORED), arriving);
                let counted = (leases.counted, leases.ignored, leases.arriving);
                assert_eq!(counted, held, "leases are miscounted");
                let current = |lease: &Lease| lease.lost || lease.generation == machine.generation;
                assert!(
                    self.leases.values().all(current),
                    "a lease of a generation that is gone"
                );
            }
            None => assert!(
                self.leases.values().all(|lease| lease.lost),
                "a lease on nothing, and not told"
            ),
        }
    }
}

/// Whose doing it is, where it is that of one with a lease, or of one who wants one.
fn weight_of(event: &Event) -> Option<Weight> {
    match event {
        Event::Asked { weight, .. }
        | Event::Rested { weight, .. }
        | Event::Resumed { weight, .. }
        | Event::Returned { weight, .. } => Some(*weight),
        _ => None,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "failed with WAKE_SEED={}; rules {:?}; the last steps:",
                self.seed, self.machine.rules
            );
            for (at, event) in self.history.iter().rev().take(30).rev() {
                eprintln!("  {:>12.3?} {event:?}", *at - self.began);
            }
            eprintln!("  now {:?}", self.machine.state);
        }
    }
}
