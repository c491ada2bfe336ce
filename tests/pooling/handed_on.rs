//! A session that goes to another client: what was for the one before reaches nobody, and keeps nobody waiting.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    line::Way,
    pooled::Pooled,
    said::{Kind, STRANGER, Said},
    told::{errors, values},
};
use crate::harness::wait::until;
use crate::serving::served::value;

/// Longer than an answer takes, shorter than pgwake's own patience with a server.
const SOON: Duration = Duration::from_secs(6);

/// More values that look like names than are remembered, and a name that only a trigger says.
#[tokio::test]
async fn what_a_trigger_sets_is_carried_beside_any_number_of_values() {
    const ENDPOINT: &str = "handed-trigger";
    const ASK: &str = "select coalesce(current_setting('audit.last', true), 'none')";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    pooled
        .direct()
        .await
        .batch_execute(
            "create table audited (number int); \
             create function note() returns trigger language plpgsql as $f$begin \
                 perform set_config('audit.last', new.number::text, false); return new; end$f$; \
             create trigger note before insert on audited for each row execute function note()",
        )
        .await
        .unwrap();
    let mut client = pooled.line(ENDPOINT).await;
    let mut other = pooled.line(ENDPOINT).await;
    for number in 0..80 {
        let value = format!("user{number}.name{number}@host{number}.example");
        let run = Said::run("select set_config($1, $2, true)", &["app.who", &value]);
        let said: Vec<_> = run.into_iter().chain([Said::Sync]).collect();
        assert!(errors(&client.ask(&said, Way::Whole).await).is_empty());
    }
    for number in ["4711", "4712"] {
        client
            .query(&format!("insert into audited values ({number})"))
            .await;
        assert_eq!(values(&other.query(ASK).await), ["none"]);
        assert_eq!(values(&client.query(ASK).await), [number]);
    }
}

#[tokio::test]
async fn notifications_for_one_who_has_left_are_told_nobody() {
    const ENDPOINT: &str = "handed-news";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    for round in 0..20 {
        let mut hears = pooled.line(ENDPOINT).await;
        assert!(errors(&hears.query("listen news").await).is_empty());
        let mut next = pooled.line(ENDPOINT).await;
        let notify = "notify news, '1'; notify news, '2'; notify news, '3'";
        let (told, notified, ()) = tokio::join!(
            next.query("select 1"),
            direct.batch_execute(notify),
            hears.leave()
        );
        notified.unwrap();
        assert!(
            told.iter().all(|message| message.tag != b'A'),
            "round {round}: {told:?}"
        );
        next.leave().await;
    }
}

/// A read-only serializable transaction that may be deferred waits for those of others: not the resets of another client's.
#[tokio::test]
async fn what_one_has_made_deferrable_keeps_nobody_else_waiting() {
    const ENDPOINT: &str = "handed-deferrable";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut client = pooled.line(ENDPOINT).await;
    for sql in [
        "set default_transaction_isolation = serializable",
        "set default_transaction_read_only = on",
        "set default_transaction_deferrable = on",
        "select pg_advisory_lock(4711)",
    ] {
        assert!(errors(&client.query(sql).await).is_empty(), "{sql}");
    }
    let writer = pooled.direct().await;
    writer
        .batch_execute("create table written (number int)")
        .await
        .unwrap();
    writer
        .batch_execute("begin isolation level serializable; insert into written values (1)")
        .await
        .unwrap();
    client.leave().await;

    let mut next = pooled.line(ENDPOINT).await;
    let told = timeout(SOON, next.query(STRANGER)).await;

    assert_eq!(values(&told.expect("nothing is waited for")), ["a stranger"]);
    writer.batch_execute("rollback").await.unwrap();
}

/// What pgwake asks about functions may wait for a lock: not for long, and nobody's stay ends for it.
#[tokio::test]
async fn a_view_that_is_being_altered_ends_nobody() {
    const ENDPOINT: &str = "handed-locked";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    direct
        .batch_execute(
            "create function says() returns text language sql as 'select set_config(''app.mark'', ''x'', false)'; \
             create view viewed as select says(), set_config('app.mark', 'y', false) as of_view",
        )
        .await
        .unwrap();
    let mut client = pooled.line(ENDPOINT).await;
    direct
        .batch_execute("begin; lock table viewed in access exclusive mode")
        .await
        .unwrap();
    let made = client
        .query("create function other() returns int language sql as 'select 1'")
        .await;
    assert!(errors(&made).is_empty(), "{made:?}");

    for number in ["1", "2"] {
        let run = Said::query(format!("select {number}"));
        let told = timeout(SOON * 2, client.ask(&[run], Way::Whole)).await;
        assert_eq!(values(&told.expect("it is answered")), [number]);
    }
    direct.batch_execute("rollback").await.unwrap();
}

