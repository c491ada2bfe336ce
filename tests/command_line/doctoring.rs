//! `pgwake doctor`, at a real gateway: the way that is right, and each first thing that may be wrong.

use std::{net::TcpListener, path::Path};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pgwake;
use crate::harness::{
    certificates::Authority,
    gate::Gate,
    gateway::{DOMAIN, Gateway, Setup, append},
    postgres::{PASSWORD, SUPERUSER},
    programs::{Finished, Program},
};

/// The connection string for an endpoint; what is said again in `more` counts.
fn conninfo(gateway: &Gateway, endpoint: &str, more: &str) -> String {
    format!(
        "{} channel_binding=require {more}",
        gateway.connection_string(endpoint)
    )
}

pub(super) fn program(connection: &str) -> Program {
    pgwake(&["doctor", connection])
}

/// Its steps with what is said of them, and its exit code.
fn steps(finished: &Finished) -> Vec<(bool, String)> {
    let said = |line: &str| {
        let right = line.strip_prefix("ok    ").map(|rest| (true, rest));
        let said = right.or_else(|| line.strip_prefix("WRONG ").map(|rest| (false, rest)));
        said.map(|(is_right, rest)| (is_right, rest.split_whitespace().next().unwrap().to_owned()))
    };
    finished.output.lines().filter_map(said).collect()
}

/// Runs it where this step is the first that is wrong; gives all it says.
pub(super) async fn stopped_at(step: &str, connection: &str) -> String {
    let finished = program(connection).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:#?}");
    let steps = steps(&finished);
    let (last, before) = steps.split_last().unwrap();
    assert_eq!(*last, (false, step.to_owned()), "{finished:#?}");
    assert!(before.iter().all(|(is_right, _)| *is_right), "{finished:#?}");
    assert!(finished.output.contains("do: "), "{finished:#?}");
    assert!(
        !finished.output.contains("sesame") && finished.errors.is_empty(),
        "{finished:#?}"
    );
    finished.output
}

pub(super) fn assert_says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
}

