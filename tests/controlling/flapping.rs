//! A control plane that has something missed again and again: it is asked no more than it can answer, and whoever waits is
//! answered all the same.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use super::{
    asking, number,
    plane::{Fault, Plane},
};
use crate::harness::{gateway::Gateway, wait::until};

const EVENTS: &str = "GET /v1/events";

/// Events have been asked for so many times more.
async fn heard_again(plane: &Plane, times: usize) {
    let before = plane.asked(EVENTS);
    until("events to be asked for again", async || {
        plane.asked(EVENTS) >= before + times
    })
    .await;
}

/// What was told before has been heard of by now.
async fn caught_up(plane: &Plane, gateway: &Gateway, endpoint: &str) {
    plane.change(endpoint, "awake_min", json!("1s"));
    until("a change to be heard of", async || {
        let name = pgwake::ids::EndpointName::parse(endpoint).unwrap();
        let endpoint = gateway.server.house().directory.endpoint(&name);
        endpoint.is_some_and(|endpoint| endpoint.awake_min == Duration::from_secs(1))
    })
    .await;
}

/// Each gap had all computes looked at by a task of its own, and they piled up for as long as there were gaps.
#[tokio::test]
async fn however_many_gaps_come_during_a_look_computes_are_looked_at_once_more() {
    const ENDPOINT: &str = "cp-gaps";
    let plane = Plane::start().await;
    let setup = asking(&plane, "timeout = \"30s\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;
    let state = format!("GET /v1/endpoints/{ENDPOINT}/state");
    let before = plane.asked(&state);
    let (answer, later) = watch::channel(None);
    plane.fault("/state", Fault::Later(later));
    plane.fault("/v1/events", Fault::Gaps);
    plane.tell(json!({}));
    until("it to be looked at", async || plane.asked(&state) == before + 1).await;
    heard_again(&plane, 12).await;

    plane.mend();
    let mut place = plane.place(ENDPOINT);
    place["state"] = "running".into();
    answer.send_replace(Some(place.to_string()));

    until("it to be looked at again", async || {
        plane.asked(&state) >= before + 2
    })
    .await;
    caught_up(&plane, &gateway, ENDPOINT).await;
    assert_eq!(plane.asked(&state), before + 2);
    assert_eq!(number(&client, "select 1::bigint").await, 1);
}

/// Its answer was thrown away whenever something had been told meanwhile, and it was asked for until the login took too
/// long.
#[tokio::test]
async fn a_name_that_is_not_known_yet_comes_in_while_everything_is_in_doubt_again_and_again() {
    const ENDPOINT: &str = "cp-doubted";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = setup.start().await;
    plane.fault("/v1/events", Fault::Gaps);
    plane.fault(
        &format!("/v1/endpoints/{ENDPOINT}"),
        Fault::Late(Duration::from_millis(500)),
    );
    plane.tell(json!({}));
    heard_again(&plane, 4).await;
    let began = Instant::now();

    let client = gateway.connect(ENDPOINT).await;

    let (took, asked) = (
        began.elapsed(),
        plane.asked(&format!("GET /v1/endpoints/{ENDPOINT}")),
    );
    assert_eq!(number(&client, "select 1::bigint").await, 1);
    // Half a second each for the name, where it runs, and its wake.
    assert!(took < Duration::from_secs(5), "{took:?}");
    // It is asked for anew for those who come later, and less and less often.
    assert!(asked <= 6, "{asked}");
    plane.mend();
    // The last doubt is not forgotten.
    caught_up(&plane, &gateway, ENDPOINT).await;
}
