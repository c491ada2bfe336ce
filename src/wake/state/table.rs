//! The transition table: every kind of state, every event, what becomes of it. Read the snapshot to review a
//! change of the machine.

use std::fmt::Write;

use super::*;
use crate::config::IgnoredBy;
use crate::wake::{
    backoff::Jitter,
    idle::{Holding, Tally},
    waiting::Ticket,
};

/// Of a client that neither wakes nor keeps awake.
const IGNORED: Weight = Weight::Ignored(IgnoredBy::Role);

const NOW: Duration = Duration::from_secs(1000);

/// A machine on its way to a state, at a time that only this test moves.
struct Case {
    machine: Machine,
    start: Instant,
    now: Instant,
}

fn case(idle: IdleRule) -> Case {
    case_that(idle, Asks::Nobody)
}

fn case_that(idle: IdleRule, asks: Asks) -> Case {
    let rules = Rules {
        idle,
        asks_veto: asks == Asks::ForVetoes,
        start_timeout: Duration::from_secs(60),
        awake_min: Duration::ZERO,
        logins_at_once: 2,
        suspendable: true,
        startable: true,
    };
    let start = Instant::now();
    Case {
        machine: Machine::new(rules),
        start,
        now: start + NOW,
    }
}

/// Whether a veto is asked for.
#[derive(PartialEq)]
enum Asks {
    Nobody,
    ForVetoes,
}

fn asks() -> Case {
    case_that(IdleRule::EndsResting(Duration::from_secs(300)), Asks::ForVetoes)
}

fn keeps() -> Case {
    case(IdleRule::KeptByResting(Duration::from_secs(300)))
}

fn ends() -> Case {
    case(IdleRule::EndsResting(Duration::from_secs(300)))
}

impl Case {
    fn then(mut self, event: impl FnOnce(&Self) -> Event) -> Self {
        let event = event(&self);
        drop(self.machine.step(event, self.now));
        self
    }

    fn generation(&self) -> Generation {
        self.machine.generation
    }

    fn asked(self, ticket: u64) -> Self {
        self.then(|case| asked(case, ticket, Weight::Counts))
    }

    fn asked_ignored(self, ticket: u64) -> Self {
        self.then(|case| asked(case, ticket, IGNORED))
    }

    fn called(self) -> Self {
        self.then(|case| Event::Called {
            generation: case.generation(),
        })
    }

    /// Also called before, where that is still to come.
    fn started(self) -> Self {
        self.called().then(|case| Event::Started {
            generation: case.generation(),
        })
    }

    /// All of those who were held have logged in; others may come in by that.
    fn arrived(mut self) -> Self {
        while self.machine.leases().is_some_and(|leases| leases.arriving > 0) {
            self = self.then(|case| Event::Arrived {
                generation: case.generation(),
            });
        }
        self
    }

    fn rested(self) -> Self {
        self.arrived().then(|case| Event::Rested {
            generation: case.generation(),
            weight: Weight::Counts,
        })
    }

    fn returned(self, holding: Holding) -> Self {
        self.arrived().then(|case| Event::Returned {
            generation: case.generation(),
            weight: Weight::Counts,
            holding,
        })
    }

    fn due(mut self) -> Self {
        self.now = self.machine.due().unwrap();
        self.then(|_| time_passed())
    }

    fn settled(self) -> Self {
        self.then(|case| Event::Settled {
            round: case.machine.round,
        })
    }

    fn failed(self) -> Self {
        self.asked(1).called().then(start_failed)
    }

    fn later(mut self, seconds: u64) -> Self {
        self.now += Duration::from_secs(seconds);
        self
    }
}

fn asked(case: &Case, ticket: u64, weight: Weight) -> Event {
    Event::Asked {
        ticket: Ticket(ticket),
        weight,
        deadline: case.now + Duration::from_secs(30),
    }
}

fn vetoed(case: &Case) -> Event {
    Event::Vetoed {
        round: case.machine.round,
        reason: "client psql".into(),
    }
}

fn start_failed(case: &Case) -> Event {
    Event::StartFailed {
        generation: case.generation(),
        reason: "no space".into(),
        jitter: Jitter::from_bits(0),
        retry_after: None,
    }
}

fn time_passed() -> Event {
    Event::TimePassed {
        jitter: Jitter::from_bits(0),
    }
}

