//! Who waits for a server session is served in the order of arrival, however many wait; and nobody waits for ever.

use futures_util::future::join_all;

use super::pooled::{Lending, Pooled};
use crate::harness::{
    raw::{Message, Raw},
    wait::until,
};

const SESSIONS: usize = 10;
const WAITERS: usize = 2000;
/// So many of them want to be served twice.
const AGAIN: usize = 200;
/// So many ask at once; the next do when these wait.
const BLOCK: usize = 20;
/// Nobody overtakes more than those who asked at once with him, and those who were given a session and are slow to
/// use it.
const OVERTAKEN_MAX: usize = BLOCK + 2 * SESSIONS;
/// Who was given a session in time is served late where the system lets his thread wait.
const LATE_MEAN_MAX: usize = 50;

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// A client that has a session and does not give it back.
async fn holder(pooled: &Pooled) -> Raw {
    let mut client = pooled.raw().await;
    client.query("begin").await;
    client.until(b'Z').await;
    client.query("select 1").await;
    assert_eq!(tags(&client.until(b'Z').await), "TDCZ");
    client
}

/// In which place it was served.
fn place(answer: &[Message]) -> usize {
    let row = answer.iter().find(|message| message.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("not served: {answer:?}")).row();
    row[0].as_ref().unwrap().parse().unwrap()
}

#[tokio::test]
async fn two_thousand_waiters_are_served_first_come_first_served() {
    let pooled = Pooled::start("load-fair", &Lending::of(SESSIONS), "").await;
    let mut waiters = pooled.raw_proved(WAITERS).await;
    join_all(waiters.iter_mut().map(|waiter| waiter.until(b'Z'))).await;
    waiters[0].query("create sequence places").await;
    waiters[0].until(b'Z').await;
    let holders = join_all((0..SESSIONS).map(|_| holder(&pooled))).await;

    for (asked, waiter) in (1..).zip(&mut waiters) {
        waiter.query("select nextval('places')").await;
        if asked % BLOCK == 0 {
            until("clients to wait", async || pooled.figures().waiting == asked).await;
        }
    }
    let release = holders.into_iter().map(|mut holder| async move {
        holder.query("commit").await;
        holder.until(b'Z').await;
    });
    // The first ask again as soon as they are served: that is behind all others.
    let ask = (1_usize..).zip(&mut waiters).map(async |(turn, waiter)| {
        let first = place(&waiter.until(b'Z').await);
        if turn > AGAIN {
            return (first, None);
        }
        waiter.query("select nextval('places')").await;
        (first, Some(place(&waiter.until(b'Z').await)))
    });
    let (_, places) = tokio::join!(join_all(release), join_all(ask));

    let turns = || (1_usize..).zip(&places);
    let overtaken = turns()
        .map(|(turn, (first, _))| turn.saturating_sub(*first))
        .max()
        .unwrap();
    let late = turns()
        .map(|(turn, (first, _))| first.saturating_sub(turn))
        .sum::<usize>()
        / WAITERS;
    println!("{overtaken} overtaken at most, {late} places late on average");
    assert!(
        overtaken <= OVERTAKEN_MAX && late <= LATE_MEAN_MAX,
        "{overtaken}, {late}"
    );
    let again = places.iter().filter_map(|(_, second)| *second).min().unwrap();
    assert!(
        again + OVERTAKEN_MAX >= WAITERS,
        "{again}: served twice before others were served once"
    );
    pooled.gateway.server.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_so_and_stays() {
    let lending = Lending {
        sessions: 1,
        wait_timeout: "300ms",
    };
    let pooled = Pooled::start("load-impatient", &lending, "").await;
    let mut waiter = pooled.raw().await;
    let mut holder = holder(&pooled).await;

    waiter.query("select 1").await;
    let answer = waiter.until(b'Z').await;
    assert_eq!(tags(&answer), "EZ");
    assert_eq!(answer[0].sqlstate(), "53300");
    assert_eq!(
        (&*answer[0].fields()[&'S'], &*answer[1].body),
        ("ERROR", &b"I"[..])
    );

    // The wait of its next statement is a wait of its own, and this time the session comes back in time.
    waiter.query("select 2").await;
    holder.query("commit").await;
    holder.until(b'Z').await;
    assert_eq!(tags(&waiter.until(b'Z').await), "TDCZ");
    pooled.gateway.server.stop().await;
}
