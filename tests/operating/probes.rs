//! What a scheduler asks, and the end as an operator orders it.

use rustix::process::Signal;

use super::{OPERATE, admin};
use crate::harness::{child::Pgwake, gate::Gate, gateway::Setup, http::Http, wait::until};

/// The port of operators that a started pgwake has told in its log.
fn admin_of(pgwake: &Pgwake<'_>) -> Http {
    let address = pgwake.admin().expect("it tells where operators may look");
    Http::new(address, Some(OPERATE))
}

#[tokio::test]
async fn a_drain_is_seen_at_once_and_served_to_its_end() {
    const ENDPOINT: &str = "ops-drain";
    let setup = admin().listed(ENDPOINT, "");
    let pgwake = Pgwake::start(&setup).await;
    let http = admin_of(&pgwake);
    let mut working = pgwake.raw_proved(ENDPOINT).await;
    working.until(b'Z').await;
    working.query("begin").await;
    working.until(b'Z').await;
    assert_eq!(http.get("/ready").await.body, "ready\n");
    assert_eq!(http.get("/startup").await.status, 200);

    http.post("/api/v1/drain").await.json();

    until("it to say that it drains", async || {
        http.get("/ready").await.body == "draining\n"
    })
    .await;
    assert_eq!(http.get("/ready").await.status, 503);
    assert_eq!(http.get("/live").await.status, 200);
    working.query("commit").await;
    working.until(b'Z').await;
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[tokio::test]
async fn probes_need_no_token() {
    let gateway = admin().listed("ops-probes", "").start().await;
    let stranger = gateway.http(None);
    for (path, body) in [
        ("/live", "alive\n"),
        ("/ready", "ready\n"),
        ("/startup", "started\n"),
    ] {
        let answered = stranger.get(path).await;
        assert_eq!((answered.status.as_u16(), &*answered.body), (200, body));
    }
    gateway.server.drain().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_what_it_is_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::new().listed("ops-taken", "");
    let file = setup.write();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("[listen]\n", &format!("[listen]\nadmin = \"{address}\"\n")),
    )
    .unwrap();
    let config = pgwake::config::load(&file).unwrap().config;

    let error = pgwake::server::Server::start(config)
        .await
        .err()
        .unwrap()
        .to_string();

    assert!(
        error.contains(&format!("cannot listen on {address} for operators")),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_while_operators_watch() {
    const ENDPOINT: &str = "ops-watched-end";
    let setup = admin();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let setup = setup.gated(ENDPOINT, &gate, "");
    let pgwake = Pgwake::start(&setup).await;
    let http = admin_of(&pgwake);
    let _watching = http.events().await;
    http.post(&format!("/api/v1/endpoints/{ENDPOINT}/wake"))
        .await
        .json();

    pgwake.signal(Signal::TERM);
    pgwake.signal(Signal::TERM);

    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
