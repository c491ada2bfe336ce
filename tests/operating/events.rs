//! What happens, as it happens.

use super::{OPERATE, READ, admin};

#[tokio::test]
async fn a_wake_a_refusal_a_suspend_and_an_order_are_seen_as_they_happen() {
    const ENDPOINT: &str = "ops-events";
    let gateway = admin().listed(ENDPOINT, "").start().await;
    let mut events = gateway.http(READ).events().await;
    let mine = |event: &serde_json::Value| event["endpoint"] == ENDPOINT;

    let mut wrong = gateway.config(ENDPOINT);
    wrong.password("ops-secret-guess");
    let refused = crate::harness::tls_client::connect(&wrong, &gateway.authority).await;
    refused.expect_err("a wrong password");
    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("select 'ops-secret-text'").await.unwrap();
    drop(client);

    let refusal = events.until("refusal", mine).await;
    assert_eq!(
        (&refusal["sqlstate"], &refusal["kind"]),
        (&"28P01".into(), &"login".into())
    );
    let begun = events.until("wake", mine).await;
    assert_eq!(begun["state"], "waking");
    let ready = events.until("wake", mine).await;
    assert_eq!(
        (&ready["state"], &ready["wake"]),
        (&"ready".into(), &begun["wake"])
    );
    assert!(!ready["phases"].as_array().unwrap().is_empty(), "{ready}");
    let order = format!("/api/v1/endpoints/{ENDPOINT}/suspend");
    crate::harness::wait::until("nobody to use it", async || {
        gateway.http(OPERATE).post(&order).await.status == 200
    })
    .await;
    let ordered = events.until("operator", |_| true).await;
    assert_eq!(ordered["what"], format!("suspend {ENDPOINT}"));
    let suspended = events.until("suspend", mine).await;
    assert!(suspended["awake_ms"].is_u64(), "{suspended}");
}

#[tokio::test]
async fn so_many_may_watch_and_one_who_leaves_makes_room() {
    let gateway = admin().listed("ops-watchers", "").start().await;
    let http = gateway.http(READ);
    let mut watching = Vec::new();
    for _ in 0..32 {
        watching.push(http.events().await);
    }

    let refused = http.get("/api/v1/events").await;

    assert_eq!(refused.error(), (503, "32 are watching already".to_owned()));
    // So that pgwake finds out that one has left, something must happen.
    drop(watching.pop());
    let order = "/api/v1/pools/ops-watchers/resume";
    crate::harness::wait::until("room for one more", async || {
        gateway.http(OPERATE).post(order).await.json();
        let path = "/api/v1/events";
        let head = http.ask("HEAD", path).await;
        head.status == 200
    })
    .await;
}
