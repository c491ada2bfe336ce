//! `pgwake wait`, at a pgwake that starts, drains and ends.

use std::{fs, net::TcpListener, thread};

use rustix::process::Signal;

use super::pgwake;
use crate::harness::{child::Pgwake, gateway::Setup, programs::Finished, raw::Raw};

/// An address where nobody listens: the system gave it away a moment ago.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn wait(admin: &str, more: &[&str]) -> Finished {
    pgwake(&[&["wait", "--admin", admin], more].concat()).run().await
}

#[tokio::test]
async fn it_returns_once_it_is_so_and_says_what_else_it_saw() {
    const ENDPOINT: &str = "cmd-wait";
    let setup = Setup::new().admin("").listed(ENDPOINT, "");
    // Begun before there is anybody: a sidecar's hook runs beside its start.
    let place = nobody();
    let file = setup.write();
    let text = fs::read_to_string(&file).unwrap();
    let named = setup.path().join("named.toml");
    fs::write(
        &named,
        text.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{place}\"")),
    )
    .unwrap();
    let named = named.to_str().unwrap();
    let early = pgwake(&["wait", "--config", named]).start();
    let mut serving = pgwake(&["serve", "--config", named]).start();
    early.end().await.succeeded();
    serving.hear_error("pgwake serves").await;
    for what in ["ready", "live", "startup"] {
        wait(&place, &["--for", what]).await.succeeded();
        wait(&format!("http://{place}/"), &["--for", what])
            .await
            .succeeded();
    }
    let still = wait(&place, &["--for", "gone", "--max", "10ms"]).await;
    assert_eq!(still.status.code(), Some(1), "{still:?}");
    assert!(still.errors.contains("still there"), "{still:?}");

    let gone = pgwake(&["wait", "--admin", &place, "--for", "gone"]).start();
    serving.signal(Signal::TERM);
    assert!(serving.end().await.status.success());
    gone.end().await.succeeded();
}

/// What cannot be asked, or is something else, may be there all the same.
#[tokio::test]
async fn nobody_is_taken_for_gone_who_only_cannot_be_asked() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = other.local_addr().unwrap().to_string();
    // For as long as the tests run.
    thread::spawn(move || other.incoming().for_each(drop));
    for place in [&place, "pgwake.invalid:9090"] {
        let not = wait(place, &["--for", "gone", "--max", "250ms"]).await;
        assert_eq!(not.status.code(), Some(1), "{not:?}");
        assert!(not.errors.contains("is not gone after 250ms"), "{not:?}");
    }
}

#[tokio::test]
async fn a_drain_is_not_ready_and_still_alive() {
    const ENDPOINT: &str = "cmd-wait-drain";
    let setup = Setup::new().admin("").listed(ENDPOINT, "");
    let pgwake = Pgwake::start(&setup).await;
    let admin = pgwake.admin().unwrap().to_string();
    let mut working: Raw = pgwake.raw_proved(ENDPOINT).await;
    working.until(b'Z').await;
    working.query("begin").await;
    working.until(b'Z').await;
    pgwake.signal(Signal::TERM);
    // Its words change with the drain's beginning; "alive" they stay.
    crate::harness::wait::until("it to drain", async || {
        wait(&admin, &["--max", "1ms"]).await.errors.contains("draining")
    })
    .await;
    wait(&admin, &["--for", "live"]).await.succeeded();
    let not = wait(&admin, &["--for", "ready", "--max", "300ms"]).await;
    assert_eq!(not.status.code(), Some(1), "{not:?}");
    assert!(
        not.errors.contains("is not ready after 300ms: draining"),
        "{not:?}"
    );
    working.query("commit").await;
    working.until(b'Z').await;
    assert!(pgwake.end().await.status.success());
}

#[tokio::test]
async fn what_cannot_come_to_be_so_is_told_with_its_exit_code() {
    let setup = Setup::new();
    let file = setup.write();
    let without = pgwake(&["wait", "--config", file.to_str().unwrap()]).run().await;
    assert_eq!(without.status.code(), Some(64), "{without:?}");
    assert!(without.errors.contains("[listen]"), "{without:?}");
    let broken = setup.path().join("broken.toml");
    fs::write(&broken, "[listen]\nadmin = 7\n").unwrap();
    let broken = pgwake(&["wait", "--config", broken.to_str().unwrap()])
        .run()
        .await;
    assert_eq!(broken.status.code(), Some(64), "{broken:?}");

    let wrong = wait("https://127.0.0.1:9090", &[]).await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");

    let refused = wait(&nobody(), &["--max", "50ms"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.errors.contains("refused"), "{refused:?}");

    // Somebody listens and says nothing at all.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = wait(&mute.local_addr().unwrap().to_string(), &["--max", "2500ms"]).await;
    assert_eq!(mute.status.code(), Some(1), "{mute:?}");
    assert!(mute.errors.contains("does not answer"), "{mute:?}");
}
