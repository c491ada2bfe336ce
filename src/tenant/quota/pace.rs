//! How fast something goes that can only be counted once it has happened: bytes that were read, transactions that ended.
//!
//! GCRA with debts: what has happened is charged however much it was, and nothing more may begin before that is made up
//! for. (`governor`, which counts logins and wakes, takes nothing that is beyond a limit.) A whole period's worth may
//! come at once. One atomic number, no lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long one who was refused is kept from asking again, at least: in a loop it would cost more than what it is
/// refused.
const ASKS_AGAIN_MIN: Duration = Duration::from_millis(20);
/// And at most: what comes next may be something else.
const ASKS_AGAIN_MAX: Duration = Duration::from_millis(200);

/// One speed limit. Times are nanoseconds since a beginning that all share.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// So many in a period; 0: no limit.
    count: AtomicU64,
    period: AtomicU64,
    /// When nothing of the limit will be used up any more.
    used_until: AtomicU64,
    /// When the last of those who were refused may ask again.
    refused_until: AtomicU64,
}

/// A limit, and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaceUsed {
    /// So many.
    pub(super) max: u64,
    /// In this time.
    pub(super) per: Duration,
    /// Of which so many are used up now; more than there may be where debts were made.
    pub(super) used: u64,
}

impl Pace {
    /// From now on. As much as was charged stays charged, which under another limit is another time; where there was none,
    /// nothing was.
    pub(super) fn set(&self, count: u64, period: Duration, now: u64) {
        let period = nanoseconds(period);
        let before = [&self.count, &self.period].map(|part| part.load(Ordering::Relaxed));
        if before == [count, period] {
            return;
        }
        let [(old_count, old_period), (new_count, new_period)] = [(before[0], before[1]), (count, period)]
            .map(|(count, period)| (u128::from(count), u128::from(period)));
        let as_much = |until: u64| {
            let used = u128::from(until.saturating_sub(now)).saturating_mul(old_count) / old_period.max(1);
            let time = used.saturating_mul(new_period) / new_count.max(1);
            Some(now.saturating_add(u64::try_from(time).unwrap_or(u64::MAX)))
        };
        // First: what is charged meanwhile is not made more by this. The closure never refuses.
        let _ = self
            .used_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, as_much);
        self.period.store(period, Ordering::Relaxed);
        self.count.store(count, Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub(super) fn is_on(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Takes one; otherwise how long until there is one.
    pub(super) fn take(&self, now: u64) -> Result<(), Duration> {
        if !self.is_on() {
            return Ok(());
        }
        let (cost, period) = (self.cost(1), self.period.load(Ordering::Relaxed));
        let latest = now.saturating_add(period);
        let one_more = |until: u64| {
            let until = until.max(now).saturating_add(cost);
            (until <= latest).then_some(until)
        };
        self.used_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(drop)
            .map_err(|until| Duration::from_nanos(until.saturating_add(cost).saturating_sub(latest)))
    }

    /// One that was taken was not used.
    pub(super) fn give_back(&self) {
        let cost = self.cost(1);
        let less = |until: u64| Some(until.saturating_sub(cost));
        // The closure never refuses.
        let _ = self
            .used_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// One was refused: how long until it may ask again. One after the other may, no faster than the limit allows: so
    /// many clients in a loop cost about what one does, and never come all at once.
    pub(super) fn asks_again(&self, now: u64) -> Duration {
        if !self.is_on() {
            return Duration::ZERO;
        }
        let cost = self.cost(1);
        let (earliest, latest) = (
            now.saturating_add(nanoseconds(ASKS_AGAIN_MIN)),
            now.saturating_add(nanoseconds(ASKS_AGAIN_MAX)),
        );
        let next = |last: u64| last.saturating_add(cost).clamp(earliest, latest);
        let last = self
            .refused_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        // The closure never refuses.
        let (Ok(last) | Err(last)) = last;
        Duration::from_nanos(next(last) - now)
    }

    /// So many have happened.
    pub(super) fn charge(&self, count: u64, now: u64) {
        if !self.is_on() {
            return;
        }
        let cost = self.cost(count);
        let more = |until: u64| Some(until.max(now).saturating_add(cost));
        // The closure never refuses.
        let _ = self
            .used_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How long until more may happen; zero: now.
    pub(super) fn delay(&self, now: u64) -> Duration {
        if !self.is_on() {
            return Duration::ZERO;
        }
        let latest = now.saturating_add(self.period.load(Ordering::Relaxed));
        Duration::from_nanos(self.used_until.load(Ordering::Relaxed).saturating_sub(latest))
    }

    /// How it stands, where there is a limit.
    pub(super) fn used(&self, now: u64) -> Option<PaceUsed> {
        let (max, period) = (
            self.count.load(Ordering::Relaxed),
            self.period.load(Ordering::Relaxed),
        );
        let until = self.used_until.load(Ordering::Relaxed).saturating_sub(now);
        let used = (u128::from(until) * u128::from(max)).div_ceil(u128::from(period.max(1)));
        (max != 0).then(|| PaceUsed {
            max,
            per: Duration::from_nanos(period),
            used: u64::try_from(used).unwrap_or(u64::MAX),
        })
    }

    /// Whether nothing of the limit is used up.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        !self.is_on() || self.used_until.load(Ordering::Relaxed) <= now
    }

    fn cost(&self, count: u64) -> u64 {
        let per = u128::from(self.count.load(Ordering::Relaxed).max(1));
        let period = u128::from(self.period.load(Ordering::Relaxed));
        u64::try_from((u128::from(count) * period).div_ceil(per)).unwrap_or(u64::MAX)
    }
}

/// 584 years of them fit.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
