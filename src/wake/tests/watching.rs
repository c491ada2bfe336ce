//! Watchers that do what they should not: ask for leases while they are told something, and panic.

use std::sync::{Mutex, OnceLock};

use futures_util::FutureExt;

use super::{super::*, SECOND, policy, scripted::Scripted};

/// Finds the compute unreachable the moment that it is told of it.
#[derive(Default)]
struct Meddler {
    wakes: OnceLock<Wakes>,
    lease: Mutex<Option<AwakeLease>>,
    signal_meanwhile: Mutex<Option<LeaseSignal>>,
}

impl WakeWatcher for Meddler {
    fn ready(&self, endpoint: &EndpointName, _: &Address, generation: Generation) {
        if generation != Generation(1) {
            return;
        }
        let wakes = self.wakes.get().unwrap();
        let right = WakeRight::for_reading_roles();
        let lease = wakes
            .lease(endpoint, &right, Instant::now())
            .now_or_never()
            .unwrap()
            .unwrap();
        wakes.unreachable(endpoint, generation);
        *self.signal_meanwhile.lock().unwrap() = Some(lease.signal().borrow().clone());
        *self.lease.lock().unwrap() = Some(lease);
    }

    fn before_suspend(&self, _: &EndpointName, _: &Address) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_done_in_the_order_of_decisions_also_when_a_watcher_causes_some() {
    let meddler = Arc::new(Meddler::default());
    let wakes = Wakes::new(Handle::current(), TaskTracker::new(), meddler.clone());
    meddler
        .wakes
        .set(wakes.clone())
        .unwrap_or_else(|_| panic!("set once"));
    let name = EndpointName::parse("acme-main").unwrap();
    wakes.add(name.clone(), policy(), Arc::new(Scripted::new()));
    let right = WakeRight::for_reading_roles();
    let first = wakes.lease(&name, &right, Instant::now() + SECOND).await.unwrap();
    let lost = |signal: &LeaseSignal| matches!(signal, LeaseSignal::Lost(_));
    first.signal().wait_for(lost).await.unwrap();
    assert_eq!(
        *meddler.signal_meanwhile.lock().unwrap(),
        Some(LeaseSignal::Steady)
    );
    let second = wakes.lease(&name, &right, Instant::now() + SECOND).await.unwrap();
    assert_eq!(
        (second.generation(), wakes.wakes_started(&name)),
        (Generation(2), 1)
    );
}

/// Panics at everything that it is told.
struct Panicker;

impl WakeWatcher for Panicker {
    fn ready(&self, _: &EndpointName, _: &Address, _: Generation) {
        panic!("scripted");
    }

    fn before_suspend(&self, _: &EndpointName, _: &Address) -> BoxFuture<'static, ()> {
        panic!("scripted");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_watcher_does_not_leave_the_endpoint_stuck() {
    let tracker = TaskTracker::new();
    let wakes = Wakes::new(Handle::current(), tracker.clone(), Arc::new(Panicker));
    let name = EndpointName::parse("acme-main").unwrap();
    let compute = Arc::new(Scripted::new());
    wakes.add(name.clone(), policy(), compute.clone());
    let right = WakeRight::for_reading_roles();
    for round in 1..3 {
        drop(wakes.lease(&name, &right, Instant::now() + SECOND).await.unwrap());
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!(wakes.awake(&name), None);
        assert_eq!(compute.stopped.load(std::sync::atomic::Ordering::SeqCst), round);
    }
}
