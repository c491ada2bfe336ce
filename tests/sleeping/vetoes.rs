//! What only Postgres knows keeps its compute awake, by name: clients beside pgwake, prepared transactions, no answer.

use tokio_postgres::{Client, Config};

use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, SUPERUSER},
    tls_client::connect_plain,
    wait::until,
};
use pgwake::{config::ServerAddress, ids::EndpointName};

const READ: &str = "read-token-for-vetoes";

fn setup() -> Setup {
    Setup::new().admin(&format!("read_tokens = [\"{READ}\"]"))
}

/// A client that comes over the server's own socket, past pgwake.
pub(super) async fn beside(gateway: &Gateway, endpoint: &str, application: &str) -> Client {
    let wakes = &gateway.server.house().wakes;
    let (address, _) = wakes.awake(&EndpointName::parse_any(endpoint).unwrap()).unwrap();
    let ServerAddress::Unix(socket) = address.server else {
        panic!("a local Postgres has a socket");
    };
    let port = socket.extension().unwrap().to_str().unwrap().parse().unwrap();
    let mut config = Config::new();
    config
        .host_path(socket.parent().unwrap())
        .port(port)
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres")
        .application_name(application);
    connect_plain(&config).await.unwrap()
}

async fn why(gateway: &Gateway, endpoint: &str) -> String {
    let answer = gateway
        .http(READ)
        .get(&format!("/api/v1/endpoints/{endpoint}"))
        .await;
    answer.json()["why"].as_str().unwrap().to_owned()
}

/// Waits until it says so of why it is awake.
async fn vetoed(gateway: &Gateway, endpoint: &str, reason: &str) {
    until(reason, async || why(gateway, endpoint).await == reason).await;
    assert!(gateway.is_awake(endpoint));
}

async fn counted(gateway: &Gateway, reason: &str) -> bool {
    let metrics = gateway.http(READ).get("/metrics").await.body;
    let series = format!("pgwake_suspend_vetoes_total{{reason=\"{reason}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{metrics}")) != "0"
}

#[tokio::test]
async fn a_client_beside_pgwake_keeps_the_compute_awake_by_name_until_it_leaves() {
    const ENDPOINT: &str = "veto-client";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"clients\"]";
    let gateway = setup().listed(ENDPOINT, keys).start().await;
    let through = gateway.connect(ENDPOINT).await;
    let other = beside(&gateway, ENDPOINT, "nightly").await;
    drop(through);

    vetoed(&gateway, ENDPOINT, "vetoed: client nightly from a local socket").await;

    other.query_one("select 1", &[]).await.unwrap();
    assert!(counted(&gateway, "clients").await);
    assert!(!counted(&gateway, "unanswered").await);
    drop(other);
    gateway.asleep(ENDPOINT).await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}

#[tokio::test]
async fn pgwakes_own_sessions_are_no_clients() {
    const ENDPOINT: &str = "veto-own";
    let keys = "suspend_after = \"500ms\"\nsuspend_idle_sessions = true\nsuspend_veto = [\"clients\"]";
    let gateway = setup().listed(ENDPOINT, keys).start().await;
    let pooled = gateway.connect(&format!("{ENDPOINT}-pooler")).await;
    pooled.query_one("select 1", &[]).await.unwrap();
    let mut whole = gateway.raw_served(ENDPOINT).await;

    let farewell = whole.message().await;

    assert_eq!(farewell.sqlstate(), "57P05");
    gateway.asleep(ENDPOINT).await;
    assert!(!counted(&gateway, "clients").await);
    pooled.query_one("select 1", &[]).await.unwrap();
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn every_kind_of_veto_is_found_in_a_real_postgres() {
    const ENDPOINT: &str = "veto-kinds";
    let keys =
        "suspend_after = \"500ms\"\nsuspend_veto = [\"maintenance\", \"prepared_transactions\", \"slots\"]";
    let gateway = setup()
        .with_settings(ENDPOINT, "{ max_prepared_transactions = 2 }", keys)
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute(
            "create table orders (n int); begin; insert into orders values (1); prepare transaction 'two'",
        )
        .await
        .unwrap();
    drop(client);
    let reason = "vetoed: prepared transaction 'two' in database postgres";
    vetoed(&gateway, ENDPOINT, reason).await;

    let client = gateway.connect(ENDPOINT).await;
    let slot = "select pg_create_physical_replication_slot('standby')";
    client.simple_query("commit prepared 'two'").await.unwrap();
    client.simple_query(slot).await.unwrap();
    drop(client);
    vetoed(&gateway, ENDPOINT, "vetoed: replication slot standby").await;

    let client = gateway.connect(ENDPOINT).await;
    let drop_slot = "select pg_drop_replication_slot('standby')";
    client.simple_query(drop_slot).await.unwrap();
    drop(client);
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_login_that_does_not_work_is_a_doubt() {
    const ENDPOINT: &str = "veto-unanswered";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"clients\"]\n\
                roles_from = { role = \"nobody_here\", password = \"wrong\" }";
    let gateway = setup().listed(ENDPOINT, keys).start_untaught().await.unwrap();
    drop(gateway.connect(ENDPOINT).await);

    vetoed(&gateway, ENDPOINT, "vetoed: question unanswered").await;

    assert!(counted(&gateway, "unanswered").await);
    gateway.server.stop().await;
}
