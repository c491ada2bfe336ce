//! A cancel follows its client's statement: it reaches the session that runs it now, ends a wait for one, or does
//! nothing; and never anything of anybody else.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use super::{
    line::{Line, Way, Who},
    pooled::{Pooled, pool},
    said::Said,
    told::{errors, values},
};
use crate::{
    harness::{
        postgres::{Postgres, Version},
        raw::{Message, PROTOCOL_3_0, PROTOCOL_3_2},
        wait::until,
    },
    serving::served::{Key, logged_in},
};

fn superuser() -> Who {
    Who::new("postgres", "postgres")
}

/// One key for the whole stay, whichever sessions the client's turns are on.
#[tokio::test]
async fn a_key_cancels_its_clients_statement_on_whichever_session() {
    const ENDPOINT: &str = "cancel-turns";
    let pooled = Pooled::start(ENDPOINT, 2).await;
    let (mut client, key) = pooled.client(ENDPOINT, &superuser()).await;
    let mut others = [pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await];
    for turn in 0..6 {
        for other in &mut others {
            assert_eq!(values(&other.query("select 'other'").await), ["other"]);
        }
        client
            .say(&[Said::query("select pg_sleep(60)")], Way::Whole)
            .await;
        pooled.runs(1, "pg_sleep(60)").await;
        pooled.cancel(&key).await;
        let answer = client.ready().await;
        assert_eq!(errors(&answer), ["57014"], "turn {turn}");
        assert_eq!(values(&client.query("select 'goes on'").await), ["goes on"]);
    }
}

/// A client between its statements, or in a transaction and between its statements, has nothing to be cancelled, and
/// what it says next is not hit.
#[tokio::test]
async fn a_cancel_between_statements_hits_nothing() {
    const ENDPOINT: &str = "cancel-parked";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut client, key) = pooled.client(ENDPOINT, &superuser()).await;
    let mut other = pooled.line(ENDPOINT).await;
    for before in ["select 1", "begin", "select 2", "commit", ""] {
        client.query(before).await;
        pooled.cancel(&key).await;
        let answer = client.query("select pg_sleep(0.02)").await;
        assert!(errors(&answer).is_empty(), "{before}: {answer:?}");
    }
    for _ in 0..30 {
        let cancel = pooled.cancel(&key);
        let (answer, ()) = tokio::join!(other.query("select pg_sleep(0.02)"), cancel);
        assert!(errors(&answer).is_empty(), "somebody else's statement was hit");
    }
}

#[tokio::test]
async fn keys_are_positive_random_and_of_the_length_that_the_client_knows() {
    const ENDPOINT: &str = "cancel-keys";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    for number in 0..40 {
        let (protocol, length) = [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)][number % 2];
        let raw = pooled.gateway.raw_to(ENDPOINT).await;
        let (client, key) = logged_in(raw, protocol, &[]).await;
        assert!(i32::try_from(key.pid).unwrap() > 0, "{key:?}");
        assert_eq!(key.secret.len(), length);
        assert!(seen.insert((key.pid, key.secret)), "a key was given twice");
        clients.push(client);
    }
    let pids: BTreeSet<u32> = seen.iter().map(|(pid, _)| *pid).collect();
    assert!(
        pids.len() > 35,
        "process numbers of clients hardly differ: {pids:?}"
    );
}

/// What the server had reported since was noted as told, and then not told: the client went on with an old TimeZone.
#[tokio::test]
async fn a_cancel_while_a_session_is_brought_keeps_no_news_from_its_client() {
    const ENDPOINT: &str = "cancel-brought";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with("awaited (a int)").await;
    let (mut client, key) = pooled.client(ENDPOINT, &superuser()).await;
    let mut other = pooled.line(ENDPOINT).await;
    client.query("prepare s as select * from awaited").await;
    other.query("deallocate all").await;
    let news = "alter system set timezone = 'Asia/Tokyo'";
    direct.batch_execute(news).await.unwrap();
    direct.batch_execute("select pg_reload_conf()").await.unwrap();
    until("the session to have heard", async || {
        values(&other.query("show timezone").await) == ["Asia/Tokyo"]
    })
    .await;
    let lock = "begin; lock table awaited in access exclusive mode";
    direct.batch_execute(lock).await.unwrap();

    client.say(&[Said::query("select 'cancelled'")], Way::Whole).await;
    pooled.runs(1, "prepare s").await;
    pooled.cancel(&key).await;
    direct.batch_execute("commit").await.unwrap();

    assert_eq!(errors(&client.ready().await), ["57014"]);
    let answer = client.query("select 'goes on'").await;
    assert_eq!(values(&answer), ["goes on"]);
    let told = |message: &Message| message.tag == b'S' && message.body == b"TimeZone\0Asia/Tokyo\0";
    assert!(answer.iter().any(told), "{answer:?}");
}

const CLIENTS: usize = 24;
const STATEMENTS: u64 = 40;

/// One client, and how many of its statements were cancelled.
struct Target {
    key: Key,
    /// Whether anybody may cancel it at all.
    is_target: bool,
    cancels: AtomicU64,
    ended: AtomicBool,
}

/// Sessions change hands all the time, cancels come all the time: each hits its own client or nobody.
#[tokio::test]
async fn a_cancel_never_hits_who_has_the_session_next() {
    const ENDPOINT: &str = "cancel-crossfire";
    let postgres = Postgres::start(Version::Debian).await;
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(3, ""))]).await;
    let (mut targets, mut lines) = (Vec::new(), Vec::new());
    for number in 0..CLIENTS {
        let (line, key) = pooled.client(ENDPOINT, &superuser()).await;
        targets.push(Arc::new(Target {
            key,
            is_target: number % 2 == 0,
            cancels: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }));
        lines.push(line);
    }
    let runs = lines
        .into_iter()
        .zip(&targets)
        .map(|(line, target)| run(line, target.clone()));

    tokio::join!(
        join_all(runs),
        shoot(&pooled, &targets, 1),
        shoot(&pooled, &targets, 2)
    );

    let hits: u64 = targets
        .iter()
        .map(|target| target.cancels.load(Ordering::Relaxed))
        .sum();
    assert!(
        hits > 20,
        "only {hits} statements were cancelled: this test proves little"
    );
    until("all sessions to rest", async || {
        let direct = pooled.direct().await;
        let sql = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()";
        direct.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

async fn run(mut line: Line, target: Arc<Target>) {
    for number in 0..STATEMENTS {
        let answer = line.query(&format!("select pg_sleep(0.01), {number}")).await;
        let failed = errors(&answer);
        if failed.is_empty() {
            assert_eq!(values(&answer)[1], number.to_string());
        } else {
            assert_eq!(failed, ["57014"]);
            assert!(target.is_target, "a cancel hit somebody else's statement");
            target.cancels.fetch_add(1, Ordering::Relaxed);
        }
    }
    target.ended.store(true, Ordering::Relaxed);
}

async fn shoot(pooled: &Pooled, targets: &[Arc<Target>], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let all: Vec<_> = targets.iter().filter(|target| target.is_target).collect();
    while !targets.iter().all(|target| target.ended.load(Ordering::Relaxed)) {
        pooled.cancel(&all[random.random_range(0..all.len())].key).await;
        // Not to wait for anything: some statements are to come to their end.
        sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
}
