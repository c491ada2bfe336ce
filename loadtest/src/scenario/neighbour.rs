//! `neighbour`: a tenant with few requests, alone and beside another that asks as much as it can.
//!
//! Alone and beside are alternated windows; the quiet tenant's requests come at an open pace, so that each moment of
//! waiting counts.

use super::Measurement;
use crate::{
    connection::Door,
    crew::{Crew, Pace, Plan, Work},
    progress::Progress,
    rounds::{Rhythm, window},
    tally::Tally,
    target::Target,
    value,
    workload::{Protocol, Statement, Workload},
};

const WORKLOAD: Workload = Workload {
    statement: Statement::Account,
    protocol: Protocol::Simple,
};

/// How quiet, how loud.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loudness {
    pub(crate) quiet_per_second: f64,
    pub(crate) loud_clients: usize,
}

/// The quiet tenant's p99 beside the loud one.
///
/// # Errors
/// The targets' certificates cannot be read.
pub(crate) async fn run(
    quiet: &Target,
    loud: &Target,
    loudness: Loudness,
    rhythm: Rhythm,
    progress: &Progress,
) -> Result<Measurement, String> {
    let case = format!("{} loud clients", loudness.loud_clients);
    progress.step(&format!("neighbour: {case}: {}", quiet.name));
    let crew = async |target: &Target, clients| {
        let plan = Plan {
            work: Work::Query(WORKLOAD),
            clients,
            threads: 1,
        };
        Ok::<_, String>(Crew::open(&Door::new(target)?, plan).await)
    };
    let (quiet_crew, opening) = crew(quiet, 8).await?;
    let (loud_crew, loud_opening) = crew(loud, loudness.loud_clients).await?;
    let mut measurement = Measurement::new("neighbour", &case, &quiet.name);
    for tally in [&opening, &loud_opening] {
        measurement.errors.extend(tally.errors.clone());
        measurement.words.extend(tally.words.clone());
    }
    let pace = Pace::Open(loudness.quiet_per_second);
    let mut beside_all = Tally::new();
    for _ in 0..rhythm.rounds {
        let alone = window(&quiet_crew, quiet.pid, pace, rhythm).await;
        let (beside, noise) = tokio::join!(
            window(&quiet_crew, quiet.pid, pace, rhythm),
            window(&loud_crew, loud.pid, Pace::Closed, rhythm),
        );
        measurement.count(&alone.tally);
        measurement.count(&beside.tally);
        // The loud one may be refused: that is its quota at work.
        measurement.sample(value::REFUSED, noise.tally.errors_count() as f64);
        measurement.sample(value::RATE, noise.answers as f64 / noise.elapsed.as_secs_f64());
        measurement.add_latency(&beside.tally);
        if let (Some(alone), Some(beside)) = (alone.tally.quantile_us(0.99), beside.tally.quantile_us(0.99)) {
            measurement.sample(value::P99_ALONE, alone);
            measurement.sample(value::P99_RATIO, beside / alone);
        }
        beside_all.add(&beside.tally);
    }
    measurement.keep_curve(&beside_all);
    Ok(measurement)
}
