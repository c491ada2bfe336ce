//! A name that no file has: resolved, proved, woken, served, suspended, woken again; changed and removed meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_postgres::error::SqlState;

use super::{
    asking, number,
    plane::{Fault, Plane, TOKEN, role},
    refused, refused_with,
};
use crate::harness::{
    logs,
    postgres::{PASSWORD, SUPERUSER},
    processes,
    raw::{PROTOCOL_3_0, startup},
    tls_client,
    wait::until,
};

/// A token of operators.
const LOOK: &str = "a-token-to-look-with";

#[tokio::test]
async fn an_endpoint_that_no_file_has_is_woken_served_suspended_and_woken_again() {
    const ENDPOINT: &str = "cp-life";
    let plane = Plane::start().await;
    let setup = asking(&plane, "").admin(&format!("read_tokens = [\"{LOOK}\"]"));
    plane.own(&setup, ENDPOINT, json!({ "suspend_after": "300ms" }));
    let data_dir = setup.data_dir(ENDPOINT);
    let gateway = setup.start().await;

    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute("create table kept as select 7::bigint as n")
        .await
        .unwrap();
    assert_eq!(plane.generation(ENDPOINT), 1);
    let shown = gateway
        .http(LOOK)
        .get(&format!("/api/v1/endpoints/{ENDPOINT}"))
        .await;
    drop(client);
    processes::none_in(&data_dir).await;

    let client = gateway.connect(ENDPOINT).await;
    assert_eq!(number(&client, "select n from kept").await, 7);
    assert_eq!(plane.generation(ENDPOINT), 2);
    drop(client);
    let metrics = gateway.http(LOOK).get("/metrics").await.body;
    for (question, result) in [
        ("endpoint", "answered"),
        ("wake", "answered"),
        ("suspend", "answered"),
        ("events", "answered"),
    ] {
        let series =
            format!("pgwake_control_plane_seconds_count{{question=\"{question}\",result=\"{result}\"}} ");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
    let first = shown.json().to_string();
    assert!(
        first.contains(ENDPOINT) && first.contains("control_plane"),
        "{first}"
    );
    for secret in [TOKEN, PASSWORD, "SCRAM-SHA-256$"] {
        assert!(!first.contains(secret), "{first}");
    }
    assert_eq!(logs::with_text(TOKEN).len(), 0);
    gateway.server.drain().await;
    assert!(processes::in_directory(&data_dir).is_empty());
}

#[tokio::test]
async fn a_password_that_was_changed_holds_as_soon_as_it_is_told() {
    const ENDPOINT: &str = "cp-password";
    let plane = Plane::start().await;
    // Without the event nobody would ask again.
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;

    plane.change(ENDPOINT, "roles", role("another one"));

    let mut config = gateway.config(ENDPOINT);
    config.password("another one");
    until("the new password to hold", async || {
        tls_client::connect(&config, &gateway.authority).await.is_ok()
    })
    .await;
    let error = refused_with(&gateway, ENDPOINT, PASSWORD).await;
    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);
    // Who is here stays.
    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_removed_ends_its_sessions_and_its_compute() {
    const ENDPOINT: &str = "cp-removed";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let data_dir = gateway.data_dir(ENDPOINT);
    let mut client = gateway.raw_served(ENDPOINT).await;

    plane.remove(ENDPOINT);

    let ended = client.until(b'E').await;
    let fields = ended.last().unwrap().fields();
    assert_eq!(fields[&'C'], "57P01", "{fields:?}");
    assert_eq!(fields[&'M'], format!("endpoint \"{ENDPOINT}\" has been removed"));
    client.closed().await;
    let error = refused(&gateway, ENDPOINT).await;
    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);
    processes::none_in(&data_dir).await;
}

