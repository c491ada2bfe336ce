//! What is known of every endpoint's roles: those the configuration lists, and those read from its Postgres.
//!
//! Configured roles win. What was read is kept in the [`Store`], so that a role is known while its Postgres
//! sleeps. Nothing here wakes anything or speaks to a server: [`RoleSource`] reads, where the compute is awake.
//! Who calls: `authenticate` looks roles up; `session` tells of logins that failed, once the client has its answer;
//! `server` and `session` refresh when a compute became ready, after statements about roles, and before a suspend.

mod reading;
mod server;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use futures_util::future::BoxFuture;
use tokio::{sync::Semaphore, time};
use tokio_util::task::TaskTracker;

use super::{
    refusal::Refusal,
    secrets::{Credential, ITERATIONS_DEFAULT},
};
use crate::config::{Endpoint, LoginMethod, RolesFrom};
use crate::ids::{EndpointName, Secret, Verifier};
pub(crate) use crate::store::ReadRole;
use crate::store::{MockSecret, Store, StoreError};
pub(crate) use reading::Refreshed;
use reading::{FIRST_AT_ONCE, Readings};
pub(crate) use server::{OtherServer, Told};

/// Logins that fail begin a reading only where the last one ended longer ago than this.
const ROLES_FRESH_FOR: Duration = Duration::from_secs(1);

/// A login waits this long for a reading that was asked for because something has changed: what is known is known
/// to be old. One reading ends by itself within this time; one that stands behind another may take longer.
const ASKED_READING_WAIT: Duration = Duration::from_secs(5);

/// Most roles of one endpoint; a Postgres that has more is not read.
pub(crate) const ROLES_MAX: usize = 10_000;

/// Longest salt of a verifier that is offered to clients. Postgres' own have 16 bytes.
const SALT_BYTES_MAX: usize = 1024;

/// A verifier that was read and is none.
const UNKNOWN_FORM: Refusal =
    Refusal::UnusableVerifier("it is neither SCRAM-SHA-256 of up to 10,000,000 rounds nor MD5");

/// Reads the roles of an endpoint's Postgres: on a session of its own with
/// `search_path=pg_catalog,pg_temp`, over `pg_authid`.
pub(crate) trait RoleSource: Send + Sync + 'static {
    /// All roles, and which server has them. `None`: the compute is not awake, and must not be woken for this. `Err`: why
    /// it could not be read, in one sentence. Cancel safe: dropped where it takes too long.
    fn read(&self, endpoint: &EndpointName) -> BoxFuture<'_, Option<Result<Told, String>>>;

    /// Another server than the endpoint's own has answered, for the first time. Must not block.
    fn met(&self, _endpoint: &EndpointName, _other: OtherServer) {}
}

/// How the clients of an endpoint log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
    Scram,
    /// The password, over TLS.
    Password,
    /// A token, over TLS.
    Token,
    /// Either.
    PasswordOrToken,
    /// A client certificate alone.
    Certificate,
}

impl Login {
    /// As the configuration says it, where no role is known.
    pub(super) fn without_roles(method: LoginMethod) -> Self {
        match method {
            LoginMethod::Scram | LoginMethod::Auto => Self::Scram,
            LoginMethod::Password => Self::Password,
            LoginMethod::Token => Self::Token,
            LoginMethod::PasswordOrToken => Self::PasswordOrToken,
            LoginMethod::Certificate => Self::Certificate,
        }
    }
}

/// A role that may log in, if it can prove who it is.
#[derive(Debug)]
pub(crate) struct Known {
    /// What its password is checked against, or why it has none to log in with.
    pub(crate) verifier: Result<Verifier, Refusal>,
    pub(crate) server_password: Option<Secret>,
    valid_until: Option<i64>,
}

impl Known {
    /// What pgwake logs in with for a role that has proved itself by no password.
    pub(crate) fn server_login(self, endpoint: Option<&Arc<Endpoint>>) -> Result<Credential, Refusal> {
        let has_socket = endpoint.is_some_and(|endpoint| endpoint.compute.tcp_host().is_none());
        match self.server_password {
            Some(password) => Ok(Credential::Password(password)),
            None if has_socket => Ok(Credential::Socket),
            None => Err(Refusal::NoServerLogin),
        }
    }

    /// Whether `VALID UNTIL` has passed.
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        let now = match now.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        self.valid_until.is_some_and(|until| until < now)
    }
}

/// What is known of all endpoints' roles.
pub struct RoleBook {
    endpoints: DashMap<EndpointName, Arc<Page>>,
    source: Arc<dyn RoleSource>,
    store: Arc<Store>,
    mock_secret: MockSecret,
    tasks: TaskTracker,
    /// Places for first readings; see [`reading::FIRST_AT_ONCE`].
    first: Arc<Semaphore>,
}

/// What is known of one endpoint's roles.
struct Page {
    readings: Arc<Readings>,
    summary: ArcSwapOption<Summary>,
}

