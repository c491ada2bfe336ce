//! A pgwake that comes after another, while the control plane fails or has failed: what was awake is known to it, and is
//! suspended by the usual rules.

use std::{fs, time::SystemTime};

use rustix::process::Signal;
use serde_json::json;

use super::{
    asking,
    plane::{Fault, Plane},
};
use crate::harness::{child::Pgwake, gateway::Setup, processes, programs::Program, wait::until};

fn failing() -> Fault {
    Fault::Answer(500, String::new())
}

/// When the state was last written.
fn written(setup: &Setup) -> SystemTime {
    let state = setup.path().join("state/state.redb");
    fs::metadata(state).unwrap().modified().unwrap()
}

/// Its compute is woken by a client that leaves, and that has been noted.
async fn woken(pgwake: &Pgwake<'_>, setup: &Setup, endpoint: &str) {
    let before = written(setup);
    drop(pgwake.connect(endpoint).await);
    until("the wake to be noted", async || written(setup) != before).await;
}

/// It asked nothing about what nobody had named to it, and the compute ran for nobody.
#[tokio::test]
async fn a_compute_that_was_awake_while_its_pgwake_was_replaced_is_suspended_once_it_can_be_asked_about() {
    const ENDPOINT: &str = "cp-replaced";
    let plane = Plane::start().await;
    let setup = asking(&plane, "timeout = \"2s\"");
    plane.own(&setup, ENDPOINT, json!({ "suspend_after": "10s" }));
    let elder = Pgwake::start(&setup).await;
    woken(&elder, &setup, ENDPOINT).await;
    plane.fault("/v1/", failing());

    let file = setup.path().join("pgwake.toml");
    let program = Program::new(env!("CARGO_BIN_EXE_pgwake"));
    let program = program
        .arguments(&["serve", "--replace", "--config"])
        .argument(file);
    let younger = Pgwake::start_as(program, &setup).await;
    elder.end().await.succeeded();
    let asked = format!("GET /v1/endpoints/{ENDPOINT}");
    let before = plane.asked(&asked);
    until("it to be asked for again", async || {
        plane.asked(&asked) > before + 1
    })
    .await;
    plane.mend();
    plane.change(ENDPOINT, "suspend_after", json!("100ms"));

    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    assert_eq!(plane.generation(ENDPOINT), 1);
    drop(younger.connect(ENDPOINT).await);
    assert_eq!(plane.generation(ENDPOINT), 2);
    younger.ends_cleanly().await;
}

#[tokio::test]
async fn a_compute_that_was_awake_when_its_pgwake_was_killed_is_suspended_once_it_can_be_told_to_run() {
    const ENDPOINT: &str = "cp-killed";
    let plane = Plane::start().await;
    let setup = asking(&plane, "");
    plane.own(&setup, ENDPOINT, json!({ "suspend_after": "10s" }));
    let elder = Pgwake::start(&setup).await;
    woken(&elder, &setup, ENDPOINT).await;
    elder.signal(Signal::KILL);
    elder.end().await;
    plane.change(ENDPOINT, "suspend_after", json!("100ms"));
    let state = format!("GET /v1/endpoints/{ENDPOINT}/state");
    let before = plane.asked(&state);
    plane.fault("/state", failing());

    let younger = Pgwake::start(&setup).await;
    until("it to be looked at again", async || {
        plane.asked(&state) > before + 1
    })
    .await;
    assert!(!processes::in_directory(&setup.data_dir(ENDPOINT)).is_empty());
    plane.mend();

    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    assert_eq!(plane.generation(ENDPOINT), 1);
    let log = younger.ends_cleanly().await;
    assert_eq!(log.matches("cannot tell whether it runs").count(), 1, "{log}");
}
