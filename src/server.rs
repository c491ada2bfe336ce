//! Builds all parts, wires them to one another, binds ports, drains: the only place that does.
//!
//! It holds no logic of the path itself. `cli` and the tests call it.

mod branching;
mod changes;
mod controlling;
mod ending;
mod endpoints;
mod following;
mod leaving;
mod limits;
mod operators;
mod predecessor;
mod reading;
mod reload;
mod roles;
mod standing;
mod successor;
mod supervision;
mod wiring;
mod woken;

use std::{io, net::SocketAddr, path::Path, sync::Arc, thread, time::Duration};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Doors, View};
use crate::audit::Audit;
use crate::auth::{Proofs, RoleBook};
use crate::cancel::Cancels;
use crate::compute::ComputeError;
use crate::config::{self, Config};
use crate::ids::EndpointName;
use crate::listener::{BindError, Bound, BoundAddress, Signals, Workers, accept_all};
use crate::session::{House, roster::Roster};
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreError};
use crate::storm::Storms;
use crate::supervisor::Supervisor;
use crate::tenant::{directory::Directory, gate::Gate, quota::Quotas};
use crate::tls::{CertificateStore, SocketSettings, TlsError, Watching};
use crate::wake::Wakes;
use branching::branches;
use endpoints::{Means, add_computes, ask_clients, places, poolings, process_compute};
use following::Following;
use operators::{doors, sum_up, view, watched};
use predecessor::{Elder, Predecessor, bound};
use successor::{Succession, sockets_of};
use supervision::Supervision;
use wiring::{Connected, Wiring};

pub use changes::Changes;
pub use limits::raise_file_limit;
pub use predecessor::ReplaceError;
pub use reload::{ReloadError, Reloader};
pub use successor::Program;

/// How long clients are kept out so that all computes may be looked at.
const LOOKING_TIMEOUT: Duration = Duration::from_secs(10);

/// Why pgwake does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Another pgwake has this place, and does not leave it.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// A compute that cannot be served.
    #[error("endpoint {endpoint}: {error}{}", error.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
    Compute {
        /// Whose.
        endpoint: EndpointName,
        /// Why.
        error: ComputeError,
    },
    /// Threads or folders.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Whether another pgwake may serve the same folder.
enum Before {
    /// Then this one does not start.
    Nobody,
    /// Then this one takes its place.
    Perhaps,
}

impl Before {
    async fn ask(&self, config: &Config) -> Result<Option<Predecessor>, ReplaceError> {
        match self {
            Self::Nobody => Ok(None),
            Self::Perhaps => Predecessor::ask(&config.state_dir).await,
        }
    }

    async fn open(&self, config: &Config) -> Result<Store, StoreError> {
        match self {
            Self::Nobody => Store::open(&config.state_dir),
            Self::Perhaps => Predecessor::open_after(&config.state_dir).await,
        }
    }
}

/// What the system says, about what was tried.
fn cannot(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = format!("cannot {what}");
    move |error| StartError::System { what, error }
}

/// One thread of clients for each core.
fn workers() -> Result<Arc<Workers>, StartError> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    Ok(Arc::new(Workers::start(count).map_err(cannot("start threads"))?))
}

/// A pgwake that serves.
pub struct Server {
    addresses: Vec<BoundAddress>,
    house: Arc<House>,
    workers: Arc<Workers>,
    shutdown: Shutdown,
    tasks: TaskTracker,
    reloader: Arc<Reloader>,
    _following: Option<Following>,
    succession: Arc<Succession>,
    /// The pgwake whose place this one took, while that has clients.
    elder: Elder,
    view: Arc<View>,
    admin: Option<Arc<Admin>>,
    _certificates: Watching,
    _connected: Connected,
}

