//! Rights to limited things: to use a server session, to have one more, to connect.
//!
//! First come, first served (a fair semaphore), and the limits can change while rights are out: who lowers one
//! takes back what is free at once, and the rest as it comes back. Which session a right is used for is not known
//! here. Who calls: `endpoint_pool`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{sync::Semaphore, time::Instant};

/// How many rights of one kind there are.
#[derive(Debug)]
pub(super) struct Limit {
    /// Its permits are forgotten: each is a [`Right`], which knows whether it comes back.
    semaphore: Semaphore,
    /// Rights that are out and end when they come back. At all times: free + out - debt = the limit.
    debt: AtomicUsize,
}

impl Limit {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            semaphore: Semaphore::new(count),
            debt: AtomicUsize::new(0),
        })
    }

    /// Waits for its turn. Cancel safe: a right that was given to somebody who left goes to the next.
    pub(super) async fn acquire(self: &Arc<Self>) -> Right {
        let permit = self.semaphore.acquire().await;
        permit.expect("the semaphore is never closed").forget();
        Right(self.clone())
    }

    /// `None` where all are out, or somebody waits.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Right> {
        self.semaphore.try_acquire().ok()?.forget();
        Some(Right(self.clone()))
    }

    pub(super) fn grow(&self, count: usize) {
        let mut forgiven = 0;
        let forgive = |debt: usize| {
            forgiven = debt.min(count);
            Some(debt - forgiven)
        };
        // The closure never refuses.
        let _ = self
            .debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, forgive);
        self.semaphore.add_permits(count - forgiven);
    }

    pub(super) fn shrink(&self, count: usize) {
        let taken = self.semaphore.forget_permits(count);
        self.debt.fetch_add(count - taken, Ordering::AcqRel);
    }

    fn pay(&self) -> bool {
        let pay = |debt: usize| debt.checked_sub(1);
        self.debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, pay)
            .is_ok()
    }
}

/// One of a limited number. Dropping it gives it to the next who waits.
#[derive(Debug)]
pub(super) struct Right(Arc<Limit>);

impl Drop for Right {
    fn drop(&mut self) {
        if !self.0.pay() {
            self.0.semaphore.add_permits(1);
        }
    }
}

/// The right to use one server session of an endpoint. Dropping it lets the next client in.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Permit {
    #[expect(dead_code, reason = "it is held, and dropped")]
    pub(super) right: Right,
    pub(super) had_at: Option<Instant>,
}

impl Permit {
    /// When it was had, where somebody had to wait for it.
    pub fn had_at(&self) -> Option<Instant> {
        self.had_at
    }
}

/// The right for one more server session to exist. [`adopt`](super::EndpointPool::adopt) takes it; the session
/// then holds it until its socket is closed.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Slot {
    #[expect(dead_code, reason = "it is held, and dropped")]
    pub(super) right: Right,
    /// How often all sessions had been retired when it was given: a login under it sees at least that state.
    pub(super) epoch: u64,
}

/// The right to connect to the server now.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct ConnectPermit(#[expect(dead_code, reason = "it is held, and dropped")] pub(super) Right);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_lowered_limit_takes_back_what_is_free_and_the_rest_as_it_comes_back() {
        let limit = Limit::new(3);
        let (first, second) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
        limit.shrink(2);
        assert_eq!(limit.semaphore.available_permits(), 0);
        drop(first);
        assert!(limit.try_acquire().is_none());
        drop(second);
        assert_eq!(limit.semaphore.available_permits(), 1);
    }

    #[test]
    fn a_limit_that_grows_again_forgives_first() {
        let limit = Limit::new(2);
        let both = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
        limit.shrink(1);
        limit.grow(2);
        assert_eq!(limit.semaphore.available_permits(), 1);
        drop(both);
        assert_eq!(limit.semaphore.available_permits(), 3);
    }

    #[test]
    fn nobody_passes_those_who_wait() {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let mut waiting = Box::pin(limit.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(limit.try_acquire().is_none());
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn a_right_given_to_somebody_who_left_goes_to_the_next() {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let mut first = Box::pin(limit.acquire());
        let mut second = Box::pin(limit.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        drop(first);
        assert!(second.now_or_never().is_some());
    }
}
