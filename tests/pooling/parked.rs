//! Clients between their transactions while their compute sleeps: they stay, wake it with their next statement, and
//! have all they had.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    line::{Line, Way},
    pooled::pool,
    said::{Kind, Said},
    told::{errors, tags, values},
};
use crate::{
    harness::{
        beside::beside,
        gate::Gate,
        gateway::{Gateway, Setup},
        postgres::{PASSWORD, SUPERUSER},
        processes,
        raw::{Message, PROTOCOL_3_0, Raw, cancel_request, startup},
        wait::until,
    },
    serving::served::Key,
};

const SUSPEND_AFTER: Duration = Duration::from_millis(300);

fn keys(size: usize, more: &str) -> String {
    format!("{}\nsuspend_after = \"300ms\"\n{more}", pool(size, ""))
}

async fn sleeper(endpoint: &str, size: usize, more: &str) -> Gateway {
    Setup::new().listed(endpoint, &keys(size, more)).start().await
}

/// A client, its key, and how it was greeted.
async fn client(gateway: &Gateway, endpoint: &str) -> (Line, Key, Vec<Message>) {
    let mut raw: Raw = gateway.raw_to(endpoint).await;
    let parameters = [("user", SUPERUSER), ("database", "postgres")];
    let greeting = raw.log_in(&startup(PROTOCOL_3_0, &parameters), PASSWORD).await;
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let (pid, secret) = key.cancel_key();
    let key = Key {
        pid,
        secret: secret.to_vec(),
    };
    (Line::over(raw), key, greeting)
}

async fn cancel(gateway: &Gateway, key: &Key) {
    let mut stream = gateway.raw("localhost").await;
    stream.send(&cancel_request(key.pid, &key.secret)).await;
    stream.closed().await;
}

fn status(answer: &[Message]) -> char {
    char::from(answer.last().unwrap().body[0])
}

#[tokio::test]
async fn parked_clients_survive_a_suspend_with_all_they_have() {
    const ENDPOINT: &str = "parked-burst";
    let gateway = sleeper(ENDPOINT, 2, "").await;
    let mut lines = Vec::new();
    for number in 0..16 {
        let (mut line, _, _) = client(&gateway, ENDPOINT).await;
        let set = format!(
            "set app.mark = 'of {number}'; set search_path = schema_{number}; set datestyle = 'German'"
        );
        line.query(&set).await;
        let prepare = [Said::parse("s", "select '01.02.2024'::date, $1::int"), Said::Sync];
        line.ask(&prepare, Way::Whole).await;
        line.query(&format!("prepare q as select {number}")).await;
        lines.push(line);
    }
    let before = gateway.wakes(ENDPOINT);
    for cycle in 0..3 {
        gateway.asleep(ENDPOINT).await;
        let burst = lines.iter_mut().enumerate().map(|(number, line)| async move {
            let look = "select current_setting('app.mark'), current_setting('search_path')";
            let expected = [format!("of {number}"), format!("schema_{number}")];
            assert_eq!(values(&line.query(look).await), expected, "cycle {cycle}");
            let said = [Said::bind("", "s", &["7"]), Said::execute("", 0), Said::Sync];
            assert_eq!(values(&line.ask(&said, Way::Whole).await), ["01.02.2024", "7"]);
            assert_eq!(values(&line.query("execute q").await), [number.to_string()]);
        });
        join_all(burst).await;
        assert_eq!(gateway.wakes(ENDPOINT), before + cycle + 1);
    }
    gateway.server.stop().await;
}

