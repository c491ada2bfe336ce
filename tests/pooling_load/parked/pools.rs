//! Three real pools: psycopg_pool and node's `pg` by their scripts, tokio-postgres through bb8 here.
//!
//! Each opens all of its connections and keeps them. A burst is one statement on every connection at once. A pool
//! that lost or replaced a connection says so and fails.

use std::time::Duration;

use bb8::{ManageConnection, Pool};
use futures_util::future::join_all;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    harness::{
        certificates::Authority, gateway::DOMAIN, node::node, postgres::PASSWORD, programs::Running,
        python::python, wait::PATIENCE,
    },
    pooling_load::{client::bounded_by, pooled::Pooled},
};

const PYTHON: usize = 200;
const NODE: usize = 150;
const RUST: u32 = 150;
/// For hundreds of logins or statements on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// All three.
pub(super) struct Pools {
    python: Running,
    node: Running,
    rust: Pool<Manager>,
}

impl Pools {
    /// Opens all connections.
    pub(super) async fn open(pooled: &Pooled) -> Self {
        let name = pooled.name();
        let (python_count, node_count) = (PYTHON.to_string(), NODE.to_string());
        let connection_string = pooled.gateway.connection_string(&name);
        let mut python = python("parked", &[&connection_string, &python_count])
            .limit(LIMIT)
            .start();
        let (port, host) = (
            pooled.gateway.address().port().to_string(),
            format!("{name}.{DOMAIN}"),
        );
        let ca = pooled.gateway.path().join("ca.pem").display().to_string();
        let mut node = node("parked", &[&host, &port, PASSWORD, &ca, &node_count])
            .limit(LIMIT)
            .start();
        let rust = bounded_by(LIMIT, "bb8", Manager::of(pooled).pool()).await;
        python.hear("open").await;
        node.hear("open").await;
        Self { python, node, rust }
    }

    /// How many connections that are.
    pub(super) fn clients(&self) -> usize {
        PYTHON + NODE + RUST as usize
    }

    /// One statement on each connection.
    pub(super) async fn burst(&mut self) {
        self.python.say("burst").await;
        self.node.say("burst").await;
        let rust = bounded_by(LIMIT, "a burst of bb8", burst(&self.rust));
        tokio::join!(rust, self.python.hear("served"), self.node.hear("served"));
    }

    /// Closes all; each pool says whether it ever had more than its first connections.
    pub(super) async fn close(self) {
        let statistics = self.rust.state().statistics;
        assert_eq!(statistics.connections_created, u64::from(RUST));
        let closed = statistics.connections_closed_broken + statistics.connections_closed_invalid;
        assert_eq!(closed, 0);
        drop(self.rust);
        for script in [self.python, self.node] {
            let said = script.end().await.succeeded();
            assert!(said.ends_with("all well"), "{said}");
        }
    }
}

async fn burst(pool: &Pool<Manager>) {
    // Every connection is taken before the first is asked: none is asked twice. bb8 sends an empty query first.
    let lent = join_all((0..RUST).map(|_| pool.get())).await;
    let asked = lent.into_iter().map(|client| async move {
        let client = client.unwrap();
        let row = client.query_one("select $1::int4 + 1", &[&41_i32]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    });
    join_all(asked).await;
}

/// Connects over TLS.
struct Manager {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Manager {
    fn of(pooled: &Pooled) -> Self {
        let authority: &Authority = &pooled.gateway.authority;
        Self {
            config: pooled.config(),
            tls: MakeRustlsConnect::new(authority.client_config(&[])),
        }
    }

    async fn pool(self) -> Pool<Self> {
        let pool = Pool::builder()
            .max_size(RUST)
            .min_idle(RUST)
            .idle_timeout(None)
            .max_lifetime(None)
            .connection_timeout(PATIENCE);
        pool.build(self).await.unwrap()
    }
}

impl ManageConnection for Manager {
    type Connection = Client;
    type Error = Error;

    async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), Error> {
        client.batch_execute("").await
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}
