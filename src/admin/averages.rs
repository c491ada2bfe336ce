//! What endpoints did on average in the last period, for STATS and STATS_AVERAGES of the console.
//!
//! Looked at once a period, on operators' own thread: clients pay nothing for it. As PgBouncer has them
//! (<https://www.pgbouncer.org/usage.html>, SHOW STATS): counts and bytes are per second, times are per transaction.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::View;
use crate::ids::EndpointName;
use crate::session::roster::Deeds;

/// PgBouncer's `stats_period`, where nobody sets another.
const PERIOD: Duration = Duration::from_secs(60);

/// One endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Average {
    /// Per second.
    pub(super) turns: u64,
    /// Per second.
    pub(super) bytes_in: u64,
    /// Per second.
    pub(super) bytes_out: u64,
    /// Microseconds per turn.
    pub(super) active: u64,
    /// Microseconds per turn.
    pub(super) waiting: u64,
}

impl Average {
    fn between(before: Deeds, after: Deeds, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(f64::EPSILON);
        // What an endpoint of this name did that is gone may have been more.
        let per_second = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds) as u64;
        let turns = after.turns.saturating_sub(before.turns);
        let per_turn = |before: Duration, after: Duration| {
            let spent = after.saturating_sub(before).as_micros();
            let of_each = spent.checked_div(u128::from(turns)).unwrap_or(0);
            u64::try_from(of_each).unwrap_or(u64::MAX)
        };
        Self {
            turns: per_second(before.turns, after.turns),
            bytes_in: per_second(before.bytes_in, after.bytes_in),
            bytes_out: per_second(before.bytes_out, after.bytes_out),
            active: per_turn(before.active, after.active),
            waiting: per_turn(before.waiting, after.waiting),
        }
    }
}

type ByEndpoint<T> = HashMap<EndpointName, T>;

struct Period {
    began: Instant,
    /// What had been done when it began.
    before: ByEndpoint<Deeds>,
    /// Of the one before this; `None`: there was none yet.
    last: Option<ByEndpoint<Average>>,
}

/// Those of all endpoints.
pub struct Averages(Mutex<Period>);

impl Default for Averages {
    fn default() -> Self {
        Self(Mutex::new(Period {
            began: Instant::now(),
            before: HashMap::new(),
            last: None,
        }))
    }
}

impl Averages {
    fn period(&self) -> MutexGuard<'_, Period> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_period(&self, done: ByEndpoint<Deeds>, now: Instant) {
        let mut period = self.period();
        period.last = Some(period.averages(&done, now));
        (period.began, period.before) = (now, done);
    }

    /// Of the last period; until the first one is over, of what there was of it.
    pub(super) fn of(&self, done: &ByEndpoint<Deeds>) -> ByEndpoint<Average> {
        let period = self.period();
        let last = period.last.clone();
        last.unwrap_or_else(|| period.averages(done, Instant::now()))
    }
}

impl Period {
    fn averages(&self, done: &ByEndpoint<Deeds>, now: Instant) -> ByEndpoint<Average> {
        let took = now.saturating_duration_since(self.began);
        let average = |(name, after): (&EndpointName, &Deeds)| {
            let before = self.before.get(name).copied().unwrap_or_default();
            (name.clone(), Average::between(before, *after, took))
        };
        done.iter().map(average).collect()
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
        view.averages
            .end_period(view.house.roster.deeds_by_endpoint(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(turns: u64, bytes: u64, active: Duration) -> ByEndpoint<Deeds> {
        let deeds = Deeds {
            bytes_in: bytes,
            bytes_out: 2 * bytes,
            turns,
            active,
            waiting: active / 10,
        };
        HashMap::from([(EndpointName::parse("shop").unwrap(), deeds)])
    }

    fn shop(averages: &Averages, done: &ByEndpoint<Deeds>) -> Average {
        averages.of(done)[&EndpointName::parse("shop").unwrap()]
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_period_counts_and_before_it_what_there_was_of_the_first() {
        let averages = Averages::default();
        tokio::time::advance(Duration::from_secs(10)).await;
        let first = deeds(50, 1000, Duration::from_millis(500));
        let expected = Average {
            turns: 5,
            bytes_in: 100,
            bytes_out: 200,
            active: 10_000,
            waiting: 1_000,
        };
        assert_eq!(shop(&averages, &first), expected);

        averages.end_period(first, Instant::now());
        tokio::time::advance(PERIOD).await;
        let second = deeds(170, 7000, Duration::from_millis(740));
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
        averages.end_period(deeds(100, 100, PERIOD), Instant::now());
        tokio::time::advance(PERIOD).await;
        averages.end_period(deeds(1, 1, Duration::ZERO), Instant::now());
        assert_eq!(shop(&averages, &HashMap::new()), Average::default());
    }
}
