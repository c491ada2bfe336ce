//! A server session that can be cancelled, and the cancels that are under way to it.
//!
//! A cancel strikes whatever its server session does when it arrives. So the session is not lent on before every
//! cancel that was meant for its last client has arrived. This file counts; it sends nothing.

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::compute::Address;
use crate::ids::EndpointName;
use crate::wire::startup::CancelKey;

/// In the count of cancels under way: one was sent, and nobody knows when it arrives.
const LOST: usize = 1 << (usize::BITS - 1);

/// Where a session's statement runs.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose.
    pub endpoint: EndpointName,
    /// The compute.
    pub address: Address,
    /// The key that the server itself gave.
    pub server_key: CancelKey,
}

/// A server session that is lent to one client after the other. Made once, when the session is opened.
#[derive(Debug)]
pub struct ServerTarget {
    pub(super) target: Target,
    /// How many cancels are under way, and [`LOST`].
    in_flight: AtomicUsize,
    /// The process number that its client was told, or its last one; 0: it has had none.
    told: AtomicI32,
    arrived: Notify,
}

/// How the cancels ended that were under way to a server session.
#[must_use = "a session that a lost cancel may still strike has to be closed"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Each has arrived, or was never sent: the session may be lent on.
    Safe,
    /// One was sent and its end was not seen: it may strike at any time. The session can only be closed.
    Lost,
}

impl ServerTarget {
    /// A server session that nobody cancels yet.
    pub fn new(target: Target) -> Arc<Self> {
        Arc::new(Self {
            target,
            in_flight: AtomicUsize::new(0),
            told: AtomicI32::new(0),
            arrived: Notify::new(),
        })
    }

    /// The server's process.
    pub fn pid(&self) -> i32 {
        self.target.server_key.pid
    }

    /// The process number that the client was told which uses it, or has used it last.
    pub fn told(&self) -> Option<i32> {
        Some(self.told.load(Ordering::Relaxed)).filter(|told| *told != 0)
    }

    /// A client that was told this number uses it from now on.
    pub(super) fn tell(&self, told: i32) {
        self.told.store(told, Ordering::Relaxed);
    }

    /// Whether a cancel is under way, or one was lost. Cheap. A `false` stays right as long as no client runs a
    /// statement here, see [`PooledRegistration::park`](super::PooledRegistration::park).
    pub fn has_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) != 0
    }

    /// Waits until no cancel is under way. None takes longer than it may take to be delivered. Cancel safe.
    pub async fn settled(&self) -> Settled {
        loop {
            // Made before the look, so that no arrival after it is missed.
            let arrived = self.arrived.notified();
            match self.in_flight.load(Ordering::Acquire) {
                0 => return Settled::Safe,
                count if count & LOST != 0 => return Settled::Lost,
                _ => arrived.await,
            }
        }
    }
}

/// One cancel under way. Dropped: it has arrived, or will never be sent; but after [`InFlight::sent`] without
/// [`InFlight::arrived`] it is lost.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) to: Arc<ServerTarget>,
    may_strike: bool,
}

impl InFlight {
    /// Counts one more.
    pub(super) fn towards(target: &Arc<ServerTarget>) -> Self {
        target.in_flight.fetch_add(1, Ordering::AcqRel);
        Self {
            to: Arc::clone(target),
            may_strike: false,
        }
    }

    /// From here on it may strike.
    pub(super) fn sent(&mut self) {
        self.may_strike = true;
    }

    /// The server has closed: it has struck, or never will.
    pub(super) fn arrived(&mut self) {
        self.may_strike = false;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.may_strike {
            self.to.in_flight.fetch_or(LOST, Ordering::AcqRel);
        }
        self.to.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.to.arrived.notify_waiters();
    }
}
