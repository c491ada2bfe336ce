//! A suspend between any two turns: what clients carry is theirs in the next turn all the same, and what needs no
//! server wakes none.

use futures_util::future::join_all;
use postgres_protocol::message::frontend;
use tokio_postgres::SimpleQueryMessage;

use super::{
    client::{Session, bounded},
    pooled::{Lending, Pooled},
};
use crate::harness::raw::Message;

/// One after the other, with a suspend before each. `{n}` is the client's own number, also in the answer: the values
/// of its rows.
const TURNS: [(&str, &str); 24] = [
    ("create table kept_{n} (value int)", ""),
    ("set app.tenant_id = 'tenant {n}'", ""),
    ("show app.tenant_id", "tenant {n}"),
    (
        "set search_path to own_{n}, public; set datestyle = 'SQL, DMY'; set application_name = 'client {n}'",
        "",
    ),
    (
        "select current_setting('search_path'), date '2024-02-01', current_setting('application_name')",
        "own_{n}, public|01/02/2024|client {n}",
    ),
    ("prepare plan (int) as select $1 * {n}", ""),
    ("execute plan (3); execute plan (4)", "3×{n}|4×{n}"),
    ("begin; insert into kept_{n} values ({n}); commit", ""),
    ("select value from kept_{n}", "{n}"),
    ("begin; set timezone = 'Etc/GMT+{n}'; rollback", ""),
    ("show timezone", "Etc/UTC"),
    ("set timezone = 'Etc/GMT+{n}'", ""),
    ("show timezone", "Etc/GMT+{n}"),
    ("execute plan (3)", "3×{n}"),
    ("set role pg_monitor", ""),
    ("select current_user", "pg_monitor"),
    ("select 1 / 0", "22012"),
    ("select current_user; reset role", "pg_monitor"),
    ("select set_config('app.tenant_id', '{n}', true)", "{n}"),
    ("show app.tenant_id", "tenant {n}"),
    ("deallocate plan", ""),
    ("execute plan (3)", "26000"),
    ("discard all", ""),
    ("show timezone", "Etc/UTC"),
];
const CLIENTS: i32 = 3;

/// The values of all rows, or the SQLSTATE.
async fn say(session: &Session, sql: &str) -> String {
    let answer = match bounded(sql, session.client.simple_query(sql)).await {
        Ok(answer) => answer,
        Err(error) => {
            return error
                .code()
                .map_or_else(|| format!("{error:?}"), |code| code.code().to_owned());
        }
    };
    let values = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL"))),
        _ => None,
    });
    values.flatten().collect::<Vec<_>>().join("|")
}

#[tokio::test]
async fn what_a_client_carries_outlives_a_suspend_between_any_two_turns() {
    let pooled = Pooled::start("turns-carried", &Lending::of(1), "suspend_after = \"100ms\"").await;
    let connect = (1..=CLIENTS).map(async |_| {
        let mut config = pooled.config();
        config.options("-c timezone=Etc/UTC");
        let session = Session::connect(&config, &pooled.gateway.authority)
            .await
            .unwrap();
        let adds = session
            .client
            .prepare("select $1::int4 + $2::int4")
            .await
            .unwrap();
        (session, adds)
    });
    let clients = join_all(connect).await;

    for (turn, (sql, expected)) in TURNS.iter().enumerate() {
        pooled.asleep().await;
        let wakes = pooled.wakes();
        let turns = (1..).zip(&clients).map(async |(n, (session, adds))| {
            let of_client = |text: &str| text.replace("{n}", &n.to_string());
            let expected = of_client(
                &expected
                    .replace("3×{n}", &(3 * n).to_string())
                    .replace("4×{n}", &(4 * n).to_string()),
            );
            assert_eq!(
                say(session, &of_client(sql)).await,
                expected,
                "client {n}, turn {turn}: {sql}"
            );
            // DISCARD ALL takes it away.
            if turn + 2 < TURNS.len() {
                let turn = i32::try_from(turn).unwrap();
                let sum = bounded(
                    "a prepared statement",
                    session.client.query_one(adds, &[&n, &turn]),
                )
                .await;
                assert_eq!(sum.unwrap().get::<_, i32>(0), n + turn, "client {n}, turn {turn}");
            }
        });
        pooled.unpinned(join_all(turns)).await;
        assert!(pooled.wakes() > wakes);
    }
    drop(clients);
    pooled.gateway.server.stop().await;
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

#[tokio::test]
async fn what_needs_no_server_wakes_none() {
    let pooled = Pooled::start("turns-asleep", &Lending::of(2), "suspend_after = \"100ms\"").await;
    let (mut client, mut leaver) = (pooled.raw().await, pooled.raw().await);
    client.query("select 1").await;
    client.until(b'Z').await;
    pooled.asleep().await;
    let wakes = pooled.wakes();

    client.query("").await;
    assert_eq!(tags(&client.until(b'Z').await), "IZ");
    client.send_with(frontend::sync).await;
    assert_eq!(tags(&client.until(b'Z').await), "Z");
    // A transaction without a statement, as drivers and pools make them.
    for (sql, status) in [
        ("BEGIN", b"T"),
        ("COMMIT", b"I"),
        ("start transaction", b"T"),
        ("rollback", b"I"),
    ] {
        client.query(sql).await;
        let answer = client.until(b'Z').await;
        assert_eq!((&*tags(&answer), &*answer[1].body), ("CZ", &status[..]), "{sql}");
    }
    leaver.send_with(frontend::terminate).await;
    leaver.closed().await;

    assert_eq!(pooled.processes().len(), 0);
    assert_eq!(pooled.wakes(), wakes);
    client.query("select 2").await;
    assert_eq!(tags(&client.until(b'Z').await), "TDCZ");
    assert_eq!(pooled.wakes(), wakes + 1);
    pooled.gateway.server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_begins_before_a_suspend_has_its_statements_after_it() {
    let pooled = Pooled::start("turns-begun", &Lending::of(1), "suspend_after = \"100ms\"").await;
    let mut client = pooled.raw().await;
    client.query("create table kept (value int)").await;
    client.until(b'Z').await;

    client.query("begin").await;
    let begun = client.until(b'Z').await;
    pooled.asleep().await;
    client.query("insert into kept values (1)").await;
    let inserted = client.until(b'Z').await;
    client.query("rollback").await;
    client.until(b'Z').await;
    pooled.asleep().await;
    client.query("select count(*) from kept").await;
    let counted = client.until(b'Z').await;

    assert_eq!((&*tags(&begun), &*begun[1].body), ("CZ", &b"T"[..]));
    assert_eq!((&*tags(&inserted), &*inserted[1].body), ("CZ", &b"T"[..]));
    assert_eq!(counted[1].row(), [Some("0".to_owned())]);
    pooled.gateway.server.stop().await;
}
