//! How an endpoint's server sessions are lent. Each key of `pool` is inherited by itself: an endpoint that says
//! only `pool.size` keeps its tenant's `pool.mode`.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{
    Pool, built_in,
    file::PoolTable,
    read::{At, Setting},
    value::Count,
};

use super::{MOMENT, YEAR, endpoint::Written, within};

/// Nobody asks later than this which number an INSERT drew.
const SEQUENCE_GRACE_MAX: Duration = Duration::from_secs(3600);

impl Written<'_> {
    /// What holds for this endpoint.
    pub(super) fn check_pool(&mut self) -> Pool {
        let default = Pool::default();
        let waits = || MOMENT..=YEAR;
        let size = self.count("size", |t| &t.size, default.size);
        let pinned_max = self.count("pinned_max", |t| &t.pinned_max, built_in::pinned_max(size));
        let mode = self.inherit_pool("mode", |t| &t.mode);
        let bytes_max = self.inherit_pool("statement_bytes_max", |t| &t.statement_bytes_max);
        let wake_on = self.inherit_pool("wake_on", |t| &t.wake_on);
        let grace = Duration::ZERO..=SEQUENCE_GRACE_MAX;
        Pool {
            mode: mode.map_or(default.mode, |at| at.value),
            size,
            wait_timeout: self.wait("wait_timeout", |t| &t.wait_timeout, waits(), default.wait_timeout),
            connects_at_once: self.count(
                "connects_at_once",
                |t| &t.connects_at_once,
                default.connects_at_once,
            ),
            lifetime: self.wait("lifetime", |t| &t.lifetime, waits(), default.lifetime),
            idle_time: self.wait("idle_time", |t| &t.idle_time, waits(), default.idle_time),
            // One that is inherited may be more than a small endpoint has: that is no mistake.
            pinned_max: pinned_max.min(size),
            startup_variants_max: self.count(
                "startup_variants_max",
                |t| &t.startup_variants_max,
                default.startup_variants_max,
            ),
            sequence_grace: self.wait(
                "sequence_grace",
                |t| &t.sequence_grace,
                grace,
                default.sequence_grace,
            ),
            statements_max: self.count("statements_max", |t| &t.statements_max, default.statements_max),
            statement_bytes_max: bytes_max.map_or(default.statement_bytes_max, |at| at.value.0),
            wake_on: wake_on.map_or(default.wake_on, |at| at.value),
        }
    }

    fn inherit_pool<T: Clone>(&mut self, key: &str, pick: fn(&PoolTable) -> &Setting<T>) -> Option<At<T>> {
        self.inherit(&format!("pool.{key}"), |inherited| inherited.pool.key(pick))
    }

    fn count<const LEAST: usize, const MOST: usize>(
        &mut self,
        key: &str,
        pick: fn(&PoolTable) -> &Setting<Count<LEAST, MOST>>,
        default: usize,
    ) -> usize {
        self.inherit_pool(key, pick).map_or(default, |at| at.value.0)
    }

    fn wait(
        &mut self,
        key: &str,
        pick: fn(&PoolTable) -> &Setting<Duration>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        match self.inherit_pool(key, pick) {
            Some(at) => within(&at, &range, self.report),
            None => default,
        }
    }
}