/// What configured and read roles come to together. Made anew when either of them changes.
struct Summary {
    endpoint: Arc<Endpoint>,
    read: Option<Arc<[ReadRole]>>,
    /// Of those that were read, in their order: taken apart here, or a login would take longer where there is one.
    verifiers: Vec<Result<Verifier, Refusal>>,
    login: Login,
    mock_iterations: u32,
}

impl RoleBook {
    /// A book with what the store remembers of these endpoints. Blocking.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn load<'e>(
        store: Arc<Store>,
        source: Arc<dyn RoleSource>,
        endpoints: impl IntoIterator<Item = &'e EndpointName>,
    ) -> Result<Self, StoreError> {
        let book = Self {
            endpoints: DashMap::new(),
            source,
            mock_secret: store.mock_secret(),
            store,
            tasks: TaskTracker::new(),
            first: Arc::new(Semaphore::new(FIRST_AT_ONCE)),
        };
        for name in endpoints {
            if let Some(remembered) = book.store.remembered_roles(name)? {
                book.page(name).readings.start_with(remembered);
            }
        }
        Ok(book)
    }

    /// An endpoint has come: what the store remembers of it is known. Blocking.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(crate) fn remember(&self, endpoint: &EndpointName) -> Result<(), StoreError> {
        let page = self.page(endpoint);
        if page.readings.latest().is_none()
            && let Some(remembered) = self.store.remembered_roles(endpoint)?
        {
            page.readings.start_with(remembered);
        }
        Ok(())
    }

    /// An endpoint has gone.
    pub(crate) fn forget(&self, endpoint: &EndpointName) {
        self.endpoints.remove(endpoint);
    }

    /// Whether this endpoint's roles were ever read, by this pgwake or an earlier one.
    pub fn was_read(&self, endpoint: &EndpointName) -> bool {
        self.page(endpoint).readings.latest().is_some()
    }

    /// Reads the roles anew, where they come from Postgres and the compute is awake; whoever asks while a
    /// reading is under way gets one that begins after it. What was read is in the store when this returns.
    /// Bounded by the time-outs of two readings. Cancel safe: the reading goes on.
    pub(crate) async fn refresh(&self, endpoint: &Endpoint) -> Refreshed {
        if endpoint.roles_from == RolesFrom::Config {
            return Refreshed::Configured;
        }
        let readings = Arc::clone(&self.page(&endpoint.name).readings);
        let number = readings.ask(&self.tasks);
        readings.ended(number).await
    }

    /// A statement may have changed the roles: they are read anew, beside the caller, and whoever logs in from
    /// now on waits for it. Needs a running tokio runtime.
    pub(crate) fn changed(&self, endpoint: &Endpoint) {
        if endpoint.roles_from != RolesFrom::Config {
            self.page(&endpoint.name).readings.ask(&self.tasks);
        }
    }

    /// How clients of this endpoint log in, as far as its roles are known now.
    pub(crate) fn login_method(&self, endpoint: &Arc<Endpoint>) -> Login {
        self.summary(endpoint).login
    }

    /// The end is near: readings that still wait for a place are not done.
    pub(crate) fn close(&self) {
        self.first.close();
    }

    /// Waits for the readings under way, which are bounded. Cancel safe.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The PBKDF2 rounds that most known roles of this endpoint have: what an unknown one shows.
    pub(crate) fn mock_iterations(&self, endpoint: &Arc<Endpoint>) -> u32 {
        self.summary(endpoint).mock_iterations
    }

    pub(crate) fn mock_secret(&self) -> &MockSecret {
        &self.mock_secret
    }

    /// What a role is checked against. A reading that [`Self::refresh`] or [`Self::changed`] asked for is waited
    /// for first, no longer than [`ASKED_READING_WAIT`], for known and unknown roles alike; one that a failed login
    /// began never is: strangers could make an endpoint that exists take longer than one that does not. For the same
    /// reason every endpoint takes the same steps, wherever its roles come from. Cancel safe: the reading goes on.
    pub(crate) async fn look_up(&self, endpoint: &Arc<Endpoint>, role: &[u8]) -> Result<Known, Refusal> {
        let page = self.page(&endpoint.name);
        if let Some(number) = page.readings.asked() {
            // Too late is not an error: what is known is good enough.
            let _ = time::timeout(ASKED_READING_WAIT, page.readings.ended(number)).await;
        }
        self.summary(endpoint).known(role)
    }

    /// For a login that failed: perhaps the role has changed, and nobody has said so. Where roles come from an
    /// awake Postgres they are read behind the login's back, at most once in [`ROLES_FRESH_FOR`], so that the next
    /// try finds them as they are.
    pub(crate) fn suspect(&self, endpoint: &Endpoint) {
        if endpoint.roles_from != RolesFrom::Config {
            self.page(&endpoint.name).readings.suspect(&self.tasks);
        }
    }

    fn summary(&self, endpoint: &Arc<Endpoint>) -> Arc<Summary> {
        let page = self.page(&endpoint.name);
        let read = page.read_roles(endpoint);
        let made = page.summary.load_full();
        if let Some(made) = made.filter(|made| made.is_of(endpoint, read.as_ref())) {
            return made;
        }
        let made = Arc::new(Summary::of(endpoint, read));
        page.summary.store(Some(Arc::clone(&made)));
        made
    }

    fn page(&self, name: &EndpointName) -> Arc<Page> {
        if let Some(page) = self.endpoints.get(name) {
            return Arc::clone(&page);
        }
        let new = || {
            let (source, store, first) = (self.source.clone(), self.store.clone(), self.first.clone());
            let readings = Readings::new(name.clone(), source, store, first);
            Arc::new(Page {
                readings: Arc::new(readings),
                summary: ArcSwapOption::empty(),
            })
        };
        Arc::clone(&self.endpoints.entry(name.clone()).or_insert_with(new))
    }
}

