//! Arrivals at random moments (a Poisson process), told when they are due.
//!
//! By a thread that sleeps to the nanosecond, because the runtime's own timer rounds up to milliseconds, and that
//! would stand in every latency.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::workload::Random;

/// Always the same arrivals, so that all targets get the same.
const SEED: u64 = 20_261_127;

/// Calls `arrive` with each moment at which a request is meant to begin, until `end`.
pub(crate) async fn run(end: Instant, per_second: f64, mut arrive: impl FnMut(Instant)) {
    let (due, mut arrivals) = mpsc::unbounded_channel();
    // It ends with its moments, or with who waits for them.
    thread::spawn(move || {
        let mut random = Random::seeded(SEED);
        let mut next = Instant::now();
        loop {
            let share = (random.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
            next += Duration::from_secs_f64(-share.ln() / per_second);
            if next >= end {
                return;
            }
            sleep_until(next);
            if due.send(next).is_err() {
                return;
            }
        }
    });
    while let Some(moment) = arrivals.recv().await {
        arrive(moment);
    }
}

fn sleep_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
