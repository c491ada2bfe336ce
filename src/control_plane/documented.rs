//! The examples of config/CONTROL_PLANE.md are what the code understands, and all of it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::said;
use crate::config::{ControlPlane, Defaults, PoolMode, ServerTls};
use crate::ids::EndpointName;

const PAGE: &str = include_str!("../../config/CONTROL_PLANE.md");

/// The example with this word behind `json`.
fn example(what: &str) -> Map<String, Value> {
    let begin = format!("```json {what}\n");
    let (_, rest) = PAGE.split_once(&begin).unwrap_or_else(|| panic!("no {what}"));
    said::object(rest.split("```").next().unwrap().as_bytes()).unwrap()
}

#[test]
fn the_endpoint_is_understood() {
    let rules = ControlPlane {
        server_ca: Some("ca.pem".into()),
        ..ControlPlane::of_nobody()
    };
    let name = EndpointName::parse("acme-main").unwrap();
    let endpoint = rules
        .endpoint(&name, &example("endpoint"), &Defaults::default())
        .unwrap();
    assert_eq!(endpoint.pool.mode, PoolMode::Transaction);
    assert_eq!(endpoint.hold_timeout, Duration::from_secs(30));
    let ca = "ca.pem".into();
    let crate::config::Compute::Controlled(compute) = endpoint.compute else {
        panic!("another compute")
    };
    assert_eq!(compute.tls, Some(ServerTls::VerifyFull { ca }));
}

#[test]
fn places_states_errors_and_events_are_understood() {
    assert_eq!(said::place(&example("place")).unwrap().generation, 4);
    let state = said::state(&example("state")).unwrap();
    assert_eq!(state, Some(said::place(&example("place")).unwrap()));
    let error = Value::Object(example("error")).to_string();
    let error = said::complaint(error.as_bytes());
    assert_eq!(
        error.message.as_deref(),
        Some("this project's free hours are used up")
    );
    assert!(error.reason.is_some());
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
    let written = example("events")["events"].as_array().unwrap().len();
    let news = said::news(&example("events")).unwrap();
    assert_eq!((news.events.len(), news.cursor.as_str()), (written, "1017"));
}
