//! Waiting for a session that others have: in order, with an end, and without harm to anybody.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    line::{Line, Way, Who},
    pooled::{Pooled, pool},
    said::{Said, encoded},
    told::{errors, tags, values},
};
use crate::{
    harness::{
        postgres::{Postgres, Version},
        raw::Message,
        wait::until,
    },
    serving::served::Key,
};

const A_WHILE: Duration = Duration::from_millis(150);

async fn with(endpoint: &str, size: usize, more: &str) -> Pooled {
    let postgres = Postgres::start(Version::Debian).await;
    Pooled::with(postgres, &[(endpoint, &pool(size, more))]).await
}

/// A client that is in a transaction.
async fn holder(pooled: &Pooled, endpoint: &str) -> Line {
    let mut line = pooled.line(endpoint).await;
    line.query("begin; select 'holds'").await;
    line
}

/// What tells who was served when.
const ARRIVED: &str = "arrived (at serial, number int)";

#[tokio::test]
async fn who_came_first_is_served_first() {
    const ENDPOINT: &str = "waiting-order";
    let pooled = with(ENDPOINT, 1, "").await;
    let mut holder = holder(&pooled, ENDPOINT).await;
    let direct = pooled.direct_with(ARRIVED).await;
    let mut waiting = Vec::new();
    for number in 0..12 {
        let mut line = pooled.line(ENDPOINT).await;
        let insert = format!("insert into arrived (number) values ({number})");
        line.say(&[Said::query(insert)], Way::Whole).await;
        // Nothing shows that it waits.
        assert!(line.is_silent_for(A_WHILE / 5).await);
        waiting.push(line);
    }

    holder.query("commit").await;
    for line in &mut waiting {
        line.ready().await;
    }

    let sql = "select array_agg(number order by at) = array_agg(number order by number) from arrived";
    assert!(direct.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    pooled.has_sessions(1).await;
}

/// What a waiting client says meanwhile, or is told because it waits for long, costs it nothing of its place.
#[tokio::test]
async fn who_says_more_or_is_told_why_it_waits_keeps_its_place() {
    const ENDPOINT: &str = "waiting-told";
    let pooled = with(ENDPOINT, 1, "").await;
    let mut holder = holder(&pooled, ENDPOINT).await;
    let direct = pooled.direct_with(ARRIVED).await;
    let insert = |number: u8| Said::query(format!("insert into arrived (number) values ({number})"));
    let mut waiting = Vec::new();
    for number in 0..3 {
        let mut line = pooled.line(ENDPOINT).await;
        line.say(&[insert(number)], Way::Whole).await;
        assert!(line.is_silent_for(A_WHILE).await);
        waiting.push(line);
    }
    waiting[1].say(&[insert(4)], Way::Whole).await;

    let notices = waiting[0].until(b'N').await.unwrap();
    let mut latest = pooled.line(ENDPOINT).await;
    latest.say(&[insert(3)], Way::Whole).await;
    assert!(latest.is_silent_for(A_WHILE).await);
    waiting.push(latest);
    holder.query("commit").await;

    let notice = String::from_utf8_lossy(&notices[0].body);
    assert!(
        notice.contains("waiting for a server session, waited 2 s"),
        "{notice}"
    );
    for line in &mut waiting {
        assert_eq!(errors(&line.ready().await), [""; 0]);
    }
    assert_eq!(errors(&waiting[1].ready().await), [""; 0]);
    let sql = "select string_agg(number::text, ' ' order by at) from arrived";
    // What was said while it waited is said together.
    assert_eq!(crate::serving::served::value(&direct, sql).await, "0 1 4 2 3");
    pooled.has_sessions(1).await;
}

/// One message and ReadyForQuery for each request, whatever it was; the client stays.
#[tokio::test]
async fn a_wait_that_is_too_long_is_an_error_of_that_request_alone() {
    const ENDPOINT: &str = "waiting-long";
    let pooled = with(ENDPOINT, 1, "wait_timeout = \"200ms\"").await;
    let mut holder = holder(&pooled, ENDPOINT).await;
    let mut client = pooled.line(ENDPOINT).await;
    let run = |sql: &str| Said::run(sql, &[]).to_vec();
    let pipeline = [
        run("select 1"),
        run("select 2"),
        vec![Said::query("select 'ignored'"), Said::Sync],
        run("select 3"),
        vec![Said::Sync, Said::query("select 4")],
    ]
    .concat();
    for way in [Way::Whole, Way::Messages, Way::Bytes] {
        let since = Instant::now();
        client.say(&pipeline, way).await;
        for _ in 0..3 {
            let answer = client.ready().await;
            assert_eq!(
                (tags(&answer).as_str(), errors(&answer)),
                ("EZ", vec!["53300".to_owned()])
            );
            let fields = answer[0].fields();
            assert_eq!(fields[&'S'], "ERROR");
            assert_eq!(answer[1].body, b"I");
        }
        assert!(
            since.elapsed() >= Duration::from_millis(200),
            "{:?}",
            since.elapsed()
        );
        assert!(
            client.is_silent_for(A_WHILE).await,
            "it is told more than it asked"
        );
    }
    holder.query("commit").await;
    let answer = client
        .ask(&[run("select 'goes on'"), vec![Said::Sync]].concat(), Way::Whole)
        .await;
    assert_eq!(values(&answer), ["goes on"]);
}

/// Whoever has given up never receives a session: it goes to the next.
#[tokio::test]
async fn a_waiter_that_is_gone_gets_no_session() {
    const ENDPOINT: &str = "waiting-gone";
    let pooled = with(ENDPOINT, 1, "").await;
    let direct = pooled.direct_with("told (what text)").await;
    for _ in 0..5 {
        let mut holder = holder(&pooled, ENDPOINT).await;
        let mut gone = Vec::new();
        for _ in 0..5 {
            let mut line = pooled.line(ENDPOINT).await;
            line.say(
                &[Said::query("insert into told values ('of one who is gone')")],
                Way::Whole,
            )
            .await;
            assert!(line.is_silent_for(A_WHILE / 5).await);
            gone.push(line);
        }
        let mut patient = pooled.line(ENDPOINT).await;
        patient.say(&[Said::query("select 'patient'")], Way::Whole).await;
        assert!(patient.is_silent_for(A_WHILE).await);

        drop(gone);
        sleep(A_WHILE / 3).await;
        holder.query("commit").await;

        assert_eq!(values(&patient.ready().await), ["patient"]);
    }
    // Sent whole and never run: nobody was there any more when their turn would have come.
    let count = crate::serving::served::value(&direct, "select count(*) from told").await;
    assert_eq!(count, "0");
    pooled.has_sessions(1).await;
}

/// Whoever had said Terminate behind a statement and left before there was a session for it was taken for one that had just
/// gone: the statement was never run.
#[tokio::test]
async fn all_that_was_said_before_terminate_takes_effect_though_it_had_to_wait() {
    const ENDPOINT: &str = "waiting-terminate";
    let pooled = with(ENDPOINT, 1, "").await;
    let direct = pooled.direct_with("told (what text)").await;
    let mut holder = holder(&pooled, ENDPOINT).await;
    let extended = [
        Said::run("insert into told values ('extended')", &[]).as_slice(),
        &[Said::Sync],
    ]
    .concat();
    for said in [vec![Said::query("insert into told values ('simple')")], extended] {
        let mut line = pooled.line(ENDPOINT).await;
        let mut bytes = encoded(&said);
        bytes.extend_from_slice(b"X\0\0\0\x04");
        line.bytes(&bytes).await;
        drop(line);
    }
    // It has to be noticed that they have left.
    sleep(A_WHILE).await;
    holder.query("commit").await;

    until("both statements to take effect", async || {
        crate::serving::served::value(&direct, "select count(distinct what) from told").await == "2"
    })
    .await;
    pooled.has_sessions(1).await;
}

/// Those who give up and those who are served, in any order: all sessions come free in the end.
#[tokio::test]
async fn sessions_are_not_lost_among_those_who_give_up() {
    const ENDPOINT: &str = "waiting-churn";
    let pooled = with(ENDPOINT, 2, "wait_timeout = \"40ms\"").await;
    let mut lines = Vec::new();
    for _ in 0..16 {
        lines.push(pooled.line(ENDPOINT).await);
    }
    let runs = lines.iter_mut().enumerate().map(|(number, line)| async move {
        let (mut served, mut refused) = (0, 0);
        for turn in 0..20 {
            let sql = format!("select {number}, {turn} from pg_sleep(0.01)");
            let answer = line.query(&sql).await;
            match errors(&answer).first().map(String::as_str) {
                None => {
                    assert_eq!(values(&answer), [number.to_string(), turn.to_string()]);
                    served += 1;
                }
                Some("53300") => refused += 1,
                Some(other) => panic!("{other}"),
            }
        }
        (served, refused)
    });
    let counts = futures_util::future::join_all(runs).await;
    let (served, refused) = counts
        .iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(
        served > 40 && refused > 40,
        "{served} served, {refused} refused: this test proves little"
    );
    let (first, rest) = lines.split_at_mut(1);
    let both = [
        first[0].query("begin; select 1").await,
        rest[0].query("begin; select 2").await,
    ];
    assert!(
        both.iter().all(|answer| errors(answer).is_empty()),
        "a session was lost"
    );
}

/// Waits for a session that somebody else has; the wait is over, the client goes on.
#[tokio::test]
async fn a_client_that_waits_for_a_session_can_be_cancelled() {
    const ENDPOINT: &str = "cancel-waits";
    let pooled = with(ENDPOINT, 1, "").await;
    let mut holder = pooled.line(ENDPOINT).await;
    let who = Who::new("postgres", "postgres");
    let (mut waiter, key) = pooled.client(ENDPOINT, &who).await;
    let waits: [Vec<Said>; 3] = [
        vec![Said::query("select 'too early'")],
        [Said::run("select 'too early'", &[]).as_slice(), &[Said::Sync]].concat(),
        vec![Said::query("begin"), Said::query("select 'too early'")],
    ];
    for said in waits {
        holder.query("begin; select 1").await;
        waiter.say(&said, Way::Messages).await;
        let begun = said.len() == 2;
        if begun {
            assert_eq!(tags(&waiter.ready().await), "CZ");
        }
        // It may not have begun to wait when the first cancel comes.
        let answer = cancelled(&pooled, &mut waiter, &key).await;
        assert_eq!(
            (tags(&answer).as_str(), errors(&answer)),
            ("EZ", vec!["57014".to_owned()])
        );
        assert_eq!(answer[1].body, if begun { b"E" } else { b"I" });
        if begun {
            assert_eq!(errors(&waiter.query("select 1").await), ["25P02"]);
            assert_eq!(tags(&waiter.query("rollback").await), "CZ");
        }
        holder.query("commit").await;
        assert_eq!(values(&waiter.query("select 'goes on'").await), ["goes on"]);
        assert_eq!(values(&holder.query("select 'unharmed'").await), ["unharmed"]);
    }
}

/// Cancels until it is answered.
async fn cancelled(pooled: &Pooled, client: &mut Line, key: &Key) -> Vec<Message> {
    let done = AtomicBool::new(false);
    let cancels = async {
        while !done.load(Ordering::Relaxed) {
            pooled.cancel(key).await;
            sleep(Duration::from_millis(5)).await;
        }
    };
    let answer = async {
        let answer = client.ready().await;
        done.store(true, Ordering::Relaxed);
        answer
    };
    tokio::join!(answer, cancels).0
}
