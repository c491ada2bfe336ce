//! What the gate lets through, by the clock and in any order.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::config::Rate;

pub(super) fn rules() -> GateRules {
    let per = Duration::from_secs(60);
    GateRules {
        unproved_max: 10,
        unproved_per_network_max: 4,
        attempts: Rate { count: 12, per },
        attempts_per_endpoint: Rate { count: 6, per },
        failures_max: 3,
        lockout_min: Duration::from_secs(1),
        lockout_max: Duration::from_secs(8),
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn addresses_of_a_network_count_together_however_they_are_written() {
    let network = |text: &str| Network::of(text.parse().unwrap());
    assert_eq!(network("203.0.113.7"), network("203.0.113.200"));
    assert_eq!(network("203.0.113.7"), network("::ffff:203.0.113.9"));
    assert_ne!(network("203.0.113.7"), network("203.0.114.7"));
    assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
    assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
}

#[test]
fn connections_that_have_not_logged_in_are_bounded_per_network_and_in_all() {
    let gate = Arc::new(Gate::new(rules()));
    let mut first: Vec<_> = (0..4).map(|_| gate.enter(ip("192.0.2.1")).unwrap()).collect();
    assert!(gate.enter(ip("192.0.2.77")).is_none());
    let others: Vec<_> = (0..4).map(|_| gate.enter(ip("198.51.100.1")).unwrap()).collect();
    let local: Vec<_> = (0..2).map(|_| gate.enter(None).unwrap()).collect();
    assert!(gate.enter(ip("203.0.113.1")).is_none());
    assert!(gate.enter(None).is_none());
    drop(local);
    assert!(gate.enter(ip("192.0.2.77")).is_none());
    first.pop();
    let again = gate.enter(ip("192.0.2.77")).unwrap();
    drop((first, others, again));
    assert_eq!(gate.unproved.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_limited_per_network_and_endpoint_and_those_that_succeed_do_not_count() {
    let gate = Gate::new(rules());
    for _ in 0..100 {
        gate.attempt(ip("192.0.2.1"), "acme", b"app")
            .unwrap()
            .proved()
            .unwrap();
    }
    for _ in 0..6 {
        let _ = gate.attempt(ip("192.0.2.1"), "acme", b"app").unwrap();
    }
    let refused = |endpoint| gate.attempt(ip("192.0.2.9"), endpoint, b"app").map(drop);
    assert_eq!(refused("acme"), Err(TurnedAway::Endpoint));
    // Others are not concerned, whether their network is another or their endpoint.
    gate.attempt(ip("198.51.100.1"), "acme", b"app")
        .unwrap()
        .proved()
        .unwrap();
    for _ in 0..6 {
        let _ = gate.attempt(ip("192.0.2.1"), "nobody", b"app").unwrap();
    }
    assert_eq!(refused("other"), Err(TurnedAway::Network));
    advance(Duration::from_secs(10)).await;
    let _ = gate.attempt(ip("192.0.2.1"), "acme", b"app").unwrap();
    assert_eq!(refused("acme"), Err(TurnedAway::Endpoint));
    assert!(gate.attempt(None, "acme", b"app").is_ok());
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_lock_a_role_out_for_longer_each_time() {
    let mut rules = rules();
    (rules.attempts.count, rules.attempts_per_endpoint.count) = (100, 100);
    let gate = Gate::new(rules);
    let fail = || {
        let attempt = gate.attempt(ip("192.0.2.1"), "acme", b"app");
        attempt.and_then(|attempt| attempt.failed(Failure::Wrong))
    };
    for _ in 0..3 {
        assert_eq!(fail(), Ok(false));
    }
    for seconds in [1, 2, 4, 8, 8] {
        assert_eq!(fail(), Ok(true));
        advance(Duration::from_millis(seconds * 1000 - 1)).await;
        assert_eq!(fail(), Err(TurnedAway::LockedOut));
        // Another role, another endpoint, another network.
        for (from, endpoint, role) in [
            ("192.0.2.1", "acme", "b"),
            ("192.0.2.1", "b", "app"),
            ("192.0.3.1", "acme", "app"),
        ] {
            let attempt = gate.attempt(ip(from), endpoint, role.as_bytes());
            attempt.unwrap().proved().unwrap();
        }
        advance(Duration::from_millis(1)).await;
    }
    // Nothing was wrong for as long as the longest lock-out.
    advance(Duration::from_millis(8001)).await;
    assert_eq!(fail(), Ok(false));
}

/// The lock-out was looked at before a login alone: of many that began at once, each was told whether its guess was right.
#[tokio::test(start_paused = true)]
async fn guesses_at_once_are_as_many_as_one_after_the_other() {
    let mut rules = rules();
    (rules.attempts.count, rules.attempts_per_endpoint.count) = (100, 100);
    let gate = Gate::new(rules);
    let attempt = || gate.attempt(ip("192.0.2.1"), "acme", b"app").unwrap();
    let (begun, right): (Vec<_>, _) = ((0..8).map(|_| attempt()).collect(), attempt());
    let told: Vec<_> = begun.into_iter().map(|one| one.failed(Failure::Wrong)).collect();
    let heard = [Ok(false), Ok(false), Ok(false), Ok(true)];
    assert_eq!(told, [&heard[..], &[Err(TurnedAway::LockedOut); 4]].concat());
    assert_eq!(right.proved(), Err(TurnedAway::LockedOut));
    // Being right has changed nothing, and those beyond have not made it longer.
    let again = || gate.attempt(ip("192.0.2.1"), "acme", b"app").map(drop);
    assert_eq!(again(), Err(TurnedAway::LockedOut));
    advance(Duration::from_secs(1)).await;
    assert_eq!(again(), Ok(()));
}

/// Who was locked out for `lockout_max` stayed so behind a reload that forgave more, or locked nobody out for so long.
#[tokio::test(start_paused = true)]
async fn other_rules_hold_for_who_is_locked_out_already() {
    let mut rules = rules();
    (rules.attempts.count, rules.attempts_per_endpoint.count) = (100, 100);
    let gate = Gate::new(rules.clone());
    let attempt = || gate.attempt(ip("192.0.2.1"), "acme", b"app");
    for delay in [0, 0, 0, 1, 2, 4, 8] {
        attempt().unwrap().failed(Failure::Wrong).unwrap();
        advance(Duration::from_secs(delay)).await;
    }
    attempt().unwrap().failed(Failure::Wrong).unwrap();
    let is_locked_out = || attempt().is_err_and(|away| away == TurnedAway::LockedOut);
    assert!(is_locked_out());
    rules.failures_max = 8;
    gate.set_rules(rules.clone());
    assert!(!is_locked_out(), "so many are forgiven");
    rules.failures_max = 3;
    gate.set_rules(rules.clone());
    assert!(is_locked_out());
    rules.lockout_max = Duration::from_secs(2);
    gate.set_rules(rules);
    advance(Duration::from_secs(2)).await;
    assert!(!is_locked_out());
}

/// Applications that tried while the control plane was down were locked out for up to `lockout_max` behind its return.
#[tokio::test(start_paused = true)]
async fn what_failed_while_nobody_could_tell_whether_the_name_exists_is_forgiven_once_somebody_can() {
    let mut rules = rules();
    (rules.attempts.count, rules.attempts_per_endpoint.count) = (100, 100);
    let gate = Gate::new(rules);
    let attempt = || gate.attempt(ip("192.0.2.1"), "acme", b"app");
    let fail = |failure| attempt().and_then(|attempt| attempt.failed(failure));
    for _ in 0..2 {
        assert_eq!(fail(Failure::Wrong), Ok(false));
    }
    assert_eq!(fail(Failure::Undecided), Ok(false));
    assert_eq!(fail(Failure::Undecided), Ok(true));
    assert_eq!(fail(Failure::Undecided), Err(TurnedAway::LockedOut));
    assert_eq!(attempt().unwrap().proved(), Err(TurnedAway::LockedOut));

    // Those that were wrong count on.
    attempt().unwrap().decided();
    assert_eq!(fail(Failure::Wrong), Ok(false));
    assert_eq!(fail(Failure::Wrong), Ok(true));
    assert_eq!(attempt().map(drop), Err(TurnedAway::LockedOut));
    advance(Duration::from_secs(1)).await;

    assert_eq!(fail(Failure::Undecided), Ok(true));
    attempt().unwrap().decided();
    attempt().unwrap().proved().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_network_from_which_a_role_has_logged_in_is_not_locked_out() {
    let gate = Gate::new(rules());
    gate.attempt(ip("192.0.2.1"), "acme", b"app")
        .unwrap()
        .proved()
        .unwrap();
    for _ in 0..30 {
        let attempt = gate.attempt(ip("192.0.2.99"), "acme", b"app");
        assert_eq!(
            attempt.and_then(|attempt| attempt.failed(Failure::Wrong)),
            Ok(false)
        );
        advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cancels_that_hit_nothing_are_limited() {
    let gate = Gate::new(rules());
    for _ in 0..50 {
        assert!(gate.may_cancel(ip("192.0.2.1")));
        gate.cancel_hit(ip("192.0.2.1"));
    }
    let missed = (0..50).filter(|_| gate.may_cancel(ip("192.0.2.1"))).count();
    assert_eq!(missed, 12);
    assert!(gate.may_cancel(ip("198.51.100.1")) && gate.may_cancel(None));
}

proptest! {
    /// Whatever comes and goes in whatever order: never more than the limits, and in the end nobody counts.
    #[test]
    fn connections_never_exceed_the_limits(steps in prop::collection::vec((0..4_u8, 0..20_usize), 0..200)) {
        let gate = Arc::new(Gate::new(rules()));
        let mut inside: Vec<(u8, Unproved)> = Vec::new();
        for (network, leaver) in steps {
            if leaver < inside.len() {
                inside.swap_remove(leaver);
                continue;
            }
            let mut of_network = BTreeMap::new();
            inside.iter().for_each(|(network, _)| *of_network.entry(*network).or_insert(0) += 1);
            let has_room = inside.len() < 10 && of_network.get(&network).is_none_or(|count| *count < 4);
            let entered = gate.enter(Some(IpAddr::from([10, 0, network, 1])));
            prop_assert_eq!(entered.is_some(), has_room);
            inside.extend(entered.map(|entered| (network, entered)));
        }
        drop(inside);
        prop_assert_eq!(gate.unproved.load(Ordering::Relaxed), 0);
    }
}
