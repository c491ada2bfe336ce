//! Who has proved nothing learns nothing, wakes nothing, and uses up little.

use serde_json::json;

use super::{asking, login_of_a_stranger, number, plane::Plane};
use crate::harness::{gateway::Setup, wait::until};

#[tokio::test]
async fn names_that_exist_and_names_that_do_not_look_alike() {
    const KNOWN: &str = "cp-alike-known";
    const FRESH: &str = "cp-alike-fresh";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    for endpoint in [KNOWN, FRESH] {
        plane.own(&setup, endpoint, json!({}));
    }
    let gateway = setup.start().await;
    drop(gateway.connect(KNOWN).await);

    let nobodys = login_of_a_stranger(&gateway, "cp-alike-nobodys").await;

    assert_eq!(nobodys.1[&'C'], "28P01");
    for endpoint in [KNOWN, FRESH, "cp-alike-nobodys", "cp-alike-other"] {
        assert_eq!(
            login_of_a_stranger(&gateway, endpoint).await,
            nobodys,
            "{endpoint}"
        );
    }
    assert_eq!(plane.generation(FRESH), 0);
    assert_eq!(plane.asked(&format!("POST /v1/endpoints/{FRESH}/wake")), 0);
}

#[tokio::test]
async fn a_name_that_nobody_has_is_not_asked_for_with_every_try() {
    let plane = Plane::start().await;
    let gateway = asking(&plane, "unknown_for = \"1h\"").start().await;
    // What was asked before events are heard is asked again.
    until("events to be heard", async || plane.asked("GET /v1/events") >= 2).await;
    for _ in 0..5 {
        login_of_a_stranger(&gateway, "cp-again").await;
    }
    assert_eq!(plane.asked("GET /v1/endpoints/cp-again"), 1);
    // Names that cannot be are not asked for at all.
    login_of_a_stranger(&gateway, "cp-again--branch").await;
    login_of_a_stranger(&gateway, "x").await;
    assert_eq!(plane.asked("GET /v1/endpoints/cp-again--branch"), 0);
    assert_eq!(plane.asked("GET /v1/endpoints/x"), 0);
}

#[tokio::test]
async fn those_that_sleep_make_room_and_files_go_first() {
    const NAMES: [&str; 3] = ["cp-room-a", "cp-room-b", "cp-room-c"];
    const LOCAL: &str = "cp-room-local";
    let plane = Plane::start().await;
    let setup: Setup = asking(&plane, "endpoints_max = 2\nfresh_for = \"1h\"").listed(LOCAL, "");
    for endpoint in NAMES {
        plane.own(&setup, endpoint, json!({ "suspend_after": "100ms" }));
    }
    let gateway = setup.start().await;
    for endpoint in NAMES {
        drop(gateway.connect(endpoint).await);
        until("it to be suspended", async || !gateway.is_awake(endpoint)).await;
        gateway.asleep(endpoint).await;
        until("the session to be gone", async || gateway.server.clients() == 0).await;
    }
    let known = |endpoint: &str| {
        let name = pgwake::ids::EndpointName::parse(endpoint).unwrap();
        gateway.server.house().directory.endpoint(&name).is_some()
    };
    assert_eq!(NAMES.map(known), [false, true, true]);
    assert_eq!(
        number(&gateway.connect(NAMES[0]).await, "select 1::bigint").await,
        1
    );
    assert_eq!(number(&gateway.connect(LOCAL).await, "select 1::bigint").await, 1);
    assert_eq!(plane.asked(&format!("GET /v1/endpoints/{LOCAL}")), 0);
}
