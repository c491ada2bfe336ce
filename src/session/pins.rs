//! How many clients may pin a server session, per endpoint: a session that cannot be given back is lost to all others
//! while its client stays.
//!
//! Whether a session is pinned, and why, only Postgres says (`profile`); here it is only counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The sessions of an endpoint that are pinned, and how many may be.
#[derive(Debug)]
pub struct PinLimit {
    pinned: Arc<AtomicUsize>,
    max: AtomicUsize,
}

/// One pinned session, counted while this lives.
#[derive(Debug)]
pub(super) struct PinPermit(Arc<AtomicUsize>);

impl PinLimit {
    /// At most `max`, as far as words say beforehand that a statement is going to pin.
    pub(super) fn new(max: usize) -> Self {
        Self {
            pinned: Arc::default(),
            max: AtomicUsize::new(max),
        }
    }

    /// How many there may be.
    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// So many from now on; those that are pinned stay.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn pinned(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// One more, if there is room.
    pub(super) fn permit(&self) -> Option<PinPermit> {
        self.permit_below(self.max())
    }

    /// One more that was found only afterwards: it counts as over. `None` at twice the limit.
    pub(super) fn permit_over(&self) -> Option<PinPermit> {
        self.permit_below(self.max() * 2)
    }

    fn permit_below(&self, max: usize) -> Option<PinPermit> {
        let one_more = |pinned| (pinned < max).then_some(pinned + 1);
        let counted = self
            .pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.is_ok().then(|| PinPermit(self.pinned.clone()))
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_refused_at_the_limit_and_what_is_found_afterwards_at_twice_that() {
        let limit = PinLimit::new(1);
        let first = limit.permit().unwrap();
        assert!(limit.permit().is_none());
        let second = limit.permit_over().unwrap();
        assert!(limit.permit_over().is_none());
        assert_eq!(limit.pinned(), 2);
        drop(first);
        assert!(limit.permit().is_none());
        drop(second);
        assert!(limit.permit().is_some());
    }
}
