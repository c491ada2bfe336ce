//! A compute that dies: who worked on it is told, and the next client has it started again.

use rustix::process::Signal;

use super::{port, told};
use crate::harness::{
    gateway::{Gateway, Setup, times},
    processes,
    wait::until,
};

const STAYS: &str = "suspend_after = \"never\"";

fn kill(gateway: &Gateway, endpoint: &str) {
    processes::kill_all_in(&gateway.data_dir(endpoint));
}

#[tokio::test]
async fn one_that_is_killed_while_nobody_uses_it_is_started_for_the_next_client() {
    const ENDPOINT: &str = "cmd-dies-idle";
    let setup = Setup::new().printed(ENDPOINT, "status_every = \"never\"", STAYS);
    let gateway = setup.start().await;
    drop(gateway.connect(ENDPOINT).await);
    kill(&gateway, ENDPOINT);

    let client = gateway.connect(ENDPOINT).await;

    assert_eq!(port(&client).await, 5433, "by another start, at another address");
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn one_that_is_killed_under_a_statement_costs_that_session_and_is_started_for_the_next() {
    const ENDPOINT: &str = "cmd-dies-busy";
    let setup = Setup::new().commands(ENDPOINT, "", STAYS);
    let gateway = setup.start().await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    client
        .query("select count(*) from generate_series(1, 1e12)")
        .await;
    let data_dir = gateway.data_dir(ENDPOINT);
    until("the statement to run", async || {
        let running = processes::in_directory(&data_dir);
        running.iter().any(|process| process.command.ends_with(" SELECT"))
    })
    .await;
    kill(&gateway, ENDPOINT);

    assert_eq!(client.message().await.sqlstate(), "08007");
    client.closed().await;
    let next = gateway.connect_again(ENDPOINT).await;
    next.query_one("select 1", &[]).await.unwrap();
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn pooled_clients_stay_when_it_dies_between_their_transactions() {
    const ENDPOINT: &str = "cmd-dies-pooled";
    let setup = Setup::new().printed(ENDPOINT, "", STAYS);
    let gateway = setup.start().await;
    let client = gateway.connect(&format!("{ENDPOINT}-pooler")).await;
    assert_eq!(port(&client).await, 5432);
    kill(&gateway, ENDPOINT);
    assert_eq!(port(&client).await, 5433);
    gateway.server.stop().await;
}

#[tokio::test]
async fn its_death_is_noticed_by_looking_before_anybody_needs_it() {
    const ENDPOINT: &str = "cmd-looked-at";
    let setup = Setup::new().commands(ENDPOINT, "status_every = \"1s\"", STAYS);
    let gateway = setup.start().await;
    drop(gateway.connect(ENDPOINT).await);
    assert!(gateway.is_awake(ENDPOINT));
    processes::signal(processes::postmaster(&gateway.data_dir(ENDPOINT)), Signal::KILL);

    until("the death to be noticed", async || !gateway.is_awake(ENDPOINT)).await;

    let died = told(ENDPOINT, "died");
    assert_eq!(
        died[0].field("reason"),
        "its status command says that it does not run"
    );
    gateway.connect_again(ENDPOINT).await;
    gateway.server.stop().await;
}
