//! How many may exist and be in use, and who comes next.

use std::{cell::RefCell, rc::Rc};

use futures_util::FutureExt;
use tokio::{
    task::LocalSet,
    time::{Instant, advance, sleep},
};

use super::scripted::*;
use crate::pool::{CloseReason, PoolRules};

#[tokio::test(start_paused = true)]
async fn two_thousand_who_wait_for_ten_sessions_are_served_in_order() {
    let house = Rc::new(House::new(10));
    let served = Rc::new(RefCell::new(Vec::new()));
    let in_use = Rc::new(RefCell::new(0));
    let clients = LocalSet::new();
    for client in 0..2000 {
        let (house, served, in_use) = (house.clone(), served.clone(), in_use.clone());
        clients.spawn_local(async move {
            let _permit = house.pool.permit(Instant::now()).await;
            served.borrow_mut().push(client);
            *in_use.borrow_mut() += 1;
            assert!(*in_use.borrow() <= 10);
            sleep(SECOND).await;
            *in_use.borrow_mut() -= 1;
        });
    }
    clients.run_until(sleep(SECOND / 2)).await;
    assert_eq!(house.pool.waiting(), 1990);

    clients.await;

    assert!(served.borrow().iter().copied().eq(0..2000));
    let figures = house.pool.figures();
    assert_eq!((figures.waiting, figures.waits.count), (0, 1990));
    assert_eq!(figures.waits.max, 199 * SECOND);
    assert_eq!(figures.waits.mean(), 100 * SECOND);
}

