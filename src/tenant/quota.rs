//! How much those may have who have proved who they are: of places at the same time, and in a time.
//!
//! Every client counts in four scopes: its role at its endpoint, the endpoint, the tenant, the whole process. Each
//! scope has an [`Account`] with its own limits, and what a client takes it takes in all four or in none, the
//! narrowest first: what a role is refused costs its tenant nothing. What is taken is a [`Permit`] that gives itself
//! back. Accounts share no lock: a tenant at its limits costs another one nothing.
//!
//! It refuses and counts; it ends nobody, waits for nobody and knows no stream. `session` asks, `wake` asks before a
//! compute is started, `server` makes it and tells it of other rules.

mod account;
mod count;
mod figures;
mod meter;
mod over;
mod pace;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::{Config, Endpoint, Endpoints, Quota};
use crate::ids::{EndpointName, TenantName};
use account::Account;
pub use account::{Counted, Paced, Rated};
pub use figures::QuotaFigures;
pub use meter::Meter;
pub use over::{OverLimit, Scope};

/// Most roles of which something is remembered while no client of theirs is here.
const ROLES_MAX: usize = 65_536;

/// The accounts of a pgwake.
#[derive(Debug)]
pub struct Quotas {
    since: Instant,
    /// Whose limits hold. A client may have begun to log in under others.
    holds: ArcSwap<Endpoints>,
    process: Arc<Account>,
    tenants: Mutex<HashMap<TenantName, Arc<Account>>>,
    endpoints: Mutex<HashMap<EndpointName, Arc<Account>>>,
    roles: Mutex<BTreeMap<(EndpointName, String), Arc<Account>>>,
    /// How often limits have changed.
    epoch: Arc<AtomicU64>,
}

/// Accounts that one thing is counted in, the narrowest first.
#[derive(Debug)]
struct Chain {
    accounts: Vec<Arc<Account>>,
    epoch: Arc<AtomicU64>,
}

/// Whom a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Usual,
    /// May have what is reserved.
    Operator,
}

/// A client that has come in; it counts while this lives. It asks in its name for whatever else it needs.
#[derive(Debug)]
pub struct ClientPermit {
    place: Permit,
    times: Times,
}

/// One of what is counted, in all scopes; given back on drop.
#[derive(Debug)]
pub struct Permit {
    chain: Arc<Chain>,
    counted: Counted,
}

/// In whose name an endpoint's compute is awake: its tenant's, and the process'.
#[derive(Debug, Clone)]
pub struct WakeBudget(Option<Arc<Chain>>);

/// How long a client's session may go on. `None`: as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// In all.
    pub session_age: Option<Duration>,
    /// Doing nothing outside of a transaction.
    pub idle: Option<Duration>,
    /// Doing nothing within one.
    pub idle_in_transaction: Option<Duration>,
}

