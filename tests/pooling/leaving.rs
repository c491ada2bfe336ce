//! Clients that leave and sessions that are lost: what becomes of them, and that nobody else notices.

use super::{
    line::{Way, Who},
    pooled::{Pooled, pool},
    said::{Said, encoded, execute, prepare},
    told::{errors, tags, values},
};
use crate::{
    harness::{
        postgres::{Postgres, Prepared, Version},
        wait::until,
    },
    serving::served::value,
};

const PID: &str = "select pg_backend_pid()";

const TOLD: &str = "told (what text)";

/// What it was doing is cancelled, its transaction rolled back, and the next one finds neither.
#[tokio::test]
async fn a_client_that_is_gone_in_a_transaction_leaves_nothing_of_it() {
    const ENDPOINT: &str = "leaving-transaction";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with(TOLD).await;
    let middles: [(&str, &str); 6] = [
        ("begin; insert into told values ('open')", ""),
        ("begin; insert into told values ('failed'); select 1 / 0", ""),
        (
            "begin; insert into told values ('running')",
            "select pg_sleep(100000)",
        ),
        (
            "begin",
            "insert into told select 'deferred' from pg_sleep(100000)",
        ),
        (
            "begin; set app.mark = 'mark'; set local datestyle = 'German'; insert into told values ('set')",
            "",
        ),
        (
            "begin; insert into told values ('sends')",
            "select repeat('x', 1000) from generate_series(1, 100000000000)",
        ),
    ];
    for (said, running) in middles {
        let mut gone = pooled.line(ENDPOINT).await;
        gone.query(said).await;
        if !running.is_empty() {
            gone.say(&[Said::query(running)], Way::Whole).await;
            pooled.runs(1, "00000").await;
        }
        drop(gone);
        let mut next = pooled.line(ENDPOINT).await;
        let answer = next
            .query(
                "select count(*), current_setting('app.mark', true), current_setting('datestyle') from told",
            )
            .await;
        assert_eq!(values(&answer), ["0", "\u{2205}", "ISO, MDY"], "{said}");
        assert_eq!(answer.last().unwrap().body, b"I");
        next.leave().await;
    }
    let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(100000)%' and state = 'active' \
               and pid <> pg_backend_pid()";
    assert_eq!(
        value(&direct, sql).await,
        "0",
        "somebody still works for a client that is gone"
    );
}

/// A statement that was sent whole before Terminate takes effect; the session serves others then.
#[tokio::test]
async fn all_that_was_said_before_terminate_takes_effect() {
    const ENDPOINT: &str = "leaving-terminate";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with(TOLD).await;
    let insert = |what: &str| format!("insert into told select '{what}' from pg_sleep(0.1)");
    let pipelines = [
        vec![Said::query(insert("simple"))],
        [Said::run(&insert("extended"), &[]).as_slice(), &[Said::Sync]].concat(),
        vec![
            Said::query("begin"),
            Said::query(insert("deferred")),
            Said::query("commit"),
        ],
        vec![Said::query(insert("first")), Said::query(insert("second"))],
    ];
    for said in pipelines {
        let before = value(&direct, "select count(*) from told").await;
        let mut line = pooled.line(ENDPOINT).await;
        let mut bytes = encoded(&said);
        bytes.extend_from_slice(b"X\0\0\0\x04");
        line.bytes(&bytes).await;
        drop(line);
        // One after another: what becomes of those who wait is told elsewhere.
        until("the statement to take effect", async || {
            value(&direct, "select count(*) from told").await != before
        })
        .await;
    }
    until("all statements to take effect", async || {
        value(&direct, "select count(distinct what) from told").await == "5"
    })
    .await;
    pooled.has_sessions(1).await;
}

/// A statement that took longer than a second was cancelled where what stood behind it, with the Terminate at its end, could
/// not be sent before it was answered.
#[tokio::test]
async fn what_takes_long_takes_effect_though_its_client_has_said_more_and_terminate() {
    const ENDPOINT: &str = "leaving-long";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with(TOLD).await;
    let mut line = pooled.line(ENDPOINT).await;
    let said = [
        vec![Said::query("insert into told select 'long' from pg_sleep(1.5)")],
        prepare("named", "insert into told values ('behind')"),
        execute("named", &[]),
    ];
    let mut bytes = encoded(&said.concat());
    bytes.extend_from_slice(b"X\0\0\0\x04");
    line.bytes(&bytes).await;
    drop(line);

    // What is behind it, Postgres does not do either once it has found out that nobody reads its answers.
    until("the statement to take effect", async || {
        value(&direct, "select count(*) from told where what = 'long'").await == "1"
    })
    .await;
    pooled.has_sessions(1).await;
}

