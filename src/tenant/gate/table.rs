//! What the gate remembers: a bounded number of entries, each about one network, or a network and names.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Failure, TurnedAway};
use crate::config::{GateRules, Rate};

/// Parts with a lock each.
const SHARDS: usize = 32;
/// Most entries of a part: 131,072 in all, of less than 100 bytes each.
const ENTRIES_MAX: usize = 4096;

/// Entries by the hash of what they are about.
#[derive(Debug)]
pub(super) struct Table(Vec<Mutex<HashMap<u64, Entry>>>);

/// What is remembered of one thing; which of it is used depends on what that is.
#[derive(Debug)]
pub(super) struct Entry {
    /// Connections that have not logged in.
    pub(super) unproved: u32,
    /// Attempts that did not succeed, or have not yet.
    pub(super) attempts: Attempts,
    /// Wrong passwords in a row.
    failures: u32,
    /// How many of them were at a name of which nobody could tell whether it exists.
    undecided: u32,
    /// The last one. For how long nothing is looked at behind it is for the rules that hold then.
    failed_at: Option<Instant>,
    /// From here it has been right before.
    is_trusted: bool,
    used: Instant,
}

/// How much of a rate is used up: the moment at which nothing of it is any more (GCRA's theoretical arrival time).
#[derive(Debug, Default)]
pub(super) struct Attempts(Option<Instant>);

impl Default for Table {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Table {
    /// Does something with the entry that has this key, made where there is none.
    pub(super) fn with<T>(&self, key: u64, now: Instant, use_it: impl FnOnce(&mut Entry) -> T) -> T {
        let shard = &self.0[usize::try_from(key % SHARDS as u64).expect("less than SHARDS")];
        // Nothing that is done under the lock leaves an entry half changed.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= ENTRIES_MAX && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        let entry = match shard.entry(key) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => place.insert(Entry::new(now)),
        };
        entry.used = now;
        use_it(entry)
    }
}

/// What says nothing goes; where everything does, the one that was not used for longest. One that counts connections
/// stays: there are never more of them than connections.
fn make_room(entries: &mut HashMap<u64, Entry>, now: Instant) {
    entries.retain(|_, entry| !entry.says_nothing(now));
    if entries.len() < ENTRIES_MAX {
        return;
    }
    let idle = entries.iter().filter(|(_, entry)| entry.unproved == 0);
    let oldest = idle.min_by_key(|(_, entry)| (entry.is_trusted, entry.used));
    if let Some(key) = oldest.map(|(key, _)| *key) {
        entries.remove(&key);
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            unproved: 0,
            attempts: Attempts::default(),
            failures: 0,
            undecided: 0,
            failed_at: None,
            is_trusted: false,
            used: now,
        }
    }

    fn says_nothing(&self, now: Instant) -> bool {
        self.unproved == 0 && self.failures == 0 && !self.is_trusted && self.attempts.is_unused(now)
    }

    /// Whether passwords are looked at now.
    pub(super) fn check(&self, rules: &GateRules, now: Instant) -> Result<(), TurnedAway> {
        let is_locked_out = !self.is_trusted && self.locked_until(rules).is_some_and(|until| now < until);
        if is_locked_out {
            Err(TurnedAway::LockedOut)
        } else {
            Ok(())
        }
    }

    /// The same before it is known whether the name exists: what it was locked out for may be forgiven then.
    pub(super) fn check_first(&self, rules: &GateRules, now: Instant) -> Result<(), TurnedAway> {
        if self.undecided > 0 {
            Ok(())
        } else {
            self.check(rules, now)
        }
    }

    /// It is known now whether the name exists: what failed while it was not counts no more.
    pub(super) fn decide(&mut self) {
        if self.undecided > 0 {
            self.failures = self.failures.saturating_sub(self.undecided);
            self.undecided = 0;
            self.failed_at = None;
        }
    }

    /// A password was right, if it counts.
    pub(super) fn trust(&mut self, rules: &GateRules, now: Instant) -> Result<(), TurnedAway> {
        self.check(rules, now)?;
        self.is_trusted = true;
        self.failures = 0;
        self.undecided = 0;
        self.failed_at = None;
        Ok(())
    }

    /// A password was wrong, if it counts; `true`: the next one is not looked at for a while.
    pub(super) fn fail(
        &mut self,
        failure: Failure,
        rules: &GateRules,
        now: Instant,
    ) -> Result<bool, TurnedAway> {
        self.check(rules, now)?;
        if self.is_trusted {
            return Ok(false);
        }
        // Nothing was wrong for a long time: a new beginning.
        let forgiven_at = self.locked_until(rules).map(|until| until + rules.lockout_max);
        if forgiven_at.is_some_and(|at| at < now) {
            (self.failures, self.undecided) = (0, 0);
        }
        self.undecided += u32::from(failure == Failure::Undecided);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        Ok(self.beyond(rules) > 0)
    }

    /// How many more have failed than may.
    fn beyond(&self, rules: &GateRules) -> usize {
        let failures = usize::try_from(self.failures).unwrap_or(usize::MAX);
        failures.saturating_sub(rules.failures_max)
    }

    /// Until when nothing is looked at, if anything has failed.
    fn locked_until(&self, rules: &GateRules) -> Option<Instant> {
        let delay = match self.beyond(rules) {
            0 => Duration::ZERO,
            beyond => {
                let doubled = u32::try_from(beyond - 1).unwrap_or(u32::MAX);
                let factor = 1_u32.checked_shl(doubled).unwrap_or(u32::MAX);
                rules.lockout_min.saturating_mul(factor).min(rules.lockout_max)
            }
        };
        self.failed_at.map(|failed| failed + delay)
    }
}

