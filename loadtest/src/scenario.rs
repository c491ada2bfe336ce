//! The scenarios: what is asked of targets, and what is taken down.
//!
//! Each is a file of its own. Here is what they share: windows of several targets in turn, waits for sleep.

pub(crate) mod agents;
pub(crate) mod bulk;
pub(crate) mod drain;
pub(crate) mod idle;
pub(crate) mod neighbour;
pub(crate) mod parked;
mod proxy_log;
pub(crate) mod storm;
pub(crate) mod wake;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    connection::Door,
    crew::{Crew, Pace, Plan, Work},
    failure::Failure,
    progress::Progress,
    results::Measurement,
    rounds::{self, Rhythm},
    tally::Tally,
    target::{Sleeper, Target},
    value,
    workload::Workload,
};

/// How long a compute may take to fall asleep before the run is given up.
const SLEEP_PATIENCE: Duration = Duration::from_secs(60);
/// From the end of the server's process until the proxy has noticed.
const SETTLE: Duration = Duration::from_millis(60);

/// One case of windows: the same for all targets.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) scenario: &'static str,
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) pace: Pace,
}

impl Case {
    /// Clients that stay connected and ask.
    pub(crate) fn query(workload: Workload, security: &str, clients: usize, threads: usize) -> Self {
        Self {
            scenario: "query",
            name: format!("{}, {security}, {clients} clients", workload.name()),
            plan: Plan {
                work: Work::Query(workload),
                clients,
                threads,
            },
            pace: Pace::Closed,
        }
    }

    /// Clients that connect, ask once and leave.
    pub(crate) fn connect(workload: Workload, security: &str, pace: Pace, plan: (usize, usize)) -> Self {
        let (clients, threads) = plan;
        let how = match pace {
            Pace::Closed => format!("{clients} at a time"),
            Pace::Open(per_second) => format!("{per_second:.0}/s"),
        };
        Self {
            scenario: "connect",
            name: format!("{security}, {how}"),
            plan: Plan {
                work: Work::Connect(workload),
                clients,
                threads,
            },
            pace,
        }
    }

    /// The same requests at an open pace.
    pub(crate) fn at_rate(mut self, per_second: f64) -> Self {
        self.name = format!("{}, {per_second:.0}/s", self.name);
        self.pace = Pace::Open(per_second);
        self
    }
}

/// Windows of all targets in turn.
///
/// # Errors
/// A target's certificates cannot be read. A target that refuses is no error here: its measurement says so.
pub(crate) async fn alternate(
    case: &Case,
    targets: &[Target],
    rhythm: Rhythm,
    progress: &Progress,
) -> Result<Vec<Measurement>, String> {
    let mut crews = Vec::new();
    let mut measurements = Vec::new();
    for target in targets {
        progress.step(&format!(
            "{}: {}: {} connects",
            case.scenario, case.name, target.name
        ));
        let (crew, opening) = Crew::open(&Door::new(target)?, case.plan).await;
        let mut measurement = Measurement::new(case.scenario, &case.name, &target.name);
        measurement.errors.clone_from(&opening.errors);
        measurement.words.clone_from(&opening.words);
        crews.push(crew);
        measurements.push(measurement);
    }
    let mut sums: Vec<Tally> = targets.iter().map(|_| Tally::new()).collect();
    for round in 0..rhythm.rounds {
        for index in rounds::order(round, targets.len()) {
            let round = rounds::window(&crews[index], targets[index].pid, case.pace, rhythm).await;
            measurements[index].add_round(&round);
            sums[index].add(&round.tally);
        }
    }
    for (measurement, sum) in measurements.iter_mut().zip(&sums) {
        measurement.keep_curve(sum);
    }
    Ok(measurements)
}

/// Waits until a compute sleeps.
///
/// # Errors
/// It does not.
pub(crate) async fn asleep(sleeper: &Sleeper) -> Result<(), String> {
    let deadline = Instant::now() + SLEEP_PATIENCE;
    while !sleeper.sleeps() {
        if Instant::now() > deadline {
            return Err(format!("{} does not fall asleep", sleeper.endpoint));
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(SETTLE).await;
    Ok(())
}

/// Where a target's compute shows that it sleeps.
///
/// # Errors
/// The target does not say.
pub(crate) fn sleeper_of(target: &Target) -> Result<&Sleeper, String> {
    let sleeper = target.sleeper.as_ref();
    sleeper.ok_or_else(|| format!("{}: this scenario needs a `sleeper`", target.name))
}

/// Milliseconds, with their fraction.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Counts one result in a measurement's own tally and keeps the value of a success in milliseconds.
pub(crate) fn take_down(measurement: &mut Measurement, tally: &mut Tally, result: Result<Duration, Failure>) {
    if let Ok(took) = &result {
        measurement.sample(value::TOOK, millis(*took));
    }
    tally.count(result);
}