fn states() -> Vec<(&'static str, Case)> {
    let all = [
        before_it_runs(),
        while_it_takes_logins(),
        on_the_way_to_sleep(),
        with_those_who_do_not_count(),
        while_another_takes_it_over(),
    ];
    all.into_iter().flatten().collect()
}

fn emptying() -> Case {
    ends()
        .asked(1)
        .started()
        .asked(2)
        .rested()
        .returned(Holding::Active)
        .due()
}

fn settling() -> Case {
    keeps().asked(1).started().returned(Holding::Active).due()
}

fn before_it_runs() -> Vec<(&'static str, Case)> {
    vec![
        ("unknown", keeps()),
        (
            "inspecting, one waits",
            keeps().then(|_| Event::InspectOrdered).asked(1),
        ),
        (
            "inspecting, nobody waits",
            keeps().then(|_| Event::InspectOrdered),
        ),
        ("asleep", settling().settled().then(stopped)),
        ("in line, two wait", keeps().asked(1).asked(2)),
        (
            "in line, one has left and wants it woken all the same",
            keeps().asked(1).then(|case| Event::Detached {
                ticket: Ticket(1),
                until: case.now + Duration::from_secs(5),
            }),
        ),
        ("waking, two wait", keeps().asked(1).asked(2).called()),
        (
            "waking, nobody waits",
            keeps()
                .asked(1)
                .called()
                .then(|_| Event::Left { ticket: Ticket(1) }),
        ),
        (
            "waking, closed",
            keeps().asked(1).called().then(|_| Event::Closed),
        ),
        (
            "waking, stop ordered",
            keeps().asked(1).called().then(|_| Event::StopOrdered),
        ),
    ]
}

fn while_it_takes_logins() -> Vec<(&'static str, Case)> {
    vec![
        (
            "ready, two of those who were held log in, one waits for that",
            keeps().asked(1).asked(2).asked(3).started(),
        ),
        (
            "ready, one of those who were held logs in",
            keeps().asked(1).started(),
        ),
        ("ready, one active", keeps().asked(1).started().arrived()),
        (
            "ready, one rests and keeps it awake",
            keeps().asked(1).started().rested().later(1000),
        ),
        (
            "ready, one rests and will be ended",
            ends().asked(1).started().rested(),
        ),
        (
            "ready, closed, one active",
            keeps().asked(1).started().arrived().then(|_| Event::Closed),
        ),
    ]
}

fn on_the_way_to_sleep() -> Vec<(&'static str, Case)> {
    vec![
        ("emptying, one rests", emptying()),
        ("settling, nobody rests", settling()),
        ("settling, one rests", emptying().due()),
        (
            "settling, asks, nobody rests",
            asks().asked(1).started().returned(Holding::Active).due(),
        ),
        (
            "settling, asks, one rests and will be ended",
            asks().asked(1).started().rested().due(),
        ),
        (
            "settling, asks again, all have been ended",
            asks()
                .asked(1)
                .started()
                .rested()
                .due()
                .settled()
                .returned(Holding::Resting),
        ),
        (
            "settling, was to ask, ordered meanwhile",
            asks()
                .asked(1)
                .started()
                .returned(Holding::Active)
                .due()
                .then(|_| Event::SuspendOrdered),
        ),
        (
            "ready, vetoed",
            asks()
                .asked(1)
                .started()
                .returned(Holding::Active)
                .due()
                .then(vetoed),
        ),
        (
            "settling, stop ordered, one active",
            keeps().asked(1).started().arrived().then(|_| Event::StopOrdered),
        ),
        ("suspending, nobody waits", settling().settled()),
        ("suspending, one waits", settling().settled().asked(1)),
        (
            "suspending, one has left and wants it woken all the same",
            settling().settled().asked(1).then(|case| Event::Detached {
                ticket: Ticket(1),
                until: case.now + Duration::from_secs(5),
            }),
        ),
        (
            "suspending, stop ordered",
            settling().settled().then(|_| Event::StopOrdered),
        ),
        (
            "suspending after a start that timed out",
            keeps()
                .asked(1)
                .called()
                .then(|_| Event::Left { ticket: Ticket(1) })
                .due(),
        ),
        ("failed, remembered", keeps().failed()),
        ("failed, some time ago", keeps().failed().later(6)),
    ]
}

