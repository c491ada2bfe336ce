//! When to suspend: which leases are out on an awake compute, whose they are, and since when nothing happened on it.
//!
//! Plain data for `state`, which acts on it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::IgnoredBy;

/// Whether it matters to a compute's sleep what somebody does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// He wakes it, and keeps it awake.
    Counts,
    /// He does neither.
    Ignored(IgnoredBy),
}

impl Weight {
    /// Whether it does.
    pub fn counts(self) -> bool {
        self == Self::Counts
    }
}

/// Whether a leaseholder works or rests between statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holding {
    /// A statement or transaction is open: keeps the compute awake.
    Active,
    /// Nothing is open: keeps it awake unless idle sessions are ended.
    Resting,
}

/// When an awake compute may be suspended.
#[derive(Clone, Copy, Debug)]
pub(super) enum IdleRule {
    /// It stays awake.
    Never,
    /// So long after the last activity, and only while nobody rests.
    KeptByResting(Duration),
    /// So long after the last activity; those who rest are ended then.
    EndsResting(Duration),
}

impl IdleRule {
    /// The same without waiting.
    fn at_once(self) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::KeptByResting(_) => Self::KeptByResting(Duration::ZERO),
            Self::EndsResting(_) => Self::EndsResting(Duration::ZERO),
        }
    }

    /// How long without activity; `None`: it stays awake.
    pub(super) fn suspend_after(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::KeptByResting(after) | Self::EndsResting(after) => Some(after),
        }
    }
}

/// How many hold a lease, and how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    pub(super) active: usize,
    pub(super) resting: usize,
}

impl Tally {
    fn count(self) -> usize {
        self.active + self.resting
    }
}

/// The leases of one generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leases {
    /// Of those who count.
    pub(super) counted: Tally,
    /// Of those who do not.
    pub(super) ignored: Tally,
    /// Of those who were held, whoever they are: how many have not logged in yet.
    pub(super) arriving: usize,
    /// When it began to take logins.
    since: Instant,
    /// Of those who count.
    last_activity: Instant,
}

impl Leases {
    /// None yet.
    pub(super) fn none(now: Instant) -> Self {
        Self {
            counted: Tally::default(),
            ignored: Tally::default(),
            arriving: 0,
            since: now,
            last_activity: now,
        }
    }

    fn tally(&mut self, weight: Weight) -> &mut Tally {
        match weight {
            Weight::Counts => &mut self.counted,
            Weight::Ignored(_) => &mut self.ignored,
        }
    }

    fn note_activity(&mut self, weight: Weight, now: Instant) {
        if weight.counts() {
            self.last_activity = now;
        }
    }

    /// One more was granted. The clock starts when it rests or comes back: until then it does not run.
    pub(super) fn grant(&mut self, weight: Weight) {
        self.tally(weight).active += 1;
    }

    /// One who was held may log in.
    pub(super) fn grant_arriving(&mut self, weight: Weight) {
        self.grant(weight);
        self.arriving += 1;
    }

    /// One of those has logged in, or will not.
    pub(super) fn arrived(&mut self) {
        self.arriving -= 1;
    }

    /// One ended its statement.
    pub(super) fn rest(&mut self, weight: Weight, now: Instant) {
        let tally = self.tally(weight);
        tally.active -= 1;
        tally.resting += 1;
        self.note_activity(weight, now);
    }

    /// One began a statement.
    pub(super) fn resume(&mut self, weight: Weight, now: Instant) {
        let tally = self.tally(weight);
        tally.resting -= 1;
        tally.active += 1;
        self.note_activity(weight, now);
    }

    /// One was given back.
    pub(super) fn give_back(&mut self, (weight, holding): (Weight, Holding), rule: IdleRule, now: Instant) {
        let tally = self.tally(weight);
        match holding {
            Holding::Active => tally.active -= 1,
            Holding::Resting => tally.resting -= 1,
        }
        // Who kept it awake until now starts the clock by leaving; who would have been ended does not.
        if holding == Holding::Active || matches!(rule, IdleRule::KeptByResting(_)) {
            self.note_activity(weight, now);
        }
    }

    /// One who worked gives his back, if another one who counts works on: then the clock does not run, and needs no time.
    pub(super) fn give_back_beside_others(&mut self, weight: Weight) -> bool {
        let others = self.counted.active > usize::from(weight.counts());
        if others {
            self.tally(weight).active -= 1;
        }
        others
    }

    /// How many are out, of whomever.
    pub(super) fn count(&self) -> usize {
        self.counted.count() + self.ignored.count()
    }

    /// Whether somebody is to be told of a suspend, and waited for. Of those who count nobody works by then.
    pub(super) fn has_some_to_end(&self) -> bool {
        self.counted.resting > 0 || self.ignored.count() > 0
    }

    /// When these leases alone would let it be suspended; it stays awake for `awake_min` in any case.
    pub(super) fn suspend_at(&self, rule: IdleRule, awake_min: Duration) -> Option<Instant> {
        let after = match rule {
            IdleRule::KeptByResting(after) if self.counted.resting == 0 => after,
            IdleRule::EndsResting(after) => after,
            IdleRule::Never | IdleRule::KeptByResting(_) => return None,
        };
        if self.counted.active > 0 {
            return None;
        }
        let idle = self.last_activity.checked_add(after)?;
        Some(idle.max(self.since.checked_add(awake_min)?))
    }

    /// Since when nobody has needed it; `None`: somebody does, or it is to stay awake.
    pub(super) fn unneeded_since(
        &self,
        rule: IdleRule,
        awake_min: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let may_go = self.suspend_at(rule.at_once(), awake_min)?;
        (may_go <= now).then_some(self.last_activity)
    }
}
