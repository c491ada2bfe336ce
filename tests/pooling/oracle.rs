//! The differential oracle: what clients do at random, done on Postgres itself and through pgwake, must read the same
//! byte for byte. Eight clients share one or two server sessions, and one takes them from the other between any two
//! turns.
//!
//! `PGWAKE_ORACLE_SEED=17` replays one seed, `PGWAKE_ORACLE_SEEDS=1000` runs more of them, `PGWAKE_ORACLE_FIRST=500`
//! begins elsewhere. Several cases are played side by side, each on servers of its own: what others drop and make would
//! have Postgres read old statements anew. A failure prints its seed and what is left of the case after everything was
//! dropped that it does not need.

mod case;
mod pen;
mod proof;
mod shrink;
mod slow;
mod twins;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::Instant};

use super::{
    act::Step,
    line::Way,
    play::{Difference, Order, Schedule, Taken, crowd, record, replay},
};
use case::{CLIENTS, Case, SEQUENCES};
use twins::{Twins, reset};

/// Cases where nobody asks for more.
const SEEDS: u64 = 64;
/// How many are played side by side: more than there are cores, because each waits for its servers most of the time.
const LANES: usize = 4;
/// The lane whose compute is suspended whenever it may be.
const SLEEPING: usize = 3;

/// The lane whose servers are slow to hear and to answer.
const SLOW: usize = 1;

/// How a case is played through pgwake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    /// One act at a time.
    InTurn(Way),
    /// All clients at once.
    Crowd,
}

const PLAYS: [Play; 3] = [Play::InTurn(Way::Whole), Play::InTurn(Way::Bytes), Play::Crowd];

/// How many server sessions there are, and how many of them may be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    sessions: usize,
    pinned_max: usize,
}

impl Room {
    /// Every other lane has one session, and those between them have two.
    const fn of_lane(lane: usize) -> Self {
        Self {
            sessions: 1 + lane % 2,
            pinned_max: 1,
        }
    }

    async fn record(self, twins: &Twins, case: &Case) -> Result<Vec<Taken>, Step> {
        reset(&twins.direct, case).await;
        let schedule = Schedule::new(case.acts.clone(), self.sessions, self.pinned_max, case.seed);
        record(&twins.direct, &case.whos, Order::Free(Box::new(schedule))).await
    }

    async fn play(self, twins: &Twins, case: &Case, taken: &[Taken], play: Play) -> Result<(), Difference> {
        reset(&twins.pooled, case).await;
        match play {
            Play::InTurn(way) => replay(&twins.pooled, &case.whos, taken, way).await,
            Play::Crowd => crowd(&twins.crowd, &case.whos, taken, self.pinned_max).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_share_sessions_read_what_each_would_read_alone() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("PGWAKE_ORACLE_FIRST").unwrap_or(0);
    let seeds = match number("PGWAKE_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("PGWAKE_ORACLE_SEEDS").unwrap_or(SEEDS),
    };
    let own = |lane| seeds.clone().filter(move |seed| lane_of(*seed) == lane);
    let played = (0..LANES).filter(|lane| own(*lane).next().is_some());
    let starting = played.map(async |lane| {
        let room = Room::of_lane(lane);
        let endpoint = format!("oracle-{lane}");
        let twins = match lane {
            SLEEPING => Twins::sleeping(&endpoint, room.sessions).await,
            SLOW => Twins::slow(&endpoint, room.sessions).await,
            _ => Twins::start(&endpoint, room.sessions).await,
        };
        (room, twins, own(lane).collect::<Vec<u64>>())
    });
    let started = join_all(starting).await;
    let since = Instant::now();
    let acts = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for (room, twins, own) in started {
        let acts = acts.clone();
        lanes.spawn(async move {
            for seed in own {
                acts.fetch_add(try_one(&twins, room, seed).await, Ordering::Relaxed);
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        if let Err(failed) = lane {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
    let cases = seeds.end - seeds.start;
    eprintln!(
        "{} sequences of {} acts in {cases} cases, each played in {} ways, took {:?}",
        cases * (CLIENTS * SEQUENCES) as u64,
        acts.load(Ordering::Relaxed),
        PLAYS.len(),
        since.elapsed()
    );
}

/// Where a seed is played.
fn lane_of(seed: u64) -> usize {
    usize::try_from(seed % LANES as u64).unwrap()
}

/// Plays one case in every way; gives how many acts it has.
async fn try_one(twins: &Twins, room: Room, seed: u64) -> usize {
    let case = Case::new(seed);
    let acts = case.len();
    let _guard = Telling(seed);
    let taken = room.record(twins, &case).await;
    let taken =
        taken.unwrap_or_else(|step| panic!("Postgres itself fails at {step:?} of {case:?}\n{}", twins.log()));
    for play in PLAYS {
        let Err(difference) = room.play(twins, &case, &taken, play).await else {
            continue;
        };
        eprintln!("PGWAKE_ORACLE_SEED={seed}, {play:?}, {room:?}:\n{difference:?}");
        let (least, difference) = shrink::shrink(twins, room, case, difference, play).await;
        panic!(
            "PGWAKE_ORACLE_SEED={seed}, {play:?}, {room:?}:\n{difference:?}\nwhat is left of it: {least:?}"
        );
    }
    acts
}

/// Names the seed also where a case panics.
struct Telling(u64);

impl Drop for Telling {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with PGWAKE_ORACLE_SEED={}", self.0);
        }
    }
}
