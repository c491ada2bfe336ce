//! A ledger under chaos: clients move money between accounts through few server sessions while these are ended, and
//! their server is suspended and killed.
//!
//! Whoever was told that his transfer is done finds it, once. Whoever was told that it failed never finds it. Where
//! nobody can know (08007; or the server's own last word came in place of the answer to a COMMIT) it is there once
//! or not at all. No money comes into being or is lost, and nobody waits without an end.

mod audit;
mod clerk;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{sync::RwLock, time::sleep};
use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    chance::Chance,
    chaos::{Blow, Chaos},
    client::Session,
    course::Course,
    pooled::{Lending, Pooled},
};
use crate::harness::{logs, wait::PATIENCE};
use audit::{Books, Entry, Outcome};
use clerk::{Clerk, Report, Way, Weather};

const CLERKS: u64 = 32;
const SESSIONS: usize = 4;
/// So many transfers must succeed.
const TRANSFERS_MIN: usize = 200;
const ACCOUNTS: i64 = 20;
/// What is in each of them at first.
const OPENING: i64 = 1000;

const SCHEMA: &str = "
    create table accounts (id bigint primary key, balance bigint not null);
    create table journal (id bigint, debtor bigint, creditor bigint, amount bigint);
    create function transfer(bigint, bigint, bigint, bigint) returns void language plpgsql as $$
    begin
      update accounts set balance = balance + case id when $2 then -$4 else $4 end where id = least($2, $3);
      update accounts set balance = balance + case id when $2 then -$4 else $4 end where id = greatest($2, $3);
      insert into journal values ($1, $2, $3, $4);
    end $$;";

async fn open_books(pooled: &Pooled) {
    let first = pooled.gateway.connect(pooled.endpoint).await;
    let accounts = format!("insert into accounts select n, {OPENING} from generate_series(1, {ACCOUNTS}) n");
    first.batch_execute(SCHEMA).await.unwrap();
    first.batch_execute(&accounts).await.unwrap();
}