/// In the middle of a message: whatever of it has reached the server session, nothing is completed and run, and nobody
/// else says the rest.
#[tokio::test]
async fn a_client_that_is_gone_in_the_middle_of_a_message_harms_nobody() {
    const ENDPOINT: &str = "leaving-half";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with(TOLD).await;
    let delete = encoded(&[Said::query("insert into told values ('never') -- X")]);
    let bind = encoded(&[Said::bind("", "", &[&"v".repeat(300)])]);
    for before in ["begin; select 1", "select 1"] {
        for (message, cuts) in [
            (&delete, [1, 4, 5, 20, delete.len() - 1]),
            (&bind, [1, 5, 9, 100, 300]),
        ] {
            for cut in cuts {
                let mut gone = pooled.line(ENDPOINT).await;
                gone.query(before).await;
                gone.bytes(&message[..cut]).await;
                drop(gone);
                let mut next = pooled.line(ENDPOINT).await;
                let answer = next.query("select 'next', count(*) from told").await;
                assert_eq!(
                    (tags(&answer).as_str(), values(&answer)),
                    ("TDCZ", vec!["next".to_owned(), "0".to_owned()])
                );
                next.leave().await;
            }
        }
    }
    assert_eq!(value(&direct, "select count(*) from told").await, "0");
}

/// Idle sessions that Postgres ends are replaced: neither the client that had one last nor any other hears of it.
#[tokio::test]
async fn an_idle_session_that_is_ended_is_nobodys_loss() {
    const ENDPOINT: &str = "leaving-idle";
    let pooled = Pooled::start(ENDPOINT, 2).await;
    let mut clients = [
        pooled.line(ENDPOINT).await,
        pooled.line(ENDPOINT).await,
        pooled.line(ENDPOINT).await,
    ];
    for (number, client) in clients.iter_mut().enumerate() {
        client.query(&format!("set app.mark = 'of {number}'")).await;
        client
            .ask(&[Said::parse("s", "select 'prepared'"), Said::Sync], Way::Whole)
            .await;
    }
    for _ in 0..3 {
        assert_ne!(pooled.end_sessions().await, "0");
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.query("select current_setting('app.mark')").await;
            assert_eq!(values(&answer), [format!("of {number}")]);
            let said = [Said::bind("", "s", &[]), Said::execute("", 0), Said::Sync];
            assert_eq!(values(&client.ask(&said, Way::Whole).await), ["prepared"]);
        }
    }
}

/// Who has the session is told once, in Postgres' words; who comes next is served.
#[tokio::test]
async fn a_session_that_is_ended_in_use_is_told_once() {
    const ENDPOINT: &str = "leaving-in-use";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    let mut other = pooled.line(ENDPOINT).await;
    for running in ["", "select pg_sleep(100000)"] {
        let mut client = pooled.line(ENDPOINT).await;
        client.query("begin").await;
        let pid = values(&client.query(PID).await)[0].clone();
        if !running.is_empty() {
            client.say(&[Said::query(running)], Way::Whole).await;
            pooled.runs(1, "pg_sleep(100000)").await;
        }
        value(&direct, &format!("select pg_terminate_backend({pid})")).await;
        let told = client.until(b'E').await.unwrap();
        assert_eq!(errors(&told), ["57P01"]);
        assert!(client.message().await.is_err(), "it was told more");
        assert_eq!(values(&other.query("select 'other'").await), ["other"]);
    }
}

/// What an idle session says by itself is no reason to drop it, and a changed parameter is told.
#[tokio::test]
async fn what_idle_sessions_say_is_taken_in() {
    const ENDPOINT: &str = "leaving-says";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    let mut client = pooled.line(ENDPOINT).await;
    let pid = values(&client.query(PID).await);
    for style in ["German, DMY", "SQL, MDY"] {
        let set = format!("alter system set datestyle = '{style}'");
        direct.batch_execute(&set).await.unwrap();
        direct.batch_execute("select pg_reload_conf()").await.unwrap();
        let mut told = Vec::new();
        until("the change to be told", async || {
            told.extend(client.query("show datestyle").await);
            told.iter()
                .any(|message| message.tag == b'S' && message.parameter().1 == style)
        })
        .await;
        assert_eq!(values(&client.query("show datestyle").await), [style]);
    }
    assert_eq!(values(&client.query(PID).await), pid);
}

/// What Postgres says to a login comes through at once, and is forgotten as soon as it is no longer true.
#[tokio::test]
async fn what_postgres_refuses_a_session_with_is_told_and_not_remembered() {
    const ENDPOINT: &str = "leaving-refused";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    direct.batch_execute("create database shut").await.unwrap();
    let (mut client, _) = pooled.client(ENDPOINT, &Who::new("postgres", "shut")).await;
    assert_eq!(values(&client.query("select 1").await), ["1"]);
    let close = "alter database shut allow_connections false";
    direct.batch_execute(close).await.unwrap();
    pooled.end_sessions().await;

    client.say(&[Said::query("select 2")], Way::Whole).await;
    let told = client.until(b'E').await.unwrap();
    assert_eq!(errors(&told), ["55000"]);
    assert!(
        told[0].fields()[&'M'].contains("not currently accepting connections"),
        "{told:?}"
    );

    let open = "alter database shut allow_connections true";
    direct.batch_execute(open).await.unwrap();
    let (mut client, _) = pooled.client(ENDPOINT, &Who::new("postgres", "shut")).await;
    assert_eq!(values(&client.query("select 3").await), ["3"]);
}

