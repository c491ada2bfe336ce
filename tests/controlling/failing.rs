//! The control plane is killed, slow, or says no: what runs is served, what must be asked is told why it cannot be, and
//! nobody else notices.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::error::SqlState;

use super::{
    asking, number,
    plane::{Fault, Plane},
    refused,
};
use crate::harness::{logs, processes, wait::until};

/// Everything is asked for with every login.
const ALWAYS: &str = "fresh_for = \"1ms\"\nunknown_for = \"1ms\"";

#[tokio::test]
async fn while_it_is_killed_what_is_known_is_used_and_wakes_fail_with_the_reason() {
    const AWAKE: &str = "cp-killed-awake";
    const ASLEEP: &str = "cp-killed-asleep";
    const LOCAL: &str = "cp-killed-local";
    let plane = Plane::start().await;
    let setup = asking(&plane, ALWAYS).listed(LOCAL, "");
    plane.own(&setup, AWAKE, json!({}));
    plane.own(&setup, ASLEEP, json!({ "suspend_after": "100ms" }));
    plane.own(&setup, "cp-killed-unknown", json!({}));
    let gateway = setup.start().await;
    let here = gateway.connect(AWAKE).await;
    drop(gateway.connect(ASLEEP).await);
    until("the other compute to be suspended", async || {
        !gateway.is_awake(ASLEEP)
    })
    .await;
    gateway.asleep(ASLEEP).await;

    plane.kill().await;

    assert_eq!(number(&here, "select 1::bigint").await, 1);
    let new = gateway.connect(AWAKE).await;
    assert_eq!(number(&new, "select 2::bigint").await, 2);
    assert_eq!(number(&gateway.connect(LOCAL).await, "select 3::bigint").await, 3);
    let error = refused(&gateway, ASLEEP).await;
    assert_eq!(*error.code(), SqlState::CANNOT_CONNECT_NOW);
    let detail = error.detail().unwrap();
    assert!(
        detail.starts_with("the control plane cannot be asked"),
        "{detail}"
    );
    assert!(!detail.contains("127.0.0.1"), "{detail}");
    let error = refused(&gateway, "cp-killed-unknown").await;
    assert_eq!(*error.code(), SqlState::INVALID_PASSWORD);

    plane.revive().await;

    drop(gateway.connect_again(ASLEEP).await);
    drop(gateway.connect_again("cp-killed-unknown").await);
    assert_eq!(number(&here, "select 4::bigint").await, 4);
    assert_eq!(plane.generation(AWAKE), 1);
}

/// They were locked out for up to `lockout_max` behind the control plane's return, with the right password.
#[tokio::test]
async fn who_tried_while_nobody_could_be_asked_is_locked_out_no_longer_than_that() {
    const GATE: &str = "[gate]\nfailures_max = 2\nlockout_min = \"1h\"\nlockout_max = \"1h\"\n";
    const OURS: &str = "cp-forgiven";
    const NOBODYS: &str = "cp-forgiven-nobody";
    let plane = Plane::start().await;
    let setup = asking(&plane, &format!("{ALWAYS}\n{GATE}"));
    plane.own(&setup, OURS, json!({}));
    let gateway = setup.start().await;
    plane.kill().await;
    for endpoint in [OURS, NOBODYS] {
        for _ in 0..3 {
            assert_eq!(
                *refused(&gateway, endpoint).await.code(),
                SqlState::INVALID_PASSWORD
            );
        }
        assert_eq!(
            *refused(&gateway, endpoint).await.code(),
            SqlState::CONFIGURATION_LIMIT_EXCEEDED
        );
    }
    plane.revive().await;
    drop(gateway.connect_again(OURS).await);
    // Who is nobody is told nothing else than who is somebody.
    until(
        "the lock-out to be forgiven for a name that nobody has",
        async || *refused(&gateway, NOBODYS).await.code() == SqlState::INVALID_PASSWORD,
    )
    .await;
}

#[tokio::test]
async fn what_is_known_is_not_used_for_ever() {
    const ENDPOINT: &str = "cp-stale";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1ms\"\nstale_max = \"1s\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let here = gateway.connect(ENDPOINT).await;

    plane.kill().await;

    until("the answer to be too old", async || {
        let config = gateway.config(ENDPOINT);
        let refused = crate::harness::tls_client::connect(&config, &gateway.authority).await;
        refused.is_err_and(|error| error.code() == Some(&SqlState::INVALID_PASSWORD))
    })
    .await;
    assert_eq!(number(&here, "select 1::bigint").await, 1);
    plane.revive().await;
    drop(gateway.connect_again(ENDPOINT).await);
}