/// The books, as soon as the server is back from the last blow: until then pgwake says 57P03, or 08006 to who has asked one of
/// its processes that had not quite died yet.
async fn read_books(pooled: &Pooled) -> Books {
    let began = Instant::now();
    loop {
        let (code, said) = match Session::connect(&pooled.config(), &pooled.gateway.authority).await {
            Ok(session) => match read_books_once(&session.client).await {
                Ok(books) => return books,
                Err(error) => (
                    error.code().map_or("", SqlState::code).to_owned(),
                    format!("{error:?}"),
                ),
            },
            Err(told) => (told.code.clone(), told.code),
        };
        let is_for_now = ["57P03", "08006"].contains(&&*code);
        assert!(is_for_now, "the books cannot be read: {code}, {said}");
        if began.elapsed() > PATIENCE {
            let lines = logs::of_endpoint(pooled.endpoint);
            let pgwake = lines.iter().rev().filter(|line| line.target != "pgwake::access");
            let last: Vec<_> = pgwake.take(10).map(|line| &line.fields).collect();
            panic!("the server is not back after {PATIENCE:?}: {said}; the last lines first: {last:#?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn read_books_once(client: &Client) -> Result<Books, Error> {
    let journal = client.query("select id, debtor, creditor, amount from journal", &[]);
    let balances = client.query("select id, balance from accounts", &[]);
    let journal = journal.await?;
    Ok(Books {
        opening: OPENING,
        journal: journal
            .iter()
            .map(|row| Entry {
                id: row.get(0),
                debtor: row.get(1),
                creditor: row.get(2),
                amount: row.get(3),
            })
            .collect(),
        balances: balances
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    })
}

/// Lets clerks and chaos loose at once; gives what the clerks were told.
async fn run(pooled: &Pooled, course: &Course, blows: &[Blow], rest_millis: u64) -> Report {
    run_with(pooled, course, blows, (rest_millis, CLERKS), |clerk, _| clerk).await
}

/// The same with so many clerks, each of them made what it is by its number.
async fn run_with(
    pooled: &Pooled,
    course: &Course,
    blows: &[Blow],
    (rest_millis, clerks): (u64, u64),
    instruct: impl for<'a> Fn(Clerk<'a>, u64) -> Clerk<'a>,
) -> Report {
    let chance = Chance::new();
    let traffic = RwLock::new(());
    let chaos = Chaos {
        pooled,
        traffic: &traffic,
        blows,
        rest_millis,
        random: chance.of(0),
        course,
    };
    let clerk = |number| {
        let clerk = Clerk::new(pooled, &traffic, number, chance.of(number));
        instruct(clerk, number).work(course)
    };
    let (reports, hits) = tokio::join!(join_all((1..=clerks).map(clerk)), chaos.reign());
    println!("blows {hits:?}; {} wakes", pooled.wakes());
    let mut all = Report::default();
    reports.into_iter().for_each(|report| all.merge(report));
    all
}

/// The books against what the clerks were told; and whether enough happened for that to mean anything.
async fn settle(pooled: &Pooled, course: &Course, report: &Report) {
    let books = read_books(pooled).await;
    let count = |outcome| {
        report
            .claims
            .values()
            .filter(|claimed| **claimed == outcome)
            .count()
    };
    let (done, undone, unknown) = (
        count(Outcome::Done),
        count(Outcome::Undone),
        count(Outcome::Unknown),
    );
    println!("{done} done, {undone} failed, {unknown} unknown");
    print!("{}", report.heard);

    let faults = audit::audit(&report.claims, &books);
    assert!(
        faults.is_empty(),
        "{} faults, the first: {:#?}",
        faults.len(),
        &faults[..faults.len().min(10)]
    );
    assert!(
        report.heard.unlisted.is_empty(),
        "errors that are not listed: {:?}",
        report.heard.unlisted
    );
    course.check();
}

#[tokio::test]
async fn books_are_right_while_sessions_are_ended_and_the_compute_is_suspended() {
    let pooled = Pooled::start("ledger-ended", &Lending::of(SESSIONS), "suspend_after = \"50ms\"").await;
    open_books(&pooled).await;

    let blows = [
        Blow::EndOne,
        Blow::EndOne,
        Blow::EndOne,
        Blow::EndAll,
        Blow::Suspend,
        Blow::Lull,
    ];
    let course = Course::new(TRANSFERS_MIN, 15);
    let report = run(&pooled, &course, &blows, 60).await;

    settle(&pooled, &course, &report).await;
    pooled.gateway.server.stop().await;
}

#[tokio::test]
async fn books_are_right_while_the_server_is_killed() {
    let pooled = Pooled::start(
        "ledger-killed",
        &Lending::of(SESSIONS),
        "suspend_after = \"50ms\"",
    )
    .await;
    open_books(&pooled).await;

    let blows = [
        Blow::KillBackend,
        Blow::KillPostmaster,
        Blow::KillAll,
        Blow::EndOne,
        Blow::Suspend,
        Blow::Lull,
    ];
    let course = Course::new(TRANSFERS_MIN, 8);
    let report = run(&pooled, &course, &blows, 400).await;

    settle(&pooled, &course, &report).await;
    pooled.gateway.server.stop().await;
}

/// Clients of both kinds of pooling rest for about as long as it takes until their compute is suspended, so that they
/// come back at any moment of a suspend and of a wake; operators order suspends as well.
async fn race(endpoint: &'static str, weather: Weather, blows: &[Blow]) {
    let keys = "suspend_after = \"30ms\"\nsuspend_idle_sessions = true";
    let pooled = Pooled::start(endpoint, &Lending::of(SESSIONS), keys).await;
    open_books(&pooled).await;

    let course = Course::for_seconds(4, 40, 6);
    let ways = [Way::Sessions, Way::Transactions];
    let report = run_with(&pooled, &course, blows, (60, 4), |clerk, number| {
        let way = ways[usize::try_from(number).unwrap() % ways.len()];
        clerk.resting(way, weather, 120)
    })
    .await;

    settle(&pooled, &course, &report).await;
    let wakes = pooled.wakes();
    assert!(wakes > 6, "only {wakes} wakes: this proves little");
    pooled.gateway.server.stop().await;
}

#[tokio::test]
async fn suspends_that_race_with_clients_are_noticed_by_nobody_but_idle_sessions() {
    race("ledger-races", Weather::Calm, &[Blow::Order]).await;
}

#[tokio::test]
async fn books_are_right_while_suspends_and_crashes_race_with_clients() {
    let blows = [&[Blow::Order; 9][..], &[Blow::KillPostmaster]].concat();
    race("ledger-races-rough", Weather::Rough, &blows).await;
}

/// Who waits too long for a session hears that nothing was done, also in the middle of a pipelined transaction.
#[tokio::test]
async fn books_are_right_where_sessions_are_too_few() {
    let lending = Lending {
        sessions: 1,
        wait_timeout: "50ms",
    };
    let pooled = Pooled::start("ledger-crowded", &lending, "").await;
    open_books(&pooled).await;

    let course = Course::new(TRANSFERS_MIN, 5);
    let report = run(&pooled, &course, &[Blow::EndOne, Blow::Lull], 300).await;

    settle(&pooled, &course, &report).await;
    pooled.gateway.server.stop().await;
}
