//! Runs one endpoint's machine: gives it events under the endpoint's lock, and does what it says afterwards.
//!
//! Whoever causes an event does the work that follows from it, on its own thread and without the lock; if
//! somebody is at work already, it is left to them. So work is done in exactly the order in which the machine
//! said it, whatever threads the events come from. `tasks` has what takes time. It decides nothing: `state` does.
//!
//! **Invariant:** the lock never meets an await, a waker of a client or the drop of a lease.

pub(super) mod budget;
mod clients;
mod custody;
mod inner;
mod starts;
mod tasks;

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify};
use tokio_util::task::TaskTracker;

pub(super) use self::clients::Dropped;
use self::inner::{Inner, Work};
use self::starts::{Room, takes};
pub(super) use self::starts::{Start, Starts};
use super::{
    Admission, Policy, WakeWatcher,
    error::{WakeError, WakeId},
    figures::{SuspendOrder, WakeEvent, WakeFigures},
    idle::IdleRule,
    lease::AwakeLease,
    line::Lane,
    state::{Event, Machine, Refusal, Rules, Stage, State},
};
use crate::compute::{Address, Compute};
use crate::ids::{EndpointName, Generation};
use crate::tenant::quota::WakeBudget;

/// How often an endpoint that is gone is looked at for leases.
const UNUSED_CHECK: Duration = Duration::from_millis(50);

/// What all endpoints share.
pub(super) struct Wiring {
    pub(super) runtime: Handle,
    pub(super) tracker: TaskTracker,
    pub(super) watcher: Arc<dyn WakeWatcher>,
    pub(super) starts: Starts,
    /// Of one more compute nobody knows whether it runs.
    pub(super) doubted: Notify,
}

/// One endpoint: its machine, and what carries the machine's decisions out.
pub(super) struct Driver {
    name: EndpointName,
    compute: Arc<dyn Compute>,
    /// In which lane it waits for its turn to be started.
    lane: Lane,
    wiring: Arc<Wiring>,
    /// The machine's state became another one.
    changed: Notify,
    /// The timer is to ring earlier than it was set to.
    rearmed: Notify,
    inner: Mutex<Inner>,
    /// The endpoint was taken out of the configuration.
    is_removed: AtomicBool,
    /// The last look could not tell whether it runs.
    is_in_doubt: AtomicBool,
}

impl Driver {
    /// An endpoint that nobody looked at yet.
    pub(super) fn new(
        name: EndpointName,
        policy: Policy,
        compute: Arc<dyn Compute>,
        wiring: Arc<Wiring>,
        budget: WakeBudget,
    ) -> Self {
        let rules = rules(policy, &*compute);
        let takes = takes(&*compute);
        Self {
            name,
            compute,
            lane: budget.tenant().cloned(),
            wiring,
            changed: Notify::new(),
            rearmed: Notify::new(),
            inner: Mutex::new(Inner::new(rules, budget, takes)),
            is_removed: AtomicBool::new(false),
            is_in_doubt: AtomicBool::new(false),
        }
    }

    /// Another policy holds from now on.
    pub(super) fn set_policy(self: &Arc<Self>, policy: Policy) {
        let mut inner = self.lock();
        inner.set_rules(rules(policy, &*self.compute));
        self.finish(inner);
    }

    /// Its turn to be started has come.
    pub(super) fn called(self: &Arc<Self>, generation: Generation, turn: Start, room: Option<Room>) {
        let mut inner = self.lock();
        let mut given = (Some(turn), room);
        if inner.machine.is_in_line(generation) {
            (inner.turn, inner.room) = mem::take(&mut given);
            inner.step(Event::Called { generation });
        }
        self.finish(inner);
        // Otherwise it has left in this very moment, and this calls the next.
        drop(given);
    }

    /// A leaseholder could not connect.
    pub(super) fn unreachable(self: &Arc<Self>, generation: Generation) {
        self.apply(Event::Unreachable { generation });
    }

    /// What it drives.
    pub(super) fn compute(&self) -> Arc<dyn Compute> {
        self.compute.clone()
    }

    /// Whether a wake may help where nobody answers.
    pub(super) fn can_be_woken(&self) -> bool {
        self.compute.can_suspend()
    }

