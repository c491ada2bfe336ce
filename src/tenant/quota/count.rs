//! How many there are of something, and how many there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One number that never goes beyond its limit, but by [`Count::add`].
#[derive(Debug)]
pub(super) struct Count {
    used: AtomicUsize,
    max: AtomicUsize,
}

impl Count {
    /// None yet, and no limit.
    pub(super) fn new() -> Self {
        Self {
            used: AtomicUsize::new(0),
            max: AtomicUsize::new(usize::MAX),
        }
    }

    /// From now on; those beyond it stay.
    pub(super) fn set_max(&self, max: Option<usize>) {
        self.max.store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How many there are.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// One more, where `reserved` places stay free; otherwise how many may be, without them, and how many are.
    pub(super) fn take(&self, reserved: usize) -> Result<(), (usize, usize)> {
        let max = self.max.load(Ordering::Relaxed);
        let max = if max == usize::MAX {
            max
        } else {
            max.saturating_sub(reserved)
        };
        let one_more = |used| (used < max).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(drop)
            .map_err(|used| (max, used))
    }

    /// One more in any case.
    pub(super) fn add(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(super) fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}
