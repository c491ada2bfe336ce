//! What runs upwards in this house: wake's events to the roles' readings, the role book's questions to the
//! address of an awake compute.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use tokio::{join, sync::watch};

use super::woken::Woken;
use crate::auth::{OtherServer, RoleBook, RoleSource, Told};
use crate::compute::Address;
use crate::config::{Compute, Config, Endpoint, Endpoints, RolesFrom};
use crate::ids::{EndpointName, Generation};
use crate::journal::{Event, Journal, WakeState};
use crate::metrics::{Metrics, WakeResult, Whose};
use crate::pool::{Doubts, OwnLogin, read_roles};
use crate::session::{House, Poolings, roster::Roster};
use crate::tls::SocketSettings;
use crate::wake::{Veto, WakeEvent, WakeId, WakeWatcher, Wakes};

/// Both ends.
struct Ends {
    roles: Arc<RoleBook>,
    wakes: Wakes,
    pooling: Arc<Poolings>,
    changes: watch::Sender<u64>,
    roster: Roster,
}

/// Who counts, and who remembers.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) metrics: Arc<Metrics>,
    pub(super) journal: Arc<Journal>,
    pub(super) woken: Arc<Woken>,
}

/// Knows both sides; each side knows only its own trait.
pub(super) struct Wiring {
    endpoints: ArcSwap<Endpoints>,
    sockets: SocketSettings,
    watched: Watched,
    ends: ArcSwapOption<Ends>,
}

