//! Strangers who are slow on purpose, many of them, while a tenant works.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::startup;
use crate::harness::{
    gateway::Setup,
    postgres::{Postgres, Version},
    raw::Raw,
    wait::until,
};

/// Strangers of each kind.
const STRANGERS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_keep_no_tenant_from_working_and_end_at_their_deadline() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .limit("login_timeout = \"4s\"")
        .fixed("slw-works", &postgres, "")
        .start()
        .await;
    let client = gateway.connect("slw-works").await;
    let pooled = gateway.connect("slw-works-pooler").await;
    let before = gateway.server.clients();
    // A TLS record of which the rest never comes, a startup packet, a PROXY header that nobody asked for.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    let packet = startup(&[("application_name", &"x".repeat(300))]);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2".to_vec();
    let address = gateway.address();
    let slow = |bytes: Vec<u8>| {
        tokio::spawn(async move {
            let mut stranger = Raw::tcp(address).await;
            let since = Instant::now();
            for byte in bytes {
                stranger.send_or_gone(&[byte]).await;
                // Being slow is what is tried here.
                if stranger.ends_within(Duration::from_millis(100)).await {
                    break;
                }
            }
            since.elapsed()
        })
    };
    let kinds = [&hello, &packet, &header];
    let strangers: Vec<_> = (0..STRANGERS * 3)
        .map(|number| slow(kinds[number % 3].clone()))
        .collect();
    until("strangers are there", async || {
        gateway.server.clients() > before + STRANGERS
    })
    .await;

    let mut worked = 0;
    while strangers.iter().any(|stranger| !stranger.is_finished()) {
        client.batch_execute("select 1").await.unwrap();
        pooled.batch_execute("select 1").await.unwrap();
        worked += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(worked >= 10, "{worked} statements while strangers were slow");
    gateway
        .connect("slw-works")
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    for stranger in strangers {
        stranger.await.unwrap();
    }
    until("strangers are gone", async || {
        gateway.server.clients() <= before + 1
    })
    .await;
}
