//! Settings of local computes: what a server and its branches are started with, now and after a reload.

use tokio_postgres::Client;

use super::{rewrite, started, text};
use crate::harness::{
    gateway::{Gateway, Setup},
    logs, tls_client,
    wait::until,
};

/// The value of a setting, and who says so.
async fn setting(client: &Client, name: &str) -> (String, String) {
    let sql = "select current_setting(name), source from pg_settings where name = $1";
    let row = client.query_one(sql, &[&name]).await.unwrap();
    (row.get(0), row.get(1))
}

fn by_argument(value: &str) -> (String, String) {
    (value.to_owned(), "command line".to_owned())
}

async fn reload_with(gateway: &Gateway, old: &str, new: &str) {
    let before = text(gateway);
    assert!(before.contains(old), "{before}");
    rewrite(gateway.path(), &before.replace(old, new));
    let changes = gateway.server.reload().await.unwrap();
    assert!(changes.needs_restart.is_empty(), "{changes}");
    assert!(!changes.changed.is_empty(), "{changes}");
}

#[tokio::test]
async fn settings_hold_for_a_server_and_its_branches_and_a_change_from_the_next_wake() {
    const ENDPOINT: &str = "settings-changed";
    const BRANCH: &str = "settings-changed--copy";
    let settings = r#"{ Work_Mem = "5MB", jit = false, max_connections = 17, archive_mode = "always" }"#;
    let keys = "suspend_after = \"50ms\"\nhold_timeout = \"5m\"\nbranches = { on_connect = true }";
    let setup = Setup::new()
        .limit("disk_free_min = 0")
        .with_settings(ENDPOINT, settings, keys);
    let gateway = started(setup).await;
    let client = gateway.connect(ENDPOINT).await;
    for (name, value) in [("work_mem", "5MB"), ("jit", "off"), ("max_connections", "17")] {
        assert_eq!(setting(&client, name).await, by_argument(value));
    }
    let branch = gateway.connect(BRANCH).await;
    assert_eq!(setting(&branch, "work_mem").await, by_argument("5MB"));
    assert_eq!(setting(&branch, "archive_mode").await, by_argument("off"));

    reload_with(&gateway, "\"5MB\"", "\"6MB\"").await;

    for client in [&client, &branch] {
        assert_eq!(
            setting(client, "work_mem").await,
            by_argument("5MB"),
            "it runs on"
        );
    }
    drop((client, branch));
    for endpoint in [ENDPOINT, BRANCH] {
        gateway.asleep(endpoint).await;
        let client = gateway.connect(endpoint).await;
        assert_eq!(
            setting(&client, "work_mem").await,
            by_argument("6MB"),
            "{endpoint}"
        );
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_setting_that_postgres_refuses_is_named_to_the_operator_and_its_repair_is_served() {
    const ENDPOINT: &str = "settings-wrong";
    let setup = Setup::new().with_settings(ENDPOINT, r#"{ work_mem = "much" }"#, "");
    let gateway = started(setup).await;

    let refused = tls_client::connect(&gateway.config(ENDPOINT), &gateway.authority).await;

    let refused = refused.err().unwrap();
    let told = refused.as_db_error().unwrap();
    assert_eq!(told.code().code(), "57P03");
    let detail = told.detail().unwrap();
    assert!(
        detail.starts_with("postgres ended with exit status 1 before it took logins"),
        "{detail}"
    );
    let lines = logs::of_endpoint(ENDPOINT);
    let failed = lines
        .iter()
        .find(|line| line.field("message") == "could not be started")
        .unwrap();
    let words = "invalid value for parameter \"work_mem\": \"much\"";
    assert!(failed.field("detail").contains(words), "{failed:?}");

    reload_with(&gateway, "\"much\"", "\"7MB\"").await;
    let mut client = None;
    until("the compute to be woken again", async || {
        let connected = tls_client::connect(&gateway.config(ENDPOINT), &gateway.authority).await;
        client = connected.ok();
        client.is_some()
    })
    .await;
    assert_eq!(setting(&client.unwrap(), "work_mem").await, by_argument("7MB"));
    gateway.server.stop().await;
}
