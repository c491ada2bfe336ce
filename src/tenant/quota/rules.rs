//! Other limits than before: those of all endpoints, by a reload, or of one that comes alone.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use super::{Quotas, account::Account, lock};
use crate::config::{Config, Endpoint, Endpoints, Quota};

impl Quotas {
    /// Puts the limits of a configuration in force. Whoever is here stays, also beyond a limit that is lower now.
    pub fn set_rules(&self, config: &Config) {
        // First: an account that somebody makes by the old ones is among those that are changed.
        self.holds.store(Arc::new(config.endpoints.clone()));
        self.process.set_rules(&config.limits.quota);
        let endpoints = config.endpoints.values();
        let tenants: HashMap<_, _> = endpoints
            .map(|endpoint| (&endpoint.tenant, &endpoint.quotas.per_tenant))
            .collect();
        lock(&self.tenants).retain(|name, account| follow(account, tenants.get(name).copied()));
        lock(&self.endpoints).retain(|name, account| {
            let endpoint = config.endpoints.get(name);
            follow(account, endpoint.map(|endpoint| &endpoint.quotas.per_endpoint))
        });
        lock(&self.roles).retain(|(name, _), account| {
            let endpoint = config.endpoints.get(name);
            follow(account, endpoint.map(|endpoint| &endpoint.quotas.per_role))
        });
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Puts the limits of an endpoint in force that comes, or has become another: its own, its roles' and its tenant's. It is
    /// among these, which are all of them by now; the limits of the others are as they were.
    pub fn set_rules_of(&self, endpoint: &Endpoint, all: &Endpoints) {
        self.set_endpoints(all);
        let (name, quotas) = (&endpoint.name, &endpoint.quotas);
        if let Some(account) = lock(&self.tenants).get(&endpoint.tenant) {
            account.set_rules(&quotas.per_tenant);
        }
        if let Some(account) = lock(&self.endpoints).get(name) {
            account.set_rules(&quotas.per_endpoint);
        }
        let from = (name.clone(), String::new());
        let roles = lock(&self.roles);
        let own = roles.range(from..).take_while(|((of, _), _)| of == name);
        own.for_each(|(_, account)| account.set_rules(&quotas.per_role));
        drop(roles);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// These are the endpoints from now on. Whoever is counted at one that is gone is counted to the end, and
    /// [`Quotas::forget_gone`] forgets it then.
    pub fn set_endpoints(&self, all: &Endpoints) {
        self.holds.store(Arc::new(all.clone()));
    }

    /// Forgets the accounts of endpoints, roles and tenants that are not there any more and of which nobody is here. No limit
    /// changes by that, whatever is being put in force meanwhile.
    pub fn forget_gone(&self) {
        let is_used = |account: &Arc<Account>| Arc::strong_count(account) > 1;
        let holds = self.holds.load_full();
        let tenants: HashSet<_> = holds.values().map(|endpoint| &endpoint.tenant).collect();
        lock(&self.tenants).retain(|name, account| is_used(account) || tenants.contains(name));
        lock(&self.endpoints).retain(|name, account| is_used(account) || holds.contains(name));
        lock(&self.roles).retain(|(name, _), account| is_used(account) || holds.contains(name));
    }
}

/// Whether the account stays.
fn follow(account: &Arc<Account>, rules: Option<&Quota>) -> bool {
    match rules {
        Some(rules) => account.set_rules(rules),
        // Nobody comes in any more; who is here is counted to its end.
        None => return Arc::strong_count(account) > 1,
    }
    true
}
