//! `drain_delay`: not ready any more, and served as ever, until whoever sends clients here has noticed.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{child::Pgwake, gateway::Setup, http::Http, wait::until};

const OPERATE: &str = "operate-token-for-tests";

fn setup(endpoint: &str, delay: &str) -> Setup {
    Setup::new()
        .admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
        .limit(&format!("drain_delay = \"{delay}\""))
        .listed(endpoint, "")
}

async fn is_not_ready(http: &Http) {
    until("it to say that it is not ready", async || {
        let ready = http.get("/ready").await;
        (ready.status.as_u16(), &*ready.body) == (503, "draining\n")
    })
    .await;
}

#[tokio::test]
async fn clients_still_come_and_stay_until_a_second_signal() {
    const ENDPOINT: &str = "leaving-signal";
    let setup = setup(ENDPOINT, "1h");
    let pgwake = Pgwake::start(&setup).await;
    let http = Http::new(pgwake.admin().unwrap(), None);
    let idle = pgwake.connect(ENDPOINT).await;
    assert_eq!(http.get("/ready").await.status.as_u16(), 200);

    pgwake.signal(Signal::TERM);

    is_not_ready(&http).await;
    let mut newcomer = pgwake.raw_proved(ENDPOINT).await;
    newcomer.until(b'Z').await;
    newcomer.query("select 1").await;
    newcomer.until(b'Z').await;
    idle.batch_execute("select 1").await.unwrap();
    pgwake.signal(Signal::TERM);
    let fields = newcomer.message().await.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"), "{fields:?}");
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_drain_that_an_operator_orders_begins_after_the_delay_and_not_before() {
    const ENDPOINT: &str = "leaving-order";
    let delay = Duration::from_millis(500);
    let setup = setup(ENDPOINT, "500ms");
    let pgwake = Pgwake::start(&setup).await;
    let http = Http::new(pgwake.admin().unwrap(), Some(OPERATE));
    let mut idle = pgwake.raw_proved(ENDPOINT).await;
    idle.until(b'Z').await;
    let since = Instant::now();

    http.post("/api/v1/drain").await.json();

    let fields = idle.message().await.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"), "{fields:?}");
    assert!(since.elapsed() >= delay, "{:?}", since.elapsed());
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
