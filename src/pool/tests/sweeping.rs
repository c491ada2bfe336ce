//! What the clock does to sessions.

use futures_util::FutureExt;
use tokio::{
    task::yield_now,
    time::{Duration, Instant, advance, sleep},
};

use super::scripted::*;
use crate::pool::{CloseReason, PoolRules, session::Age};

/// Lets tasks that are due do their work.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_closed_in_time_and_the_sweeper_ends_with_it() {
    let house = House::new(3);
    assert_eq!(house.tasks.len(), 0);
    house.open_resting(&key("shop"), 1);
    let (kept, mut server) = house.open(&key("shop"), 2);
    sleep(100 * SECOND).await;
    let ticket = house.pool.keep(kept, Instant::now());
    assert_eq!(house.tasks.len(), 1);

    sleep(499 * SECOND).await;
    assert_eq!(house.pool.live(), 2);
    sleep(2 * SECOND).await;
    assert_eq!(house.places(), (0, 1, 0));
    assert_terminated(server.told().await);
    drop(server);
    settle().await;

    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert_eq!(house.closed(CloseReason::Idle), 2);
    assert_eq!(house.tasks.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_used_is_not_idle() {
    let house = House::new(1);
    let (mut lent, _server) = house.open(&key("shop"), 1);
    for _ in 0..5 {
        let ticket = house.pool.keep(lent, Instant::now());
        sleep(500 * SECOND).await;
        lent = house.pool.take_kept(&ticket, FIRST).unwrap();
    }
    assert_eq!(house.closed(CloseReason::Idle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_open_for_long_enough_is_closed_when_it_comes_back() {
    let house = House::new(2);
    let (lent, _server) = house.open(&key("shop"), 1);
    let (other, _other_server) = house.open(&key("shop"), 2);
    advance(3599 * SECOND).await;
    // Its share of the lifetime may have been the whole.
    advance(2 * SECOND).await;

    let ticket = house.pool.keep(lent, Instant::now());
    house.pool.rest(other);

    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert_eq!(house.closed(CloseReason::Lifetime), 2);
    assert_eq!(house.tasks.len(), 2, "two that are closed, and no sweeper");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_with_its_lifetime() {
    let house = House::with(PoolRules {
        lifetime: 100 * SECOND,
        ..rules(2)
    });
    house.open_resting(&key("shop"), 1);
    sleep(89 * SECOND).await;
    assert_eq!(house.pool.live(), 1);
    sleep(12 * SECOND).await;
    assert_eq!(house.closed(CloseReason::Lifetime), 1);
}

#[tokio::test(start_paused = true)]
async fn lifetimes_differ_by_up_to_a_tenth() {
    let now = Instant::now();
    let lives: Vec<Duration> = (0..200).map(|_| Age::new(now).end(1000 * SECOND) - now).collect();
    assert!(
        lives
            .iter()
            .all(|life| (900 * SECOND..=1000 * SECOND).contains(life))
    );
    let (shortest, longest) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
    assert!(*longest - *shortest > 50 * SECOND, "{shortest:?} to {longest:?}");
    assert!(Age::new(now).end(Duration::MAX) > now);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_idle_time_holds_at_once() {
    let house = House::new(1);
    house.open_resting(&key("shop"), 1);
    sleep(10 * SECOND).await;

    house.pool.set_rules(PoolRules {
        idle_time: 5 * SECOND,
        ..rules(1)
    });
    settle().await;

    assert_eq!(house.closed(CloseReason::Idle), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_will_end_earlier_than_the_others_wakes_the_sweeper() {
    let house = House::with(PoolRules {
        lifetime: 1000 * SECOND,
        ..rules(2)
    });
    let (old, _server) = house.open(&key("shop"), 1);
    sleep(890 * SECOND).await;
    // The sweeper is to look after this one in ten minutes.
    house.open_resting(&key("shop"), 2);
    settle().await;
    let _ticket = house.pool.keep(old, Instant::now());

    sleep(111 * SECOND).await;

    assert_eq!(house.closed(CloseReason::Lifetime), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_idle_sessions_are_closed_there_is_nothing_to_wait_for() {
    let house = House::new(3);
    let (_lent, _server) = house.open(&key("shop"), 1);
    house.open_resting(&key("shop"), 2);
    house.pool.lower_to_live();
    house.pool.close_idle().await;

    house.tasks.close();
    let since = Instant::now();
    house.tasks.wait().await;

    assert_eq!(since.elapsed().as_secs(), 0);
    assert_eq!(house.pool.figures().ceiling, 3);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_closes_its_sessions_and_ends_its_sweeper() {
    let house = House::new(3);
    house.open_resting(&key("shop"), 1);
    let (kept, mut server) = house.open(&key("shop"), 2);
    let _ticket = house.pool.keep(kept, Instant::now());

    let House { pool, tasks } = house;
    drop(pool);

    assert_eq!(server.told().await, b"");
    settle().await;
    assert_eq!(tasks.len(), 0);
    tasks.close();
    assert!(tasks.wait().now_or_never().is_some());
}
