//! `drain`: the proxy is told to stop while transactions run; how many are lost, and how long it takes.
//!
//! Lost is a transaction that had done something and was not let finish, and a request that got no answer with an
//! SQLSTATE. A client that is told before its transaction has done anything is refused, and nothing of it is lost.

use std::{
    cell::Cell,
    fs,
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};

use super::{Measurement, millis, parked};
use crate::{
    connection::{Connection, Door},
    failure::Failure,
    progress::Progress,
    target::Target,
    value,
    workload::query,
};

/// How long clients work before the signal.
const WORK: Duration = Duration::from_millis(500);
/// Longest that a stop is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops the target's process by this signal under the load of so many clients.
///
/// # Errors
/// The target has no `pid`, or is still there a minute later.
pub(crate) async fn run(
    target: &Target,
    clients: usize,
    signal: Signal,
    progress: &Progress,
) -> Result<Measurement, String> {
    let case = format!("{clients} clients");
    progress.step(&format!("drain: {case}: {}", target.name));
    LocalSet::new()
        .run_until(drain(target, clients, signal, &case))
        .await
}

/// How a client's work ended.
#[derive(Debug, Clone)]
enum End {
    /// Told before its transaction had done anything.
    Refused,
    /// In the middle.
    Lost(Failure),
}

async fn drain(target: &Target, clients: usize, signal: Signal, case: &str) -> Result<Measurement, String> {
    let number = target.pid.and_then(|pid| i32::try_from(pid).ok());
    let pid = number
        .and_then(Pid::from_raw)
        .ok_or_else(|| format!("{}: drain needs a `pid`", target.name))?;
    let mut measurement = Measurement::new("drain", case, &target.name);
    let (open, opening) = parked::open(&Door::new(target)?, clients).await;
    measurement.count(&opening);
    measurement.answered = 0;
    let done = Rc::new(Cell::new(0_u64));
    let mut working = JoinSet::new();
    for connection in open {
        working.spawn_local(work(connection, done.clone()));
    }
    sleep(WORK).await;
    let began = Instant::now();
    kill_process(pid, signal).map_err(|error| format!("{}: {error}", target.name))?;
    let ends = timeout(PATIENCE, working.join_all()).await.map_err(|_| {
        format!(
            "{}: clients are still served a minute after the signal",
            target.name
        )
    })?;
    while is_running(pid) {
        if began.elapsed() > PATIENCE {
            return Err(format!(
                "{}: still running a minute after the signal",
                target.name
            ));
        }
        sleep(Duration::from_millis(2)).await;
    }
    measurement.sample(value::TOOK, millis(began.elapsed()));
    measurement.answered = done.get();
    let mut lost = 0.0;
    let mut refused = 0.0;
    for end in ends {
        match end {
            End::Refused => refused += 1.0,
            End::Lost(failure) => {
                lost += 1.0;
                *measurement.errors.entry(failure.code()).or_default() += 1;
                measurement
                    .words
                    .entry(failure.code())
                    .or_insert_with(|| failure.to_string());
            }
        }
    }
    measurement.sample(value::LOST, lost);
    measurement.sample(value::REFUSED, refused);
    Ok(measurement)
}

/// Transactions of a few milliseconds until one fails.
async fn work(mut connection: Connection, done: Rc<Cell<u64>>) -> End {
    loop {
        match connection.exchange(&query("BEGIN")).await {
            Ok(_) => {}
            Err(Failure::Refused { .. }) => return End::Refused,
            // Closed before anything was begun: the request reached nobody.
            Err(failure) => return End::Lost(failure),
        }
        match connection.exchange(&query("SELECT pg_sleep(0.003)")).await {
            Ok(_) => {}
            // Nothing had been done yet.
            Err(Failure::Refused { .. }) => return End::Refused,
            Err(failure) => return End::Lost(failure),
        }
        if let Err(failure) = connection.exchange(&query("COMMIT")).await {
            return End::Lost(failure);
        }
        done.set(done.get() + 1);
    }
}

/// A child that has ended and was not waited for is no longer running.
fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
}
