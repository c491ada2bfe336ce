//! What only Postgres knows keeps its compute awake, by name: clients beside pgwake, prepared transactions, no answer.

use crate::harness::{
    beside::{beside, socket},
    directories::Directory,
    gateway::{Gateway, Setup},
    logs,
    postgres::{PASSWORD, SUPERUSER, Version, programs},
    programs::Program,
    wait::until,
};

const READ: &str = "read-token-for-vetoes";

fn setup() -> Setup {
    Setup::new().admin(&format!("read_tokens = [\"{READ}\"]"))
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
async fn an_autovacuum_that_goes_on_is_waited_for_by_its_table() {
    const ENDPOINT: &str = "veto-autovacuum";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"maintenance\"]";
    // One worker, which begins within a second, and leaves at once where somebody wants its lock.
    let settings = "{ autovacuum = \"on\", autovacuum_naptime = \"1s\", autovacuum_max_workers = 1, \
                    deadlock_timeout = \"10ms\" }";
    let gateway = setup().with_settings(ENDPOINT, settings, keys).start().await;
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute(
            "create table orders (n int) with (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1); \
             insert into orders select generate_series(1, 20000); delete from orders",
        )
        .await
        .unwrap();
    let worker = "select exists (select from pg_stat_activity where backend_type = 'autovacuum worker' \
                  and query = 'autovacuum: VACUUM ANALYZE public.orders')";
    until("autovacuum to work on it", async || {
        client.query_one(worker, &[]).await.unwrap().get(0)
    })
    .await;
    drop(client);

    vetoed(&gateway, ENDPOINT, "vetoed: autovacuum of public.orders").await;

    assert!(counted(&gateway, "maintenance").await);
    let client = gateway.connect(ENDPOINT).await;
    let off = "alter table orders set (autovacuum_enabled = off)";
    client.batch_execute(off).await.unwrap();
    drop(client);
    gateway.asleep(ENDPOINT).await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}

#[tokio::test]
async fn an_index_that_somebody_beside_pgwake_builds_is_waited_for() {
    const ENDPOINT: &str = "veto-index";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"maintenance\"]";
    let gateway = setup().listed(ENDPOINT, keys).start().await;
    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("create table orders (n int)").await.unwrap();
    let [builder, writer] = [
        beside(&gateway, ENDPOINT, "builder").await,
        beside(&gateway, ENDPOINT, "writer").await,
    ];
    drop(client);
    // The index has to wait for the end of this one.
    writer
        .batch_execute("begin; insert into orders values (1)")
        .await
        .unwrap();
    let built = tokio::spawn(async move {
        let built = builder
            .batch_execute("create index concurrently orders_n on orders (n)")
            .await;
        built.unwrap();
    });

    vetoed(&gateway, ENDPOINT, "vetoed: index build on public.orders").await;

    writer.batch_execute("commit").await.unwrap();
    built.await.unwrap();
    gateway.asleep(ENDPOINT).await;
    let client = gateway.connect(ENDPOINT).await;
    let valid = "select indisvalid from pg_index where indexrelid = 'orders_n'::regclass";
    assert!(client.query_one(valid, &[]).await.unwrap().get::<_, bool>(0));
    gateway.server.stop().await;
}

#[tokio::test]
async fn somebody_who_fetches_wal_is_a_client_by_its_name() {
    const ENDPOINT: &str = "veto-wal";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"clients\"]";
    let gateway = setup().listed(ENDPOINT, keys).start().await;
    let client = gateway.connect(ENDPOINT).await;
    let (folder, port) = socket(&gateway, ENDPOINT);
    let archive = Directory::new();
    let receiver = Program::new(programs(Version::Debian).join("pg_receivewal"))
        .arguments(&[
            "-h",
            folder.to_str().unwrap(),
            "-p",
            &port.to_string(),
            "-U",
            SUPERUSER,
            "-D",
        ])
        .argument(archive.path())
        .variable("PGPASSWORD", PASSWORD)
        .start();
    let sender = "select exists (select from pg_stat_activity where backend_type = 'walsender')";
    until("it to come", async || {
        client.query_one(sender, &[]).await.unwrap().get(0)
    })
    .await;
    drop(client);

    vetoed(
        &gateway,
        ENDPOINT,
        "vetoed: replication pg_receivewal from a local socket",
    )
    .await;

    assert!(counted(&gateway, "clients").await);
    drop(receiver);
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_role_that_may_not_see_who_is_there_is_a_doubt_that_the_log_explains() {
    const ENDPOINT: &str = "veto-hidden";
    let keys = "suspend_after = \"500ms\"\nsuspend_veto = [\"clients\", \"maintenance\"]\n\
                roles_from = { role = \"limited\", password = \"its password\" }";
    let gateway = setup().listed(ENDPOINT, keys).start_untaught().await.unwrap();
    let client = gateway.connect(ENDPOINT).await;
    let role = "create role limited login password 'its password'";
    client.batch_execute(role).await.unwrap();
    drop(client);

    vetoed(&gateway, ENDPOINT, "vetoed: question unanswered").await;

    let said = logs::of_endpoint(ENDPOINT);
    let asked = |line: &&logs::Line| line.field("message") == "cannot ask whether it may be suspended";
    let error = said.iter().find(asked).unwrap().field("error");
    assert!(
        error.contains("has not the rights of pg_read_all_stats"),
        "{error}"
    );
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute("grant pg_read_all_stats to limited")
        .await
        .unwrap();
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
