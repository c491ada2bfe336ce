//! `parked`: pooled clients stay connected while their compute is suspended and wakes again.

use std::time::{Duration, Instant};

use tokio::{
    task::{JoinSet, LocalSet},
    time::timeout,
};

use super::{asleep, sleeper_of};
use crate::{
    connection::{Connection, Door},
    failure::Failure,
    process::Memory,
    progress::Progress,
    results::Measurement,
    tally::Tally,
    target::Target,
    value,
    workload::query,
};

/// How many log in at once.
const AT_ONCE: usize = 32;
/// Longest that a first answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `clients` parked through `cycles` of sleep; each asks once per cycle, all at the same moment.
///
/// # Errors
/// The compute does not fall asleep underneath them.
pub(crate) async fn run(
    target: &Target,
    clients: usize,
    cycles: usize,
    progress: &Progress,
) -> Result<Measurement, String> {
    let local = LocalSet::new();
    local.run_until(cycle(target, clients, cycles, progress)).await
}

async fn cycle(
    target: &Target,
    clients: usize,
    cycles: usize,
    progress: &Progress,
) -> Result<Measurement, String> {
    let sleeper = sleeper_of(target)?;
    let case = format!("{clients} clients");
    let mut measurement = Measurement::new("parked", &case, &target.name);
    let mut sum = Tally::new();
    progress.step(&format!("parked: {case} connect"));
    let memory = || target.pid.and_then(Memory::of).map(|memory| memory.resident);
    let before = memory();
    let door = Door::new(target)?;
    let (mut parked, opening) = open(&door, clients).await;
    measurement.count(&opening);
    measurement.answered = 0;
    for cycle in 0..cycles {
        progress.step(&format!("parked: {case}: sleep {} of {cycles}", cycle + 1));
        asleep(sleeper).await?;
        if let Some((before, now)) = before.zip(memory()) {
            measurement.sample(value::MEMORY, (now - before) / clients as f64);
        }
        let starts = sleeper.starts();
        let tally;
        (parked, tally) = ask_all(parked).await;
        measurement.sample(value::STARTS, (sleeper.starts() - starts) as f64);
        measurement.add_latency(&tally);
        measurement.count(&tally);
        sum.add(&tally);
    }
    for connection in parked {
        connection.close().await;
    }
    measurement.keep_curve(&sum);
    Ok(measurement)
}

/// Logs clients in, a few at a time; each has asked once.
pub(super) async fn open(door: &Door, clients: usize) -> (Vec<Connection>, Tally) {
    let mut tally = Tally::new();
    let mut open = Vec::with_capacity(clients);
    let mut coming = JoinSet::new();
    for index in 0..clients {
        if index >= AT_ONCE
            && let Some(came) = coming.join_next().await
        {
            settle(came.expect("a client does not panic"), &mut open, &mut tally);
        }
        let door = door.clone();
        coming.spawn_local(async move {
            let began = Instant::now();
            let (mut connection, _) = Connection::open(&door).await?;
            connection.exchange(&query("SELECT 1")).await?;
            Ok((connection, began.elapsed()))
        });
    }
    for came in coming.join_all().await {
        settle(came, &mut open, &mut tally);
    }
    (open, tally)
}

type Came = Result<(Connection, Duration), Failure>;

fn settle(came: Came, open: &mut Vec<Connection>, tally: &mut Tally) {
    match came {
        Ok((connection, took)) => {
            open.push(connection);
            tally.answered(took);
        }
        Err(failure) => tally.failed(&failure),
    }
}

async fn ask_all(parked: Vec<Connection>) -> (Vec<Connection>, Tally) {
    let mut asking = JoinSet::new();
    for mut connection in parked {
        asking.spawn_local(async move {
            let began = Instant::now();
            let asked = timeout(PATIENCE, connection.exchange(&query("SELECT 1"))).await;
            asked.unwrap_or(Err(Failure::Late))?;
            Ok((connection, began.elapsed()))
        });
    }
    let mut tally = Tally::new();
    let mut open = Vec::new();
    for came in asking.join_all().await {
        settle(came, &mut open, &mut tally);
    }
    (open, tally)
}
