//! Reading one endpoint's roles: one reading at a time, shared by all who wait for it.
//!
//! ```text
//! nobody reads ──asked or suspected──▶ reading n ──ended, n+1 was not asked for──▶ nobody reads
//!                                         │  ▲
//!                                         └──┘ ended, n+1 was asked for meanwhile
//! ```
//!
//! What another server says that has taken the place of the endpoint's own is not kept (`server`).
//!
//! Who *asks* knows of a change, and gets a reading that begins after it. A login that failed only *suspects* one:
//! strangers can make those, so nobody ever waits for what they began. A reading runs in a task of its own and
//! outlives whoever asked. It does not decide what a role may do.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{self, Instant},
};
use tokio_util::task::TaskTracker;

use super::{
    ROLES_FRESH_FOR, ROLES_MAX, ReadRole, RoleSource,
    server::{DOUBTED_EVERY, KNOWN_FOR, OtherServer, Told},
};
use crate::ids::{EndpointName, Generation, SystemIdentifier};
use crate::store::{Remembered, Store, StoreError};

/// How long one reading may take: it is one query on a server that is awake, behind a login to it.
const READING_TIMEOUT: Duration = Duration::from_secs(5);

/// Most endpoints at once whose roles are read for the first time. When pgwake starts, all that run are to be read, and many
/// of them may be databases of one server: all at once would take every connection that it has.
pub(super) const FIRST_AT_ONCE: usize = 32;

/// How a reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// The roles are as they are in Postgres.
    Read,
    /// The compute sleeps: nothing was asked.
    NotAwake,
    /// It could not be read; what was known stands. The reason is for the operator.
    Failed(Arc<str>),
    /// Another server answers in the place of the endpoint's own; what was known stands.
    OtherServer(OtherServer),
    /// The endpoint's roles come from the configuration: nothing to read.
    Configured,
}

/// What was read of one endpoint, and the reading under way.
pub(super) struct Readings {
    endpoint: EndpointName,
    source: Arc<dyn RoleSource>,
    store: Arc<Store>,
    latest: ArcSwapOption<Latest>,
    other: ArcSwapOption<OtherServer>,
    /// That the server does not tell which one it is has been told.
    told_silent: AtomicBool,
    flight: Mutex<Flight>,
    ended: watch::Sender<(u64, Refreshed)>,
    /// Places for the first one, which all endpoints share.
    first: Arc<Semaphore>,
}

struct Latest {
    /// Ordered by name.
    roles: Arc<[ReadRole]>,
    /// Which server has told them.
    server: Option<SystemIdentifier>,
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
    /// When a server was last known to be the endpoint's own, and since which wake it was there.
    known: Option<(Generation, Instant)>,
    /// When that was last doubted.
    doubted: Option<(Generation, Instant)>,
}

impl Readings {
    pub(super) fn new(
        endpoint: EndpointName,
        source: Arc<dyn RoleSource>,
        store: Arc<Store>,
        first: Arc<Semaphore>,
    ) -> Self {
        Self {
            first,
            endpoint,
            source,
            store,
            latest: ArcSwapOption::empty(),
            other: ArcSwapOption::empty(),
            told_silent: AtomicBool::new(false),
            flight: Mutex::default(),
            ended: watch::Sender::new((0, Refreshed::NotAwake)),
        }
    }

    /// Takes over what the store remembers.
    pub(super) fn start_with(&self, remembered: Remembered) {
        self.set(Latest {
            roles: remembered.roles.into(),
            server: remembered.server,
            stored: true,
        });
    }

    /// What was last read, ordered by name; `None`: never.
    pub(super) fn latest(&self) -> Option<Arc<[ReadRole]>> {
        self.latest
            .load()
            .as_ref()
            .map(|latest| Arc::clone(&latest.roles))
    }

    /// The server that this is known from, if it has told which one it is.
    pub(super) fn server(&self) -> Option<SystemIdentifier> {
        self.latest.load().as_ref().and_then(|latest| latest.server)
    }

    /// The one that answers in its place.
    pub(super) fn other(&self) -> Option<OtherServer> {
        self.other.load().as_deref().copied()
    }

