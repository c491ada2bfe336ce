//! Which session is lent, and which is not.

use tokio::time::Instant;

use super::scripted::*;
use crate::ids::Generation;
use crate::pool::CloseReason;

#[tokio::test(start_paused = true)]
async fn a_kept_session_is_lent_again_as_it_is() {
    let house = House::new(2);
    let (mut lent, _server) = house.open(&key("shop"), 1);
    lent.carried = 11;

    let ticket = house.pool.keep(lent, Instant::now());
    assert_eq!(house.places(), (0, 1, 0));

    let lent = house.pool.take_kept(&ticket, FIRST).unwrap();
    assert_eq!((lent.carried, lent.pid()), (11, Some(1)));
    assert_eq!(house.places(), (1, 0, 0));
    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_finds_its_own_session_only() {
    let house = House::new(2);
    let (first, _one) = house.open(&key("shop"), 1);
    let (second, _two) = house.open(&key("shop"), 2);
    let first = house.pool.keep(first, Instant::now());
    let second = house.pool.keep(second, Instant::now());

    assert_eq!(house.pool.take_kept(&second, FIRST).unwrap().carried, 2);
    assert!(house.pool.take_kept(&second, FIRST).is_none());
    assert_eq!(house.pool.take_kept(&first, FIRST).unwrap().carried, 1);
}

#[tokio::test(start_paused = true)]
async fn of_resting_sessions_the_last_used_that_suits_is_lent_and_the_others_stay_in_order() {
    let house = House::new(4);
    for carried in [1, 2, 3, 4] {
        house.open_resting(&key("shop"), carried);
    }

    let pool = &house.pool;
    let lent = pool
        .take_resting(&key("shop"), FIRST, |carried| *carried < 3)
        .unwrap();

    assert_eq!(lent.carried, 2);
    assert_eq!(house.resting(&key("shop")), [4, 3, 1]);
    assert!(
        pool.take_resting(&key("shop"), FIRST, |carried| *carried > 9)
            .is_none()
    );
    assert_eq!(house.resting(&key("shop")), [4, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn not_every_resting_session_is_looked_at() {
    let house = House::new(20);
    for carried in 0..20 {
        house.open_resting(&key("shop"), carried);
    }
    let looks = std::cell::Cell::new(0);

    let found = house.pool.take_resting(&key("shop"), FIRST, |_| {
        looks.set(looks.get() + 1);
        false
    });

    assert!(found.is_none());
    assert_eq!(looks.get(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_session_that_was_kept_longest_and_suits_is_stolen() {
    let house = House::new(4);
    let mut tickets = Vec::new();
    let mut servers = Vec::new();
    for (database, carried) in [("other", 0), ("shop", 1), ("shop", 2), ("shop", 3)] {
        let (lent, server) = house.open(&key(database), carried);
        tickets.push(house.pool.keep(lent, Instant::now()));
        servers.push(server);
    }

    let stolen = house
        .pool
        .steal(&key("shop"), FIRST, |carried| *carried != 1)
        .unwrap();

    assert_eq!(stolen.carried, 2);
    assert!(house.pool.take_kept(&tickets[2], FIRST).is_none());
    assert_eq!(
        house.pool.steal(&key("shop"), FIRST, |_| true).unwrap().carried,
        1
    );
    assert_eq!(house.pool.take_kept(&tickets[3], FIRST).unwrap().carried, 3);
    assert!(house.pool.steal(&key("shop"), FIRST, |_| true).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_lets_its_kept_session_rest() {
    let house = House::new(2);
    let (lent, _server) = house.open(&key("shop"), 1);
    let ticket = house.pool.keep(lent, Instant::now());

    house.pool.rest_kept(ticket);

    assert_eq!(house.places(), (0, 0, 1));
    assert_eq!(house.take_any(&key("shop")).unwrap().carried, 1);
}

#[tokio::test(start_paused = true)]
async fn sessions_never_cross_keys() {
    let house = House::new(4);
    let keys = [key("shop"), key("mail"), key_with("shop", "-c geqo=off")];
    house.open_resting(&keys[0], 1);
    let (lent, _server) = house.open(&keys[0], 2);
    let _ticket = house.pool.keep(lent, Instant::now());

    for other in &keys[1..] {
        assert!(house.take_any(other).is_none());
        assert!(house.pool.steal(other, FIRST, |_| true).is_none());
        assert!(!house.pool.has_live(other, FIRST));
    }
    assert!(house.pool.has_live(&keys[0], FIRST));
}

#[tokio::test(start_paused = true)]
async fn sessions_of_another_generation_are_dropped() {
    let house = House::new(3);
    let second = Generation(2);
    house.open_resting(&key("shop"), 1);
    let (kept, _one) = house.open(&key("shop"), 2);
    let (stolen, _two) = house.open(&key("shop"), 3);
    let ticket = house.pool.keep(kept, Instant::now());
    let _ticket = house.pool.keep(stolen, Instant::now());
    assert!(!house.pool.has_live(&key("shop"), second));

    assert!(house.pool.take_kept(&ticket, second).is_none());
    assert!(house.pool.take_resting(&key("shop"), second, |_| true).is_none());
    assert!(house.pool.steal(&key("shop"), second, |_| true).is_none());

    assert_eq!(house.closed(CloseReason::OtherGeneration), 3);
    assert_eq!(house.pool.live(), 0);
}

/// PROTOCOL 10: a server that closes an idle session is found out before anybody is lent it.
#[tokio::test(start_paused = true)]
async fn a_session_that_died_is_passed_over() {
    let house = House::new(3);
    house.open_resting(&key("shop"), 1);
    let (closed, server) = house.open(&key("shop"), 2);
    house.pool.rest(closed);
    drop(server);
    let (ended, mut server) = house.open(&key("shop"), 3);
    house.pool.rest(ended);
    server.says(FATAL).await;
    heard().await;

    let lent = house.take_any(&key("shop")).unwrap();

    assert_eq!(lent.carried, 1);
    assert_eq!(house.closed(CloseReason::Gone), 2);
    assert_eq!(house.places(), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_kept_session_that_died_is_not_lent() {
    let house = House::new(1);
    let (lent, server) = house.open(&key("shop"), 1);
    let ticket = house.pool.keep(lent, Instant::now());
    drop(server);
    heard().await;

    assert!(house.pool.take_kept(&ticket, FIRST).is_none());
    assert_eq!(house.closed(CloseReason::Gone), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_idle_server_told_of_its_parameters_is_passed_on_once() {
    let house = House::new(1);
    let (lent, mut server) = house.open(&key("shop"), 1);
    let ticket = house.pool.keep(lent, Instant::now());
    server.says(STATUS).await;
    server.says(b"N\0\0\0\x0eSNOTICE\0\0\0").await;
    heard().await;

    let lent = house.pool.take_kept(&ticket, FIRST).unwrap();
    assert_eq!(lent.pending, STATUS);

    let ticket = house.pool.keep(lent, Instant::now());
    assert!(house.pool.take_kept(&ticket, FIRST).unwrap().pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_register_forgets_a_key_without_sessions() {
    let house = House::new(2);
    let (lent, _server) = house.open(&key("shop"), 1);
    house.open_resting(&key("mail"), 2);
    drop(lent);

    let figures = house.pool.figures();
    assert_eq!(figures.keys.len(), 1);
    assert_eq!(figures.keys[0].key, key("mail"));
    assert!(!house.pool.has_live(&key("shop"), FIRST));
}

#[tokio::test(start_paused = true)]
async fn loans_are_counted_by_their_kind() {
    let house = House::new(2);
    let (lent, _server) = house.open(&key("shop"), 1);
    let ticket = house.pool.keep(lent, Instant::now());
    let lent = house.pool.take_kept(&ticket, FIRST).unwrap();
    let _ticket = house.pool.keep(lent, Instant::now());
    let lent = house.pool.steal(&key("shop"), FIRST, |_| true).unwrap();
    house.pool.rest(lent);
    let lent = house.take_any(&key("shop")).unwrap();
    house.pool.close(lent);

    let counts = house.pool.figures().counts;
    assert_eq!((counts.adopted, counts.kept_taken), (1, 1));
    assert_eq!((counts.stolen, counts.resting_taken), (1, 1));
    assert_eq!(counts.closed(CloseReason::Asked), 1);
}
