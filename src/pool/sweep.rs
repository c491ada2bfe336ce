//! The one task of an endpoint's pool that works by the clock: it closes what has been idle or open for too long, and
//! lifts a ceiling that was lowered.
//!
//! It starts with the first idle session and ends when it wakes and finds none, so a sleeping endpoint has no task.
//! Who calls: `endpoint_pool`.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep_until};

use super::{endpoint_pool::Shared, figures::CloseReason, register::Idle, session::later, state::State};

/// What a change means for the sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the sweeper does not hear of it otherwise"]
pub(super) enum SweepPlan {
    /// It looks in time.
    AsPlanned,
    /// It is to look earlier.
    Sooner,
    /// There is none yet.
    Start,
}

impl<C: Send + 'static> State<C> {
    /// Something is due then.
    pub(super) fn plan_sweep(&mut self, due: Instant) -> SweepPlan {
        match self.next_sweep {
            Some(next) if next <= due => SweepPlan::AsPlanned,
            planned => {
                self.next_sweep = Some(due);
                if planned.is_some() {
                    SweepPlan::Sooner
                } else {
                    SweepPlan::Start
                }
            }
        }
    }

    /// When a session that is idle since then, and whose time ends then, has been idle or open for long enough.
    pub(super) fn due(&self, since: Instant, ends: Instant) -> Instant {
        later(since, self.rules.idle_time).min(ends)
    }

    fn next_due(&self) -> Option<Instant> {
        let due = |idle: &Idle| self.due(idle.since, idle.age.end(self.rules.lifetime));
        let first = self.idle().map(due).min();
        first.into_iter().chain(self.lowered_until).min()
    }
}

impl<C: Send + 'static> Shared<C> {
    pub(super) fn follow(self: &Arc<Self>, plan: SweepPlan) {
        match plan {
            SweepPlan::AsPlanned => (),
            SweepPlan::Sooner => self.alarm.notify_one(),
            SweepPlan::Start => {
                self.tasks.spawn(run(Arc::downgrade(self), self.alarm.clone()));
            }
        }
    }

    /// One look. Answers when to look again; `None`: there is nothing to look after any more.
    fn sweep(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let (idle_time, lifetime) = (state.rules.idle_time, state.rules.lifetime);
        let aged = |idle: &Idle| idle.age.end(lifetime) <= now;
        let mut doomed = state.doom_idle(CloseReason::Lifetime, |_, idle| aged(idle));
        let tired = |idle: &Idle| later(idle.since, idle_time) <= now;
        doomed.extend(state.doom_idle(CloseReason::Idle, |_, idle| tired(idle)));
        let grown = match state.lowered_until {
            Some(until) if until <= now => state.restore(),
            _ => 0,
        };
        state.next_sweep = state.next_due();
        let next = state.next_sweep;
        drop(state);
        self.grow(grown);
        self.bury(doomed);
        next
    }
}

async fn run<C: Send + 'static>(shared: Weak<Shared<C>>, alarm: Arc<tokio::sync::Notify>) {
    loop {
        let next = shared.upgrade().and_then(|shared| shared.sweep());
        let Some(next) = next else { return };
        tokio::select! {
            () = sleep_until(next) => (),
            () = alarm.notified() => (),
        }
    }
}
