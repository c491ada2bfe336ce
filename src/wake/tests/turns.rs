//! Computes that wait for their turn to be started, and clients that wait for theirs to log in.

use futures_util::FutureExt;
use tokio::time::sleep;

use super::{
    super::*,
    IDLE, SECOND, build, house, policy,
    scripted::{START, Scripted, Start},
};
use crate::error::ClientError;

/// Endpoints that share one turn, and the first of them is being started.
struct Street {
    wakes: Wakes,
    names: Vec<EndpointName>,
    computes: Vec<Arc<Scripted>>,
    /// Who waits for the first.
    first: Waiting,
}

fn at_once(wakes_at_once_max: usize) -> Limits {
    Limits {
        wakes_at_once_max,
        ..Limits::default()
    }
}

fn right() -> WakeRight {
    WakeRight::for_reading_roles()
}

fn street(first: Start) -> Street {
    let house = house();
    let wakes = house.wakes.clone();
    wakes.set_limits(&at_once(1));
    let names: Vec<_> = (0..3)
        .map(|number| EndpointName::parse(&format!("street-{number}")).unwrap())
        .collect();
    let computes: Vec<_> = names.iter().map(|_| Arc::new(Scripted::new())).collect();
    for (name, compute) in names.iter().zip(&computes) {
        wakes.add(name.clone(), policy(), compute.clone());
    }
    computes[0].script([first]);
    let first = wakes.lease(&names[0], &right(), Instant::now() + 90 * SECOND);
    Street {
        wakes,
        names,
        computes,
        first,
    }
}

impl Street {
    fn ask(&self, number: usize, patience: Duration) -> Waiting {
        self.wakes
            .lease(&self.names[number], &right(), Instant::now() + patience)
    }

    fn started(&self, number: usize) -> u64 {
        self.wakes.wakes_started(&self.names[number])
    }
}