impl Attempts {
    /// Takes one of what the rate allows; `false`: there is none. At most a whole period's worth comes at once.
    pub(super) fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let all_used = now + rate.per;
        // More than all of it is used by no rate but an earlier one.
        let before = self.0.map_or(now, |until| until.clamp(now, all_used));
        let used_until = before + rate.per / rate.count;
        let is_taken = used_until <= all_used;
        self.0 = Some(if is_taken { used_until } else { before });
        is_taken
    }

    /// One that was taken counts no more.
    pub(super) fn give_back(&mut self, rate: &Rate) {
        self.0 = self.0.and_then(|until| until.checked_sub(rate.per / rate.count));
    }

    fn is_unused(&self, now: Instant) -> bool {
        self.0.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::rules, *};

    #[tokio::test(start_paused = true)]
    async fn a_full_table_forgets_what_says_nothing_first_and_what_was_right_last() {
        let table = Table::default();
        let now = Instant::now();
        let rate = Rate {
            count: 10,
            per: Duration::from_secs(60),
        };
        let in_one_shard = |n: usize| (n * SHARDS) as u64;
        table
            .with(in_one_shard(0), now, |entry| entry.trust(&rules(), now))
            .unwrap();
        table.with(in_one_shard(1), now, |entry| entry.unproved = 1);
        table.with(in_one_shard(2), now, |entry| {
            assert!(entry.attempts.take(&rate, now))
        });
        for n in 3..ENTRIES_MAX {
            table.with(in_one_shard(n), now, |_| ());
        }
        let count = || table.0[0].lock().unwrap().len();
        assert_eq!(count(), ENTRIES_MAX);
        table.with(in_one_shard(ENTRIES_MAX), now, |_| ());
        assert_eq!(count(), 4);
        for n in 3..ENTRIES_MAX + 50 {
            let later = now + Duration::from_millis(n as u64);
            table.with(in_one_shard(n), later, |entry| {
                assert!(entry.attempts.take(&rate, later))
            });
        }
        assert_eq!(count(), ENTRIES_MAX);
        let shard = table.0[0].lock().unwrap();
        assert!(shard[&in_one_shard(0)].is_trusted);
        assert_eq!(shard[&in_one_shard(1)].unproved, 1);
        assert!(!shard.contains_key(&in_one_shard(2)));
    }

    /// Who had used up what might be tried in an hour was turned away for an hour where as much might be tried in a second.
    #[test]
    fn attempts_under_an_old_rate_hold_nobody_up_for_longer_than_the_new_one() {
        let now = Instant::now();
        let [slow, quick] = [3600, 1].map(|seconds| Rate {
            count: 2,
            per: Duration::from_secs(seconds),
        });
        let mut attempts = Attempts::default();
        assert!(attempts.take(&slow, now) && attempts.take(&slow, now));
        assert!(!attempts.take(&slow, now));
        assert!(!attempts.take(&quick, now), "all of it is used");
        let later = now + Duration::from_secs(1);
        assert!(attempts.take(&quick, later));
    }
}
