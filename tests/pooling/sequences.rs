//! `lastval()` and `currval()` while sessions change hands: a client that has just inserted keeps its session for a
//! while, as long as there is another one to take.

use std::time::Duration;

use super::{
    line::{Line, Way, Who},
    pooled::{Pooled, pool},
    said::Said,
    told::{errors, values},
};
use crate::harness::postgres::{Postgres, SUPERUSER, Version};

const ENDPOINT: &str = "grace";

/// Two server sessions; somebody has asked for a last value.
async fn asked(size: usize, grace: &str) -> (Pooled, Line) {
    let postgres = Postgres::start(Version::Debian).await;
    let make = "create table numbered (id serial, who text)";
    postgres.connect().await.batch_execute(make).await.unwrap();
    let more = format!("sequence_grace = \"{grace}\"");
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(size, &more))]).await;
    let mut inserts = pooled.line(ENDPOINT).await;
    assert_eq!(errors(&inserts.query("select lastval()").await), ["55000"]);
    let insert = "insert into numbered (who) values ('the first'), ('the second')";
    assert!(errors(&inserts.query(insert).await).is_empty());
    (pooled, inserts)
}

/// Of another kind than the superuser without settings: its sessions are no others'.
async fn of_another_kind(pooled: &Pooled) -> Line {
    let who = Who::new(SUPERUSER, "postgres").with("DateStyle", "German");
    pooled.client(ENDPOINT, &who).await.0
}

/// OIDs of `nextval` and `lastval`.
const NEXTVAL: u32 = 1574;
const LASTVAL: u32 = 2559;

#[tokio::test]
async fn who_calls_lastval_by_its_number_reads_no_number_of_others() {
    // Nobody has asked so far: sessions are handed on with their numbers.
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut inserts = pooled.line(ENDPOINT).await;
    let make = "create table numbered (id serial); insert into numbered values (default), (default)";
    assert!(errors(&inserts.query(make).await).is_empty());
    let mut other = pooled.line(ENDPOINT).await;
    let lastval = || Said::Call {
        function: LASTVAL,
        arguments: vec![],
    };
    other.say(&[lastval()], Way::Whole).await;
    assert_eq!(errors(&other.until(b'Z').await.unwrap()), ["55000"]);
    // Its own, also where it has drawn that one so.
    let sequence = inserts
        .query("select 'numbered_id_seq'::regclass::oid::int")
        .await;
    let sequence = values(&sequence)[0].parse().unwrap();
    let nextval = Said::Call {
        function: NEXTVAL,
        arguments: vec![sequence],
    };
    inserts.say(&[nextval, lastval()], Way::Whole).await;
    for _ in 0..2 {
        let told = inserts.until(b'Z').await.unwrap();
        assert_eq!(told[0].body[4..], 3_i64.to_be_bytes(), "{told:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_just_inserted_keeps_its_session() {
    let (pooled, mut inserts) = asked(2, "60s").await;
    let mut reads = pooled.line(ENDPOINT).await;
    reads.query("select 'later than the insert'").await;
    let mut steals = pooled.line(ENDPOINT).await;
    assert_eq!(values(&steals.query("select 1").await), ["1"]);
    assert_eq!(values(&inserts.query("select lastval()").await), ["2"]);

    // One session must be closed for this one: not the older one.
    inserts
        .query("insert into numbered (who) values ('the third')")
        .await;
    reads.query("select 'later'").await;
    let mut other = of_another_kind(&pooled).await;
    assert_eq!(values(&other.query("select 1").await), ["1"]);
    assert_eq!(values(&inserts.query("select lastval()").await), ["3"]);
}

/// Two take turns at the other session.
#[tokio::test]
async fn a_client_that_has_just_inserted_keeps_its_session_while_others_work_in_turn() {
    let (pooled, mut inserts) = asked(2, "60s").await;
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = pooled.line(ENDPOINT).await;
        others.push(tokio::spawn(async move {
            loop {
                assert_eq!(values(&other.query("select 1 from pg_sleep(0.001)").await), ["1"]);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }
    let mut lost = 0;
    for number in 3..23 {
        let insert = "insert into numbered (who) values ('one more')";
        assert!(errors(&inserts.query(insert).await).is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let told = inserts.query("select lastval()").await;
        match errors(&told).is_empty() {
            true => assert_eq!(values(&told), [number.to_string()]),
            false => lost += 1,
        }
    }
    // On a machine that is busy a moment is longer.
    assert!(lost <= 8, "{lost} of 20");
    others.iter().for_each(|other| other.abort());
}

#[tokio::test]
async fn the_last_session_is_taken_from_a_client_that_has_just_inserted() {
    let (pooled, mut inserts) = asked(1, "60s").await;
    let mut other = of_another_kind(&pooled).await;
    assert_eq!(values(&other.query("select 1").await), ["1"]);
    assert_eq!(errors(&inserts.query("select lastval()").await), ["55000"]);
}

#[tokio::test]
async fn without_grace_the_session_that_was_used_first_is_taken() {
    let (pooled, mut inserts) = asked(2, "0s").await;
    let mut reads = pooled.line(ENDPOINT).await;
    reads.query("select 'later than the insert'").await;
    let mut other = of_another_kind(&pooled).await;
    assert_eq!(values(&other.query("select 1").await), ["1"]);
    assert_eq!(errors(&inserts.query("select lastval()").await), ["55000"]);
}
