//! Which way of pooling a client comes in for: by its name, by `options`, by the listener, by the endpoint.

use super::{access_of, host, libpq, startup};
use crate::harness::{
    gateway::{DOMAIN, Gateway, Setup},
    postgres::{PASSWORD, Postgres, Version},
    programs::Finished,
    psql::psql,
    raw::Raw,
};

/// What Postgres is told of pgwake's own setting.
const TOLD: &str = "select coalesce(current_setting('pgwake.pool', true), 'nothing')";

async fn ask(gateway: &Gateway, host: &str, more: &str) -> Finished {
    psql(&libpq(gateway, host, more))
        .arguments(&["-c", TOLD])
        .run()
        .await
}

/// Endpoint and way of pooling of a client that comes to `host` with these further parameters.
async fn chosen(gateway: &Gateway, host: &str, more: &str, application: &str) -> (String, String) {
    let more = format!("application_name={application} {more}");
    let told = ask(gateway, host, &more).await.succeeded();
    assert_eq!(told, "nothing", "{host} {more}");
    let line = access_of(application).await;
    (
        line.field("endpoint").to_owned(),
        line.field("pooling").to_owned(),
    )
}

#[tokio::test]
async fn options_go_before_the_name_and_the_name_before_the_endpoint() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .fixed("pol-plain", &postgres, "")
        .fixed("pol-shared", &postgres, "pool.mode = \"transaction\"")
        .start()
        .await;
    for (number, (name, more, pooling)) in [
        ("pol-plain", "", "session"),
        ("pol-plain-pooler", "", "transaction"),
        ("pol-plain-POOLER", "", "transaction"),
        ("pol-plain", "options=endpoint=pol-plain-pooler", "transaction"),
        ("pol-plain", "options='-c pgwake.pool=transaction'", "transaction"),
        ("pol-plain", "options=--pgwake.pool=Transaction", "transaction"),
        ("pol-plain-pooler", "options=-cpgwake.pool=session", "session"),
        ("pol-shared", "", "transaction"),
        ("pol-shared-pooler", "", "transaction"),
        ("pol-shared", "options=pgwake.pool=session", "session"),
    ]
    .into_iter()
    .enumerate()
    {
        let endpoint = name.to_ascii_lowercase().replace("-pooler", "");
        let application = format!("pol-chosen-{number}");
        assert_eq!(
            chosen(&gateway, &host(name), more, &application).await,
            (endpoint, pooling.to_owned()),
            "{name} {more}"
        );
    }
}

#[tokio::test]
async fn the_listeners_default_may_ask_for_transaction_pooling() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional", default_endpoint = "pol-default-pooler" }"#)
        .fixed("pol-default", &postgres, "")
        .start()
        .await;
    for (number, (host, more, pooling)) in [
        (DOMAIN, "", "transaction"),
        (DOMAIN, "options=pgwake.pool=session", "session"),
        ("pol-default.db.localhost", "", "session"),
    ]
    .into_iter()
    .enumerate()
    {
        let application = format!("pol-default-{number}");
        let expected = ("pol-default".to_owned(), pooling.to_owned());
        assert_eq!(chosen(&gateway, host, more, &application).await, expected);
    }
}

#[tokio::test]
async fn an_unknown_way_of_pooling_is_refused_to_those_who_have_proved_who_they_are() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("pol-unknown", &postgres, "").start().await;
    let asked = "options=pgwake.pool=statement application_name=pol-unknown-1";
    let refused = ask(&gateway, &host("pol-unknown"), asked).await;
    assert_eq!(refused.status.code(), Some(2));
    for text in [
        "FATAL:  invalid value for parameter \"pgwake.pool\": \"statement\"",
        "HINT:  write \"session\" or \"transaction\"",
    ] {
        assert!(refused.errors.contains(text), "{}", refused.errors);
    }
    let line = access_of("pol-unknown-1").await;
    assert_eq!((line.field("sqlstate"), line.field("pooling")), ("22023", ""));

    let asked = "options=pgwake.pool=statement application_name=pol-unknown-2 password=wrong";
    let refused = ask(&gateway, &host("pol-unknown"), asked).await;
    assert!(!refused.errors.contains("statement"), "{}", refused.errors);
    assert_eq!(access_of("pol-unknown-2").await.field("sqlstate"), "28P01");
}

#[tokio::test]
async fn who_replicates_has_a_session_whatever_was_asked_for() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("pol-walsender", &postgres, "").start().await;
    for (replication, sql, pooling) in [
        ("database", "IDENTIFY_SYSTEM", "session"),
        ("on", "IDENTIFY_SYSTEM", "session"),
        ("off", "select 1", "transaction"),
        ("0", "select 1", "transaction"),
    ] {
        let application = format!("pol-walsender-{replication}");
        let more = format!(
            "application_name={application} replication={replication} options=pgwake.pool=transaction"
        );
        psql(&libpq(&gateway, &host("pol-walsender-pooler"), &more))
            .arguments(&["-c", sql])
            .run()
            .await
            .succeeded();
        assert_eq!(
            access_of(&application).await.field("pooling"),
            pooling,
            "{replication}"
        );
    }
}

/// As Postgres does it: each write is one more system call, and one more packet for the client to read.
#[tokio::test]
async fn who_shares_sessions_is_let_in_and_greeted_in_one_write() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional" }"#)
        .fixed("pol-greeted", &postgres, "")
        .start()
        .await;
    let startup = startup(&[("options", "endpoint=pol-greeted-pooler")]);
    // The first one's greeting is Postgres' own: it waits for a session.
    Raw::tcp(gateway.address()).await.log_in(&startup, PASSWORD).await;
    for _ in 0..5 {
        let mut client = Raw::tcp(gateway.address()).await;
        client.send(&startup).await;
        let told = client.answer_to_proof(PASSWORD).await;
        assert_eq!((told[0], &told[5..9]), (b'R', &[0, 0, 0, 12][..]));
        assert!(told.ends_with(b"Z\0\0\0\x05I"), "{told:?}");
    }
}
