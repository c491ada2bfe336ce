//! The driver with a scripted compute in paused time.

mod ignored;
mod room;
mod scripted;
mod storm;
mod turns;
mod vetoes;
mod watching;

use std::sync::atomic::Ordering::SeqCst;

use futures_util::{FutureExt, future::join_all};
use tokio::time::{advance, sleep};

use self::scripted::{Notes, START, STOP, Scripted, Start, Watching, address};
use super::*;
use crate::error::{ClientError, SqlState};

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(20);

struct House {
    wakes: Wakes,
    name: EndpointName,
    compute: Arc<Scripted>,
    notes: Arc<Notes>,
    tracker: TaskTracker,
}

fn policy() -> Policy {
    Policy {
        suspend_after: Some(IDLE),
        suspend_idle_sessions: false,
        asks_veto: false,
        awake_min: Duration::ZERO,
        start_timeout: 60 * SECOND,
        logins_at_once: 4,
    }
}

fn house() -> House {
    build(policy(), Scripted::new())
}

fn house_that_ends_idle_sessions() -> House {
    let policy = Policy {
        suspend_idle_sessions: true,
        ..policy()
    };
    build(policy, Scripted::new())
}

fn build(policy: Policy, compute: Scripted) -> House {
    let notes = Arc::new(Notes::default());
    let tracker = TaskTracker::new();
    let wakes = Wakes::new(
        Handle::current(),
        tracker.clone(),
        Arc::new(Watching(notes.clone())),
    );
    let name = EndpointName::parse("acme-main").unwrap();
    let compute = Arc::new(compute);
    wakes.add(name.clone(), policy, compute.clone());
    House {
        wakes,
        name,
        compute,
        notes,
        tracker,
    }
}

impl House {
    fn ask(&self, patience: Duration) -> Waiting {
        let right = WakeRight::for_reading_roles();
        self.wakes.lease(&self.name, &right, Instant::now() + patience)
    }

    async fn lease(&self) -> AwakeLease {
        self.ask(30 * SECOND).await.unwrap()
    }

    fn starts(&self) -> u64 {
        assert_eq!(
            self.wakes.wakes_started(&self.name),
            self.compute.started.load(SeqCst)
        );
        self.compute.started.load(SeqCst)
    }

    fn stops(&self) -> u64 {
        self.compute.stopped.load(SeqCst)
    }

    fn runs(&self) -> bool {
        self.compute.runs.load(SeqCst)
    }

    fn heard(&self) -> Vec<String> {
        self.notes.heard.lock().unwrap().clone()
    }