impl Page {
    /// What was read, unless the configuration alone counts (now; the store may remember another time).
    fn read_roles(&self, endpoint: &Endpoint) -> Option<Arc<[ReadRole]>> {
        let latest = self.readings.latest();
        latest.filter(|_| endpoint.roles_from != RolesFrom::Config)
    }
}

/// What the password of a role that was read is checked against.
fn verifier_of(role: &ReadRole) -> Result<Verifier, Refusal> {
    let text = role.verifier.as_ref().ok_or(Refusal::NoPassword)?;
    Verifier::parse(text.reveal()).map_err(|_| UNKNOWN_FORM)
}

impl Summary {
    /// What is known of a role.
    fn known(&self, role: &[u8]) -> Result<Known, Refusal> {
        let role = str::from_utf8(role).map_err(|_| Refusal::UnknownRole)?;
        let mut known = match self.endpoint.roles.get(role) {
            Some(configured) => Known {
                verifier: configured.verifier.clone().ok_or(Refusal::NoPassword),
                server_password: configured.server_password.clone(),
                valid_until: None,
            },
            None => self.known_by_reading(role)?,
        };
        if let Ok(Verifier::Scram(verifier)) = &known.verifier
            && verifier.salt.len() > SALT_BYTES_MAX
        {
            known.verifier = Err(Refusal::UnusableVerifier("its salt is longer than 1024 bytes"));
        }
        Ok(known)
    }

    fn known_by_reading(&self, role: &str) -> Result<Known, Refusal> {
        let unread = match self.endpoint.roles_from {
            RolesFrom::Config => Refusal::UnknownRole,
            RolesFrom::Postgres(_) => Refusal::UnreadRoles,
        };
        let read = self.read.as_deref().ok_or(unread)?;
        let place = read.binary_search_by(|read| read.name.as_str().cmp(role));
        let place = place.map_err(|_| Refusal::UnknownRole)?;
        let (found, verifier) = (&read[place], &self.verifiers[place]);
        if !found.can_login {
            return Err(Refusal::MayNotLogIn);
        }
        Ok(Known {
            verifier: verifier.clone(),
            server_password: None,
            valid_until: found.valid_until,
        })
    }

    fn is_of(&self, endpoint: &Arc<Endpoint>, read: Option<&Arc<[ReadRole]>>) -> bool {
        let same_read = match (&self.read, read) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_read && Arc::ptr_eq(&self.endpoint, endpoint)
    }

    fn of(endpoint: &Arc<Endpoint>, read: Option<Arc<[ReadRole]>>) -> Self {
        let mut rounds = BTreeMap::<u32, usize>::new();
        let mut count = |verifier: &Verifier| match verifier {
            Verifier::Scram(verifier) => *rounds.entry(verifier.iterations).or_default() += 1,
            Verifier::Md5(_) => (),
        };
        let configured = || endpoint.roles.values().filter_map(|role| role.verifier.as_ref());
        configured().for_each(&mut count);
        let is_md5 = |verifier: &Verifier| matches!(verifier, Verifier::Md5(_));
        let (mut read_ones, mut read_md5_ones) = (0_usize, 0_usize);
        let all = read.as_deref().unwrap_or_default();
        let verifiers: Vec<_> = all.iter().map(verifier_of).collect();
        let logins = all.iter().zip(&verifiers).filter(|(role, _)| role.can_login);
        for (role, verifier) in logins.filter(|(role, _)| role.verifier.is_some()) {
            read_ones += 1;
            read_md5_ones += usize::from(verifier.as_ref().is_ok_and(is_md5));
            if !endpoint.roles.contains_key(&role.name) {
                verifier.iter().for_each(&mut count);
            }
        }
        let md5_server = read_ones > 0 && read_md5_ones == read_ones;
        let most = rounds.into_iter().max_by_key(|(_, roles)| *roles);
        Self {
            login: match endpoint.login {
                // One role that was read is not enough: every role may set its own password as MD5, and would make
                // all others send theirs in clear.
                LoginMethod::Auto if md5_server || configured().any(is_md5) => Login::Password,
                method => Login::without_roles(method),
            },
            mock_iterations: most.map_or(ITERATIONS_DEFAULT, |(iterations, _)| iterations),
            endpoint: Arc::clone(endpoint),
            read,
            verifiers,
        }
    }
}

#[cfg(test)]
mod tests;
