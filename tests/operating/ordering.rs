//! What is ordered happens, to those it is meant for and nobody else.

use std::fs;

use tokio_postgres::error::SqlState;

use super::{OPERATE, READ, admin, endpoint, items};
use crate::harness::{http::Http, logs, tls_client, wait::until};

async fn order(http: &Http, what: &str) -> u16 {
    http.post(&format!("/api/v1/{what}")).await.status.as_u16()
}

#[tokio::test]
async fn a_compute_is_woken_and_suspended_but_never_under_a_client() {
    const ENDPOINT: &str = "ops-wake";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    let suspend = format!("endpoints/{ENDPOINT}/suspend");
    assert_eq!(order(&http, &suspend).await, 200, "asleep already");

    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/wake")).await, 200);

    until("it to be awake", async || gateway.is_awake(ENDPOINT)).await;
    let mut client = gateway.raw_served(ENDPOINT).await;
    client.query("begin").await;
    client.until(b'Z').await;
    let (status, error) = http.post(&format!("/api/v1/{suspend}")).await.error();
    assert_eq!((status, &*error), (409, "one client has it in use"));
    client.query("commit").await;
    client.until(b'Z').await;
    drop(client);
    until("nobody to use it", async || order(&http, &suspend).await == 200).await;
    gateway.asleep(ENDPOINT).await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);
}

#[tokio::test]
async fn a_lost_data_directory_is_told_and_made_anew_only_when_that_is_ordered() {
    const ENDPOINT: &str = "ops-anew";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute("create table kept as select 42 as answer")
        .await
        .unwrap();
    drop(client);
    let suspend = format!("endpoints/{ENDPOINT}/suspend");
    until("nobody to use it", async || order(&http, &suspend).await == 200).await;
    gateway.asleep(ENDPOINT).await;
    let (data_dir, away) = (gateway.data_dir(ENDPOINT), gateway.path().join("away"));
    fs::rename(&data_dir, &away).unwrap();
    let refused = async || {
        let refused = tls_client::connect(&gateway.config(ENDPOINT), &gateway.authority).await;
        let error = refused.expect_err("it is let in");
        error.as_db_error().unwrap().clone()
    };

    let error = refused().await;
    assert_eq!(error.code(), &SqlState::CANNOT_CONNECT_NOW);
    let detail = error.detail().unwrap();
    assert!(
        detail.starts_with("its data directory was in use and is gone"),
        "{detail}"
    );
    let lines = logs::of_endpoint(ENDPOINT);
    let failed = lines
        .iter()
        .find(|line| line.field("message") == "could not be started");
    let said = failed.unwrap().field("detail").to_owned();
    assert!(
        said.contains(data_dir.to_str().unwrap()) && said.contains("forget-server"),
        "{said}"
    );
    fs::rename(&away, &data_dir).unwrap();
    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select answer from kept", &[]).await.unwrap();

    drop(client);
    until("nobody to use it", async || order(&http, &suspend).await == 200).await;
    gateway.asleep(ENDPOINT).await;
    fs::rename(&data_dir, &away).unwrap();
    refused().await;
    let done = http
        .post(&format!("/api/v1/endpoints/{ENDPOINT}/forget-server"))
        .await;
    assert_eq!(done.json()["kept"], true);
    let client = gateway.connect_again(ENDPOINT).await;
    let missing = client
        .query_one("select answer from kept", &[])
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Some(&SqlState::UNDEFINED_TABLE));
    gateway.server.stop().await;
}

#[tokio::test]
async fn idle_sessions_are_ended_for_a_suspend_where_they_may_be() {
    const ENDPOINT: &str = "ops-suspend-idle";
    let keys = "suspend_after = \"1h\"\nsuspend_idle_sessions = true";
    let gateway = admin().listed(ENDPOINT, keys).start().await;
    let http = gateway.http(OPERATE);
    let mut client = gateway.raw_served(ENDPOINT).await;

    until("it to be suspended", async || {
        order(&http, &format!("endpoints/{ENDPOINT}/suspend")).await == 200
    })
    .await;

    assert_eq!(client.message().await.sqlstate(), "57P05");
    gateway.asleep(ENDPOINT).await;
}

