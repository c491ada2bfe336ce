//! Two servers with the same history: one that clients talk to directly, one behind pgwake.

use tokio_postgres::Client;

use super::case::{CLIENTS, Case};
use crate::{
    harness::postgres::{PASSWORD, Postgres, Version},
    pooling::{
        play::Side,
        pooled::{Pooled, pool},
    },
};

/// Its functions are called by their names alone.
pub(crate) const PLAIN: &str = "plain";
/// It has triggers that change what a session carries.
pub(crate) const CAREFUL: &str = "careful";

/// What every database has. Functions change what a session carries without a word of it in the statement.
const KIT: &str = "
    create schema kit; grant usage on schema kit to public;
    create function kit.mark(text) returns text language plpgsql as
        $$begin return set_config('app.mark', $1, false); end$$;
    create function kit.mark_once(text) returns text language plpgsql as
        $$begin return set_config('app.mark', $1, true); end$$;
    create function kit.style(text) returns text language plpgsql as
        $$begin return set_config('datestyle', $1, false); end$$;
    create function kit.guarded() returns text language sql set datestyle = 'German' as
        $$select current_setting('datestyle')$$;
    create function kit.temporary() returns bigint language plpgsql as
        $$declare n bigint; begin
            create temp table if not exists hidden (id int);
            insert into hidden values (1);
            select count(*) into n from hidden; return n;
        end$$;
    create function kit.seize(int) returns text language plpgsql as
        $$begin perform pg_advisory_lock($1); return 'locked'; end$$;
    create function kit.hear(text) returns text language plpgsql as
        $$begin execute format('listen %I', $1); return 'listening'; end$$;
    create function kit.notice(text) returns text language plpgsql as
        $$begin raise notice 'notice: %', $1; return $1; end$$;
    create function kit.fail(text) returns text language plpgsql as
        $$begin raise exception 'failed: %', $1 using errcode = 'P0042', hint = 'none', detail = 'some'; end$$;
    create procedure kit.nothing() language plpgsql as $$begin null; end$$;
    create procedure kit.marks(text) language plpgsql as
        $$begin perform set_config('app.mark', $1, false); end$$;
    grant execute on all routines in schema kit to public";

const TRIGGER: &str = "
    create function kit.touched() returns trigger language plpgsql as
        $$begin
            perform set_config('app.touched', new.word, false);
            perform set_config('intervalstyle', 'iso_8601', false);
            return new;
        end$$";

/// Both servers, and pgwake in front of one.
pub(crate) struct Twins {
    pub(crate) direct: Twin,
    pub(crate) pooled: Twin,
    /// The same by another endpoint, at which everybody comes at once.
    pub(crate) crowd: Side,
    postgres: Postgres,
    gateway: Pooled,
}

/// One of them.
pub(crate) struct Twin {
    pub(crate) side: Side,
    plain: Client,
    careful: Client,
}

impl Twins {
    /// The endpoints have so many server sessions each.
    pub(crate) async fn start(endpoint: &str, sessions: usize) -> Self {
        let (direct, behind) =
            tokio::join!(Postgres::start(Version::Debian), Postgres::start(Version::Debian));
        for postgres in [&direct, &behind] {
            furnish(postgres).await;
        }
        let direct_twin = Twin::new(&direct, direct.socket()).await;
        let crowded = format!("{endpoint}-crowd");
        // In turn nobody has to wait for a session: who does is told so soon.
        let keys = ["1s", "10s"].map(|wait| pool(sessions, &format!("wait_timeout = \"{wait}\"")));
        let gateway = Pooled::with(behind, &[(endpoint, &keys[0]), (&crowded, &keys[1])]).await;
        Self {
            direct: direct_twin,
            pooled: Twin::new(&gateway.postgres, gateway.socket(endpoint)).await,
            crowd: Side::new(gateway.socket(&crowded), gateway.postgres.connect().await),
            postgres: direct,
            gateway,
        }
    }

    /// Without pgwake: for a proof of the oracle itself.
    pub(crate) async fn bare(mut self) -> Self {
        let postgres = &self.gateway.postgres;
        self.pooled = Twin::new(postgres, postgres.socket()).await;
        self.crowd = Side::new(postgres.socket(), postgres.connect().await);
        self
    }

    /// The last lines of what the one that clients talk to directly has logged.
    pub(crate) fn log(&self) -> String {
        let log = self.postgres.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

async fn furnish(postgres: &Postgres) {
    let client = postgres.connect().await;
    let password = PASSWORD.replace('\'', "''");
    for role in ["alice", "bob"] {
        let sql = format!("create role {role} login password '{password}'");
        client.batch_execute(&sql).await.unwrap();
    }
    for number in 0..CLIENTS {
        let sql = format!("create role limited_{number}; grant limited_{number} to alice, bob");
        client.batch_execute(&sql).await.unwrap();
    }
    for database in [PLAIN, CAREFUL] {
        client
            .batch_execute(&format!("create database {database}"))
            .await
            .unwrap();
        let inside = within(postgres, database).await;
        inside.batch_execute(KIT).await.unwrap();
        if database == CAREFUL {
            inside.batch_execute(TRIGGER).await.unwrap();
        }
    }
}

async fn within(postgres: &Postgres, database: &str) -> Client {
    let mut config = postgres.config();
    config.dbname(database);
    crate::harness::tls_client::connect_plain(&config).await.unwrap()
}

impl Twin {
    async fn new(postgres: &Postgres, socket: std::path::PathBuf) -> Self {
        Self {
            side: Side::new(socket, postgres.connect().await),
            plain: within(postgres, PLAIN).await,
            careful: within(postgres, CAREFUL).await,
        }
    }

    /// Done on this one alone.
    pub(crate) async fn alone(&self, database: &str, sql: &str) {
        let inside = if database == CAREFUL {
            &self.careful
        } else {
            &self.plain
        };
        inside.batch_execute(sql).await.unwrap();
    }

    /// Each client finds what every client of a case finds, and nothing of those before it.
    pub(crate) async fn reset(&self, case: &Case) {
        let is_careful = case.database == CAREFUL;
        let schemas: String = (0..CLIENTS).map(|client| schema(client, is_careful)).collect();
        let inside = if is_careful { &self.careful } else { &self.plain };
        let within = format!("set lock_timeout = '10s'; set client_min_messages = error; {schemas}");
        inside.batch_execute(&within).await.unwrap();
        if !case.visits {
            return;
        }
        let beside = self.side.beside.lock().await;
        for client in 0..CLIENTS {
            let sql = format!("drop database if exists guests_{client} with (force)");
            beside.batch_execute(&sql).await.unwrap();
        }
    }
}

/// What belongs to one client.
fn schema(client: usize, is_careful: bool) -> String {
    let trigger = format!(
        "create trigger touched before insert on c{client}.touched for each row execute function kit.touched();"
    );
    format!(
        "drop schema if exists c{client} cascade; create schema c{client};
        create table c{client}.items (id serial primary key, word text);
        insert into c{client}.items (word) values ('one'), ('two'), ('three');
        create table c{client}.rows (id int, word text);
        create table c{client}.late (id int unique deferrable initially deferred);
        create table c{client}.touched (id int, word text);
        {}
        grant all on schema c{client} to public;
        grant all on all tables in schema c{client} to public;
        grant all on all sequences in schema c{client} to public;
        grant limited_{client} to alice, bob;",
        if is_careful { &trigger } else { "" }
    )
}
