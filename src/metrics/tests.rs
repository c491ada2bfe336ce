//! What is counted comes out as text, under the names of the catalogue, in bounded series.

use std::{fs, path::Path};

use super::*;

fn per(per: Per, named: &[&str]) -> Metrics {
    Metrics::new(Labels {
        per,
        named: named.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn acme() -> Whose<'static> {
    Whose {
        tenant: "acme",
        endpoint: "acme-main",
    }
}

#[test]
fn strangers_make_no_series_of_their_own() {
    let metrics = per(Per::Endpoint, &["acme-main"]);
    for said in ["acme-main", "nobody-1", "nobody-2"] {
        let whose = Whose {
            endpoint: said,
            ..acme()
        };
        metrics.refused(whose, RefusalReason::of("28P01"), "28P01");
    }
    metrics.refused(acme(), RefusalReason::of("ABCDE"), "ABCDE");
    let text = metrics.collect(Reading::default);
    let series =
        |labels: &str, count: u64| text.contains(&format!("pgwake_refusals_total{{{labels}}} {count}\n"));
    assert!(
        series(
            "reason=\"login\",sqlstate=\"28P01\",tenant=\"acme\",endpoint=\"acme-main\"",
            1
        ),
        "{text}"
    );
    assert!(
        series(
            "reason=\"login\",sqlstate=\"28P01\",tenant=\"other\",endpoint=\"other\"",
            2
        ),
        "{text}"
    );
    assert!(
        series(
            "reason=\"other\",sqlstate=\"other\",tenant=\"acme\",endpoint=\"acme-main\"",
            1
        ),
        "{text}"
    );
}

#[test]
fn endpoints_without_series_of_their_own_are_added_up_and_those_that_have_gone_are_nothing() {
    let metrics = per(Per::Process, &[]);
    let endpoint = |held| EndpointReading {
        state: "waking",
        held,
        awake: Duration::from_millis(1500),
        pinned: vec![("listen", held)],
        ..EndpointReading::default()
    };
    let reading = Reading {
        endpoints: vec![endpoint(2), endpoint(3)],
        ..Reading::default()
    };
    let text = metrics.collect(|| reading);
    assert!(text.contains("pgwake_held_clients 5\n"), "{text}");
    assert!(text.contains("pgwake_awake_seconds_total 3\n"), "{text}");
    assert!(
        text.contains("pgwake_pinned_clients{reason=\"listen\"} 5\n"),
        "{text}"
    );
    let text = metrics.collect(Reading::default);
    assert!(
        text.contains("pgwake_pinned_clients{reason=\"listen\"} 0\n"),
        "{text}"
    );
}

#[test]
fn counters_do_not_fall_with_the_endpoint_that_they_were_counted_at() {
    let metrics = per(Per::Process, &[]);
    let endpoint = |name: &str, seconds, waits| EndpointReading {
        endpoint: name.to_owned(),
        state: "ready",
        awake: Duration::from_secs(seconds),
        pool: PoolReading {
            waits,
            ..PoolReading::default()
        },
        ..EndpointReading::default()
    };
    let told = |endpoints: Vec<EndpointReading>, seconds, waits| {
        let reading = Reading {
            endpoints,
            ..Reading::default()
        };
        let text = metrics.collect(|| reading);
        for line in [
            format!("pgwake_awake_seconds_total {seconds}\n"),
            format!("pgwake_pool_waits_total {waits}\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    };
    told(vec![endpoint("aaa", 100, 10), endpoint("bbb", 20, 5)], 120, 15);
    told(vec![endpoint("bbb", 21, 6)], 121, 16);
    // It has come again, and then it begins anew while it is there.
    told(vec![endpoint("aaa", 3, 1), endpoint("bbb", 21, 6)], 124, 17);
    told(vec![endpoint("aaa", 1, 0), endpoint("bbb", 21, 7)], 125, 18);
    told(vec![], 125, 18);
}

/// One that goes counts on until it has left, and another may have come under its name by then.
#[test]
fn what_was_counted_since_an_endpoint_was_last_read_is_told_when_it_has_left() {
    let metrics = per(Per::Process, &[]);
    let endpoint = |name: &str, waits| EndpointReading {
        endpoint: name.to_owned(),
        awake: Duration::from_secs(waits),
        pool: PoolReading {
            waits,
            ..PoolReading::default()
        },
        ..EndpointReading::default()
    };
    let told = |endpoints: Vec<EndpointReading>, sum: u64| {
        let reading = Reading {
            endpoints,
            ..Reading::default()
        };
        let text = metrics.collect(|| reading);
        for line in [
            format!("pgwake_awake_seconds_total {sum}\n"),
            format!("pgwake_pool_waits_total {sum}\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    };
    told(
        vec![endpoint("aa", 100), endpoint("aaa", 10), endpoint("b", 1)],
        111,
    );
    // It is taken out, and somebody collects before it is known to leave.
    told(vec![endpoint("aa", 100), endpoint("b", 1)], 111);
    let parting = metrics.parting("aaa");
    told(
        vec![endpoint("aa", 100), endpoint("aaa", 50), endpoint("b", 1)],
        161,
    );
    metrics.parted(parting, &endpoint("aaa", 13));
    told(
        vec![endpoint("aa", 101), endpoint("aaa", 50), endpoint("b", 1)],
        165,
    );
    // Nobody has ever read this one.
    let parting = metrics.parting("never-read");
    metrics.parted(parting, &endpoint("never-read", 1000));
    told(
        vec![endpoint("aa", 101), endpoint("aaa", 50), endpoint("b", 2)],
        1166,
    );
}

#[test]
fn the_table_in_the_documents_is_the_catalogue() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/README.md");
    let text = fs::read_to_string(file).unwrap();
    let written: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `pgwake_") || line.starts_with("| `process_"))
        .collect();
    let row = |described: &Described| {
        let labels: Vec<String> = described
            .labels
            .iter()
            .map(|label| {
                if *label == WHOSE {
                    "*".to_owned()
                } else {
                    format!("`{label}`")
                }
            })
            .collect();
        format!(
            "| `{}` | {} | {} | {} |",
            described.name,
            described.kind.as_str(),
            labels.join(", "),
            described.help
        )
    };
    let catalogue: Vec<String> = CATALOGUE.iter().map(row).collect();
    assert_eq!(written, catalogue);
}

/// A client's wait that was cancelled counted as a suspend or a time limit.
#[test]
fn a_cancelled_wait_is_no_time_limit() {
    for (sqlstate, reason) in [
        ("57014", RefusalReason::Other),
        ("57P05", RefusalReason::Idle),
        ("25P03", RefusalReason::Idle),
        ("57P01", RefusalReason::Ended),
    ] {
        assert_eq!(
            RefusalReason::of(sqlstate).as_str(),
            reason.as_str(),
            "{sqlstate}"
        );
    }
}
