//! The control plane says what cannot be: no endpoint comes of it, none is lost by it, and no secret is told.

use serde_json::json;
use tokio_postgres::error::SqlState;

use super::{
    asking, login_of_a_stranger, number,
    plane::{Fault, Plane, TOKEN, role},
    refused,
};
use crate::harness::{gateway::Setup, logs, postgres::PASSWORD};

#[tokio::test]
async fn wrong_answers_make_no_endpoint_and_take_none_away() {
    const KNOWN: &str = "cp-wrong-known";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1ms\"\ntimeout = \"1s\"");
    plane.own(&setup, KNOWN, json!({}));
    let gateway = setup.start().await;
    let here = gateway.connect(KNOWN).await;
    let right = json!({ "tenant": "acme", "roles": role(PASSWORD) });
    let with = |key: &str, value| {
        let mut answer = right.clone();
        answer[key] = value;
        Fault::Answer(200, answer.to_string())
    };
    let faults = [
        ("garbage", Fault::Answer(200, "<html>".to_owned())),
        ("types", with("roles", json!(["postgres"]))),
        (
            "key",
            with("compute", json!({ "kind": "process", "data_dir": "/" })),
        ),
        (
            "file",
            with(
                "roles",
                json!({ "postgres": { "verifier": { "file": "/etc/hostname" } } }),
            ),
        ),
        ("tenant", with("tenant", json!("Not A Tenant"))),
        (
            "huge",
            Fault::Answer(200, format!("{right}{}", " ".repeat(300 * 1024))),
        ),
        ("status", Fault::Answer(500, "{}".to_owned())),
        ("not-modified", Fault::Answer(304, String::new())),
        ("redirect", Fault::Redirect(format!("/v1/endpoints/{KNOWN}"))),
        ("token", Fault::Answer(401, "{}".to_owned())),
        ("drip", Fault::Drip),
        ("cut", Fault::Cut),
    ];
    for (what, fault) in faults {
        let endpoint = format!("cp-wrong-{what}");
        plane.fault(&format!("/v1/endpoints/{endpoint}"), fault.clone());
        plane.fault(&format!("/v1/endpoints/{KNOWN}"), fault);

        let error = refused(&gateway, &endpoint).await;
        assert_eq!(*error.code(), SqlState::INVALID_PASSWORD, "{what}");
        let client = gateway.connect(KNOWN).await;
        assert_eq!(number(&client, "select 1::bigint").await, 1, "{what}");
        plane.mend();
    }
    assert_eq!(number(&here, "select 2::bigint").await, 2);
    assert_eq!(plane.generation(KNOWN), 1);
    for secret in [TOKEN, PASSWORD] {
        assert!(logs::with_text(secret).is_empty(), "a secret is in the log");
    }
}

#[tokio::test]
async fn an_address_of_nobody_is_told_and_nothing_is_sent_there() {
    const ENDPOINT: &str = "cp-nowhere";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    for (place, reason) in [
        (
            json!({ "address": "192.0.2.7:5432", "generation": 1 }),
            "its control plane has given an address of another machine",
        ),
        (
            json!({ "address": "nowhere", "generation": 1 }),
            "the control plane's answer cannot be understood",
        ),
        (
            json!({ "address": "/no/such/.s.PGSQL.5432", "generation": 1 }),
            "nothing answers at the address that its control plane has given",
        ),
    ] {
        plane.mend();
        plane.fault("/wake", Fault::Answer(200, place.to_string()));
        let mut told = String::new();
        crate::harness::wait::until("the reason to be told", async || {
            let error = refused(&gateway, ENDPOINT).await;
            assert_eq!(*error.code(), SqlState::CANNOT_CONNECT_NOW);
            error.detail().unwrap().clone_into(&mut told);
            told.starts_with(reason)
        })
        .await;
        assert!(
            !told.contains("192.0.2.7") && !told.contains("/no/such"),
            "{told}"
        );
    }
    plane.mend();
    drop(gateway.connect_again(ENDPOINT).await);
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_to_the_operator_alone() {
    const ENDPOINT: &str = "cp-other-token";
    let plane = Plane::start().await;
    let toml = plane.toml("").replace(TOKEN, "some-other-token");
    let setup = Setup::new().tenants(&toml);
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;

    let error = refused(&gateway, ENDPOINT).await;

    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);
    let lines = logs::of_endpoint(ENDPOINT);
    let told = lines
        .iter()
        .any(|line| line.field("reason").contains("401 (no such token)"));
    assert!(told, "{lines:?}");
    assert!(logs::with_text("some-other-token").is_empty());
}

