//! What runs upwards in this house: wake's events to the roles' readings, the role book's questions to the
//! address of an awake compute.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use crate::auth::{ReadRole, RoleBook, RoleSource};
use crate::compute::Address;
use crate::config::{Config, Endpoint, RolesFrom};
use crate::ids::{EndpointName, Generation};
use crate::pool::read_roles;
use crate::session::{House, Poolings};
use crate::tls::SocketSettings;
use crate::wake::{WakeWatcher, Wakes};

/// Both ends.
struct Ends {
    roles: Arc<RoleBook>,
    wakes: Wakes,
    pooling: Arc<Poolings>,
}

/// Knows both sides; each side knows only its own trait.
pub(super) struct Wiring {
    endpoints: ArcSwap<BTreeMap<EndpointName, Arc<Endpoint>>>,
    sockets: SocketSettings,
    tasks: TaskTracker,
    ends: ArcSwapOption<Ends>,
}

impl Wiring {
    pub(super) fn new(config: &Config, sockets: SocketSettings, tasks: TaskTracker) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(config.endpoints.clone()),
            sockets,
            tasks,
            ends: ArcSwapOption::empty(),
        }
    }

    /// Joins both ends for as long as what is returned lives. They hold this in their turn: without an end to it
    /// nothing of them would ever be dropped.
    pub(super) fn connect(self: Arc<Self>, house: &House) -> Connected {
        self.ends.store(Some(Arc::new(Ends {
            roles: house.roles.clone(),
            wakes: house.wakes.clone(),
            pooling: house.pooling.clone(),
        })));
        Connected(self)
    }

    /// These are the endpoints from now on.
    pub(super) fn replace(&self, endpoints: BTreeMap<EndpointName, Arc<Endpoint>>) {
        self.endpoints.store(Arc::new(endpoints));
    }

    fn endpoint(&self, name: &EndpointName) -> Option<Arc<Endpoint>> {
        self.endpoints.load().get(name).cloned()
    }

    async fn refresh(roles: Arc<RoleBook>, endpoint: Arc<Endpoint>) {
        roles.refresh(&endpoint).await;
    }
}

/// Both ends are joined.
pub(super) struct Connected(Arc<Wiring>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.ends.store(None);
    }
}

impl WakeWatcher for Wiring {
    fn ready(&self, endpoint: &EndpointName, _: &Address, _: Generation) {
        if let (Some(ends), Some(endpoint)) = (self.ends.load_full(), self.endpoint(endpoint)) {
            self.tasks
                .spawn(Self::refresh(ends.roles.clone(), endpoint.clone()));
        }
    }

    fn before_suspend(&self, endpoint: &EndpointName, _: &Address) -> BoxFuture<'static, ()> {
        let (Some(ends), Some(endpoint)) = (self.ends.load_full(), self.endpoint(endpoint)) else {
            return Box::pin(std::future::ready(()));
        };
        let refreshed = Self::refresh(ends.roles.clone(), endpoint.clone());
        let pooling = ends.pooling.get(&endpoint.name);
        Box::pin(async move {
            refreshed.await;
            if let Some(pooling) = pooling {
                pooling.pool.close_idle().await;
            }
        })
    }
}

impl RoleSource for Wiring {
    fn read(&self, endpoint: &EndpointName) -> BoxFuture<'_, Option<Result<Vec<ReadRole>, String>>> {
        let name = endpoint.clone();
        Box::pin(async move {
            let wakes = self.ends.load_full()?.wakes.clone();
            let endpoint = self.endpoint(&name)?;
            let RolesFrom::Postgres(reading) = &endpoint.roles_from else {
                return None;
            };
            let (address, _) = wakes.awake(&name)?;
            let roles = read_roles(&address, reading, &self.sockets).await;
            Some(roles.map_err(|error| error.to_string()))
        })
    }
}
