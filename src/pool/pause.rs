//! A pool that lends nothing for a while, because an operator says so.
//!
//! What is lent stays lent; whoever wants a session waits, and the wait is bounded like any other. Who calls:
//! `endpoint_pool`.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether anything is lent.
#[derive(Debug, Default)]
pub(super) struct Pause {
    is_on: AtomicBool,
    over: Notify,
}

impl Pause {
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.is_on.store(false, Ordering::Release);
        self.over.notify_waiters();
    }

    /// Waits until it is over. Cancel safe.
    pub(super) async fn over(&self) {
        loop {
            // Made before the look, so that no end after it is missed.
            let over = self.over.notified();
            if !self.is_on() {
                return;
            }
            over.await;
        }
    }
}
