//! A BEGIN that takes no server session: what it answers, what it turns into, and what becomes of a transaction for
//! which there is no session.

use std::time::Duration;

use super::{
    line::{Line, Way},
    pooled::{Pooled, pool},
    said::{INT4PL, Kind, STRANGER, Said},
    script::Script,
    told::{errors, tags, values},
};
use crate::harness::{
    postgres::{Postgres, Version},
    raw::Message,
};

const A_WHILE: Duration = Duration::from_millis(150);
const WAYS: [Way; 3] = [Way::Whole, Way::Messages, Way::Bytes];

/// All that is exactly a BEGIN.
const DEFERRED: [&str; 10] = [
    "begin",
    "BEGIN;",
    "Begin Work",
    "begin transaction",
    "BEGIN TRANSACTION ;",
    "start transaction",
    "START TRANSACTION;",
    "  begin  ",
    "begin\n;\n",
    "start\ttransaction",
];
/// What ends a transaction in which nothing was said.
const ENDS: [&str; 10] = [
    "commit",
    "COMMIT;",
    "rollback",
    "ROLLBACK ;",
    "end",
    "abort",
    "commit work",
    "end transaction",
    "rollback transaction",
    " abort work; ",
];

/// A client that holds the only session, and another one.
async fn taken(endpoint: &str, more: &str) -> (Pooled, Line, Line) {
    let postgres = Postgres::start(Version::Debian).await;
    let direct = postgres.connect().await;
    direct
        .batch_execute("create table told (what text)")
        .await
        .unwrap();
    let pooled = Pooled::with(postgres, &[(endpoint, &pool(1, more))]).await;
    let mut holder = pooled.line(endpoint).await;
    let other = pooled.line(endpoint).await;
    holder.query("begin; select 'holds'").await;
    (pooled, holder, other)
}

fn status(answer: &[Message]) -> char {
    char::from(answer.last().unwrap().body[0])
}

async fn count(pooled: &Pooled) -> String {
    let direct = pooled.direct().await;
    crate::serving::served::value(&direct, "select count(*) from told").await
}

/// The only session is somebody else's all the while.
#[tokio::test]
async fn begin_and_an_end_straight_after_it_need_no_session() {
    let (_pooled, _holder, mut client) = taken("begin-free", "").await;
    for (begin, end) in DEFERRED.iter().zip(ENDS) {
        for way in WAYS {
            let begun = client.ask(&[Said::query(*begin)], way).await;
            assert_eq!((tags(&begun).as_str(), status(&begun)), ("CZ", 'T'), "{begin}");
            let word = if begin.trim_start().to_lowercase().starts_with("start") {
                "START TRANSACTION\0"
            } else {
                "BEGIN\0"
            };
            assert_eq!(begun[0].body, word.as_bytes());
            // What does nothing does nothing here, too.
            let nothing = client.ask(&[Said::query(""), Said::Sync], way).await;
            assert_eq!((tags(&nothing).as_str(), status(&nothing)), ("IZ", 'T'));
            assert_eq!(status(&client.ready().await), 'T');
            let ended = client.ask(&[Said::query(end)], way).await;
            assert_eq!((tags(&ended).as_str(), status(&ended)), ("CZ", 'I'), "{end}");
            let word = match end.trim().to_lowercase().chars().next() {
                Some('c' | 'e') => "COMMIT\0",
                _ => "ROLLBACK\0",
            };
            assert_eq!(ended[0].body, word.as_bytes(), "{end}");
        }
    }
    // Leaves in the middle of it.
    client.query("begin").await;
    client.leave().await;
}

/// What is more than a BEGIN goes to Postgres, and so waits for a session.
#[tokio::test]
async fn whatever_is_more_than_begin_goes_to_postgres() {
    let (pooled, mut holder, _client) = taken("begin-more", "").await;
    let more: Vec<Vec<Said>> = vec![
        vec![Said::query("begin isolation level serializable")],
        vec![Said::query("begin read only")],
        vec![Said::query("begin; select 1")],
        vec![Said::query("begin; begin")],
        vec![Said::query("begin and chain")],
        vec![Said::query("beginn")],
        vec![Said::query("start")],
        [Said::run("begin", &[]).as_slice(), &[Said::Sync]].concat(),
        vec![Said::query("begin"), Said::query("begin")],
        vec![Said::query("begin"), Said::query("commit and chain")],
        vec![
            Said::query("begin"),
            Said::Call {
                function: INT4PL,
                arguments: vec![1, 2],
            },
        ],
        vec![Said::query("commit")],
        vec![Said::query("rollback")],
    ];
    let mut waiting = Vec::new();
    for said in more {
        let mut line = pooled.line("begin-more").await;
        line.say(&said, Way::Whole).await;
        if said.len() == 2 {
            assert_eq!(status(&line.ready().await), 'T');
        }
        assert!(line.is_silent_for(A_WHILE / 3).await, "{said:?} took no session");
        waiting.push(line);
    }
    holder.query("commit").await;
    for mut line in waiting {
        let answer = line.ready().await;
        if status(&answer) != 'I' {
            line.query("rollback").await;
        }
        line.leave().await;
    }
}

