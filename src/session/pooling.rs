//! What all clients of an endpoint share in transaction pooling: its pool, the texts they prepare, what a server's
//! greeting said, what the functions of its databases can do, the newest credential of each role.
//!
//! Plain shared state; who does something with it is `pooled`. `server` makes one per endpoint and wires it to wake's
//! events.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::beginning::Beginnings;
use super::carried::Carried;
use super::pins::PinLimit;
use super::proved::{AllProofs, Change, Proof, Proved};
use super::reported::Reported;
use super::senders::Senders;
use super::statements::Texts;
use super::words::{CustomNames, FunctionWords};
use crate::auth::Credential;
use crate::config;
use crate::ids::Generation;
use crate::pool::{EndpointPool, PoolKey, PoolRules};

/// Most greetings and databases that are remembered for an endpoint; beyond, one more is not, and costs a look.
const REMEMBERED_MAX: usize = 256;

/// Kinds of credentials: a verifier's, a server password, the server's own socket.
const KINDS: u64 = 3;

/// One endpoint's transaction pooling.
pub struct Pooling {
    /// Its server sessions.
    pub pool: EndpointPool<Carried>,
    /// Clients that keep a session of their own.
    pub pins: PinLimit,
    pub(super) texts: Arc<Texts>,
    pub(super) senders: Senders,
    pub(super) beginnings: Beginnings,
    /// `lastval` or `currval` was seen: sessions that change hands are cleared of a stranger's numbers at once.
    asks_sequences: AtomicBool,
    greetings: Mutex<HashMap<PoolKey, Reported>>,
    databases: Mutex<HashMap<Bytes, Told>>,
    /// How often functions have changed.
    functions_epoch: AtomicU64,
    proofs: AllProofs,
    hasher: RandomState,
}

/// What is known of a database, and in which generation it was told if it still holds.
type Told = (Option<Generation>, Arc<Database>);

/// What is known of a database.
#[derive(Debug)]
pub(super) struct Database {
    /// Functions that can change session state.
    pub(super) functions: Arc<FunctionWords>,
    /// Custom settings that they name.
    pub(super) names: CustomNames,
    /// One of them may be called without its name in a statement.
    pub(super) is_careful: bool,
    /// idle_in_transaction_session_timeout, where there is one.
    pub(super) idle_in_transaction: Option<Duration>,
}

impl Pooling {
    /// Of an endpoint with these rules; sessions are closed in `tasks`.
    pub fn new(rules: &config::Pool, tasks: TaskTracker) -> Self {
        Self {
            pool: EndpointPool::new(pool_rules(rules), tasks),
            pins: PinLimit::new(rules.pinned_max),
            texts: Arc::default(),
            senders: Senders::default(),
            beginnings: Beginnings::default(),
            asks_sequences: AtomicBool::new(false),
            greetings: Mutex::default(),
            databases: Mutex::default(),
            functions_epoch: AtomicU64::new(0),
            proofs: AllProofs::default(),
            hasher: RandomState::new(),
        }
    }

    /// Puts other rules in force.
    pub fn set_rules(&self, rules: &config::Pool) {
        self.pool.set_rules(pool_rules(rules));
        self.pins.set_max(rules.pinned_max);
    }

    /// Roles, rights or databases have changed: what was known of logins is not any more, and sessions that were
    /// opened before reach no other client.
    pub fn changed(&self) {
        lock(&self.greetings).clear();
        self.pool.outdate();
    }

    /// Another server than the endpoint's own has been met: nobody goes on with a session that is there.
    pub fn distrust(&self) {
        lock(&self.greetings).clear();
        self.pool.retire();
    }

    /// A client of this role has proved this credential: it is the newest one of the role. Idle sessions that were
    /// opened with an older one of its kind are closed: nobody can prove that any more.
    pub(super) fn prove(&self, role: &str, credential: Credential) -> Proof {
        let fingerprint = self.fingerprint(&credential);
        let proved = Proved {
            credential,
            fingerprint,
        };
        let (proof, change) = self.proofs.prove(role, proved);
        if change == Change::Another {
            let outdated = |other: u64| other != fingerprint && other % KINDS == fingerprint % KINDS;
            self.pool.retire_credentials(role, outdated);
        }
        proof
    }

    /// Its lowest digit is the kind: a role may have one credential of each at the same time.
    fn fingerprint(&self, credential: &Credential) -> u64 {
        let (hash, kind) = match credential {
            Credential::ClientKey { verifier, .. } => (self.hasher.hash_one(verifier.to_text()), 0),
            Credential::Md5(verifier) => (self.hasher.hash_one(verifier.hex), 0),
            Credential::Password(password) | Credential::Own { password, .. } => {
                (self.hasher.hash_one(password.reveal()), 1)
            }
            Credential::Socket => (0, 2),
        };
        (hash / KINDS * KINDS).wrapping_add(kind)
    }

