//! One endpoint with a Postgres that sleeps, served through few server sessions: the ways to it and around it.

use std::{fs, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use pgwake::{
    ids::EndpointName, pool::PoolFigures, server::raise_file_limit, session::Pooling, wake::SuspendOrder,
};
use tokio::time::sleep;
use tokio_postgres::{Client, Config};

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, SUPERUSER},
    processes,
    raw::Raw,
    tls_client::connect_plain,
};

/// A login takes some milliseconds of work on both sides.
const LOGINS_AT_ONCE: usize = 20;

/// What an endpoint may lend.
pub(super) struct Lending {
    /// Server sessions.
    pub(super) sessions: usize,
    /// How long a client waits for one.
    pub(super) wait_timeout: &'static str,
}

/// A gateway in front of one such endpoint.
pub(super) struct Pooled {
    pub(super) gateway: Gateway,
    pub(super) endpoint: &'static str,
}

impl Lending {
    /// So many sessions, and more patience than a test has.
    pub(super) fn of(sessions: usize) -> Self {
        Self {
            sessions,
            wait_timeout: "5m",
        }
    }

    /// As a key of an endpoint.
    fn key(&self) -> String {
        let Self {
            sessions,
            wait_timeout,
        } = self;
        format!("pool = {{ size = {sessions}, wait_timeout = \"{wait_timeout}\" }}\n")
    }
}

impl Pooled {
    /// Starts one; `keys` are further lines of the endpoint's table. Its compute sleeps.
    pub(super) async fn start(endpoint: &'static str, lending: &Lending, keys: &str) -> Self {
        let setup = Setup::new().listed(endpoint, &format!("{}{keys}", lending.key()));
        Self::from(setup, endpoint).await
    }

    /// The same, whose Postgres starts only through a gate.
    pub(super) async fn gated(endpoint: &'static str, lending: &Lending, keys: &str) -> (Self, Gate) {
        let setup = Setup::new();
        let gate = Gate::new(setup.path());
        let setup = setup.gated(endpoint, &gate, &format!("{}{keys}", lending.key()));
        (Self::from(setup, endpoint).await, gate)
    }

    async fn from(setup: Setup, endpoint: &'static str) -> Self {
        // A client of a test has two: its own end and pgwake's.
        raise_file_limit();
        Self {
            gateway: setup.start().await,
            endpoint,
        }
    }

    /// The name under which its clients share sessions.
    pub(super) fn name(&self) -> String {
        format!("{}-pooler", self.endpoint)
    }

    /// How tokio-postgres reaches it.
    pub(super) fn config(&self) -> Config {
        self.gateway.config(&self.name())
    }

    /// A session of the superuser on the compute itself, past pgwake; none where it does not run or takes nobody.
    pub(super) async fn beside(&self) -> Option<Client> {
        let file = self.gateway.data_dir(self.endpoint).join("postmaster.pid");
        let text = fs::read_to_string(file).ok()?;
        // https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h: port, then folder.
        let (port, folder) = (text.lines().nth(3)?, text.lines().nth(4)?);
        let mut config = Config::new();
        config
            .host_path(folder)
            .port(port.parse().ok()?)
            .user(SUPERUSER)
            .password(PASSWORD)
            .dbname("postgres");
        connect_plain(&config).await.ok()
    }

    /// A client whose every byte the test says, and who may send statements.
    pub(super) async fn raw(&self) -> Raw {
        self.gateway.raw_served(&self.name()).await
    }

    /// Many of them, who come in few at a time: nobody's login takes so long that it is given up.
    pub(super) async fn raw_proved(&self, count: usize) -> Vec<Raw> {
        let name = self.name();
        let logins = (0..count).map(|_| self.gateway.raw_proved(&name));
        stream::iter(logins).buffered(LOGINS_AT_ONCE).collect().await
    }

    /// Waits until nothing of its compute runs.
    pub(super) async fn asleep(&self) {
        self.gateway.asleep(self.endpoint).await;
    }

    /// The processes of its compute.
    pub(super) fn processes(&self) -> Vec<processes::Process> {
        processes::in_directory(&self.gateway.data_dir(self.endpoint))
    }

    /// How its server sessions stand.
    pub(super) fn figures(&self) -> PoolFigures {
        self.pooling().pool.figures()
    }

    /// Does some work that pins no session: no client keeps one because it could not do without it.
    pub(super) async fn unpinned<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(Duration::from_millis(5)) => {
                    assert_eq!(self.pooling().pins.pinned(), 0, "pinned: {:?}", self.pins());
                }
            }
        }
    }

    /// Why its clients keep their sessions.
    fn pins(&self) -> Vec<Vec<&'static str>> {
        let all = self.gateway.server.house().roster.all();
        all.iter()
            .map(|listed| listed.pins())
            .filter(|pins| !pins.is_empty())
            .collect()
    }

    fn pooling(&self) -> Arc<Pooling> {
        self.gateway
            .server
            .house()
            .pooling
            .get(&EndpointName::parse(self.endpoint).unwrap())
            .unwrap()
    }

    /// What comes of an operator's order to suspend it.
    pub(super) fn order_suspend(&self) -> SuspendOrder {
        let endpoint = EndpointName::parse(self.endpoint).unwrap();
        self.gateway.server.house().wakes.suspend(&endpoint)
    }

    /// How often its compute has been woken.
    pub(super) fn wakes(&self) -> u64 {
        self.gateway.wakes(self.endpoint)
    }
}