impl Quotas {
    /// Accounts in which nothing is counted yet.
    pub fn new(config: &Config) -> Self {
        let since = Instant::now();
        let process = Account::new(Scope::Process, since);
        process.set_rules(&config.limits.quota);
        Self {
            since,
            holds: ArcSwap::from_pointee(config.endpoints.clone()),
            process: Arc::new(process),
            tenants: Mutex::default(),
            endpoints: Mutex::default(),
            roles: Mutex::default(),
            epoch: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Takes in a client that has proved to be this role.
    ///
    /// # Errors
    /// [`OverLimit`]: there are too many, or they come too fast.
    pub fn admit(&self, endpoint: &Endpoint, role: &str) -> Result<ClientPermit, OverLimit> {
        let operators = |endpoint: &Endpoint| endpoint.quotas.operator_roles.iter().any(|name| name == role);
        let is_operator = self.as_it_holds(endpoint, operators);
        let standing = if is_operator {
            Standing::Operator
        } else {
            Standing::Usual
        };
        let chain = Arc::new(Chain {
            accounts: vec![
                self.role(endpoint, role),
                self.endpoint(endpoint),
                self.tenant(endpoint),
                self.process.clone(),
            ],
            epoch: self.epoch.clone(),
        });
        let place = Permit::take(&chain, Counted::Clients, standing)?;
        // An operator who comes to see what is wrong does not stand in line behind what is wrong.
        if standing == Standing::Usual {
            chain.take_rated(Rated::Connects)?;
        }
        let times = chain.times();
        Ok(ClientPermit { place, times })
    }

    /// In whose name this endpoint's compute is awake.
    pub fn wake_budget(&self, endpoint: &Endpoint) -> WakeBudget {
        WakeBudget(Some(Arc::new(Chain {
            accounts: vec![self.tenant(endpoint), self.process.clone()],
            epoch: self.epoch.clone(),
        })))
    }

    fn tenant(&self, endpoint: &Endpoint) -> Arc<Account> {
        let name = &endpoint.tenant;
        let make = || {
            let rules = |endpoint: &Endpoint| endpoint.quotas.per_tenant.clone();
            self.account(Scope::Tenant(name.clone()), endpoint, rules)
        };
        lock(&self.tenants)
            .entry(name.clone())
            .or_insert_with(make)
            .clone()
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Arc<Account> {
        let name = &endpoint.name;
        let make = || {
            let rules = |endpoint: &Endpoint| endpoint.quotas.per_endpoint.clone();
            self.account(Scope::Endpoint(name.clone()), endpoint, rules)
        };
        lock(&self.endpoints)
            .entry(name.clone())
            .or_insert_with(make)
            .clone()
    }

    fn role(&self, endpoint: &Endpoint, role: &str) -> Arc<Account> {
        let mut roles = lock(&self.roles);
        let key = (endpoint.name.clone(), role.to_owned());
        if roles.len() >= ROLES_MAX && !roles.contains_key(&key) {
            make_room(&mut roles);
        }
        let make = || {
            let rules = |endpoint: &Endpoint| endpoint.quotas.per_role.clone();
            self.account(Scope::Role(key.0.clone(), key.1.clone()), endpoint, rules)
        };
        roles.entry(key.clone()).or_insert_with(make).clone()
    }

    /// A new one. Whoever makes it has the lock of all of its kind: rules that come meanwhile are put in force there behind it.
    fn account(
        &self,
        scope: Scope,
        endpoint: &Endpoint,
        rules: impl FnOnce(&Endpoint) -> Quota,
    ) -> Arc<Account> {
        let account = Account::new(scope, self.since);
        account.set_rules(&self.as_it_holds(endpoint, rules));
        Arc::new(account)
    }

    /// What is asked of the endpoint as it is now; as it was, where it has gone or become another tenant's.
    fn as_it_holds<T>(&self, endpoint: &Endpoint, ask: impl FnOnce(&Endpoint) -> T) -> T {
        let holds = self.holds.load();
        let now = holds.get(&endpoint.name);
        ask(now
            .filter(|now| now.tenant == endpoint.tenant)
            .map_or(endpoint, |now| now))
    }
}

/// Roles of which nothing is to be remembered go; where there are none, one that nobody uses.
fn make_room<K: Ord + Clone>(accounts: &mut BTreeMap<K, Arc<Account>>) {
    let is_used = |account: &Arc<Account>| Arc::strong_count(account) > 1;
    accounts.retain(|_, account| is_used(account) || !account.is_fresh());
    if accounts.len() >= ROLES_MAX {
        let unused = accounts.iter().find(|(_, account)| !is_used(account));
        if let Some(key) = unused.map(|(key, _)| key.clone()) {
            accounts.remove(&key);
        }
    }
}

impl Chain {
    fn take_rated(&self, rated: Rated) -> Result<(), OverLimit> {
        self.accounts
            .iter()
            .try_for_each(|account| account.take_rated(rated))
    }

    fn times(&self) -> Times {
        let least = |pick: fn(&Quota) -> Option<Duration>| {
            self.accounts
                .iter()
                .filter_map(|account| pick(&account.rules()))
                .min()
        };
        Times {
            session_age: least(|rules| rules.session_age),
            idle: least(|rules| rules.idle_time),
            idle_in_transaction: least(|rules| rules.idle_in_transaction_time),
        }
    }
}

impl ClientPermit {
    /// How long its session may go on, as it was when it came in.
    pub fn times(&self) -> Times {
        self.times
    }

    /// One more server session.
    ///
    /// # Errors
    /// [`OverLimit`]: there are too many.
    pub fn server_session(&self) -> Result<Permit, OverLimit> {
        Permit::take(&self.place.chain, Counted::ServerSessions, Standing::Usual)
    }

    /// It is held while a compute wakes.
    ///
    /// # Errors
    /// [`OverLimit`]: too many are.
    pub fn hold(&self) -> Result<Permit, OverLimit> {
        Permit::take(&self.place.chain, Counted::Held, Standing::Usual)
    }

    /// It causes a wake.
    ///
    /// # Errors
    /// [`OverLimit`]: there were too many.
    pub fn take_wake(&self) -> Result<(), OverLimit> {
        self.place.chain.take_rated(Rated::Wakes)
    }

    /// Measures what it does.
    pub fn meter(&self, paced: Paced) -> Meter {
        Meter::new(self.place.chain.clone(), paced)
    }
}

impl Permit {
    fn take(chain: &Arc<Chain>, counted: Counted, standing: Standing) -> Result<Self, OverLimit> {
        for (taken, account) in chain.accounts.iter().enumerate() {
            if let Err(over) = account.take(counted, standing) {
                let taken = &chain.accounts[..taken];
                taken.iter().for_each(|account| account.give_back(counted));
                return Err(over);
            }
        }
        Ok(Self {
            chain: chain.clone(),
            counted,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for account in &self.chain.accounts {
            account.give_back(self.counted);
        }
    }
}

impl WakeBudget {
    /// That of nobody: for computes that are not counted.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Whose it is.
    pub fn tenant(&self) -> Option<&TenantName> {
        let chain = self.0.as_ref()?;
        chain.accounts.iter().find_map(|account| account.tenant())
    }

    /// One more compute is awake.
    ///
    /// # Errors
    /// [`OverLimit`]: too many are.
    pub fn take(&self) -> Result<Option<Permit>, OverLimit> {
        let take = |chain| Permit::take(chain, Counted::Awake, Standing::Usual);
        self.0.as_ref().map(take).transpose()
    }

    /// One is awake that nobody asked for: it ran already, or pgwake needs it itself.
    pub fn count(&self) -> Option<Permit> {
        let chain = self.0.as_ref()?;
        chain
            .accounts
            .iter()
            .for_each(|account| account.count(Counted::Awake));
        Some(Permit {
            chain: chain.clone(),
            counted: Counted::Awake,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
