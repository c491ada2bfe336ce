//! Clients that leave while they are held are noticed, whatever they have sent ahead, and nobody waits for them.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::gated;
use crate::harness::{gateway::Gateway, logs, raw::Raw, wait::until};

/// Sooner than the first notice: it was not a failed write that told of the client's leaving.
const PROMPTLY: Duration = Duration::from_millis(1500);

async fn held(gateway: &Gateway, endpoint: &str) -> Raw {
    let client = gateway.raw_proved(endpoint).await;
    gateway.stirring(endpoint).await;
    assert_eq!(gateway.server.clients(), 1);
    client
}

/// Waits until the only client's place is free, while its compute is still being started.
async fn is_let_go(gateway: &Gateway, endpoint: &str) {
    until("the client's place to be free", async || {
        gateway.server.clients() == 0
    })
    .await;
    assert!(!gateway.is_awake(endpoint));
    let access = logs::access_lines(endpoint, 1).await;
    assert_eq!(access[0].field("sqlstate"), "08006");
    assert_eq!(access[0].field("outcome"), "client left");
    assert!(
        access[0].field("hold_ms").parse::<f64>().unwrap() > 0.0,
        "{access:?}"
    );
}

#[tokio::test]
async fn client_that_leaves_while_it_is_held_frees_its_place_at_once() {
    const ENDPOINT: &str = "leaving-held";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let client = held(&gateway, ENDPOINT).await;
    let since = Instant::now();

    drop(client);

    is_let_go(&gateway, ENDPOINT).await;
    assert!(since.elapsed() < PROMPTLY, "{:?}", since.elapsed());
    gate.open();
    gateway.server.stop().await;
}

#[tokio::test]
async fn client_that_leaves_behind_a_pipeline_frees_its_place_at_once() {
    const ENDPOINT: &str = "leaving-pipeline";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let mut client = held(&gateway, ENDPOINT).await;
    // More than pgwake reads ahead, less than the system keeps for it: the end of the stream arrives behind it.
    client.query(&format!("select '{}'", "x".repeat(40_000))).await;
    let since = Instant::now();

    drop(client);

    is_let_go(&gateway, ENDPOINT).await;
    assert!(since.elapsed() < PROMPTLY, "{:?}", since.elapsed());
    gate.open();
    gateway.server.stop().await;
}

#[tokio::test]
async fn client_that_leaves_behind_a_pipeline_that_fills_every_buffer_is_noticed() {
    const ENDPOINT: &str = "leaving-full";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let mut client = held(&gateway, ENDPOINT).await;
    let query = format!("select '{}'", "x".repeat(64 * 1024));
    let mut sent = 0;
    // Until the system takes no more: what is still to be sent stands before the end of the stream.
    while timeout(Duration::from_millis(300), client.query(&query))
        .await
        .is_ok()
    {
        sent += query.len();
    }
    assert!(sent > 1024 * 1024, "only {sent} bytes were taken");

    drop(client);

    is_let_go(&gateway, ENDPOINT).await;
    gate.open();
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_a_held_client_has_sent_ahead_is_answered_in_its_order() {
    const ENDPOINT: &str = "leaving-ahead";
    const QUERIES: usize = 200;
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let mut client = held(&gateway, ENDPOINT).await;
    for number in 0..QUERIES {
        client
            .query(&format!("select {number}, '{}'", "x".repeat(500)))
            .await;
    }

    gate.open();
    client.until(b'Z').await;

    for number in 0..QUERIES {
        let answer = client.until(b'Z').await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
        assert_eq!(row[0].as_deref(), Some(&*number.to_string()));
    }
    gateway.server.stop().await;
}
