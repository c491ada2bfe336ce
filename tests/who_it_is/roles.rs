//! `roles_from = "postgres"` while the compute is awake: what SQL says of roles holds at once.

use super::{log_in, refused};
use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{Postgres, Version},
    wait::until,
};

async fn gateway(postgres: &Postgres, endpoint: &str) -> Gateway {
    Setup::new().fixed(endpoint, postgres, "").start().await
}

const REFUSED: Option<&str> = Some("28P01");

#[tokio::test]
async fn roles_that_may_not_log_in_do_not() {
    let postgres = Postgres::start(Version::Debian).await;
    let sql = "create role over login password 'pw' valid until '2001-01-01';
        create role lasting login password 'pw' valid until 'infinity';
        create role dated login password 'pw' valid until '2100-01-01';
        create role never password 'pw';
        create role bare login;";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    let gateway = gateway(&postgres, "rol-may").await;
    for (role, code) in [
        ("over", REFUSED),
        ("never", REFUSED),
        ("bare", REFUSED),
        ("unknown", REFUSED),
        ("lasting", None),
        ("dated", None),
    ] {
        let found = refused(&gateway, "rol-may", role, "pw").await;
        assert_eq!(found.as_deref(), code, "{role}");
    }
}

#[tokio::test]
async fn what_a_session_does_to_roles_holds_for_the_next_login() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = gateway(&postgres, "rol-sql").await;
    let admin = gateway.connect("rol-sql").await;
    for (sql, role, password, code) in [
        ("create role one login password 'pw'", "one", "pw", None),
        ("create user two password 'pw'", "two", "pw", None),
        (
            "do $$ begin create role three login password 'pw'; end $$",
            "three",
            "pw",
            None,
        ),
        ("alter role one password 'new'", "one", "pw", REFUSED),
        ("alter user one password 'newer'", "one", "newer", None),
        ("alter role one nologin", "one", "newer", REFUSED),
        ("alter role one login", "one", "newer", None),
        ("alter role one valid until '2001-01-01'", "one", "newer", REFUSED),
        ("alter role two rename to second", "second", "pw", None),
        ("drop role three", "three", "pw", REFUSED),
        ("drop user second", "second", "pw", REFUSED),
        (
            "begin; create role four login password 'pw'; commit",
            "four",
            "pw",
            None,
        ),
        (
            "begin; create role five login password 'pw'; rollback",
            "five",
            "pw",
            REFUSED,
        ),
    ] {
        admin.batch_execute(sql).await.unwrap();
        let found = refused(&gateway, "rol-sql", role, password).await;
        assert_eq!(found.as_deref(), code, "{sql}");
    }
}

#[tokio::test]
async fn the_extended_protocol_and_procedures_are_seen_too() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = gateway(&postgres, "rol-extended").await;
    let admin = gateway.connect("rol-extended").await;
    let sql = "create procedure make(name text) language plpgsql as $$
        begin execute format('create role %I login password ''pw''', name); end $$";
    admin.batch_execute(sql).await.unwrap();

    admin
        .execute("create role prepared login password 'pw'", &[])
        .await
        .unwrap();
    log_in(&gateway, "rol-extended", "prepared", "pw").await.unwrap();
    admin.execute("call make('called')", &[]).await.unwrap();
    log_in(&gateway, "rol-extended", "called", "pw").await.unwrap();
}

#[tokio::test]
async fn a_role_that_somebody_else_made_is_found_when_it_tries() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = gateway(&postgres, "rol-direct").await;
    let admin = postgres.connect().await;
    let sql = "create role direct login password 'pw'";
    admin.batch_execute(sql).await.unwrap();
    until("the role is let in", async || {
        refused(&gateway, "rol-direct", "direct", "pw").await.is_none()
    })
    .await;
    admin
        .batch_execute("alter role direct password 'other'")
        .await
        .unwrap();
    until("the new password is let in", async || {
        refused(&gateway, "rol-direct", "direct", "other").await.is_none()
    })
    .await;
    let old = refused(&gateway, "rol-direct", "direct", "pw").await;
    assert_eq!(old.as_deref(), REFUSED);
}

/// pgwake went on taking its proofs, and what its clients read was the server's refusal, or a hint at verifiers that differ.
#[tokio::test]
async fn a_role_that_somebody_else_shut_out_is_known_from_the_second_try_on() {
    let postgres = Postgres::start(Version::Debian).await;
    let admin = postgres.connect().await;
    let sql = "create role shut login password 'pw'; create role shut_pooled login password 'pw'";
    admin.batch_execute(sql).await.unwrap();
    let gateway = gateway(&postgres, "rol-shut").await;
    for (role, name) in [("shut", "rol-shut"), ("shut_pooled", "rol-shut-pooler")] {
        log_in(&gateway, "rol-shut", role, "pw").await.unwrap();
        let sql = format!("alter role {role} nologin");
        admin.batch_execute(&sql).await.unwrap();
        let first = refused(&gateway, name, role, "pw").await;
        assert_eq!(first.as_deref(), Some("28000"), "the server's own word");
        until("pgwake to know it", async || {
            refused(&gateway, name, role, "pw").await.as_deref() == REFUSED
        })
        .await;
    }
}

#[tokio::test]
async fn a_reading_sees_nothing_of_what_clients_arrange() {
    let postgres = Postgres::start(Version::Debian).await;
    // Whoever owns a database can set what its sessions begin with.
    let sql = "create schema trap;
        create view trap.pg_authid as select 'mallory'::name rolname, 'md5x' rolpassword, true rolcanlogin,
            null::timestamptz rolvaliduntil;
        create function trap.floor(numeric) returns bigint language sql as 'select 0::bigint';
        alter role postgres set search_path = trap, pg_catalog;
        alter database postgres set search_path = trap, pg_catalog;
        alter role postgres set default_transaction_isolation = 'serializable';
        create role honest login password 'pw' valid until '2100-01-01';";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    let gateway = gateway(&postgres, "rol-trap").await;
    log_in(&gateway, "rol-trap", "honest", "pw").await.unwrap();
    assert_eq!(
        refused(&gateway, "rol-trap", "mallory", "pw").await.as_deref(),
        REFUSED
    );
}

#[tokio::test]
async fn what_the_configuration_lists_wins() {
    let postgres = Postgres::start(Version::Debian).await;
    let sql = "create role app login password 'in postgres'; create role other login password 'pw'";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    let listed = super::verifier("listed");
    let keys = format!("roles.app = {{ verifier = \"{listed}\", server_password = \"in postgres\" }}");
    let gateway = Setup::new().fixed("rol-listed", &postgres, &keys).start().await;
    log_in(&gateway, "rol-listed", "app", "listed").await.unwrap();
    log_in(&gateway, "rol-listed", "other", "pw").await.unwrap();
    let found = refused(&gateway, "rol-listed", "app", "in postgres").await;
    assert_eq!(found.as_deref(), REFUSED);
}
