//! One wake for everyone who asks, which goes on for whoever leaves.

use futures_util::future::join_all;

use super::gated;
use crate::harness::{gateway::append, logs, processes, wait::until};

#[tokio::test]
async fn two_hundred_clients_at_once_cause_one_start_and_are_all_served() {
    const ENDPOINT: &str = "once-two-hundred";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let settings = gateway.data_dir(ENDPOINT).join("postgresql.conf");
    append(&settings, "max_connections = 250");
    let clients = join_all((0..200).map(|_| gateway.raw_proved(ENDPOINT))).await;
    gateway.stirring(ENDPOINT).await;
    assert_eq!(processes::in_directory(&gateway.data_dir(ENDPOINT)).len(), 1);

    gate.open();
    let served = clients.into_iter().map(|mut client| async move {
        client.until(b'Z').await;
        client
            .query("select pg_backend_pid(), pg_postmaster_start_time()")
            .await;
        let answer = client.until(b'Z').await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
        (client, row)
    });
    let served = join_all(served).await;

    let column = |index: usize| {
        let mut values: Vec<_> = served
            .iter()
            .map(|(_, row)| row[index].clone().unwrap())
            .collect();
        values.sort();
        values.dedup();
        values.len()
    };
    assert_eq!(column(0), 200, "everyone has a session of his own");
    assert_eq!(column(1), 1, "all of them on one server");
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    let lines = logs::of_endpoint(ENDPOINT);
    let woken = lines.iter().filter(|line| line.field("message") == "woken");
    assert_eq!(woken.count(), 1);
    drop(served);
    gateway.server.stop().await;
}

#[tokio::test]
async fn wake_survives_the_client_that_asked_for_it() {
    const ENDPOINT: &str = "once-survives";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let client = gateway.raw_proved(ENDPOINT).await;
    gateway.stirring(ENDPOINT).await;

    drop(client);
    logs::access_lines(ENDPOINT, 1).await;
    gate.open();

    until("the compute to be ready", async || gateway.is_awake(ENDPOINT)).await;
    let client = gateway.connect(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}