#[tokio::test]
async fn while_it_is_slow_clients_are_held_for_as_long_as_they_are_and_others_come_in() {
    const SLOW: &str = "cp-slow";
    const AWAKE: &str = "cp-slow-other";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1ms\"\ntimeout = \"3s\"");
    plane.own(
        &setup,
        SLOW,
        json!({ "hold_timeout": "700ms", "start_timeout": "30s" }),
    );
    plane.own(&setup, AWAKE, json!({}));
    let gateway = setup.start().await;
    let here = gateway.connect(AWAKE).await;
    plane.fault("/wake", Fault::Silence);

    let error = refused(&gateway, SLOW).await;

    assert_eq!(*error.code(), SqlState::CANNOT_CONNECT_NOW);
    assert_eq!(
        error.message(),
        "compute for endpoint \"cp-slow\" is still starting"
    );
    plane.fault("/v1/", Fault::Silence);
    assert_eq!(number(&here, "select 1::bigint").await, 1);
    let new = gateway.connect(AWAKE).await;
    assert_eq!(number(&new, "select 2::bigint").await, 2);
    plane.mend();
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words_and_not_repeated_too_soon() {
    const ENDPOINT: &str = "cp-refused";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let said = json!({
        "reason": "host-17 is full", "message": "the free plan's hours are used up", "retry_after_ms": 60_000,
    });
    plane.fault("/wake", Fault::Answer(503, said.to_string()));

    let first = refused(&gateway, ENDPOINT).await;
    let second = refused(&gateway, ENDPOINT).await;

    for error in [first, second] {
        assert_eq!(*error.code(), SqlState::CANNOT_CONNECT_NOW);
        let detail = error.detail().unwrap();
        assert!(
            detail.starts_with("the free plan's hours are used up"),
            "{detail}"
        );
        assert!(!detail.contains("host-17"), "{detail}");
        let seconds = error.hint().unwrap().strip_prefix("try again in ").unwrap();
        let seconds: f64 = seconds.split(' ').next().unwrap().parse().unwrap();
        assert!(
            seconds > 5.0,
            "longer than any backoff of pgwake's own: {seconds}"
        );
    }
    assert_eq!(plane.asked(&format!("POST /v1/endpoints/{ENDPOINT}/wake")), 1);
}

#[tokio::test]
async fn a_start_that_takes_longer_than_one_question_is_asked_after_again() {
    const ENDPOINT: &str = "cp-starting";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    plane.fault(
        "/wake",
        Fault::Answer(202, json!({ "retry_after_ms": 10 }).to_string()),
    );

    let wake = format!("POST /v1/endpoints/{ENDPOINT}/wake");
    let mending = async {
        until("it to be asked after", async || plane.asked(&wake) >= 3).await;
        plane.mend();
    };
    let (client, ()) = tokio::join!(gateway.connect(ENDPOINT), mending);

    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
    tokio::time::timeout(Duration::from_secs(30), gateway.server.drain())
        .await
        .expect("a question for events is no reason to stay");
}

#[tokio::test]
async fn killed_while_it_is_asked_for_a_wake_and_back_again_it_is_asked_again() {
    const ENDPOINT: &str = "cp-away";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    plane.fault("/wake", Fault::Silence);

    let wake = format!("POST /v1/endpoints/{ENDPOINT}/wake");
    let dying = async {
        until("it to be asked for a wake", async || plane.asked(&wake) == 1).await;
        plane.kill().await;
        plane.mend();
        plane.revive().await;
    };
    let (client, ()) = tokio::join!(gateway.connect(ENDPOINT), dying);

    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
}

#[tokio::test]
async fn a_wake_whose_answer_is_lost_is_asked_for_again_and_starts_nothing_twice() {
    const ENDPOINT: &str = "cp-lost";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    plane.fault("/wake", Fault::Cut);

    let wake = format!("POST /v1/endpoints/{ENDPOINT}/wake");
    let mending = async {
        until("it to be asked again", async || plane.asked(&wake) >= 2).await;
        plane.mend();
    };
    let (client, ()) = tokio::join!(gateway.connect(ENDPOINT), mending);

    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
}

#[tokio::test]
async fn a_suspend_that_it_did_not_hear_is_asked_for_when_it_is_back() {
    const ENDPOINT: &str = "cp-owed";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({ "suspend_after": "100ms" }));
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;
    plane.kill().await;
    drop(client);
    until("the suspend to be given up", async || {
        let lines = logs::of_endpoint(ENDPOINT);
        lines
            .iter()
            .any(|line| line.field("message") == "could not be stopped")
    })
    .await;
    assert!(!processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());

    plane.revive().await;

    until("its compute to be suspended", async || {
        processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty()
    })
    .await;
    drop(gateway.connect_again(ENDPOINT).await);
    assert_eq!(plane.generation(ENDPOINT), 2);
}
