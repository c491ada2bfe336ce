//! Clients that break the protocol or leave: what becomes of them, of their server session, and of nobody else.

use postgres_protocol::message::frontend;
use tokio::io::AsyncReadExt;

use super::served::{Served, value};
use crate::harness::{
    logs,
    postgres::{PASSWORD, SUPERUSER},
    raw::{PROTOCOL_3_0, Raw, startup},
    wait::until,
};

/// Sends bytes that are no message; expects 08P01 as the last word and the end of the server session.
async fn breaks(served: &Served, bytes: &[u8]) {
    let (mut client, _) = served.raw().await;
    served.has_sessions(2).await;
    client.send(bytes).await;
    let mut last = None;
    while let Some(message) = client.next().await {
        last = Some(message);
    }
    let last = last.unwrap();
    assert_eq!(last.sqlstate(), "08P01");
    assert_eq!(last.fields()[&'S'], "FATAL");
    assert!(last.fields()[&'D'].contains("pgwake session "), "{last:?}");
    served.has_sessions(1).await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_their_own_session_alone() {
    let served = Served::start("serve-leaving-broken").await;
    let other = served.connect().await;
    other
        .batch_execute("begin; create temp table mine (id int)")
        .await
        .unwrap();
    let broken: [&[u8]; 5] = [
        b"!\0\0\0\x04",
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        // Behind a good message.
        b"S\0\0\0\x04\0\0\0\0\x04",
        b"Q\0\0\0\x0dselect 1\0\x01",
    ];
    for bytes in broken {
        breaks(&served, bytes).await;
    }
    other.batch_execute("table mine; commit").await.unwrap();
    let lines = logs::access_lines("serve-leaving-broken", broken.len()).await;
    assert!(
        lines.iter().all(|line| line.field("sqlstate") == "08P01"),
        "{lines:?}"
    );
}

/// A statement that is cut short by its client's leaving must not be completed by what pgwake itself says: with
/// Terminate behind it, `a = b` without its end was read as `a = X`.
#[tokio::test]
async fn a_statement_cut_short_is_never_run() {
    let served = Served::start("serve-leaving-short").await;
    let direct = served.direct().await;
    direct
        .batch_execute("create table kept (a int, b int, x int); insert into kept values (1, 2, 1)")
        .await
        .unwrap();
    let mut message = bytes::BytesMut::new();
    frontend::query("delete from kept where a = b", &mut message).unwrap();
    for missing in 1..=9 {
        let (mut client, _) = served.raw().await;
        client.send(&message[..message.len() - missing]).await;
        drop(client);
        served.has_sessions(1).await;
        assert_eq!(
            value(&direct, "select count(*) from kept").await,
            "1",
            "{missing}"
        );
    }
    let lines = logs::access_lines("serve-leaving-short", 9).await;
    assert!(
        lines.iter().all(|line| line.field("sqlstate") == "08006"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn hanging_up_in_the_middle_of_a_message_ends_the_server_session() {
    let served = Served::start("serve-leaving-half").await;
    let other = served.connect().await;
    for cut in [1, 4, 5, 20] {
        let (mut client, _) = served.raw().await;
        served.has_sessions(2).await;
        client.send(&b"Q\0\0\x10\0select 'a very long"[..cut]).await;
        drop(client);
        served.has_sessions(1).await;
    }
    assert_eq!(value(&other, "select 1").await, "1");
}

#[tokio::test]
async fn a_statement_whose_client_has_gone_is_cancelled() {
    let served = Served::start("serve-leaving-running").await;
    let direct = served.direct().await;
    direct
        .batch_execute("create table told (what text)")
        .await
        .unwrap();
    let statements = [
        "select pg_sleep(600)",
        "begin; insert into told values ('in a transaction'); select pg_sleep(600)",
        "select count(*) from generate_series(1, 100000000000)",
        // It sends and sends.
        "select repeat('x', 1000) from generate_series(1, 100000000000)",
    ];
    for sql in statements {
        let (mut client, key) = served.raw().await;
        client.query(sql).await;
        let running = format!(
            "select count(*) from pg_stat_activity where pid = {} and state = 'active'",
            key.pid
        );
        until("the statement to run", async || {
            value(&direct, &running).await == "1"
        })
        .await;
        drop(client);
        served.has_sessions(1).await;
    }
    assert_eq!(value(&direct, "select count(*) from told").await, "0");
}

/// `psql -c 'insert …'` that is not waited for: the statement was sent whole, and takes effect.
#[tokio::test]
async fn a_statement_before_terminate_takes_effect() {
    let served = Served::start("serve-leaving-terminate").await;
    let direct = served.direct().await;
    direct
        .batch_execute("create table told (what text)")
        .await
        .unwrap();
    let slow = |what: &str| format!("insert into told select '{what}' from pg_sleep(0.7)");

    let (mut client, _) = served.raw().await;
    client
        .send_with(|out| {
            frontend::query(&slow("simple"), out).unwrap();
            frontend::terminate(out);
        })
        .await;
    drop(client);
    let (mut client, _) = served.raw().await;
    client
        .send_with(|out| {
            frontend::parse("", &slow("extended"), [], out).unwrap();
            let none = |_: (), _: &mut bytes::BytesMut| Ok(postgres_protocol::IsNull::No);
            frontend::bind("", "", [], [], none, [], out)
                .map_err(|_| "bind")
                .unwrap();
            frontend::execute("", 0, out).unwrap();
            frontend::sync(out);
            frontend::terminate(out);
        })
        .await;
    drop(client);

    let told = "select coalesce(string_agg(what, ',' order by what), '') from told";
    until("both statements to take effect", async || {
        value(&direct, told).await == "extended,simple"
    })
    .await;
    served.has_sessions(1).await;
    let lines = logs::access_lines("serve-leaving-terminate", 2).await;
    assert!(
        lines.iter().all(|line| line.field("sqlstate") == "00000"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_idle_client_that_leaves_is_noticed_however_it_leaves() {
    let served = Served::start("serve-leaving-idle").await;
    let leave: [fn(&mut bytes::BytesMut); 2] = [|_| (), frontend::terminate];
    for say in leave {
        let (mut client, _): (Raw, _) = served.raw().await;
        client.query("begin; select 1").await;
        client.until(b'Z').await;
        client.send_with(say).await;
        drop(client);
        served.has_sessions(0).await;
    }
}

/// A client that does not wait for any of its answers has them thrown away, not its statements.
#[tokio::test]
async fn all_statements_before_terminate_take_effect() {
    let served = Served::start("serve-leaving-pipeline").await;
    let direct = served.direct().await;
    direct
        .batch_execute("create table told (what int)")
        .await
        .unwrap();
    let (mut client, _) = served.raw().await;
    client
        .send_with(|out| {
            for number in 1..=8 {
                let sql = format!(
                    "insert into told select {number} from pg_sleep(0.1) returning repeat('x', 100000)"
                );
                frontend::query(&sql, out).unwrap();
            }
            frontend::terminate(out);
        })
        .await;
    drop(client);

    let told = "select string_agg(what::text, ',' order by what) from told having count(*) = 8";
    until("all statements to take effect", async || {
        !direct.query(told, &[]).await.unwrap().is_empty()
    })
    .await;
    served.has_sessions(1).await;
}

/// The end of TLS is told after the last words, as Postgres does, and the client's own bytes that nobody has read
/// do not turn it into a reset: some systems throw away what came before one.
#[tokio::test]
async fn after_last_words_the_connection_ends_in_order() {
    let served = Served::start("serve-leaving-order").await;
    let (mut ended, _) = served.raw().await;
    ended
        .send_with(|out| {
            frontend::query("select pg_terminate_backend(pg_backend_pid())", out).unwrap();
            for _ in 0..100 {
                frontend::query(&format!("select 1 /* {} */", "x".repeat(4000)), out).unwrap();
            }
        })
        .await;
    let mut refused = served.gateway.raw_to("serve-leaving-order").await;
    let parameters = [("user", SUPERUSER), ("database", "nowhere")];
    refused.prove(&startup(PROTOCOL_3_0, &parameters), PASSWORD).await;
    refused.send(&b"S\0\0\0\x04".repeat(40_000)).await;
    for (mut client, code) in [(ended, "57P01"), (refused, "3D000")] {
        assert_eq!(client.until(b'E').await.last().unwrap().sqlstate(), code);
        let (mut reader, _writer) = client.split();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

/// The server's own end of a session is its client's end, told once and in the server's words.
#[tokio::test]
async fn a_session_that_postgres_ends_is_told_once() {
    let served = Served::start("serve-leaving-fatal").await;
    let direct = served.direct().await;
    for sql in ["", "begin; select 1", "select pg_sleep(60)"] {
        let (mut client, key) = served.raw().await;
        if !sql.is_empty() {
            client.query(sql).await;
        }
        if sql.contains("sleep") {
            served.sleeps(key.pid).await;
        } else if !sql.is_empty() {
            client.until(b'Z').await;
        }
        value(&direct, &format!("select pg_terminate_backend({})", key.pid)).await;
        let said = client.until(b'E').await;
        assert_eq!(said.last().unwrap().sqlstate(), "57P01", "{sql}");
        client.closed().await;
    }
    let lines = logs::access_lines("serve-leaving-fatal", 3).await;
    assert!(
        lines.iter().all(|line| line.field("sqlstate") == "57P01"),
        "{lines:?}"
    );
}
