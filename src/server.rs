//! Builds all parts, wires them to one another, binds ports, drains: the only place that does.
//!
//! It holds no logic of the path itself. `cli` and the tests call it.

mod limits;
mod roles;
mod wiring;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{interval, timeout},
};
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Doors, View};
use crate::audit::Audit;
use crate::auth::{Proofs, RoleBook};
use crate::cancel::Cancels;
use crate::compute::process::{Creation, Places, ProcessCompute, sockets};
use crate::compute::{Compute, ComputeError, fixed::FixedCompute};
use crate::config::{self, Config, Endpoint};
use crate::ids::EndpointName;
use crate::listener::{BindError, Bound, BoundAddress, Workers, accept_all, bind};
use crate::metrics::{self, Metrics};
use crate::session::{Console, House, Pooling, roster::Roster};
use crate::shutdown::{Phase, Shutdown};
use crate::store::{Store, StoreError};
use crate::tenant::{directory::Directory, gate::Gate};
use crate::tls::{AskClients, CertificateStore, SocketSettings, TlsError, Watching};
use crate::wake::{Policy, Wakes};
use wiring::{Connected, Watched, Wiring};

pub use limits::raise_file_limit;

/// After `drain_timeout` every session is told to end; how long they may take for that.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(3);

/// How often what is measured is summed up.
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

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

/// A pgwake that serves.
pub struct Server {
    addresses: Vec<BoundAddress>,
    house: Arc<House>,
    workers: Arc<Workers>,
    shutdown: Shutdown,
    tasks: TaskTracker,
    view: Arc<View>,
    admin: Option<Admin>,
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
        let audit = Audit::begin(&config.audit).map_err(|error| StartError::System {
            what: "cannot begin the audit log".into(),
            error,
        })?;
        let certificates = CertificateStore::load_and_ask(&config.certificates, ask_clients(&config))?;
        let watching = certificates.watch()?;
        let store = Arc::new(Store::open(&config.state_dir)?);
        let (shutdown, watch) = Shutdown::new();
        let tasks = TaskTracker::new();
        let sockets = SocketSettings::from(&config.limits);
        let watched = watched(&config);
        let wiring = Arc::new(Wiring::new(&config, sockets, tasks.clone(), watched.clone()));
        let roles = Arc::new(RoleBook::load(store, wiring.clone(), config.endpoints.keys())?);
        let wakes = Wakes::new(Handle::current(), tasks.clone(), wiring.clone());
        add_computes(&config, &wakes)?;
        let bound = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let (console, doors) = doors(&config)?;
        let house = Arc::new(House {
            pooling: pooling(&config, &tasks),
            directory: Directory::new(&config),
            gate: Arc::new(Gate::new(config.gate.clone())),
            audit,
            certificates,
            proofs: Proofs::new(&config, roles.clone())?,
            roles,
            wakes,
            cancels: Cancels::new(sockets),
            sockets,
            limits: config.limits.clone(),
            console,
            roster: Roster::default(),
            metrics: watched.metrics,
            journal: watched.journal,
            shutdown: watch,
        });
        let connected = wiring.connect(&house);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::start(workers)
            .map(Arc::new)
            .map_err(|error| StartError::System {
                what: "cannot start threads".into(),
                error,
            })?;
        let view = view(&house, &workers, config);
        let mut server = Self {
            addresses: bound.iter().map(|bound| bound.address().clone()).collect(),
            house,
            workers,
            shutdown,
            tasks,
            view,
            admin: None,
            _certificates: watching,
            _connected: connected,
        };
        let admin = Admin::start(doors, server.view.clone());
        server.admin = Some(admin.map_err(|error| StartError::System {
            what: "cannot start the thread for operators".into(),
            error,
        })?);
        server.house.wakes.inspect_all().await;
        server.open(bound);
        server.view.opened();
        Ok(server)
    }

    fn open(&self, bound: Vec<Bound>) {
        for bound in bound {
            let (house, workers) = (self.house.clone(), self.workers.clone());
            let shutdown = self.house.shutdown.clone();
            self.tasks.spawn(accept_all(bound, house, workers, shutdown));
        }
        self.house.proofs.begin();
        self.tasks.spawn(roles::learn_all(self.house.clone()));
        self.tasks.spawn(sum_up(self.house.clone()));
    }

    /// Where clients come in, in the order of the configuration, with the ports that the system chose.
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// Where operators look, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// Waits until an operator wants it to drain. Cancel safe.
    pub async fn drain_ordered(&self) {
        self.view.drain_ordered.notified().await;
    }

    /// The parts, for whoever looks from outside.
    pub fn house(&self) -> &House {
        &self.house
    }

    /// How many clients are being served.
    pub fn clients(&self) -> usize {
        self.workers.clients()
    }

    /// Ends without a client losing a transaction that ends in time: accepts nobody, tells idle clients goodbye,
    /// lets transactions finish within `drain_timeout`, then stops the computes. Returns when nothing is left.
    pub async fn drain(&self) {
        self.shutdown.advance(Phase::Draining);
        if timeout(self.house.limits.drain_timeout, self.workers.drained())
            .await
            .is_err()
        {
            tracing::warn!(
                clients = self.clients(),
                "drain_timeout is over: remaining sessions are ended"
            );
        }
        self.stop().await;
    }

    /// Ends every session at once, then stops the computes. A drain that is under way comes to its end, too.
    pub async fn stop(&self) {
        self.shutdown.advance(Phase::Stopping);
        if timeout(STOPPING_TIMEOUT, self.workers.drained()).await.is_err() {
            tracing::warn!(clients = self.clients(), "sessions did not end in time");
        }
        self.house.wakes.suspend_all().await;
        // Those of computes that stay, too: nothing of pgwake's goes on looking after them.
        join_all(
            self.house
                .pooling
                .values()
                .map(|pooling| pooling.pool.close_idle()),
        )
        .await;
        self.tasks.close();
        self.tasks.wait().await;
        self.house.roles.drain().await;
        self.house.proofs.drain().await;
        // Last: until here operators see how far the end has come.
        if let Some(admin) = &self.admin {
            admin.stop().await;
        }
        // A disk that takes nothing does not keep pgwake from its end.
        let _ = timeout(STOPPING_TIMEOUT, self.house.audit.flush()).await;
    }
}