/// One client's mistake is its own.
#[tokio::test]
async fn what_one_client_does_wrong_is_no_other_ones_matter() {
    const ENDPOINT: &str = "leaving-wrong";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut good = pooled.line(ENDPOINT).await;
    let wrong = |name: &str, value: &str| Who::new("postgres", "postgres").with(name, value);
    for (who, code) in [
        (wrong("options", "-c no_such_setting=1"), "42704"),
        (wrong("DateStyle", "nonsense"), "22023"),
        (wrong("client_encoding", "nonsense"), "22023"),
        (Who::new("postgres", "nowhere"), "3D000"),
    ] {
        let (_, told) = super::line::Line::open(&pooled.socket(ENDPOINT), &who).await;
        assert_eq!(errors(&told), [code], "{who:?}");
        assert_eq!(values(&good.query("select 'good'").await), ["good"]);
    }
    let mut broken = pooled.line(ENDPOINT).await;
    broken.query("begin; select 1").await;
    broken.bytes(b"!\0\0\0\x04").await;
    let told = broken.until(b'E').await.unwrap();
    assert_eq!(errors(&told), ["08P01"]);
    assert!(broken.message().await.is_err());
    assert_eq!(values(&good.query("select 'good'").await), ["good"]);
}

/// Postgres has no room: as long as sessions live that come free, clients wait for them.
#[tokio::test]
async fn a_postgres_without_room_only_makes_the_pool_smaller() {
    const ENDPOINT: &str = "leaving-crowded";
    let few = Prepared::new(Version::Debian)
        .setting("max_connections", "6")
        .setting("superuser_reserved_connections", "0")
        .setting("max_wal_senders", "0");
    let postgres: Postgres = few.start().await;
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(20, "connects_at_once = 8"))]).await;
    let mut lines = Vec::new();
    for _ in 0..16 {
        lines.push(pooled.line(ENDPOINT).await);
    }
    let runs = lines
        .iter_mut()
        .map(|line| line.query("select 'served' from pg_sleep(0.05)"));
    for answer in futures_util::future::join_all(runs).await {
        assert_eq!(values(&answer), ["served"], "{answer:?}");
    }
}

/// What a kept session has prepared by SQL leaves with its client, as everything else does.
#[tokio::test]
async fn who_kept_its_session_leaves_no_statements_behind() {
    const ENDPOINT: &str = "leaving-statements";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    for pins in [
        "create temp table mine ()",
        "listen own",
        "select pg_advisory_lock(1)",
    ] {
        let mut gone = pooled.line(ENDPOINT).await;
        gone.query(pins).await;
        gone.query("prepare secret as select 'a secret'").await;
        gone.leave().await;
        let mut next = pooled.line(ENDPOINT).await;
        assert_eq!(errors(&next.query("execute secret").await), ["26000"], "{pins}");
        let prepared = next.query("prepare secret as select 'its own'").await;
        assert!(errors(&prepared).is_empty(), "{pins}: {prepared:?}");
        next.leave().await;
    }
}

/// A Sync of pgwake's own committed what the client had done and not ended with one.
#[tokio::test]
async fn what_a_client_has_not_ended_with_a_sync_is_rolled_back_when_it_leaves() {
    const ENDPOINT: &str = "leaving-unsynced";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct_with(TOLD).await;
    let run = Said::run("insert into told values ('unsynced')", &[]);
    let flushed = [&run[..], &[Said::Flush]].concat();
    let failed = [&run[..], &Said::run("select 1 / 0", &[]), &[Said::Flush]].concat();
    let behind = [&[Said::query("begin")][..], &failed].concat();
    for said in [&run[..], &flushed, &failed, &behind] {
        for says_so in [true, false] {
            let mut gone = pooled.line(ENDPOINT).await;
            gone.say(said, Way::Whole).await;
            if said.contains(&Said::Flush) {
                gone.until(b'C').await.unwrap();
            }
            if says_so {
                gone.leave().await;
            } else {
                drop(gone);
            }
            let mut next = pooled.line(ENDPOINT).await;
            let answer = next.query("select count(*) from told").await;
            assert_eq!(values(&answer), ["0"], "{said:?}, {says_so}");
            next.leave().await;
        }
    }
    assert_eq!(value(&direct, "select count(*) from told").await, "0");
}
