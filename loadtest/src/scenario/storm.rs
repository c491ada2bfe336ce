//! `storm`: many clients at once on sleeping computes; how many starts they cause, and how long each waits.

use std::time::{Duration, Instant, SystemTime};

use tokio::{
    task::{JoinSet, LocalSet},
    time::timeout,
};

use super::{
    asleep, millis,
    proxy_log::{ProxyLog, millis_after},
    sleeper_of,
};
use crate::{
    connection::{Connection, Door},
    failure::Failure,
    progress::Progress,
    results::{Measurement, Storm},
    tally::Tally,
    target::Target,
    value,
    workload::query,
};

/// Longest that a client of a storm waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// `clients` at once, spread over the endpoints (one target each), `rounds` times.
///
/// # Errors
/// An endpoint does not fall asleep.
pub(crate) async fn run(
    endpoints: &[Target],
    name: &str,
    clients: usize,
    rounds: usize,
    progress: &Progress,
) -> Result<Measurement, String> {
    let case = match endpoints.len() {
        1 => format!("{clients} clients"),
        count => format!("{clients} clients on {count} endpoints"),
    };
    let mut measurement = Measurement::new("storm", &case, name);
    let mut sum = Tally::new();
    for round in 0..rounds {
        progress.step(&format!("storm: {case}: {} of {rounds}", round + 1));
        let mut starts_before = 0;
        for endpoint in endpoints {
            let sleeper = sleeper_of(endpoint)?;
            asleep(sleeper).await?;
            starts_before += sleeper.starts();
        }
        let first = sleeper_of(&endpoints[0])?;
        let mut log = first.proxy_log.as_deref().map(ProxyLog::from_now);
        let wall = SystemTime::now();
        let (tally, mut storm) = one(endpoints, clients).await?;
        let starts: usize = endpoints
            .iter()
            .filter_map(|endpoint| endpoint.sleeper.as_ref())
            .map(super::Sleeper::starts)
            .sum();
        measurement.sample(value::STARTS, (starts - starts_before) as f64);
        measurement.add_latency(&tally);
        measurement.count(&tally);
        sum.add(&tally);
        if let Some(log) = &mut log {
            for message in ["woken", "ready"] {
                if let Some(line) = log.line(message, &first.endpoint).await {
                    let after = millis_after(&line, wall);
                    storm.marks.extend(after.map(|after| (message.to_owned(), after)));
                }
            }
        }
        measurement.storm = Some(storm);
    }
    measurement.keep_curve(&sum);
    Ok(measurement)
}

async fn one(endpoints: &[Target], clients: usize) -> Result<(Tally, Storm), String> {
    let doors = endpoints.iter().map(Door::new).collect::<Result<Vec<_>, _>>()?;
    let local = LocalSet::new();
    let (tally, storm) = local
        .run_until(async {
            let began = Instant::now();
            let mut coming = JoinSet::new();
            for index in 0..clients {
                let door = doors[index % doors.len()].clone();
                coming.spawn_local(async move {
                    let came = began.elapsed();
                    let result = timeout(PATIENCE, ask_once(&door)).await;
                    let result = result.unwrap_or(Err(Failure::Late));
                    (came, result.map(|()| began.elapsed()))
                });
            }
            let mut tally = Tally::new();
            let mut storm = Storm::default();
            while let Some(ended) = coming.join_next().await {
                let (came, result) = ended.expect("a client does not panic");
                if let Ok(answered) = &result {
                    storm.clients.push((millis(came), millis(*answered)));
                }
                tally.count(result);
            }
            (tally, storm)
        })
        .await;
    Ok((tally, storm))
}

/// Connects, asks, is answered, leaves.
async fn ask_once(door: &Door) -> Result<(), Failure> {
    let (mut connection, _) = Connection::open(door).await?;
    connection.exchange(&query("SELECT 1")).await?;
    // Not waited for: its latency ends with the answer, and leaving is one write.
    connection.close().await;
    Ok(())
}
