//! All endpoints by their names, as a value that shares what it has in common with its copies.
//!
//! Endpoints of a control plane and branches come and go one at a time, and whoever looks at all of them holds the copy
//! that it has found. So they stand in short runs in the order of their names: a copy is as many pointers as there are
//! runs, and a change makes one run anew, however many endpoints there are.

use std::{borrow::Borrow, fmt, sync::Arc};

use super::Endpoint;
use crate::ids::EndpointName;

/// Longest run.
const RUN_MAX: usize = 64;

/// Endpoints in the order of their names, each name once.
#[derive(Clone, Default)]
pub struct Endpoints {
    /// None is empty.
    runs: Vec<Arc<Vec<Arc<Endpoint>>>>,
}

impl Endpoints {
    /// The endpoint of this name.
    pub fn get(&self, name: &(impl Borrow<str> + ?Sized)) -> Option<&Arc<Endpoint>> {
        let name = name.borrow();
        let run = self.runs.get(self.run_of(name))?;
        place_in(run, name).ok().map(|place| &run[place])
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &EndpointName) -> bool {
        self.get(name).is_some()
    }

    /// It is there from now on, in place of the one of its name.
    pub fn insert(&mut self, endpoint: Arc<Endpoint>) {
        let at = self.run_of(endpoint.name.as_str());
        let Some(shared) = self.runs.get_mut(at) else {
            return self.runs.push(Arc::new(vec![endpoint]));
        };
        let run = Arc::make_mut(shared);
        match place_in(run, endpoint.name.as_str()) {
            Ok(place) => run[place] = endpoint,
            Err(place) => run.insert(place, endpoint),
        }
        if run.len() > RUN_MAX {
            let behind = run.split_off(RUN_MAX / 2);
            self.runs.insert(at + 1, Arc::new(behind));
        }
    }

    /// There is none of this name from now on.
    pub fn remove(&mut self, name: &EndpointName) {
        let at = self.run_of(name.as_str());
        let found = self.runs.get(at).map(|run| place_in(run, name.as_str()));
        let Some(Ok(place)) = found else {
            return;
        };
        match self.runs[at].len() {
            1 => drop(self.runs.remove(at)),
            _ => drop(Arc::make_mut(&mut self.runs[at]).remove(place)),
        }
    }

    /// All of them, by name.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Endpoint>> + Clone {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &EndpointName> + Clone {
        self.values().map(|endpoint| &endpoint.name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The run that has this name, or would have it: the last one that begins with it or before.
    fn run_of(&self, name: &str) -> usize {
        let begins = |run: &Arc<Vec<Arc<Endpoint>>>| run[0].name.as_str() <= name;
        self.runs.partition_point(begins).saturating_sub(1)
    }
}

fn place_in(run: &[Arc<Endpoint>], name: &str) -> Result<usize, usize> {
    run.binary_search_by(|endpoint| endpoint.name.as_str().cmp(name))
}

impl PartialEq for Endpoints {
    /// However they stand in runs.
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for Endpoints {}

impl FromIterator<Arc<Endpoint>> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Arc<Endpoint>>>(all: I) -> Self {
        let mut endpoints = Self::default();
        all.into_iter().for_each(|endpoint| endpoints.insert(endpoint));
        endpoints
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn named(number: usize) -> Arc<Endpoint> {
        Arc::new(Endpoint::without_compute(&format!("ep-{number:04}")))
    }

    /// As a map would have them, whatever comes and goes; a copy keeps what it had.
    #[test]
    fn they_are_found_and_told_in_order_whatever_comes_and_goes() {
        let (mut endpoints, mut map) = (Endpoints::default(), BTreeMap::new());
        // A walk through all numbers below 997 in no order, then again to take two of three away.
        for step in 0..997 {
            let endpoint = named(step * 313 % 997);
            map.insert(endpoint.name.clone(), endpoint.clone());
            endpoints.insert(endpoint);
        }
        let (copy, before) = (endpoints.clone(), map.clone());
        for step in (0..997).filter(|step| step % 3 > 0) {
            let gone = named(step * 626 % 997).name.clone();
            assert!(endpoints.contains(&gone));
            endpoints.remove(&gone);
            endpoints.remove(&gone);
            map.remove(&gone);
            assert!(!endpoints.contains(&gone));
        }
        for (has, should) in [(&endpoints, &map), (&copy, &before)] {
            assert!(has.names().eq(should.keys()));
            assert!(
                has.values()
                    .zip(should.values())
                    .all(|(one, other)| Arc::ptr_eq(one, other))
            );
            assert_eq!((has.len(), has.is_empty()), (should.len(), should.is_empty()));
            assert!(
                should
                    .iter()
                    .all(|(name, one)| Arc::ptr_eq(has.get(name).unwrap(), one))
            );
        }
        before.keys().for_each(|name| endpoints.remove(name));
        assert!(endpoints.is_empty() && endpoints.get("ep-0001").is_none());
    }

    /// What a change costs: the run that has it, and no other.
    #[test]
    fn a_change_leaves_all_else_shared() {
        let before: Endpoints = (0..1000).map(|number| named(2 * number)).collect();
        let mut after = before.clone();
        after.insert(named(1001));
        after.remove(&named(4).name);
        let shared = |run: &&Arc<Vec<_>>| before.runs.iter().any(|one| Arc::ptr_eq(one, run));
        let own = after.runs.len() - after.runs.iter().filter(shared).count();
        assert!((1..=3).contains(&own), "{own} of {}", after.runs.len());
        assert!(before.runs.iter().all(|run| run.len() <= RUN_MAX));
        // One of the same name takes its place.
        let other = named(4);
        after.insert(other.clone());
        after.insert(named(6));
        assert!(Arc::ptr_eq(after.get("ep-0004").unwrap(), &other));
        assert_eq!(after.len(), 1001);
    }
}
