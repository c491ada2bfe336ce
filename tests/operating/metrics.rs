//! What collectors get: every metric of the catalogue, each told by what has really happened.

use std::{collections::BTreeMap, fs};

use pgwake::metrics::CATALOGUE;

use super::{READ, admin};
use crate::harness::{gateway::Gateway, logs::with_text, raw::Raw, tls_client, wait::until};

/// All samples by their series.
async fn samples(gateway: &Gateway) -> BTreeMap<String, f64> {
    let text = gateway.http(READ).get("/metrics").await.body;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (
            series.to_owned(),
            value.parse().unwrap_or_else(|error| panic!("{line}: {error}")),
        )
    };
    lines.map(sample).collect()
}

fn name(series: &str) -> &str {
    let name = series.split('{').next().unwrap();
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .filter(|name| CATALOGUE.iter().any(|described| described.name == *name))
        .unwrap_or(name)
}

/// A gateway where everything has happened that is counted.
async fn lived_in(endpoint: &str) -> (Gateway, tokio_postgres::Client) {
    let keys = "suspend_after = \"1h\"";
    let gateway = admin().listed(endpoint, keys).start().await;
    let mut wrong = gateway.config(endpoint);
    wrong.password("wrong");
    tls_client::connect(&wrong, &gateway.authority)
        .await
        .err()
        .unwrap();
    let client = gateway.connect(endpoint).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    let pooled = gateway.config(&format!("{endpoint}-pooler"));
    let client = tls_client::connect(&pooled, &gateway.authority).await.unwrap();
    client.batch_execute("select 1; listen ops").await.unwrap();
    client.cancel_token();
    let mut cancel = Raw::tcp(gateway.address()).await;
    cancel
        .send(&crate::harness::raw::cancel_request(1, &[0; 4]))
        .await;
    assert!(!cancel.any().await);
    (gateway, client)
}