#[tokio::test(start_paused = true)]
async fn one_start_too_many_waits_for_the_end_of_another() {
    let street = street(Start::Takes(3 * SECOND));
    let began = Instant::now();
    let second = street.ask(1, 30 * SECOND);
    assert_eq!(street.wakes.waiting_for_a_turn(), 1);
    assert_eq!(
        street.wakes.phase(&street.names[1]),
        "other computes are started before this one"
    );
    assert_eq!((street.started(0), street.started(1)), (1, 0));
    street.first.await.unwrap();
    assert_eq!(began.elapsed(), 3 * SECOND);
    second.await.unwrap();
    assert_eq!(began.elapsed(), 3 * SECOND + START);
    assert_eq!(street.wakes.waiting_for_a_turn(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_hangs_or_panics_gives_its_turn_to_the_next() {
    for (bad, after) in [
        (Start::Fails("the disk is full"), START),
        (Start::Panics, Duration::ZERO),
        // It goes on without its turn.
        (Start::Hangs, 8 * SECOND),
    ] {
        let street = street(bad);
        let began = Instant::now();
        street.ask(1, 90 * SECOND).await.unwrap();
        assert_eq!(began.elapsed(), after + START);
        assert!(matches!(street.first.await, Err(WakeError::Failed { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_before_the_turn_is_told_as_such_and_nobody_is_started_for_it() {
    let street = street(Start::Takes(7 * SECOND));
    let began = Instant::now();
    let (second, third) = (street.ask(1, 5 * SECOND), street.ask(2, 30 * SECOND));
    let error = second.await.unwrap_err();
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(
        error.detail().unwrap(),
        "waited 5.0 s; 1 others wait, and limits.wakes_at_once_max is 1"
    );
    third.await.unwrap();
    assert_eq!(street.started(1), 0, "nobody wanted it any more");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_the_line_and_who_only_wants_it_woken_does_not() {
    let street = street(Start::Takes(5 * SECOND));
    drop(street.ask(1, 30 * SECOND));
    assert_eq!(street.wakes.waiting_for_a_turn(), 0);
    let until = Instant::now() + 30 * SECOND;
    street.wakes.wake(&street.names[1], &right(), until).unwrap();
    let soon = Instant::now() + SECOND;
    street.wakes.wake(&street.names[2], &right(), soon).unwrap();
    assert_eq!(street.wakes.waiting_for_a_turn(), 2);
    sleep(2 * SECOND).await;
    assert_eq!(street.wakes.waiting_for_a_turn(), 1, "its time was over");
    sleep(4 * SECOND).await;
    assert_eq!(
        [street.started(0), street.started(1), street.started(2)],
        [1, 1, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn more_at_once_hold_at_once() {
    let street = street(Start::Takes(20 * SECOND));
    let (second, third) = (street.ask(1, SECOND), street.ask(2, SECOND));
    street.wakes.set_limits(&at_once(3));
    second.await.unwrap();
    third.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_pgwake_empties_the_line() {
    let street = street(Start::Hangs);
    let second = street.ask(1, 30 * SECOND);
    street.wakes.suspend_all().await;
    assert!(matches!(second.await, Err(WakeError::ShuttingDown)));
    assert_eq!(street.wakes.waiting_for_a_turn(), 0);
    assert_eq!(street.started(1), 0);
    assert_eq!(
        street.computes[1]
            .stopped
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_wake_wanted_while_it_is_being_stopped_follows_the_stop() {
    let house = house();
    drop(house.lease().await);
    sleep(IDLE + super::STOP / 2).await;
    let until = Instant::now() + SECOND;
    house.wakes.wake(&house.name, &right(), until).unwrap();
    sleep(super::STOP + 2 * START).await;
    assert_eq!((house.stops(), house.starts()), (1, 2));
    assert!(house.wakes.awake(&house.name).is_some());
}

#[tokio::test(start_paused = true)]
async fn wake_that_is_refused_at_once_says_why() {
    let house = house();
    house.compute.script([Start::Fails("the disk is full")]);
    house.ask(SECOND).await.unwrap_err();
    let until = Instant::now() + SECOND;
    let told = house.wakes.wake(&house.name, &right(), until);
    assert!(matches!(told, Err(WakeError::Failed { .. })), "{told:?}");
}

/// Two log in at once; who is the third comes in by what the first does.
async fn let_in_after(what: impl FnOnce(AwakeLease)) {
    let policy = Policy {
        logins_at_once: 2,
        ..policy()
    };
    let house = build(policy, Scripted::new());
    let mut waiting = [0; 4].map(|_| Some(house.ask(30 * SECOND))).into_iter();
    let mut next = || waiting.next().unwrap().unwrap();
    let (first, _second) = (next().await.unwrap(), next().await.unwrap());
    let mut third = next();
    sleep(SECOND).await;
    assert!(
        (&mut third).now_or_never().is_none(),
        "more log in at once than may"
    );
    assert_eq!(
        house.wakes.phase(&house.name),
        "compute is ready, and others log in before"
    );
    what(first);
    let _third = third.now_or_never().expect("there was room for it").unwrap();
    let mut fourth = next();
    assert!(
        (&mut fourth).now_or_never().is_none(),
        "one that arrived made room twice"
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_a_lease_the_next_one_is_let_in_once() {
    let kept = std::cell::RefCell::new(Vec::new());
    let keep = |lease| kept.borrow_mut().push(lease);
    let_in_after(|lease| {
        lease.arrived();
        keep(lease);
    })
    .await;
    // Given back by one that never said so: a login that failed, a client that left.
    let_in_after(drop).await;
    let_in_after(|lease| {
        lease.arrived();
        lease.arrived();
        drop(lease);
    })
    .await;
    let_in_after(|lease| {
        lease.set_idle();
        lease.set_active();
        keep(lease);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn place_of_one_that_leaves_in_the_instant_of_its_answer_is_free() {
    let policy = Policy {
        logins_at_once: 1,
        ..policy()
    };
    let house = build(policy, Scripted::new());
    let (first, second) = (house.ask(30 * SECOND), house.ask(30 * SECOND));
    sleep(SECOND).await;
    // Answered, and never looked at.
    drop(first);
    let lease = second.now_or_never().expect("there was room for it").unwrap();
    assert_eq!(house.wakes.driver(&house.name).unwrap().figures().active, 1);
    drop(lease);
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn deadline_while_others_log_in_is_told_as_such() {
    let policy = Policy {
        logins_at_once: 1,
        ..policy()
    };
    let house = build(policy, Scripted::new());
    let first = house.ask(30 * SECOND);
    let (second, _third) = (house.ask(10 * SECOND), house.ask(30 * SECOND));
    let _first = first.await.unwrap();
    let error = second.await.unwrap_err();
    assert_eq!(
        error.message(),
        "compute for endpoint \"acme-main\" has too many logins at once"
    );
    assert_eq!(error.detail().unwrap(), "waited 10.0 s; 1 others wait as well");
}