/// As Postgres does it: not only when somebody needs the session.
#[tokio::test]
async fn what_one_who_has_left_had_locked_is_free() {
    const ENDPOINT: &str = "handed-locks";
    const IS_FREE: &str = "select pg_try_advisory_xact_lock(4711)";
    let pooled = Pooled::start(ENDPOINT, 2).await;
    let direct = pooled.direct().await;
    for says_so in [true, false] {
        let mut client = pooled.line(ENDPOINT).await;
        let made = "select pg_advisory_lock(4711); create temp table made (number int)";
        assert!(errors(&client.query(made).await).is_empty());
        assert_eq!(value(&direct, IS_FREE).await, "f");

        if says_so {
            client.leave().await;
        } else {
            drop(client);
        }

        until("the lock to be free", async || {
            value(&direct, IS_FREE).await == "t"
        })
        .await;
        let left = "select count(*) from pg_class where relpersistence = 't'";
        until("the table to be gone", async || value(&direct, left).await == "0").await;
    }
}

/// A statement of SQL's PREPARE goes with its client; its table may be locked, and nothing else waits for that.
#[tokio::test]
async fn a_statement_whose_table_is_locked_keeps_nothing_else_waiting() {
    const ENDPOINT: &str = "handed-prepared";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    direct
        .batch_execute("create table locked (number int)")
        .await
        .unwrap();
    let mut client = pooled.line(ENDPOINT).await;
    let mut other = pooled.line(ENDPOINT).await;
    for sql in [
        "set lock_timeout = '9s'",
        "prepare counts as select count(*) from locked",
    ] {
        assert!(errors(&client.query(sql).await).is_empty(), "{sql}");
    }
    assert_eq!(values(&other.query(STRANGER).await), ["a stranger"]);
    direct.batch_execute("begin; lock table locked").await.unwrap();

    let told = timeout(SOON, client.query("select 1, current_setting('lock_timeout')")).await;

    assert_eq!(
        values(&told.expect("it has nothing to do with the table")),
        ["1", "9s"]
    );
    direct.batch_execute("rollback").await.unwrap();
    assert_eq!(values(&other.query(STRANGER).await), ["a stranger"]);
    assert_eq!(values(&client.query("execute counts").await), ["0"]);
}

/// Postgres takes it only before a session has had a temporary table.
#[tokio::test]
async fn a_setting_that_one_session_refuses_is_brought_to_another() {
    const ENDPOINT: &str = "handed-buffers";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut client = pooled.line(ENDPOINT).await;
    assert!(errors(&client.query("set temp_buffers = '16MB'").await).is_empty());
    let mut other = pooled.line(ENDPOINT).await;
    for sql in [
        "create temp table used as select 1",
        "select * from used",
        "drop table used",
    ] {
        assert!(errors(&other.query(sql).await).is_empty(), "{sql}");
    }
    assert_eq!(values(&client.query("show temp_buffers").await), ["16MB"]);
}

/// Longer than what is remembered, where each turn is asked about: the question would take it away.
#[tokio::test]
async fn an_unnamed_statement_of_any_length_stays_for_what_is_bound_next() {
    const ENDPOINT: &str = "handed-long";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    pooled
        .direct()
        .await
        .batch_execute(
            "create table watched (number int); \
             create function marks() returns trigger language plpgsql as $f$begin \
                 perform set_config('app.mark', 'x', false); return new; end$f$; \
             create trigger marks before insert on watched for each row execute function marks()",
        )
        .await
        .unwrap();
    let mut client = pooled.line(ENDPOINT).await;
    client.query("select 1").await;
    let text = format!("select 'long' /* {} */", "x".repeat(1 << 20));
    let parse = [
        Said::parse("", &text),
        Said::describe(Kind::Statement, ""),
        Said::Sync,
    ];
    assert!(errors(&client.ask(&parse, Way::Whole).await).is_empty());

    let run = [Said::bind("", "", &[]), Said::execute("", 0), Said::Sync];
    let told = client.ask(&run, Way::Whole).await;

    assert_eq!(values(&told), ["long"], "{:?}", errors(&told));
}
