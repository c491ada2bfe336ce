//! An endpoint that is taken away and comes back while sessions of the first one are still there, under the same name or
//! as another's.

use serde_json::json;
use tokio_postgres::error::SqlState;

use super::{asking, number, plane::Plane, refused};
use crate::harness::{gateway::Gateway, logs, wait::until};

/// A gateway in front of an endpoint that its control plane may take away and give back at once.
async fn owned(endpoint: &str) -> (Plane, Gateway) {
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"\nunknown_for = \"1ms\"");
    plane.own(&setup, endpoint, json!({}));
    let gateway = setup.start().await;
    (plane, gateway)
}

fn is_in_force(gateway: &Gateway, endpoint: &str) -> bool {
    let name = pgwake::ids::EndpointName::parse(endpoint).unwrap();
    gateway.server.house().directory.endpoint(&name).is_some()
}

async fn until_old_one_is_gone(endpoint: &str) {
    until("the first one to be gone", async || {
        let lines = logs::of_endpoint(endpoint);
        lines.iter().any(|line| line.field("message") == "removed")
    })
    .await;
}

#[tokio::test]
async fn what_comes_back_at_once_is_not_suspended_by_the_end_of_what_was_there() {
    const ENDPOINT: &str = "cp-back";
    let (plane, gateway) = owned(ENDPOINT).await;
    let mut old = gateway.connect(ENDPOINT).await;
    let transaction = old.transaction().await.unwrap();
    plane.remove(ENDPOINT);
    until("it to be taken away", async || !is_in_force(&gateway, ENDPOINT)).await;
    let error = refused(&gateway, ENDPOINT).await;
    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);

    plane.restore(ENDPOINT);
    let new = gateway.connect_again(ENDPOINT).await;
    // It was there, and is: nothing was started.
    assert_eq!(plane.generation(ENDPOINT), 1);
    assert_eq!(number(&new, "select 1::bigint").await, 1);
    transaction.commit().await.unwrap();
    drop(old);
    until_old_one_is_gone(ENDPOINT).await;

    assert_eq!(number(&new, "select 2::bigint").await, 2);
    assert_eq!(plane.asked(&format!("POST /v1/endpoints/{ENDPOINT}/suspend")), 0);
    assert_eq!(plane.generation(ENDPOINT), 1);
}

#[tokio::test]
async fn what_comes_back_unused_is_suspended_for_it() {
    const ENDPOINT: &str = "cp-back-unused";
    let (plane, gateway) = owned(ENDPOINT).await;
    let mut old = gateway.connect(ENDPOINT).await;
    let transaction = old.transaction().await.unwrap();
    plane.remove(ENDPOINT);
    until("it to be taken away", async || !is_in_force(&gateway, ENDPOINT)).await;

    plane.restore(ENDPOINT);
    // With a wrong password nothing is woken, and nothing looked at.
    super::refused_with(&gateway, ENDPOINT, "wrong").await;
    until("it to be back", async || is_in_force(&gateway, ENDPOINT)).await;
    transaction.commit().await.unwrap();
    until_old_one_is_gone(ENDPOINT).await;

    assert_eq!(plane.asked(&format!("POST /v1/endpoints/{ENDPOINT}/suspend")), 1);
    assert_eq!(
        number(&gateway.connect(ENDPOINT).await, "select 1::bigint").await,
        1
    );
    assert_eq!(plane.generation(ENDPOINT), 2);
}

#[tokio::test]
async fn sessions_end_when_their_endpoint_becomes_another_tenants() {
    const ENDPOINT: &str = "cp-moved";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({ "pool": { "mode": "transaction" } }));
    let gateway = setup.start().await;
    let mut parked = gateway.raw_served(ENDPOINT).await;

    plane.change(ENDPOINT, "tenant", json!("shop"));

    let ended = parked.until(b'E').await;
    assert_eq!(ended.last().unwrap().fields()[&'C'], "57P01");
    parked.closed().await;
    let client = gateway.connect_again(ENDPOINT).await;
    assert_eq!(number(&client, "select 1::bigint").await, 1);
    let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
    let endpoint = gateway.server.house().directory.endpoint(&name).unwrap();
    assert_eq!(endpoint.tenant.as_str(), "shop");
}
