//! An endpoint with transaction pooling in front of a Postgres of its own, and every way to either of them.
//!
//! How pooling is asked for stands here alone.

use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use super::line::{Line, Who};
use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{Postgres, Prepared, SUPERUSER, Version},
    raw::{Raw, cancel_request},
    wait::until,
};
use crate::serving::served::{Key, value};

/// Whether endpoints are asked for transaction pooling. Everything here must hold in session pooling, too.
const IS_TRANSACTION: bool = true;

/// Sessions that clients have.
const OURS: &str = "backend_type = 'client backend' and application_name <> 'beside'";

/// Keys of an endpoint with so many server sessions; `more` are further keys of `pool`.
pub(crate) fn pool(size: usize, more: &str) -> String {
    if !IS_TRANSACTION {
        return String::new();
    }
    let comma = if more.is_empty() { "" } else { ", " };
    format!("pool = {{ mode = \"transaction\", size = {size}{comma}{more} }}")
}

/// A Postgres that is always there, and endpoints in front of it.
pub(crate) struct Pooled {
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    sockets: PathBuf,
}

impl Pooled {
    /// One endpoint with so many server sessions.
    pub(crate) async fn start(endpoint: &str, size: usize) -> Self {
        Self::with(
            Prepared::new(Version::Debian).start().await,
            &[(endpoint, &pool(size, ""))],
        )
        .await
    }

    /// Endpoints and their keys.
    pub(crate) async fn with(postgres: Postgres, endpoints: &[(&str, &str)]) -> Self {
        let at = postgres.socket();
        Self::at(postgres, &at, endpoints).await
    }

    /// The same where pgwake reaches that Postgres by this Unix socket.
    pub(crate) async fn at(postgres: Postgres, at: &Path, endpoints: &[(&str, &str)]) -> Self {
        let mut setup = Setup::new();
        let sockets = setup.path().to_owned();
        let mut listen = vec![r#"{ address = "127.0.0.1:0", tls = "optional" }"#.to_owned()];
        for (endpoint, keys) in endpoints {
            let unix = socket_of(&sockets, endpoint);
            listen.push(format!(
                r#"{{ unix = "{}", default_endpoint = "{endpoint}" }}"#,
                unix.display()
            ));
            setup = setup.fixed_at(endpoint, at, keys);
        }
        let setup = setup.listen(&format!("[{}]", listen.join(", ")));
        Self {
            gateway: setup.start().await,
            postgres,
            sockets,
        }
    }

    /// Where an endpoint is reached without TLS.
    pub(crate) fn socket(&self, endpoint: &str) -> PathBuf {
        socket_of(&self.sockets, endpoint)
    }

    /// The superuser at an endpoint, who may send statements.
    pub(crate) async fn line(&self, endpoint: &str) -> Line {
        self.client(endpoint, &Who::new(SUPERUSER, "postgres")).await.0
    }

    /// Anybody at an endpoint, who may send statements, and the key that cancels them.
    pub(crate) async fn client(&self, endpoint: &str, who: &Who) -> (Line, Key) {
        let (line, greeting) = Line::open(&self.socket(endpoint), who).await;
        let key = greeting.iter().find(|message| message.tag == b'K');
        let (pid, secret) = key.unwrap_or_else(|| panic!("{greeting:?}")).cancel_key();
        let secret = secret.to_vec();
        (line, Key { pid, secret })
    }

    /// Asks to cancel what this key's client is doing, and waits until that is answered by closing.
    pub(crate) async fn cancel(&self, key: &Key) {
        let mut stream = Raw::tcp(self.gateway.address()).await;
        stream.send(&cancel_request(key.pid, &key.secret)).await;
        stream.closed().await;
    }

    /// Waits until so many statements run with this word in them.
    pub(crate) async fn runs(&self, count: i64, word: &str) {
        let direct = self.direct().await;
        let sql = format!(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%{word}%' \
             and pid <> pg_backend_pid()"
        );
        until(&format!("{count} times {word} to run"), async || {
            direct.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) == count
        })
        .await;
    }

    /// A session without pgwake, which is not counted among those that clients have.
    pub(crate) async fn direct(&self) -> Client {
        let direct = self.postgres.connect().await;
        let name = "set application_name = 'beside'";
        direct.batch_execute(name).await.unwrap();
        direct
    }

    /// The same with a new table: its name and columns.
    pub(crate) async fn direct_with(&self, table: &str) -> Client {
        let direct = self.direct().await;
        let create = format!("create table {table}");
        direct.batch_execute(&create).await.unwrap();
        direct
    }

    /// Ends all sessions that clients have; says how many there were.
    pub(crate) async fn end_sessions(&self) -> String {
        let end = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where {OURS}");
        let count = value(&self.direct().await, &end).await;
        self.has_sessions(0).await;
        count
    }

    /// Waits until clients have so many sessions of Postgres.
    pub(crate) async fn has_sessions(&self, count: i64) {
        let direct = self.direct().await;
        let sql = format!("select count(*) from pg_stat_activity where {OURS}");
        until(&format!("{count} server sessions"), async || {
            direct.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) == count
        })
        .await;
    }
}

fn socket_of(sockets: &Path, endpoint: &str) -> PathBuf {
    sockets.join(format!("{endpoint}.sock"))
}
