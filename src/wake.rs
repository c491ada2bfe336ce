//! Wakes computes for clients who proved who they are, holds those clients meanwhile, and lets computes sleep.
//!
//! `state` decides (a pure machine per endpoint, with `waiting`, `idle` and `backoff` as its parts), `line` says whose
//! turn it is to be started, `driver` does, `lease` is what a session holds. It does not know Postgres sessions, pools or
//! clients: what must happen in the rest of the house when a compute wakes or sleeps is wired by `server` through
//! [`WakeWatcher`]. Who calls: `session` asks for leases, `server` registers endpoints and stops everything at the end.

mod backoff;
mod custody;
mod doubt;
mod driver;
mod error;
mod figures;
mod idle;
mod lease;
mod line;
mod state;
mod waiting;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

pub use self::{
    backoff::Backoff,
    error::{WakeError, WakeId},
    figures::{ComputeState, SuspendOrder, Veto, Vetoes, WakeEvent, WakeFigures},
    idle::Weight,
    lease::{AwakeLease, LeaseSignal, Waiting},
};

use self::driver::{Driver, Starts, Wiring, budget};
use crate::auth::WakeRight;
use crate::compute::{Address, Compute};
use crate::config::Limits;
use crate::ids::{EndpointName, Generation};
use crate::tenant::quota::{ClientPermit, WakeBudget};

/// How many computes are looked at, or stopped at the end, at the same time: a clean stop writes what is dirty
/// to disk, and more of them at once only makes each slower.
const AT_ONCE_MAX: usize = 32;

/// How an endpoint's compute wakes and sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long nothing is open until it is suspended; `None`: never.
    pub suspend_after: Option<Duration>,
    /// Whether idle sessions are ended so that it can be suspended.
    pub suspend_idle_sessions: bool,
    /// Whether [`WakeWatcher::veto`] is asked before a suspend.
    pub asks_veto: bool,
    /// How long it stays awake after a wake, also where nobody needs it any more.
    pub awake_min: Duration,
    /// How long a start may take in all, from when its turn has come.
    pub start_timeout: Duration,
    /// How many of those who were held log in at once.
    pub logins_at_once: usize,
}

/// A client that may ask for leases.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// What it counts in.
    pub permit: &'a ClientPermit,
    /// By what right it wakes.
    pub right: &'a WakeRight,
    /// Whether it does, and keeps awake.
    pub weight: Weight,
}

impl<'a> From<Client<'a>> for budget::Client<'a> {
    fn from(client: Client<'a>) -> Self {
        Self {
            permit: Some(client.permit),
            weight: client.weight,
            entry: budget::Entry::Comes,
        }
    }
}

/// pgwake's own wishes.
const OWN: budget::Client<'_> = budget::Client {
    permit: None,
    weight: Weight::Counts,
    entry: budget::Entry::Comes,
};

/// Whether an endpoint's clients may have leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As ever.
    Enabled,
    /// Not while an operator says so.
    Disabled,
}

/// The rest of the house, as far as it must know. Called without any lock held, in the order of events for an
/// endpoint; `ready` must not block, since a client may be waiting on the thread it runs on.
pub trait WakeWatcher: Send + Sync + 'static {
    /// It takes logins.
    fn ready(&self, endpoint: &EndpointName, address: &Address, generation: Generation);

    /// It is about to be suspended: what must be read from it is read now, what rests on it is closed. Dropped
    /// after two seconds. A client that arrives meanwhile is served, and the suspend is called off.
    fn before_suspend(&self, endpoint: &EndpointName, address: &Address) -> BoxFuture<'static, ()>;

    /// Whether anything speaks against a suspend that only the server itself knows, asked after
    /// [`before_suspend`](Self::before_suspend) where the policy says so. `own` are the server's processes that work for
    /// clients of pgwake who rest. No answer within five seconds is a veto, too.
    fn veto(
        &self,
        _endpoint: &EndpointName,
        _address: &Address,
        _own: Vec<i32>,
    ) -> BoxFuture<'static, Option<Veto>> {
        Box::pin(std::future::ready(None))
    }

    /// Leases of this endpoint say something else than before ([`AwakeLease::signal`]): whoever holds one should look. Must
    /// not block.
    fn signalled(&self, _endpoint: &EndpointName) {}

    /// Something happened that is worth telling; must not block.
    fn happened(&self, _endpoint: &EndpointName, _event: WakeEvent) {}
}

/// All endpoints, each with its own machine and its own lock. Cheap to clone.
#[derive(Clone)]
pub struct Wakes {
    drivers: Arc<DashMap<EndpointName, Arc<Driver>, RandomState>>,
    wiring: Arc<Wiring>,
}

