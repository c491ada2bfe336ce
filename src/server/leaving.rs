//! Endpoints that the configuration has no more, while their last sessions end: those that are to have their place wait.
//!
//! A data directory has one owner, and an endpoint's name one running server. Who comes back, or comes under another name,
//! comes a little later, by a reload of its own; whatever else has changed holds at once.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

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
            .filter(|endpoint| !config.endpoints.contains(&endpoint.name));
        let taken: BTreeSet<_> = gone.chain(&here.endpoints).flat_map(|one| wanted(one)).collect();
        let new = config
            .endpoints
            .values()
            .filter(|endpoint| !old.endpoints.contains(&endpoint.name));
        let is_late = |endpoint: &&Arc<Endpoint>| wanted(endpoint).any(|place| taken.contains(&place));
        let late: BTreeSet<EndpointName> = new
            .filter(is_late)
            .map(|endpoint| endpoint.name.clone())
            .collect();
        let comes = |endpoint: &&Arc<Endpoint>| {
            let parent = endpoint.name.branch().map(|(parent, _)| parent);
            !late.contains(&endpoint.name) && !parent.is_some_and(|parent| late.contains(&parent))
        };
        config.endpoints = config.endpoints.values().filter(comes).cloned().collect();
        here.is_awaited |= !late.is_empty();
        late.into_iter().collect()
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

/// What only one at a time may have.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Wanted<'a> {
    /// The name of a local compute.
    Local(&'a EndpointName),
    /// The name of one that commands start.
    Commanded(&'a EndpointName),
    Data(&'a Path),
}

fn wanted(endpoint: &Endpoint) -> impl Iterator<Item = Wanted<'_>> {
    let name = &endpoint.name;
    let (name, data) = match &endpoint.compute {
        Compute::Process(process) => (Some(Wanted::Local(name)), Some(Wanted::Data(&process.data_dir))),
        Compute::Command(_) => (Some(Wanted::Commanded(name)), None),
        Compute::Fixed(_) | Compute::Controlled(_) => (None, None),
    };
    name.into_iter().chain(data)
}
