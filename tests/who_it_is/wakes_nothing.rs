//! A sleeping compute is woken by whoever has proved who it is, and by nobody else.

use postgres_protocol::message::frontend;

use super::{conversation, log_in, startup};
use crate::harness::{
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER},
    processes,
    raw::{self, Raw},
    wait::until,
};

#[tokio::test]
async fn strangers_wake_nothing() {
    let gateway = Setup::new()
        .process("wkn-strangers", "suspend_after = \"1s\"")
        .start()
        .await;
    // A key that was valid once.
    let mut client = gateway.raw_to("wkn-strangers").await;
    let greeting = client.log_in(&startup(SUPERUSER), PASSWORD).await;
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let (pid, secret) = key.cancel_key();
    client.send_with(frontend::terminate).await;
    gateway.asleep("wkn-strangers").await;
    let wakes = gateway.wakes("wkn-strangers");

    // Who does not know the password.
    for (role, password) in [(SUPERUSER, "wrong"), ("nobody_knows", PASSWORD), (SUPERUSER, "")] {
        conversation(gateway.raw_to("wkn-strangers").await, role, password).await;
    }
    // Who does not even say it: handshake alone, startup alone.
    drop(gateway.raw_to("wkn-strangers").await);
    let mut client = gateway.raw_to("wkn-strangers").await;
    client.send(&startup(SUPERUSER)).await;
    client.message().await.authentication(10);
    drop(client);
    // Plaintext, port scan, garbage.
    let mut client = Raw::tcp(gateway.address()).await;
    client.send(&startup(SUPERUSER)).await;
    client.message().await;
    drop(Raw::tcp(gateway.address()).await);
    let mut client = Raw::tcp(gateway.address()).await;
    client.send(&[0xff; 16]).await;
    // Cancel requests.
    for secret in [secret, b"1234", &[7; 32]] {
        let mut plain = Raw::tcp(gateway.address()).await;
        plain.send(&raw::cancel_request(pid, secret)).await;
        plain.closed().await;
        let mut secured = gateway.raw_to("wkn-strangers").await;
        secured.send(&raw::cancel_request(pid, secret)).await;
        secured.closed().await;
    }
    drop(client);
    until("nobody is left", async || gateway.server.clients() == 0).await;

    assert_eq!(gateway.wakes("wkn-strangers"), wakes);
    let running = processes::in_directory(&gateway.data_dir("wkn-strangers"));
    assert!(running.is_empty(), "{running:?}");

    log_in(&gateway, "wkn-strangers", SUPERUSER, PASSWORD)
        .await
        .unwrap();
    assert_eq!(gateway.wakes("wkn-strangers"), wakes + 1);
}

#[tokio::test]
async fn strangers_keep_nothing_awake() {
    let gateway = Setup::new()
        // They would be locked out before long.
        .tenants("[gate]\nfailures_max = 100000\n")
        .process("wkn-awake", "suspend_after = \"1s\"")
        .start()
        .await;
    log_in(&gateway, "wkn-awake", SUPERUSER, PASSWORD).await.unwrap();
    let wakes = gateway.wakes("wkn-awake");
    let data_dir = gateway.data_dir("wkn-awake");
    // Each try of an unknown role may look into Postgres, and none of them is work.
    until("it is suspended under fire", async || {
        conversation(gateway.raw_to("wkn-awake").await, "nobody_knows", "guess").await;
        processes::in_directory(&data_dir).is_empty()
    })
    .await;
    assert_eq!(gateway.wakes("wkn-awake"), wakes);
}
