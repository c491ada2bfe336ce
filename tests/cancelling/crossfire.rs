//! Many sessions on two computes, cancels at random: each hits its own session or nobody.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Duration, sleep};

use crate::{
    harness::{
        gateway::{Gateway, Setup},
        postgres::{Postgres, Version},
        raw::{PROTOCOL_3_0, Raw, cancel_request},
    },
    serving::served::{Key, logged_in},
};

const SESSIONS: usize = 24;
const STATEMENTS: u64 = 40;

/// One session, and how many of its statements were cancelled.
struct Shot {
    key: Key,
    /// Whether anybody may cancel it at all.
    is_target: bool,
    cancels: AtomicU64,
    ended: AtomicBool,
}

/// Runs statements one after another; every second session is no target and must never be cancelled.
async fn run(mut client: Raw, shot: Arc<Shot>) {
    for number in 0..STATEMENTS {
        client.query(&format!("select pg_sleep(0.02), {number}")).await;
        let answer = client.until(b'Z').await;
        let error = answer.iter().find(|message| message.tag == b'E');
        if let Some(error) = error {
            assert_eq!(error.sqlstate(), "57014");
            assert!(shot.is_target, "a cancel hit somebody else's statement");
            shot.cancels.fetch_add(1, Ordering::Relaxed);
        } else {
            assert_eq!(answer[1].row()[1], Some(number.to_string()));
        }
    }
    shot.ended.store(true, Ordering::Relaxed);
}

/// Cancels targets at random until all have ended, also with keys of sessions that have.
async fn shoot(gateway: &Gateway, shots: &[Arc<Shot>], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let targets: Vec<_> = shots.iter().filter(|shot| shot.is_target).collect();
    while !shots.iter().all(|shot| shot.ended.load(Ordering::Relaxed)) {
        let key = &targets[random.random_range(0..targets.len())].key;
        let mut stream = Raw::tcp(gateway.address()).await;
        stream.send(&cancel_request(key.pid, &key.secret)).await;
        stream.closed().await;
        // Not to wait for anything: some statements are to come to their end.
        sleep(Duration::from_millis(random.random_range(0..10))).await;
    }
}

#[tokio::test]
async fn a_cancel_never_hits_another_session() {
    let (first, second) = tokio::join!(Postgres::start(Version::Debian), Postgres::start(Version::Debian));
    let endpoints = ["crossfire-first", "crossfire-second"];
    let gateway = Setup::new()
        .fixed(endpoints[0], &first, "")
        .fixed(endpoints[1], &second, "")
        .start()
        .await;
    let (mut shots, mut clients) = (Vec::new(), Vec::new());
    for index in 0..SESSIONS {
        let client = gateway.raw_to(endpoints[index % 2]).await;
        let (client, key) = logged_in(client, PROTOCOL_3_0, &[]).await;
        shots.push(Arc::new(Shot {
            key,
            is_target: index % 4 < 2,
            cancels: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }));
        clients.push(client);
    }

    let runs = clients
        .into_iter()
        .zip(&shots)
        .map(|(client, shot)| tokio::spawn(run(client, shot.clone())));
    let running = join_all(runs);
    let (ended, (), ()) = tokio::join!(running, shoot(&gateway, &shots, 1), shoot(&gateway, &shots, 2));

    ended.into_iter().for_each(|run| run.unwrap());
    let hits: u64 = shots
        .iter()
        .map(|shot| shot.cancels.load(Ordering::Relaxed))
        .sum();
    println!("{hits} statements cancelled");
    assert!(
        hits > 20,
        "only {hits} statements were cancelled: this test proves little"
    );
}
