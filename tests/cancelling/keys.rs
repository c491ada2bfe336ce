//! What a key does, and what the wrong one does not.

use std::time::Duration;

use postgres_protocol::message::frontend;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    harness::{
        gateway::Setup,
        postgres::{Prepared, Version},
        psql::psql,
        raw::{PROTOCOL_3_0, PROTOCOL_3_2, Raw, cancel_request},
        wait::until,
    },
    serving::served::{Key, Served, asleep, logged_in, value},
};

/// How a cancel request comes in.
#[derive(Debug, Clone, Copy)]
enum Way {
    Plaintext,
    TlsWithoutName,
    Tls,
    DirectTls,
}

/// Sends a cancel request and waits until it is answered by closing.
async fn cancel(served: &Served, way: Way, pid: u32, secret: &[u8]) {
    let stream = Raw::tcp(served.gateway.address()).await;
    let authority = &served.gateway.authority;
    let mut stream = match way {
        Way::Plaintext => stream,
        // An address is no server name.
        Way::TlsWithoutName => {
            stream
                .request_tls(authority.client_config(&[]), "127.0.0.1")
                .await
        }
        Way::Tls => {
            stream
                .request_tls(authority.client_config(&[]), "any.db.localhost")
                .await
        }
        Way::DirectTls => {
            let config = authority.client_config(&["postgresql"]);
            stream.tls(config, "any.db.localhost").await.unwrap()
        }
    };
    stream.send(&cancel_request(pid, secret)).await;
    stream.closed().await;
}

/// Sleeps, and expects to be cancelled by `cancelling`; the session goes on.
async fn is_cancelled(served: &Served, client: &mut Raw, key: &Key, cancelling: impl Future<Output = ()>) {
    client.query("select pg_sleep(60)").await;
    served.sleeps(key.pid).await;
    cancelling.await;
    let answer = client.until(b'Z').await;
    let error = answer.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014");
    client.query("select 1").await;
    assert_eq!(client.until(b'Z').await.len(), 4);
}

#[tokio::test]
async fn a_key_cancels_its_own_statement_however_it_comes_in() {
    let served = Served::start("cancel-ways").await;
    for (protocol, length) in [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)] {
        let (mut client, key) = served.raw_with(protocol, &[]).await;
        assert_eq!(key.secret.len(), length);
        for way in [Way::Plaintext, Way::TlsWithoutName, Way::Tls, Way::DirectTls] {
            let cancelling = cancel(&served, way, key.pid, &key.secret);
            is_cancelled(&served, &mut client, &key, cancelling).await;
        }
    }
}

