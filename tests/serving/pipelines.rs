//! Pipelines byte by byte: same bytes, same answers, in the same order and without waiting for more than Postgres
//! would; both directions at once.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::{IsNull, message::frontend};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use super::served::{Served, tags};
use crate::harness::{
    raw::{Message, Raw},
    wait::{PATIENCE, until},
};

fn parse(sql: &str, out: &mut BytesMut) {
    frontend::parse("", sql, std::iter::empty(), out).unwrap();
}

fn bind(out: &mut BytesMut) {
    let none = |_: (), _: &mut BytesMut| Ok(IsNull::No);
    frontend::bind("", "", [], [], none, [0], out)
        .map_err(|_| "bind")
        .unwrap();
}

/// Parse, Bind, Describe, Execute.
fn run(sql: &str, out: &mut BytesMut) {
    parse(sql, out);
    bind(out);
    frontend::describe(b'P', "", out).unwrap();
    frontend::execute("", 0, out).unwrap();
}

/// FunctionCall of int4pl: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
fn add(a: i32, b: i32, out: &mut BytesMut) {
    let mut body = 177_i32.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1, 0, 2]);
    for argument in [a, b] {
        body.extend(4_i32.to_be_bytes());
        body.extend(argument.to_be_bytes());
    }
    body.extend([0, 1]);
    out.extend_from_slice(b"F");
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(&body);
}

fn sync(out: &mut BytesMut) {
    frontend::sync(out);
}

/// Every kind of message, errors included; every answer is the same each time.
fn everything() -> (BytesMut, usize) {
    let mut out = BytesMut::new();
    run("select 1", &mut out);
    run("select generate_series(1, 3)", &mut out);
    sync(&mut out);
    // An error: what follows is ignored up to Sync, a simple Query too.
    run("select 2", &mut out);
    run("select 1 / 0", &mut out);
    run("select 3", &mut out);
    frontend::query("select 'ignored'", &mut out).unwrap();
    sync(&mut out);
    // An error in a simple Query starts no skipping.
    frontend::query("select 4; select 1 / 0; select 5", &mut out).unwrap();
    frontend::query("set application_name = 'other'; begin; select 6", &mut out).unwrap();
    add(2, 3, &mut out);
    run("select nothing", &mut out);
    sync(&mut out);
    frontend::query("select 'in a failed transaction'", &mut out).unwrap();
    frontend::query("rollback", &mut out).unwrap();
    parse("selec", &mut out);
    frontend::close(b'S', "unknown", &mut out).unwrap();
    sync(&mut out);
    frontend::query("create temp table rows (id int)", &mut out).unwrap();
    // COPY, its data right behind it.
    frontend::query("copy rows from stdin", &mut out).unwrap();
    frontend::CopyData::new(&b"1\n2\n"[..]).unwrap().write(&mut out);
    frontend::copy_done(&mut out);
    run("copy rows from stdin", &mut out);
    frontend::CopyData::new(&b"3\n"[..]).unwrap().write(&mut out);
    frontend::copy_fail("no more", &mut out).unwrap();
    sync(&mut out);
    frontend::query("copy rows to stdout", &mut out).unwrap();
    run("", &mut out);
    sync(&mut out);
    (out, 14)
}

async fn answers(client: &mut Raw, count: usize) -> Vec<Message> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.extend(client.until(b'Z').await);
    }
    all
}

#[tokio::test]
async fn one_byte_at_a_time_and_all_at_once_give_what_postgres_gives() {
    let served = Served::start("pipeline-bytes").await;
    let (bytes, count) = everything();
    let mut direct = served.raw_direct().await;
    direct.send(&bytes).await;
    let expected = answers(&mut direct, count).await;

    let (mut at_once, _) = served.raw().await;
    at_once.send(&bytes).await;
    assert_eq!(answers(&mut at_once, count).await, expected);

    let (mut bytewise, _) = served.raw().await;
    bytewise.send_one_by_one(&bytes).await;
    assert_eq!(answers(&mut bytewise, count).await, expected);

    // Nothing is left over: the next answer is the next request's.
    for client in [&mut direct, &mut at_once, &mut bytewise] {
        client.query("select 7").await;
        let last = client.until(b'Z').await;
        assert_eq!(tags(&last), "TDCZ");
        assert_eq!(last[1].row(), [Some("7".to_owned())]);
    }
}

