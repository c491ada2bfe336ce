//! The numbers of an endpoint's pool, as plain data.
//!
//! Counted where things happen, read by whoever shows them; nothing here decides anything.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use foldhash::HashMap;

use super::{PoolKey, register::Register, state::State};

/// Why a server session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// Its borrower was dropped, or gave it up in the middle of something.
    Dropped,
    /// Its borrower said so.
    Asked,
    /// Another session needed its slot, or the limit was lowered.
    Evicted,
    /// It was idle for `idle_time`.
    Idle,
    /// It was open for its lifetime.
    Lifetime,
    /// The server had closed it, or had sent what nobody understands, while it was idle.
    Gone,
    /// The compute was waked again since.
    OtherGeneration,
    /// Roles, grants or databases changed.
    Retired,
    /// The compute is to be suspended, or pgwake ends.
    Suspended,
    /// Its database is to be dropped or renamed.
    Database,
    /// Too many different startup settings.
    Variants,
}

impl CloseReason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Asked => "asked",
            Self::Evicted => "evicted",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Gone => "gone",
            Self::OtherGeneration => "other generation",
            Self::Retired => "retired",
            Self::Suspended => "suspended",
            Self::Database => "database",
            Self::Variants => "variants",
        }
    }

    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 11] = [
        Self::Dropped,
        Self::Asked,
        Self::Evicted,
        Self::Idle,
        Self::Lifetime,
        Self::Gone,
        Self::OtherGeneration,
        Self::Retired,
        Self::Suspended,
        Self::Database,
        Self::Variants,
    ];
}

/// How one endpoint's pool stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolFigures {
    /// As the rules say.
    pub size: usize,
    /// How many sessions may exist now; less than `size` for a while after the server had no room.
    pub ceiling: usize,
    /// Nothing is lent, because an operator says so.
    pub is_paused: bool,
    /// Sessions that are on their way out: their socket is still open.
    pub closing: usize,
    /// Clients that wait for the right to use a session.
    pub waiting: usize,
    /// Clients that have it, and wait until there may be one more session.
    pub waiting_for_slot: usize,
    /// Different startup settings among the sessions.
    pub startup_variants: usize,
    /// Every key that has a session.
    pub keys: Vec<KeyFigures>,
    /// Since pgwake started.
    pub counts: Counts,
    /// Clients that had to wait, since pgwake started.
    pub waits: WaitFigures,
}

/// The sessions of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFigures {
    /// Which.
    pub key: PoolKey,
    /// In use.
    pub lent: usize,
    /// Waiting for their last client.
    pub kept: usize,
    /// Waiting for anybody.
    pub resting: usize,
}

/// How often things happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sessions that were opened and came in.
    pub adopted: u64,
    /// Sessions lent again to the client that they were kept for.
    pub kept_taken: u64,
    /// Resting sessions lent.
    pub resting_taken: u64,
    /// Kept sessions lent to another client.
    pub stolen: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Counts {
    /// How many sessions were closed for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    pub(super) fn count_closed(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }
}

/// How long clients waited for the right to use a session; those who got it at once are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitFigures {
    /// How many got it after a wait.
    pub count: u64,
    /// The longest.
    pub max: Duration,
    /// All together.
    pub total: Duration,
}

impl WaitFigures {
    /// The average.
    pub fn mean(&self) -> Duration {
        let nanoseconds = self.total.as_nanos() / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Counts waits as they happen.
#[derive(Debug, Default)]
pub(super) struct Waits {
    now: AtomicUsize,
    count: AtomicU64,
    max_microseconds: AtomicU64,
    total_microseconds: AtomicU64,
}

/// One who waits.
pub(super) struct WaitingNow<'a>(&'a Waits);

impl Waits {
    /// Counts one who waits while the answer lives.
    pub(super) fn begin(&self) -> WaitingNow<'_> {
        self.now.fetch_add(1, Ordering::Relaxed);
        WaitingNow(self)
    }

    /// Counts a wait that had success.
    pub(super) fn succeeded(&self, waited: Duration) {
        let microseconds = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        // Seldom: a look is cheaper.
        if microseconds > self.max_microseconds.load(Ordering::Relaxed) {
            self.max_microseconds.fetch_max(microseconds, Ordering::Relaxed);
        }
        self.total_microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn figures(&self) -> WaitFigures {
        WaitFigures {
            count: self.count.load(Ordering::Relaxed),
            max: Duration::from_micros(self.max_microseconds.load(Ordering::Relaxed)),
            total: Duration::from_micros(self.total_microseconds.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for WaitingNow<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<C: Send + 'static> State<C> {
    /// How everything stands.
    pub(super) fn figures(&self) -> PoolFigures {
        let mut kept: HashMap<&PoolKey, usize> = HashMap::default();
        for (_, (_, pooled)) in self.kept.iter() {
            *kept.entry(pooled.session().key()).or_default() += 1;
        }
        let of_register = |(key, register): (&PoolKey, &Register<C>)| {
            let (kept, resting) = (kept.get(key).copied().unwrap_or(0), register.resting().len());
            KeyFigures {
                key: key.clone(),
                lent: register.total() - kept - resting,
                kept,
                resting,
            }
        };
        PoolFigures {
            size: self.rules.size,
            ceiling: self.ceiling,
            closing: self.closings.len(),
            waiting_for_slot: self.slot_waiting,
            startup_variants: self.variants.len(),
            keys: self.registers.iter().map(of_register).collect(),
            counts: self.counts.clone(),
            ..PoolFigures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_in_its_own_place() {
        let mut counts = Counts::default();
        for (times, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, times);
            counts.count_closed(reason);
            assert_eq!(counts.closed(reason), 1);
        }
    }
}
