//! Branches of endpoints: which there are, how one is made, reset, kept and removed.
//!
//! A branch is an endpoint of its own, `PARENT--NAME`, whose data directory is a copy of its parent's; everything else is
//! its parent's, now and after each reload. Which branches there are is in `state_dir`, the copies are beside their
//! parent's data directory.
//!
//! ```text
//!  nothing ──create──▶ making ──copied, on the disk, renamed──▶ ready ──delete, ttl──▶ leaving ──▶ nothing
//!                        │ failed, crashed                        ▲ │
//!                        ▼                                        └─┘ reset: copied beside it, then exchanged
//!                     nothing
//! ```
//!
//! Each step is in the store before it begins and after it is done: a crash in the middle of *making* leaves nothing, one
//! in *leaving* is gone on with. One turn per branch: whoever wants the same one meanwhile waits for it and finds what
//! came of it, so that to ask twice does no harm.
//!
//! It makes no endpoint reachable itself: [`Serving`] does, which `server` is. Files are `compute`'s affair. Who calls:
//! `admin` for operators, `session` for a client that has proved who it is, `server` at the beginning and the end.

mod backup;
mod error;
mod limits;
mod making;
mod removing;
mod upkeep;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Mutex as Turn, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore},
};
use tokio_util::task::TaskTracker;

use crate::auth::WakeRight;
use crate::config::{Config, Endpoint};
use crate::ids::{BranchName, EndpointName};
use crate::shutdown::ShutdownWatch;
pub use crate::store::BranchRecord;
use crate::store::{BranchState, Store, StoreError};
use crate::tls::SocketSettings;
use crate::wake::Wakes;
pub use error::BranchError;

/// Most copies at the same time: more of them only make each slower.
const COPIES_AT_ONCE: usize = 4;

/// What a plain copy is expected to do before one was measured, in bytes per second: a slow disk.
const BYTES_PER_SECOND: u64 = 100 * 1024 * 1024;

/// Makes branches reachable: the rest of the house.
pub trait Serving: Send + Sync + 'static {
    /// What holds now, branches among its endpoints.
    fn config(&self) -> Arc<Config>;

    /// A branch is whole: it is an endpoint from now on.
    fn serve(self: Arc<Self>, branch: BranchRecord) -> BoxFuture<'static, Result<(), String>>;

    /// It is none any more: its sessions are ended, and nothing of its compute runs when this is over.
    fn withdraw(self: Arc<Self>, branch: EndpointName) -> BoxFuture<'static, ()>;

    /// Removes what a branch has on the disk beside its data, which nobody uses any more. Blocking.
    fn clear_away(&self, branch: &EndpointName);

    /// Ends its sessions; others may come.
    fn end_sessions(&self, branch: &EndpointName);

    /// Whether anybody uses it: here, or by way of the pgwake whose place this one took.
    fn has_sessions(&self, branch: &EndpointName) -> bool;

    /// What was known of its roles is old: the store has others. Blocking.
    fn forget_roles(&self, branch: &EndpointName);
}

/// Who wants a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// An operator: whatever the parent's `on_connect` says.
    Operator,
    /// A client that has proved who it is, by connecting to it.
    Client,
}

/// A branch that is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Of this endpoint.
    pub parent: EndpointName,
    /// By this name.
    pub branch: BranchName,
    /// It is removed when nobody uses it for so long.
    pub ttl: Option<Duration>,
    /// How long it may take.
    pub within: Duration,
    /// By whom.
    pub who: Who,
    /// For a lease on a parent that runs.
    pub right: WakeRight,
}