#[tokio::test]
async fn the_right_way_is_walked_to_a_query_as_libpq_would() {
    const ENDPOINT: &str = "doc-right";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let finished = program(&conninfo(&gateway, ENDPOINT, "")).run().await;
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    let expected = [
        "name",
        "tcp",
        "tls",
        "certificate",
        "endpoint",
        "login",
        "wake",
        "query",
    ];
    assert_eq!(
        steps(&finished),
        expected.map(|step| (true, step.to_owned())),
        "{finished:#?}"
    );
    assert_says(
        &finished.output,
        &[
            "SCRAM-SHA-256-PLUS",
            "\"pgwake test authority\"",
            "days left",
            ENDPOINT,
            "everything is right",
        ],
    );
    assert!(!finished.output.contains(PASSWORD), "{finished:#?}");

    // By a URI, without a check of the certificate, by options and with pooling.
    let address = gateway.address();
    let password = PASSWORD
        .replace('%', "%25")
        .replace(' ', "%20")
        .replace('\'', "%27");
    let uri = format!(
        "postgresql://{SUPERUSER}:{password}@{address}/postgres?sslmode=require&options=endpoint%3D{ENDPOINT}-pooler"
    );
    let other = program(&uri).run().await.succeeded();
    assert_says(
        &other,
        &["(options)", "transaction pooling", "everything is right"],
    );
    let direct = conninfo(
        &gateway,
        ENDPOINT,
        "sslnegotiation=direct channel_binding=disable",
    );
    let direct = program(&direct).run().await.succeeded();
    assert_says(&direct, &["by SCRAM-SHA-256\n"]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_socket_is_walked_as_well_with_the_password_of_the_environment() {
    const ENDPOINT: &str = "doc-socket";
    let setup = Setup::new().listed(ENDPOINT, "");
    let listen =
        format!("[\"127.0.0.1:0\", {{ unix = \"here/.s.PGSQL.5432\", default_endpoint = \"{ENDPOINT}\" }}]");
    std::fs::create_dir(setup.path().join("here")).unwrap();
    let gateway = setup.listen(&listen).start().await;
    let folder = gateway.path().join("here");
    let connection = format!("host={} user={SUPERUSER} dbname=postgres", folder.display());
    let asked = program(&connection)
        .variable("PGPASSWORD", PASSWORD)
        .run()
        .await
        .succeeded();
    assert_says(
        &asked,
        &[
            "ok    socket",
            "default_endpoint",
            "by SCRAM-SHA-256\n",
            "everything is right",
        ],
    );
    let elsewhere = stopped_at("socket", &format!("{connection} port=6543")).await;
    assert_says(&elsewhere, &[".s.PGSQL.6543", "whether pgwake runs"]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_before_tls_is_told() {
    const ENDPOINT: &str = "doc-before";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    // Longer than a label may be: no resolver has to be asked.
    let unresolvable = format!("host={}.{DOMAIN} user=x", "x".repeat(64));
    assert_says(
        &stopped_at("name", &unresolvable).await,
        &["does not resolve", "hostaddr"],
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let closed = conninfo(&gateway, ENDPOINT, &format!("port={port}"));
    assert_says(
        &stopped_at("tcp", &closed).await,
        &["refused", "whether pgwake runs"],
    );
    let plain = conninfo(&gateway, ENDPOINT, "sslmode=disable channel_binding=prefer");
    let said = stopped_at("login", &plain).await;
    assert_says(
        &said,
        &["08004 TLS is required", "HINT: connect with sslmode=require"],
    );
    assert_eq!(gateway.wakes(ENDPOINT), 0);
}

/// A port where every request for TLS is answered with these bytes, and the connection is closed.
async fn answering(answer: &'static [u8]) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 8];
            client.read_exact(&mut request).await.unwrap();
            client.write_all(answer).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn what_is_no_pgwake_is_told() {
    for (answer, step, says) in [
        (&b"N"[..], "tls", "the server has no TLS"),
        (b"HTTP/1.1 400 Bad Request", "tls", "no Postgres"),
        (b"", "tls", "no answer to the request for TLS"),
        // Bytes behind the answer would be read as if they had been encrypted.
        (b"S with more", "tls", "no Postgres"),
    ] {
        let port = answering(answer).await;
        let connection = format!("host=localhost hostaddr=127.0.0.1 port={port} user=x sslmode=require");
        assert_says(&stopped_at(step, &connection).await, &[says]);
    }
    let port = answering(b"N").await;
    let plain = format!("host=localhost hostaddr=127.0.0.1 port={port} user=x sslmode=prefer");
    assert_says(
        &stopped_at("login", &plain).await,
        &["closed the connection without a word", "clients_max"],
    );
}

#[tokio::test]
async fn certificates_are_looked_at_whole() {
    const ENDPOINT: &str = "doc-certificate";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let other = conninfo(&gateway, ENDPOINT, "host=db.example.com");
    let said = stopped_at("certificate", &other).await;
    assert_says(&said, &["*.db.localhost", "not for db.example.com", "wildcard"]);
    let stranger = gateway.path().join("stranger.pem");
    std::fs::create_dir(gateway.path().join("stranger")).unwrap();
    std::fs::rename(
        Authority::new().write(&gateway.path().join("stranger")),
        &stranger,
    )
    .unwrap();
    let unknown = conninfo(&gateway, ENDPOINT, &format!("sslrootcert={}", stranger.display()));
    assert_says(
        &stopped_at("certificate", &unknown).await,
        &["not trusted", "intermediates"],
    );
    let nobody = conninfo(&gateway, ENDPOINT, "sslrootcert=");
    assert_says(
        &stopped_at("certificate", &nobody).await,
        &["whom to trust", "sslrootcert="],
    );
    // What does not ask is let through, and told.
    let lax = conninfo(
        &gateway,
        ENDPOINT,
        "host=db.example.com sslmode=require sslrootcert='' options=endpoint=doc-certificate",
    );
    let lax = program(&lax).run().await.succeeded();
    assert_says(&lax, &["note:", "not for db.example.com"]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_its_age() {
    const ENDPOINT: &str = "doc-expired";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let names = ["*.db.localhost"];
    let expired = gateway.authority.certify_with(&names, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    // As renewals come: over the old one, while it serves.
    expired.write(gateway.path(), "server");
    let connection = conninfo(&gateway, ENDPOINT, "");
    crate::harness::wait::until("the new certificate to be served", async || {
        !program(&connection).run().await.status.success()
    })
    .await;
    assert_says(
        &stopped_at("certificate", &connection).await,
        &["has expired", "days ago", "renew it"],
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_endpoint_cannot_be_told_apart() {
    const ENDPOINT: &str = "doc-login";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut told = Vec::new();
    for wrong in [
        conninfo(&gateway, ENDPOINT, "password=sesame"),
        conninfo(&gateway, ENDPOINT, "user=nobody"),
        conninfo(&gateway, "doc-not-there", ""),
    ] {
        let said = stopped_at("login", &wrong).await;
        assert_says(
            &said,
            &[
                "28P01 password authentication failed",
                "which one it is cannot be told",
                "/api/v1/refusals?session=",
            ],
        );
        told.push(said);
    }
    assert!(told[2].contains("doc-not-there"), "{}", told[2]);
    let none = conninfo(&gateway, ENDPOINT, "password=");
    assert_says(
        &stopped_at("login", &none).await,
        &["asks for a password", "PGPASSWORD"],
    );
    let unbound = conninfo(&gateway, ENDPOINT, "sslmode=disable");
    stopped_at("login", &unbound).await;
    assert_eq!(gateway.wakes(ENDPOINT), 0);
    // The login is right then, and the compute wakes.
    let elsewhere = conninfo(&gateway, ENDPOINT, "dbname=not_there");
    assert_says(
        &stopped_at("wake", &elsewhere).await,
        &["3D000", "dbname=not_there"],
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_compute_that_cannot_start_is_told_with_pgwakes_own_words() {
    const ENDPOINT: &str = "doc-broken";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    append(
        &settings(&gateway.data_dir(ENDPOINT)),
        "shared_buffers = nonsense",
    );
    let said = stopped_at("wake", &conninfo(&gateway, ENDPOINT, "")).await;
    assert_says(
        &said,
        &[
            "57P03 compute for endpoint \"doc-broken\" could not be started",
            "DETAIL:",
            "HINT:",
            "session",
        ],
    );
}

fn settings(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("postgresql.conf")
}

#[tokio::test]
async fn a_slow_wake_is_seen_as_it_happens() {
    const ENDPOINT: &str = "doc-slow";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let gateway = setup.gated(ENDPOINT, &gate, "").start().await;
    let mut doctor = program(&conninfo(&gateway, ENDPOINT, "")).start();
    doctor.hear("ok    login").await;
    doctor.hear(&format!("NOTICE: endpoint \"{ENDPOINT}\": ")).await;
    gate.open();
    let finished = doctor.end().await;
    assert_says(
        &finished.succeeded(),
        &["ok    wake", "ok    query", "everything is right"],
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_wake_that_takes_too_long_has_an_end() {
    const ENDPOINT: &str = "doc-patience";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let gateway = setup.gated(ENDPOINT, &gate, "").start().await;
    let connection = conninfo(&gateway, ENDPOINT, "");
    let finished = pgwake(&["doctor", &connection, "--max", "3s"]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:#?}");
    assert_eq!(
        steps(&finished).last(),
        Some(&(false, "wake".to_owned())),
        "{finished:#?}"
    );
    assert_says(&finished.output, &["no answer within 3s", "--max"]);
    gate.open();
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_wrong_connection_string_is_an_argument_that_is_wrong() {
    for wrong in [
        "host=x user=y sslmode=sesame",
        "host=x user=y nonsense=1",
        "sesame",
    ] {
        let finished = program(wrong).run().await;
        assert_eq!(finished.status.code(), Some(2), "{finished:#?}");
        assert!(!finished.errors.contains("sesame"), "{finished:#?}");
    }
}