#[tokio::test]
async fn a_disabled_endpoint_wakes_for_nobody_until_it_is_enabled() {
    const ENDPOINT: &str = "ops-disable";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);

    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/disable")).await, 200);

    let mut refused = gateway.raw_proved(ENDPOINT).await;
    let fields = refused.message().await.fields();
    assert_eq!(fields[&'C'], "57P03");
    assert_eq!(fields[&'M'], format!("endpoint \"{ENDPOINT}\" is disabled"));
    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/wake")).await, 409);
    assert_eq!(gateway.wakes(ENDPOINT), 0);
    assert_eq!(endpoint(&http, ENDPOINT).await["why"], "disabled by an operator");
    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/enable")).await, 200);
    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn one_session_is_cancelled_and_one_is_ended_and_the_others_go_on() {
    for pooling in ["", "-pooler"] {
        let name = "ops-end";
        let gateway = admin().listed(name, "").start().await;
        let http = gateway.http(OPERATE);
        let connect = async |application: &str| {
            let mut config = gateway.config(&format!("{name}{pooling}"));
            config.application_name(application);
            tls_client::connect(&config, &gateway.authority).await.unwrap()
        };
        let (mine, other) = (connect("mine").await, connect("other").await);
        let running = tokio::spawn(async move {
            let cancelled = mine.batch_execute("select pg_sleep(600)").await;
            (cancelled, mine)
        });
        let path = "/api/v1/sessions?application=mine";
        until("it to run", async || {
            items(&http, path).await[0]["state"] == "active"
        })
        .await;
        let id = items(&http, path).await[0]["session"]
            .as_str()
            .unwrap()
            .to_owned();
        until("the statement to be cancelled", async || {
            order(&http, &format!("sessions/{id}/cancel")).await;
            running.is_finished()
        })
        .await;
        let (cancelled, mine) = running.await.unwrap();
        assert_eq!(cancelled.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        mine.batch_execute("begin").await.unwrap();

        assert_eq!(order(&http, &format!("sessions/{id}/terminate")).await, 200);

        until("the session to end", async || mine.is_closed()).await;
        until("it to be gone", async || items(&http, path).await.is_empty()).await;
        other.batch_execute("select 1").await.unwrap();
        assert_eq!(order(&http, &format!("sessions/{id}/terminate")).await, 404);
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn whoever_is_ended_reads_why_parked_held_or_in_a_transaction() {
    const ENDPOINT: &str = "ops-ended";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    for (pooling, statement) in [
        ("", ""),
        ("", "begin"),
        ("-pooler", ""),
        ("-pooler", "begin; select 1"),
    ] {
        let mut client = gateway.raw_served(&format!("{ENDPOINT}{pooling}")).await;
        if !statement.is_empty() {
            client.query(statement).await;
            client.until(b'Z').await;
        }
        let path = format!("/api/v1/sessions?endpoint={ENDPOINT}");
        let id = items(&http, &path).await[0]["session"]
            .as_str()
            .unwrap()
            .to_owned();

        assert_eq!(order(&http, &format!("sessions/{id}/terminate")).await, 200);

        let fields = client.message().await.fields();
        assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"), "{fields:?}");
        assert_eq!(
            fields[&'M'],
            "terminating connection due to administrator command"
        );
        client.closed().await;
        until("it to be gone", async || items(&http, &path).await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_paused_pool_lends_nothing_and_a_resumed_one_goes_on() {
    const ENDPOINT: &str = "ops-pause";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    let mut config = gateway.config(&format!("{ENDPOINT}-pooler"));
    config.application_name("paused");
    let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
    client.batch_execute("select 1").await.unwrap();
    // A client has its answer before its session is back.
    until("the session to be back", async || {
        items(&http, "/api/v1/pools").await[0]["lent"] == 0
    })
    .await;

    let paused = http.post(&format!("/api/v1/pools/{ENDPOINT}/pause")).await.json();

    assert_eq!((&paused["paused"], &paused["lent"]), (&true.into(), &0.into()));
    let waiting = tokio::spawn(async move { client.batch_execute("select 2").await });
    let path = format!("/api/v1/sessions?endpoint={ENDPOINT}");
    until("it to wait", async || {
        items(&http, &path).await[0]["state"] == "waiting"
    })
    .await;
    until("its pool to count it", async || {
        let pools = items(&http, "/api/v1/pools?paused=true").await;
        pools[0]["endpoint"] == ENDPOINT && pools[0]["waiting"] == 1
    })
    .await;
    assert_eq!(order(&http, &format!("pools/{ENDPOINT}/resume")).await, 200);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn reconnect_replaces_server_sessions_and_clients_do_not_notice() {
    const ENDPOINT: &str = "ops-reconnect";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    let config = gateway.config(&format!("{ENDPOINT}-pooler"));
    let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
    let pid = async || -> i32 {
        let row = client.query_one("select pg_backend_pid()", &[]).await.unwrap();
        row.get(0)
    };
    let before = pid().await;
    assert_eq!(pid().await, before);

    assert_eq!(order(&http, &format!("pools/{ENDPOINT}/reconnect")).await, 200);

    assert_ne!(pid().await, before);
}

#[tokio::test]
async fn the_configuration_is_read_again_as_a_whole_or_not_at_all() {
    const ENDPOINT: &str = "ops-reload";
    let setup = admin().listed(ENDPOINT, "suspend_after = \"1h\"");
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let http = gateway.http(OPERATE);
    let text = fs::read_to_string(&file).unwrap();

    fs::write(&file, text.replace("\"1h\"", "\"soon\"")).unwrap();
    let (status, error) = http.post("/api/v1/reload").await.error();
    assert_eq!(status, 409);
    assert!(error.contains("suspend_after"), "{error}");

    let other = text
        .replace("\"1h\"", "\"2h\"")
        .replace("[admin]", "[admin]\nmetrics_names_max = 99");
    fs::write(&file, other).unwrap();
    let done = http.post("/api/v1/reload").await.json();
    assert_eq!(done["needs_restart"], serde_json::json!(["admin"]), "{done}");
    assert!(done["changes"].as_str().unwrap().contains(ENDPOINT), "{done}");
    assert_eq!(http.post("/api/v1/reload").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_token_that_a_reload_takes_out_is_good_for_nothing_more() {
    const NEW: &str = "operate-token-after-a-reload";
    let setup = admin();
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(OPERATE, NEW)).unwrap();

    let done = gateway.http(OPERATE).post("/api/v1/reload").await.json();

    assert_eq!(done["changes"], "admin changed");
    assert_eq!(done["needs_restart"], serde_json::json!([]));
    let (status, _) = gateway.http(OPERATE).post("/api/v1/reload").await.error();
    assert_eq!(status, 401);
    assert_eq!(
        gateway.http(NEW).post("/api/v1/reload").await.status.as_u16(),
        200
    );
    assert_eq!(
        gateway.http(READ).get("/api/v1/endpoints").await.status.as_u16(),
        200
    );
}

#[tokio::test]
async fn what_is_disabled_or_paused_is_so_after_a_restart_until_it_is_taken_back() {
    const ENDPOINT: &str = "ops-standing";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let http = gateway.http(OPERATE);
    for what in [
        format!("endpoints/{ENDPOINT}/disable"),
        format!("pools/{ENDPOINT}/pause"),
    ] {
        let done = http.post(&format!("/api/v1/{what}")).await.json();
        assert_eq!(done["kept"], true, "{done}");
    }

    let gateway = gateway.restart().await;

    let http = gateway.http(OPERATE);
    assert_eq!(endpoint(&http, ENDPOINT).await["why"], "disabled by an operator");
    assert_eq!(endpoint(&http, ENDPOINT).await["pool"]["paused"], true);
    let mut refused = gateway.raw_proved(ENDPOINT).await;
    assert_eq!(refused.message().await.sqlstate(), "57P03");
    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/enable")).await, 200);
    assert_eq!(order(&http, &format!("pools/{ENDPOINT}/resume")).await, 200);

    let gateway = gateway.restart().await;

    let http = gateway.http(OPERATE);
    assert_eq!(endpoint(&http, ENDPOINT).await["pool"]["paused"], false);
    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
}

/// An endpoint that was taken out of the configuration is no new one when it comes back.
#[tokio::test]
async fn an_endpoint_that_comes_back_is_as_it_was_ordered() {
    const ENDPOINT: &str = "ops-standing-back";
    let setup = admin().listed(ENDPOINT, "").listed("ops-standing-other", "");
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let http = gateway.http(OPERATE);
    assert_eq!(order(&http, &format!("endpoints/{ENDPOINT}/disable")).await, 200);
    let text = fs::read_to_string(&file).unwrap();
    let begin = text
        .find(&format!("[tenants.acme.endpoints.{ENDPOINT}]"))
        .unwrap();
    let end = text.find("[tenants.acme.endpoints.ops-standing-other]").unwrap();
    let without = format!("{}{}", &text[..begin], &text[end..]);

    fs::write(&file, without).unwrap();
    http.post("/api/v1/reload").await.json();
    let gone = http.get(&format!("/api/v1/endpoints/{ENDPOINT}")).await;
    assert_eq!(gone.status.as_u16(), 404);
    fs::write(&file, text).unwrap();
    http.post("/api/v1/reload").await.json();

    assert_eq!(endpoint(&http, ENDPOINT).await["disabled"], true);
}
