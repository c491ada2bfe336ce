//! Seeded simulation of many endpoints of a few tenants: the machines, the line of those who are to be started, and the
//! accounts of who is held and who is awake, in virtual time, with one tenant that floods the others.
//!
//! `WAKE_SEED=17` replays one seed, `WAKE_SEEDS=100000` runs more of them.

use std::{collections::BTreeMap, env};

use super::*;
use crate::config::{Config, Endpoint, EndpointQuotas, IgnoredBy, Quota};
use crate::ids::{EndpointName, TenantName};
use crate::tenant::quota::{ClientPermit, Permit, Quotas};
use crate::wake::{
    backoff::Jitter,
    driver::budget::{Budget, Client, Entry},
    idle::Holding,
    line::{COST_MAX, Line, Place, QUANTUM, Takes},
    state::simulation::Chance,
    waiting::Ticket,
};

const SEEDS: u64 = 400;
const STEPS: usize = 400;
const TENANTS: usize = 3;
const IGNORED: Weight = Weight::Ignored(IgnoredBy::ApplicationName);

#[test]
fn a_crowd_is_served_in_fair_turns_within_every_bound_for_every_seed() {
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
        let least = [
            seen.served,
            seen.no_place,
            seen.over_budget,
            seen.passed,
            seen.suspended,
            seen.timed_out,
            seen.made_room,
            seen.ignored,
            seen.ignored_served,
        ];
        assert!(least.iter().all(|count| *count > 500), "{seen:?}");
    }
}

/// What happened over all seeds: a simulation in which nothing happens proves nothing.
#[derive(Default, Debug)]
struct Seen {
    served: u64,
    no_place: u64,
    over_budget: u64,
    /// Starts of a lane's first while another lane's first waited.
    passed: u64,
    suspended: u64,
    timed_out: u64,
    /// Suspended before its time, since others needed its room.
    made_room: u64,
    /// Refused, since they do not count.
    ignored: u64,
    ignored_served: u64,
}

/// One endpoint.
struct House {
    tenant: usize,
    endpoint: Endpoint,
    machine: Machine,
    budget: Budget,
    place: Option<Place>,
    /// It runs on the machine that all of them share.
    has_room: bool,
    /// How long its starts take.
    takes: Duration,
    held: BTreeMap<Ticket, Held>,
    leases: BTreeMap<Ticket, Lease>,
}

impl House {
    /// By anybody who counts.
    fn is_in_use(&self) -> bool {
        self.leases.values().any(|lease| lease.weight.counts())
    }
}

/// A client that is held, with what it counts in.
struct Held {
    client: ClientPermit,
    weight: Weight,
    _place: Option<Permit>,
}

struct Lease {
    generation: Generation,
    weight: Weight,
    arriving: bool,
    _client: ClientPermit,
}

/// What will happen by itself, to which endpoint.
enum Coming {
    Ended(Event),
    Settled(u64),
}

/// A lane's first, since when others are started before it.
#[derive(Default)]
struct Passed {
    cost: Duration,
    /// What was spent by each other lane.
    by: [Duration; TENANTS],
}

