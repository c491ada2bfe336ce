//! What operators look through: their doors, what is measured for them, and who has series of his own.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::interval};

use super::{Reloader, StartError, cannot, predecessor::Predecessor, wiring::Watched, woken::Woken};
use crate::admin::{Admin, Averages, Doors, Reload, Reloaded, Standing, View};
use crate::config::Config;
use crate::listener::{Bound, BoundAddress, Workers};
use crate::metrics::{self, Metrics};
use crate::session::{Console, House};
use crate::shutdown::Phase;
use crate::store::{Store, StoreError, control};
use crate::storm::Repeated;
use crate::succession::Place;

/// How often what is measured is summed up.
const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// Where operators come in.
pub(super) fn doors(
    config: &Config,
    predecessor: &mut Option<Predecessor>,
) -> Result<(Option<Console>, Doors), StartError> {
    let mut inherited = |place: Place| predecessor.as_mut().and_then(|before| before.socket(&place));
    let commands = inherited(Place::Commands);
    let bind = |address: SocketAddr| {
        let bound = Admin::bind(address, inherited(Place::Operators(address)));
        let bound = bound.map_err(cannot(&format!("listen on {address} for operators")));
        bound.map(|bound| (address, bound))
    };
    let http = config.admin.address.map(bind).transpose()?;
    let (console, visits) = Console::new(&config.admin).unzip();
    let control = match commands {
        Some(socket) => Some(socket.into()),
        None => control(&config.state_dir),
    };
    Ok((
        console,
        Doors {
            http,
            control,
            visits,
        },
    ))
}

/// Where commands come in. pgwake serves its clients without it, too.
fn control(state_dir: &Path) -> Option<UnixListener> {
    let bound = control::listen(state_dir);
    let refused = |error: &io::Error| tracing::warn!(%error, "no socket for commands in state_dir");
    bound.inspect_err(refused).ok()
}

/// What they see. Called on the runtime that reloads run on.
pub(super) fn view(
    house: &Arc<House>,
    workers: &Arc<Workers>,
    reloader: &Arc<Reloader>,
    (store, bound): (Arc<Store>, &[Bound]),
) -> Arc<View> {
    let workers = workers.clone();
    Arc::new(View {
        house: house.clone(),
        config: reloader.config().clone(),
        reload: reload(reloader.clone()),
        standing: Standing::new(store),
        address: bound.iter().find_map(|bound| match bound.address() {
            BoundAddress::Tcp(address) => Some(*address),
            BoundAddress::Unix(_) => None,
        }),
        clients: Box::new(move || workers.clients()),
        averages: Averages::default(),
        is_open: AtomicBool::new(false),
        drain_ordered: Notify::new(),
    })
}

/// On pgwake's own runtime: what a reload begins goes on when operators' thread has ended.
fn reload(reloader: Arc<Reloader>) -> Reload {
    let runtime = Handle::current();
    Box::new(move || {
        let reloader = reloader.clone();
        let reloading = runtime.spawn(async move { reloader.reload().await });
        Box::pin(async move {
            let done = reloading.await.map_err(|error| error.to_string())?;
            let changes = done.map_err(|error| error.to_string())?;
            Ok(Reloaded {
                changes: changes.to_string(),
                needs_restart: changes.needs_restart,
            })
        })
    })
}

/// What is measured is summed up now and then, or it would pile up where nobody collects it. Ends with the drain.
pub(super) async fn sum_up(house: Arc<House>) {
    let mut shutdown = house.shutdown.clone();
    let mut ticks = interval(SUM_UP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                house.metrics.sum_up();
                house.storms.over().iter().for_each(Repeated::tell);
            }
            () = shutdown.reached(Phase::Draining) => return,
        }
    }
}

/// Who counts, and who remembers.
pub(super) fn watched(config: &Config, store: &Arc<Store>) -> Result<Watched, StoreError> {
    Ok(Watched {
        metrics: Arc::new(Metrics::new(metrics_labels(config))),
        journal: Arc::default(),
        woken: Woken::load(store)?,
    })
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
