//! What cannot be moved keeps its server session with its client, until it is gone; and no longer, and not for more
//! clients than may.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    act::{Act, Batch},
    line::{Line, Way},
    pooled::{Pooled, pool},
    said::{STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::{
    harness::{
        postgres::{Postgres, Version},
        wait::until,
    },
    serving::served::value,
};

const A_WHILE: Duration = Duration::from_millis(150);

/// How a client comes to something that cannot be moved, and how it gets rid of it.
const PINS: [(&str, &str); 14] = [
    ("create temp table mine (id int)", "drop table mine"),
    ("create temporary view seen as select 1", "discard temp"),
    ("select 1 as id into temp mine", "discard all"),
    ("create temp sequence mine", "drop sequence mine"),
    ("create table pg_temp.mine (id int)", "drop table pg_temp.mine"),
    ("select make_hidden()", "drop table hidden"),
    (
        "declare held cursor with hold for select generate_series(1, 9)",
        "close held",
    ),
    (
        "begin; declare held cursor with hold for select 1; commit",
        "close all",
    ),
    ("listen news", "unlisten *"),
    ("begin; listen news; commit", "unlisten news"),
    ("select pg_advisory_lock(7)", "select pg_advisory_unlock(7)"),
    (
        "select pg_try_advisory_lock_shared(7)",
        "select pg_advisory_unlock_all()",
    ),
    ("select lock_quietly()", "select pg_advisory_unlock_all()"),
    (
        "begin; create temp table mine (id int); commit",
        "drop table mine",
    ),
];

const FUNCTIONS: &str = "
    create or replace function make_hidden() returns int language plpgsql as
        $$begin create temp table hidden (id int); return 1; end$$;
    create or replace function lock_quietly() returns int language plpgsql as
        $$begin perform pg_advisory_lock(8); return 1; end$$";

async fn pooled(endpoint: &str, size: usize, more: &str) -> Pooled {
    let postgres = Postgres::start(Version::Debian).await;
    postgres.connect().await.batch_execute(FUNCTIONS).await.unwrap();
    Pooled::with(postgres, &[(endpoint, &pool(size, more))]).await
}

#[tokio::test]
async fn what_cannot_be_moved_keeps_the_session_until_it_is_gone() {
    const ENDPOINT: &str = "pin-until";
    let pooled = pooled(ENDPOINT, 1, "").await;
    let mut other = pooled.line(ENDPOINT).await;
    for (pin, unpin) in PINS {
        let mut client = pooled.line(ENDPOINT).await;
        assert!(errors(&client.query(pin).await).is_empty(), "{pin}");
        other.say(&[Said::query(STRANGER)], Way::Whole).await;
        assert!(other.is_silent_for(A_WHILE).await, "{pin} keeps no session");
        assert!(errors(&client.query("select 1").await).is_empty());
        assert!(
            other.is_silent_for(A_WHILE / 3).await,
            "{pin} keeps a session for one turn"
        );
        assert!(errors(&client.query(unpin).await).is_empty(), "{unpin}");
        assert_eq!(values(&other.ready().await), ["a stranger"], "{unpin}");
        client.leave().await;
    }
    // A client that leaves takes it along.
    for (pin, _) in PINS {
        let mut client = pooled.line(ENDPOINT).await;
        client.query(pin).await;
        client.leave().await;
        assert_eq!(values(&other.query(STRANGER).await), ["a stranger"], "{pin}");
        let left = "select (select count(*) from pg_locks where locktype = 'advisory'), \
                    (select count(*) from pg_class where relpersistence = 't'), \
                    (select count(*) from pg_cursors where is_holdable), \
                    (select count(*) from pg_listening_channels())";
        assert_eq!(
            values(&other.query(left).await),
            ["0", "0", "0", "0"],
            "{pin} stays behind"
        );
    }
}

/// What was rolled back, or ends with its transaction, keeps nobody.
#[tokio::test]
async fn what_is_undone_keeps_no_session() {
    const ENDPOINT: &str = "pin-undone";
    let pooled = pooled(ENDPOINT, 1, "").await;
    let (mut client, mut other) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    for undone in [
        "begin; create temp table mine (id int); rollback",
        "begin; create temp table mine (id int) on commit drop; commit",
        "begin; listen news; rollback",
        "begin; declare held cursor with hold for select 1; rollback",
        "begin; declare walk cursor for select 1; commit",
        "select pg_advisory_xact_lock(7)",
        "begin; select make_hidden(); rollback",
        "select pg_try_advisory_lock(9), pg_advisory_unlock(9)",
        "create temp table mine (id int); drop table mine",
        "set search_path = pg_temp, public",
        "create temp table mine (id int); selec",
        "unlisten *; close all; discard temp; select pg_advisory_unlock_all()",
    ] {
        client.query(undone).await;
        assert_eq!(values(&other.query(STRANGER).await), ["a stranger"], "{undone}");
    }
}

/// Notifications reach a client that does nothing, at once.
#[tokio::test]
async fn a_listening_client_hears_while_it_is_idle() {
    const ENDPOINT: &str = "pin-listen";
    let pooled = pooled(ENDPOINT, 2, "").await;
    let (mut listener, mut other) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    listener.query("listen news").await;
    for number in 0..5 {
        other.query(&format!("notify news, 'number {number}'")).await;
        let heard = timeout(Duration::from_secs(5), listener.message()).await;
        let heard = heard.unwrap().unwrap();
        assert_eq!(heard.tag, b'A');
        let text = format!("news\0number {number}\0");
        assert_eq!(heard.body[4..], *text.as_bytes());
    }
    listener.query("unlisten *").await;
    other.query("notify news, 'to nobody'").await;
    assert!(listener.is_silent_for(A_WHILE).await);
    assert!(other.is_silent_for(A_WHILE / 3).await, "a stranger hears it");
}

/// One more than may is refused before anything happens where the words say it, and goes on.
#[tokio::test]
async fn more_clients_than_may_keep_no_session() {
    const ENDPOINT: &str = "pin-many";
    let pooled = pooled(ENDPOINT, 3, "pinned_max = 1").await;
    let mut first = pooled.line(ENDPOINT).await;
    first.query("create temp table mine (id int)").await;
    let mut second = pooled.line(ENDPOINT).await;
    for refused in [
        "create temp table mine (id int)",
        "listen news",
        "declare held cursor with hold for select 1",
        "select pg_advisory_lock(7)",
    ] {
        let answer = second.query(refused).await;
        assert_eq!(
            (errors(&answer), answer.last().unwrap().body.clone()),
            (vec!["53300".to_owned()], b"I".to_vec())
        );
        assert_eq!(values(&second.query("select 'goes on'").await), ["goes on"]);
    }
    let extended = [
        Said::run("create temp table mine (id int)", &[]).as_slice(),
        &[Said::Sync],
    ]
    .concat();
    assert_eq!(errors(&second.ask(&extended, Way::Whole).await), ["53300"]);
    // In a transaction it is an error like any other.
    second.query("begin").await;
    assert_eq!(values(&second.query("select 'begun'").await), ["begun"]);
    let answer = second.query("create temp table mine (id int)").await;
    assert_eq!(
        (errors(&answer), answer.last().unwrap().body.clone()),
        (vec!["53300".to_owned()], b"E".to_vec())
    );
    assert_eq!(errors(&second.query("select 1").await), ["25P02"]);
    second.query("rollback").await;
    // Who is pinned already may have more of it.
    assert!(errors(&first.query("create temp table more (id int); listen news").await).is_empty());

    first.query("discard all").await;

    until("the other one's place to be free", async || {
        errors(&second.query("create temp table mine (id int)").await).is_empty()
    })
    .await;
    assert_eq!(
        errors(&first.query("create temp table mine (id int)").await),
        ["53300"]
    );
}

/// What fails with its transaction keeps nobody else from a place, however long that transaction goes on.
#[tokio::test]
async fn a_failed_transaction_holds_no_place() {
    const ENDPOINT: &str = "pin-failed";
    let pooled = pooled(ENDPOINT, 2, "pinned_max = 1").await;
    let mut first = pooled.line(ENDPOINT).await;
    let mut second = pooled.line(ENDPOINT).await;
    for failing in [
        &["begin", "create temp table mine (id int)", "select 1 / 0"][..],
        &["begin", "select 1 / 0", "create temp table mine (id int)"],
        &["begin; create temp table mine (id int); select 1 / 0"],
    ] {
        for sql in failing {
            first.query(sql).await;
        }
        assert_eq!(errors(&first.query("select 1").await), ["25P02"], "{failing:?}");
        assert!(
            errors(&second.query("listen news").await).is_empty(),
            "{failing:?}"
        );
        second.query("unlisten *").await;
        first.query("rollback").await;
        until("the place to be free", async || {
            errors(&first.query("listen news").await).is_empty()
        })
        .await;
        first.query("unlisten *").await;
    }
    // A place of its own stays, whatever fails afterwards.
    first.query("listen news").await;
    first.query("begin; select 1 / 0").await;
    assert_eq!(errors(&second.query("listen news").await), ["53300"]);
}

/// What is found only afterwards counts, too; at twice as many as may, that client is ended.
#[tokio::test]
async fn quiet_pins_count_and_end_at_twice_as_many() {
    const ENDPOINT: &str = "pin-quiet";
    let pooled = pooled(ENDPOINT, 4, "pinned_max = 1").await;
    let quietly = "do $$begin execute 'create te' || 'mp table hidden (id int)'; end$$";
    let mut lines: Vec<Line> = Vec::new();
    for _ in 0..2 {
        let mut line = pooled.line(ENDPOINT).await;
        assert!(errors(&line.query(quietly).await).is_empty());
        assert_eq!(values(&line.query("select count(*) from hidden").await), ["0"]);
        lines.push(line);
    }
    let mut one_too_many = pooled.line(ENDPOINT).await;
    one_too_many.say(&[Said::query(quietly)], Way::Whole).await;
    assert_eq!(errors(&one_too_many.until(b'E').await.unwrap()), ["53300"]);
    for line in &mut lines {
        assert_eq!(values(&line.query("select count(*) from hidden").await), ["0"]);
    }
    let mut other = pooled.line(ENDPOINT).await;
    assert_eq!(values(&other.query(STRANGER).await), ["a stranger"]);
}

/// State that no reset undoes is closed with its session: the next client finds a clean one.
#[tokio::test]
async fn what_no_reset_undoes_reaches_nobody() {
    const ENDPOINT: &str = "pin-dirty";
    let pooled = pooled(ENDPOINT, 1, "").await;
    let mut other = pooled.line(ENDPOINT).await;
    for dirty in [
        "load 'auto_explain'",
        "select setseed(0.5)",
        "LOAD 'plpgsql'",
        "load 'auto_explain'; set auto_explain.log_min_duration = 0",
    ] {
        let mut client = pooled.line(ENDPOINT).await;
        assert!(errors(&client.query(dirty).await).is_empty(), "{dirty}");
        client.leave().await;
        let look =
            "select random() = 0.985432361239125, current_setting('auto_explain.log_min_duration', true)";
        let seen = values(&other.query(look).await);
        assert_eq!(seen[1], "\u{2205}", "{dirty}");
    }
    let mut random = Vec::new();
    for _ in 0..2 {
        let mut client = pooled.line(ENDPOINT).await;
        client.query("select setseed(0.5)").await;
        client.leave().await;
        random.push(values(&other.query("select random()").await));
    }
    assert_ne!(random[0], random[1], "a stranger's seed");
}

/// A pinned client reads what it reads alone, also where the session's tables stand in nobody's words.
#[tokio::test]
async fn pinned_clients_read_what_they_read_alone() {
    let mut script = Script::new("pin-reads", 2).before(FUNCTIONS);
    for (pin, unpin) in PINS {
        script = script
            .act(0, Act::Say(Batch::query(pin).pins()))
            .query(1, STRANGER)
            .query(
                0,
                "select count(*) from pg_class where relname in ('mine', 'hidden', 'seen')",
            )
            .query(
                0,
                "select count(*) from pg_cursors; select count(*) from pg_listening_channels()",
            )
            .query(
                1,
                "select count(*) from pg_cursors; select count(*) from pg_listening_channels()",
            )
            .query(0, "select 1 / 0")
            .act(0, Act::Say(Batch::query(unpin).unpins()))
            .query(1, STRANGER)
            .query(0, "select count(*) from mine");
    }
    script.play().await;
}

/// A pin ends with its session.
#[tokio::test]
async fn a_pinned_session_that_is_ended_frees_its_place() {
    const ENDPOINT: &str = "pin-ended";
    let pooled = pooled(ENDPOINT, 2, "pinned_max = 1").await;
    let direct = pooled.direct().await;
    let mut client = pooled.line(ENDPOINT).await;
    client.query("listen news").await;
    let pid = values(&client.query("select pg_backend_pid()").await)[0].clone();
    value(&direct, &format!("select pg_terminate_backend({pid})")).await;
    assert_eq!(errors(&client.until(b'E').await.unwrap()), ["57P01"]);
    let mut next = pooled.line(ENDPOINT).await;
    until("the place of the pin to be free", async || {
        errors(&next.query("listen news").await).is_empty()
    })
    .await;
}

/// EXECUTE was taken for what may set something, and its client kept the session for good.
#[tokio::test]
async fn a_statement_that_is_prepared_and_run_in_one_batch_pins_nothing() {
    let run = |sql: &str| Said::run(sql, &[]).to_vec();
    let prepared = "prepare q as select '01/02/2024'::date";
    let pipeline = [run(prepared), run("execute q"), vec![Said::Sync]].concat();
    let played = Script::new("pin-executed", 1)
        .query(0, &format!("{prepared}; execute q"))
        .query(1, "set datestyle = 'German'")
        .query(0, "execute q")
        .query(0, "deallocate q")
        .say(0, pipeline)
        .query(1, STRANGER)
        .query(0, "execute q")
        .play()
        .await;
    assert_eq!(values(&played.told(0)), vec!["2024-01-02"; 4]);
}

/// The values of SET LOCAL were taken for constants that are read when it is prepared, and its client kept the session.
#[tokio::test]
async fn a_set_local_that_is_prepared_between_settings_of_one_batch_pins_nothing() {
    let run = |sql: &str| Said::run(sql, &[]).to_vec();
    let batch = [
        run("set datestyle = 'German'"),
        vec![Said::parse("s", "set local timezone = 'Asia/Tokyo'")],
        run("set datestyle = 'ISO, MDY'"),
        vec![Said::Sync],
    ];
    Script::new("pin-set-local", 1)
        .say(0, batch.concat())
        .query(1, STRANGER)
        .query(0, "begin")
        .say(0, execute("s", &[]))
        .query(0, "show timezone")
        .query(0, "commit")
        .query(1, STRANGER)
        .play()
        .await;
}

/// The client had its answers, and was ended behind them.
#[tokio::test]
async fn a_statement_that_would_keep_its_session_is_refused_where_no_more_clients_may() {
    const ENDPOINT: &str = "pin-statements";
    let limits = "pinned_max = 1, statements_max = 2, statement_bytes_max = \"1KiB\"";
    let pooled = pooled(ENDPOINT, 3, limits).await;
    let (mut first, mut line) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    let long = format!("select '{}'", "x".repeat(2000));
    first.query("listen news").await;
    for name in ["one", "two"] {
        line.ask(&prepare(name, "select 1"), Way::Whole).await;
    }
    for (name, text) in [("third", "select 3"), ("", &long)] {
        let batch = [&[Said::parse(name, text)][..], &execute(name, &[])].concat();
        for way in [Way::Whole, Way::Bytes] {
            assert_eq!(errors(&line.ask(&batch, way).await), ["53300"], "{name}");
        }
    }
    assert_eq!(values(&line.ask(&execute("two", &[]), Way::Whole).await), ["1"]);
    first.query("unlisten *").await;
    let told = line.ask(&prepare("", &long), Way::Whole).await;
    assert_eq!(errors(&told), Vec::<String>::new());
}
