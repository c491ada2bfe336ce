//! The load tests themselves under test: each scenario once with small numbers at real proxies, and a target that fails.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is how it fails, also outside of its functions"
)]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgwake-loadtest");

/// What every run of `bench` has.
const SCENARIOS: [&str; 10] = [
    "query",
    "connect",
    "wake",
    "storm",
    "parked",
    "agents",
    "neighbour",
    "bulk",
    "idle",
    "drain",
];

fn pgwake() -> PathBuf {
    let beside = Path::new(PROGRAM).with_file_name("pgwake");
    assert!(
        beside.exists(),
        "no {}: run `cargo build` first",
        beside.display()
    );
    beside
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn results(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("results.json")).unwrap()).unwrap()
}

fn all_of<'a>(results: &'a Value, scenario: &str) -> Vec<&'a Value> {
    let all = results["measurements"].as_array().unwrap();
    all.iter().filter(|m| m["scenario"] == scenario).collect()
}

#[test]
fn each_scenario_measures_each_target_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let pgwake = pgwake();
    let output = run(&[
        "bench",
        "--size",
        "smoke",
        "--pgwake",
        pgwake.to_str().unwrap(),
        "--out",
        out,
    ]);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let results = results(folder.path());
    for scenario in SCENARIOS {
        let found = all_of(&results, scenario);
        assert!(!found.is_empty(), "{scenario}: nothing was measured\n{said}");
        for measurement in found {
            assert!(measurement["answered"].as_u64().unwrap() > 0, "{measurement}");
            assert!(
                !measurement["samples"].as_object().unwrap().is_empty(),
                "{measurement}"
            );
            // A proxy of others may lose what it likes when it is stopped; that is what is measured.
            if scenario != "drain" || measurement["target"] == "pgwake" {
                assert_eq!(measurement["errors"], json!({}), "{measurement}");
            }
        }
    }
    let targets = |scenario| {
        all_of(&results, scenario)
            .iter()
            .map(|m| m["target"].clone())
            .collect::<Vec<_>>()
    };
    for name in ["pgwake", "PgBouncer", "Postgres"] {
        assert!(targets("query").contains(&json!(name)), "{name}");
    }
    for storm in all_of(&results, "storm") {
        let endpoints = storm["case"].as_str().unwrap().matches("on 2 endpoints").count() + 1;
        assert_eq!(
            storm["samples"]["starts"],
            json!([endpoints as f64]),
            "one start for each compute"
        );
    }
    for name in ["report.html", "results.hlog"] {
        assert!(
            fs::metadata(folder.path().join(name)).unwrap().len() > 1000,
            "{name}"
        );
    }
    let text = fs::read_to_string(folder.path().join("results.json")).unwrap();
    assert!(
        !text.contains("SCRAM-SHA-256$") && !text.contains("only for this run"),
        "a secret in the results"
    );
    let compared = run(&["compare", out, out]);
    assert!(compared.status.success());
    assert!(String::from_utf8_lossy(&compared.stdout).contains("0 changed beyond noise"));
}

#[test]
fn a_target_that_nobody_serves_is_reported_as_failing() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and dropped: in this moment nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets = folder.path().join("targets.json");
    let target = json!([{
        "name": "nobody", "address": address.to_string(),
        "role": "app", "database": "app", "password": "secret-of-nobody",
    }]);
    fs::write(&targets, target.to_string()).unwrap();
    let out = folder.path().join("out");
    let output = run(&[
        "run",
        targets.to_str().unwrap(),
        "query",
        "--clients",
        "2",
        "--seconds",
        "0.2",
        "--rounds",
        "1",
        "--out",
        out.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("failed: query"), "{said}");
    let results = results(&out);
    let measurement = &results["measurements"][0];
    assert_eq!(measurement["answered"], 0);
    assert!(
        measurement["errors"]["ConnectionRefused"].as_u64().unwrap() > 0,
        "{measurement}"
    );
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("failed: ConnectionRefused"));
    assert!(!results.to_string().contains("secret-of-nobody"));
}
