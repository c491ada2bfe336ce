//! Idle sessions: they keep their compute awake, unless the endpoint says that they are ended for a suspend.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::{gateway::Setup, logs, processes};

#[tokio::test]
async fn idle_session_keeps_its_compute_awake() {
    const ENDPOINT: &str = "idle-keeps";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"200ms\"")
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;
    let postmaster = processes::postmaster(&gateway.data_dir(ENDPOINT));

    sleep(Duration::from_millis(1200)).await;

    client.query_one("select 1", &[]).await.unwrap();
    assert_eq!(processes::postmaster(&gateway.data_dir(ENDPOINT)), postmaster);
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    drop(client);
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn idle_sessions_are_ended_for_a_suspend_where_the_endpoint_says_so() {
    const ENDPOINT: &str = "idle-ended";
    let keys = "suspend_after = \"300ms\"\nsuspend_idle_sessions = true";
    let gateway = Setup::new().listed(ENDPOINT, keys).start().await;
    let mut clients = [
        gateway.raw_served(ENDPOINT).await,
        gateway.raw_served(ENDPOINT).await,
    ];
    clients[1].query("select 1").await;
    clients[1].until(b'Z').await;

    for client in &mut clients {
        let fields = client.message().await.fields();
        assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P05"));
        assert!(fields[&'M'].contains("idle-ended"), "{fields:?}");
        assert!(fields[&'H'].contains("connect again"), "{fields:?}");
        client.closed().await;
    }

    gateway.asleep(ENDPOINT).await;
    let access = logs::access_lines(ENDPOINT, 2).await;
    assert!(
        access.iter().all(|line| line.field("sqlstate") == "57P05"),
        "{access:?}"
    );
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}

#[tokio::test]
async fn session_in_a_transaction_is_not_idle() {
    const ENDPOINT: &str = "idle-transaction";
    let after = Duration::from_secs(1);
    let keys = "suspend_after = \"1s\"\nsuspend_idle_sessions = true";
    let gateway = Setup::new().listed(ENDPOINT, keys).start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    client
        .query("create table kept (n int); begin; insert into kept values (1)")
        .await;
    client.until(b'Z').await;

    sleep(after * 2).await;
    let since = Instant::now();
    client.query("insert into kept values (2); commit").await;
    let answer = client.until(b'Z').await;
    let refusal = client.message().await;

    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    assert_eq!(refusal.sqlstate(), "57P05");
    assert!(since.elapsed() >= after, "the clock starts with the commit");
    gateway.asleep(ENDPOINT).await;
    let next = gateway.connect(ENDPOINT).await;
    let row = next.query_one("select count(*) from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn session_that_computes_is_not_idle() {
    const ENDPOINT: &str = "idle-computes";
    let keys = "suspend_after = \"200ms\"\nsuspend_idle_sessions = true";
    let gateway = Setup::new().listed(ENDPOINT, keys).start().await;
    let client = gateway.connect(ENDPOINT).await;

    let row = client.query_one("select 42 from pg_sleep(1)", &[]).await.unwrap();

    assert_eq!(row.get::<_, i32>(0), 42);
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}
