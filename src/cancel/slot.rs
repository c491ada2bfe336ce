//! What a client's key leads to: nothing, a wait, or the server session that runs its statement now.
//!
//! ```text
//!           wait            run
//!   idle ────────▶ waiting ────────▶ running
//!    ▲ ▲              │ cancelled       │
//!    │ └──────────────┘                 │
//!    └──────────────────────────────────┘ park
//! ```
//!
//! Whoever changes the state and whoever cancels take the same lock, and a cancel is counted under it. So once a
//! client is parked, no cancel of its own can start towards the session that it has given back.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use dashmap::DashMap;
use futures_util::task::AtomicWaker;

use super::{
    key::Key,
    target::{InFlight, ServerTarget},
};
use crate::wire::startup::CancelKey;

/// All keys given out.
pub(super) type Slots = DashMap<Key, Arc<Slot>>;

/// Where a key leads to.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// The client's task, which alone waits.
    cancelled: AtomicWaker,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting { is_cancelled: bool },
    Running(Arc<ServerTarget>),
}

impl Slot {
    /// Nothing runs.
    pub(super) fn idle() -> Arc<Self> {
        Self::new(State::Idle)
    }

    /// Whatever the client does, it does there.
    pub(super) fn running(target: Arc<ServerTarget>) -> Arc<Self> {
        Self::new(State::Running(target))
    }

    fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            cancelled: AtomicWaker::new(),
        })
    }

    /// Ends a wait. Where a statement runs, the cancel counts as under way until what is returned is dropped.
    pub(super) fn cancel(&self) -> Option<InFlight> {
        match &mut *self.state() {
            State::Idle => None,
            State::Waiting { is_cancelled } => {
                *is_cancelled = true;
                self.cancelled.wake();
                None
            }
            State::Running(target) => Some(InFlight::towards(target)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that works as long as this lives.
#[derive(Debug)]
struct Registered {
    key: Key,
    slot: Arc<Slot>,
    slots: Arc<Slots>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.slots.remove(&self.key);
        // A cancel that has found the slot already is too late as well.
        *self.slot.state() = State::Idle;
    }
}

/// The key of a client that has one server session for its whole stay. It works as long as this lives.
#[derive(Debug)]
pub struct Registration(Registered);

/// The key of a client that borrows a server session for each turn. It works as long as this lives.
///
/// Changing what it leads to costs an uncontended lock.
#[derive(Debug)]
pub struct PooledRegistration(Registered);

/// The client's wait was cancelled: it gets 57014, and nothing is sent for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled while waiting")]
pub struct Cancelled;

impl Registration {
    pub(super) fn new(key: Key, slot: Arc<Slot>, slots: Arc<Slots>) -> Self {
        Self(Registered { key, slot, slots })
    }

    /// The key that the client gets.
    pub fn key(&self) -> &CancelKey {
        &self.0.key.0
    }
}

impl PooledRegistration {
    pub(super) fn new(key: Key, slot: Arc<Slot>, slots: Arc<Slots>) -> Self {
        Self(Registered { key, slot, slots })
    }

    /// The key that the client gets.
    pub fn key(&self) -> &CancelKey {
        &self.0.key.0
    }

    #[cfg(test)]
    pub(super) fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Nothing of the client runs or waits: a cancel does nothing. To be said before a session is looked after or
    /// lent on: from then on, [`ServerTarget::has_in_flight`] tells of all cancels that may still strike it.
    pub fn park(&self) {
        *self.0.slot.state() = State::Idle;
    }

    /// The client is held, or waits for a server session: a cancel ends that, see
    /// [`cancelled`](Self::cancelled). Said again during a wait, it changes nothing.
    pub fn wait(&self) {
        let mut state = self.0.slot.state();
        if !matches!(*state, State::Waiting { .. }) {
            *state = State::Waiting { is_cancelled: false };
        }
    }

    /// The client's own messages go out to `target` now: a cancel goes there. What pgwake has to say to the server
    /// first belongs to the wait.
    ///
    /// # Errors
    /// [`Cancelled`]: the wait was cancelled in its last moment. The client counts as parked.
    pub fn run(&self, target: &Arc<ServerTarget>) -> Result<(), Cancelled> {
        let mut state = self.0.slot.state();
        if matches!(*state, State::Waiting { is_cancelled: true }) {
            *state = State::Idle;
            return Err(Cancelled);
        }
        *state = State::Running(Arc::clone(target));
        target.tell(self.key().pid);
        Ok(())
    }

    /// Waits until a wait is cancelled; never ends outside of one. It stays cancelled until the client is parked, or
    /// is refused to run. Cancel safe.
    pub async fn cancelled(&self) {
        poll_fn(|cx| self.poll_cancelled(cx)).await;
    }

    /// `Ready` where a wait is cancelled.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        let slot = &self.0.slot;
        // Before the look, so that no cancel after it is missed.
        slot.cancelled.register(cx.waker());
        match *slot.state() {
            State::Waiting { is_cancelled: true } => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}