fn with_those_who_do_not_count() -> Vec<(&'static str, Case)> {
    let ignored_alone = |case: Case| case.asked(1).started().asked_ignored(2).returned(Holding::Active);
    vec![
        (
            "inspecting, one waits who is ignored",
            keeps().then(|_| Event::InspectOrdered).asked_ignored(1),
        ),
        (
            "in line, one waits, and one who is ignored",
            keeps().asked(1).asked_ignored(2),
        ),
        (
            "waking, one waits, and one who is ignored",
            keeps().asked(1).asked_ignored(2).called(),
        ),
        (
            "ready, two of those who are ignored log in, one who is not waits for that",
            keeps()
                .asked(1)
                .asked_ignored(2)
                .asked_ignored(3)
                .asked(4)
                .then(|_| Event::Left { ticket: Ticket(1) })
                .started(),
        ),
        ("ready, one who is ignored is active", ignored_alone(keeps())),
        (
            "emptying, one who is ignored is active",
            ignored_alone(keeps()).due(),
        ),
        (
            "settling, one who is ignored is still active",
            ignored_alone(keeps()).due().due(),
        ),
        (
            "settling, asks, one who is ignored is active and will be ended",
            ignored_alone(asks()).due(),
        ),
        (
            "suspending, one waits, and one who is ignored",
            settling().settled().asked(1).asked_ignored(2),
        ),
    ]
}

fn while_another_takes_it_over() -> Vec<(&'static str, Case)> {
    let frozen = |case: Case| case.then(|_| Event::Frozen);
    let ceded = |case: Case| frozen(case).then(|_| Event::Ceded);
    vec![
        ("frozen, unknown, one waits", frozen(keeps()).asked(1)),
        ("frozen, was in line, one waits", frozen(keeps().asked(1))),
        (
            "frozen, was in line, one waits, and one who is ignored",
            frozen(keeps().asked(1).asked_ignored(2)),
        ),
        ("frozen, waking, one waits", frozen(keeps().asked(1).called())),
        ("frozen, ready, one rests and would be ended", frozen(emptying())),
        (
            "frozen, suspending, one waits",
            frozen(settling().settled()).asked(1),
        ),
        (
            "ceded, ready, one active",
            ceded(keeps().asked(1).started().arrived()),
        ),
        ("ceded, asleep", ceded(settling().settled().then(stopped))),
        (
            "ceded, let go",
            ceded(keeps().asked(1).started().returned(Holding::Active)).then(|_| Event::LetGo),
        ),
    ]
}

fn stopped(case: &Case) -> Event {
    Event::Stopped {
        generation: case.generation(),
    }
}

/// Every event; of a lease's events those that its holders can cause.
fn events(case: &Case) -> Vec<(&'static str, Event)> {
    let generation = case.generation();
    let round = case.machine.round;
    let leases = case.machine.leases();
    let mut events = vec![
        ("asked", asked(case, 9, Weight::Counts)),
        ("asked, ignored", asked(case, 9, IGNORED)),
        ("left", Event::Left { ticket: Ticket(1) }),
        (
            "detached",
            Event::Detached {
                ticket: Ticket(1),
                until: case.now + Duration::from_secs(5),
            },
        ),
        ("called", Event::Called { generation }),
        ("inspect ordered", Event::InspectOrdered),
        ("look again ordered", Event::LookAgainOrdered),
        ("found running", Event::FoundRunning { generation }),
        ("found asleep", Event::FoundAsleep { generation }),
        ("started", Event::Started { generation }),
        ("start failed", start_failed(case)),
        (
            "died",
            Event::Died {
                generation,
                reason: "signal 9".into(),
                jitter: Jitter::from_bits(0),
            },
        ),
        ("unreachable", Event::Unreachable { generation }),
        ("settled", Event::Settled { round }),
        ("vetoed", vetoed(case)),
        ("stopped", stopped(case)),
        ("stop failed", Event::StopFailed { generation }),
        ("time passed", time_passed()),
        ("suspend ordered", Event::SuspendOrdered),
        ("room wanted", Event::RoomWanted),
        ("frozen", Event::Frozen),
        ("thawed", Event::Thawed),
        ("ceded", Event::Ceded),
        ("let go", Event::LetGo),
        ("closed", Event::Closed),
        ("stop ordered", Event::StopOrdered),
    ];
    events.extend(late_events());
    if leases.is_some_and(|leases| leases.arriving > 0) {
        events.push(("arrived", Event::Arrived { generation }));
    }
    let arriving = leases.map_or(0, |leases| leases.arriving);
    let (counted, ignored) = leases.map_or_else(Default::default, |leases| (leases.counted, leases.ignored));
    // Who was held says first that it has arrived.
    let of_counted = ["rested", "returned, active", "resumed", "returned, resting"];
    events.extend(events_of(
        counted,
        Weight::Counts,
        of_counted,
        (generation, arriving),
    ));
    let of_ignored = [
        "ignored rested",
        "ignored returned, active",
        "ignored resumed",
        "ignored returned, resting",
    ];
    events.extend(events_of(ignored, IGNORED, of_ignored, (generation, arriving)));
    events
}

