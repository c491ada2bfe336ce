//! Endpoints of the control plane: they are put in force and taken away as by a reload of the configuration, one at a
//! time.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use tokio_util::task::TaskTracker;

use super::{
    Reloader, StartError,
    endpoints::{compute, policy},
    reload::blocking,
    standing::obey,
};
use crate::config::{Compute, Config, Defaults, Endpoint};
use crate::control_plane::{Book, Serving};
use crate::ids::EndpointName;
use crate::session::Pooling;
use crate::wake::ComputeState;

/// Whether it comes from the control plane.
fn is_controlled(endpoint: &Endpoint) -> bool {
    matches!(endpoint.compute, Compute::Controlled(_))
}

/// What is known of names, where there is a control plane to ask.
pub(super) fn book(config: &Config, tasks: &TaskTracker) -> Result<Option<Arc<Book>>, StartError> {
    let rules = config.control_plane.as_ref();
    Ok(rules.map(|rules| Book::new(rules, tasks.clone())).transpose()?)
}

/// A configuration that was read takes over the endpoints that no file names.
pub(super) fn carry_over(holds: &Config, config: &mut Config) {
    for (name, endpoint) in &holds.endpoints {
        if is_controlled(endpoint) && !config.endpoints.contains_key(name) {
            config.endpoints.insert(name.clone(), endpoint.clone());
        }
    }
}

impl Reloader {
    async fn place_controlled(&self, endpoint: Endpoint) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        let (name, endpoint) = (endpoint.name.clone(), Arc::new(endpoint));
        if let Some(before) = holds.endpoints.get(&name) {
            if !is_controlled(before) {
                return Err("a file of the configuration has an endpoint of this name".to_owned());
            }
            if before == &endpoint {
                return Ok(());
            }
            let stays = before.compute == endpoint.compute && before.tenant == endpoint.tenant;
            if stays {
                let mut config = (*holds).clone();
                config.endpoints.insert(name, endpoint.clone());
                self.change(before, &endpoint);
                self.put_controlled_in_force(config);
                return Ok(());
            }
            // Another compute, or another's: the old endpoint goes, with all who are there.
            self.take_away(before);
        }
        self.add(endpoint).await.map_err(|error| error.to_string())
    }

    async fn add(&self, endpoint: Arc<Endpoint>) -> Result<(), StartError> {
        let (house, made, means) = (self.house.clone(), endpoint.clone(), self.means.clone());
        let store = self.store.clone();
        let prepared = blocking(move || {
            house.roles.remember(&made.name)?;
            let orders = store.orders()?.get(made.name.as_str()).copied();
            Ok::<_, StartError>((compute(&made, &means)?, orders.unwrap_or_default()))
        });
        let (compute, orders) = prepared.await?;
        let (house, name) = (&self.house, endpoint.name.clone());
        let budget = house.quotas.wake_budget(&endpoint);
        house
            .wakes
            .add_within(name.clone(), policy(&endpoint), compute, budget);
        let pooling = Pooling::new(&endpoint.pool, self.means.tasks.clone());
        house.pooling.insert(name.clone(), Arc::new(pooling));
        obey(&name, orders, &house.wakes, &house.pooling);
        let mut config = (*self.holds.load_full()).clone();
        config.endpoints.insert(name, endpoint);
        self.put_controlled_in_force(config);
        Ok(())
    }

    async fn withdraw_controlled(&self, name: &EndpointName) {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        if let Some(endpoint) = holds.endpoints.get(name).filter(|one| is_controlled(one)) {
            self.take_away(endpoint);
        }
    }

    /// Nobody comes in any more; who is here reads why.
    fn take_away(&self, endpoint: &Arc<Endpoint>) {
        let mut config = (*self.holds.load_full()).clone();
        config.endpoints.remove(&endpoint.name);
        self.put_controlled_in_force(config.clone());
        self.remove(endpoint.clone(), &config);
    }

    fn put_controlled_in_force(&self, config: Config) {
        self.house.quotas.set_rules(&config);
        self.put_in_force(config);
        self.house.changes.send_modify(|number| *number += 1);
    }
}

impl Serving for Reloader {
    fn defaults(&self) -> Defaults {
        self.holds.load().defaults.clone()
    }

    fn place(self: Arc<Self>, endpoint: Endpoint) -> BoxFuture<'static, Result<(), String>> {
        async move { self.place_controlled(endpoint).await }.boxed()
    }

    fn withdraw(self: Arc<Self>, endpoint: EndpointName) -> BoxFuture<'static, ()> {
        async move { self.withdraw_controlled(&endpoint).await }.boxed()
    }

    fn is_idle(&self, endpoint: &EndpointName) -> bool {
        let figures = self.house.wakes.figures(endpoint);
        let sleeps = figures.is_none_or(|figures| {
            let asleep = [ComputeState::Unknown, ComputeState::Asleep, ComputeState::Failed];
            asleep.contains(&figures.state) && figures.held == 0
        });
        let mut here = self.house.roster.all().into_iter();
        sleeps && !here.any(|listed| listed.who.endpoint == *endpoint)
    }
}