#[tokio::test]
async fn a_wake_that_is_answered_wrong_is_told_as_such_and_tried_again() {
    let plane = Plane::start().await;
    let setup = asking(&plane, "timeout = \"1s\"");
    let wrong = "the control plane's answer cannot be understood";
    let faults = [
        (
            "cp-wake-token",
            Fault::Answer(401, String::new()),
            "the control plane answered 401",
        ),
        (
            "cp-wake-redirect",
            Fault::Redirect("/v1/endpoints/cp-wake-huge/wake".to_owned()),
            "the control plane answered 302",
        ),
        ("cp-wake-huge", Fault::Answer(200, " ".repeat(300 * 1024)), wrong),
        ("cp-wake-garbage", Fault::Answer(200, "[".to_owned()), wrong),
    ];
    for (endpoint, _, _) in &faults {
        plane.own(&setup, endpoint, json!({}));
    }
    let gateway = setup.start().await;
    for (endpoint, fault, told) in faults {
        plane.fault("/wake", fault);
        let error = refused(&gateway, endpoint).await;
        assert_eq!(*error.code(), SqlState::CANNOT_CONNECT_NOW, "{endpoint}");
        let detail = error.detail().unwrap();
        assert!(detail.starts_with(told), "{endpoint}: {detail}");
        assert!(plane.asked(&format!("POST /v1/endpoints/{endpoint}/wake")) <= 1);
        plane.mend();
        let client = gateway.connect_again(endpoint).await;
        assert_eq!(number(&client, "select 1::bigint").await, 1);
        assert_eq!(plane.generation(endpoint), 1);
    }
}

/// Operators read that there was no such endpoint, whatever the control plane had answered.
#[tokio::test]
async fn that_nobody_could_ask_for_a_name_is_told_to_operators_and_to_no_stranger() {
    const LOOK: &str = "a-token-to-look-with";
    const UNASKED: &str = "the control plane could not be asked";
    let plane = Plane::start().await;
    let setup = asking(&plane, "").admin(&format!("read_tokens = [\"{LOOK}\"]"));
    let gateway = setup.start().await;
    let misspelt = json!({ "tenant": "acme", "roles": role(PASSWORD), "acess": {} });
    let faults = [
        ("cp-told-down", Fault::Answer(503, "{}".to_owned()), UNASKED),
        ("cp-told-key", Fault::Answer(200, misspelt.to_string()), UNASKED),
        (
            "cp-told-none",
            Fault::Answer(404, String::new()),
            "no such endpoint",
        ),
    ];
    let nobodys = login_of_a_stranger(&gateway, "cp-told-nobodys").await;
    for (endpoint, fault, told) in faults {
        plane.fault(&format!("/v1/endpoints/{endpoint}"), fault);
        // The second is answered from memory.
        for _ in 0..2 {
            assert_eq!(
                login_of_a_stranger(&gateway, endpoint).await,
                nobodys,
                "{endpoint}"
            );
        }
        for line in logs::access_lines(endpoint, 2).await {
            assert!(line.field("outcome").contains(told), "{line:?}");
        }
    }
    let http = gateway.http(LOOK);
    let refusals = http.get("/api/v1/refusals").await.json().to_string();
    assert_eq!(refusals.matches(UNASKED).count(), 4, "{refusals}");
    let metrics = http.get("/metrics").await.body;
    for result in ["refused", "wrong", "answered"] {
        let series =
            format!("pgwake_control_plane_seconds_count{{question=\"endpoint\",result=\"{result}\"}} ");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}