impl Server {
    /// Builds everything and begins to accept. Runs on the current runtime, which must be multi-threaded or
    /// be driven on; clients have threads of their own.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::begin(config, Before::Nobody).await
    }

    /// The same in the place of the pgwake that serves the same `state_dir`, if one does: its listening sockets and its
    /// running computes are taken over, and it serves its own clients to their end.
    ///
    /// # Errors
    /// [`StartError`]; whoever served before goes on.
    pub async fn replace(config: Config) -> Result<Self, StartError> {
        Self::begin(config, Before::Perhaps).await
    }

    async fn begin(mut config: Config, before: Before) -> Result<Self, StartError> {
        let audit = Audit::begin(&config.audit).map_err(cannot("begin the audit log"))?;
        let certificates = CertificateStore::load_and_ask(&config.certificates, ask_clients(&config))?;
        let watching = certificates.watch()?;
        let mut predecessor = before.ask(&config).await?;
        let store = Arc::new(before.open(&config).await?);
        let (shutdown, watch_end) = Shutdown::new();
        let (tasks, storms) = (TaskTracker::new(), Arc::<Storms>::default());
        let sockets = SocketSettings::from(&config.limits);
        let watched = watched(&config, &store)?;
        let wiring = Arc::new(Wiring::new(&config, sockets.clone(), watched.clone()));
        let wakes = Wakes::new(Handle::current(), tasks.clone(), wiring.clone());
        let control_plane = controlling::book(&config, &tasks, &watched, &storms)?;
        let quotas = Quotas::new(&config);
        let means = Means::new(&config, &store, tasks.clone(), control_plane.as_ref());
        wakes.set_limits(&config.limits);
        let branches = branches(&store, (&mut config, &wiring), &wakes, &tasks, &watch_end)?;
        let names = config.endpoints.names();
        let roles = Arc::new(RoleBook::load(store.clone(), wiring.clone(), names)?);
        add_computes(&config, &wakes, &quotas, &means)?;
        let bound = bound(&config, &mut predecessor)?;
        let (console, doors) = doors(&config, &mut predecessor)?;
        let house = Arc::new(House {
            pooling: Arc::new(poolings(&config, &tasks)),
            directory: Directory::new(&config),
            gate: Arc::new(Gate::new(config.gate.clone())),
            quotas,
            audit,
            certificates,
            proofs: ArcSwap::from_pointee(Proofs::new(&config, roles.clone())?),
            changes: watch::Sender::new(0),
            roles,
            branches,
            control_plane,
            wakes,
            cancels: Cancels::new(sockets.clone(), storms.clone()),
            sockets,
            limits: ArcSwap::from_pointee(config.limits.clone()),
            console,
            roster: Roster::default(),
            metrics: watched.metrics,
            journal: watched.journal,
            storms,
            shutdown: watch_end,
        });
        standing::put_in_force(&store, config.endpoints.names(), &house.wakes, &house.pooling)?;
        let connected = wiring.clone().connect(&house);
        let reloader = Reloader::new(house.clone(), wiring, means, store.clone(), config);
        let workers = workers()?;
        let view = view(&house, &workers, &reloader, (store.clone(), &bound));
        let kept = sockets_of(&bound, &doors)?;
        let succession = Succession::new((house.clone(), reloader.clone(), store), kept);
        let mut server = Self {
            addresses: bound.iter().map(|bound| bound.address().clone()).collect(),
            house,
            workers,
            shutdown,
            tasks,
            reloader,
            _following: None,
            succession,
            elder: Elder::default(),
            view,
            admin: None,
            _certificates: watching,
            _connected: connected,
        };
        server.come_in(doors, bound, predecessor).await?;
        Ok(server)
    }

    /// All is made: operators are let in, then clients.
    async fn come_in(
        &mut self,
        doors: Doors,
        mut bound: Vec<Bound>,
        predecessor: Option<Predecessor>,
    ) -> Result<(), StartError> {
        let own = bound.iter().filter_map(|bound| bound.address().tcp());
        self.house.sockets.own.set(own.collect());
        let admin = Admin::start(doors, self.view.clone());
        self.admin = Some(Arc::new(admin.map_err(cannot("start the thread for operators"))?));
        if let Some(predecessor) = predecessor {
            self.elder = predecessor.take_over(&self.house).await?;
            bound.iter_mut().for_each(Bound::own);
        }
        self.look_at_computes().await;
        self.open(bound)?;
        self.view.opened();
        self.succession.attend(self.admin.clone());
        Ok(())
    }

    /// Who runs already should be known before a client asks; who does not answer keeps nobody from coming in.
    async fn look_at_computes(&self) {
        let wakes = self.house.wakes.clone();
        let looking = self.tasks.spawn(async move { wakes.inspect_all().await });
        if timeout(LOOKING_TIMEOUT, looking).await.is_err() {
            tracing::warn!("not all computes could be looked at yet; looking goes on");
        }
    }

    fn open(&self, bound: Vec<Bound>) -> Result<(), StartError> {
        let (roster, shutdown) = (self.house.roster.clone(), self.house.shutdown.clone());
        self.tasks
            .spawn(roster.ring(shutdown, self.house.changes.subscribe()));
        for bound in bound {
            let (house, workers) = (self.house.clone(), self.workers.clone());
            let signals = Signals {
                shutdown: self.house.shutdown.clone(),
                accepting: self.succession.accepting(),
            };
            accept_all(bound, house, (workers, &self.tasks), signals).map_err(cannot("accept clients"))?;
        }
        self.house.proofs.load().begin();
        let learning = roles::learn_all(self.house.clone(), self.reloader.learning.clone());
        self.tasks.spawn(learning);
        self.tasks.spawn(sum_up(self.house.clone()));
        self.tasks.spawn(self.house.branches.clone().keep());
        if let Some(book) = &self.house.control_plane {
            let (woken, shutdown) = (self.reloader.wiring.woken(), self.house.shutdown.clone());
            self.tasks.spawn(book.clone().follow(shutdown.clone()));
            self.tasks.spawn(woken.clone().keep(shutdown));
            self.tasks
                .spawn(woken.clone().look_after(self.house.clone(), book.clone()));
        }
        Ok(())
    }

    /// Reads the configuration again whenever its files change, from now on; it was read from `file`.
    ///
    /// # Errors
    /// What the system says where it does not let folders be watched. [`Server::reload`] works all the same.
    pub fn follow(&mut self, file: &Path) -> io::Result<()> {
        self.reloader.set_file(file);
        self._following = Some(Following::begin(self.reloader.clone())?);
        Ok(())
    }

    /// Clients may come: tells the supervisor so, and from now on how pgwake is.
    pub fn report_to(&self, supervisor: Arc<Supervisor>) {
        self.reloader.report_to(&supervisor);
        let supervision = Supervision::begin(supervisor, &self.house, &self.workers);
        self.succession.supervised(supervision);
    }

    /// Reads the configuration again and puts it in force: all of it, or nothing. What came of it is logged.
    ///
    /// # Errors
    /// [`ReloadError`]: everything is as it was.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        self.reloader.reload().await
    }

    /// What reads the configuration again, for whoever else may ask for it.
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Where clients come in, in the order of the configuration, with the ports that the system chose.
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// Where operators look, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.address())
    }

    /// Waits until an operator wants it to drain. Cancel safe.
    pub async fn drain_ordered(&self) {
        self.view.drain_ordered.notified().await;
    }

    /// Waits until another pgwake has taken this one's place; its process is returned. Cancel safe.
    pub async fn replaced(&self) -> u32 {
        self.succession.replaced().await
    }

    /// By this program a successor is started, when a command asks for it.
    pub fn succeeded_by(&self, program: Program) {
        self.succession.set_program(program);
    }

    /// The parts, for whoever looks from outside.
    pub fn house(&self) -> &House {
        &self.house
    }

    /// How many clients are being served.
    pub fn clients(&self) -> usize {
        self.workers.clients()
    }
}

/// Whether every local compute could be started: its user, its folders, its programs. Starts nothing, and has `state_dir`
/// for itself meanwhile.
///
/// # Errors
/// [`StartError::Compute`] about the first that could not, with what to do; [`StartError::Store`].
pub fn check_computes(config: &Config) -> Result<(), StartError> {
    let store = Arc::new(Store::open(&config.state_dir)?);
    let places = places(config, &store);
    for endpoint in config.endpoints.values() {
        if let config::Compute::Process(process) = &endpoint.compute {
            let checked = process_compute(endpoint, process, &places)?.check();
            checked.map_err(|error| StartError::Compute {
                endpoint: endpoint.name.clone(),
                error,
            })?;
        }
    }
    Ok(())
}
