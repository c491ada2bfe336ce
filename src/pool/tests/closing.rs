//! How sessions end, and when their end is believed.

use futures_util::FutureExt;
use tokio::time::Instant;

use super::scripted::*;
use crate::pool::CloseReason;

#[tokio::test(start_paused = true)]
async fn a_session_that_is_closed_is_told_so() {
    let house = House::new(1);
    let (lent, mut server) = house.open(&key("shop"), 1);

    house.pool.close(lent);

    assert_terminated(server.told().await);
}

/// Its borrower may have been in the middle of a message: a Terminate would have become a part of it.
#[tokio::test(start_paused = true)]
async fn a_dropped_session_is_closed_without_a_word() {
    let house = House::new(1);
    let (lent, mut server) = house.open(&key("shop"), 1);

    drop(lent);

    assert_eq!(server.told().await, b"");
    assert_eq!(house.closed(CloseReason::Dropped), 1);
    assert_eq!(house.pool.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_comes_free_when_the_socket_is_closed_and_not_before() {
    let house = House::new(1);
    let (lent, mut server) = house.open(&key("shop"), 1);
    house.pool.close(lent);
    let mut slot = Box::pin(house.pool.slot());

    server.told().await;
    assert!(slot.as_mut().now_or_never().is_none());
    assert_eq!(house.pool.figures().closing, 1);
    drop(server);

    let since = Instant::now();
    let _slot = slot.await;
    assert_eq!(since.elapsed().as_secs(), 0);
    assert_eq!(house.pool.figures().closing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_leave_is_not_waited_for_long() {
    let house = House::new(1);
    let (lent, _server) = house.open(&key("shop"), 1);
    house.pool.close(lent);

    let since = Instant::now();
    let _slot = house.pool.slot().await;
    assert_eq!(since.elapsed(), SECOND);
}

/// What the thread of a client does when its runtime ends.
#[test]
fn a_session_that_is_dropped_outside_a_runtime_gives_its_slot_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (house, lent, _server) = runtime.block_on(async {
        let house = House::new(1);
        let (lent, server) = house.open(&key("shop"), 1);
        (house, lent, server)
    });

    drop(lent);

    assert!(house.pool.try_slot().is_some());
    assert_eq!(house.pool.figures().closing, 0);
}

#[tokio::test(start_paused = true)]
async fn before_a_suspend_all_idle_sessions_are_gone() {
    let house = House::new(4);
    let (lent, _lent_server) = house.open(&key("shop"), 1);
    let (kept, kept_server) = house.open(&key("shop"), 2);
    let (evicted, evicted_server) = house.open(&key("mail"), 3);
    let ticket = house.pool.keep(kept, Instant::now());
    house.open_resting(&key("mail"), 4);
    // One that is on its way out already is waited for, too.
    house.pool.close(evicted);
    let mut closing = Box::pin(house.pool.close_idle());

    assert!(closing.as_mut().now_or_never().is_none());
    assert_terminated(kept_server.leave_when_told().await.unwrap());
    assert!(closing.as_mut().now_or_never().is_none());
    evicted_server.leave_when_told();
    let since = Instant::now();
    closing.await;

    assert_eq!(since.elapsed().as_secs(), 0);
    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert_eq!(house.places(), (1, 0, 0));
    assert_eq!(house.pool.figures().closing, 0);
    assert_eq!(house.closed(CloseReason::Suspended), 2);
    // It goes on being used, and comes back as any other.
    let _ticket = house.pool.keep(lent, Instant::now());
    assert_eq!(house.places(), (0, 1, 0));
}

/// Postgres answers 55006 to DROP DATABASE while any session is there, also one that has just been told to leave.
#[tokio::test(start_paused = true)]
async fn a_database_that_is_to_be_dropped_has_no_idle_session() {
    let house = House::new(4);
    let (kept, kept_server) = house.open(&key("shop"), 1);
    let _ticket = house.pool.keep(kept, Instant::now());
    house.open_resting(&key_with("shop", "-c geqo=off"), 2);
    let (other, _other_server) = house.open(&key("mail"), 3);
    let other = house.pool.keep(other, Instant::now());
    let (leaving, _leaving_server) = house.open(&key("mail"), 4);
    house.pool.close(leaving);
    let database = key("shop").database().clone();
    let mut closing = Box::pin(house.pool.close_database(&database));

    assert!(closing.as_mut().now_or_never().is_none());
    kept_server.leave_when_told();
    let since = Instant::now();
    closing.await;

    assert_eq!(
        since.elapsed().as_secs(),
        0,
        "another database's end is not waited for"
    );
    assert_eq!(house.pool.live(), 1);
    assert_eq!(house.closed(CloseReason::Database), 2);
    assert!(house.pool.take_kept(&other, FIRST).is_some());
}

#[tokio::test(start_paused = true)]
async fn retired_sessions_are_closed_now_or_when_they_come_back() {
    let house = House::new(4);
    house.open_resting(&key("shop"), 1);
    let (kept, _kept_server) = house.open(&key("shop"), 2);
    let ticket = house.pool.keep(kept, Instant::now());
    let (lent, _server) = house.open(&key("shop"), 3);
    // Its login may be from before the change.
    let early_slot = house.pool.try_slot().unwrap();

    house.pool.retire();

    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert!(house.take_any(&key("shop")).is_none());
    house.pool.rest(lent);
    let (early, _early_server) = house.open_in(early_slot, &key("shop"), 4);
    let _nothing = house.pool.keep(early, Instant::now());
    assert_eq!(house.pool.live(), 0);
    assert_eq!(house.closed(CloseReason::Retired), 4);

    let slot = house.pool.slot().await;
    let (new, _new_server) = house.open_in(slot, &key("shop"), 5);
    let ticket = house.pool.keep(new, Instant::now());
    assert!(house.pool.take_kept(&ticket, FIRST).is_some());
}

#[tokio::test(start_paused = true)]
async fn outdated_sessions_go_on_for_their_own_clients_alone() {
    let house = House::new(4);
    house.open_resting(&key("shop"), 1);
    let (kept, _kept_server) = house.open(&key("shop"), 2);
    let own = house.pool.keep(kept, Instant::now());
    let (leaving, _leaving_server) = house.open(&key("shop"), 3);
    let leaving = house.pool.keep(leaving, Instant::now());
    let (lent, _server) = house.open(&key("shop"), 4);

    house.pool.outdate();

    assert_eq!(house.closed(CloseReason::Retired), 1, "the one that rests");
    assert!(house.pool.steal(&key("shop"), FIRST, |_| true).is_none());
    let own = house.pool.take_kept(&own, FIRST).expect("its client goes on");
    let own = house.pool.keep(own, Instant::now());
    let lent = house.pool.keep(lent, Instant::now());
    let lent = house.pool.take_kept(&lent, FIRST).expect("so does this one");
    house.pool.rest(lent);
    house.pool.rest_kept(leaving);
    assert!(house.take_any(&key("shop")).is_none());
    assert_eq!(house.closed(CloseReason::Retired), 3);

    let slot = house.pool.slot().await;
    let (new, _new_server) = house.open_in(slot, &key("shop"), 5);
    house.pool.rest(new);
    assert!(
        house.take_any(&key("shop")).is_some(),
        "what was opened afterwards"
    );
    house.pool.retire();
    assert!(house.pool.take_kept(&own, FIRST).is_none());
}

#[tokio::test(start_paused = true)]
async fn sessions_of_the_youngest_startup_settings_are_closed_after_use() {
    let house = House::with(crate::pool::PoolRules {
        startup_variants_max: 2,
        ..rules(8)
    });
    let (first, _one) = house.open(&key_with("shop", "1"), 1);
    let (second, _two) = house.open(&key_with("shop", "2"), 2);
    let (third, _three) = house.open(&key_with("shop", "3"), 3);
    let (same, _four) = house.open(&key_with("mail", "1"), 4);

    let nothing = house.pool.keep(third, Instant::now());
    let tickets = [first, second, same].map(|lent| house.pool.keep(lent, Instant::now()));

    assert!(house.pool.take_kept(&nothing, FIRST).is_none());
    assert_eq!(house.closed(CloseReason::Variants), 1);
    let mut kept = Vec::from(tickets.map(|ticket| house.pool.take_kept(&ticket, FIRST).unwrap()));
    // Once the second setting has no session any more, there is room for another one.
    drop(kept.remove(1));
    let (third, _five) = house.open(&key_with("shop", "3"), 5);
    let ticket = house.pool.keep(third, Instant::now());
    assert!(house.pool.take_kept(&ticket, FIRST).is_some());
}
