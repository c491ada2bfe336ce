//! The server sessions of one endpoint, for all its clients in transaction pooling.
//!
//! A client takes a [`Permit`] and, while it has it, borrows one session: its own kept one, a resting one, one kept
//! for somebody else, or a new one for which it takes a [`Slot`]. Which of these, who connects, and what a session
//! carries is the session room's business. No session is ever waited for here: only permits and slots are.
//!
//! **Invariant:** sessions that exist, until their socket's end, never exceed the size that held when their slots
//! were given out.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    PoolKey,
    closing::Goodbye,
    figures::{CloseReason, Waits},
    kept::Ticket,
    lent::Lent,
    pause::Pause,
    peek::peek,
    register::Pooled,
    rights::{ConnectPermit, Limit, Permit, Right, Slot},
    session::Fresh,
    state::{State, Stay},
};
use crate::ids::Generation;

/// What bounds a pool. Counts of zero count as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRules {
    /// Most server sessions that exist, and most that are in use.
    pub size: usize,
    /// Most logins that are under way.
    pub connects_at_once: usize,
    /// A session is closed when it was open for this long, or up to a tenth less.
    pub lifetime: Duration,
    /// A session that nobody has used for this long is closed.
    pub idle_time: Duration,
    /// Most different startup settings among the sessions; sessions of the youngest are closed after use.
    pub startup_variants_max: usize,
}

impl PoolRules {
    pub(super) fn at_least_one(self) -> Self {
        Self {
            size: self.size.max(1),
            connects_at_once: self.connects_at_once.max(1),
            startup_variants_max: self.startup_variants_max.max(1),
            ..self
        }
    }
}

/// The server sessions of one endpoint; `C` is what the session room attaches to each. Cheap to clone.
pub struct EndpointPool<C: Send + 'static>(pub(super) Arc<Shared<C>>);

/// What all clones of a pool, its loans and its tasks share.
pub(super) struct Shared<C: Send + 'static> {
    state: Mutex<State<C>>,
    permits: Arc<Limit>,
    slots: Arc<Limit>,
    pub(super) connects: Arc<Limit>,
    pub(super) waits: Waits,
    pub(super) pause: Pause,
    /// Tells the sweeper to look again.
    pub(super) alarm: Arc<Notify>,
    /// A session's socket was closed.
    pub(super) gone: Notify,
    pub(super) tasks: TaskTracker,
}