/// Whatever comes behind a BEGIN, it reads as it reads from Postgres.
#[tokio::test]
async fn a_deferred_transaction_reads_as_any_other() {
    let mut script = Script::new("begin-reads", 1)
        .before("drop table if exists told; create table told (what text)")
        .query(0, "set app.mark = 'own'");
    let firsts: [Vec<Said>; 14] = [
        vec![Said::query("select current_setting('app.mark', true)")],
        vec![Said::query("insert into told values ('in it')")],
        vec![Said::query("select 1 / 0")],
        vec![Said::query("selec")],
        vec![Said::query("begin")],
        vec![
            Said::query("set transaction isolation level serializable"),
            Said::query("show transaction_isolation"),
        ],
        vec![Said::query("savepoint a"), Said::query("rollback to a")],
        vec![Said::query("commit and chain"), Said::query("select 2")],
        vec![Said::query(""), Said::query("-- nothing")],
        [
            Said::run("select $1::text", &["extended"]).as_slice(),
            &[Said::Sync],
        ]
        .concat(),
        [Said::run("begin", &[]).as_slice(), &[Said::Sync]].concat(),
        [Said::run("commit", &[]).as_slice(), &[Said::Sync]].concat(),
        vec![Said::Call {
            function: INT4PL,
            arguments: vec![20, 22],
        }],
        vec![Said::close(Kind::Statement, "unknown"), Said::Flush, Said::Sync],
    ];
    for first in firsts {
        for end in ["commit", "rollback"] {
            script = script
                .query(0, "begin")
                .query(1, STRANGER)
                .say(0, first.clone())
                .query(0, end)
                .query(1, "select string_agg(what, ',') from told")
                .query(0, "commit");
            // All of it in one write.
            let mut all = vec![Said::query("START TRANSACTION;")];
            all.extend(first.clone());
            all.extend([
                Said::query(end),
                Said::query("rollback"),
                Said::query("select 'behind'"),
            ]);
            script = script.say(0, all).query(1, STRANGER);
        }
    }
    script.play().await;
}

/// It is no transaction any more, or the rest of it would commit by itself.
#[tokio::test]
async fn a_transaction_without_a_session_has_failed_until_it_ends() {
    let (pooled, mut holder, mut client) = taken("begin-none", "wait_timeout = \"150ms\"").await;
    for end in ENDS {
        assert_eq!(status(&client.query("begin").await), 'T');
        let failed = client.query("insert into told values ('lost')").await;
        assert_eq!(
            (errors(&failed), status(&failed)),
            (vec!["53300".to_owned()], 'E')
        );
        for said in [
            vec![Said::query("insert into told values ('lost, too')")],
            vec![Said::query("begin")],
            vec![Said::query("select 1; commit")],
            vec![Said::query("savepoint a")],
            [
                Said::run("insert into told values ('lost')", &[]).as_slice(),
                &[Said::Sync],
            ]
            .concat(),
        ] {
            let answer = client.ask(&said, Way::Whole).await;
            assert_eq!(
                (errors(&answer), status(&answer)),
                (vec!["25P02".to_owned()], 'E'),
                "{said:?}"
            );
        }
        let empty = client.query("").await;
        assert_eq!((tags(&empty).as_str(), status(&empty)), ("IZ", 'E'));
        let ended = client.query(end).await;
        assert_eq!((tags(&ended).as_str(), status(&ended)), ("CZ", 'I'));
        assert_eq!(ended[0].body, b"ROLLBACK\0", "{end}");
    }
    holder.query("commit").await;
    assert_eq!(values(&client.query("select 'goes on'").await), ["goes on"]);
    assert_eq!(count(&pooled).await, "0");
}

/// A whole transaction in one write, and no session for it: nothing of it takes effect, each message is answered.
#[tokio::test]
async fn nothing_of_a_pipelined_transaction_commits_by_itself() {
    let (pooled, _holder, mut client) = taken("begin-pipelined", "wait_timeout = \"150ms\"").await;
    let insert = |what: &str| Said::query(format!("insert into told values ('{what}')"));
    for way in WAYS {
        let all = [
            Said::query("begin"),
            insert("a"),
            insert("b"),
            Said::query("commit"),
        ];
        client.say(&all, way).await;
        let mut told = Vec::new();
        for expected in ['T', 'E', 'E', 'I'] {
            let answer = client.ready().await;
            assert_eq!(status(&answer), expected);
            told.extend(answer);
        }
        assert_eq!(
            (tags(&told).as_str(), errors(&told)),
            ("CZEZEZCZ", vec!["53300".to_owned(), "25P02".to_owned()])
        );
        assert_eq!(told[6].body, b"ROLLBACK\0");
    }
    // The same by the extended protocol: each Sync is answered.
    let run = |sql: &str| [Said::run(sql, &[]).as_slice(), &[Said::Sync]].concat();
    let all = [
        vec![Said::query("begin")],
        run("insert into told values ('c')"),
        run("insert into told values ('d')"),
    ]
    .concat();
    client.say(&all, Way::Whole).await;
    for expected in ['T', 'E', 'E'] {
        assert_eq!(status(&client.ready().await), expected);
    }
    let ended = client.ask(&run("commit"), Way::Whole).await;
    assert_eq!(
        (tags(&ended).as_str(), status(&ended)),
        ("12CZ", 'I'),
        "{ended:?}"
    );
    assert_eq!(ended[2].body, b"ROLLBACK\0");
    assert_eq!(count(&pooled).await, "0");
}

/// While nothing has been said in it, others use the session; its time is that of its first statement.
#[tokio::test]
async fn a_begin_alone_keeps_nobody_waiting() {
    const ENDPOINT: &str = "begin-alone";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut begun = Vec::new();
    for _ in 0..6 {
        let mut line = pooled.line(ENDPOINT).await;
        line.query("begin").await;
        begun.push(line);
    }
    let mut other = pooled.line(ENDPOINT).await;
    let since = values(&other.query("select clock_timestamp()").await)[0].clone();
    for (number, line) in begun.iter_mut().enumerate() {
        let answer = line.query(&format!("select {number}, now() > '{since}'")).await;
        assert_eq!(
            (values(&answer), status(&answer)),
            (vec![number.to_string(), "t".to_owned()], 'T')
        );
        assert_eq!(status(&line.query("commit").await), 'I');
    }
}