#[tokio::test]
async fn every_metric_of_the_catalogue_is_told_and_no_other() {
    const ENDPOINT: &str = "ops-catalogue";
    let (gateway, client) = lived_in(ENDPOINT).await;
    client.batch_execute("unlisten *").await.unwrap();
    let order = format!("/api/v1/endpoints/{ENDPOINT}/suspend");
    until("it to be suspended", async || {
        gateway.http(super::OPERATE).post(&order).await.status == 200 && !gateway.is_awake(ENDPOINT)
    })
    .await;
    let mut told = Vec::new();
    until("the suspend to be counted", async || {
        told = samples(&gateway)
            .await
            .keys()
            .map(|series| name(series).to_owned())
            .collect();
        told.iter().any(|name| name == "pgwake_suspends_total")
    })
    .await;
    // What a control plane is asked is seen where there is one, and stops that fail where one does.
    let elsewhere = ["pgwake_control_plane_seconds", "pgwake_failed_suspends_total"];
    let everywhere = CATALOGUE
        .iter()
        .filter(|described| !elsewhere.contains(&described.name));
    let missing: Vec<_> = everywhere
        .filter(|described| !told.iter().any(|name| name == described.name))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let unknown: Vec<_> = told
        .iter()
        .filter(|name| !CATALOGUE.iter().any(|described| described.name == **name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[tokio::test]
async fn who_is_turned_away_without_a_word_is_counted_and_told() {
    let gateway = admin()
        .listen(r#"[{ address = "127.0.0.1:0", tls = "optional", proxies = ["127.0.5.0/24"] }]"#)
        .tenants("[gate]\nunproved_per_network_max = 1\n")
        .start()
        .await;
    let from = async |address: &str| Raw::tcp_from(address.parse().unwrap(), gateway.address()).await;
    let counted = async |reason: &str| {
        samples(&gateway).await[&format!("pgwake_turned_away_total{{reason=\"{reason}\"}}")]
    };
    assert_eq!((counted("gate").await, counted("proxy_header").await), (0.0, 0.0));

    let _first = from("127.0.6.1").await;
    until("the first is counted", async || gateway.server.clients() == 1).await;
    assert!(!from("127.0.6.2").await.any().await, "something was said");
    let mut balancer = from("127.0.5.1").await;
    balancer
        .send_with(postgres_protocol::message::frontend::ssl_request)
        .await;
    assert!(!balancer.any().await, "something was said");
    // A load balancer that only looks whether anybody listens.
    drop(from("127.0.5.1").await);
    assert_eq!((counted("gate").await, counted("proxy_header").await), (1.0, 1.0));
    assert_eq!(with_text("127.0.6.2").len(), 1);
}

#[tokio::test]
async fn numbers_are_those_of_what_has_happened() {
    let (gateway, client) = lived_in("ops-numbers").await;
    let mut now = BTreeMap::new();
    until(
        "the first client to have left, and the other to be pinned",
        async || {
            now = samples(&gateway).await;
            now["pgwake_sessions{pooling=\"session\"}"] == 0.0
                && now["pgwake_pinned_clients{reason=\"listen\"}"] == 1.0
        },
    )
    .await;
    let value = |series: &str| *now.get(series).unwrap_or_else(|| panic!("{series}: {now:#?}"));
    assert_eq!(value("pgwake_sessions_total{pooling=\"session\"}"), 1.0);
    assert_eq!(value("pgwake_sessions{pooling=\"transaction\"}"), 1.0);
    assert_eq!(value("pgwake_pinned_clients{reason=\"listen\"}"), 1.0);
    assert_eq!(
        value("pgwake_refusals_total{reason=\"login\",sqlstate=\"28P01\"}"),
        1.0
    );
    assert_eq!(value("pgwake_wakes_total{result=\"ready\"}"), 1.0);
    assert_eq!(value("pgwake_hold_seconds_count{result=\"ready\"}"), 1.0);
    assert_eq!(
        value("pgwake_connect_phase_seconds_count{phase=\"total\",cold=\"true\"}"),
        1.0
    );
    assert_eq!(
        value("pgwake_connect_phase_seconds_count{phase=\"total\",cold=\"false\"}"),
        1.0
    );
    assert_eq!(value("pgwake_cancels_total{result=\"missed\"}"), 1.0);
    assert_eq!(value("pgwake_tls_handshakes_total{kind=\"sslrequest\"}"), 3.0);
    assert_eq!(value("pgwake_endpoints{state=\"awake\"}"), 1.0);
    assert_eq!(value("pgwake_pool_sessions{state=\"lent\"}"), 1.0);
    assert!(value("pgwake_bytes_total{direction=\"in\"}") > 0.0);
    assert!(value("pgwake_awake_seconds_total") > 0.0);
    assert!(value("process_open_fds") < value("process_max_fds"));
    let sent = value("pgwake_bytes_total{direction=\"out\"}");
    client
        .batch_execute("unlisten *; select repeat('x', 10000)")
        .await
        .unwrap();
    until("bytes of one who stays to be counted", async || {
        samples(&gateway).await["pgwake_bytes_total{direction=\"out\"}"] >= sent + 10_000.0
    })
    .await;
}

#[tokio::test]
async fn names_are_labels_where_they_are_asked_for_and_no_more_than_are_allowed() {
    let per_endpoint =
        format!("read_tokens = [\"{READ}\"]\nmetrics_per = \"endpoint\"\nmetrics_names_max = 1");
    let setup = crate::harness::gateway::Setup::new().admin(&per_endpoint);
    let gateway = setup
        .listed("ops-label-a", "")
        .listed("ops-label-b", "")
        .start()
        .await;
    let (first, second) = (
        gateway.connect("ops-label-a").await,
        gateway.connect("ops-label-b").await,
    );

    let samples = samples(&gateway).await;

    let labels = |labels: &str| format!("pgwake_sessions{{pooling=\"session\",{labels}}}");
    assert_eq!(samples[&labels("tenant=\"acme\",endpoint=\"ops-label-a\"")], 1.0);
    assert_eq!(samples[&labels("tenant=\"other\",endpoint=\"other\"")], 1.0);
    assert!(!samples.keys().any(|series| series.contains("ops-label-b")));
    drop((first, second));
}

/// Nobody has collected while it was there.
#[tokio::test]
async fn what_an_endpoint_has_counted_is_told_when_it_has_been_removed() {
    const ENDPOINT: &str = "ops-parted";
    let setup = admin().listed(ENDPOINT, "pool.mode = \"transaction\"");
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let client = gateway.connect(ENDPOINT).await;
    for _ in 0..7 {
        client.batch_execute("select 1").await.unwrap();
    }
    drop(client);
    let text = fs::read_to_string(&file).unwrap();
    let at = text
        .find(&format!("[tenants.acme.endpoints.{ENDPOINT}]"))
        .unwrap();
    fs::write(&file, &text[..at]).unwrap();
    gateway.server.reload().await.unwrap();
    let counted = async || {
        let samples = samples(&gateway).await;
        let turns = samples
            .iter()
            .filter(|(series, _)| name(series) == "pgwake_turns_total");
        (
            turns.map(|(_, turns)| turns).sum::<f64>(),
            samples.get("pgwake_awake_seconds_total").copied(),
        )
    };
    until("it has left", async || {
        counted().await.1.is_some_and(|awake| awake > 0.0)
    })
    .await;
    let (turns, awake) = counted().await;
    assert!(turns >= 7.0, "{turns}");
    assert_eq!(counted().await, (turns, awake));
    gateway.server.stop().await;
}
