//! A client that is held hears of it, and its hold ends by its deadline with a reason it can act on.

use std::time::Duration;

use tokio::time::Instant;

use super::gated;
use crate::harness::{logs, processes, psql::psql, wait::until};

#[tokio::test]
async fn held_psql_shows_a_notice_and_is_served() {
    const ENDPOINT: &str = "held-psql";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    let since = Instant::now();
    let mut session = psql(&gateway.connection_string(ENDPOINT))
        .arguments(&["-c", "select 40 + 2"])
        .start();

    let notice = session.hear_error("(pgwake session ").await;
    let after = since.elapsed();
    gate.open();
    let output = session.end().await.succeeded();

    let expected = "NOTICE:  endpoint \"held-psql\": compute is starting, waited 2 s\nDETAIL:  ";
    assert!(notice.contains(expected), "{notice}");
    assert!(after >= Duration::from_secs(2), "{after:?}");
    assert_eq!(output, "42");
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "00000");
    let held: f64 = access[0].field("hold_ms").parse().unwrap();
    assert!(held >= 2000.0, "{held}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn compute_that_never_becomes_ready_is_told_at_the_deadline() {
    const ENDPOINT: &str = "held-deadline";
    let (gateway, mut gate) = gated(ENDPOINT, "hold_timeout = \"2500ms\"").await;
    let since = Instant::now();
    let mut client = gateway.raw_proved(ENDPOINT).await;

    let notice = client.message().await;
    let refusal = client.message().await;
    let after = since.elapsed();

    client.closed().await;
    assert_eq!((notice.tag, &*notice.fields()[&'C']), (b'N', "00000"));
    let fields = refusal.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"));
    let message = "compute for endpoint \"held-deadline\" is still starting";
    assert_eq!(fields[&'M'], message);
    assert!(fields[&'D'].starts_with("waited 2.5 s (wake "), "{fields:?}");
    let access = logs::access_lines(ENDPOINT, 1).await;
    let session = format!(") (pgwake session {})", access[0].field("session"));
    assert!(fields[&'D'].ends_with(&session), "{fields:?}");
    assert!(
        fields[&'H'].contains("raise hold_timeout above 3 s"),
        "{fields:?}"
    );
    assert!(after >= Duration::from_millis(2500), "{after:?}");
    assert_eq!(access[0].field("sqlstate"), "57P03");
    assert_eq!(access[0].field("outcome"), message);
    assert!(access[0].field("hold_ms").parse::<f64>().unwrap() >= 2500.0);
    gate.open();
    until("the wake to go on", async || gateway.is_awake(ENDPOINT)).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn start_that_takes_too_long_is_given_up_and_told_to_all_who_wait() {
    const ENDPOINT: &str = "held-start-timeout";
    let (gateway, mut gate) = gated(ENDPOINT, "start_timeout = \"1s\"").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(gateway.raw_proved(ENDPOINT).await);
    }

    for client in &mut clients {
        let fields = client.message().await.fields();
        assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"));
        assert!(fields[&'M'].ends_with("could not be started"), "{fields:?}");
        assert!(
            fields[&'D'].starts_with("it was not ready after 1.0 s"),
            "{fields:?}"
        );
        assert!(fields.contains_key(&'H'), "{fields:?}");
    }
    gateway.asleep(ENDPOINT).await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);

    gate.open();
    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    assert!(!processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
    gateway.server.stop().await;
}
