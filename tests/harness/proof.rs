//! Proves the harness on Postgres itself: each part of it does what the tests of pgwake will rely on.

use std::time::Duration;

use postgres_protocol::message::frontend;
use rustix::process::Signal;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use super::{
    certificates::Authority,
    directories::Directory,
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    processes,
    programs::Program,
    psql::{pgbench, psql},
    python::python,
    raw::{self, Raw},
    tls_client, wait,
};

/// The host name that certificates are made for; it need not resolve.
const NAME: &str = "pg.test";

/// A server with a certificate for [`NAME`], and the authority behind it.
async fn with_tls(version: Version) -> (Postgres, Authority) {
    let authority = Authority::new();
    let certificate = authority.certify(&[NAME]);
    let postgres = Prepared::new(version).tls(&certificate).start().await;
    (postgres, authority)
}

fn startup() -> Vec<u8> {
    raw::startup(
        raw::PROTOCOL_3_0,
        &[("user", SUPERUSER), ("database", "postgres")],
    )
}

#[tokio::test]
async fn both_versions_start_and_take_logins() {
    for (version, at_least) in [(Version::Debian, 15), (Version::V18, 18)] {
        let postgres = Postgres::start(version).await;
        let row = postgres
            .connect()
            .await
            .query_one("show server_version_num", &[])
            .await;
        let number: u32 = row.unwrap().get::<_, String>(0).parse().unwrap();
        assert!(number >= at_least * 10_000, "{number}");
    }
}

#[tokio::test]
async fn settings_reach_the_server() {
    let postgres = Prepared::new(Version::Debian)
        .setting("max_connections", "7")
        .start()
        .await;
    let row = postgres
        .connect()
        .await
        .query_one("show max_connections", &[])
        .await;
    assert_eq!(row.unwrap().get::<_, String>(0), "7");
}

#[tokio::test]
async fn dropped_server_leaves_neither_process_nor_file() {
    let postgres = Postgres::start(Version::Debian).await;
    let client = postgres.connect().await;
    let (data, postmaster) = (postgres.data(), postgres.postmaster());
    let running = processes::in_directory(&data);
    assert!(running.iter().any(|process| process.pid == postmaster));
    assert!(running.len() > 1, "{running:?}");

    drop(postgres);

    assert!(processes::in_directory(&data).is_empty());
    assert!(!data.exists());
    wait::until("the client learns of the end", async || client.is_closed()).await;
}

#[tokio::test]
async fn dropped_server_takes_its_orphans_along() {
    let postgres = Postgres::start(Version::Debian).await;
    let client = postgres.connect().await;
    let spin = tokio::spawn(async move {
        // A backend that computes does not look whether its postmaster is alive.
        client
            .batch_execute("do $$begin loop end loop; end$$")
            .await
            .unwrap_err();
    });
    let data = postgres.data();
    let spins = |data| {
        processes::in_directory(data)
            .iter()
            .any(|process| process.command.ends_with(" DO"))
    };
    wait::until("the backend spins", async || spins(&data)).await;
    processes::signal(postgres.postmaster(), Signal::KILL);
    assert!(processes::ended_within(
        postgres.postmaster(),
        Duration::from_secs(5)
    ));
    assert!(
        spins(&data),
        "the orphan ended by itself: this test proves nothing"
    );

    drop(postgres);

    assert!(processes::in_directory(&data).is_empty());
    spin.await.unwrap();
}

#[tokio::test]
async fn psql_runs_a_statement_and_reports_errors() {
    let postgres = Postgres::start(Version::Debian).await;
    let query = |sql: &str| psql(&postgres.connection_string()).arguments(&["-c", sql]).run();
    assert_eq!(query("select 6 * 7").await.succeeded(), "42");
    assert!(query("select 1 / 0").await.failed().contains("22012"));
}

#[tokio::test]
async fn psql_verifies_certificate_and_channel_binding() {
    let (postgres, authority) = with_tls(Version::Debian).await;
    let directory = Directory::new();
    let ca = authority.write(directory.path());
    let connection_string = |name: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={} user={SUPERUSER} dbname=postgres \
             sslmode=verify-full sslrootcert={} channel_binding=require",
            postgres.port(),
            ca.display()
        )
    };
    let query = |name: &str| {
        psql(&connection_string(name))
            .variable("PGPASSWORD", PASSWORD)
            .arguments(&["-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"])
            .run()
    };
    assert_eq!(query(NAME).await.succeeded(), "t");
    assert!(
        query("other.test")
            .await
            .failed()
            .contains("does not match host name")
    );
}

#[tokio::test]
async fn psql_can_be_spoken_to() {
    let postgres = Postgres::start(Version::Debian).await;
    let mut session = psql(&postgres.connection_string()).start();
    session.say("select 'first', 6 * 7;").await;
    assert_eq!(session.hear("first|42").await, "first|42");
    session.say("select 'second', pg_backend_pid();").await;
    session.hear("second|").await;
    assert!(processes::open_files(session.pid()) > 3);
    session.end().await.succeeded();
}

#[tokio::test]
async fn pgbench_runs() {
    let postgres = Postgres::start(Version::Debian).await;
    let bench = |arguments: &[&str]| pgbench(&postgres.connection_string(), arguments).run();
    bench(&["-i", "-q", "-s", "1"]).await.succeeded();
    let report = bench(&["-S", "-n", "-c", "2", "-t", "50"]).await.succeeded();
    assert!(report.contains("processed: 100/100"), "{report}");
}

