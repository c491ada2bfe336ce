//! Endpoints that the configuration has no more, while their last sessions end: those that are to have their place wait.
//!
//! A data directory has one owner, and an endpoint's name one running server. Who comes back, or comes under another name,
//! comes a little later, by a reload of its own; whatever else has changed holds at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Reloader;
use crate::config::{Compute, Config, Endpoint};
use crate::ids::EndpointName;
use crate::shutdown::Phase;

/// Those that are on their way out.
#[derive(Clone)]
pub(super) struct Leaving {
    here: Arc<Mutex<Here>>,
    reloader: Weak<Reloader>,
}

#[derive(Default)]
struct Here {
    endpoints: Vec<Arc<Endpoint>>,
    /// Somebody waits for one of them.
    is_awaited: bool,
}

/// One of them.
pub(super) struct Place {
    endpoint: Arc<Endpoint>,
    leaving: Leaving,
}

impl Leaving {
    pub(super) fn new(reloader: Weak<Reloader>) -> Self {
        Self {
            here: Arc::default(),
            reloader,
        }
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is on its way out from now on.
    pub(super) fn enter(&self, endpoint: Arc<Endpoint>) -> Place {
        self.here().endpoints.push(endpoint.clone());
        Place {
            endpoint,
            leaving: self.clone(),
        }
    }

    /// Takes the endpoints out of `config` that are new to `old` and cannot come yet, with their branches: the configuration
    /// is read again when they can.
    pub(super) fn put_off(&self, old: &Config, config: &mut Config) -> Vec<EndpointName> {
        let mut here = self.here();
        let gone = old
            .endpoints
            .values()
            .filter(|endpoint| !config.endpoints.contains_key(&endpoint.name));
        let gone: Vec<_> = gone.chain(&here.endpoints).cloned().collect();
        let new = config
            .endpoints
            .values()
            .filter(|endpoint| !old.endpoints.contains_key(&endpoint.name));
        let is_late = |endpoint: &&Arc<Endpoint>| gone.iter().any(|gone| is_in_the_way(gone, endpoint));
        let late: Vec<EndpointName> = new
            .filter(is_late)
            .map(|endpoint| endpoint.name.clone())
            .collect();
        config.endpoints.retain(|name, _| {
            let parent = name.branch().map(|(parent, _)| parent);
            !late.contains(name) && !parent.is_some_and(|parent| late.contains(&parent))
        });
        here.is_awaited |= !late.is_empty();
        late
    }
}

impl Place {
    /// It has left: who has waited may come.
    pub(super) fn left(self) {
        let mut here = self.leaving.here();
        here.endpoints
            .retain(|endpoint| !Arc::ptr_eq(endpoint, &self.endpoint));
        if !std::mem::take(&mut here.is_awaited) {
            return;
        }
        let reloader = self.leaving.reloader.upgrade();
        if let Some(reloader) = reloader.filter(|one| one.house.shutdown.phase() == Phase::Running) {
            // What came of it is logged there.
            tokio::spawn(async move { reloader.reload().await });
        }
    }
}

fn is_in_the_way(gone: &Endpoint, new: &Endpoint) -> bool {
    match (&gone.compute, &new.compute) {
        (Compute::Process(before), Compute::Process(after)) => {
            gone.name == new.name || before.data_dir == after.data_dir
        }
        (Compute::Command(_), Compute::Command(_)) => gone.name == new.name,
        _ => false,
    }
}
