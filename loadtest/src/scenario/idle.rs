//! `idle`: what a connected client that does nothing costs in memory.
//!
//! Resident memory with and without them; a process that had more clients before gives too small a figure, since
//! allocators keep what they had. `bench` starts fresh processes for it.

use std::time::Duration;

use tokio::{task::LocalSet, time::sleep};

use super::parked;
use crate::{
    connection::Door, process::Memory, progress::Progress, results::Measurement, target::Target, value,
};

/// Clients that come and go first, so that what exists once is there.
const FIRST: usize = 50;
/// Until buffers of the last answers are given back.
const SETTLE: Duration = Duration::from_millis(500);

/// Memory per client at each of these numbers of clients, from the smallest up.
///
/// # Errors
/// The target's certificates cannot be read, or it has no `pid`.
pub(crate) async fn run(
    target: &Target,
    counts: &[usize],
    progress: &Progress,
) -> Result<Vec<Measurement>, String> {
    LocalSet::new().run_until(fill(target, counts, progress)).await
}

async fn fill(target: &Target, counts: &[usize], progress: &Progress) -> Result<Vec<Measurement>, String> {
    let pid = target
        .pid
        .ok_or_else(|| format!("{}: idle needs a `pid`", target.name))?;
    let gone = || format!("{}: no process {pid}", target.name);
    let door = Door::new(target)?;
    for connection in parked::open(&door, FIRST).await.0 {
        connection.close().await;
    }
    sleep(SETTLE).await;
    let before = Memory::of(pid).ok_or_else(gone)?.resident;
    let mut open = Vec::new();
    let mut measurements = Vec::new();
    for count in counts {
        let case = format!("{}, {count} clients", target.security());
        progress.step(&format!("idle: {case}: {}", target.name));
        let mut measurement = Measurement::new("idle", &case, &target.name);
        let (more, tally) = parked::open(&door, count.saturating_sub(open.len())).await;
        open.extend(more);
        sleep(SETTLE).await;
        let now = Memory::of(pid).ok_or_else(gone)?.resident;
        measurement.count(&tally);
        if !open.is_empty() {
            measurement.sample(value::MEMORY, (now - before) / open.len() as f64);
            measurement.sample(value::BEFORE, before);
        }
        measurements.push(measurement);
    }
    for connection in open {
        connection.close().await;
    }
    Ok(measurements)
}
