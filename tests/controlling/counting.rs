//! A control plane that has lost what it knew counts its starts from a lower number than before. Every one of them was taken
//! for one that had ended long ago, and its endpoint was shut until pgwake was started again.

use std::{io::ErrorKind, net::TcpListener};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    asking, number,
    plane::{Fault, Plane},
};
use crate::harness::{
    gateway::{Gateway, Setup},
    logs,
    wait::until,
};

const GONE_BACK: &str = "the control plane's generations have gone back";

/// A gateway in front of these, whose starts are counted from ten on.
async fn owned(endpoints: &[&str]) -> (Plane, Gateway) {
    let plane = Plane::start().await;
    let setup: Setup = asking(&plane, "fresh_for = \"1h\"");
    for endpoint in endpoints {
        plane.own(&setup, endpoint, json!({}));
        plane.count_from(endpoint, 9);
    }
    let gateway = setup.start().await;
    (plane, gateway)
}

/// Its compute ends, and that has been heard of.
async fn died(plane: &Plane, gateway: &Gateway, endpoint: &str) {
    let generation = plane.generation(endpoint);
    plane.kill_compute(endpoint);
    plane.tell(json!({ "kind": "died", "endpoint": endpoint, "generation": generation }));
    until("the death to be heard of", async || !gateway.is_awake(endpoint)).await;
}

fn told(endpoint: &str) -> usize {
    let lines = logs::of_endpoint(endpoint);
    let is_it = |message: &str| message.starts_with(GONE_BACK);
    lines.iter().filter(|line| is_it(line.field("message"))).count()
}

#[tokio::test]
async fn a_count_that_begins_anew_is_believed_and_told_once() {
    const ENDPOINT: &str = "cp-anew";
    let (plane, gateway) = owned(&[ENDPOINT]).await;
    drop(gateway.connect(ENDPOINT).await);
    assert_eq!(plane.generation(ENDPOINT), 10);
    died(&plane, &gateway, ENDPOINT).await;

    plane.count_from(ENDPOINT, 0);

    let client = gateway.connect(ENDPOINT).await;
    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
    assert_eq!(told(ENDPOINT), 1);
    // The new count is as good as the one before.
    died(&plane, &gateway, ENDPOINT).await;
    let client = gateway.connect_again(ENDPOINT).await;
    assert_eq!(number(&client, "select 2::bigint").await, 2);
    assert_eq!(plane.generation(ENDPOINT), 2);
    assert_eq!(told(ENDPOINT), 1);
}

#[tokio::test]
async fn an_answer_that_the_end_of_its_compute_has_overtaken_begins_no_count() {
    const ENDPOINT: &str = "cp-overtaken";
    let (plane, gateway) = owned(&[ENDPOINT]).await;
    let nobodys = TcpListener::bind("127.0.0.1:0").unwrap();
    nobodys.set_nonblocking(true).unwrap();
    let (answer, later) = watch::channel(None);
    plane.fault("/wake", Fault::Later(later));
    let wake = format!("POST /v1/endpoints/{ENDPOINT}/wake");

    let overtaking = async {
        until("a wake to be asked for", async || plane.asked(&wake) == 1).await;
        plane.mend();
        plane.tell(json!({ "kind": "died", "endpoint": ENDPOINT, "generation": 9 }));
        plane.change(ENDPOINT, "awake_min", json!("1s"));
        until("that to be heard of", async || {
            let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
            let endpoint = gateway.server.house().directory.endpoint(&name);
            endpoint.is_some_and(|endpoint| endpoint.awake_min.as_secs() == 1)
        })
        .await;
        let address = nobodys.local_addr().unwrap().to_string();
        answer.send_replace(Some(json!({ "address": address, "generation": 9 }).to_string()));
    };
    let (client, ()) = tokio::join!(gateway.connect(ENDPOINT), overtaking);

    assert_eq!(number(&client, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 10);
    let came = nobodys.accept().map(|_| ());
    assert_eq!(came.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    assert_eq!(told(ENDPOINT), 0);
}

#[tokio::test]
async fn after_a_gap_nobody_stays_at_a_compute_that_the_control_plane_has_forgotten() {
    const FORGOTTEN: &str = "cp-forgotten";
    const RENUMBERED: &str = "cp-renumbered";
    let (plane, gateway) = owned(&[FORGOTTEN, RENUMBERED]).await;
    let mut forgotten = gateway.raw_served(FORGOTTEN).await;
    let renumbered = gateway.connect(RENUMBERED).await;
    plane.kill().await;
    let running = |place: Value| Fault::Answer(200, place.to_string());
    plane.fault(
        &format!("{FORGOTTEN}/state"),
        running(json!({ "state": "running", "address": "127.0.0.1:1", "generation": 3 })),
    );
    let mut place = plane.place(RENUMBERED);
    place["state"] = "running".into();
    place["generation"] = 3.into();
    plane.fault(&format!("{RENUMBERED}/state"), running(place));
    plane.forget_events();

    plane.revive().await;

    forgotten.until(b'E').await;
    forgotten.closed().await;
    plane.mend();
    plane.count_from(FORGOTTEN, 3);
    drop(gateway.connect_again(FORGOTTEN).await);
    // Its number is another one, and it is the same.
    let looked = plane.asked(&format!("GET /v1/endpoints/{RENUMBERED}/state"));
    assert!(looked >= 1, "{looked}");
    assert_eq!(number(&renumbered, "select 1::bigint").await, 1);
}
