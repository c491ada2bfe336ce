//! SIGTERM: nobody new, goodbye to the idle, time for transactions, and then nothing is left.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{net::TcpStream, time::Instant};

use crate::harness::{child::Pgwake, gate::Gate, gateway::Setup, processes, raw::Raw, wait::until};

/// Waits until new connections are refused.
async fn closed_its_doors(pgwake: &Pgwake<'_>) {
    until("new connections to be refused", async || {
        TcpStream::connect(pgwake.address()).await.is_err()
    })
    .await;
}

/// Whatever comes next is the end of the session, with this code.
async fn is_ended(client: &mut Raw, sqlstate: &str) {
    let fields = client.message().await.fields();
    assert_eq!(
        (&*fields[&'S'], &*fields[&'C']),
        ("FATAL", sqlstate),
        "{fields:?}"
    );
    client.closed().await;
}

async fn served(pgwake: &Pgwake<'_>, endpoint: &str) -> Raw {
    let mut client = pgwake.raw_proved(endpoint).await;
    client.until(b'Z').await;
    client
}

fn is_asleep(setup: &Setup, endpoint: &str) -> bool {
    processes::in_directory(&setup.data_dir(endpoint)).is_empty()
}

/// Its BEGIN was answered, and Postgres has not heard of it: the client had been ended at once.
#[tokio::test]
async fn drain_lets_a_transaction_finish_that_no_server_knows_of() {
    const ENDPOINT: &str = "draining-begun";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let pgwake = Pgwake::start(&setup).await;
    let pooled = format!("{ENDPOINT}-pooler");
    let mut idle = served(&pgwake, &pooled).await;
    let mut working = served(&pgwake, &pooled).await;
    for sql in ["create table kept (n int)", "begin"] {
        working.query(sql).await;
        working.until(b'Z').await;
    }

    pgwake.signal(Signal::TERM);

    closed_its_doors(&pgwake).await;
    is_ended(&mut idle, "57P01").await;
    for sql in ["insert into kept values (1)", "commit"] {
        working.query(sql).await;
        let answer = working.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    }
    is_ended(&mut working, "57P01").await;
    assert_eq!(pgwake.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn drain_ends_idle_sessions_and_lets_transactions_finish() {
    const ENDPOINT: &str = "draining-transaction";
    let setup = Setup::new().listed(ENDPOINT, "");
    let pgwake = Pgwake::start(&setup).await;
    let mut idle = served(&pgwake, ENDPOINT).await;
    let mut working = served(&pgwake, ENDPOINT).await;
    working
        .query("create table kept (n int); begin; insert into kept values (1)")
        .await;
    working.until(b'Z').await;

    pgwake.signal(Signal::TERM);

    closed_its_doors(&pgwake).await;
    is_ended(&mut idle, "57P01").await;
    assert!(!is_asleep(&setup, ENDPOINT));
    working.query("insert into kept values (2); commit").await;
    let answer = working.until(b'Z').await;
    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    is_ended(&mut working, "57P01").await;
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(is_asleep(&setup, ENDPOINT));

    let next = Pgwake::start(&setup).await;
    let client = next.connect(ENDPOINT).await;
    let row = client.query_one("select count(*) from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    next.signal(Signal::TERM);
    next.end().await.succeeded();
}

#[tokio::test]
async fn transaction_that_outlasts_the_drain_is_ended() {
    const ENDPOINT: &str = "draining-outlasts";
    let setup = Setup::new()
        .limit("drain_timeout = \"500ms\"")
        .listed(ENDPOINT, "");
    let pgwake = Pgwake::start(&setup).await;
    let mut open = served(&pgwake, ENDPOINT).await;
    open.query("create table kept (n int); begin; insert into kept values (1)")
        .await;
    open.until(b'Z').await;
    let mut computing = served(&pgwake, ENDPOINT).await;
    computing
        .query("select count(*) from generate_series(1, 1e12)")
        .await;
    let since = Instant::now();

    pgwake.signal(Signal::TERM);

    is_ended(&mut open, "57P01").await;
    is_ended(&mut computing, "57P01").await;
    assert!(
        since.elapsed() >= Duration::from_millis(500),
        "{:?}",
        since.elapsed()
    );
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(is_asleep(&setup, ENDPOINT));
    let lines: Vec<_> = ended
        .errors
        .lines()
        .filter(|line| line.contains("session ended"))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.contains("sqlstate=\"57P01\"")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn held_clients_are_refused_and_the_wake_under_way_is_given_up() {
    const ENDPOINT: &str = "draining-held";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let setup = setup.gated(ENDPOINT, &gate, "");
    let pgwake = Pgwake::start(&setup).await;
    let mut held = [
        pgwake.raw_proved(ENDPOINT).await,
        pgwake.raw_proved(ENDPOINT).await,
    ];
    until("the start to be under way", async || !is_asleep(&setup, ENDPOINT)).await;
    let since = Instant::now();

    pgwake.signal(Signal::TERM);

    for client in &mut held {
        is_ended(client, "57P03").await;
    }
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert!(is_asleep(&setup, ENDPOINT));
    let warnings = ended
        .errors
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains("session="));
    assert_eq!(warnings.count(), 0, "{}", ended.errors);
}

#[tokio::test]
async fn second_signal_does_not_wait_for_transactions() {
    const ENDPOINT: &str = "draining-second";
    let setup = Setup::new().listed(ENDPOINT, "");
    let pgwake = Pgwake::start(&setup).await;
    let mut working = served(&pgwake, ENDPOINT).await;
    working.query("begin").await;
    working.until(b'Z').await;
    let since = Instant::now();

    pgwake.signal(Signal::TERM);
    closed_its_doors(&pgwake).await;
    pgwake.signal(Signal::TERM);

    is_ended(&mut working, "57P01").await;
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert!(is_asleep(&setup, ENDPOINT));
}