    /// Waits until everything that is under way has ended; an awake compute has a task of its own.
    async fn asleep(&self) {
        let began = Instant::now();
        while !self.tracker.is_empty() {
            sleep(Duration::from_millis(1)).await;
            assert!(began.elapsed() < 100 * SECOND, "does not fall asleep");
        }
        assert!(!self.runs());
        assert_eq!(self.wakes.awake(&self.name), None);
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_at_once_cause_one_start() {
    let house = house();
    let logged_in = |waiting: Waiting| async move {
        let lease = waiting.await.unwrap();
        lease.arrived();
        lease
    };
    let all: Vec<_> = (0..200).map(|_| house.ask(SECOND)).collect();
    let leases = join_all(all.into_iter().map(logged_in)).await;
    assert_eq!(house.starts(), 1);
    for lease in leases {
        assert!(lease.was_cold());
        assert_eq!((lease.generation(), lease.address()), (Generation(1), &address()));
    }
}

#[tokio::test(start_paused = true)]
async fn awake_compute_is_leased_at_once() {
    let house = house();
    let _first = house.lease().await;
    let second = house.ask(SECOND).now_or_never().unwrap().unwrap();
    assert!(!second.was_cold());
    assert_eq!(house.wakes.awake(&house.name), Some((address(), Generation(1))));
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_the_wait_and_not_the_wake() {
    let house = house();
    house.compute.script([Start::Takes(3 * SECOND)]);
    let began = Instant::now();
    let waiting = house.ask(SECOND);
    assert_eq!(house.wakes.phase(&house.name), "compute is starting");
    let error = waiting.await.unwrap_err();
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(error.sqlstate(), SqlState("57P03"));
    assert!(
        error.detail().unwrap().starts_with("waited 1.0 s (wake "),
        "{:?}",
        error.detail()
    );
    house.lease().await;
    assert_eq!((began.elapsed(), house.starts()), (3 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn wake_survives_whoever_asked_and_they_keep_nothing_awake() {
    let house = house();
    drop(house.ask(SECOND));
    sleep(2 * START).await;
    assert_eq!(house.wakes.awake(&house.name), Some((address(), Generation(1))));
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn client_that_leaves_while_held_frees_its_place_at_once() {
    let house = house();
    let mut waiting: Vec<_> = (0..3).map(|_| house.ask(SECOND)).collect();
    assert_eq!(house.wakes.driver(&house.name).unwrap().held(), 3);
    waiting.pop();
    assert_eq!(house.wakes.driver(&house.name).unwrap().held(), 2);
    drop(waiting);
    assert_eq!(house.wakes.driver(&house.name).unwrap().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn lease_granted_in_the_instant_its_waiter_leaves_is_given_back() {
    let house = house();
    let waiting = house.ask(SECOND);
    sleep(2 * START).await;
    assert!(house.runs());
    drop(waiting);
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn failure_is_told_to_all_and_remembered_for_a_moment() {
    let house = house();
    house.compute.script([Start::Fails("the disk is full")]);
    for answer in join_all((0..3).map(|_| house.ask(SECOND))).await {
        let detail = answer.unwrap_err().detail().unwrap();
        assert!(detail.starts_with("the disk is full (wake "), "{detail}");
    }
    let at_once = house.ask(SECOND).now_or_never().unwrap().unwrap_err();
    assert!(matches!(at_once, WakeError::Failed { .. }));
    assert_eq!(house.starts(), 1);
    sleep(SECOND / 2).await;
    house.lease().await;
    assert_eq!(house.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn start_that_hangs_is_ended_and_stopped() {
    let house = house();
    house.compute.script([Start::Hangs]);
    let began = Instant::now();
    let error = house.ask(90 * SECOND).await.unwrap_err();
    assert_eq!(began.elapsed(), 60 * SECOND);
    assert!(
        error
            .detail()
            .unwrap()
            .starts_with("it was not ready after 60.0 s")
    );
    sleep(SECOND).await;
    assert_eq!((house.stops(), house.starts()), (1, 1));
    house.lease().await;
    assert_eq!(house.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_start_is_a_failure_like_others() {
    let house = house();
    house.compute.script([Start::Panics]);
    assert!(matches!(house.ask(SECOND).await, Err(WakeError::Failed { .. })));
    sleep(SECOND / 2).await;
    house.lease().await;
}

#[tokio::test(start_paused = true)]
async fn idle_compute_is_suspended_and_the_next_lease_wakes_it_again() {
    let house = house();
    drop(house.lease().await);
    sleep(IDLE - Duration::from_millis(1)).await;
    assert!(house.runs());
    house.asleep().await;
    let lease = house.lease().await;
    assert_eq!((lease.generation(), house.starts()), (Generation(2), 2));
    assert_eq!(house.heard(), ["ready 1", "before suspend", "ready 2"]);
}

#[tokio::test(start_paused = true)]
async fn compute_stays_awake_for_its_least_time_and_no_longer() {
    let policy = Policy {
        awake_min: 3 * IDLE,
        ..policy()
    };
    let house = build(policy, Scripted::new());
    let began = Instant::now();
    drop(house.lease().await);
    let suspends_at = house.wakes.figures(&house.name).unwrap().suspends_at;
    assert_eq!(suspends_at, Some(began + START + 3 * IDLE));
    sleep(3 * IDLE).await;
    assert!(house.runs());
    house.asleep().await;
    assert!(began.elapsed() < 3 * IDLE + SECOND);
    drop(house.lease().await);
    assert_eq!(
        house.wakes.suspend(&house.name),
        SuspendOrder::Begun,
        "an order is an order"
    );
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn compute_in_use_is_not_suspended() {
    let house = house();
    let lease = house.lease().await;
    sleep(10 * IDLE).await;
    lease.set_active();
    lease.set_idle();
    lease.set_idle();
    sleep(10 * IDLE).await;
    assert!(house.runs(), "an idle session keeps it awake");
    drop(lease);
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn arrival_during_the_hook_is_served_without_a_restart() {
    let house = house();
    *house.notes.hook_takes.lock().unwrap() = SECOND;
    drop(house.lease().await);
    sleep(IDLE + SECOND / 2).await;
    assert_eq!(house.heard().last().unwrap(), "before suspend");
    let lease = house.ask(SECOND).now_or_never().unwrap().unwrap();
    sleep(10 * IDLE).await;
    assert_eq!(
        (lease.generation(), house.starts(), house.stops()),
        (Generation(1), 1, 0)
    );
    assert_eq!(*lease.signal().borrow(), LeaseSignal::Steady);
}

#[tokio::test(start_paused = true)]
async fn hook_that_hangs_delays_a_suspend_by_two_seconds() {
    let house = house();
    *house.notes.hook_takes.lock().unwrap() = 1000 * SECOND;
    drop(house.lease().await);
    let began = Instant::now();
    house.asleep().await;
    assert!(began.elapsed() < IDLE + 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn arrival_while_suspending_is_held_and_woken_again() {
    let house = house();
    drop(house.lease().await);
    sleep(IDLE + STOP / 2).await;
    let waiting = house.ask(SECOND);
    assert_eq!(
        house.wakes.phase(&house.name),
        "compute is going to sleep and will be woken again"
    );
    let lease = waiting.await.unwrap();
    assert_eq!(
        (lease.generation(), house.stops(), house.starts()),
        (Generation(2), 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn stop_that_fails_is_looked_at_and_tried_again() {
    let house = house();
    house.compute.stop_fails.store(true, SeqCst);
    drop(house.lease().await);
    sleep(IDLE + SECOND).await;
    assert_eq!(house.wakes.awake(&house.name), Some((address(), Generation(2))));
    let left = || house.wakes.figures(&house.name).unwrap().left;
    assert!(left().is_some_and(|why| house.heard().contains(&format!("not suspended: {why}"))));
    house.asleep().await;
    assert_eq!((house.stops(), left()), (2, None));
}

/// Its wake was shown as under way for ever, and counted as nothing.
#[tokio::test(start_paused = true)]
async fn start_that_is_late_has_ended_also_where_its_stop_fails() {
    let house = house();
    house.compute.script([Start::Hangs]);
    house.compute.stop_fails.store(true, SeqCst);
    house.ask(100 * SECOND).await.unwrap_err();
    sleep(SECOND).await;
    assert_eq!(
        (house.stops(), house.heard()),
        (1, vec!["given up: was not ready in time".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn death_is_told_to_leaseholders_and_the_next_lease_wakes_anew() {
    let house = house();
    let lease = house.lease().await;
    let mut signal = lease.signal();
    house.compute.die("killed by signal 9");
    let lost = |signal: &LeaseSignal| *signal == LeaseSignal::Lost("killed by signal 9".into());
    signal.wait_for(lost).await.unwrap();
    assert_eq!(house.wakes.awake(&house.name), None);
    let next = house.lease().await;
    assert_eq!(next.generation(), Generation(2));
    drop(lease);
    sleep(10 * IDLE).await;
    assert!(house.runs(), "the lost lease was counted with the new ones");
}

/// All sessions of an endpoint look then: that is for nobody's sleep.
#[tokio::test(start_paused = true)]
async fn whoever_holds_a_lease_is_told_to_look_and_nobody_else() {
    let house = house();
    let signalled = || house.notes.signalled.load(SeqCst);
    drop(house.lease().await);
    house.asleep().await;
    assert_eq!(signalled(), 0, "nobody held a lease as it fell asleep");
    let lease = house.lease().await;
    house.compute.die("killed by signal 9");
    sleep(SECOND).await;
    assert_eq!(signalled(), 1);
    drop(lease);
    drop(house.lease().await);
    house.asleep().await;
    assert_eq!(signalled(), 1);
}

#[tokio::test(start_paused = true)]
async fn unreachable_compute_is_looked_at_and_woken_anew() {
    let house = house();
    let lease = house.lease().await;
    house.compute.runs.store(false, SeqCst);
    house.wakes.unreachable(&house.name, lease.generation());
    assert!(matches!(*lease.signal().borrow(), LeaseSignal::Lost(_)));
    let next = house.lease().await;
    assert_eq!((next.generation(), house.starts()), (Generation(3), 2));
    house.wakes.unreachable(&house.name, lease.generation());
    assert_eq!(
        *next.signal().borrow(),
        LeaseSignal::Steady,
        "an old generation says nothing about this one"
    );
}

#[tokio::test(start_paused = true)]
async fn resting_leaseholders_are_told_to_end_and_going_on_calls_it_off() {
    let house = house_that_ends_idle_sessions();
    let lease = house.lease().await;
    let mut signal = lease.signal();
    lease.set_idle();
    let began = Instant::now();
    signal
        .wait_for(|signal| *signal == LeaseSignal::EndIfIdle)
        .await
        .unwrap();
    assert_eq!(began.elapsed(), IDLE);
    lease.set_active();
    assert_eq!(*signal.borrow_and_update(), LeaseSignal::Steady);
    sleep(10 * IDLE).await;
    assert!(house.runs());
    lease.set_idle();
    signal
        .wait_for(|signal| *signal == LeaseSignal::EndIfIdle)
        .await
        .unwrap();
    drop(lease);
    let ended = Instant::now();
    house.asleep().await;
    assert!(
        ended.elapsed() < SECOND,
        "the last one to end is not waited for any longer"
    );
}

#[tokio::test(start_paused = true)]
async fn leaseholder_that_does_not_end_is_lost_after_five_seconds() {
    let house = house_that_ends_idle_sessions();
    let lease = house.lease().await;
    lease.set_idle();
    let began = Instant::now();
    house.asleep().await;
    assert!((IDLE + 5 * SECOND..IDLE + 6 * SECOND).contains(&began.elapsed()));
    assert_eq!(*lease.signal().borrow(), LeaseSignal::Suspended);
    lease.set_active();
    drop(lease);
    assert_eq!(house.wakes.awake(&house.name), None);
}

#[tokio::test(start_paused = true)]
async fn compute_found_running_is_adopted_and_put_to_sleep() {
    let house = house();
    house.compute.runs.store(true, SeqCst);
    house.wakes.inspect_all().await;
    assert!(house.wakes.awake(&house.name).is_some());
    let lease = house.ask(SECOND).now_or_never().unwrap().unwrap();
    assert_eq!((house.starts(), lease.was_cold()), (0, false));
    drop(lease);
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn arrival_during_the_look_waits_for_it() {
    let house = house();
    let look = house.wakes.inspect_all();
    let (lease, ()) = tokio::join!(house.lease(), look);
    assert_eq!((lease.generation(), house.starts()), (Generation(1), 1));
}

#[tokio::test(start_paused = true)]
async fn fixed_server_stays_ready() {
    let house = build(policy(), Scripted::fixed());
    let lease = house.lease().await;
    house.wakes.unreachable(&house.name, lease.generation());
    drop(lease);
    sleep(10 * IDLE).await;
    let again = house.ask(SECOND).now_or_never().unwrap().unwrap();
    assert_eq!((again.generation(), house.starts()), (Generation(1), 1));
    house.wakes.suspend_all().await;
    assert!(matches!(*again.signal().borrow(), LeaseSignal::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn end_stops_what_runs_and_what_is_waking_and_refuses_everyone() {
    let house = house();
    let waking = EndpointName::parse("acme-waking").unwrap();
    let slow = Arc::new(Scripted::new());
    slow.script([Start::Takes(3 * SECOND)]);
    house.wakes.add(waking.clone(), policy(), slow.clone());
    let lease = house.lease().await;
    let right = WakeRight::for_reading_roles();
    let held = house.wakes.lease(&waking, &right, Instant::now() + 30 * SECOND);
    house.wakes.suspend_all().await;
    assert!(matches!(held.await, Err(WakeError::ShuttingDown)));
    assert!(matches!(house.ask(SECOND).await, Err(WakeError::ShuttingDown)));
    assert!(lease.signal().borrow().is_over());
    assert!(!house.runs() && !slow.runs.load(SeqCst));
    assert_eq!(slow.stopped.load(SeqCst), 1);
    house.tracker.close();
    house.tracker.wait().await;
}

#[tokio::test(start_paused = true)]
async fn sleeping_endpoints_cost_no_task() {
    let house = house();
    for number in 0..3000 {
        let name = EndpointName::parse(&format!("acme-{number}")).unwrap();
        house.wakes.add(name, policy(), Arc::new(Scripted::new()));
    }
    house.wakes.inspect_all().await;
    advance(SECOND).await;
    assert_eq!(house.tracker.len(), 0);
}