#[tokio::test]
async fn a_compute_that_died_is_told_and_started_again() {
    const ENDPOINT: &str = "cp-died";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({ "pool": { "mode": "transaction" } }));
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;
    assert_eq!(number(&client, "select 1::bigint").await, 1);

    plane.kill_compute(ENDPOINT);
    plane.tell(json!({ "kind": "died", "endpoint": ENDPOINT, "generation": 1 }));

    until("the death to be heard of", async || !gateway.is_awake(ENDPOINT)).await;
    let again = gateway.connect_again(ENDPOINT).await;
    assert_eq!(number(&again, "select 2::bigint").await, 2);
    assert_eq!(plane.generation(ENDPOINT), 2);
    // What is late concerns nobody.
    plane.tell(json!({ "kind": "died", "endpoint": ENDPOINT, "generation": 1 }));
    plane.change(ENDPOINT, "hold_timeout", json!("9s"));
    until("the later event to be heard of", async || {
        let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
        let endpoint = gateway.server.house().directory.endpoint(&name);
        endpoint.is_some_and(|endpoint| endpoint.hold_timeout.as_secs() == 9)
    })
    .await;
    assert_eq!(number(&again, "select 3::bigint").await, 3);
}

#[tokio::test]
async fn after_a_gap_in_the_events_everything_is_asked_for_again() {
    const ENDPOINT: &str = "cp-gap";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    drop(gateway.connect(ENDPOINT).await);
    // Nothing of the change is told.
    plane.kill().await;
    plane.remove(ENDPOINT);
    plane.forget_events();

    plane.revive().await;

    until("the endpoint to be gone", async || {
        let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
        gateway.server.house().directory.endpoint(&name).is_none()
    })
    .await;
}

/// The pause after the last of many failures came once more, between the answer that there is a gap and the next question.
#[tokio::test]
async fn after_an_outage_with_a_gap_the_events_are_heard_at_once() {
    let plane = Plane::start().await;
    let gateway = asking(&plane, "").start().await;
    let asked = || plane.asked("GET /v1/events");
    until("a question that waits", async || asked() >= 2).await;
    plane.fault("/v1/events", Fault::Answer(503, "{}".to_owned()));
    // Ends the question that waits.
    plane.forget_events();
    let before = asked();
    until("failures, and a pause of 3 seconds", async || {
        asked() >= before + 5
    })
    .await;

    plane.forget_events();
    plane.mend();

    until("the gap to be heard of", async || asked() > before + 5).await;
    let heard = Instant::now();
    until("the next question", async || asked() > before + 6).await;
    assert!(heard.elapsed() < Duration::from_secs(2), "{:?}", heard.elapsed());
    gateway.server.stop().await;
}

#[tokio::test]
async fn after_a_gap_in_the_events_nobody_stays_at_a_compute_that_has_moved() {
    const MOVED: &str = "cp-gap-moved";
    const STAYED: &str = "cp-gap-stayed";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, MOVED, json!({}));
    plane.own(&setup, STAYED, json!({}));
    let gateway = setup.start().await;
    let (mut moved, stayed) = (gateway.raw_served(MOVED).await, gateway.connect(STAYED).await);
    plane.kill().await;
    plane.move_compute(MOVED);
    plane.forget_events();

    plane.revive().await;

    moved.until(b'E').await;
    moved.closed().await;
    drop(gateway.connect_again(MOVED).await);
    assert_eq!(number(&stayed, "select 1::bigint").await, 1);
}

#[tokio::test]
async fn who_names_nothing_reaches_one_by_a_database_or_the_listeners_default() {
    let plane = Plane::start().await;
    let listen = r#"{ address = "127.0.0.1:0", tls = "optional", default_endpoint = "cp-default" }"#;
    let setup = asking(&plane, "")
        .listen(listen)
        .tenants("[routing.databases]\ntemplate1 = \"cp-database-pooler\"");
    for endpoint in ["cp-default", "cp-database"] {
        plane.own(&setup, endpoint, json!({}));
    }
    let gateway = setup.start().await;

    for (database, endpoint) in [("postgres", "cp-default"), ("template1", "cp-database")] {
        let mut client = gateway.raw("localhost").await;
        let parameters = [("user", SUPERUSER), ("database", database)];
        let greeting = client.log_in(&startup(PROTOCOL_3_0, &parameters), PASSWORD).await;
        assert_eq!(greeting.last().unwrap().tag, b'Z');
        assert_eq!(plane.generation(endpoint), 1);
    }
}
