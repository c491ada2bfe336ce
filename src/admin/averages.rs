//! What endpoints did on average in the last period, for STATS and STATS_AVERAGES of the console.
//!
//! Looked at once a period, on operators' own thread: clients pay nothing for it. As PgBouncer has them
//! (<https://www.pgbouncer.org/usage.html>, SHOW STATS): counts and bytes are per second, times are per
//! transaction or query.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::View;
use crate::ids::EndpointName;
use crate::session::roster::{Deeds, Done};

/// PgBouncer's `stats_period`, where nobody sets another.
const PERIOD: Duration = Duration::from_secs(60);

/// One endpoint's, or those of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Average {
    /// Per second.
    pub(super) turns: u64,
    /// Per second.
    pub(super) queries: u64,
    /// Per second.
    pub(super) bytes_in: u64,
    /// Per second.
    pub(super) bytes_out: u64,
    /// Microseconds per turn.
    pub(super) active: u64,
    /// Microseconds per query.
    pub(super) of_query: u64,
    /// Microseconds per turn.
    pub(super) waiting: u64,
}

impl Average {
    fn between(before: Deeds, after: Deeds, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(f64::EPSILON);
        // What an endpoint of this name did that is gone may have been more.
        let per_second = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds) as u64;
        let each = |spent: Duration, count: u64| {
            let of_each = spent.as_micros().checked_div(u128::from(count)).unwrap_or(0);
            u64::try_from(of_each).unwrap_or(u64::MAX)
        };
        let turns = after.turns.saturating_sub(before.turns);
        let queries = after.passed.queries.saturating_sub(before.passed.queries);
        let active = after.active.saturating_sub(before.active);
        Self {
            turns: per_second(before.turns, after.turns),
            queries: per_second(before.passed.queries, after.passed.queries),
            bytes_in: per_second(before.passed.bytes_in, after.passed.bytes_in),
            bytes_out: per_second(before.passed.bytes_out, after.passed.bytes_out),
            active: each(active, turns),
            of_query: each(active, queries),
            waiting: each(after.waiting.saturating_sub(before.waiting), turns),
        }
    }
}

type ByEndpoint<T> = HashMap<EndpointName, T>;

/// All that is averaged.
#[derive(Debug, Clone)]
pub(super) struct Averaged {
    pub(super) by_endpoint: ByEndpoint<Average>,
    /// Of all together.
    pub(super) all: Average,
}

struct Period {
    began: Instant,
    /// What had been done when it began.
    before: Done,
    /// Of the one before this; `None`: there was none yet.
    last: Option<Averaged>,
}

/// Those of all endpoints.
pub struct Averages(Mutex<Period>);

impl Default for Averages {
    fn default() -> Self {
        Self(Mutex::new(Period {
            began: Instant::now(),
            before: Done::default(),
            last: None,
        }))
    }
}

impl Averages {
    fn period(&self) -> MutexGuard<'_, Period> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_period(&self, done: Done, now: Instant) {
        let mut period = self.period();
        period.last = Some(period.averages(&done, now));
        (period.began, period.before) = (now, done);
    }

    /// Of the last period; until the first one is over, of what there was of it.
    pub(super) fn of(&self, done: &Done) -> Averaged {
        let period = self.period();
        let last = period.last.clone();
        last.unwrap_or_else(|| period.averages(done, Instant::now()))
    }
}

impl Period {
    fn averages(&self, done: &Done, now: Instant) -> Averaged {
        let took = now.saturating_duration_since(self.began);
        let average = |(name, after): (&EndpointName, &Deeds)| {
            let before = self.before.by_endpoint.get(name).copied();
            let average = Average::between(before.unwrap_or_default(), *after, took);
            (name.clone(), average)
        };
        Averaged {
            by_endpoint: done.by_endpoint.iter().map(average).collect(),
            all: Average::between(self.before.all, done.all, took),
        }
    }
}

impl fmt::Debug for Averages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Averages")
    }
}

/// Looks once a period, for ever. Cancel safe.
pub(super) async fn follow(view: &View) {
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        view.averages.end_period(view.house.roster.done(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::roster::Passed;

    fn done(turns: u64, bytes: u64, active: Duration) -> Done {
        let deeds = Deeds {
            passed: Passed {
                bytes_in: bytes,
                bytes_out: 2 * bytes,
                queries: 2 * turns,
            },
            turns,
            active,
            waiting: active / 10,
        };
        Done {
            by_endpoint: HashMap::from([(EndpointName::parse("shop").unwrap(), deeds)]),
            all: deeds,
        }
    }

    fn shop(averages: &Averages, done: &Done) -> Average {
        let averaged = averages.of(done);
        let shop = averaged.by_endpoint.get(&EndpointName::parse("shop").unwrap());
        let shop = shop.copied().unwrap_or_default();
        assert_eq!(averaged.all, shop, "there is no other");
        shop
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_period_counts_and_before_it_what_there_was_of_the_first() {
        let averages = Averages::default();
        tokio::time::advance(Duration::from_secs(10)).await;
        let first = done(50, 1000, Duration::from_millis(500));
        let expected = Average {
            turns: 5,
            queries: 10,
            bytes_in: 100,
            bytes_out: 200,
            active: 10_000,
            of_query: 5_000,
            waiting: 1_000,
        };
        assert_eq!(shop(&averages, &first), expected);

        averages.end_period(first, Instant::now());
        tokio::time::advance(PERIOD).await;
        let second = done(170, 7000, Duration::from_millis(740));
        assert_eq!(shop(&averages, &second), expected, "this one is not over");
        averages.end_period(second.clone(), Instant::now());
        let Average {
            turns,
            bytes_in,
            active,
            ..
        } = shop(&averages, &second);
        assert_eq!((turns, bytes_in, active), (2, 100, 2_000));

        tokio::time::advance(PERIOD).await;
        averages.end_period(second.clone(), Instant::now());
        assert_eq!(shop(&averages, &second), Average::default(), "nothing was done");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_came_again_has_done_less_and_breaks_nothing() {
        let averages = Averages::default();
        averages.end_period(done(100, 100, PERIOD), Instant::now());
        tokio::time::advance(PERIOD).await;
        let again = done(1, 1, Duration::ZERO);
        averages.end_period(again.clone(), Instant::now());
        assert_eq!(shop(&averages, &again), Average::default());
    }
}
