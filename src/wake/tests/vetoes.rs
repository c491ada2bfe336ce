//! Who is asked before a suspend, and what is made of the answer.

use super::{scripted::Answer, *};

fn house_that_asks(policy: Policy) -> House {
    let policy = Policy {
        asks_veto: true,
        ..policy
    };
    build(policy, Scripted::new())
}

impl House {
    fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.notes.answers.lock().unwrap().extend(answers);
    }

    fn figures(&self) -> WakeFigures {
        self.wakes.figures(&self.name).unwrap()
    }

    fn vetoes(&self) -> Vec<(&'static str, u64)> {
        let vetoes = self.figures().vetoes;
        vetoes.by_kind().filter(|(_, count)| *count > 0).collect()
    }

    fn questions(&self) -> usize {
        self.heard()
            .iter()
            .filter(|line| line.starts_with("asked"))
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn vetoed_compute_stays_awake_by_name_and_is_asked_about_again() {
    let house = house_that_asks(policy());
    house.answers([Answer::Vetoed("client psql"), Answer::Vetoed("client psql")]);
    drop(house.lease().await);
    sleep(IDLE + SECOND).await;
    assert_eq!((house.stops(), house.questions()), (0, 1));
    assert_eq!(house.figures().veto.as_deref(), Some("client psql"));
    sleep(IDLE).await;
    assert_eq!((house.stops(), house.questions()), (0, 2));
    house.asleep().await;
    assert_eq!((house.stops(), house.questions()), (1, 3));
    assert_eq!(house.vetoes(), [("clients", 2)]);
    assert_eq!(house.figures().veto, None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_has_not_agreed() {
    for answer in [Answer::Never, Answer::Panics] {
        let house = house_that_asks(policy());
        house.answers([answer]);
        drop(house.lease().await);
        sleep(IDLE + 10 * SECOND).await;
        assert_eq!(house.figures().veto.as_deref(), Some("question unanswered"));
        assert_eq!((house.stops(), house.vetoes()), (0, vec![("unanswered", 1)]));
        house.asleep().await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_comes_while_the_question_is_open_is_served_and_the_answer_is_late() {
    let house = house_that_asks(policy());
    house.answers([Answer::Never]);
    drop(house.lease().await);
    sleep(IDLE + SECOND).await;
    assert_eq!(house.questions(), 1);
    let lease = house.ask(Duration::ZERO).now_or_never().unwrap().unwrap();
    sleep(10 * SECOND).await;
    assert_eq!((house.vetoes(), house.figures().veto), (vec![], None));
    drop(lease);
    house.asleep().await;
    assert_eq!(house.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ended_for_a_suspend_that_is_vetoed_and_own_sessions_are_known() {
    let house = house_that_asks(Policy {
        suspend_idle_sessions: true,
        ..policy()
    });
    house.answers([Answer::Vetoed("client psql")]);
    let lease = house.lease().await;
    lease.works_at(42);
    lease.set_idle();
    sleep(IDLE + SECOND).await;
    assert_eq!(*lease.signal().borrow(), LeaseSignal::Steady);
    assert_eq!(house.heard().last().unwrap(), "asked, [42] are own");
    sleep(IDLE).await;
    assert_eq!(*lease.signal().borrow(), LeaseSignal::EndIfIdle);
    drop(lease);
    house.asleep().await;
    let last = house.heard().last().unwrap().clone();
    assert_eq!(
        last, "asked, [] are own",
        "it is asked after they have been ended, too"
    );
}

#[tokio::test(start_paused = true)]
async fn an_order_asks_nobody_nor_does_the_end() {
    let house = house_that_asks(policy());
    drop(house.lease().await);
    assert_eq!(house.wakes.suspend(&house.name), SuspendOrder::Begun);
    house.asleep().await;
    drop(house.lease().await);
    house.wakes.suspend_all().await;
    assert_eq!((house.stops(), house.questions()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn order_during_an_open_question_does_not_wait_for_a_good_answer() {
    let house = house_that_asks(policy());
    house.answers([Answer::Never]);
    drop(house.lease().await);
    sleep(IDLE + SECOND).await;
    assert_eq!(house.wakes.suspend(&house.name), SuspendOrder::Begun);
    house.asleep().await;
    assert_eq!((house.stops(), house.vetoes()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn fixed_server_is_not_asked() {
    let asking = Policy {
        asks_veto: true,
        ..policy()
    };
    let house = build(asking, Scripted::fixed());
    drop(house.lease().await);
    sleep(10 * IDLE).await;
    assert_eq!(house.questions(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_must_not_go_for_others_is_not_asked_again_and_again() {
    let house = house_that_asks(policy());
    house.wakes.set_limits(&Limits {
        awake_processes_max: Some(1),
        ..Limits::default()
    });
    let other = EndpointName::parse("acme-other").unwrap();
    house
        .wakes
        .add(other.clone(), policy(), Arc::new(Scripted::new()));
    house.answers([Answer::Vetoed("client psql")]);
    drop(house.lease().await);
    let right = WakeRight::for_reading_roles();
    let waiting = house.wakes.lease(&other, &right, Instant::now() + 90 * SECOND);
    sleep(SECOND).await;
    assert_eq!((house.stops(), house.questions()), (0, 1));
    waiting.await.unwrap();
    assert_eq!((house.stops(), house.questions()), (1, 2));
}