    /// Where it is reached, if it takes logins.
    pub(super) fn awake(&self) -> Option<(Address, Generation)> {
        let inner = self.lock();
        let generation = inner.machine.awake()?;
        inner
            .awake
            .as_ref()
            .map(|awake| (awake.address.clone(), generation))
    }

    /// What is going on, for a client that waits.
    pub(super) fn phase(&self) -> &'static str {
        let is_full = self.wiring.starts.full_at().is_some();
        match self.lock().machine.state() {
            State::InLine if is_full => "other computes have to go to sleep before this one is started",
            State::InLine => "other computes are started before this one",
            State::Unknown | State::Asleep | State::Waking { .. } => "compute is starting",
            State::Inspecting => "compute is being looked at",
            State::Ready(_) | State::Emptying { .. } | State::Settling { .. } => {
                "compute is ready, and others log in before"
            }
            State::Suspending => "compute is going to sleep and will be woken again",
            State::Failed => "compute could not be started",
        }
    }

    /// How often a start was asked for.
    pub(super) fn wakes_started(&self) -> u64 {
        self.lock().wakes_started
    }

    /// How it stands.
    pub(super) fn figures(&self) -> WakeFigures {
        self.lock().figures()
    }

    /// Refuses further leases, or grants them again.
    pub(super) fn set_admission(&self, admission: Admission) {
        self.lock().admission = admission;
    }

    /// Suspends it if nobody works.
    pub(super) fn suspend(self: &Arc<Self>) -> SuspendOrder {
        let mut inner = self.lock();
        inner.step(Event::SuspendOrdered);
        let machine = &inner.machine;
        let order = match machine.state() {
            _ if !machine.rules().suspendable => SuspendOrder::NotSuspendable,
            _ if !machine.may_act() => SuspendOrder::UnderWay,
            State::Emptying { .. } | State::Settling { .. } | State::Suspending => SuspendOrder::Begun,
            State::Ready(leases) => SuspendOrder::InUse(leases.counted.active),
            State::InLine | State::Waking { .. } | State::Inspecting => SuspendOrder::UnderWay,
            State::Unknown | State::Asleep | State::Failed => SuspendOrder::AsleepAlready,
        };
        self.finish(inner);
        order
    }

    /// How many are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Looks whether it runs, where nobody looked yet. Cancel safe: looking goes on.
    pub(super) async fn inspect(self: Arc<Self>) {
        self.apply(Event::InspectOrdered);
        self.until(|machine| !matches!(machine.state(), State::Inspecting))
            .await;
    }

    /// Whether nobody knows if it runs, and it is to be looked at again.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Acquire)
    }

    /// Looks whether it runs after all, unless something is under way. Cancel safe: looking goes on.
    pub(super) async fn look_again(self: Arc<Self>) {
        self.apply(Event::LookAgainOrdered);
        self.until(|machine| !machine.is_looking()).await;
    }

    /// Refuses leases from now on.
    pub(super) fn close(self: &Arc<Self>) {
        self.apply(Event::Closed);
    }

    /// Refuses leases from now on, because there is no such endpoint any more.
    pub(super) fn remove(self: &Arc<Self>) {
        self.is_removed.store(true, Ordering::Release);
        self.close();
    }

    /// Whether its last stop failed: it may run on.
    pub(super) fn is_left(&self) -> bool {
        self.lock().left.is_some()
    }

    /// Returns once nobody holds a lease: by looking, since leases that come back are no change of state.
    pub(super) async fn unused(&self) {
        while self.lock().machine.has_leases() {
            tokio::time::sleep(UNUSED_CHECK).await;
        }
    }

    /// Stops what runs, and returns once nothing does. Cancel safe: stopping goes on.
    pub(super) async fn stop(self: Arc<Self>) {
        self.apply(Event::StopOrdered);
        self.until(Machine::is_at_rest).await;
    }

    async fn until(&self, reached: impl Fn(&Machine) -> bool) {
        loop {
            // Made before looking: a change in between is not missed.
            let changed = self.changed.notified();
            if reached(&self.lock().machine) {
                return;
            }
            changed.await;
        }
    }

    fn apply(self: &Arc<Self>, event: Event) {
        let mut inner = self.lock();
        inner.step(event);
        self.finish(inner);
    }

    /// Gives the lock back and does the work there is.
    fn finish(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if inner.working || inner.work.is_empty() {
            return;
        }
        inner.working = true;
        drop(inner);
        let worker = Worker(self);
        while let Some(work) = self.next_work() {
            self.perform(work);
        }
        mem::forget(worker);
    }

    fn next_work(&self) -> Option<Work> {
        let mut inner = self.lock();
        let work = inner.work.pop_front();
        inner.working = work.is_some();
        work
    }

    fn perform(self: &Arc<Self>, work: Work) {
        match work {
            Work::Grant(held, awake) => {
                let lease = AwakeLease::cold(self.clone(), awake, held.weight);
                // Whoever left in this very moment gives it back by this.
                drop(held.answer.send(Ok(lease)));
            }
            Work::Refuse(held, refusal, wake, others) => {
                let error = self.error(refusal, held.since.elapsed(), wake, others);
                drop(held.answer.send(Err(error)));
            }
            Work::Inspect(generation) => self.look(generation),
            Work::LineUp(generation, cost) => self.line_up(generation, cost),
            Work::LeaveLine => {
                let place = self.lock().place.take();
                place.iter().for_each(|place| self.wiring.starts.leave(place));
            }
            Work::Start(generation, wake, turn) => self.start(generation, wake, turn),
            Work::Stop(generation, ends) => self.stop_compute(generation, ends),
            Work::Settle(round, awake, asks) => self.settle(round, awake, asks),
            Work::Announce(awake, arrival) => self.announce(&awake, arrival),
            Work::Signal(awake, signal) => {
                if awake.tell(signal) {
                    self.wiring.watcher.signalled(&self.name);
                }
            }
            Work::TakeRoom => self.take_room(),
            Work::GiveRoom(room) => drop(room),
            Work::StartTimer => self.run_timer(),
            Work::RearmTimer => self.rearmed.notify_one(),
            Work::TellChange => self.changed.notify_waiters(),
        }
    }

    fn line_up(self: &Arc<Self>, generation: Generation, cost: Duration) {
        if !self.compute.can_suspend() {
            return self.apply(Event::Called { generation });
        }
        let starts = &self.wiring.starts;
        let room = self.lock().room.take();
        drop(room);
        let takes = takes(&*self.compute);
        let place = starts.enter(self.lane.clone(), cost, takes, (self.clone(), generation));
        self.lock().place = Some(place);
        starts.call();
    }

    fn error(&self, refusal: Refusal, waited: Duration, wake: Option<WakeId>, others: usize) -> WakeError {
        let endpoint = self.name.clone();
        let starts = &self.wiring.starts;
        match refusal {
            Refusal::TimedOut(Stage::InLine) => WakeError::InLine {
                endpoint,
                waited,
                others: starts.waiting().saturating_sub(1),
                limit: starts.limit(),
            },
            Refusal::TimedOut(Stage::LoggingIn) => WakeError::LoggingIn {
                endpoint,
                waited,
                others,
            },
            Refusal::TimedOut(Stage::Starting) => WakeError::TimedOut {
                endpoint,
                waited,
                wake,
            },
            Refusal::Failed(reason, backoff) => WakeError::Failed {
                endpoint,
                reason,
                wake,
                backoff,
            },
            Refusal::Ignored(by) => WakeError::Ignored { endpoint, by },
            Refusal::Disabled => WakeError::Disabled { endpoint },
            Refusal::Closed if self.is_removed.load(Ordering::Acquire) => WakeError::Removed(endpoint),
            Refusal::Closed => WakeError::ShuttingDown,
        }
    }

    fn tell(&self, event: WakeEvent) {
        self.wiring.watcher.happened(&self.name, event);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rules(policy: Policy, compute: &dyn Compute) -> Rules {
    let idle = match policy.suspend_after {
        None => IdleRule::Never,
        Some(after) if policy.suspend_idle_sessions => IdleRule::EndsResting(after),
        Some(after) => IdleRule::KeptByResting(after),
    };
    Rules {
        idle,
        start_timeout: policy.start_timeout,
        awake_min: policy.awake_min,
        asks_veto: policy.asks_veto,
        logins_at_once: policy.logins_at_once,
        suspendable: compute.can_suspend(),
        startable: compute.can_start(),
    }
}

/// At work for an endpoint. Dropped only by a panic (in the watcher): then somebody else must do the rest.
struct Worker<'a>(&'a Driver);

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.0.lock().working = false;
    }
}
