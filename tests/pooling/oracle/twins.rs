//! Two servers with the same history: one that clients talk to directly, one behind pgwake.

use std::path::Path;

use super::{
    case::{CLIENTS, Case},
    slow,
};
use crate::{
    harness::{
        gateway::{Gateway, Setup},
        postgres::{PASSWORD, Postgres, Version},
    },
    pooling::{
        play::{Beside, Side},
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
    pub(crate) direct: Side,
    pub(crate) pooled: Side,
    /// The same, perhaps by another endpoint, at which everybody comes at once.
    pub(crate) crowd: Side,
    postgres: Postgres,
    behind: Behind,
}

/// What is behind pgwake; pgwake itself is there as long as this is.
enum Behind {
    /// A Postgres that is always there.
    Fixed(Pooled),
    /// One that sleeps whenever it may.
    Process(#[expect(dead_code, reason = "it is only held")] Gateway),
}

impl Twins {
    /// The endpoints have so many server sessions each.
    pub(crate) async fn start(endpoint: &str, sessions: usize) -> Self {
        let behind = Postgres::start(Version::Debian).await;
        let at = behind.socket();
        Self::behind(endpoint, sessions, (behind, &at)).await
    }

    /// The same behind a network that is slow, and tears what servers say into pieces.
    pub(crate) async fn slow(endpoint: &str, sessions: usize) -> Self {
        let behind = Postgres::start(Version::Debian).await;
        let at = slow::in_front_of(&behind);
        Self::behind(endpoint, sessions, (behind, &at)).await
    }

    async fn behind(endpoint: &str, sessions: usize, (behind, at): (Postgres, &Path)) -> Self {
        furnish(&Beside::at(&behind)).await;
        let crowded = format!("{endpoint}-crowd");
        // In turn nobody has to wait for a session: who does is told so soon.
        let keys = ["5s", "20s"].map(|wait| pool(sessions, &format!("wait_timeout = \"{wait}\"")));
        let gateway = Pooled::at(behind, at, &[(endpoint, &keys[0]), (&crowded, &keys[1])]).await;
        let side = |endpoint| Side::new(gateway.socket(endpoint), Beside::at(&gateway.postgres));
        let (pooled, crowd) = (side(endpoint), side(&crowded));
        Self::with(pooled, crowd, Behind::Fixed(gateway)).await
    }

    /// The same with a compute that is suspended whenever nobody needs it.
    pub(crate) async fn sleeping(endpoint: &str, sessions: usize) -> Self {
        let setup = Setup::new();
        let socket = setup.path().join("sleeping.sock");
        let listen = format!(
            r#"[{{ address = "127.0.0.1:0" }}, {{ unix = "{}", default_endpoint = "{endpoint}" }}]"#,
            socket.display()
        );
        let keys = pool(sessions, "wait_timeout = \"5s\"");
        let setup = setup.listen(&listen);
        let setup = setup.process(
            endpoint,
            &format!("{keys}\nsuspend_after = \"100ms\"\nhold_timeout = \"1m\""),
        );
        let gateway = setup.start().await;
        furnish(&Beside::through(socket.clone())).await;
        let side = || Side {
            data_dir: Some(gateway.data_dir(endpoint)),
            ..Side::new(socket.clone(), Beside::through(socket.clone()))
        };
        let (pooled, crowd) = (side(), side());
        Self::with(pooled, crowd, Behind::Process(gateway)).await
    }

    async fn with(pooled: Side, crowd: Side, behind: Behind) -> Self {
        let postgres = Postgres::start(Version::Debian).await;
        let direct = Side::new(postgres.socket(), Beside::at(&postgres));
        furnish(&direct.beside).await;
        Self {
            direct,
            pooled,
            crowd,
            postgres,
            behind,
        }
    }

    /// Without pgwake: for a proof of the oracle itself.
    pub(crate) fn bare(mut self) -> Self {
        if let Behind::Fixed(gateway) = &self.behind {
            let postgres = &gateway.postgres;
            let side = || Side::new(postgres.socket(), Beside::at(postgres));
            (self.pooled, self.crowd) = (side(), side());
        }
        self
    }

    /// The last lines of what the one that clients talk to directly has logged.
    pub(crate) fn log(&self) -> String {
        let log = self.postgres.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// The schema of temporary tables that the first of each process makes: to make one has all sessions of its database
/// read their old statements anew, with the settings of then.
const TEMPORARY: &str = "
    set allow_system_table_mods = on;
    do $$begin
        for n in 0..150 loop
            execute format('create schema pg_temp_%s', n);
            execute format('create schema pg_toast_temp_%s', n);
        end loop;
    end$$";

async fn furnish(beside: &Beside) {
    let password = PASSWORD.replace('\'', "''");
    for role in ["alice", "bob"] {
        let sql = format!("create role {role} login password '{password}'");
        beside.does("postgres", &sql).await;
    }
    for number in 0..CLIENTS {
        let sql = format!("create role limited_{number}; grant limited_{number} to alice, bob");
        beside.does("postgres", &sql).await;
    }
    for database in [PLAIN, CAREFUL] {
        beside
            .does("postgres", &format!("create database {database}"))
            .await;
        beside.does(database, TEMPORARY).await;
        beside.does(database, KIT).await;
        if database == CAREFUL {
            beside.does(database, TRIGGER).await;
        }
    }
}

/// Each client finds what every client of a case finds, and nothing of those before it.
pub(crate) async fn reset(side: &Side, case: &Case) {
    let is_careful = case.database == CAREFUL;
    let schemas: String = (0..CLIENTS).map(|client| schema(client, is_careful)).collect();
    let within = format!("set lock_timeout = '10s'; set client_min_messages = error; {schemas}");
    side.beside.does(case.database, &within).await;
    if !case.visits {
        return;
    }
    for client in 0..CLIENTS {
        let sql = format!("drop database if exists guests_{client} with (force)");
        side.beside.does("postgres", &sql).await;
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