impl Wiring {
    pub(super) fn new(config: &Config, sockets: SocketSettings, watched: Watched) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(config.endpoints.clone()),
            sockets,
            watched,
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
            changes: house.changes.clone(),
            roster: house.roster.clone(),
        })));
        Connected(self)
    }

    /// These are the endpoints from now on.
    pub(super) fn replace(&self, endpoints: Endpoints) {
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Computes elsewhere that were woken.
    pub(super) fn woken(&self) -> &Arc<Woken> {
        &self.watched.woken
    }

    /// It is awake, or about to be. Those on this machine are found by themselves, and so are those that a file names.
    fn note_awake(&self, name: &EndpointName) {
        let endpoint = self.endpoint(name);
        if endpoint.is_some_and(|endpoint| matches!(endpoint.compute, Compute::Controlled(_))) {
            self.watched.woken.awake(name);
        }
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

/// How a wake has ended.
struct Ended {
    state: WakeState,
    took: Duration,
    phases: Vec<(&'static str, Duration)>,
    reason: String,
}

impl Ended {
    /// Without a server.
    fn without(state: WakeState, took: Duration, reason: String) -> Self {
        Self {
            state,
            took,
            phases: Vec::new(),
            reason,
        }
    }
}

impl WakeWatcher for Wiring {
    fn ready(&self, endpoint: &EndpointName, _: &Address, _: Generation) {
        self.note_awake(endpoint);
        if let (Some(ends), Some(endpoint)) = (self.ends.load_full(), self.endpoint(endpoint)) {
            ends.roles.changed(&endpoint);
        }
    }

    fn signalled(&self, endpoint: &EndpointName) {
        if let Some(ends) = self.ends.load_full() {
            ends.roster.ring_at(endpoint);
        }
    }

    fn happened(&self, name: &EndpointName, event: WakeEvent) {
        let Watched {
            metrics,
            journal,
            woken,
        } = &self.watched;
        match event {
            WakeEvent::Woken { .. } => self.note_awake(name),
            WakeEvent::Suspended { .. } | WakeEvent::Died { .. } => woken.asleep(name),
            WakeEvent::Ready { .. }
            | WakeEvent::Failed { .. }
            | WakeEvent::GivenUp { .. }
            | WakeEvent::NotSuspended { .. } => (),
        }
        let tenant = self.endpoint(name).map(|endpoint| endpoint.tenant.to_string());
        let whose = Whose {
            tenant: tenant.as_deref().unwrap_or_default(),
            endpoint: name.as_str(),
        };
        let ended = |wake: WakeId, result, line: Ended| {
            metrics.wake_ended(whose, result, line.took);
            journal.wake_ended(&wake.to_string(), name, |found| {
                (found.state, found.took) = (line.state, line.took);
                (found.phases, found.reason) = (line.phases, line.reason);
            });
        };
        let at = SystemTime::now();
        match event {
            WakeEvent::Woken { wake } => journal.wake_began(wake.to_string(), name),
            WakeEvent::Ready { wake, took, phases } => {
                let line = Ended {
                    state: WakeState::Ready,
                    took,
                    phases,
                    reason: String::new(),
                };
                ended(wake, WakeResult::Ready, line);
            }
            WakeEvent::Failed { wake, took, reason } => {
                let line = Ended::without(WakeState::Failed, took, reason);
                ended(wake, WakeResult::Failed, line);
            }
            WakeEvent::GivenUp { wake, took, reason } => {
                let line = Ended::without(WakeState::GivenUp, took, reason);
                ended(wake, WakeResult::GivenUp, line);
            }
            WakeEvent::Suspended { took, awake } => {
                metrics.suspended(whose);
                let endpoint = name.clone();
                journal.tell(Event::Suspend {
                    endpoint,
                    at,
                    awake,
                    took,
                });
            }
            WakeEvent::NotSuspended { took, reason } => {
                metrics.not_suspended(whose);
                let endpoint = name.clone();
                journal.tell(Event::NotSuspended {
                    endpoint,
                    at,
                    took,
                    reason,
                });
            }
            WakeEvent::Died { reason } => {
                let endpoint = name.clone();
                journal.tell(Event::Died { endpoint, at, reason });
            }
        }
    }

    fn before_suspend(&self, endpoint: &EndpointName, _: &Address) -> BoxFuture<'static, ()> {
        let (Some(ends), Some(endpoint)) = (self.ends.load_full(), self.endpoint(endpoint)) else {
            return Box::pin(std::future::ready(()));
        };
        let refreshed = Self::refresh(ends.roles.clone(), endpoint.clone());
        let pooling = ends.pooling.get(&endpoint.name);
        Box::pin(async move {
            // At once: this is not waited for as long as roles may take to be read, and what is open looks like clients.
            let closed = async {
                if let Some(pooling) = pooling {
                    pooling.pool.close_idle().await;
                }
            };
            join!(refreshed, closed);
        })
    }

    fn veto(
        &self,
        endpoint: &EndpointName,
        address: &Address,
        own: Vec<i32>,
    ) -> BoxFuture<'static, Option<Veto>> {
        let Some(endpoint) = self.endpoint(endpoint) else {
            return Box::pin(std::future::ready(None));
        };
        let Some(ends) = self.ends.load_full() else {
            return Box::pin(std::future::ready(None));
        };
        if ends.roles.other_server(&endpoint.name).is_some() {
            // What goes on there is not this endpoint's.
            return Box::pin(std::future::ready(None));
        }
        let (address, sockets) = (address.clone(), self.sockets.clone());
        Box::pin(async move {
            let login = own_login(&ends.roles, &endpoint, &address);
            let doubts = Doubts {
                asked: &endpoint.suspend_veto,
                own: &own,
                ignored: &endpoint.idle_ignore,
            };
            match doubts.ask(&address, &login, &sockets).await {
                Ok(found) => found.map(|(kind, reason)| Veto {
                    kind: Some(kind),
                    reason: reason.into(),
                }),
                Err(error) => {
                    tracing::warn!(endpoint = %endpoint.name, %error, "cannot ask whether it may be suspended");
                    Some(Veto::unanswered())
                }
            }
        })
    }
}

impl RoleSource for Wiring {
    fn read(&self, endpoint: &EndpointName) -> BoxFuture<'_, Option<Result<Told, String>>> {
        let name = endpoint.clone();
        Box::pin(async move {
            let ends = self.ends.load_full()?;
            let endpoint = self.endpoint(&name)?;
            if endpoint.roles_from == RolesFrom::Config {
                return None;
            }
            let (address, generation) = ends.wakes.awake(&name)?;
            let login = own_login(&ends.roles, &endpoint, &address);
            let told = read_roles(&address, &login, &self.sockets).await;
            let told = told.map(|told| Told {
                roles: told.roles,
                server: told.server,
                expected: endpoint.expects(&address.server, &address.tls),
                generation,
            });
            Some(told.map_err(|error| error.to_string()))
        })
    }

    /// Sessions with it end. Whoever starts the compute is asked anew where it is: it may have moved.
    fn met(&self, name: &EndpointName, other: OtherServer) {
        let OtherServer { expected, found } = other;
        let (endpoint, at) = (name.clone(), SystemTime::now());
        self.watched.journal.tell(Event::OtherServer {
            endpoint,
            at,
            expected,
            found,
        });
        let Some(ends) = self.ends.load_full() else {
            return;
        };
        if let Some(pooling) = ends.pooling.get(name) {
            pooling.distrust();
        }
        ends.changes.send_modify(|number| *number += 1);
        if let Some((_, generation)) = ends.wakes.awake(name) {
            ends.wakes.unreachable(name, generation);
        }
    }
}

/// pgwake's own login to an endpoint's server, and what that is known to have for it.
fn own_login(roles: &RoleBook, endpoint: &Endpoint, address: &Address) -> OwnLogin {
    let expected = endpoint.expects(&address.server, &address.tls);
    OwnLogin {
        reading: endpoint.own_login(),
        verifier: roles.own_verifier(endpoint, expected),
    }
}
