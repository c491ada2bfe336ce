//! Many threads, one endpoint, real time: what paused time on one thread cannot show.

use tokio::{task::JoinSet, time::sleep};

use super::{super::*, House, build, scripted::Scripted};

const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 8;
const LEASES_EACH: u64 = 150;

/// A compute that is suspended the moment that it is idle, and clients who come, rest, leave and go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_of_many_threads_are_only_held_on_a_compute_that_runs() {
    let policy = Policy {
        suspend_after: Some(Duration::ZERO),
        suspend_idle_sessions: true,
        asks_veto: false,
        awake_min: Duration::ZERO,
        start_timeout: PATIENCE,
        logins_at_once: 4,
    };
    let compute = Scripted::quick((CLIENTS * LEASES_EACH) as usize);
    let house = Arc::new(build(policy, compute));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(come_and_go(house.clone(), number));
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(
        house.stops() > 20,
        "hardly ever suspended in between: {}",
        house.stops()
    );
    house.wakes.suspend_all().await;
    assert!(!house.runs());
    house.tracker.close();
    house.tracker.wait().await;
}

async fn come_and_go(house: Arc<House>, number: u64) {
    for round in 0..LEASES_EACH {
        let what = (number * 31 + round * 17) % 7;
        if what == 0 {
            drop(house.ask(PATIENCE));
            continue;
        }
        let lease = house.ask(PATIENCE).await.unwrap();
        assert!(house.runs(), "leased, and does not run");
        if what == 1 {
            lease.set_idle();
            sleep(Duration::from_millis(1)).await;
            lease.set_active();
        }
        tokio::task::yield_now().await;
        let runs = house.runs();
        let told = lease.signal().borrow().is_over();
        assert!(told || runs, "stopped under a lease that was not told");
        drop(lease);
        sleep(Duration::from_millis(what)).await;
    }
}
