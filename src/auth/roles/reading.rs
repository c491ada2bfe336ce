//! Reading one endpoint's roles: one reading at a time, shared by all who wait for it.
//!
//! ```text
//! nobody reads ──asked or suspected──▶ reading n ──ended, n+1 was not asked for──▶ nobody reads
//!                                         │  ▲
//!                                         └──┘ ended, n+1 was asked for meanwhile
//! ```
//!
//! Who *asks* knows of a change, and gets a reading that begins after it. A login that failed only *suspects* one:
//! strangers can make those, so nobody ever waits for what they began. A reading runs in a task of its own and
//! outlives whoever asked. It does not decide what a role may do.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::{ROLES_FRESH_FOR, ROLES_MAX, ReadRole, RoleSource};
use crate::ids::EndpointName;
use crate::store::Store;

/// How long one reading may take: it is one query on a server that is awake, behind a login to it.
const READING_TIMEOUT: Duration = Duration::from_secs(5);

/// How a reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// The roles are as they are in Postgres.
    Read,
    /// The compute sleeps: nothing was asked.
    NotAwake,
    /// It could not be read; what was known stands. The reason is for the operator.
    Failed(Arc<str>),
    /// The endpoint's roles come from the configuration: nothing to read.
    Configured,
}

/// What was read of one endpoint, and the reading under way.
pub(super) struct Readings {
    endpoint: EndpointName,
    source: Arc<dyn RoleSource>,
    store: Arc<Store>,
    latest: ArcSwapOption<Latest>,
    flight: Mutex<Flight>,
    ended: watch::Sender<(u64, Refreshed)>,
}

struct Latest {
    /// Ordered by name.
    roles: Arc<[ReadRole]>,
    /// Whether the store has them, too.
    stored: bool,
}

#[derive(Default)]
struct Flight {
    running: bool,
    /// Number of the last reading that began.
    begun: u64,
    /// Number of the last reading that was asked for: at most the one after `begun`.
    asked: u64,
    ended_at: Option<Instant>,
}

impl Readings {
    pub(super) fn new(endpoint: EndpointName, source: Arc<dyn RoleSource>, store: Arc<Store>) -> Self {
        Self {
            endpoint,
            source,
            store,
            latest: ArcSwapOption::empty(),
            flight: Mutex::default(),
            ended: watch::Sender::new((0, Refreshed::NotAwake)),
        }
    }

    /// Takes over what the store remembers.
    pub(super) fn start_with(&self, roles: Vec<ReadRole>) {
        self.set(roles.into(), true);
    }

    /// What was last read, ordered by name; `None`: never.
    pub(super) fn latest(&self) -> Option<Arc<[ReadRole]>> {
        self.latest
            .load()
            .as_ref()
            .map(|latest| Arc::clone(&latest.roles))
    }

    /// For whoever knows that something has changed: the number of a reading that begins now or later.
    pub(super) fn ask(self: &Arc<Self>, tasks: &TaskTracker) -> u64 {
        let mut flight = self.flight();
        flight.asked = flight.begun + 1;
        if !flight.running {
            self.begin(&mut flight, tasks);
        }
        flight.asked
    }

    /// For a login that failed: begins a reading, unless one is under way or ended a moment ago.
    pub(super) fn suspect(self: &Arc<Self>, tasks: &TaskTracker) {
        let mut flight = self.flight();
        let recent = |at: Instant| at.elapsed() < ROLES_FRESH_FOR;
        if !flight.running && !flight.ended_at.is_some_and(recent) {
            self.begin(&mut flight, tasks);
        }
    }

    /// The number of the last reading that was asked for, unless it has ended.
    pub(super) fn asked(&self) -> Option<u64> {
        let flight = self.flight();
        let ended = flight.begun - u64::from(flight.running);
        (flight.asked > ended).then_some(flight.asked)
    }

    fn begin(self: &Arc<Self>, flight: &mut Flight, tasks: &TaskTracker) {
        flight.running = true;
        flight.begun += 1;
        tasks.spawn(Arc::clone(self).run());
    }

    /// Waits for the end of this reading. Cancel safe.
    pub(super) async fn ended(&self, number: u64) -> Refreshed {
        let mut ended = self.ended.subscribe();
        let found = ended.wait_for(|(last, _)| *last >= number).await;
        found.expect("the sender lives as long as self").1.clone()
    }

    /// Reads until no further reading is asked for. Not cancel safe: it would count as running for ever.
    async fn run(self: Arc<Self>) {
        loop {
            let reading = AssertUnwindSafe(self.read()).catch_unwind();
            let outcome = reading.await.unwrap_or_else(|_| failed("reading them panicked"));
            let mut flight = self.flight();
            let number = flight.begun;
            let goes_on = flight.asked > number;
            flight.ended_at = Some(Instant::now());
            flight.running = goes_on;
            flight.begun += u64::from(goes_on);
            drop(flight);
            self.tell(number, outcome);
            if !goes_on {
                return;
            }
        }
    }

    async fn read(&self) -> Refreshed {
        let reading = time::timeout(READING_TIMEOUT, self.source.read(&self.endpoint));
        match reading.await {
            Err(_) => failed("the server took too long to answer"),
            Ok(None) => Refreshed::NotAwake,
            Ok(Some(Err(reason))) => failed(&reason),
            Ok(Some(Ok(roles))) if roles.len() > ROLES_MAX => {
                failed(&format!("it has {} roles, more than {ROLES_MAX}", roles.len()))
            }
            Ok(Some(Ok(roles))) => self.keep(roles).await,
        }
    }

    /// Knows the roles from now on, and writes them down where they have changed.
    async fn keep(&self, mut roles: Vec<ReadRole>) -> Refreshed {
        roles.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let same = |latest: &Latest| latest.stored && *latest.roles == *roles;
        if self.latest.load().as_ref().is_some_and(|latest| same(latest)) {
            return Refreshed::Read;
        }
        let roles: Arc<[ReadRole]> = roles.into();
        self.set(Arc::clone(&roles), false);
        let (store, endpoint, written) = (Arc::clone(&self.store), self.endpoint.clone(), Arc::clone(&roles));
        let writing = spawn_blocking(move || store.remember_roles(&endpoint, &written));
        match writing.await {
            Ok(Ok(())) => self.set(roles, true),
            Ok(Err(error)) => tracing::warn!(endpoint = %self.endpoint, %error, "roles are not remembered"),
            Err(error) => tracing::warn!(endpoint = %self.endpoint, %error, "roles are not remembered"),
        }
        Refreshed::Read
    }

    fn set(&self, roles: Arc<[ReadRole]>, stored: bool) {
        self.latest.store(Some(Arc::new(Latest { roles, stored })));
    }

    /// Tells all who wait, and the operator where the outcome is not the one of last time.
    fn tell(&self, number: u64, outcome: Refreshed) {
        if self.ended.borrow().1 != outcome {
            match &outcome {
                Refreshed::Failed(reason) => {
                    tracing::warn!(endpoint = %self.endpoint, %reason, "roles cannot be read from Postgres");
                }
                outcome => tracing::debug!(endpoint = %self.endpoint, ?outcome, "roles were read"),
            }
        }
        self.ended.send_replace((number, outcome));
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Nothing is done under the lock that could leave it half changed.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(reason: &str) -> Refreshed {
    Refreshed::Failed(reason.into())
}