/// PROTOCOL 9: a permit that is given to a waiter in the instant in which it gives up goes to the next.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_gave_up_gets_nothing() {
    let house = House::new(1);
    let held = house.pool.permit(Instant::now()).await;
    let mut gives_up = Box::pin(house.pool.permit(Instant::now()));
    let mut next = Box::pin(house.pool.permit(Instant::now()));
    assert!(gives_up.as_mut().now_or_never().is_none());
    assert!(next.as_mut().now_or_never().is_none());
    assert_eq!(house.pool.waiting(), 2);

    drop(held);
    drop(gives_up);

    assert!(house.pool.try_permit().is_none(), "nobody passes those who wait");
    let _permit = next.now_or_never().expect("it is the next one's turn");
    assert_eq!(house.pool.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_needs_a_slot_gets_that_of_the_session_that_was_used_least_recently() {
    let house = House::new(4);
    house.open_resting(&key("shop"), 1);
    let (kept, server) = house.open(&key("mail"), 2);
    server.leave_when_told();
    let ticket = house.pool.keep(kept, Instant::now());
    house.open_resting(&key("shop"), 3);
    let (_lent, _server) = house.open(&key("shop"), 4);

    let since = Instant::now();
    let first = house.pool.slot().await;
    assert_eq!(house.resting(&key("shop")), [3]);
    let second = house.pool.slot().await;
    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    let third = house.pool.slot().await;

    assert_eq!(since.elapsed().as_secs(), 0);
    assert_eq!(house.places(), (1, 0, 0));
    assert_eq!(house.closed(CloseReason::Evicted), 3);
    assert!(house.pool.slot().now_or_never().is_none());
    drop((first, second, third));
    assert!(house.pool.try_slot().is_some());
}

#[tokio::test(start_paused = true)]
async fn where_none_is_idle_the_next_session_that_comes_back_makes_room() {
    let house = House::new(2);
    let (first, server) = house.open(&key("shop"), 1);
    let told = server.leave_when_told();
    let (second, _second_server) = house.open(&key("shop"), 2);
    let mut slot = Box::pin(house.pool.slot());
    assert!(slot.as_mut().now_or_never().is_none());

    let ticket = house.pool.keep(first, Instant::now());
    let kept = house.pool.keep(second, Instant::now());

    let since = Instant::now();
    let _slot = slot.await;
    assert_eq!(since.elapsed().as_secs(), 0);
    assert_terminated(told.await.unwrap());
    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert!(house.pool.take_kept(&kept, FIRST).is_some(), "one is enough");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_left_was_used_then() {
    let house = House::new(2);
    let (kept, _server) = house.open(&key("shop"), 1);
    let ticket = house.pool.keep(kept, Instant::now());
    house.open_resting(&key("mail"), 2);
    house.pool.rest_kept(ticket);

    let _slot = house.pool.slot().await;

    assert_eq!(house.resting(&key("mail")), [0; 0]);
    assert_eq!(house.resting(&key("shop")), [1]);
}

/// The slot that comes free first ends with the lower limit; the waiter still has to be served.
#[tokio::test(start_paused = true)]
async fn a_waiter_is_served_after_the_limit_was_lowered() {
    let house = House::new(3);
    let [first, second, third] = [1, 2, 3].map(|carried| {
        let (lent, server) = house.open(&key("shop"), carried);
        server.leave_when_told();
        lent
    });
    let mut slot = Box::pin(house.pool.slot());
    assert!(slot.as_mut().now_or_never().is_none());
    assert_eq!(house.pool.figures().waiting_for_slot, 1);

    house.pool.set_rules(rules(2));
    drop(first);
    let kept = house.pool.keep(second, Instant::now());

    let since = Instant::now();
    let _slot = slot.await;
    assert_eq!(since.elapsed().as_secs(), 0);
    assert!(house.pool.take_kept(&kept, FIRST).is_none());
    assert_eq!(house.pool.live(), 1);
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_closed_for_a_waiter_that_gave_up() {
    let house = House::new(1);
    let (lent, _server) = house.open(&key("shop"), 1);
    let mut slot = Box::pin(house.pool.slot());
    assert!(slot.as_mut().now_or_never().is_none());
    drop(slot);

    let ticket = house.pool.keep(lent, Instant::now());

    assert!(house.pool.take_kept(&ticket, FIRST).is_some());
}

#[tokio::test(start_paused = true)]
async fn few_connect_at_once() {
    let house = House::with(PoolRules {
        connects_at_once: 1,
        ..rules(8)
    });
    let connecting = house.pool.connecting().await;
    let mut next = Box::pin(house.pool.connecting());
    assert!(next.as_mut().now_or_never().is_none());
    drop(connecting);
    assert!(next.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_closes_idle_sessions_now_and_others_as_they_come_back() {
    let house = House::new(3);
    let permits = [(); 3].map(|()| house.pool.try_permit().unwrap());
    let (kept, server) = house.open(&key("shop"), 1);
    server.leave_when_told();
    let (first, server) = house.open(&key("shop"), 2);
    server.leave_when_told();
    let (second, _server) = house.open(&key("shop"), 3);
    let _ticket = house.pool.keep(kept, Instant::now());

    house.pool.set_rules(rules(1));
    assert_eq!(house.pool.live(), 2);
    house.pool.rest(first);
    assert_eq!(house.pool.live(), 1);
    let ticket = house.pool.keep(second, Instant::now());
    assert!(house.pool.take_kept(&ticket, FIRST).is_some());

    drop(permits);
    let permit = house.pool.try_permit();
    assert!(permit.is_some() && house.pool.try_permit().is_none());
    house.pool.set_rules(rules(2));
    assert!(house.pool.try_permit().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_room_is_not_asked_for_more_for_a_while() {
    let house = House::new(5);
    let (_lent, _server) = house.open(&key("shop"), 1);
    let (kept, server) = house.open(&key("shop"), 2);
    server.leave_when_told();
    let _ticket = house.pool.keep(kept, Instant::now());
    let (slot, permit) = (house.pool.try_slot().unwrap(), house.pool.try_permit().unwrap());

    house.pool.lower_to_live();
    drop((slot, permit));

    assert_eq!(house.pool.figures().ceiling, 2);
    assert!(house.pool.try_slot().is_none());
    let permits = [house.pool.try_permit().unwrap(), house.pool.try_permit().unwrap()];
    let since = Instant::now();
    let third = house.pool.permit(Instant::now()).await;
    assert_eq!(since.elapsed(), 5 * SECOND);
    assert_eq!(house.pool.figures().ceiling, 5);
    let slots: Vec<_> = std::iter::from_fn(|| house.pool.try_slot()).collect();
    assert_eq!(slots.len(), 3);
    drop((permits, third));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_under_way_shows_that_there_is_room() {
    let house = House::new(3);
    let (_lent, _server) = house.open(&key("shop"), 1);
    let [fails, succeeds] = [house.pool.try_slot().unwrap(), house.pool.try_slot().unwrap()];

    house.pool.lower_to_live();
    drop(fails);
    let (second, _second_server) = house.open_in(succeeds, &key("shop"), 2);

    let ticket = house.pool.keep(second, Instant::now());
    assert!(house.pool.take_kept(&ticket, FIRST).is_some());
    assert_eq!(house.pool.figures().ceiling, 2);
    assert!(house.pool.try_slot().is_none());
    advance(6 * SECOND).await;
    assert!(house.pool.slot().now_or_never().is_some());
}
