//! What is told of a session: one access line with all that an operator asks for, its id to the client, and no
//! secret to anybody.

use super::{conversation, log_in, startup, verifier};
use crate::harness::{
    gateway::Setup,
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    raw::Raw,
    tls_client,
};

#[tokio::test]
async fn an_access_line_has_everything() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("acc-all", &postgres, "").start().await;
    let mut config = gateway.config("acc-all");
    config.application_name("the \"app\"\nname");
    let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
    client.batch_execute("select repeat('x', 100000)").await.unwrap();
    assert_eq!(logs::access("acc-all").len(), 0, "told before its end");
    drop(client);

    let line = logs::access_lines("acc-all", 1).await.remove(0);
    for (field, value) in [
        ("tenant", "acme"),
        ("role", SUPERUSER),
        ("database", "postgres"),
        ("application", "the \"app\"\nname"),
        ("tls", "TLSv1.3"),
        ("pooling", "session"),
        ("sqlstate", "00000"),
        ("outcome", "ended"),
    ] {
        assert_eq!(line.field(field), value, "{line:?}");
    }
    assert!(line.field("peer").starts_with("127.0.0.1:"), "{line:?}");
    assert_eq!(line.field("session").len(), 16, "{line:?}");
    let number = |field: &str| line.field(field).parse::<f64>().unwrap();
    assert!(number("bytes_out") > 100_000.0, "{line:?}");
    assert!(
        number("bytes_in") > 20.0 && number("bytes_in") < 5_000.0,
        "{line:?}"
    );
    let phases: f64 = ["tls_ms", "auth_ms", "hold_ms", "connect_ms"]
        .map(number)
        .iter()
        .sum();
    assert!(phases > 0.0 && phases <= number("stay_ms") + 1.0, "{line:?}");
    assert!(number("tls_ms") > 0.0 && number("auth_ms") > 0.0, "{line:?}");
}

#[tokio::test]
async fn every_refusal_carries_the_id_of_its_access_line() {
    let gateway = Setup::new().start().await;
    let heard = conversation(gateway.raw_to("acc-refused").await, "app", "wrong").await;
    let line = logs::access_lines("acc-refused", 1).await.remove(0);
    assert!(line.field("auth_ms").parse::<f64>().unwrap() > 0.0, "{line:?}");
    let refusal = heard[2].fields();
    let expected = format!("(pgwake session {})", line.field("session"));
    assert_eq!(refusal[&'D'], expected);
    assert_eq!(line.field("sqlstate"), "28P01");
    assert_eq!(line.field("role"), "app");
    // The operator is told what the client is not.
    assert!(line.field("outcome").contains("no such endpoint"), "{line:?}");
    assert_eq!(logs::access("acc-refused").len(), 1);
}

#[tokio::test]
async fn what_postgres_ends_is_in_the_access_line_with_its_code() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("acc-ended", &postgres, "").start().await;
    let mut config = gateway.config("acc-ended");
    config.dbname("none");
    let error = tls_client::connect(&config, &gateway.authority)
        .await
        .err()
        .unwrap();
    assert_eq!(error.code().unwrap().code(), "3D000");
    let client = gateway.connect("acc-ended").await;
    let sql = "select pg_terminate_backend(pg_backend_pid())";
    let error = client.batch_execute(sql).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P01");
    let lines = logs::access_lines("acc-ended", 2).await;
    let codes: Vec<_> = lines.iter().map(|line| line.field("sqlstate")).collect();
    assert_eq!(codes, ["3D000", "57P01"]);
}

#[tokio::test]
async fn no_secret_is_logged() {
    let postgres = Postgres::start(Version::Debian).await;
    let keys = format!(
        "roles.listed = {{ verifier = \"{}\", server_password = \"acc-secret-server\" }}",
        verifier("acc-secret-client")
    );
    let gateway = Setup::new().fixed("acc-quiet", &postgres, &keys).start().await;
    let admin = gateway.connect("acc-quiet").await;
    let sql = "create role listed login password 'acc-secret-server';
        create role made login password 'acc-secret-made';";
    admin.batch_execute(sql).await.unwrap();
    log_in(&gateway, "acc-quiet", "listed", "acc-secret-client")
        .await
        .unwrap();
    log_in(&gateway, "acc-quiet", "made", "acc-secret-made")
        .await
        .unwrap();
    log_in(&gateway, "acc-quiet", "made", "acc-secret-wrong")
        .await
        .unwrap_err();
    admin
        .batch_execute("alter role listed password 'acc-secret-other'")
        .await
        .unwrap();
    log_in(&gateway, "acc-quiet", "listed", "acc-secret-client")
        .await
        .unwrap_err();
    let mut client: Raw = gateway.raw_to("acc-quiet").await;
    client.send(&startup("made")).await;
    client.message().await.authentication(10);
    client.send(b"p\0\0\0\x15acc-secret-broken").await;
    assert_eq!(client.message().await.tag, b'E');
    let row = admin
        .query_one("select rolpassword from pg_authid where rolname = 'made'", &[])
        .await
        .unwrap();
    logs::access_lines("acc-quiet", 5).await;

    let stored: String = row.get(0);
    let pieces = stored.split(['$', ':']).filter(|piece| piece.len() > 13);
    for secret in pieces.chain(["acc-secret", PASSWORD]) {
        let told = logs::with_text(secret);
        assert!(told.is_empty(), "{secret}: {told:?}");
    }
}
