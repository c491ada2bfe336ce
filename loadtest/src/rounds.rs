//! Rounds of windows over several targets, alternated: A B C, B C A, C A B.
//!
//! On a machine that others use too, a figure of one minute cannot be set against one of another; ratios of
//! neighbouring windows can. CPU time and answers are read at the same moments.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::{
    crew::{Crew, Pace, Window},
    process::CpuTime,
    tally::Tally,
};

/// How long, how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// Before each window, not counted.
    pub(crate) warm: Duration,
    pub(crate) window: Duration,
    pub(crate) rounds: usize,
}

/// One window of one target.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) tally: Tally,
    /// Between the two readings.
    pub(crate) elapsed: Duration,
    /// Answers between the two readings.
    pub(crate) answers: u64,
    /// CPU time of the proxy between the two readings.
    pub(crate) cpu: Option<Duration>,
}

/// The order of `count` targets in a round: each comes first equally often.
pub(crate) fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index + round) % count)
}

/// One window of one target.
pub(crate) async fn window(crew: &Crew, pid: Option<u32>, pace: Pace, rhythm: Rhythm) -> Round {
    let start = Instant::now() + rhythm.warm;
    let end = start + rhythm.window;
    let working = crew.run(Window { start, end, pace });
    sleep_until(start.into()).await;
    let before = Reading::now(crew, pid);
    sleep_until(end.into()).await;
    let after = Reading::now(crew, pid);
    Round {
        tally: working.await,
        elapsed: after.at - before.at,
        answers: after.done - before.done,
        cpu: after
            .cpu
            .zip(before.cpu)
            .map(|(after, before)| after.since(&before)),
    }
}

struct Reading {
    at: Instant,
    done: u64,
    cpu: Option<CpuTime>,
}

impl Reading {
    fn now(crew: &Crew, pid: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            done: crew.done(),
            cpu: pid.and_then(CpuTime::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_comes_first_equally_often_and_none_is_left_out() {
        let mut firsts = [0; 3];
        for round in 0..6 {
            let mut order: Vec<usize> = order(round, 3).collect();
            firsts[order[0]] += 1;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
        assert_eq!(firsts, [2, 2, 2]);
    }
}
