//! `bulk`: large selects and COPY both ways; throughput, and what a gigabyte costs the proxy.

use std::time::{Duration, Instant};

use super::Measurement;
use crate::{
    connection::{Connection, Door},
    failure::Failure,
    process::CpuTime,
    progress::Progress,
    rounds,
    tally::Tally,
    target::Target,
    value,
    wire::put,
    workload::query,
};

/// Bytes of a row's text.
const ROW_BYTES: usize = 1000;
/// Rows in one write of COPY data.
const ROWS_AT_ONCE: usize = 64;
/// What answers are read with.
const READ_BYTES: usize = 256 * 1024;
const GB: f64 = 1e9;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Select,
    CopyOut,
    CopyIn,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::CopyOut => "copy out",
            Self::CopyIn => "copy in",
        }
    }
}

/// `megabytes` in each round, through each target in turn.
///
/// # Errors
/// A target's certificates cannot be read.
pub(crate) async fn run(
    targets: &[Target],
    way: Way,
    megabytes: usize,
    count: usize,
    progress: &Progress,
) -> Result<Vec<Measurement>, String> {
    let security = targets.first().map_or("", Target::security);
    let case = format!("{}, {security}", way.name());
    let mut measurements: Vec<Measurement> = targets
        .iter()
        .map(|target| Measurement::new("bulk", &case, &target.name))
        .collect();
    let rows = megabytes * 1_000_000 / ROW_BYTES;
    for round in 0..count {
        progress.step(&format!("bulk: {case}: {} of {count}", round + 1));
        for index in rounds::order(round, targets.len()) {
            let door = Door::new(&targets[index])?;
            let mut tally = Tally::new();
            let moved = move_rows(&door, way, rows).await;
            if let Ok((bytes, took, cpu)) = &moved {
                let bytes = *bytes as f64;
                measurements[index].sample(value::SPEED, bytes / 1e6 / took.as_secs_f64());
                if let Some(cpu) = cpu {
                    measurements[index].sample(value::CPU_PER_GB, cpu.as_secs_f64() * GB / bytes);
                }
            }
            tally.count(moved.map(|(_, took, _)| took));
            measurements[index].count(&tally);
        }
    }
    Ok(measurements)
}

type Moved = (u64, Duration, Option<Duration>);

async fn move_rows(door: &Door, way: Way, rows: usize) -> Result<Moved, Failure> {
    let (mut connection, _) = Connection::open(door).await?;
    connection.widen(READ_BYTES);
    // The first statement makes what a session makes once.
    connection.exchange(&query("SELECT 1")).await?;
    let cpu = || door.target.pid.and_then(CpuTime::of);
    let (before, began) = (cpu(), Instant::now());
    let select = format!("SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {rows})");
    let bytes = match way {
        Way::Select => connection.exchange(&query(&select)).await?.bytes,
        Way::CopyOut => {
            connection
                .exchange(&query(&format!("COPY ({select}) TO STDOUT")))
                .await?
                .bytes
        }
        Way::CopyIn => copy_in(&mut connection, rows).await?,
    };
    let took = began.elapsed();
    let cpu = cpu().zip(before).map(|(after, before)| after.since(&before));
    if way == Way::CopyIn {
        connection.exchange(&query("TRUNCATE bulk_sink")).await?;
    }
    connection.close().await;
    let expected = (rows * ROW_BYTES) as u64;
    match bytes >= expected {
        true => Ok((bytes, took, cpu)),
        false => Err(Failure::Unexpected(format!("{bytes} of {expected} bytes"))),
    }
}

async fn copy_in(connection: &mut Connection, rows: usize) -> Result<u64, Failure> {
    connection.exchange(&query("COPY bulk_sink FROM STDIN")).await?;
    let mut line = vec![b'x'; ROW_BYTES];
    line.push(b'\n');
    let mut chunk = Vec::with_capacity(ROWS_AT_ONCE * (ROW_BYTES + 8));
    for _ in 0..ROWS_AT_ONCE {
        put(&mut chunk, b'd', |out| out.extend(&line));
    }
    let row_bytes = chunk.len() / ROWS_AT_ONCE;
    let mut left = rows;
    while left > 0 {
        let now = left.min(ROWS_AT_ONCE);
        connection.write(&chunk[..now * row_bytes]).await?;
        left -= now;
    }
    let mut end = Vec::new();
    put(&mut end, b'c', |_| {});
    connection.exchange(&end).await?;
    Ok((rows * line.len()) as u64)
}
