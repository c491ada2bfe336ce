//! What an endpoint of the configuration becomes: its compute, and how that wakes and sleeps.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::StartError;
use crate::compute::process::{Creation, Places, ProcessCompute, sockets};
use crate::compute::{
    Compute, ComputeError,
    command::{CommandCompute, Commands},
    controlled::ControlledCompute,
    fixed::FixedCompute,
};
use crate::config::{self, Config, Endpoint};
use crate::control_plane::{Book, Client};
use crate::session::{Pooling, Poolings};
use crate::store::Store;
use crate::tenant::quota::Quotas;
use crate::tls::AskClients;
use crate::wake::{Policy, Wakes};

/// How an endpoint's compute wakes and sleeps.
pub(super) fn policy(endpoint: &Endpoint) -> Policy {
    Policy {
        suspend_after: endpoint.suspend_after,
        suspend_idle_sessions: endpoint.suspend_idle_sessions,
        asks_veto: !endpoint.suspend_veto.is_empty(),
        awake_min: endpoint.awake_min,
        start_timeout: endpoint.start_timeout,
        logins_at_once: endpoint.pool.connects_at_once,
    }
}

/// One endpoint that needs certificates has all clients asked, or strangers could tell which it is.
pub(super) fn ask_clients(config: &Config) -> AskClients {
    let mut endpoints = config.endpoints.values();
    match endpoints.any(|endpoint| endpoint.client_certificates.is_some()) {
        true => AskClients::Always,
        false => AskClients::Never,
    }
}

pub(super) fn places(config: &Config, store: &Arc<Store>) -> Places {
    Places {
        socket_base: sockets::choose_base(config.socket_dir.as_deref(), &config.state_dir),
        log_dir: config.state_dir.join("log"),
        store: store.clone(),
    }
}

/// What computes are made with, from the first configuration to the last: what it comes from needs a restart to change.
pub(super) struct Means {
    /// Looks after what goes on behind anybody's back.
    pub(super) tasks: TaskTracker,
    pub(super) places: Places,
    commands: Commands,
    /// Asks for the wakes of its computes, where there is one.
    control_plane: Option<Arc<Client>>,
}

impl Means {
    pub(super) fn new(
        config: &Config,
        store: &Arc<Store>,
        tasks: TaskTracker,
        control_plane: Option<&Arc<Book>>,
    ) -> Self {
        let folder = config.state_dir.join("commands");
        Self {
            commands: Commands::new(config.limits.commands_at_once, tasks.clone(), folder),
            places: places(config, store),
            tasks,
            control_plane: control_plane.map(|book| book.client().clone()),
        }
    }
}

pub(super) fn add_computes(
    config: &Config,
    wakes: &Wakes,
    quotas: &Quotas,
    means: &Means,
) -> Result<(), StartError> {
    for endpoint in config.endpoints.values() {
        let (name, budget) = (endpoint.name.clone(), quotas.wake_budget(endpoint));
        wakes.add_within(name, policy(endpoint), compute(endpoint, means)?, budget);
    }
    Ok(())
}

/// What pools each endpoint's server sessions.
pub(super) fn poolings(config: &Config, tasks: &TaskTracker) -> Poolings {
    let pooling = |endpoint: &Arc<Endpoint>| {
        let pooling = Pooling::new(&endpoint.pool, tasks.clone());
        (endpoint.name.clone(), Arc::new(pooling))
    };
    config.endpoints.values().map(pooling).collect()
}

pub(super) fn compute(endpoint: &Endpoint, means: &Means) -> Result<Arc<dyn Compute>, StartError> {
    let (compute, checked): (Arc<dyn Compute>, _) = match &endpoint.compute {
        config::Compute::Fixed(fixed) => (Arc::new(FixedCompute::new(fixed)), Ok(())),
        config::Compute::Process(process) => {
            let compute = process_compute(endpoint, process, &means.places)?;
            let checked = compute.check();
            (Arc::new(compute), checked)
        }
        config::Compute::Command(command) => {
            let compute = CommandCompute::new(endpoint, command, means.commands.clone());
            let compute = compute.map_err(|error| failed(endpoint, error))?;
            let checked = compute.check();
            (Arc::new(compute), checked)
        }
        config::Compute::Controlled(controlled) => {
            let client = means.control_plane.clone();
            let client = client.ok_or_else(|| {
                let reason = "there is no [control_plane] to ask";
                failed(endpoint, ComputeError::new(reason))
            })?;
            let compute = ControlledCompute::new(&endpoint.name, controlled, client);
            (Arc::new(compute), Ok(()))
        }
    };
    if let Err(error) = checked {
        // The others are served all the same, and it may be mended before this one is woken.
        let ComputeError { reason, detail, .. } = error;
        tracing::warn!(endpoint = %endpoint.name, reason, detail, "could not be started now");
    }
    Ok(compute)
}

pub(super) fn process_compute(
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
    ProcessCompute::new(
        endpoint.name.clone(),
        process,
        creation,
        places.clone(),
        endpoint.stop_timeout,
    )
    .map_err(|error| failed(endpoint, error))
}

fn failed(endpoint: &Endpoint, error: ComputeError) -> StartError {
    let endpoint = endpoint.name.clone();
    StartError::Compute { endpoint, error }
}
