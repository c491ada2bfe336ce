//! How many clients may pin a server session, per endpoint: a session that cannot be given back is lost to all others
//! while its client stays.
//!
//! Whether a session is pinned, and why, only Postgres says (`profile`); here it is only counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How long a client waits for what becomes of others' pins before it is refused one: they have been answered already,
/// and Postgres is being asked.
const SETTLING_MAX: Duration = Duration::from_secs(1);

/// The sessions of an endpoint that are pinned, and how many may be.
#[derive(Debug)]
pub struct PinLimit {
    pinned: Arc<AtomicUsize>,
    settling: Arc<Counted>,
    max: AtomicUsize,
}

/// Pinned clients whose last statement has been answered, and may have released them.
#[derive(Debug, Default)]
struct Counted {
    count: AtomicUsize,
    fewer: Notify,
}

/// Such a client, until it is known whether it still keeps its session.
#[derive(Debug)]
pub(super) struct Settling(Arc<Counted>);

/// One pinned session, counted while this lives.
#[derive(Debug)]
pub(super) struct PinPermit(Arc<AtomicUsize>);

impl PinLimit {
    /// At most `max`, as far as words say beforehand that a statement is going to pin.
    pub(super) fn new(max: usize) -> Self {
        Self {
            pinned: Arc::default(),
            settling: Arc::default(),
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

    /// A pinned client reads an answer that may have released it.
    pub(super) fn settling(&self) -> Settling {
        self.settling.count.fetch_add(1, Ordering::Relaxed);
        Settling(self.settling.clone())
    }

    /// Whether there is no room now, and may be at once.
    pub(super) fn may_come_free(&self) -> bool {
        self.pinned() >= self.max() && self.settling.count.load(Ordering::Relaxed) > 0
    }

    /// Waits for that. Cancel safe.
    pub(super) async fn settled(&self) {
        let settled = async {
            let mut fewer = std::pin::pin!(self.settling.fewer.notified());
            while self.may_come_free() {
                fewer.as_mut().enable();
                if self.may_come_free() {
                    fewer.as_mut().await;
                }
                fewer.set(self.settling.fewer.notified());
            }
        };
        let _ = timeout(SETTLING_MAX, settled).await;
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

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that had just let go of its session was counted until Postgres had said so, and the next one refused.
    #[tokio::test(start_paused = true)]
    async fn who_comes_while_another_one_lets_go_waits_for_that() {
        let limit = Arc::new(PinLimit::new(1));
        assert!(!limit.may_come_free());
        let (permit, settling) = (limit.permit().unwrap(), limit.settling());
        assert!(limit.may_come_free());
        let waiter = tokio::spawn({
            let limit = limit.clone();
            async move {
                limit.settled().await;
                limit.permit()
            }
        });
        tokio::task::yield_now().await;
        drop(permit);
        drop(settling);
        assert!(waiter.await.unwrap().is_some());
        // It is still pinned.
        let (_permit, _settling) = (limit.permit().unwrap(), limit.settling());
        limit.settled().await;
        assert!(limit.permit().is_none());
    }

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