/// Where operators come in.
fn doors(config: &Config) -> Result<(Option<Console>, Doors), StartError> {
    let bind = |address: SocketAddr| {
        Admin::bind(address).map_err(|error| StartError::System {
            what: format!("cannot listen on {address} for operators"),
            error,
        })
    };
    let http = config.admin.address.map(bind).transpose()?;
    let (console, visits) = Console::new(&config.admin).unzip();
    Ok((console, Doors { http, visits }))
}

fn view(house: &Arc<House>, workers: &Arc<Workers>, config: Config) -> Arc<View> {
    let workers = workers.clone();
    Arc::new(View {
        house: house.clone(),
        config,
        clients: Box::new(move || workers.clients()),
        is_open: AtomicBool::new(false),
        drain_ordered: Notify::new(),
    })
}

/// What is measured is summed up now and then, or it would pile up where nobody collects it. Ends with the drain.
async fn sum_up(house: Arc<House>) {
    let mut shutdown = house.shutdown.clone();
    let mut ticks = interval(SUM_UP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => house.metrics.sum_up(),
            () = shutdown.reached(Phase::Draining) => return,
        }
    }
}

/// Whether every local compute could be started: its user, its folders, its programs. Starts nothing.
///
/// # Errors
/// [`StartError::Compute`] about the first that could not, with what to do.
pub fn check_computes(config: &Config) -> Result<(), StartError> {
    let places = places(config);
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

fn pooling(config: &Config, tasks: &TaskTracker) -> HashMap<EndpointName, Arc<Pooling>> {
    let of = |endpoint: &Arc<Endpoint>| {
        let pooling = Pooling::new(&endpoint.pool, tasks.clone());
        (endpoint.name.clone(), Arc::new(pooling))
    };
    config.endpoints.values().map(of).collect()
}

fn watched(config: &Config) -> Watched {
    Watched {
        metrics: Arc::new(Metrics::new(metrics_labels(config))),
        journal: Arc::default(),
    }
}

/// Who has series of his own among metrics.
fn metrics_labels(config: &Config) -> metrics::Labels {
    let per = config.admin.metrics_per;
    let endpoints = config.endpoints.values();
    let names: BTreeSet<String> = match per {
        metrics::Per::Process => BTreeSet::new(),
        metrics::Per::Tenant => endpoints.map(|endpoint| endpoint.tenant.to_string()).collect(),
        metrics::Per::Endpoint => endpoints.map(|endpoint| endpoint.name.to_string()).collect(),
    };
    let named = names.into_iter().take(config.admin.metrics_names_max).collect();
    metrics::Labels { per, named }
}

/// One endpoint that needs certificates has all clients asked, or strangers could tell which it is.
fn ask_clients(config: &Config) -> AskClients {
    let mut endpoints = config.endpoints.values();
    match endpoints.any(|endpoint| endpoint.client_certificates.is_some()) {
        true => AskClients::Always,
        false => AskClients::Never,
    }
}

fn places(config: &Config) -> Places {
    Places {
        socket_base: sockets::choose_base(config.socket_dir.as_deref(), &config.state_dir),
        log_dir: config.state_dir.join("log"),
    }
}

fn add_computes(config: &Config, wakes: &Wakes) -> Result<(), StartError> {
    let places = places(config);
    for endpoint in config.endpoints.values() {
        let policy = Policy {
            suspend_after: endpoint.suspend_after,
            suspend_idle_sessions: endpoint.suspend_idle_sessions,
            start_timeout: endpoint.start_timeout,
        };
        wakes.add(endpoint.name.clone(), policy, compute(endpoint, &places)?);
    }
    Ok(())
}

fn compute(endpoint: &Endpoint, places: &Places) -> Result<Arc<dyn Compute>, StartError> {
    let process = match &endpoint.compute {
        config::Compute::Fixed(fixed) => return Ok(Arc::new(FixedCompute::new(fixed))),
        config::Compute::Process(process) => process,
    };
    let compute = process_compute(endpoint, process, places)?;
    if let Err(error) = compute.check() {
        // The others are served all the same, and it may be mended before this one is woken.
        tracing::warn!(endpoint = %endpoint.name, reason = error.reason, "could not be started now");
    }
    Ok(Arc::new(compute))
}

fn process_compute(
    endpoint: &Endpoint,
    process: &config::ProcessCompute,
    places: &Places,
) -> Result<ProcessCompute, StartError> {
    let roles = endpoint
        .roles
        .iter()
        .map(|(name, role)| (name.clone(), role.verifier.clone()));
    let creation = Creation {
        roles: roles.collect(),
    };
    let name = endpoint.name.clone();
    ProcessCompute::new(
        name.clone(),
        process,
        creation,
        places.clone(),
        endpoint.stop_timeout,
    )
    .map_err(|error| StartError::Compute {
        endpoint: name,
        error,
    })
}
