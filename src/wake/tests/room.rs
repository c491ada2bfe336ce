//! Computes that share one machine's room: who has to go for whom, and who does not.

use futures_util::FutureExt;
use tokio::time::sleep;

use super::{
    super::*,
    IDLE, SECOND, STOP, house, policy,
    scripted::{START, Scripted},
};
use crate::error::ClientError;

/// Endpoints on a machine with room for two.
struct Machine {
    wakes: Wakes,
    names: Vec<EndpointName>,
    computes: Vec<Arc<Scripted>>,
}

fn room(awake_processes_max: Option<usize>) -> Limits {
    Limits {
        awake_processes_max,
        ..Limits::default()
    }
}

fn right() -> WakeRight {
    WakeRight::for_reading_roles()
}

fn machine(policies: [Policy; 4]) -> Machine {
    let wakes = house().wakes;
    wakes.set_limits(&room(Some(2)));
    let name = |number| EndpointName::parse(&format!("room-{number}")).unwrap();
    let names: Vec<_> = (0..policies.len()).map(name).collect();
    let computes = policies.map(|_| Arc::new(Scripted::new())).to_vec();
    for ((name, compute), policy) in names.iter().zip(&computes).zip(policies) {
        wakes.add(name.clone(), policy, compute.clone());
    }
    Machine {
        wakes,
        names,
        computes,
    }
}

impl Machine {
    fn ask(&self, number: usize, patience: Duration) -> Waiting {
        let deadline = Instant::now() + patience;
        self.wakes.lease(&self.names[number], &right(), deadline)
    }

    /// Wakes it, and a second passes.
    async fn use_once(&self, number: usize) {
        drop(self.ask(number, 30 * SECOND).await.unwrap());
        sleep(SECOND).await;
    }

    fn awake(&self) -> Vec<usize> {
        let is_awake = |number: &usize| self.wakes.awake(&self.names[*number]).is_some();
        (0..self.names.len()).filter(is_awake).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_has_needed_for_longest_makes_room() {
    let machine = machine([policy(); 4]);
    machine.use_once(0).await;
    machine.use_once(1).await;
    machine.use_once(0).await;
    let began = Instant::now();
    let lease = machine.ask(2, 30 * SECOND).await.unwrap();
    assert_eq!(began.elapsed(), STOP + START, "it goes at once");
    assert_eq!(machine.awake(), [0, 2]);
    assert_eq!(machine.wakes.awake_processes(), 2);
    drop(lease);
    sleep(2 * IDLE).await;
    assert_eq!((machine.awake(), machine.wakes.awake_processes()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn those_in_use_stay_and_the_next_waits_for_the_first_that_is_not() {
    let machine = machine([policy(); 4]);
    let first = machine.ask(0, 30 * SECOND).await.unwrap();
    let _second = machine.ask(1, 30 * SECOND).await.unwrap();
    let (mut third, fourth) = (machine.ask(2, 30 * SECOND), machine.ask(3, 5 * SECOND));
    let began = Instant::now();
    assert_eq!(
        machine.wakes.phase(&machine.names[2]),
        "other computes have to go to sleep before this one is started"
    );
    let error = fourth.await.unwrap_err();
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(
        error.detail().unwrap(),
        "waited 5.0 s; 1 others wait, and limits.awake_processes_max is 2"
    );
    assert!((&mut third).now_or_never().is_none());
    assert_eq!(machine.awake(), [0, 1]);
    drop(first);
    let freed = Instant::now();
    third.await.unwrap();
    assert!(
        freed.elapsed() <= STOP + START + Duration::from_millis(50),
        "{:?}",
        freed.elapsed()
    );
    assert_eq!(machine.awake(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn those_that_are_to_stay_awake_make_no_room() {
    let always = Policy {
        suspend_after: None,
        ..policy()
    };
    let at_least = Policy {
        awake_min: 10 * SECOND,
        ..policy()
    };
    let machine = machine([always, at_least, policy(), policy()]);
    machine.use_once(0).await;
    machine.use_once(1).await;
    let began = Instant::now();
    machine.ask(2, 30 * SECOND).await.unwrap();
    assert!(began.elapsed() >= 9 * SECOND, "its time was not over");
    assert_eq!(machine.awake(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_keep_theirs_awake_where_they_are_not_ended() {
    let ends = Policy {
        suspend_idle_sessions: true,
        ..policy()
    };
    let machine = machine([policy(), ends, policy(), policy()]);
    let keeping = machine.ask(0, 30 * SECOND).await.unwrap();
    let resting = machine.ask(1, 30 * SECOND).await.unwrap();
    keeping.set_idle();
    resting.set_idle();
    let third = machine.ask(2, 30 * SECOND);
    let mut signal = resting.signal();
    signal
        .wait_for(|signal| *signal == LeaseSignal::EndIfIdle)
        .await
        .unwrap();
    drop(resting);
    third.await.unwrap();
    assert_eq!(machine.awake(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_one_that_goes_stands_in_line() {
    let machine = machine([policy(); 4]);
    machine.use_once(0).await;
    let second = machine.ask(1, 30 * SECOND).await.unwrap();
    let third = machine.ask(2, 30 * SECOND);
    sleep(STOP / 2).await;
    let back = machine.ask(0, 30 * SECOND);
    let third = third.await.unwrap();
    sleep(SECOND).await;
    assert_eq!(machine.awake(), [1, 2]);
    assert_eq!(machine.wakes.waiting_for_a_turn(), 1);
    drop(second);
    back.await.unwrap();
    assert_eq!(machine.awake(), [0, 2]);
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_or_cannot_be_started_has_no_room_any_more() {
    let machine = machine([policy(); 4]);
    let _first = machine.ask(0, 30 * SECOND).await.unwrap();
    let _second = machine.ask(1, 30 * SECOND).await.unwrap();
    let third = machine.ask(2, 30 * SECOND);
    machine.computes[0].die("killed");
    let _third = third.await.unwrap();
    machine.computes[3].script([super::scripted::Start::Fails("the disk is full")]);
    machine.computes[1].die("killed");
    machine.ask(3, 30 * SECOND).await.unwrap_err();
    assert_eq!((machine.awake(), machine.wakes.awake_processes()), (vec![2], 1));
}

#[tokio::test(start_paused = true)]
async fn those_that_ran_before_count_and_make_room_as_well() {
    let machine = machine([policy(); 4]);
    for compute in &machine.computes[..3] {
        compute.runs.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    machine.wakes.inspect_all().await;
    assert_eq!(
        (machine.awake(), machine.wakes.awake_processes()),
        (vec![0, 1, 2], 3)
    );
    let _fourth = machine.ask(3, 30 * SECOND).await.unwrap();
    assert_eq!(machine.wakes.awake_processes(), 2);
    machine.wakes.set_limits(&room(None));
    let _first = machine.ask(0, 30 * SECOND).await.unwrap();
    let _second = machine.ask(1, 30 * SECOND).await.unwrap();
    assert!(machine.awake().len() >= 3);
}