impl<C: Send + 'static> EndpointPool<C> {
    /// A pool without sessions. Sessions are closed in tasks of `tasks`, each within a second; so is the sweeper, which
    /// ends with the idle sessions: call [`close_idle`](Self::close_idle) before waiting for them.
    pub fn new(rules: PoolRules, tasks: TaskTracker) -> Self {
        let rules = rules.at_least_one();
        Self(Arc::new(Shared {
            permits: Limit::new(rules.size),
            slots: Limit::new(rules.size),
            connects: Limit::new(rules.connects_at_once),
            state: Mutex::new(State::new(rules)),
            waits: Waits::default(),
            pause: Pause::default(),
            alarm: Arc::default(),
            gone: Notify::new(),
            tasks,
        }))
    }

    /// Waits for the right to use one session: first come, first served. The wait counts from `since`. The caller bounds it.
    /// Cancel safe.
    pub async fn permit(&self, since: Instant) -> Permit {
        if let Some(permit) = self.try_permit() {
            return permit;
        }
        let _waiting = self.0.waits.begin();
        loop {
            self.0.pause.over().await;
            let right = self.0.permits.acquire().await;
            if !self.0.pause.is_on() {
                let now = Instant::now();
                self.0.waits.succeeded(now.saturating_duration_since(since));
                let had_at = Some(now);
                return Permit { right, had_at };
            }
        }
    }

    /// The right to use one session, if it can be had at once; not while others wait.
    pub fn try_permit(&self) -> Option<Permit> {
        if self.0.pause.is_on() {
            return None;
        }
        let right = self.0.permits.try_acquire()?;
        Some(Permit { right, had_at: None })
    }

    /// How many wait for a permit.
    pub fn waiting(&self) -> usize {
        self.0.waits.now()
    }

    /// Borrows the session that was kept under this ticket, if it is still there and alive and of this generation.
    /// Inside a runtime, as everything that borrows.
    pub fn take_kept(&self, ticket: &Ticket, generation: Generation) -> Option<Lent<C>> {
        let pooled = self.0.lock().take_kept(ticket)?;
        self.looked_at(pooled, generation)
    }

    /// Borrows the resting session of this key that was used last, of a few that are looked at, and that `suits`.
    /// `suits` is asked under a lock: it is to be quick.
    pub fn take_resting(
        &self,
        key: &PoolKey,
        generation: Generation,
        suits: impl Fn(&C) -> bool,
    ) -> Option<Lent<C>> {
        self.first_alive(generation, || self.0.lock().take_resting(key, &suits))
    }

    /// Borrows the session that has been kept longest for somebody, of those that have this key and that `suits`.
    /// `suits` is asked under a lock: it is to be quick.
    pub fn steal(
        &self,
        key: &PoolKey,
        generation: Generation,
        suits: impl Fn(&C) -> bool,
    ) -> Option<Lent<C>> {
        self.first_alive(generation, || self.0.lock().steal(key, &suits))
    }

    /// Whether a session is kept for somebody that has this key and `suits`; which is asked under a lock.
    pub fn keeps(&self, key: &PoolKey, suits: impl Fn(&C) -> bool) -> bool {
        self.0.lock().keeps(key, &suits)
    }

    /// The right for one more session to exist, if it can be had at once; not while others wait.
    pub fn try_slot(&self) -> Option<Slot> {
        self.0.slots.try_acquire().map(|right| self.slot_of(right))
    }

    /// Waits for the right for one more session to exist: first come, first served. Where there are as many as may be,
    /// the idle one that was used least recently, of whatever key, is closed for it; where none is idle, the next that
    /// comes back. The caller bounds it. Cancel safe.
    pub async fn slot(&self) -> Slot {
        if let Some(slot) = self.try_slot() {
            return slot;
        }
        let _place = self.line_up();
        let right = self.0.slots.acquire().await;
        self.slot_of(right)
    }

    /// Waits for the right to log in now. The caller bounds it. Cancel safe.
    pub async fn connecting(&self) -> ConnectPermit {
        ConnectPermit(self.0.connects.acquire().await)
    }

    /// Takes a session in that was opened under `slot`, and lends it. Inside the runtime that it was opened in.
    pub fn adopt(&self, key: &PoolKey, slot: Slot, fresh: Fresh<C>) -> Lent<C> {
        let mut state = self.0.lock();
        let pooled = state.adopt(key, slot, fresh);
        let grown = state.found_room();
        drop(state);
        self.0.grow(grown);
        Lent::new(pooled, &self.0)
    }

    /// Keeps a session for the client that used it, as it is, until somebody else needs one. The session is to be
    /// between messages, outside a transaction. There may be nothing behind the ticket: a session whose time is over
    /// `now` is closed instead.
    pub fn keep(&self, lent: Lent<C>, now: Instant) -> Ticket {
        self.give_back(lent, Stay::Kept, now)
    }

    /// Puts a session, as it is, where anybody finds it: for a client that leaves. The session is to be between
    /// messages, outside a transaction. One whose time is over is closed instead.
    pub fn rest(&self, lent: Lent<C>) {
        self.give_back(lent, Stay::Resting, Instant::now());
    }

    /// Puts a kept session, if it is still there, where anybody finds it: for a client that leaves.
    pub fn rest_kept(&self, ticket: Ticket) {
        let outdated = self.0.lock().rest_kept(&ticket);
        self.0.bury(outdated);
    }

    /// Closes a session that is between messages: with a Terminate. One that is not is just dropped.
    pub fn close(&self, lent: Lent<C>) {
        self.close_for(lent, CloseReason::Asked, Goodbye::Said);
    }

    fn give_back(&self, lent: Lent<C>, stay: Stay, now: Instant) -> Ticket {
        let Some(pooled) = lent.into_pooled() else {
            return Ticket::NOTHING;
        };
        let back = self.0.lock().give_back(pooled, stay, now);
        self.0.bury(back.doomed);
        self.0.follow(back.plan);
        back.ticket
    }

    /// Lends the first session of those that `take` finds which is alive and of this generation.
    fn first_alive(
        &self,
        generation: Generation,
        mut take: impl FnMut() -> Option<Pooled<C>>,
    ) -> Option<Lent<C>> {
        loop {
            let pooled = take()?;
            if let Some(lent) = self.looked_at(pooled, generation) {
                return Some(lent);
            }
        }
    }

    /// Lends a session that was idle, unless it is dead, which shows without the lock.
    fn looked_at(&self, pooled: Pooled<C>, generation: Generation) -> Option<Lent<C>> {
        let mut lent = Lent::new(pooled, &self.0);
        if lent.generation() != generation {
            self.close_for(lent, CloseReason::OtherGeneration, Goodbye::Said);
            return None;
        }
        // Only the runtime that polls it has heard of what its server says.
        let is_here = lent.is_polled_here();
        if is_here && !lent.stream.may_have_news() {
            return Some(lent);
        }
        let Some(pending) = peek(&mut lent.stream) else {
            self.close_for(lent, CloseReason::Gone, Goodbye::Silent);
            return None;
        };
        lent.pending = pending;
        if is_here { Some(lent) } else { lent.moved_here() }
    }

    fn close_for(&self, lent: Lent<C>, reason: CloseReason, goodbye: Goodbye) {
        if let Some(pooled) = lent.into_pooled() {
            self.0.close(pooled, reason, goodbye);
        }
    }

    fn slot_of(&self, right: Right) -> Slot {
        let epoch = self.0.lock().epoch;
        Slot { right, epoch }
    }

    fn line_up(&self) -> SlotPlace<'_, C> {
        let mut state = self.0.lock();
        state.slot_wanted();
        let doomed = state.make_room();
        drop(state);
        self.0.bury(doomed);
        SlotPlace(&self.0)
    }
}

impl<C: Send + 'static> Shared<C> {
    /// Never across an await, and nothing that runs others' code is called under it but `suits`.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a lent session in the background.
    pub(super) fn close(self: &Arc<Self>, pooled: Pooled<C>, reason: CloseReason, goodbye: Goodbye) {
        let doomed = self.lock().doom(pooled, reason, goodbye);
        self.bury(doomed);
    }

    /// More may exist and be in use.
    pub(super) fn grow(&self, count: usize) {
        if count > 0 {
            self.slots.grow(count);
            self.permits.grow(count);
        }
    }

    /// Fewer may exist and be in use.
    pub(super) fn shrink(&self, count: usize) {
        if count > 0 {
            self.slots.shrink(count);
            self.permits.shrink(count);
        }
    }
}

/// One who waits for a slot.
struct SlotPlace<'a, C: Send + 'static>(&'a Shared<C>);

impl<C: Send + 'static> Drop for SlotPlace<'_, C> {
    fn drop(&mut self) {
        self.0.lock().slot_settled();
    }
}

impl<C: Send + 'static> Drop for Shared<C> {
    fn drop(&mut self) {
        self.alarm.notify_one();
    }
}

impl<C: Send + 'static> Clone for EndpointPool<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Send + 'static> fmt::Debug for EndpointPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointPool").finish_non_exhaustive()
    }
}