impl Wakes {
    /// No endpoints yet. Starts, stops and timers run on `runtime`, all tracked by `tracker`; leases may be asked
    /// for and held on any thread.
    pub fn new(runtime: Handle, tracker: TaskTracker, watcher: Arc<dyn WakeWatcher>) -> Self {
        let wiring = Wiring {
            starts: Starts::new(runtime.clone(), tracker.clone()),
            doubted: Notify::new(),
            runtime,
            tracker,
            watcher,
        };
        Self {
            drivers: Arc::default(),
            wiring: Arc::new(wiring),
        }
    }

    /// So many computes are started at once, and so many run on this machine. The others wait for their turn, tenant by
    /// tenant; for those that wait for room, others that nobody has needed for longest are suspended before their time.
    /// Until this is said, nothing is limited.
    pub fn set_limits(&self, limits: &Limits) {
        let starts = &self.wiring.starts;
        starts.set_at_once_max(limits.wakes_at_once_max);
        starts.set_awake_max(limits.awake_processes_max.unwrap_or(usize::MAX));
    }

    /// How many computes run on this machine, or are about to.
    pub fn awake_processes(&self) -> usize {
        self.wiring.starts.awake()
    }

    /// How many computes wait for their turn to be started.
    pub fn waiting_for_a_turn(&self) -> usize {
        self.wiring.starts.waiting()
    }

    /// Registers an endpoint and touches nothing. One that is registered already stays as it is.
    pub fn add(&self, endpoint: EndpointName, policy: Policy, compute: Arc<dyn Compute>) {
        self.add_within(endpoint, policy, compute, WakeBudget::unlimited());
    }

    /// The same; while its compute is awake it counts in `budget`.
    pub fn add_within(
        &self,
        endpoint: EndpointName,
        policy: Policy,
        compute: Arc<dyn Compute>,
        budget: WakeBudget,
    ) {
        let wiring = self.wiring.clone();
        let make = |name: &EndpointName| Arc::new(Driver::new(name.clone(), policy, compute, wiring, budget));
        self.drivers
            .entry(endpoint.clone())
            .or_insert_with(|| make(&endpoint));
    }

    /// Looks at every compute that nobody looked at yet, and adopts those that run: they are suspended like any
    /// other. Cancel safe: looking goes on.
    pub async fn inspect_all(&self) {
        let look = |driver: Arc<Driver>| async move { driver.inspect().await };
        stream::iter(self.all())
            .for_each_concurrent(AT_ONCE_MAX, look)
            .await;
    }

    /// Asks for a lease: wakes the compute where it sleeps. The answer comes by `deadline`.
    pub fn lease(&self, endpoint: &EndpointName, _right: &WakeRight, deadline: Instant) -> Waiting {
        self.ask(endpoint, deadline, OWN)
    }

    /// The same for a client: where it causes a wake, that is one of those that it and its tenant may cause. One that does
    /// not count gets a lease on what is awake, waits with others for whom it is woken, and is refused otherwise.
    pub fn lease_for(&self, client: Client<'_>, endpoint: &EndpointName, deadline: Instant) -> Waiting {
        self.ask(endpoint, deadline, client.into())
    }

    /// For whoever asks for leases again and again. `None`: there is no such endpoint.
    pub fn door(&self, endpoint: &EndpointName) -> Option<Door> {
        self.driver(endpoint).map(Door)
    }

    /// Has the compute woken, and waits for nothing. Where its turn to be started has not come by `until`, it is not woken.
    ///
    /// # Errors
    ///
    /// Where it is known at once that it will not be.
    pub fn wake(&self, endpoint: &EndpointName, _right: &WakeRight, until: Instant) -> Result<(), WakeError> {
        self.ask(endpoint, until, OWN).detach(until)
    }

    /// The same for a client, which counts as in [`Wakes::lease_for`].
    ///
    /// # Errors
    ///
    /// As [`Wakes::wake`], and where it would be one wake too many.
    pub fn wake_for(
        &self,
        client: Client<'_>,
        endpoint: &EndpointName,
        until: Instant,
    ) -> Result<(), WakeError> {
        self.ask(endpoint, until, client.into()).detach(until)
    }

    fn ask(&self, endpoint: &EndpointName, deadline: Instant, client: budget::Client<'_>) -> Waiting {
        match self.driver(endpoint) {
            Some(driver) => driver.ask(deadline, client),
            None => Waiting::nowhere(WakeError::Removed(endpoint.clone())),
        }
    }

    /// What runs an endpoint's server.
    pub(crate) fn compute(&self, endpoint: &EndpointName) -> Option<Arc<dyn Compute>> {
        self.driver(endpoint).map(|driver| driver.compute())
    }

    /// Puts another policy in force for an endpoint.
    pub fn set_policy(&self, endpoint: &EndpointName, policy: Policy) {
        if let Some(driver) = self.driver(endpoint) {
            driver.set_policy(policy);
        }
    }

