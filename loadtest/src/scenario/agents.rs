//! `agents`: a stream of endpoints that nobody has used yet, one short session each, at an open pace.

use std::time::{Duration, Instant};

use tokio::{
    task::{JoinSet, LocalSet},
    time::timeout,
};

use super::{asleep, sleeper_of};
use crate::{
    connection::{Connection, Door},
    crew::pacer,
    failure::Failure,
    progress::Progress,
    results::Measurement,
    tally::Tally,
    target::Target,
    value,
    workload::query,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// One session for each endpoint, `per_second` of them arriving on average, whatever the answers do.
///
/// # Errors
/// An endpoint is awake although nobody has used it.
pub(crate) async fn run(
    endpoints: &[Target],
    name: &str,
    per_second: f64,
    progress: &Progress,
) -> Result<Measurement, String> {
    let case = format!("{} endpoints, {per_second:.0}/s", endpoints.len());
    progress.step(&format!("agents: {case}"));
    let mut starts_before = 0;
    for endpoint in endpoints {
        let sleeper = sleeper_of(endpoint)?;
        asleep(sleeper).await?;
        starts_before += sleeper.starts();
    }
    let doors = endpoints.iter().map(Door::new).collect::<Result<Vec<_>, _>>()?;
    let tally = LocalSet::new().run_until(stream(doors, per_second)).await;
    let sleepers = endpoints.iter().filter_map(|endpoint| endpoint.sleeper.as_ref());
    let starts: usize = sleepers.map(super::Sleeper::starts).sum();
    let mut measurement = Measurement::new("agents", &case, name);
    measurement.sample(value::STARTS, (starts - starts_before) as f64);
    measurement.add_latency(&tally);
    measurement.count(&tally);
    measurement.keep_curve(&tally);
    Ok(measurement)
}

async fn stream(doors: Vec<Door>, per_second: f64) -> Tally {
    let mut coming = JoinSet::new();
    let mut doors = doors.into_iter();
    // As long as it takes for all doors to be used with certainty; what arrives after the last door is nobody.
    let end = Instant::now() + Duration::from_secs_f64(4.0 * doors.len() as f64 / per_second + 1.0);
    pacer::run(end, per_second, |intended| {
        if let Some(door) = doors.next() {
            coming.spawn_local(async move {
                let result = timeout(PATIENCE, session(&door)).await;
                result.unwrap_or(Err(Failure::Late)).map(|()| intended.elapsed())
            });
        }
    })
    .await;
    let mut tally = Tally::new();
    for result in coming.join_all().await {
        tally.count(result);
    }
    tally
}

/// What an agent does with a database: makes a table, writes, reads, leaves.
async fn session(door: &Door) -> Result<(), Failure> {
    let (mut connection, _) = Connection::open(door).await?;
    for text in [
        "CREATE TABLE IF NOT EXISTS notes (id int PRIMARY KEY, note text)",
        "INSERT INTO notes VALUES (1, 'seen') ON CONFLICT (id) DO NOTHING",
        "SELECT note FROM notes WHERE id = 1",
    ] {
        connection.exchange(&query(text)).await?;
    }
    connection.close().await;
    Ok(())
}