    /// Whichever server answers next is the right one; on disk when it returns.
    pub(super) async fn forget_server(&self) -> Result<(), StoreError> {
        self.other.store(None);
        if let Some(latest) = self.latest.load_full() {
            let (roles, stored) = (Arc::clone(&latest.roles), latest.stored);
            self.set(Latest {
                roles,
                server: None,
                stored,
            });
        }
        let (store, endpoint) = (Arc::clone(&self.store), self.endpoint.clone());
        let forgotten = spawn_blocking(move || store.forget_server(&endpoint)).await;
        forgotten.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
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

    /// For whoever is about to log in to the server that is there since the wake of this generation: the number of a reading
    /// that tells whether it is the right one. `None`: it was read a moment ago, or cannot be.
    pub(super) fn doubt(self: &Arc<Self>, generation: Generation, tasks: &TaskTracker) -> Option<u64> {
        let mut flight = self.flight();
        let lately = |mark: Option<(Generation, Instant)>, within: Duration| {
            mark.is_some_and(|(of, at)| of == generation && at.elapsed() < within)
        };
        if lately(flight.known, KNOWN_FOR) {
            return None;
        }
        if !flight.running {
            if lately(flight.doubted, DOUBTED_EVERY) {
                return None;
            }
            flight.doubted = Some((generation, Instant::now()));
            self.begin(&mut flight, tasks);
        }
        Some(flight.begun)
    }

    /// The server has gone, as far as somebody saw.
    pub(super) fn lost_sight(&self) {
        self.flight().known = None;
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
            let is_first = self.flight().begun == 1;
            let reading = AssertUnwindSafe(self.read_in_turn(is_first)).catch_unwind();
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

    async fn read_in_turn(&self, is_first: bool) -> Refreshed {
        let place = match is_first {
            true => self.first.acquire().await.map(Some),
            false => Ok(None),
        };
        match place {
            Ok(_place) => self.read().await,
            // pgwake is ending.
            Err(_closed) => Refreshed::NotAwake,
        }
    }

    async fn read(&self) -> Refreshed {
        let reading = time::timeout(READING_TIMEOUT, self.source.read(&self.endpoint));
        match reading.await {
            Err(_) => failed("the server took too long to answer"),
            Ok(None) => Refreshed::NotAwake,
            Ok(Some(Err(reason))) => failed(&reason),
            Ok(Some(Ok(told))) => match told.judge(self.server()) {
                Err(other) => self.meet(other),
                Ok(()) if told.roles.len() > ROLES_MAX => {
                    let number = told.roles.len();
                    failed(&format!("it has {number} roles, more than {ROLES_MAX}"))
                }
                Ok(()) => self.keep(told).await,
            },
        }
    }

    /// Nothing that it has told is believed.
    fn meet(&self, other: OtherServer) -> Refreshed {
        self.flight().known = None;
        let before = self.other.swap(Some(Arc::new(other)));
        if before.as_deref() != Some(&other) {
            self.source.met(&self.endpoint, other);
        }
        Refreshed::OtherServer(other)
    }

    /// Knows the roles from now on, and writes them down where they have changed.
    async fn keep(&self, mut told: Told) -> Refreshed {
        if told.is_silent() && !self.told_silent.swap(true, Ordering::Relaxed) {
            tracing::warn!(endpoint = %self.endpoint,
                "the server does not tell which one it is (GRANT EXECUTE ON FUNCTION pg_control_system() to the role that \
                 reads roles): another one in its place would not be noticed");
        }
        self.other.store(None);
        self.flight().known = Some((told.generation, Instant::now()));
        told.roles
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        // One that does not tell is taken for the one that did.
        let server = told.server.or_else(|| self.server());
        let same = |latest: &Latest| latest.stored && *latest.roles == *told.roles && latest.server == server;
        if self.latest.load().as_ref().is_some_and(|latest| same(latest)) {
            return Refreshed::Read;
        }
        let roles: Arc<[ReadRole]> = told.roles.into();
        let latest = |stored| Latest {
            roles: Arc::clone(&roles),
            server,
            stored,
        };
        self.set(latest(false));
        let (store, endpoint, written) = (Arc::clone(&self.store), self.endpoint.clone(), Arc::clone(&roles));
        let writing = spawn_blocking(move || store.remember_roles(&endpoint, &written, server));
        match writing.await {
            Ok(Ok(())) => self.set(latest(true)),
            Ok(Err(error)) => tracing::warn!(endpoint = %self.endpoint, %error, "roles are not remembered"),
            Err(error) => tracing::warn!(endpoint = %self.endpoint, %error, "roles are not remembered"),
        }
        Refreshed::Read
    }

    fn set(&self, latest: Latest) {
        self.latest.store(Some(Arc::new(latest)));
    }

    /// Tells all who wait, and the operator where the outcome is not the one of last time.
    fn tell(&self, number: u64, outcome: Refreshed) {
        if self.ended.borrow().1 != outcome {
            match &outcome {
                Refreshed::Failed(reason) => {
                    tracing::warn!(endpoint = %self.endpoint, %reason, "roles cannot be read from Postgres");
                }
                Refreshed::OtherServer(OtherServer { expected, found }) => {
                    tracing::error!(endpoint = %self.endpoint, %expected, %found,
                        "another server answers at this endpoint's address: its roles are not believed, and clients are \
                         refused. If its own was replaced on purpose, set compute.system_identifier to the number that \
                         was found, or order forget-server");
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
