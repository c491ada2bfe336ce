//! Pipelines through sessions that change hands: in order, on time, whole, and both ways at once.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};

use super::{
    line::{Line, Way},
    pooled::Pooled,
    said::{INT4PL, Kind, STRANGER, Said, encoded},
    script::Script,
    told::{errors, tags, values},
};

fn run(sql: &str) -> Vec<Said> {
    Said::run(sql, &[]).to_vec()
}

/// Everything that a client may say, errors included, with somebody else between all of it.
fn everything() -> Vec<Vec<Said>> {
    let sync = || vec![Said::Sync];
    vec![
        [run("select 1"), run("select generate_series(1, 3)"), sync()].concat(),
        // An error: what follows is ignored up to Sync, a simple Query too.
        [
            run("select 2"),
            run("select 1 / 0"),
            run("select 3"),
            vec![Said::query("select 'ignored'")],
            sync(),
        ]
        .concat(),
        // An error in a simple Query starts no skipping.
        vec![
            Said::query("select 4; select 1 / 0; select 5"),
            Said::query("select 6"),
        ],
        vec![Said::Call {
            function: INT4PL,
            arguments: vec![2, 3],
        }],
        [
            vec![Said::query("begin"), Said::query("select 7")],
            run("select nothing"),
            sync(),
            vec![Said::query("rollback")],
        ]
        .concat(),
        [
            vec![Said::parse("", "selec"), Said::close(Kind::Statement, "unknown")],
            sync(),
        ]
        .concat(),
        vec![
            Said::query("copy rows from stdin"),
            Said::data("1\n2\n"),
            Said::CopyDone,
        ],
        [
            run("copy rows from stdin"),
            vec![Said::data("3\n"), Said::CopyFail("no more".into())],
            sync(),
        ]
        .concat(),
        [
            run("copy rows from stdin"),
            sync(),
            vec![Said::data("3\n"), Said::CopyDone],
            sync(),
        ]
        .concat(),
        vec![Said::query("copy rows to stdout")],
        [run(""), sync(), sync()].concat(),
        [run("select 8"), vec![Said::query("select 9")], sync()].concat(),
        [
            vec![Said::Flush],
            run("select 10"),
            vec![Said::Flush, Said::Flush],
            sync(),
        ]
        .concat(),
    ]
}

#[tokio::test]
async fn every_kind_of_message_is_answered_in_order_whoever_had_the_session() {
    let table = "drop table if exists rows; create table rows (id int)";
    let mut script = Script::new("pipe-everything", 1).before(table);
    for said in everything() {
        script = script.say(0, said.clone()).query(1, STRANGER).say(0, said);
    }
    // The same without anybody between.
    let script = everything()
        .into_iter()
        .fold(script, |script, said| script.say(2, said));
    script.play().await;
}

/// Postgres answers errors, and what was flushed, before Sync; clients wait for that.
#[tokio::test]
async fn answers_do_not_wait_for_sync() {
    const ENDPOINT: &str = "pipe-flush";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut client, mut stranger) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    for way in [Way::Whole, Way::Messages, Way::Bytes] {
        stranger.query(STRANGER).await;
        let parse = [
            Said::parse("", "select 1"),
            Said::describe(Kind::Statement, ""),
            Said::Flush,
        ];
        client.say(&parse, way).await;
        assert_eq!(tags(&client.until(b'T').await.unwrap()), "1tT");
        client
            .say(&[Said::bind("", "", &[]), Said::execute("", 0), Said::Flush], way)
            .await;
        assert_eq!(tags(&client.until(b'C').await.unwrap()), "2DC");
        client.say(&[Said::parse("", "selec")], way).await;
        assert_eq!(client.message().await.unwrap().sqlstate(), "42601");
        assert_eq!(tags(&client.ask(&[Said::Sync], way).await), "Z");

        // An error is the first that comes of a turn.
        stranger.query(STRANGER).await;
        client.say(&[Said::bind("", "unknown", &[])], way).await;
        assert_eq!(client.message().await.unwrap().sqlstate(), "26000");
        client.say(&[Said::query("select 'ignored'")], way).await;
        assert_eq!(tags(&client.ask(&[Said::Sync], way).await), "Z");
    }
}