    /// An endpoint is gone: it grants nothing any more. What is to be done about those who hold leases is told by
    /// [`Leaving`].
    pub fn remove(&self, endpoint: &EndpointName) -> Option<Leaving> {
        let (_, driver) = self.drivers.remove(endpoint)?;
        driver.remove();
        Some(Leaving(driver))
    }

    /// Where the compute is reached if it takes logins now. No lease, no activity, wakes nothing.
    pub fn awake(&self, endpoint: &EndpointName) -> Option<(Address, Generation)> {
        self.driver(endpoint)?.awake()
    }

    /// A leaseholder could not connect at the address of `generation`. A compute that pgwake starts is taken for
    /// lost: its leases are told so, it is looked at, and the next lease wakes it unless it runs after all. A
    /// fixed server stays as it is.
    pub fn unreachable(&self, endpoint: &EndpointName, generation: Generation) {
        if let Some(driver) = self.driver(endpoint) {
            driver.unreachable(generation);
        }
    }

    /// The end: refuses leases from now on, those waiting included, and stops every compute that runs or is about
    /// to. Leases that are still out are told that it is over ([`LeaseSignal`]). Cancel safe: stopping goes on for those that
    /// it reached.
    pub async fn suspend_all(&self) {
        let drivers = self.all();
        for driver in &drivers {
            driver.close();
        }
        let stop = |driver: Arc<Driver>| async move { driver.stop().await };
        stream::iter(drivers).for_each_concurrent(AT_ONCE_MAX, stop).await;
    }

    /// How many computes could not be stopped, and may run on.
    pub fn left(&self) -> usize {
        self.all().iter().filter(|driver| driver.is_left()).count()
    }

    /// How an endpoint's compute stands; `None`: there is no such endpoint.
    pub fn figures(&self, endpoint: &EndpointName) -> Option<WakeFigures> {
        self.drivers.get(endpoint).map(|driver| driver.figures())
    }

    /// Refuses leases from now on, but those that are out or waited for; or grants them again. It holds until the next
    /// order; who gives it keeps it over a restart.
    pub fn set_admission(&self, endpoint: &EndpointName, admission: Admission) {
        if let Some(driver) = self.driver(endpoint) {
            driver.set_admission(admission);
        }
    }

    /// # Errors
    /// Clients may have no lease: an operator has said so.
    pub(crate) fn check_admission(&self, endpoint: &EndpointName) -> Result<(), WakeError> {
        let figures = self.figures(endpoint);
        match figures.is_some_and(|figures| figures.is_disabled) {
            true => Err(WakeError::Disabled {
                endpoint: endpoint.clone(),
            }),
            false => Ok(()),
        }
    }

    /// An operator wants it to be suspended now. Idle sessions that the policy lets be ended are, where nobody works.
    pub fn suspend(&self, endpoint: &EndpointName) -> SuspendOrder {
        let driver = self.driver(endpoint);
        driver.map_or(SuspendOrder::AsleepAlready, |driver| driver.suspend())
    }

    /// What is going on at an endpoint, for a client that waits: "compute is starting".
    pub fn phase(&self, endpoint: &EndpointName) -> &'static str {
        self.driver(endpoint)
            .map_or("the endpoint is gone", |driver| driver.phase())
    }

    /// How often a start was asked of the endpoint's compute.
    pub fn wakes_started(&self, endpoint: &EndpointName) -> u64 {
        self.driver(endpoint).map_or(0, |driver| driver.wakes_started())
    }

    fn driver(&self, endpoint: &EndpointName) -> Option<Arc<Driver>> {
        self.drivers.get(endpoint).map(|driver| driver.clone())
    }

    fn all(&self) -> Vec<Arc<Driver>> {
        self.drivers.iter().map(|entry| entry.value().clone()).collect()
    }
}

/// Where an endpoint's leases are given out; once it is gone there are none.
pub struct Door(Arc<Driver>);

impl Door {
    /// A lease for a client if the compute is awake and nobody stands before it; wakes nothing.
    pub fn lease_now(&self, client: Client<'_>) -> Option<AwakeLease> {
        self.0.lease_now(client.into())
    }
}

/// The compute of an endpoint that is gone.
#[must_use = "its compute is to be stopped"]
pub struct Leaving(Arc<Driver>);

impl Leaving {
    /// Waits until nobody holds a lease. Cancel safe.
    pub async fn unused(&self) {
        self.0.unused().await;
    }

    /// Stops the compute, and tells those who still hold leases that it is lost. Cancel safe: stopping goes on.
    pub async fn stop(&self) {
        self.0.clone().stop().await;
    }

    /// How it stands, and what it was.
    pub fn figures(&self) -> WakeFigures {
        self.0.figures()
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakes")
            .field("endpoints", &self.drivers.len())
            .finish_non_exhaustive()
    }
}