/// A suspend between any two turns of a client.
#[tokio::test]
async fn a_suspend_between_any_two_turns_is_not_noticed() {
    const ENDPOINT: &str = "parked-between";
    let gateway = sleeper(ENDPOINT, 1, "").await;
    let (mut line, _, _) = client(&gateway, ENDPOINT).await;
    line.query("create table if not exists kept (n int)").await;
    let turns: [(Vec<Said>, &str); 6] = [
        (
            vec![Said::query("begin; insert into kept values (1); commit")],
            "CCCZ",
        ),
        (
            vec![
                Said::parse("", "select $1::int"),
                Said::describe(Kind::Statement, ""),
                Said::Sync,
            ],
            "1tTZ",
        ),
        // The unnamed statement of the turn before.
        (
            vec![Said::bind("", "", &["3"]), Said::execute("", 0), Said::Sync],
            "2DCZ",
        ),
        (vec![Said::query("select 1 / 0")], "EZ"),
        (
            vec![
                Said::query("copy kept from stdin"),
                Said::data("2\n"),
                Said::CopyDone,
            ],
            "GCZ",
        ),
        (
            vec![
                Said::query("begin"),
                Said::query("select sum(n) from kept"),
                Said::query("commit"),
            ],
            "CZTDCZCZ",
        ),
    ];
    for (said, expected) in turns {
        gateway.asleep(ENDPOINT).await;
        line.say(&said, Way::Whole).await;
        let mut told = Vec::new();
        while told.len() < expected.len() {
            told.extend(line.ready().await);
        }
        assert_eq!(tags(&told), expected, "{said:?}");
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_needs_no_server_wakes_none() {
    const ENDPOINT: &str = "parked-nothing";
    let gateway = sleeper(ENDPOINT, 1, "").await;
    let (mut line, key, _) = client(&gateway, ENDPOINT).await;
    line.query("select 1").await;
    let (leaving, _, _) = client(&gateway, ENDPOINT).await;
    let (dropped, _, _) = client(&gateway, ENDPOINT).await;
    gateway.asleep(ENDPOINT).await;
    let wakes = gateway.wakes(ENDPOINT);

    for way in [Way::Whole, Way::Bytes] {
        for (said, expected) in [
            (vec![Said::query("")], "IZ"),
            (vec![Said::query(" ; ")], "IZ"),
            (vec![Said::Sync], "Z"),
            (vec![Said::Flush, Said::Sync], "Z"),
            (vec![Said::data("late"), Said::CopyDone, Said::Sync], "Z"),
            (vec![Said::query("begin")], "CZ"),
            (vec![Said::query("commit")], "CZ"),
        ] {
            assert_eq!(tags(&line.ask(&said, way).await), expected, "{said:?}");
        }
    }
    cancel(&gateway, &key).await;
    leaving.leave().await;
    drop(dropped);

    sleep(SUSPEND_AFTER).await;
    assert_eq!(gateway.wakes(ENDPOINT), wakes);
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
    assert_eq!(values(&line.query("select 'awake'").await), ["awake"]);
    gateway.server.stop().await;
}

/// A BEGIN to which nothing has been said yet keeps no compute awake.
#[tokio::test]
async fn a_suspend_inside_a_deferred_begin_is_not_noticed() {
    const ENDPOINT: &str = "parked-begin";
    let gateway = sleeper(ENDPOINT, 1, "").await;
    let (mut line, _, _) = client(&gateway, ENDPOINT).await;
    line.query("create table if not exists kept (n int)").await;
    for end in ["commit", "rollback"] {
        assert_eq!(status(&line.query("begin").await), 'T');
        gateway.asleep(ENDPOINT).await;
        assert_eq!(status(&line.query("insert into kept values (1)").await), 'T');
        assert_eq!(status(&line.query(end).await), 'I');
    }
    assert_eq!(values(&line.query("select count(*) from kept").await), ["1"]);
    gateway.server.stop().await;
}

/// What keeps its session keeps its compute, and no longer.
#[tokio::test]
async fn what_keeps_its_session_keeps_the_compute_awake() {
    const ENDPOINT: &str = "parked-pinned";
    let gateway = sleeper(ENDPOINT, 2, "").await;
    let (mut line, _, _) = client(&gateway, ENDPOINT).await;
    for (keep, use_it, end) in [
        (
            "create temp table mine (id int)",
            "select count(*) from mine",
            "drop table mine",
        ),
        ("begin; select 1", "select 2", "commit"),
        ("listen news", "select 3", "unlisten *"),
    ] {
        line.query(keep).await;
        let postmaster = processes::postmaster(&gateway.data_dir(ENDPOINT));
        sleep(SUSPEND_AFTER * 4).await;
        assert!(errors(&line.query(use_it).await).is_empty(), "{keep}");
        assert_eq!(
            processes::postmaster(&gateway.data_dir(ENDPOINT)),
            postmaster,
            "{keep}"
        );
        line.query(end).await;
        gateway.asleep(ENDPOINT).await;
    }
    gateway.server.stop().await;
}

/// Greeted while it sleeps, from memory: all that Postgres would have said.
#[tokio::test]
async fn a_client_is_greeted_while_the_compute_sleeps() {
    const ENDPOINT: &str = "parked-greeted";
    let postgres = pool(1, "wake_on = \"query\"");
    let gateway = Setup::new()
        .listed(ENDPOINT, &format!("{postgres}\nsuspend_after = \"300ms\""))
        .start()
        .await;
    let (mut first, _, awake) = client(&gateway, ENDPOINT).await;
    first.query("select 1").await;
    gateway.asleep(ENDPOINT).await;
    let wakes = gateway.wakes(ENDPOINT);

    let (mut second, _, asleep) = client(&gateway, ENDPOINT).await;

    assert_eq!(gateway.wakes(ENDPOINT), wakes, "a greeting woke it");
    let parameters = |greeting: &[Message]| {
        let statuses = greeting.iter().filter(|message| message.tag == b'S');
        let mut all: Vec<_> = statuses.map(Message::parameter).collect();
        all.sort();
        all
    };
    assert_eq!(parameters(&asleep), parameters(&awake));
    assert!(
        asleep.iter().all(|message| b"RSKZ".contains(&message.tag)),
        "{asleep:?}"
    );
    assert_eq!(values(&second.query("select 'awake'").await), ["awake"]);
    gateway.server.stop().await;
}

/// Held until the compute is ready: a cancel ends the hold, and the client goes on.
#[tokio::test]
async fn a_client_that_is_held_can_be_cancelled() {
    const ENDPOINT: &str = "parked-held";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let gateway = setup.gated(ENDPOINT, &gate, &keys(1, "")).start().await;
    let (mut line, key, _) = client(&gateway, ENDPOINT).await;
    line.query("select 1").await;
    gateway.asleep(ENDPOINT).await;
    gate.close();
    let held: [(&str, &[Said], char); 2] = [
        ("", &[Said::query("select 'too early'")], 'I'),
        ("begin", &[Said::query("select 'too early'")], 'E'),
    ];
    for (before, said, after) in held {
        if !before.is_empty() {
            assert_eq!(status(&line.query(before).await), 'T');
        }
        line.say(said, Way::Whole).await;
        gateway.stirring(ENDPOINT).await;
        // The start begins before the client is held.
        let mut answer = Vec::new();
        let cancels = async {
            loop {
                cancel(&gateway, &key).await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            told = line.ready() => answer = told,
            () = cancels => (),
        }
        answer.retain(|message| message.tag != b'N');
        assert_eq!(
            (tags(&answer).as_str(), errors(&answer)),
            ("EZ", vec!["57014".to_owned()])
        );
        assert_eq!(status(&answer), after);
    }
    assert_eq!(status(&line.query("rollback").await), 'I');
    gate.open();
    assert_eq!(values(&line.query("select 'goes on'").await), ["goes on"]);
    gateway.server.stop().await;
}

/// A compute that does not come in time: the request fails, a transaction has failed, the client stays.
#[tokio::test]
async fn a_compute_that_is_not_ready_in_time_fails_the_request_alone() {
    const ENDPOINT: &str = "parked-late";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let keys = keys(1, "hold_timeout = \"3s\"");
    let gateway = setup.gated(ENDPOINT, &gate, &keys).start().await;
    let mut line = client(&gateway, ENDPOINT).await.0;
    line.query("create table if not exists kept (n int)").await;
    gateway.asleep(ENDPOINT).await;
    gate.close();

    let plain = line.query("insert into kept values (1)").await;
    line.query("begin").await;
    let failed = line.query("insert into kept values (2)").await;
    let skipped = line.query("insert into kept values (3)").await;
    let ended = line.query("commit").await;

    gate.open();
    assert_eq!((errors(&plain), status(&plain)), (vec!["57P03".to_owned()], 'I'));
    assert_eq!(
        (errors(&failed), status(&failed)),
        (vec!["57P03".to_owned()], 'E')
    );
    assert_eq!(
        (errors(&skipped), status(&skipped)),
        (vec!["25P02".to_owned()], 'E')
    );
    assert_eq!(
        (ended[0].body.as_slice(), status(&ended)),
        (&b"ROLLBACK\0"[..], 'I')
    );
    until("the compute to be there", async || {
        values(&line.query("select count(*) from kept").await) == ["0"]
    })
    .await;
    gateway.server.stop().await;
}

/// The first turn of a wake knows no more of functions than an earlier wake has told: what it does is found out behind it.
#[tokio::test]
async fn a_function_that_somebody_else_defined_before_the_sleep_hides_nothing() {
    const ENDPOINT: &str = "parked-function";
    const LOOK: &str = "select current_setting('app.mark', true)";
    let gateway = sleeper(ENDPOINT, 1, "").await;
    let (mut one, _, _) = client(&gateway, ENDPOINT).await;
    let (mut other, _, _) = client(&gateway, ENDPOINT).await;
    one.query("select 'the functions are known'").await;
    let somebody = beside(&gateway, ENDPOINT, "somebody").await;
    let define = "create function mark(text) returns text language sql as \
        $$select set_config('app.mark', $1, false)$$";
    somebody.batch_execute(define).await.unwrap();
    drop(somebody);
    gateway.asleep(ENDPOINT).await;

    for mark in ["first", "second"] {
        assert_eq!(
            values(&one.query(&format!("select mark('{mark}')")).await),
            [mark]
        );
        assert_ne!(values(&other.query(LOOK).await), [mark]);
        assert_eq!(values(&one.query(LOOK).await), [mark]);
    }
}