/// Drivers differ in who closes first. One that says its own end a moment later must not be told that the connection
/// was reset.
#[tokio::test]
async fn the_end_of_a_cancel_request_is_no_reset_for_who_says_its_own_end_later() {
    let served = Served::start("cancel-end").await;
    let (_client, key) = served.raw_with(PROTOCOL_3_2, &[]).await;
    let mut stream = Raw::tcp(served.gateway.address()).await;
    stream.send(&cancel_request(key.pid, &key.secret)).await;
    stream.closed().await;
    // A reset would answer the first, and fail the next.
    for _ in 0..5 {
        stream.send(b"\0").await;
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn ctrl_c_in_psql_cancels_its_statement() {
    let served = Served::start("cancel-psql").await;
    let direct = served.direct().await;
    let mut session = psql(&served.connection_string()).start();
    session.say("select 'pid', pg_backend_pid();").await;
    session.hear("pid|").await;
    let pid = session.hear("\n").await.trim().parse().unwrap();
    session.say("select pg_sleep(60);").await;
    asleep(&direct, pid).await;

    session.signal(Signal::INT);

    // Stopped in a script, psql ends.
    assert!(session.end().await.failed().contains("57014"));
    served.has_sessions(1).await;
}

#[tokio::test]
async fn wrong_keys_do_nothing() {
    let served = Served::start("cancel-wrong").await;
    let (mut victim, key) = served.raw().await;
    let (_other, others) = served.raw().await;
    victim.query("select pg_sleep(60)").await;
    served.sleeps(key.pid).await;
    let flipped: Vec<u8> = key.secret.iter().map(|byte| !byte).collect();
    let longer = [&key.secret[..], &[0; 28]].concat();

    for secret in [&flipped[..], &others.secret, &[0; 4], &[0; 32], &longer] {
        cancel(&served, Way::Plaintext, key.pid, secret).await;
    }
    cancel(&served, Way::Tls, others.pid, &key.secret).await;
    cancel(&served, Way::Tls, 1, &key.secret).await;

    // All of them are answered by now, and the statement still runs: only the right key ends it.
    served.sleeps(key.pid).await;
    cancel(&served, Way::Plaintext, key.pid, &key.secret).await;
    let answer = victim.until(b'Z').await;
    assert!(
        answer
            .iter()
            .any(|message| message.tag == b'E' && message.sqlstate() == "57014")
    );
}

#[tokio::test]
async fn a_malformed_cancel_request_is_closed() {
    let served = Served::start("cancel-malformed").await;
    let pid = 1;
    for secret in [&[][..], &[0; 3], &[0; 257], &[0; 9000]] {
        let mut stream = Raw::tcp(served.gateway.address()).await;
        stream.send(&cancel_request(pid, secret)).await;
        while let Some(message) = stream.next().await {
            assert_eq!(message.sqlstate(), "08P01");
        }
    }
}

#[tokio::test]
async fn a_key_dies_with_its_session() {
    let served = Served::start("cancel-dead").await;
    let (mut ended, _) = served.raw().await;
    let house = served.gateway.server.house();
    assert_eq!(house.cancels.len(), 1);
    ended.send_with(frontend::terminate).await;
    until("the key to be forgotten", async || house.cancels.is_empty()).await;
}

/// A cancel that comes while nothing runs hits nothing, not even what follows.
#[tokio::test]
async fn a_cancel_of_an_idle_session_does_nothing() {
    let served = Served::start("cancel-idle").await;
    let (mut client, key) = served.raw().await;
    for _ in 0..20 {
        cancel(&served, Way::Plaintext, key.pid, &key.secret).await;
        client.query("select pg_sleep(0.01)").await;
        let answer = client.until(b'Z').await;
        assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    }
}

#[tokio::test]
async fn a_cancel_wakes_nothing() {
    let gateway = Setup::new()
        .process("cancel-asleep", "suspend_after = \"1s\"")
        .start()
        .await;
    let client = gateway.raw_to("cancel-asleep").await;
    let (client, key) = logged_in(client, PROTOCOL_3_0, &[]).await;
    drop(client);
    gateway.asleep("cancel-asleep").await;
    let wakes = gateway.wakes("cancel-asleep");

    for pid in [key.pid, 1, 0, u32::MAX] {
        let mut stream = Raw::tcp(gateway.address()).await;
        stream.send(&cancel_request(pid, &key.secret)).await;
        stream.closed().await;
    }

    assert_eq!(gateway.wakes("cancel-asleep"), wakes);
    gateway.asleep("cancel-asleep").await;
    gateway.server.stop().await;
}

/// pgwake's own key stands in front of Postgres 18's: whichever lengths, they are not mixed up.
#[tokio::test]
async fn keys_of_either_length_reach_postgres_18() {
    let served = Served::with("cancel-18", Prepared::new(Version::V18)).await;
    for protocol in [PROTOCOL_3_0, PROTOCOL_3_2] {
        let (mut client, key) = served.raw_with(protocol, &[]).await;
        assert_eq!(
            value(
                &served.direct().await,
                &format!("select count(*) from pg_stat_activity where pid = {}", key.pid)
            )
            .await,
            "1"
        );
        let cancelling = cancel(&served, Way::Plaintext, key.pid, &key.secret);
        is_cancelled(&served, &mut client, &key, cancelling).await;
    }
}