#[tokio::test]
async fn answers_do_not_wait_for_sync() {
    let served = Served::start("pipeline-flush").await;
    let (mut client, _) = served.raw().await;

    client
        .send_with(|out| {
            parse("select 1", out);
            frontend::describe(b'S', "", out).unwrap();
            frontend::flush(out);
        })
        .await;
    assert_eq!(tags(&client.until(b'T').await), "1tT");
    client
        .send_with(|out| {
            bind(out);
            frontend::execute("", 0, out).unwrap();
            frontend::flush(out);
        })
        .await;
    assert_eq!(tags(&client.until(b'C').await), "2DC");
    // An error comes without Flush and Sync.
    client.send_with(|out| parse("selec", out)).await;
    assert_eq!(client.message().await.sqlstate(), "42601");
    client.send_with(sync).await;
    assert_eq!(tags(&client.until(b'Z').await), "Z");
}

#[tokio::test]
async fn the_function_call_message_is_answered() {
    let served = Served::start("pipeline-function").await;
    let (mut client, _) = served.raw().await;
    client.send_with(|out| add(40, 2, out)).await;
    let answer = client.until(b'Z').await;
    assert_eq!(tags(&answer), "VZ");
    assert_eq!(
        answer[0].body,
        [4_i32.to_be_bytes(), 42_i32.to_be_bytes()].concat()
    );
}

/// A client that sends and sends without reading, until nobody takes its bytes any more, then reads.
#[tokio::test]
async fn both_directions_full_at_once_are_no_deadlock() {
    const REQUESTS: usize = 12_000;
    let served = Served::start("pipeline-full").await;
    let (client, _) = served.raw().await;
    let (mut reader, mut writer) = client.split();
    let mut request = BytesMut::new();
    run(
        &format!("select repeat('y', 4000) /* {} */", "x".repeat(4000)),
        &mut request,
    );
    sync(&mut request);

    let writing = tokio::spawn(async move {
        let mut sent = 0;
        let mut stuck = false;
        while sent < REQUESTS {
            let mut rest = &request[..];
            while !rest.is_empty() {
                let written = timeout(Duration::from_millis(500), writer.write(rest)).await;
                stuck |= written.is_err();
                if stuck && written.is_err() {
                    // From here on the reader reads.
                    return (sent, rest.len(), writer, request);
                }
                rest = &rest[written.unwrap().unwrap()..];
            }
            sent += 1;
        }
        panic!("{REQUESTS} requests fit into buffers: this test proves nothing");
    });
    let (sent, left, mut writer, request) = writing.await.unwrap();
    let rest = request[request.len() - left..].to_vec();
    let writing = tokio::spawn(async move {
        writer.write_all(&rest).await.unwrap();
        for _ in sent + 1..REQUESTS {
            writer.write_all(&request).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer
    });

    let deadline = Instant::now() + PATIENCE * 2;
    let mut ready = 0;
    while ready < REQUESTS {
        let message = tokio::time::timeout_at(deadline, Message::read(&mut reader)).await;
        ready += usize::from(message.unwrap().unwrap().tag == b'Z');
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn parameter_status_comes_when_a_setting_changes() {
    let served = Served::start("pipeline-status").await;
    let (mut client, _) = served.raw().await;
    client
        .query("set timezone = 'Europe/Vienna'; set application_name = 'renamed'")
        .await;
    let answer = client.until(b'Z').await;
    let statuses = answer.iter().filter(|message| message.tag == b'S');
    let mut statuses: Vec<_> = statuses.map(Message::parameter).collect();
    statuses.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        statuses,
        [
            pair("TimeZone", "Europe/Vienna"),
            pair("application_name", "renamed")
        ]
    );
    // Also when somebody else changes it: the configuration is read again, sooner or later.
    let direct = served.direct().await;
    direct
        .batch_execute("alter system set datestyle = 'German'")
        .await
        .unwrap();
    direct.batch_execute("select pg_reload_conf()").await.unwrap();
    let mut changed = Vec::new();
    until("the change to be told", async || {
        client.query("").await;
        changed = client.until(b'Z').await;
        changed.len() > 2
    })
    .await;
    let status = changed.iter().find(|message| message.tag == b'S').unwrap();
    assert_eq!(status.parameter(), pair("DateStyle", "German, DMY"));
}
