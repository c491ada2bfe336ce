//! The pooling of every endpoint, as endpoints come and go.

use std::sync::Arc;

use dashmap::{DashMap, mapref::multiple::RefMulti};

use super::Pooling;
use crate::ids::EndpointName;

/// Each endpoint's [`Pooling`]. What it gives out lives on when the endpoint is gone.
#[derive(Default)]
pub struct Poolings(DashMap<EndpointName, Arc<Pooling>>);

impl Poolings {
    /// That of an endpoint.
    pub fn get(&self, endpoint: &EndpointName) -> Option<Arc<Pooling>> {
        self.0.get(endpoint).map(|pooling| pooling.clone())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Pooling>> {
        self.0.iter().map(|pooling| pooling.clone()).collect()
    }

    /// The same with the endpoints' names.
    pub fn by_name(&self) -> Vec<(EndpointName, Arc<Pooling>)> {
        let one =
            |entry: RefMulti<'_, EndpointName, Arc<Pooling>>| (entry.key().clone(), entry.value().clone());
        self.0.iter().map(one).collect()
    }

    /// An endpoint has this one from now on.
    pub fn insert(&self, endpoint: EndpointName, pooling: Arc<Pooling>) {
        self.0.insert(endpoint, pooling);
    }

    /// An endpoint is gone.
    pub fn remove(&self, endpoint: &EndpointName) -> Option<Arc<Pooling>> {
        self.0.remove(endpoint).map(|(_, pooling)| pooling)
    }
}

impl FromIterator<(EndpointName, Arc<Pooling>)> for Poolings {
    fn from_iter<I: IntoIterator<Item = (EndpointName, Arc<Pooling>)>>(poolings: I) -> Self {
        Self(poolings.into_iter().collect())
    }
}