#[tokio::test]
async fn psycopg_speaks_direct_tls_and_protocol_3_2() {
    let (postgres, authority) = with_tls(Version::V18).await;
    let directory = Directory::new();
    let ca = authority.write(directory.path());
    let connection_string = format!(
        "host={NAME} hostaddr=127.0.0.1 port={} user={SUPERUSER} password='{}' dbname=postgres \
         sslnegotiation=direct sslmode=verify-full sslrootcert={} channel_binding=require \
         min_protocol_version=3.2 max_protocol_version=3.2",
        postgres.port(),
        PASSWORD.replace('\'', "\\'"),
        ca.display()
    );
    let said = python("psycopg_query", &[&connection_string, "select 6 * 7"])
        .run()
        .await
        .succeeded();
    assert!(said.contains(r#""rows": [[[42]]]"#), "{said}");
    assert!(said.contains(r#""protocol": 30002"#), "{said}");
    assert!(said.contains(r#""tls": true"#), "{said}");
}

#[tokio::test]
async fn psycopg_reports_errors() {
    let postgres = Postgres::start(Version::Debian).await;
    let finished = python("psycopg_query", &[&postgres.connection_string(), "select 1 / 0"])
        .run()
        .await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.output.contains(r#""sqlstate": "22012""#), "{finished:?}");
}

#[tokio::test]
async fn tokio_postgres_speaks_tls_with_channel_binding() {
    let (postgres, authority) = with_tls(Version::V18).await;
    for negotiation in [SslNegotiation::Postgres, SslNegotiation::Direct] {
        let mut config = tokio_postgres::Config::new();
        config
            .host(NAME)
            .hostaddr([127, 0, 0, 1].into())
            .port(postgres.port())
            .user(SUPERUSER)
            .password(PASSWORD)
            .dbname("postgres")
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(negotiation)
            .channel_binding(ChannelBinding::Require);
        let client = tls_client::connect(&config, &authority).await.unwrap();
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));

        let stranger = tls_client::connect(&config, &Authority::new()).await;
        assert!(stranger.is_err(), "an unknown authority was trusted");
    }
}

#[tokio::test]
async fn raw_client_speaks_by_tcp_tls_and_unix_socket() {
    let (postgres, authority) = with_tls(Version::V18).await;
    let address = ([127, 0, 0, 1], postgres.port()).into();
    let config = |alpn: &[&str]| authority.client_config(alpn);
    let connections = [
        Raw::unix(&postgres.socket()).await,
        Raw::tcp(address).await,
        Raw::tcp(address).await.request_tls(config(&[]), NAME).await,
        Raw::tcp(address)
            .await
            .tls(config(&["postgresql"]), NAME)
            .await
            .unwrap(),
    ];
    for mut client in connections {
        let greeting = client.log_in(&startup(), PASSWORD).await;
        let parameters = greeting.iter().filter(|message| message.tag == b'S');
        let parameters: Vec<_> = parameters.map(raw::Message::parameter).collect();
        assert!(parameters.contains(&("server_encoding".into(), "UTF8".into())));
        client.query("select 6 * 7, null").await;
        let answer = client.until(b'Z').await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
        assert_eq!(row, [Some("42".to_owned()), None]);
        client.send_with(frontend::terminate).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn raw_client_reads_errors_and_sends_single_bytes() {
    let postgres = Postgres::start(Version::Debian).await;
    let mut client = Raw::unix(&postgres.socket()).await;
    client.send_one_by_one(&startup()).await;
    client.message().await.authentication(10);
    client
        .send_with(|bytes| frontend::password_message(b"no SASL", bytes).unwrap())
        .await;
    let refusal = client.message().await;
    assert_eq!(refusal.sqlstate(), "08P01");
    assert_eq!(refusal.fields()[&'S'], "FATAL");
    client.closed().await;
}

#[tokio::test]
async fn raw_client_cancels_by_long_key() {
    let postgres = Postgres::start(Version::V18).await;
    let mut client = Raw::unix(&postgres.socket()).await;
    let startup = raw::startup(raw::PROTOCOL_3_2, &[("user", SUPERUSER)]);
    let greeting = client.log_in(&startup, PASSWORD).await;
    let (pid, secret) = greeting
        .iter()
        .find(|message| message.tag == b'K')
        .unwrap()
        .cancel_key();
    assert_eq!(secret.len(), 32);
    client.query("select pg_sleep(60)").await;
    wait::until("the statement runs", async || {
        let running = processes::in_directory(&postgres.data());
        running.iter().any(|process| process.command.ends_with(" SELECT"))
    })
    .await;

    let mut cancel = Raw::unix(&postgres.socket()).await;
    cancel.send(&raw::cancel_request(pid, secret)).await;
    cancel.closed().await;

    assert_eq!(client.message().await.tag, b'T');
    assert_eq!(client.message().await.sqlstate(), "57014");
}

#[tokio::test]
async fn programs_obey_signals() {
    // Not as a child: where SIGINT comes between its fork and its exec, dash does not pass it on.
    let mut alone = Program::new("sh")
        .arguments(&["-c", "echo up; exec sleep 60"])
        .start();
    alone.hear("up").await;
    alone.signal_group(Signal::INT);
    assert!(!alone.end().await.status.success());

    let mut group = Program::new("sh")
        .arguments(&[
            "-c",
            "trap 'echo bye; exit 3' TERM; echo up; while :; do read x; done",
        ])
        .start();
    group.hear("up").await;
    group.signal(Signal::TERM);
    group.hear("bye").await;
    assert_eq!(group.end().await.status.code(), Some(3));
}

#[tokio::test]
#[should_panic(expected = "did not end within")]
async fn program_that_does_not_end_is_killed() {
    Program::new("sleep")
        .arguments(&["60"])
        .limit(Duration::from_millis(50))
        .run()
        .await;
}
