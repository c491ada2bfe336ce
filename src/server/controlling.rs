//! Endpoints of the control plane: they are put in force and taken away as by a reload of the configuration, one at a
//! time.

use std::{collections::HashSet, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tokio_util::task::TaskTracker;

use super::{
    Reloader, StartError,
    endpoints::{ask_clients, compute},
    reading::blocking,
    reload::Added,
    wiring::Watched,
};
use crate::config::{Compute, Config, Defaults, Endpoint};
use crate::control_plane::{Book, Serving};
use crate::ids::EndpointName;
use crate::storm::Storms;
use crate::tls::{AskClients, CertificateStore};
use crate::wake::ComputeState;

/// Whether it comes from the control plane.
fn is_controlled(endpoint: &Endpoint) -> bool {
    matches!(endpoint.compute, Compute::Controlled(_))
}

/// What is known of names, where there is a control plane to ask.
pub(super) fn book(
    config: &Config,
    tasks: &TaskTracker,
    watched: &Watched,
    storms: &Arc<Storms>,
) -> Result<Option<Arc<Book>>, StartError> {
    let rules = config.control_plane.as_ref();
    let book = rules.map(|rules| Book::new(rules, tasks.clone(), watched.metrics.clone(), storms.clone()));
    Ok(book.transpose()?)
}

/// A configuration that was read takes over the endpoints that no file names. What held, without those that a file has
/// by now; they are returned beside it.
pub(super) fn carry_over(holds: Arc<Config>, config: &mut Config) -> (Arc<Config>, Vec<Arc<Endpoint>>) {
    let mut overtaken = Vec::new();
    for endpoint in holds.endpoints.values().filter(|one| is_controlled(one)) {
        match config.endpoints.contains(&endpoint.name) {
            true => overtaken.push(endpoint.clone()),
            false => config.endpoints.insert(endpoint.clone()),
        }
    }
    if overtaken.is_empty() {
        return (holds, overtaken);
    }
    let mut others = (*holds).clone();
    overtaken
        .iter()
        .for_each(|gone| others.endpoints.remove(&gone.name));
    (Arc::new(others), overtaken)
}

impl Reloader {
    async fn place_controlled(&self, endpoint: Endpoint) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        let endpoint = Arc::new(endpoint);
        let before = holds.endpoints.get(&endpoint.name);
        match before {
            Some(before) if !is_controlled(before) => {
                return Err("a file of the configuration has an endpoint of this name".to_owned());
            }
            Some(before) if *before == endpoint => return Ok(()),
            _ => (),
        }
        let known = self.know_proofs_of(&endpoint, &holds).await;
        known.map_err(|error| error.to_string())?;
        match before {
            Some(before) if before.differs_in_rules_alone(&endpoint) => {
                self.change(before, &endpoint);
                self.put(endpoint);
                self.tell_sessions();
                return Ok(());
            }
            _ => (),
        }
        let added = self.prepare_one(&endpoint).await;
        let added = added.map_err(|error| error.to_string())?;
        // Another compute, or another's: the old endpoint goes, with all who are there.
        before.iter().for_each(|before| self.take_away(before));
        self.begin(added);
        self.put(endpoint);
        Ok(())
    }

    /// No file may name it: what its clients' proofs are checked against may be its tenant's alone.
    async fn know_proofs_of(&self, endpoint: &Arc<Endpoint>, holds: &Arc<Config>) -> Result<(), StartError> {
        let proofs = self.house.proofs.load_full();
        let asks = endpoint.client_certificates.is_some() && ask_clients(holds) == AskClients::Never;
        if proofs.has_all_for(endpoint) && !asks {
            return Ok(());
        }
        let (endpoint, holds) = (endpoint.clone(), holds.clone());
        let prepare = move || {
            let certificates =
                asks.then(|| CertificateStore::prepare(&holds.certificates, AskClients::Always));
            Ok::<_, StartError>((proofs.with(&endpoint)?, certificates.transpose()?))
        };
        let (proofs, certificates) = blocking(prepare).await?;
        let proofs = Arc::new(proofs);
        self.house.proofs.store(proofs.clone());
        proofs.begin();
        if let Some(certificates) = certificates {
            self.house.certificates.replace(certificates);
        }
        Ok(())
    }

    /// All that can fail.
    async fn prepare_one(&self, endpoint: &Arc<Endpoint>) -> Result<Added, StartError> {
        let (house, endpoint, means) = (self.house.clone(), endpoint.clone(), self.means.clone());
        let store = self.store.clone();
        let prepare = move || {
            house.roles.remember(&endpoint.name)?;
            let orders = store.orders()?.get(endpoint.name.as_str()).copied();
            let compute = compute(&endpoint, &means)?;
            Ok((endpoint, compute, orders.unwrap_or_default()))
        };
        blocking(prepare).await
    }

    async fn withdraw_controlled(&self, name: &EndpointName) {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        if let Some(endpoint) = holds.endpoints.get(name).filter(|one| is_controlled(one)) {
            self.take_away(endpoint);
        }
    }

    /// Nobody comes in any more; who is here reads why.
    pub(super) fn take_away(&self, endpoint: &Arc<Endpoint>) {
        self.take_out(&endpoint.name);
        self.tell_sessions();
        self.remove(endpoint.clone(), &self.holds.load());
    }

    /// Something has changed for those who are here: an endpoint that comes is no concern of theirs.
    fn tell_sessions(&self) {
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

    fn first_idle(&self, endpoints: Vec<EndpointName>) -> Option<EndpointName> {
        let here = self.house.roster.all();
        let used: HashSet<_> = here.iter().map(|listed| &listed.who.endpoint).collect();
        let sleeps = |name: &EndpointName| {
            let asleep = [ComputeState::Unknown, ComputeState::Asleep, ComputeState::Failed];
            let figures = self.house.wakes.figures(name);
            figures.is_none_or(|figures| asleep.contains(&figures.state) && figures.held == 0)
        };
        endpoints
            .into_iter()
            .find(|name| !used.contains(name) && sleeps(name))
    }
}