/// What comes too late for a COPY that has failed is swallowed, also when the session is somebody else's by then.
#[tokio::test]
async fn late_copy_data_reaches_nobody() {
    let late = || vec![Said::data("4\n"), Said::CopyDone];
    let copy = "copy rows from stdin";
    let mut script =
        Script::new("pipe-late", 1).before("drop table if exists rows; create table rows (id int)");
    for tail in [
        late(),
        vec![Said::CopyFail("late".into())],
        [late(), late()].concat(),
    ] {
        script = script
            .say(0, vec![Said::query(copy), Said::wrong_data()])
            .query(1, "begin; select 1; commit")
            .say(
                0,
                [tail.clone(), vec![Said::query("select count(*) from rows")]].concat(),
            )
            .query(1, STRANGER)
            .say(
                0,
                [run(copy), vec![Said::Flush, Said::wrong_data(), Said::Sync]].concat(),
            )
            .query(1, STRANGER)
            .say(0, [tail, vec![Said::Sync]].concat())
            // While somebody else copies himself.
            .say(0, vec![Said::query(copy), Said::wrong_data()])
            .query(1, copy)
            .say(1, vec![Said::data("1\n"), Said::CopyDone])
            .say(0, [late(), vec![Said::Sync]].concat());
    }
    let played = script.query(1, "select count(*) from rows").play().await;
    assert_eq!(values(&played.told(1)).last().unwrap(), "3");
}

/// Each request finds the answers of all before it, and takes no longer than they do.
#[tokio::test]
async fn a_pipeline_is_not_held_back() {
    const ENDPOINT: &str = "pipe-time";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut client = pooled.line(ENDPOINT).await;
    let mut stranger = pooled.line(ENDPOINT).await;
    stranger.query("set app.mark = 'x'").await;
    // The second statement runs for ever: the answer to the first does not wait for it.
    let said = [
        run("select 'first'"),
        vec![Said::Sync],
        run("select pg_sleep(100000)"),
        vec![Said::Sync],
    ]
    .concat();
    client.say(&said, Way::Whole).await;
    let since = Instant::now();
    assert_eq!(values(&client.ready().await), ["first"]);
    assert!(since.elapsed() < Duration::from_secs(10));
    pooled.runs(1, "pg_sleep(100000)").await;
    drop(client);
    assert_eq!(values(&stranger.query("select 'served'").await), ["served"]);
}

/// A client that sends and sends without reading, until nobody takes its bytes any more, then reads.
#[tokio::test]
async fn both_directions_full_at_once_are_no_deadlock() {
    const ENDPOINT: &str = "pipe-full";
    const REQUESTS: usize = 4_000;
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut client = pooled.line(ENDPOINT).await;
    let mut stranger = pooled.line(ENDPOINT).await;
    client
        .ask(
            &[Said::parse("s", "select repeat('y', 8000), $1::text"), Said::Sync],
            Way::Whole,
        )
        .await;
    stranger.query(STRANGER).await;
    let parameter = "x".repeat(8000);
    let one = encoded(&[
        Said::bind("", "s", &[&parameter]),
        Said::execute("", 0),
        Said::Sync,
    ]);
    let mut all = BytesMut::new();
    for _ in 0..REQUESTS {
        all.extend_from_slice(&one);
    }
    let ready = client.write_then_read(all, REQUESTS).await;
    assert_eq!(ready, REQUESTS);
    assert_eq!(values(&stranger.query("select 'served'").await), ["served"]);
}

#[tokio::test]
async fn large_messages_pass_through() {
    const ENDPOINT: &str = "pipe-large";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut client, mut stranger) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    let megabytes = "m".repeat(9 << 20);
    for _ in 0..2 {
        let said = [
            Said::run("select length($1::text), $1::text", &[&megabytes]).to_vec(),
            vec![Said::Sync],
        ]
        .concat();
        let answer = client.ask(&said, Way::Whole).await;
        assert_eq!(values(&answer), [megabytes.len().to_string(), megabytes.clone()]);
        let text = format!("select length('{megabytes}') /* {megabytes} */");
        assert_eq!(values(&client.query(&text).await), [megabytes.len().to_string()]);
        assert_eq!(values(&stranger.query(STRANGER).await), ["a stranger"]);
    }
}

/// No message of the protocol: the end of that client, and of the session where anything has reached it.
#[tokio::test]
async fn an_unknown_message_ends_its_client_alone() {
    const ENDPOINT: &str = "pipe-unknown";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut other = pooled.line(ENDPOINT).await;
    for before in ["", "select 1", "begin; select 1", "begin"] {
        for unknown in [&b"!\0\0\0\x04"[..], b"S\0\0\0\x03", b"Q\xff\xff\xff\xff"] {
            let mut client = pooled.line(ENDPOINT).await;
            if !before.is_empty() {
                client.query(before).await;
            }
            client.bytes(unknown).await;
            let told = ended(&mut client).await;
            assert_eq!(errors(&told), ["08P01"], "{before}");
            assert_eq!(values(&other.query("select 'other'").await), ["other"]);
        }
    }
}

/// All that is still said.
async fn ended(line: &mut Line) -> Vec<crate::harness::raw::Message> {
    let mut all = Vec::new();
    while let Ok(Ok(message)) = timeout(Duration::from_secs(20), line.message()).await {
        all.push(message);
    }
    all
}