/// Nothing is done to any branch as long as this lives.
#[derive(Debug)]
pub struct Still(#[expect(dead_code, reason = "held for its end")] OwnedRwLockWriteGuard<()>);

/// The turn of one branch.
struct BranchTurn {
    _turn: OwnedMutexGuard<()>,
    _among: OwnedRwLockReadGuard<()>,
}

/// All branches.
pub struct Branches {
    store: Arc<Store>,
    wakes: Wakes,
    sockets: SocketSettings,
    /// What has begun goes on there, whoever's thread it was wanted on.
    runtime: Handle,
    tasks: TaskTracker,
    shutdown: ShutdownWatch,
    serving: OnceLock<Weak<dyn Serving>>,
    records: Mutex<BTreeMap<EndpointName, BranchRecord>>,
    turns: Mutex<HashMap<EndpointName, Arc<Turn<()>>>>,
    /// Shared by all who have a turn; alone, there is none.
    stillness: Arc<RwLock<()>>,
    copies: Semaphore,
    promises: limits::Promises,
    /// What plain copies have done lately, in bytes per second.
    speed: AtomicU64,
}

impl Branches {
    /// Those that the store knows. Blocking; what is to be done later runs on the present runtime.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn load(
        store: Arc<Store>,
        wakes: Wakes,
        sockets: SocketSettings,
        tasks: TaskTracker,
        shutdown: ShutdownWatch,
    ) -> Result<Arc<Self>, StoreError> {
        let records = store.branches()?.into_iter();
        Ok(Arc::new(Self {
            records: Mutex::new(records.map(|record| (record.name.clone(), record)).collect()),
            store,
            wakes,
            sockets,
            runtime: Handle::current(),
            tasks,
            shutdown,
            serving: OnceLock::new(),
            turns: Mutex::default(),
            stillness: Arc::default(),
            copies: Semaphore::new(COPIES_AT_ONCE),
            promises: limits::Promises::default(),
            speed: AtomicU64::new(BYTES_PER_SECOND),
        }))
    }

    /// This is who makes them reachable; it holds them in its turn.
    pub fn connect(&self, serving: Weak<dyn Serving>) {
        let _ = self.serving.set(serving);
    }

    /// Adds the branches to the endpoints of a configuration that was read, and says which cannot be served.
    pub fn extend(&self, config: &mut Config) {
        let mut unserved: BTreeMap<EndpointName, Vec<BranchName>> = BTreeMap::new();
        for record in self
            .records()
            .values()
            .filter(|record| record.state == BranchState::Ready)
        {
            let Some((parent, own)) = record.name.branch() else {
                continue;
            };
            let parents = config.endpoints.get(&parent);
            let branch =
                parents.and_then(|parent| parent.branch(record.name.clone(), record.data_dir.clone()));
            match branch {
                Some(branch) => config.endpoints.insert(Arc::new(branch)),
                None => unserved.entry(parent).or_default().push(own),
            }
        }
        for (parent, branches) in unserved {
            let names: Vec<&str> = branches.iter().take(10).map(BranchName::as_str).collect();
            tracing::warn!(endpoint = %parent, branches = branches.len(), names = names.join(", "),
                "the configuration has no such local endpoint, and its branches are not served: their data stays until \
                 the endpoint is back or `pgwake branch delete` removes them");
        }
    }

    /// All that are whole, by name.
    pub fn list(&self) -> Vec<BranchRecord> {
        let records = self.records();
        let ready = records
            .values()
            .filter(|record| record.state == BranchState::Ready);
        ready.cloned().collect()
    }

    /// One that is whole.
    pub fn find(&self, name: &EndpointName) -> Option<BranchRecord> {
        self.records()
            .get(name)
            .filter(|record| record.state == BranchState::Ready)
            .cloned()
    }

    /// Somebody uses it.
    pub fn note_use(&self, endpoint: &Endpoint) {
        if let Some(record) = self.records().get_mut(&endpoint.name) {
            record.used = SystemTime::now();
        }
    }

    fn serving(&self) -> Result<Arc<dyn Serving>, BranchError> {
        let serving = self.serving.get().and_then(Weak::upgrade);
        serving.ok_or(BranchError::ShuttingDown)
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<EndpointName, BranchRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of one branch. Cancel safe.
    async fn turn(&self, name: &EndpointName) -> BranchTurn {
        let among = self.stillness.clone().read_owned().await;
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(name.clone()).or_default().clone()
        };
        BranchTurn {
            _turn: turn.lock_owned().await,
            _among: among,
        }
    }

    /// Waits until no branch is being made, reset or removed; none is as long as what is returned lives. Cancel safe.
    pub async fn still(&self) -> Still {
        Still(self.stillness.clone().write_owned().await)
    }

    /// In the store first, then here.
    async fn put(&self, record: BranchRecord) -> Result<(), BranchError> {
        let (store, kept) = (self.store.clone(), record.clone());
        let kept = tokio::task::spawn_blocking(move || store.put_branch(&kept)).await;
        kept.map_err(|_| BranchError::ShuttingDown)?
            .map_err(|error| BranchError::of_store(&record.name, &error))?;
        self.records().insert(record.name.clone(), record);
        Ok(())
    }

    /// Of the store and of here.
    async fn forget(&self, name: &EndpointName) -> Result<(), BranchError> {
        let (store, forgotten) = (self.store.clone(), name.clone());
        let done = tokio::task::spawn_blocking(move || store.forget_branch(&forgotten)).await;
        done.map_err(|_| BranchError::ShuttingDown)?
            .map_err(|error| BranchError::of_store(name, &error))?;
        self.records().remove(name);
        Ok(())
    }
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branches").finish_non_exhaustive()
    }
}
