//! One endpoint in front of a Postgres of its own, and every way to either of them.

use tokio_postgres::Client;

use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    raw::{Message, PROTOCOL_3_0, Raw, startup},
    wait::until,
};

/// A Postgres that is always there, served through pgwake: over TLS alone, also to clients that name no endpoint.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    endpoint: String,
}

/// The key of a session as BackendKeyData gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) pid: u32,
    pub(crate) secret: Vec<u8>,
}

impl Served {
    /// The system's Postgres.
    pub(crate) async fn start(endpoint: &str) -> Self {
        Self::with(endpoint, Prepared::new(Version::Debian)).await
    }

    /// Any Postgres.
    pub(crate) async fn with(endpoint: &str, postgres: Prepared) -> Self {
        let postgres = postgres.start().await;
        let listen = format!(r#"[{{ address = "127.0.0.1:0", default_endpoint = "{endpoint}" }}]"#);
        let setup = Setup::new().listen(&listen).fixed(endpoint, &postgres, "");
        Self {
            gateway: setup.start().await,
            postgres,
            endpoint: endpoint.to_owned(),
        }
    }

    /// libpq's connection string, TLS verified in full.
    pub(crate) fn connection_string(&self) -> String {
        self.gateway.connection_string(&self.endpoint)
    }

    /// Port, password and file of the authority, for scripts that go by address.
    pub(crate) fn by_address(&self) -> [String; 3] {
        let ca = self.gateway.path().join("ca.pem");
        [
            self.gateway.address().port().to_string(),
            PASSWORD.to_owned(),
            ca.display().to_string(),
        ]
    }

    /// A session through pgwake.
    pub(crate) async fn connect(&self) -> Client {
        self.gateway.connect(&self.endpoint).await
    }

    /// A session without pgwake.
    pub(crate) async fn direct(&self) -> Client {
        self.postgres.connect().await
    }

    /// A session through pgwake whose every byte the test says, and its cancel key.
    pub(crate) async fn raw(&self) -> (Raw, Key) {
        self.raw_with(PROTOCOL_3_0, &[]).await
    }

    /// The same, in another minor version or with further startup parameters.
    pub(crate) async fn raw_with(&self, protocol: u32, parameters: &[(&str, &str)]) -> (Raw, Key) {
        let client = self.gateway.raw_to(&self.endpoint).await;
        logged_in(client, protocol, parameters).await
    }

    /// A session without pgwake whose every byte the test says.
    pub(crate) async fn raw_direct(&self) -> Raw {
        let client = Raw::unix(&self.postgres.socket()).await;
        logged_in(client, PROTOCOL_3_0, &[]).await.0
    }

    /// Waits until Postgres has `count` client sessions besides the one that asks.
    pub(crate) async fn has_sessions(&self, count: i64) {
        has_sessions(&self.direct().await, count).await;
    }

    /// Waits until the session with this process number waits in `pg_sleep`.
    pub(crate) async fn sleeps(&self, pid: u32) {
        asleep(&self.direct().await, pid).await;
    }
}

/// Waits until Postgres has so many sessions besides this one.
pub(crate) async fn has_sessions(beside: &Client, count: i64) {
    let sql = "select count(*) from pg_stat_activity \
               where backend_type = 'client backend' and pid <> pg_backend_pid()";
    until(&format!("{count} server sessions"), async || {
        beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == count
    })
    .await;
}

/// Waits until the session with this process number waits in `pg_sleep`.
pub(crate) async fn asleep(beside: &Client, pid: u32) {
    let sql = format!("select 1 from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'");
    until("the statement to run", async || {
        !beside.query(&sql, &[]).await.unwrap().is_empty()
    })
    .await;
}

/// Logs the superuser in.
pub(crate) async fn logged_in(mut client: Raw, protocol: u32, parameters: &[(&str, &str)]) -> (Raw, Key) {
    let mut all = vec![("user", SUPERUSER), ("database", "postgres")];
    all.extend(parameters);
    let greeting = client.log_in(&startup(protocol, &all), PASSWORD).await;
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let (pid, secret) = key.cancel_key();
    let key = Key {
        pid,
        secret: secret.to_vec(),
    };
    (client, key)
}

/// The first value of a simple query's answer, through a driver.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("{sql} gave no value")).to_owned()
}

/// The tags of messages, for a look at their order.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}
