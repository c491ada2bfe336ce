//! The differential oracle: what clients do at random, done on Postgres itself and through pgwake, must read the same
//! byte for byte. Eight clients share one or two server sessions, and one takes them from the other between any two
//! turns.
//!
//! `PGWAKE_ORACLE_SEED=17` replays one seed, `PGWAKE_ORACLE_SEEDS=1000` runs more of them, `PGWAKE_ORACLE_FIRST=500`
//! begins elsewhere. A failure prints its seed and what is left of the case after everything was dropped that it
//! does not need.

mod case;
mod pen;
mod proof;
mod shrink;
mod twins;

use std::env;

use tokio::time::Instant;

use super::{
    act::Step,
    line::Way,
    play::{Difference, Order, Schedule, Taken, crowd, record, replay},
};
use case::{CLIENTS, Case, SEQUENCES};
use twins::Twins;

/// Cases of each of the two tests where nobody asks for more.
const SEEDS: u64 = 1;

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
#[derive(Clone, Copy, Debug)]
struct Room {
    sessions: usize,
    pinned_max: usize,
}

impl Room {
    async fn record(self, twins: &Twins, case: &Case) -> Result<Vec<Taken>, Step> {
        twins.direct.reset(case).await;
        let schedule = Schedule::new(case.acts.clone(), self.sessions, self.pinned_max, case.seed);
        record(&twins.direct.side, &case.whos, Order::Free(Box::new(schedule))).await
    }

    async fn play(self, twins: &Twins, case: &Case, taken: &[Taken], play: Play) -> Result<(), Difference> {
        twins.pooled.reset(case).await;
        match play {
            Play::InTurn(way) => replay(&twins.pooled.side, &case.whos, taken, way).await,
            Play::Crowd => crowd(&twins.crowd, &case.whos, taken, self.pinned_max).await,
        }
    }
}

#[tokio::test]
async fn clients_that_share_one_session_read_what_each_would_read_alone() {
    run(
        "oracle-one",
        Room {
            sessions: 1,
            pinned_max: 1,
        },
        0,
    )
    .await;
}

#[tokio::test]
async fn clients_that_share_two_sessions_read_what_each_would_read_alone() {
    run(
        "oracle-two",
        Room {
            sessions: 2,
            pinned_max: 1,
        },
        1_000_000,
    )
    .await;
}

async fn run(endpoint: &str, room: Room, base: u64) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = base + number("PGWAKE_ORACLE_FIRST").unwrap_or(0);
    let seeds = match number("PGWAKE_ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("PGWAKE_ORACLE_SEEDS").unwrap_or(SEEDS),
    };
    let twins = Twins::start(endpoint, room.sessions).await;
    let since = Instant::now();
    let (mut acts, cases) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let case = Case::new(seed);
        acts += case.len();
        let _guard = Telling(seed);
        let taken = room.record(&twins, &case).await;
        let taken = taken
            .unwrap_or_else(|step| panic!("Postgres itself fails at {step:?} of {case:?}\n{}", twins.log()));
        for play in plays() {
            let Err(difference) = room.play(&twins, &case, &taken, play).await else {
                continue;
            };
            eprintln!("{difference:?}");
            let (least, difference) = shrink::shrink(&twins, room, case, difference, play).await;
            panic!(
                "PGWAKE_ORACLE_SEED={seed}, {play:?}, {room:?}:\n{difference:?}\nwhat is left of it: {least:?}"
            );
        }
    }
    eprintln!(
        "{endpoint}: {} sequences of {acts} acts in {cases} cases, each played in {} ways, took {:?}",
        cases * (CLIENTS * SEQUENCES) as u64,
        plays().count(),
        since.elapsed()
    );
}

/// All at once, in one write, is for those who look for more: what pgwake believes of names and settings in the middle
/// of such a pipeline is not always what Postgres makes of them.
fn plays() -> impl Iterator<Item = Play> {
    let is_crowded = env::var_os("PGWAKE_ORACLE_CROWD").is_some();
    let is_played = move |play: &Play| *play != Play::Crowd || is_crowded;
    PLAYS.into_iter().filter(is_played)
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
