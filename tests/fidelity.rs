//! The measure of fidelity: the drivers' own tests and Postgres' own regression and isolation tests, at Postgres itself
//! and through pgwake. What ends otherwise through pgwake is a difference; what fails at both is none.
//!
//! None of these tests is ours, and none is in this repository: `.ci/setup fidelity` fetches and builds them. Nothing
//! here judges an outcome by itself. A test that differs is run again at both places: what ends differently at one place
//! from time to time is unsteady, and no difference.

mod django;
mod go;
mod pytest;
mod regress;
mod strangers;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    Line, say,
    suites::place::{Place, Stage},
    wanted,
};

/// What became of each test, in the words of who ran it; of a regression test that is not ok, in what it differs from
/// what Postgres expects.
type Outcomes = BTreeMap<String, String>;

/// One collection of tests.
#[derive(Clone, Copy)]
enum Suite {
    Regress(&'static regress::Suite),
    Pytest(&'static pytest::Suite),
    Go(&'static go::Suite),
    Django(&'static django::Suite),
}

/// All of them, in the order of the table.
fn suites() -> Vec<Suite> {
    let regress = regress::SUITES.iter().map(Suite::Regress);
    let pytest = pytest::SUITES.iter().map(Suite::Pytest);
    let go = go::SUITES.iter().map(Suite::Go);
    let django = django::SUITES.iter().map(Suite::Django);
    regress.chain(pytest).chain(go).chain(django).collect()
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Regress(suite) => suite.name,
            Self::Pytest(suite) => suite.name,
            Self::Go(suite) => suite.name,
            Self::Django(suite) => suite.name,
        }
    }

    /// Why it would find out nothing there.
    fn cannot_run_at(self, place: Place) -> Option<&'static str> {
        match (self, place) {
            (Self::Regress(suite), Place::Transaction(_)) if suite.asks_for_pids => Some(
                "it asks Postgres about the process numbers that its clients were told, which are pgwake's own there",
            ),
            _ => None,
        }
    }

    /// Runs it on a stage of its own. Through transaction pooling strangers take the sessions between any two turns.
    async fn run(self, place: Place) -> Outcomes {
        let settings: &[(&str, &str)] = match self {
            // As pg_regress' own servers are.
            Self::Regress(_) => &[("max_prepared_transactions", "2")],
            Self::Pytest(_) | Self::Go(_) | Self::Django(_) => &[
                ("max_prepared_transactions", "10"),
                ("wal_level", "logical"),
                ("max_wal_senders", "4"),
            ],
        };
        let stage = Stage::with(place, settings).await;
        let strangers = strangers::come(place, &stage).await;
        let outcomes = match self {
            Self::Regress(suite) => suite.run(&stage).await,
            Self::Pytest(suite) => suite.run(&stage).await,
            Self::Go(suite) => suite.run(&stage).await,
            Self::Django(suite) => suite.run(&stage).await,
        };
        strangers.leave().await;
        outcomes
    }
}

/// Runs the suites of these names, all where none is named, at these places.
pub(crate) async fn run(places: &[Place], names: &[String]) -> Vec<Line> {
    let mut lines = Vec::new();
    for suite in suites().into_iter().filter(|suite| wanted(suite.name(), names)) {
        let began = Instant::now();
        say(&format!("== {} at {}", suite.name(), Place::Direct));
        let mut truth = vec![suite.run(Place::Direct).await];
        lines.push(Line {
            suite: suite.name().to_owned(),
            place: Place::Direct,
            did: did(&truth[0]),
            differences: 0,
            took: began.elapsed(),
        });
        for place in places.iter().filter(|place| **place != Place::Direct) {
            if let Some(reason) = suite.cannot_run_at(*place) {
                say(&format!("{} cannot run at {place}: {reason}", suite.name()));
                continue;
            }
            lines.push(compared(suite, *place, &mut truth).await);
        }
    }
    lines
}

/// A place's line, beside what was found at Postgres itself.
async fn compared(suite: Suite, place: Place, truth: &mut Vec<Outcomes>) -> Line {
    say(&format!("== {} at {place}", suite.name()));
    let began = Instant::now();
    let found = suite.run(place).await;
    let took = began.elapsed();
    let mut differing = differences(truth, &found);
    let suspects = differing.len();
    if suspects > 0 {
        say(&format!("{suspects} tests differ; again, at both places"));
        truth.push(suite.run(Place::Direct).await);
        let again = differences(truth, &suite.run(place).await);
        differing.retain(|test| again.contains(test) && !agrees(truth, &found, test));
    }
    for test in &differing {
        report(test, &truth[0], &found);
    }
    let unsteady = suspects - differing.len();
    Line {
        suite: suite.name().to_owned(),
        place,
        did: format!("{}, {unsteady} unsteady", did(&found)),
        differences: differing.len(),
        took,
    }
}

/// How many tests there were, and how many of them did not do well.
fn did(outcomes: &Outcomes) -> String {
    let well = |outcome: &&String| matches!(outcome.as_str(), "ok" | "passed" | "skipped");
    let failed = outcomes.len() - outcomes.values().filter(well).count();
    format!("{} tests, {failed} fail", outcomes.len())
}

/// The tests that ended as never at Postgres itself, or that one of the two does not know.
fn differences(truth: &[Outcomes], found: &Outcomes) -> Vec<String> {
    let known = truth[0].keys().chain(found.keys());
    let mut differing: Vec<String> = known
        .filter(|test| !agrees(truth, found, test))
        .cloned()
        .collect();
    differing.sort();
    differing.dedup();
    differing
}

fn agrees(truth: &[Outcomes], found: &Outcomes, test: &str) -> bool {
    truth.iter().any(|outcomes| outcomes.get(test) == found.get(test))
}

/// Says where the two outcomes of a test part.
fn report(test: &str, truth: &Outcomes, found: &Outcomes) {
    let none = "not run".to_owned();
    let (truth, found) = (truth.get(test).unwrap_or(&none), found.get(test).unwrap_or(&none));
    say(&format!("DIFFERS {test}"));
    let first = truth
        .lines()
        .zip(found.lines())
        .position(|(one, other)| one != other);
    let from = first.unwrap_or(0);
    for (place, text) in [("direct", truth), ("here", found)] {
        for line in text.lines().skip(from).take(40) {
            say(&format!("    {place}: {line}"));
        }
    }
}

/// The folder of `.ci/setup fidelity`.
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/fidelity");
    assert!(tools.exists(), "no {}: run `make test-fidelity`", tools.display());
    tools
}