struct World {
    seed: u64,
    chance: Chance,
    quotas: Quotas,
    now: Instant,
    began: Instant,
    houses: Vec<House>,
    line: Line<(usize, Generation)>,
    at_once_max: usize,
    room: usize,
    /// Who is being started, and holds a turn.
    starting: Vec<usize>,
    coming: Vec<(Instant, usize, Coming)>,
    /// By tenant, while somebody of it is in line.
    firsts: [Option<Passed>; TENANTS],
    tickets: u64,
    held_max: [usize; 2],
    awake_max: usize,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let held_max = [chance.one_of(&[3, 8]).unwrap(), chance.one_of(&[6, 20]).unwrap()];
        let awake_max = chance.one_of(&[4, 30]).unwrap();
        let limits = EndpointQuotas {
            per_endpoint: Quota {
                held_clients_max: Some(held_max[0]),
                ..Quota::default()
            },
            per_tenant: Quota {
                held_clients_max: Some(held_max[1]),
                computes_awake_max: Some(awake_max),
                ..Quota::default()
            },
            ..EndpointQuotas::default()
        };
        // The first tenant has most of them.
        let owners = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2];
        let endpoints = (0..).zip(owners).map(|(number, tenant)| Endpoint {
            name: EndpointName::parse(&format!("crowd-{number}")).unwrap(),
            tenant: TenantName::parse(["flood", "calm", "quiet"][tenant]).unwrap(),
            quotas: limits.clone(),
            ..Endpoint::without_compute("flood")
        });
        let endpoints: Vec<_> = endpoints.collect();
        let quotas = Quotas::new(&Config::of_endpoints(&endpoints));
        let rules = Rules {
            idle: IdleRule::KeptByResting(Duration::from_millis(chance.one_of(&[0, 2_000]).unwrap())),
            start_timeout: Duration::from_secs(60),
            asks_veto: false,
            awake_min: Duration::ZERO,
            logins_at_once: chance.one_of(&[1, 3]).unwrap(),
            suspendable: true,
            startable: true,
        };
        let houses = endpoints.into_iter().zip(owners).map(|(endpoint, tenant)| House {
            tenant,
            machine: Machine::new(rules),
            budget: Budget::new(quotas.wake_budget(&endpoint), rules),
            place: None,
            has_room: false,
            takes: Duration::from_millis(chance.one_of(&[300, 1_000, 3_000]).unwrap()),
            held: BTreeMap::new(),
            leases: BTreeMap::new(),
            endpoint,
        });
        let houses = houses.collect();
        let at_once_max = chance.one_of(&[1, 2, 4]).unwrap();
        let mut line = Line::new();
        line.set_at_once_max(at_once_max);
        let room = chance.one_of(&[2, 5, 30]).unwrap();
        line.set_awake_max(room);
        let now = Instant::now();
        Self {
            seed,
            chance,
            quotas,
            now,
            began: now,
            houses,
            line,
            at_once_max,
            room,
            starting: Vec::new(),
            coming: Vec::new(),
            firsts: Default::default(),
            tickets: 0,
            held_max,
            awake_max,
            seen: Seen::default(),
        }
    }

    fn run(mut self, seen: &mut Seen) {
        for _ in 0..STEPS {
            let longest = self.chance.one_of(&[0, 10, 300]).unwrap();
            let pause = self.chance.millis(longest);
            self.pass(pause);
            self.client_acts();
            self.make_room();
        }
        self.calm_down();
        seen.served += self.seen.served;
        seen.no_place += self.seen.no_place;
        seen.over_budget += self.seen.over_budget;
        seen.passed += self.seen.passed;
        seen.suspended += self.seen.suspended;
        seen.timed_out += self.seen.timed_out;
        seen.made_room += self.seen.made_room;
        seen.ignored += self.seen.ignored;
        seen.ignored_served += self.seen.ignored_served;
    }

    /// Nobody comes any more: everybody is served or sent away, everything sleeps, and nothing is counted.
    fn calm_down(&mut self) {
        for _ in 0..200 {
            self.pass(Duration::from_secs(1));
            self.make_room();
            for at in 0..self.houses.len() {
                self.all_give_back(at);
            }
        }
        for house in &self.houses {
            assert!(house.machine.is_at_rest(), "{:?}", house.machine.state);
            assert!(house.held.is_empty(), "somebody waits for ever");
        }
        let line = &self.line;
        assert_eq!((line.waiting(), line.running(), line.awake()), (0, 0, 0));
        for house in &self.houses {
            let awake: Vec<_> = std::iter::from_fn(|| self.quotas.wake_budget(&house.endpoint).take().ok())
                .take(self.awake_max + 1)
                .collect();
            assert_eq!(
                awake.len(),
                self.awake_max,
                "something is counted that does not run"
            );
        }
    }

    fn client_acts(&mut self) {
        // Most come to the first tenant.
        let any = self.chance.below(self.houses.len() as u64) as usize;
        match self.chance.below(100) {
            0..55 => self.ask(any),
            55..65 => self.one_leaves(any),
            65..80 => self.one_arrives(any),
            _ => self.all_give_back(any),
        }
    }

    fn ask(&mut self, at: usize) {
        let client = self.quotas.admit(&self.houses[at].endpoint, "app").unwrap();
        let weight = match self.chance.percent(20) {
            true => IGNORED,
            false => Weight::Counts,
        };
        let house = &mut self.houses[at];
        let asks = Client {
            permit: Some(&client),
            weight,
            entry: Entry::Comes,
        };
        let place = match house.budget.asked(&house.machine, asks, self.now) {
            Ok(place) => place,
            Err(over) if over.limit().ends_with("held_clients_max") => {
                self.seen.no_place += 1;
                return;
            }
            Err(_) => {
                self.seen.over_budget += 1;
                return;
            }
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let deadline = self.now + self.chance.millis(40_000);
        house.held.insert(
            ticket,
            Held {
                client,
                weight,
                _place: place,
            },
        );
        let asked = Event::Asked {
            ticket,
            weight,
            deadline,
        };
        self.hear(at, asked);
    }

    fn one_leaves(&mut self, at: usize) {
        let all: Vec<_> = self.houses[at].held.keys().copied().collect();
        if let Some(ticket) = self.chance.one_of(&all) {
            self.houses[at].held.remove(&ticket);
            let until = self.now + self.chance.millis(5_000);
            let event = match self.chance.percent(20) {
                true => Event::Detached { ticket, until },
                false => Event::Left { ticket },
            };
            self.hear(at, event);
        }
    }

    fn one_arrives(&mut self, at: usize) {
        let leases = &mut self.houses[at].leases;
        if let Some(lease) = leases.values_mut().find(|lease| lease.arriving) {
            lease.arriving = false;
            let generation = lease.generation;
            self.hear(at, Event::Arrived { generation });
        }
    }

    fn all_give_back(&mut self, at: usize) {
        while let Some((_, lease)) = self.houses[at].leases.pop_first() {
            let (generation, weight) = (lease.generation, lease.weight);
            if lease.arriving {
                self.hear(at, Event::Arrived { generation });
            }
            let returned = Event::Returned {
                generation,
                weight,
                holding: Holding::Active,
            };
            self.hear(at, returned);
        }
    }

    fn pass(&mut self, pause: Duration) {
        let end = self.now + pause;
        loop {
            let due = self.houses.iter().filter_map(|house| house.machine.due());
            let next = self.coming.iter().map(|(at, ..)| *at).chain(due).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if let Some(index) = self.coming.iter().position(|(at, ..)| *at <= self.now) {
                let (_, at, coming) = self.coming.swap_remove(index);
                match coming {
                    Coming::Settled(round) => self.hear(at, Event::Settled { round }),
                    Coming::Ended(event) => self.ended(at, event),
                }
            } else {
                let is_due = |house: &House| house.machine.due().is_some_and(|due| due <= self.now);
                let at = self.houses.iter().position(is_due).expect("something was due");
                let jitter = Jitter::from_bits(self.chance.next());
                self.hear(at, Event::TimePassed { jitter });
            }
        }
        self.now = end;
    }

    /// As the driver's tasks do: a start gives its turn back before the machine hears of it.
    fn ended(&mut self, at: usize, event: Event) {
        if let Some(index) = self.starting.iter().position(|starting| *starting == at) {
            self.starting.swap_remove(index);
            self.line.ended();
            self.call();
        }
        self.hear(at, event);
    }

    /// One step of a machine, and what follows from it.
    fn hear(&mut self, at: usize, event: Event) {
        let is_arrival = matches!(event, Event::Asked { .. });
        let house = &mut self.houses[at];
        let actions: Vec<_> = house.machine.step(event, self.now).collect();
        house.budget.follow(&house.machine);
        if house.machine.is_at_rest() {
            self.give_room(at);
        }
        for action in actions {
            self.obey(at, action, is_arrival);
        }
        self.check();
    }

    fn obey(&mut self, at: usize, action: Action, is_arrival: bool) {
        let house = &mut self.houses[at];
        match action {
            Action::Grant { ticket } => {
                let held = house.held.remove(&ticket).expect("granted to one who waits");
                let generation = house.machine.awake().expect("granted on what takes logins");
                let first_left = house.held.keys().next();
                assert!(
                    is_arrival || first_left.is_none_or(|left| *left > ticket),
                    "not in order"
                );
                house.leases.insert(
                    ticket,
                    Lease {
                        generation,
                        weight: held.weight,
                        arriving: !is_arrival,
                        _client: held.client,
                    },
                );
                self.seen.served += 1;
                self.seen.ignored_served += u64::from(!held.weight.counts());
            }
            Action::Refuse { ticket, refusal } => {
                let held = house.held.remove(&ticket).expect("refused to one who waits");
                match refusal {
                    Refusal::TimedOut(_) => self.seen.timed_out += 1,
                    Refusal::Ignored(_) if !held.weight.counts() => self.seen.ignored += 1,
                    refusal => panic!("{refusal:?}"),
                }
            }
            Action::LineUp { generation } => {
                self.give_room(at);
                let house = &mut self.houses[at];
                let tenant = house.tenant;
                let lane = Some(house.endpoint.tenant.clone());
                house.place = Some(self.line.enter(lane, house.takes, Takes::Room, (at, generation)));
                self.firsts[tenant].get_or_insert_with(|| Passed {
                    cost: COST_MAX,
                    ..Passed::default()
                });
                self.call();
            }
            Action::LeaveLine => {
                let place = self.houses[at].place.take().expect("it has lined up");
                self.line.leave(&place);
                self.note_leaving(at);
            }
            Action::Start { generation } => {
                let event = Event::Started { generation };
                self.coming
                    .push((self.now + house.takes, at, Coming::Ended(event)));
            }
            Action::Stop { generation } => {
                assert!(!house.is_in_use(), "suspended under a turn");
                // Whoever does not count was waited for.
                house.leases.clear();
                self.seen.suspended += 1;
                let ends = self.now + self.chance.millis(500);
                self.coming
                    .push((ends, at, Coming::Ended(Event::Stopped { generation })));
            }
            Action::Settle { round, .. } => {
                assert!(!house.is_in_use(), "suspended under a turn");
                self.coming
                    .push((self.now + self.chance.millis(100), at, Coming::Settled(round)));
            }
            Action::Inspect { .. } => unreachable!("nobody orders it"),
            Action::Announce | Action::Signal(_) => (),
        }
    }

    fn call(&mut self) {
        while let Some(((at, generation), _)) = self.line.call() {
            self.houses[at].has_room = true;
            assert!(
                self.houses[at].machine.is_in_line(generation),
                "called, and not in line"
            );
            self.starting.push(at);
            self.note_call(at);
            self.hear(at, Event::Called { generation });
        }
    }

    fn give_room(&mut self, at: usize) {
        if std::mem::take(&mut self.houses[at].has_room) {
            self.line.gone();
            self.call();
        }
    }

    /// As `Starts` does: who has not been needed for longest goes first, and no more than are lacking.
    fn make_room(&mut self) {
        let lacking = self.line.lacking();
        if lacking == 0 {
            return;
        }
        let is_leaving = |house: &&House| {
            use State::{Emptying, Settling, Suspending};
            house.has_room
                && matches!(
                    house.machine.state,
                    Emptying { .. } | Settling { .. } | Suspending
                )
        };
        let leaving = self.houses.iter().filter(is_leaving).count();
        let since = |(at, house): (usize, &House)| Some((house.machine.unneeded_since(self.now)?, at));
        let mut unneeded: Vec<_> = self.houses.iter().enumerate().filter_map(since).collect();
        unneeded.sort_unstable();
        for (_, at) in unneeded.into_iter().take(lacking.saturating_sub(leaving)) {
            self.seen.made_room += 1;
            self.hear(at, Event::RoomWanted);
            let state = &self.houses[at].machine.state;
            let is_leaving = matches!(state, State::Settling { .. } | State::Emptying { .. });
            assert!(is_leaving, "{state:?} makes no room");
        }
    }

    /// No other lane may spend more before a lane's first than its rounds give it, and one start.
    fn note_call(&mut self, at: usize) {
        let (tenant, cost) = (self.houses[at].tenant, self.houses[at].takes);
        for other in 0..TENANTS {
            let Some(passed) = self.firsts[other].as_mut().filter(|_| other != tenant) else {
                continue;
            };
            passed.by[tenant] += cost;
            self.seen.passed += 1;
            // Three seconds are the dearest start: four rounds at the most until a lane has saved for it.
            let most = 4 * QUANTUM + Duration::from_secs(3);
            assert!(
                passed.by[tenant] <= most,
                "tenant {other} is starved by tenant {tenant}: {:?} of {:?}",
                passed.by,
                passed.cost
            );
        }
        self.note_leaving(at);
    }

    /// A lane has another first, or nobody.
    fn note_leaving(&mut self, at: usize) {
        let tenant = self.houses[at].tenant;
        let is_in_line =
            |house: &House| house.tenant == tenant && matches!(house.machine.state, State::InLine);
        let others = self
            .houses
            .iter()
            .enumerate()
            .any(|(other, house)| other != at && is_in_line(house));
        self.firsts[tenant] = others.then(|| Passed {
            cost: COST_MAX,
            ..Passed::default()
        });
    }

    fn check(&self) {
        assert!(
            self.line.running() <= self.at_once_max,
            "too many are started at once"
        );
        assert_eq!(self.line.running(), self.starting.len(), "turns are lost");
        let has_room = |house: &&House| house.has_room;
        assert_eq!(
            self.houses.iter().filter(has_room).count(),
            self.line.awake(),
            "room is lost"
        );
        assert!(self.line.awake() <= self.room, "more run than there is room for");
        for house in &self.houses {
            let runs = !house.machine.is_at_rest() && !matches!(house.machine.state, State::InLine);
            assert!(
                house.has_room || !runs,
                "one runs without room: {:?}",
                house.machine.state
            );
        }
        for tenant in 0..TENANTS {
            let own = || self.houses.iter().filter(|house| house.tenant == tenant);
            let held: usize = own().map(|house| house.held.len()).sum();
            assert!(held <= self.held_max[1], "a tenant's queue is over its bound");
            let awake = own().filter(|house| !house.machine.is_at_rest()).count();
            assert!(awake <= self.awake_max, "too many computes are awake");
        }
        for house in &self.houses {
            assert!(
                house.held.len() <= self.held_max[0],
                "an endpoint's queue is over its bound"
            );
            assert_eq!(house.held.len(), house.machine.waiting.len(), "a waiter was lost");
            let arriving = house.leases.values().filter(|lease| lease.arriving).count();
            assert!(
                arriving <= house.machine.rules.logins_at_once,
                "more log in at once than may"
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "failed with WAKE_SEED={} after {:?}",
                self.seed,
                self.now - self.began
            );
        }
    }
}
