//! A server that is lost: whoever worked on it hears at once what that means for its work, and the next is served.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{
    gateway::{Gateway, Setup},
    logs, processes,
    raw::Raw,
    wait::until,
};

/// Computes for longer than anybody waits, and never looks whether its postmaster is alive.
const SPIN: &str = "select count(*) from generate_series(1, 1e12)";
/// A client's own keepalive would take minutes; a busy machine takes seconds.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Sends the query that spins, and waits until a backend works on it.
async fn spin(gateway: &Gateway, endpoint: &str, client: &mut Raw) {
    client.query(SPIN).await;
    let data_dir = gateway.data_dir(endpoint);
    until("the statement to run", async || {
        let running = processes::in_directory(&data_dir);
        running.iter().any(|process| process.command.ends_with(" SELECT"))
    })
    .await;
}

/// Kills the postmaster; what the client reads is its last message.
async fn killed_under(gateway: &Gateway, endpoint: &str, client: &mut Raw) -> BTreeMap<char, String> {
    let data_dir = gateway.data_dir(endpoint);
    let before: Vec<i32> = pids(gateway, endpoint);
    let since = Instant::now();
    processes::signal(processes::postmaster(&data_dir), Signal::KILL);

    let fields = client.message().await.fields();
    assert!(since.elapsed() < PROMPTLY, "{:?}", since.elapsed());
    client.closed().await;
    until("the end of all that the dead server left behind", async || {
        pids(gateway, endpoint).iter().all(|pid| !before.contains(pid))
    })
    .await;
    assert_eq!(fields[&'S'], "FATAL");
    fields
}

fn pids(gateway: &Gateway, endpoint: &str) -> Vec<i32> {
    let processes = processes::in_directory(&gateway.data_dir(endpoint));
    processes.iter().map(|process| process.pid).collect()
}

async fn is_served_by_a_fresh_wake(gateway: &Gateway, endpoint: &str) {
    let client = gateway.connect(endpoint).await;
    client.query_one("select 1", &[]).await.unwrap();
    assert_eq!(gateway.wakes(endpoint), 2);
}

