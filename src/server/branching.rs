//! Branches as endpoints: they are put in force and taken away as by a reload of the configuration, one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Reloader, StartError, endpoints::compute, reading::blocking, wiring::Wiring};
use crate::admin::read_counted;
use crate::branches::{BranchRecord, Branches, Serving};
use crate::compute::process::clear_away;
use crate::config::{Config, Endpoint};
use crate::ids::EndpointName;
use crate::session::House;
use crate::shutdown::ShutdownWatch;
use crate::store::{StandingOrders, Store};
use crate::tls::SocketSettings;
use crate::wake::Wakes;

/// How long sessions of a branch that is removed may take to end.
const LEAVING_MAX: Duration = Duration::from_secs(3);

/// What is remembered of endpoints that are gone is looked for when there is one for so many that are there.
const GONE_PART: usize = 64;

/// Those that the store knows, as endpoints of `config`.
pub(super) fn branches(
    store: &Arc<Store>,
    (config, wiring): (&mut Config, &Wiring),
    wakes: &Wakes,
    tasks: &TaskTracker,
    shutdown: &ShutdownWatch,
) -> Result<Arc<Branches>, StartError> {
    let sockets = SocketSettings::from(&config.limits);
    let branches = Branches::load(
        store.clone(),
        wakes.clone(),
        sockets,
        tasks.clone(),
        shutdown.clone(),
    )?;
    branches.extend(config);
    wiring.replace(config.endpoints.clone());
    Ok(branches)
}

impl Reloader {
    async fn serve_branch(&self, branch: BranchRecord) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        if holds.endpoints.contains(&branch.name) {
            // A reload has been faster.
            return Ok(());
        }
        let gone = || "its parent is not in the configuration any more".to_owned();
        let (parent, _) = branch.name.branch().ok_or_else(gone)?;
        let parent = holds.endpoints.get(&parent).ok_or_else(gone)?;
        let endpoint = parent.branch(branch.name.clone(), branch.data_dir);
        let endpoint = Arc::new(endpoint.ok_or_else(gone)?);
        let (house, made, means) = (self.house.clone(), endpoint.clone(), self.means.clone());
        let prepared = blocking(move || {
            house.roles.remember(&made.name)?;
            compute(&made, &means)
        });
        let compute = prepared.await.map_err(|error| error.to_string())?;
        self.begin((endpoint.clone(), compute, StandingOrders::default()));
        self.put(endpoint);
        self.learn_roles();
        Ok(())
    }

    async fn withdraw_branch(&self, name: &EndpointName) {
        let endpoint = {
            let _turn = self.turn.lock().await;
            let endpoint = self.holds.load().endpoints.get(name).cloned();
            self.take_out(name);
            endpoint
        };
        // Nobody comes in any more; who is here reads why.
        self.house.changes.send_modify(|number| *number += 1);
        Serving::end_sessions(self, name);
        let parting = self.house.metrics.parting(name.as_str());
        let pooling = self.house.pooling.remove(name);
        if let Some(leaving) = self.house.wakes.remove(name) {
            let _ = timeout(LEAVING_MAX, leaving.unused()).await;
            if let Some(pooling) = &pooling {
                pooling.pool.close_idle().await;
            }
            leaving.stop().await;
            if let Some(endpoint) = endpoint {
                let last = read_counted(&endpoint, Some(leaving.figures()), pooling.as_deref());
                self.house.metrics.parted(parting, &last);
            }
        }
        self.house.roles.forget(name);
        self.gone.one_more(&self.house, &self.holds.load());
    }

    /// Everything that names endpoints knows this one from now on, and the others as before. Whoever calls has the turn.
    pub(super) fn put(&self, endpoint: Arc<Endpoint>) {
        let mut config = (*self.holds.load_full()).clone();
        config.endpoints.insert(endpoint.clone());
        self.house.quotas.set_rules_of(&endpoint, &config.endpoints);
        self.name(config);
    }

    /// Nothing that names endpoints knows one of this name from now on. Whoever calls has the turn.
    pub(super) fn take_out(&self, name: &EndpointName) {
        let mut config = (*self.holds.load_full()).clone();
        config.endpoints.remove(name);
        self.house.quotas.set_endpoints(&config.endpoints);
        self.name(config);
    }

    fn name(&self, config: Config) {
        self.wiring.replace(config.endpoints.clone());
        self.house.directory.set_endpoints(&config.endpoints);
        self.holds.store(Arc::new(config));
    }
}

/// How many endpoints have gone of which something may be remembered still.
#[derive(Debug, Clone, Default)]
pub(super) struct Gone(Arc<AtomicUsize>);

impl Gone {
    /// One has gone, and nobody is at it any more. What is remembered has about as many entries as there are endpoints, however
    /// many come and go: all of it is looked through when a part of them has gone, since that costs what all of them cost.
    pub(super) fn one_more(&self, house: &House, config: &Config) {
        let gone = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        if gone < config.endpoints.len() / GONE_PART {
            return;
        }
        self.0.store(0, Ordering::Relaxed);
        house.quotas.forget_gone();
        let is_kept = |name: &EndpointName| config.endpoints.contains(name);
        house.journal.retain(is_kept);
        house.roster.retain(is_kept);
    }
}

impl Serving for Reloader {
    fn config(&self) -> Arc<Config> {
        self.holds.load_full()
    }

    fn serve(self: Arc<Self>, branch: BranchRecord) -> BoxFuture<'static, Result<(), String>> {
        async move { self.serve_branch(branch).await }.boxed()
    }

    fn withdraw(self: Arc<Self>, branch: EndpointName) -> BoxFuture<'static, ()> {
        async move { self.withdraw_branch(&branch).await }.boxed()
    }

    fn clear_away(&self, branch: &EndpointName) {
        if let Err(error) = clear_away(&self.means.places, branch) {
            tracing::warn!(%branch, %error, "its log or the folder of its socket cannot be removed");
        }
    }

    fn end_sessions(&self, branch: &EndpointName) {
        let here = self.house.roster.all().into_iter();
        here.filter(|listed| listed.who.endpoint == *branch)
            .for_each(|listed| listed.end());
    }

    fn has_sessions(&self, branch: &EndpointName) -> bool {
        let mut here = self.house.roster.all().into_iter();
        let is_kept_awake = || {
            let figures = self.house.wakes.figures(branch);
            figures.is_some_and(|figures| figures.active + figures.resting > 0)
        };
        here.any(|listed| listed.who.endpoint == *branch) || is_kept_awake()
    }

    fn forget_roles(&self, branch: &EndpointName) {
        self.house.roles.forget(branch);
        if let Err(error) = self.house.roles.remember(branch) {
            tracing::warn!(endpoint = %branch, %error, "its roles are not known until it is awake");
        }
    }
}