fn events_of(
    tally: Tally,
    weight: Weight,
    [rested, returned_active, resumed, returned_resting]: [&'static str; 4],
    (generation, arriving): (Generation, usize),
) -> Vec<(&'static str, Event)> {
    let returned = |holding| Event::Returned {
        generation,
        weight,
        holding,
    };
    let mut events = Vec::new();
    if tally.active > arriving {
        events.push((rested, Event::Rested { generation, weight }));
        events.push((returned_active, returned(Holding::Active)));
    }
    if tally.resting > 0 {
        events.push((resumed, Event::Resumed { generation, weight }));
        events.push((returned_resting, returned(Holding::Resting)));
    }
    events
}

/// What an older generation, or an older round, has to say.
fn late_events() -> Vec<(&'static str, Event)> {
    let (generation, weight) = (Generation(99), Weight::Counts);
    let old = generation;
    vec![
        ("late: called", Event::Called { generation: old }),
        ("late: arrived", Event::Arrived { generation: old }),
        ("late: started", Event::Started { generation: old }),
        (
            "late: start failed",
            Event::StartFailed {
                generation: old,
                reason: "x".into(),
                jitter: Jitter::from_bits(0),
                retry_after: None,
            },
        ),
        ("late: found running", Event::FoundRunning { generation: old }),
        ("late: found asleep", Event::FoundAsleep { generation: old }),
        (
            "late: died",
            Event::Died {
                generation: old,
                reason: "x".into(),
                jitter: Jitter::from_bits(0),
            },
        ),
        ("late: unreachable", Event::Unreachable { generation: old }),
        ("late: settled", Event::Settled { round: 99 }),
        (
            "late: vetoed",
            Event::Vetoed {
                round: 99,
                reason: "x".into(),
            },
        ),
        ("late: stopped", Event::Stopped { generation: old }),
        ("late: stop failed", Event::StopFailed { generation: old }),
        ("late: rested", Event::Rested { generation, weight }),
        ("late: resumed", Event::Resumed { generation, weight }),
        (
            "late: returned",
            Event::Returned {
                generation,
                weight,
                holding: Holding::Active,
            },
        ),
    ]
}

fn describe(machine: &Machine, now: Instant) -> String {
    let leases = |leases: &Leases| {
        let arriving = match leases.arriving {
            0 => String::new(),
            arriving => format!(", {arriving} arriving"),
        };
        let Tally { active, resting } = leases.counted;
        let ignored = match leases.ignored {
            Tally {
                active: 0,
                resting: 0,
            } => String::new(),
            Tally { active, resting } => format!(", ignored: {active} active, {resting} resting"),
        };
        format!("{active} active, {resting} resting{ignored}{arriving}")
    };
    let mut text = match &machine.state {
        State::Ready(held) => format!("Ready ({})", leases(held)),
        State::Emptying { leases: held, .. } => format!("Emptying ({})", leases(held)),
        State::Settling { leases: held, .. } => format!("Settling ({})", leases(held)),
        State::Waking { .. } => "Waking".into(),
        other => format!("{other:?}"),
    };
    if !machine.waiting.is_empty() {
        write!(text, ", {} waiting", machine.waiting.len()).unwrap();
    }
    match machine.door {
        Door::Frozen => text.push_str(", frozen"),
        Door::Lent => text.push_str(", ceded, lent"),
        Door::Gone => text.push_str(", ceded"),
        Door::Open | Door::Closed | Door::StopOrdered => (),
    }
    match machine.due() {
        Some(due) if due <= now => text.push_str(", due"),
        Some(due) => write!(text, ", due in {} s", (due - now).as_secs()).unwrap(),
        None => (),
    }
    text
}

fn describe_action(action: &Action) -> String {
    match action {
        Action::Grant { ticket } => format!("grant #{}", ticket.0),
        Action::Refuse { ticket, refusal } => format!("refuse #{}: {refusal:?}", ticket.0),
        Action::Inspect { generation } => format!("inspect as {generation}"),
        Action::LineUp { generation } => format!("line up as {generation}"),
        Action::LeaveLine => "leave the line".into(),
        Action::Start { generation } => format!("start as {generation}"),
        Action::Stop { generation } => format!("stop {generation}"),
        Action::Settle { round, asks: false } => format!("settle, round {round}"),
        Action::Settle { round, asks: true } => format!("settle and ask, round {round}"),
        Action::Announce => "announce".into(),
        Action::Signal(signal) => format!("signal {signal:?}"),
    }
}

/// One state's rows, the events that change nothing in one line at the end. Late answers never change anything.
fn rows(title: &str, case: &Case) -> String {
    let from = describe(&case.machine, case.now);
    let mut text = format!("{title}: {from}\n");
    let mut ignored = Vec::new();
    for (name, event) in events(case) {
        let mut machine = case.machine.clone();
        let actions: Vec<_> = machine
            .step(event, case.now)
            .map(|action| describe_action(&action))
            .collect();
        let to = describe(&machine, case.now);
        if to == from && actions.is_empty() {
            ignored.push(name);
            continue;
        }
        assert!(
            !name.starts_with("late"),
            "{title}: a late answer or an old lease changed something"
        );
        writeln!(text, "    {name:<18} → {to}").unwrap();
        for action in actions {
            writeln!(text, "    {:<22} {action}", "").unwrap();
        }
    }
    ignored.retain(|name| !name.starts_with("late"));
    writeln!(text, "    no change: {}\n", ignored.join("; ")).unwrap();
    text
}

#[test]
fn transition_table() {
    let table: String = states().iter().map(|(title, case)| rows(title, case)).collect();
    insta::assert_snapshot!(table);
}

#[test]
fn fixed_server_is_never_suspended_and_never_given_up() {
    let mut case = keeps();
    case.machine.rules.suspendable = false;
    case.machine.rules.startable = false;
    let case = case.asked(1).started().returned(Holding::Active);
    let generation = case.generation();
    assert_eq!(case.machine.due(), None);
    let case = case.then(|_| Event::Unreachable { generation });
    assert_eq!(case.machine.awake(), Some(generation));
    let case = case.then(|_| Event::StopOrdered);
    assert!(case.machine.is_at_rest());
}

#[test]
fn one_that_nobody_stops_is_looked_at_when_it_cannot_be_reached_and_left_running_at_the_end() {
    let mut case = keeps();
    case.machine.rules.suspendable = false;
    let waking = case.asked(1).called();
    let mut given_up = waking.machine.clone();
    let generation = waking.generation();
    let actions: Vec<_> = given_up.step(Event::StopOrdered, waking.now).collect();
    assert!(
        actions.contains(&Action::Stop { generation }),
        "its start is ended"
    );

    let case = waking.started().returned(Holding::Active);
    let generation = case.generation();
    assert_eq!(case.machine.due(), None, "it is never suspended");
    let case = case.then(|_| Event::Unreachable { generation });
    assert!(case.machine.is_looking());
    let mut case = case.then(|case| Event::FoundRunning {
        generation: case.generation(),
    });
    let actions: Vec<_> = case.machine.step(Event::StopOrdered, case.now).collect();
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop { .. })));
    assert!(case.machine.is_at_rest());
}

#[test]
fn failures_in_a_row_are_remembered_longer_and_a_success_forgets_them() {
    let refused = |case: &Case| case.machine.failure.as_ref().unwrap().is_recent(case.now);
    let twice = keeps().failed().later(1).failed();
    assert!(refused(&twice));
    let twice = twice.later(1);
    assert!(
        !refused(&twice),
        "the second failure is remembered for one second"
    );
    let healed = twice.asked(3).started();
    assert!(healed.machine.failure.is_none());
    assert!(healed.now > healed.start);
}