#[tokio::test]
async fn autocommit_statement_on_a_killed_server_may_have_taken_effect() {
    const ENDPOINT: &str = "lost-autocommit";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    spin(&gateway, ENDPOINT, &mut client).await;

    let fields = killed_under(&gateway, ENDPOINT, &mut client).await;

    assert_eq!(fields[&'C'], "08007");
    assert!(
        fields[&'D'].contains("whether the last statement took effect is unknown"),
        "{fields:?}"
    );
    assert!(fields.contains_key(&'H'), "{fields:?}");
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "08007");
    let lines = logs::of_endpoint(ENDPOINT);
    let died = lines.iter().filter(|line| line.field("message") == "died");
    assert_eq!(died.count(), 1);
    is_served_by_a_fresh_wake(&gateway, ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn transaction_on_a_killed_server_is_rolled_back() {
    const ENDPOINT: &str = "lost-transaction";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    client.query("begin").await;
    client.until(b'Z').await;
    spin(&gateway, ENDPOINT, &mut client).await;

    let fields = killed_under(&gateway, ENDPOINT, &mut client).await;

    assert_eq!(fields[&'C'], "08006");
    assert!(!fields[&'D'].contains("unknown"), "{fields:?}");
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "08006");
    is_served_by_a_fresh_wake(&gateway, ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn idle_session_on_a_killed_server_ends() {
    const ENDPOINT: &str = "lost-idle";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;

    let fields = killed_under(&gateway, ENDPOINT, &mut client).await;

    // A backend that was quicker than pgwake said so itself; that is not said again.
    assert!(["57P01", "08006"].contains(&&*fields[&'C']), "{fields:?}");
    is_served_by_a_fresh_wake(&gateway, ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn next_client_is_served_though_an_orphan_still_spins() {
    const ENDPOINT: &str = "lost-orphan";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    spin(&gateway, ENDPOINT, &mut client).await;
    processes::signal(processes::postmaster(&gateway.data_dir(ENDPOINT)), Signal::KILL);

    // Not waited for: the new client may come before pgwake has seen the end.
    let next = gateway.connect(ENDPOINT).await;

    next.query_one("select 1", &[]).await.unwrap();
    assert_eq!(client.message().await.sqlstate(), "08007");
    gateway.server.stop().await;
}

#[tokio::test]
async fn crash_of_another_backend_is_told_once_and_waited_out() {
    const ENDPOINT: &str = "lost-backend";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut victim = gateway.raw_served(ENDPOINT).await;
    spin(&gateway, ENDPOINT, &mut victim).await;
    let mut bystander = gateway.raw_served(ENDPOINT).await;
    let backend = processes::the(&gateway.data_dir(ENDPOINT), " SELECT");

    processes::signal(backend, Signal::KILL);

    assert_eq!(victim.message().await.sqlstate(), "08007");
    victim.closed().await;
    let warning = bystander.message().await;
    assert_eq!((warning.tag, &*warning.fields()[&'C']), (b'N', "57P02"));
    // To drivers a warning is none of the errors that end a session.
    let error = bystander.message().await.fields();
    assert_eq!((&*error[&'S'], &*error[&'C']), ("FATAL", "08006"));
    bystander.closed().await;
    // Postgres itself starts again: no wake of pgwake's, and its 57P03 is waited out.
    let next = gateway.connect(ENDPOINT).await;
    next.query_one("select 1", &[]).await.unwrap();
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}

#[tokio::test]
async fn session_that_an_administrator_ends_is_told_so_once() {
    const ENDPOINT: &str = "lost-terminated";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let mut victim = gateway.raw_served(ENDPOINT).await;
    victim.query("select pg_backend_pid()").await;
    let answer = victim.until(b'Z').await;
    let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
    let pid = row[0].clone().unwrap();

    let administrator = gateway.connect(ENDPOINT).await;
    let end = format!("select pg_terminate_backend({pid})");
    administrator.batch_execute(&end).await.unwrap();

    let fields = victim.message().await.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"));
    assert!(
        !format!("{fields:?}").contains("pgwake"),
        "the server's own words: {fields:?}"
    );
    victim.closed().await;
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "57P01");
    gateway.server.stop().await;
}

/// A server that is killed as it begins leaves an empty file, which Postgres takes for a start that is under way, for ever.
#[tokio::test]
async fn a_server_that_was_killed_as_it_began_is_in_nobodys_way() {
    const ENDPOINT: &str = "lost-beginning";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"50ms\"")
        .start()
        .await;
    drop(gateway.connect(ENDPOINT).await);
    gateway.asleep(ENDPOINT).await;
    std::fs::write(gateway.data_dir(ENDPOINT).join("postmaster.pid"), "").unwrap();

    is_served_by_a_fresh_wake(&gateway, ENDPOINT).await;
}

/// The server waited for the sessions that pgwake kept for clients without work, and new clients for the server.
#[tokio::test]
async fn a_server_that_somebody_else_ends_is_not_kept_by_pooled_sessions_without_work() {
    const ENDPOINT: &str = "lost-ended";
    let gateway = Setup::new()
        .listed(ENDPOINT, "hold_timeout = \"20s\"")
        .start()
        .await;
    let pooled = gateway.connect(&format!("{ENDPOINT}-pooler")).await;
    pooled.batch_execute("select 1").await.unwrap();
    let data_dir = gateway.data_dir(ENDPOINT);
    let before = processes::postmaster(&data_dir);

    // No new sessions from now on; it ends with the last one (a smart shutdown).
    processes::signal(before, Signal::TERM);
    until("it takes no logins", async || {
        let status = std::fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
        status
            .lines()
            .nth(7)
            .is_none_or(|status| status.trim() == "stopping")
    })
    .await;

    is_served_by_a_fresh_wake(&gateway, ENDPOINT).await;
    pooled.batch_execute("select 1").await.unwrap();
    gateway.server.stop().await;
}