    /// What a server's greeting said to a login like this.
    pub(super) fn greeting(&self, key: &PoolKey) -> Option<Reported> {
        lock(&self.greetings).get(key).cloned()
    }

    /// A server has greeted a login like this. Sessions that say the same share it: then nothing is compared where one takes
    /// the place of another.
    pub(super) fn greeted(&self, key: &PoolKey, greeting: Reported) -> Reported {
        let mut greetings = lock(&self.greetings);
        if let Some(known) = greetings.get(key)
            && *known == greeting
        {
            return known.clone();
        }
        let differs = |known: &Reported| known.get(b"server_version") != greeting.get(b"server_version");
        if greetings.values().next().is_some_and(differs) {
            greetings.clear();
        }
        if greetings.len() < REMEMBERED_MAX {
            greetings.insert(key.clone(), greeting.clone());
        }
        greeting
    }

    /// A server has refused a login like this.
    pub(super) fn refused(&self, key: &PoolKey) {
        lock(&self.greetings).remove(key);
    }

    /// What is known of a database since this wake.
    pub(super) fn database(&self, name: &Bytes, generation: Generation) -> Option<Arc<Database>> {
        let databases = lock(&self.databases);
        let (known_in, database) = databases.get(name)?;
        (*known_in == Some(generation)).then(|| database.clone())
    }

    /// What was last known of it.
    pub(super) fn last_known(&self, name: &Bytes) -> Option<Arc<Database>> {
        lock(&self.databases)
            .get(name)
            .map(|(_, database)| database.clone())
    }

    /// What has been read of a database in this generation, beginning when functions had changed so often.
    pub(super) fn learn(
        &self,
        name: &Bytes,
        (generation, epoch): (Generation, u64),
        mut database: Database,
    ) -> Arc<Database> {
        let mut databases = lock(&self.databases);
        if let Some((_, known)) = databases.get(name)
            && known.functions.is_same(&database.functions)
        {
            // Statements that were prepared before need not be looked at again.
            database.functions = known.functions.clone();
        }
        let database = Arc::new(database);
        if databases.len() < REMEMBERED_MAX || databases.contains_key(name) {
            // Those that have changed meanwhile may not be among them.
            let known_in = (epoch == self.functions_epoch()).then_some(generation);
            databases.insert(name.clone(), (known_in, database.clone()));
        }
        database
    }

    /// Functions of a database have changed: they are read again.
    pub(super) fn forget_database(&self, name: &Bytes) {
        let mut databases = lock(&self.databases);
        self.functions_epoch.fetch_add(1, Ordering::AcqRel);
        if let Some((known_in, _)) = databases.get_mut(name) {
            *known_in = None;
        }
    }

    /// Functions of some database have changed, beside transaction pooling: all are read again.
    pub(super) fn forget_databases(&self) {
        let mut databases = lock(&self.databases);
        self.functions_epoch.fetch_add(1, Ordering::AcqRel);
        databases.values_mut().for_each(|(known_in, _)| *known_in = None);
    }

    /// How often functions have changed. To be asked for before what is known of a database.
    pub(super) fn functions_epoch(&self) -> u64 {
        self.functions_epoch.load(Ordering::Acquire)
    }

    /// Whether sequences have been asked for their last values.
    pub(super) fn asks_sequences(&self) -> bool {
        self.asks_sequences.load(Ordering::Relaxed)
    }

    /// They have been.
    pub(super) fn note_asks_sequences(&self) {
        self.asks_sequences.store(true, Ordering::Relaxed);
    }
}

fn pool_rules(rules: &config::Pool) -> PoolRules {
    PoolRules {
        size: rules.size,
        connects_at_once: rules.connects_at_once,
        lifetime: rules.lifetime,
        idle_time: rules.idle_time,
        startup_variants_max: rules.startup_variants_max,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            functions: Arc::new(FunctionWords::new([])),
            names: CustomNames::default(),
            is_careful: false,
            idle_in_transaction: None,
        }
    }

    #[tokio::test]
    async fn functions_that_change_while_they_are_read_are_read_again() {
        let pooling = Pooling::new(&config::Pool::default(), TaskTracker::new());
        let (name, wake) = (Bytes::from_static(b"shop"), Generation(1));
        let before = pooling.functions_epoch();
        pooling.learn(&name, (wake, before), database());
        assert!(pooling.database(&name, wake).is_some());
        assert!(
            pooling.database(&name, Generation(2)).is_none(),
            "of another wake"
        );

        pooling.forget_database(&name);
        pooling.learn(&name, (wake, before), database());
        assert!(
            pooling.database(&name, wake).is_none(),
            "what is new is not among them"
        );
        pooling.learn(&name, (wake, pooling.functions_epoch()), database());
        assert!(pooling.database(&name, wake).is_some());
        pooling.forget_databases();
        assert!(pooling.database(&name, wake).is_none());
    }
}
