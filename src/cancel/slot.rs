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

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use dashmap::DashMap;

use super::{
    key::Key,
    target::{InFlight, ServerTarget},
};
use crate::shutdown::Bell;
use crate::wire::startup::CancelKey;

/// All keys given out.
pub(super) type Slots = DashMap<Key, Arc<Slot>>;

/// Where a key leads to.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// Its wait was cancelled. Changed only under the lock, and read without it by whoever waits.
    is_cancelled: AtomicBool,
    /// Of the client, which alone waits.
    bell: Arc<Bell>,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting,
    Running(Arc<ServerTarget>),
}

impl Slot {
    /// Nothing runs. The bell rings when a wait is cancelled.
    pub(super) fn idle(bell: Arc<Bell>) -> Arc<Self> {
        Self::new(State::Idle, bell)
    }

    /// Whatever the client does, it does there.
    pub(super) fn running(target: Arc<ServerTarget>) -> Arc<Self> {
        Self::new(State::Running(target), Arc::default())
    }

    fn new(state: State, bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            is_cancelled: AtomicBool::new(false),
            bell,
        })
    }

    /// Ends a wait. Where a statement runs, the cancel counts as under way until what is returned is dropped.
    pub(super) fn cancel(&self) -> Option<InFlight> {
        match &*self.state() {
            State::Idle => None,
            State::Waiting => {
                self.is_cancelled.store(true, Ordering::Release);
                self.bell.ring();
                None
            }
            State::Running(target) => Some(InFlight::towards(target)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> Change<'_> {
        Change {
            state: self.state(),
            is_cancelled: &self.is_cancelled,
        }
    }
}

/// The client is about to say what it does now.
struct Change<'a> {
    state: MutexGuard<'a, State>,
    is_cancelled: &'a AtomicBool,
}

impl Change<'_> {
    fn to(mut self, state: State) {
        // What was cancelled is over.
        self.is_cancelled.store(false, Ordering::Relaxed);
        *self.state = state;
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
        self.slot.changes().to(State::Idle);
    }
}

/// The key of a client that has one server session for its whole stay. It works as long as this lives.
#[derive(Debug)]
pub struct Registration(Registered);

/// The key of a client that borrows a server session for each turn. It works as long as this lives.
///
/// Changing what it leads to costs an uncontended lock.
#[derive(Debug)]
pub struct PooledRegistration {
    registered: Registered,
    /// What the client has said last: it leads to nothing. Only the client's own task asks, and says so.
    is_parked: AtomicBool,
}

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
        Self {
            registered: Registered { key, slot, slots },
            is_parked: AtomicBool::new(true),
        }
    }

    /// The key that the client gets.
    pub fn key(&self) -> &CancelKey {
        &self.registered.key.0
    }

    #[cfg(test)]
    pub(super) fn slot(&self) -> &Slot {
        &self.registered.slot
    }

    /// Nothing of the client runs or waits: a cancel does nothing. To be said before a session is looked after or
    /// lent on: from then on, [`ServerTarget::has_in_flight`] tells of all cancels that may still strike it.
    pub fn park(&self) {
        if !self.is_parked.load(Ordering::Relaxed) {
            self.registered.slot.changes().to(State::Idle);
            self.is_parked.store(true, Ordering::Relaxed);
        }
    }

    /// The client is held, or waits for a server session: a cancel ends that, see
    /// [`is_cancelled`](Self::is_cancelled). Said again during a wait, it changes nothing.
    pub fn wait(&self) {
        self.is_parked.store(false, Ordering::Relaxed);
        let slot = self.registered.slot.changes();
        if !matches!(*slot.state, State::Waiting) {
            slot.to(State::Waiting);
        }
    }

    /// The client's own messages go out to `target` now: a cancel goes there. What pgwake has to say to the server
    /// first belongs to the wait.
    ///
    /// # Errors
    /// [`Cancelled`]: the wait was cancelled in its last moment. The client counts as parked.
    pub fn run(&self, target: &Arc<ServerTarget>) -> Result<(), Cancelled> {
        self.is_parked.store(false, Ordering::Relaxed);
        let slot = self.registered.slot.changes();
        if self.is_cancelled() {
            slot.to(State::Idle);
            return Err(Cancelled);
        }
        slot.to(State::Running(Arc::clone(target)));
        target.tell(self.key().pid);
        Ok(())
    }

    /// Whether a wait was cancelled; never outside of one. It stays so until the client is parked, or is refused to run. Its
    /// session's bell rings for it: whoever waits listens to that before it looks here.
    pub fn is_cancelled(&self) -> bool {
        self.registered.slot.is_cancelled.load(Ordering::Acquire)
    }
}
