//! Clients that do not count: what they get of a compute, and what they cannot do to it.

use super::*;
use crate::config::{Config, Endpoint, EndpointQuotas, IgnoredBy, Quota, Rate};
use crate::tenant::quota::Quotas;

const IGNORED: Weight = Weight::Ignored(IgnoredBy::Role);

/// A client of a tenant that may cause a single wake.
fn client(house: &House) -> ClientPermit {
    let once = Rate {
        count: 1,
        per: 3600 * SECOND,
    };
    let endpoint = Endpoint {
        name: house.name.clone(),
        quotas: EndpointQuotas {
            per_tenant: Quota {
                wakes: Some(once),
                ..Quota::default()
            },
            ..EndpointQuotas::default()
        },
        ..Endpoint::without_compute("acme")
    };
    let quotas = Quotas::new(&Config::of_endpoints([&endpoint]));
    quotas.admit(&endpoint, "monitor").unwrap()
}

impl House {
    fn ask_as(&self, permit: &ClientPermit, weight: Weight) -> Waiting {
        let client = Client {
            permit,
            right: &WakeRight::for_reading_roles(),
            weight,
        };
        self.wakes
            .lease_for(client, &self.name, Instant::now() + 30 * SECOND)
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_count_is_refused_at_once_and_costs_no_wake() {
    let house = house();
    let client = client(&house);
    for _ in 0..3 {
        let refused = house.ask_as(&client, IGNORED).now_or_never().unwrap();
        let error = refused.unwrap_err();
        assert_eq!(error.sqlstate(), SqlState("57P03"));
        assert_eq!(error.detail().unwrap(), "this role does not wake it");
        assert!(error.hint().unwrap().contains("idle_ignore"));
    }
    assert_eq!((house.starts(), house.tracker.len()), (0, 0));
    house.ask_as(&client, Weight::Counts).await.unwrap();
    assert_eq!(house.starts(), 1);
    house.asleep().await;
    let second = house.ask_as(&client, Weight::Counts).await;
    assert!(matches!(second, Err(WakeError::OverLimit(_))));
}

#[tokio::test(start_paused = true)]
async fn compute_is_suspended_in_time_under_who_does_not_count_after_a_while_for_what_is_open() {
    let house = house();
    let client = client(&house);
    let counted = house.lease().await;
    let ignored = house.ask_as(&client, IGNORED).await.unwrap();
    let rests = house.ask_as(&client, IGNORED).await.unwrap();
    rests.set_idle();
    let began = Instant::now();
    drop(counted);
    sleep(IDLE - SECOND).await;
    drop(house.ask_as(&client, IGNORED).await.unwrap());
    assert_eq!(*ignored.signal().borrow(), LeaseSignal::Steady);
    sleep(2 * SECOND).await;
    assert_eq!(*ignored.signal().borrow(), LeaseSignal::EndIfIdle);
    assert!(!ignored.is_cut_off());
    let refused = house.ask_as(&client, IGNORED).now_or_never().unwrap();
    assert!(
        matches!(refused, Err(WakeError::Ignored { .. })),
        "it is on its way"
    );
    drop(rests);
    house.asleep().await;
    assert!((IDLE + 5 * SECOND..IDLE + 6 * SECOND).contains(&began.elapsed()));
    assert!(ignored.is_cut_off());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_count_is_not_cut_off_by_a_suspend_that_is_called_off() {
    let house = house();
    let client = client(&house);
    let ignored = house.ask_as(&client, IGNORED);
    assert!(ignored.await.is_err());
    let counted = house.lease().await;
    let ignored = house.ask_as(&client, IGNORED).await.unwrap();
    drop(counted);
    sleep(IDLE + 3 * SECOND).await;
    let counted = house.ask(SECOND).now_or_never().unwrap().unwrap();
    assert_eq!(*ignored.signal().borrow(), LeaseSignal::Steady);
    sleep(10 * SECOND).await;
    assert_eq!((house.stops(), ignored.is_cut_off()), (0, false));
    drop((counted, ignored));
    house.asleep().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_count_waits_with_others_and_is_told_when_they_have_left() {
    let house = house();
    let client = client(&house);
    house.wakes.set_limits(&Limits {
        wakes_at_once_max: 1,
        ..Limits::default()
    });
    let (other, slow) = (EndpointName::parse("acme-other").unwrap(), Scripted::new());
    slow.script([Start::Takes(5 * SECOND)]);
    house.wakes.add(other.clone(), policy(), Arc::new(slow));
    let right = WakeRight::for_reading_roles();
    let first = house.wakes.lease(&other, &right, Instant::now() + 30 * SECOND);
    let counted = house.ask(30 * SECOND);
    let mut ignored = house.ask_as(&client, IGNORED);
    assert!((&mut ignored).now_or_never().is_none(), "it waits, too");
    let figures = house.wakes.figures(&house.name).unwrap();
    assert_eq!((figures.held, figures.held_counted), (2, 1));
    drop(counted);
    let answer = ignored.now_or_never().expect("it is told at once");
    assert!(matches!(answer, Err(WakeError::Ignored { .. })));

    let counted = house.ask(30 * SECOND);
    let ignored = house.ask_as(&client, IGNORED);
    first.await.unwrap();
    counted.await.unwrap();
    ignored.await.unwrap();
    assert_eq!(house.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn servers_processes_of_those_who_do_not_count_are_known_to_whoever_asks_the_server() {
    let asking = Policy {
        asks_veto: true,
        ..policy()
    };
    let house = build(asking, Scripted::new());
    let client = client(&house);
    let counted = house.lease().await;
    let ignored = house.ask_as(&client, IGNORED).await.unwrap();
    counted.works_at(41);
    ignored.works_at(42);
    drop(counted);
    sleep(IDLE + SECOND).await;
    assert_eq!(house.heard().last().unwrap(), "asked, [42] are own");
    drop(ignored);
    house.asleep().await;
    assert_eq!(house.heard().last().unwrap(), "asked, [] are own");
}
