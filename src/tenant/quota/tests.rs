//! Never more than the limit, and everything comes back, whatever happens in which order.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
};

use proptest::prelude::*;
use tokio::time::{advance, pause};

use super::*;
use crate::config::{ByteRate, EndpointQuotas, Rate};
use crate::error::{ClientError, SqlState};

fn endpoint(tenant: &str, name: &str, quotas: EndpointQuotas) -> Endpoint {
    Endpoint {
        name: EndpointName::parse(name).unwrap(),
        quotas,
        ..Endpoint::without_compute(tenant)
    }
}

fn config(process: Quota, endpoints: &[&Endpoint]) -> Config {
    let mut config = Config::of_endpoints(endpoints.iter().copied());
    config.limits.quota = process;
    config
}

fn clients(max: usize) -> Quota {
    Quota {
        clients_max: Some(max),
        ..Quota::default()
    }
}

fn rate(count: u32, seconds: u64) -> Option<Rate> {
    let per = Duration::from_secs(seconds);
    Some(Rate { count, per })
}

/// What everybody in a scope has taken.
fn used(account: &Account) -> [usize; 4] {
    [
        Counted::Clients,
        Counted::ServerSessions,
        Counted::Held,
        Counted::Awake,
    ]
    .map(|what| account.used(what))
}

fn accounts(quotas: &Quotas) -> Vec<Arc<Account>> {
    let mut all = vec![quotas.process.clone()];
    all.extend(lock(&quotas.tenants).values().cloned());
    all.extend(lock(&quotas.endpoints).values().cloned());
    all.extend(lock(&quotas.roles).values().cloned());
    all
}

/// Nothing is taken any more.
fn assert_empty(quotas: &Quotas) {
    for account in accounts(quotas) {
        assert_eq!(used(&account), [0; 4], "{account:?}");
    }
}

#[test]
fn what_a_narrow_scope_refuses_costs_a_wide_one_nothing() {
    let limits = EndpointQuotas {
        per_tenant: clients(3),
        per_endpoint: Quota {
            connects: rate(4, 60),
            ..Quota::default()
        },
        per_role: clients(1),
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    let first = quotas.admit(&main, "app").unwrap();
    for _ in 0..5 {
        let over = quotas.admit(&main, "app").unwrap_err();
        assert_eq!(over.sqlstate(), SqlState("53300"));
        assert_eq!(
            over.message(),
            "too many clients of role \"app\" at endpoint \"acme-main\""
        );
        assert_eq!(
            over.detail().unwrap(),
            "limits.per_role.clients_max is 1, and there are 1"
        );
        assert!(over.hint().is_some());
    }
    let others: Vec<_> = ["a", "b"].map(|role| quotas.admit(&main, role).unwrap()).into();
    let over = quotas.admit(&main, "c").unwrap_err();
    assert_eq!(over.message(), "too many clients of tenant \"acme\"");
    assert_eq!(used(&quotas.process)[0], 3);
    drop(others);
    quotas.admit(&main, "c").unwrap();
    let over = quotas.admit(&main, "c").unwrap_err();
    assert_eq!(over.sqlstate(), SqlState("53400"));
    assert!(
        over.detail()
            .unwrap()
            .starts_with("limits.per_endpoint.connects is 4/min, and all of it is used")
    );
    drop(first);
    assert_empty(&quotas);
}

#[test]
fn a_reserve_is_for_operators_and_a_rate_does_not_hold_them_up() {
    let limits = EndpointQuotas {
        per_tenant: Quota {
            operator_reserve: 2,
            connects: rate(2, 3600),
            ..clients(3)
        },
        operator_roles: vec!["boss".to_owned()],
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    let _usual = quotas.admit(&main, "app").unwrap();
    let over = quotas.admit(&main, "app").unwrap_err();
    let detail = "limits.per_tenant.clients_max is 3, of which 2 are reserved for operators, and there are 1";
    assert_eq!(over.detail().unwrap(), detail);
    let _operators = [
        quotas.admit(&main, "boss").unwrap(),
        quotas.admit(&main, "boss").unwrap(),
    ];
    assert_eq!(
        quotas.admit(&main, "boss").unwrap_err().sqlstate(),
        SqlState("53300")
    );
}

#[test]
fn other_limits_hold_at_once_and_drop_nobody() {
    let limits = |max| EndpointQuotas {
        per_tenant: Quota {
            bytes_in: (max > 2).then_some(ByteRate(4096)),
            ..clients(max)
        },
        ..EndpointQuotas::default()
    };
    let (before, after) = (
        endpoint("acme", "acme-main", limits(2)),
        endpoint("acme", "acme-main", limits(4)),
    );
    let quotas = Quotas::new(&config(clients(100), &[&before]));
    let mut here: Vec<_> = (0..2).map(|_| quotas.admit(&before, "app").unwrap()).collect();
    let mut meter = here[0].meter(Paced::BytesIn);
    assert!(!meter.is_on());
    quotas.set_rules(&config(clients(100), &[&after]));
    assert!(meter.is_on(), "a client that is here is limited, too");
    // With what its client knew before.
    here.extend((0..2).map(|_| quotas.admit(&before, "app").unwrap()));
    assert!(quotas.admit(&after, "app").is_err());
    quotas.set_rules(&config(clients(100), &[&before]));
    assert!(!meter.is_on());
    assert_eq!(used(&quotas.process)[0], 4);
    here.truncate(2);
    assert!(quotas.admit(&before, "app").is_err());
    here.truncate(1);
    assert!(quotas.admit(&before, "app").is_ok());
    drop((here, meter));
    quotas.set_rules(&config(clients(100), &[]));
    assert_eq!(accounts(&quotas).len(), 1, "who is gone is forgotten");
}

/// A login that was under way as limits were changed brought the old ones with it, for all who came behind it.
#[test]
fn one_endpoint_that_changes_has_its_limits_and_its_tenant_and_no_other_endpoint() {
    let limits = |max: usize| EndpointQuotas {
        per_tenant: clients(10 * max),
        per_endpoint: clients(2 * max),
        per_role: clients(max),
        ..EndpointQuotas::default()
    };
    let named = |name: &str, max| endpoint("acme", name, limits(max));
    let all = ["acme", "acme-b", "acme-c"].map(|name| named(name, 1));
    let quotas = Quotas::new(&config(Quota::default(), &all.each_ref()));
    let _here: Vec<_> = all.iter().map(|one| quotas.admit(one, "app").unwrap()).collect();
    let mut endpoints = Config::of_endpoints(all.iter()).endpoints;
    let changed = named("acme-b", 3);
    endpoints.insert(Arc::new(changed.clone()));
    quotas.set_rules_of(&changed, &endpoints);
    let max_of = |scope: &Scope| {
        let found = accounts(&quotas)
            .into_iter()
            .find(|account| account.scope() == scope);
        found.unwrap().rules().clients_max.unwrap()
    };
    let role = |name: &str| Scope::Role(EndpointName::parse(name).unwrap(), "app".to_owned());
    let own = |name: &str| Scope::Endpoint(EndpointName::parse(name).unwrap());
    assert_eq!(
        ["acme", "acme-b", "acme-c"].map(|name| max_of(&role(name))),
        [1, 3, 1]
    );
    assert_eq!(
        ["acme", "acme-b", "acme-c"].map(|name| max_of(&own(name))),
        [2, 6, 2]
    );
    assert_eq!(max_of(&Scope::Tenant(changed.tenant.clone())), 30);
    // Who began to log in before comes under what holds now; one that is gone has what it had.
    let _second = quotas.admit(&all[1], "app").unwrap();
    endpoints.remove(&changed.name);
    quotas.set_endpoints(&endpoints);
    quotas.admit(&changed, "app").unwrap();
    assert_eq!(max_of(&own("acme-b")), 6);
}

#[test]
fn who_began_to_log_in_under_other_limits_comes_under_those_that_hold() {
    let limited = |max| EndpointQuotas {
        per_tenant: clients(3 * max),
        per_endpoint: clients(2 * max),
        per_role: clients(max),
        operator_roles: Vec::new(),
    };
    let before = endpoint("acme", "acme-main", limited(10));
    let after = endpoint("acme", "acme-main", limited(1));
    let quotas = Quotas::new(&config(clients(100), &[&before]));
    quotas.set_rules(&config(clients(100), &[&after]));
    let one = quotas.admit(&before, "app").unwrap();
    assert!(quotas.admit(&before, "app").is_err(), "one of the role");
    let other = quotas.admit(&before, "other").unwrap();
    assert!(quotas.admit(&before, "third").is_err(), "two of the endpoint");
    let elsewhere = endpoint("acme", "acme-gone", limited(10));
    let third = quotas.admit(&elsewhere, "app").unwrap();
    assert!(quotas.admit(&elsewhere, "app").is_err(), "three of the tenant");
    drop((one, other, third));
    assert_empty(&quotas);
}

#[tokio::test]
async fn a_rate_comes_back_with_time() {
    pause();
    let limits = EndpointQuotas {
        per_role: Quota {
            connects: rate(6, 60),
            wakes: rate(1, 60),
            transactions: rate(10, 1),
            ..Quota::default()
        },
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    for _ in 0..6 {
        quotas.admit(&main, "app").unwrap();
    }
    assert!(
        quotas.admit(&main, "app").is_err(),
        "leaving does not give a login back"
    );
    advance(Duration::from_millis(9_900)).await;
    assert!(quotas.admit(&main, "app").is_err());
    advance(Duration::from_millis(200)).await;
    let client = quotas.admit(&main, "app").unwrap();
    client.take_wake().unwrap();
    assert_eq!(client.take_wake().unwrap_err().limit(), "limits.per_role.wakes");
    let meter = client.meter(Paced::Transactions);
    for _ in 0..10 {
        meter.take().unwrap();
    }
    assert!(
        meter
            .take()
            .unwrap_err()
            .detail()
            .unwrap()
            .contains("the next is possible in 0.1 s")
    );
    meter.charge(10);
    assert_eq!(
        meter.delay(),
        Duration::from_secs(1),
        "what has happened is charged in any case"
    );
    advance(Duration::from_millis(1_100)).await;
    meter.take().unwrap();
    assert!(meter.take().is_err());
}

/// What was used of an old limit was counted in its time: who had used up ten in an hour was refused for an hour when there
/// might be a hundred in a second, and whose answers had made debts at a kilobyte a second waited for them at a megabyte.
#[tokio::test]
async fn what_was_used_of_a_limit_counts_as_much_under_another() {
    pause();
    let under = |transactions, bytes: usize| {
        let quota = Quota {
            transactions,
            bytes_out: Some(ByteRate(bytes)),
            ..Quota::default()
        };
        let limits = EndpointQuotas {
            per_tenant: quota,
            ..EndpointQuotas::default()
        };
        endpoint("acme", "acme-main", limits)
    };
    let (before, after) = (under(rate(10, 3600), 1000), under(rate(100, 1), 1_000_000));
    let quotas = Quotas::new(&config(clients(100), &[&before]));
    let client = quotas.admit(&before, "app").unwrap();
    let [transactions, answers] = [Paced::Transactions, Paced::BytesOut].map(|paced| client.meter(paced));
    for _ in 0..10 {
        transactions.take().unwrap();
    }
    assert!(transactions.take().is_err());
    answers.charge(101_000);
    assert_eq!(answers.delay(), Duration::from_secs(100));

    quotas.set_rules(&config(clients(100), &[&after]));
    assert_eq!(answers.delay(), Duration::ZERO);
    for _ in 0..90 {
        transactions.take().unwrap();
    }
    assert!(transactions.take().is_err(), "ten were used before");

    quotas.set_rules(&config(clients(100), &[&before]));
    assert!(transactions.take().is_err());
    assert_eq!(answers.delay(), Duration::from_secs(100), "a debt stays one");
}

#[tokio::test]
async fn who_is_refused_asks_again_one_after_the_other_as_fast_as_the_limit_is() {
    pause();
    let limits = EndpointQuotas {
        per_tenant: Quota {
            transactions: rate(20, 1),
            ..Quota::default()
        },
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    let clients = ["app", "other"].map(|role| quotas.admit(&main, role).unwrap());
    let meters = clients.each_ref().map(|client| client.meter(Paced::Transactions));
    let ask_again = || {
        let [one, other] = &meters;
        [one, other, one, other, one].map(|meter| meter.asks_again().as_millis())
    };
    advance(Duration::from_secs(1)).await;
    assert_eq!(ask_again(), [20, 70, 120, 170, 200]);
    advance(Duration::from_millis(100)).await;
    assert_eq!(ask_again(), [150, 200, 200, 200, 200]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        ask_again(),
        [20, 70, 120, 170, 200],
        "nobody is in the line any more"
    );
}

#[test]
fn computes_that_ran_already_are_counted_beyond_the_limit() {
    let limits = EndpointQuotas {
        per_tenant: Quota {
            computes_awake_max: Some(1),
            ..Quota::default()
        },
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    let budget = quotas.wake_budget(&main);
    let adopted = [budget.count(), budget.count()];
    let over = budget.take().unwrap_err();
    assert_eq!(over.sqlstate(), SqlState("53400"));
    assert_eq!(
        over.detail().unwrap(),
        "limits.per_tenant.computes_awake_max is 1, and there are 2"
    );
    drop(adopted);
    assert!(budget.take().unwrap().is_some());
    assert_empty(&quotas);
}

#[test]
fn roles_that_nobody_uses_are_forgotten_when_there_are_too_many() {
    let limits = EndpointQuotas {
        per_role: Quota {
            connects: rate(2, 3600),
            ..clients(2)
        },
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(1_000_000), &[&main]));
    let kept = quotas.admit(&main, "kept").unwrap();
    for role in 0..ROLES_MAX + 10 {
        drop(quotas.admit(&main, &format!("r{role}")).unwrap());
    }
    assert!(lock(&quotas.roles).len() <= ROLES_MAX);
    let _second = quotas.admit(&main, "kept").unwrap();
    assert!(
        quotas.admit(&main, "kept").is_err(),
        "it was counted all the time"
    );
    drop(kept);
}

/// What clients do, by the number of a client.
#[derive(Debug, Clone)]
enum Act {
    Come { tenant: usize, role: usize },
    Session(usize),
    Hold(usize),
    Awake { tenant: usize },
    Crash(usize),
    LetGo(usize),
    Sleep(usize),
    Limit { tenant: usize, max: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..2_usize, 0..3_usize).prop_map(|(tenant, role)| Act::Come { tenant, role }),
        3 => any::<usize>().prop_map(Act::Session),
        2 => any::<usize>().prop_map(Act::Hold),
        2 => (0..2_usize).prop_map(|tenant| Act::Awake { tenant }),
        3 => any::<usize>().prop_map(Act::Crash),
        2 => any::<usize>().prop_map(Act::LetGo),
        1 => any::<usize>().prop_map(Act::Sleep),
        1 => (0..2_usize, 1..5_usize).prop_map(|(tenant, max)| Act::Limit { tenant, max }),
    ]
}

fn everything(max: usize) -> EndpointQuotas {
    let quota = |max| Quota {
        clients_max: Some(max),
        server_sessions_max: Some(max),
        held_clients_max: Some(max),
        computes_awake_max: Some(max),
        ..Quota::default()
    };
    EndpointQuotas {
        per_tenant: quota(max + 2),
        per_endpoint: quota(max + 1),
        per_role: quota(max),
        ..EndpointQuotas::default()
    }
}

proptest! {
    #[test]
    fn random_arrivals_crashes_and_changes_never_go_beyond_a_limit(acts in prop::collection::vec(act(), 0..200)) {
        let names = [("acme", "acme-main"), ("other", "other-main")];
        let mut endpoints = names.map(|(tenant, name)| endpoint(tenant, name, everything(2)));
        let whole = Quota { server_sessions_max: Some(5), ..clients(6) };
        let quotas = Quotas::new(&config(whole.clone(), &[&endpoints[0], &endpoints[1]]));
        let mut here: Vec<(ClientPermit, Vec<Permit>)> = Vec::new();
        let mut awake = Vec::new();
        for act in acts {
            let before: HashMap<_, _> = accounts(&quotas)
                .iter()
                .map(|account| (Arc::as_ptr(account), used(account)))
                .collect();
            let mut is_arrival = true;
            match act {
                Act::Come { tenant, role } => {
                    let admitted = quotas.admit(&endpoints[tenant], &format!("r{role}"));
                    here.extend(admitted.ok().map(|permit| (permit, Vec::new())));
                }
                Act::Session(n) if !here.is_empty() => {
                    let n = n % here.len();
                    let permit = here[n].0.server_session();
                    here[n].1.extend(permit.ok());
                }
                Act::Hold(n) if !here.is_empty() => {
                    let n = n % here.len();
                    let permit = here[n].0.hold();
                    here[n].1.extend(permit.ok());
                }
                Act::Awake { tenant } => awake.extend(quotas.wake_budget(&endpoints[tenant]).take().ok().flatten()),
                Act::Crash(n) if !here.is_empty() => drop(here.swap_remove(n % here.len())),
                Act::LetGo(n) if !here.is_empty() => {
                    let n = n % here.len();
                    here[n].1.pop();
                }
                Act::Sleep(n) if !awake.is_empty() => drop(awake.swap_remove(n % awake.len())),
                Act::Limit { tenant, max } => {
                    let (owner, name) = names[tenant];
                    endpoints[tenant] = endpoint(owner, name, everything(max));
                    quotas.set_rules(&config(whole.clone(), &[&endpoints[0], &endpoints[1]]));
                    is_arrival = false;
                }
                _ => (),
            }
            prop_assert_eq!(used(&quotas.process)[0], here.len());
            for account in accounts(&quotas) {
                let before = before.get(&Arc::as_ptr(&account)).copied().unwrap_or_default();
                let rules = account.rules();
                let max = [
                    rules.clients_max,
                    rules.server_sessions_max,
                    rules.held_clients_max,
                    rules.computes_awake_max,
                ];
                let now = used(&account);
                for n in 0..4 {
                    let grew = now[n] > before[n] && is_arrival;
                    prop_assert!(!grew || max[n].is_none_or(|max| now[n] <= max), "{:?} {:?}", now, max);
                }
            }
        }
        drop((here, awake));
        assert_empty(&quotas);
    }

    #[test]
    fn a_pace_never_lets_more_begin_than_a_period_allows(
        count in 1..50_u32,
        steps in prop::collection::vec((0..400_u64, 0..3_u8), 1..300),
    ) {
        let pace = pace::Pace::default();
        let period = 1_000_000_000;
        pace.set(u64::from(count), Duration::from_nanos(period), 0);
        let (mut now, mut begun) = (0, Vec::new());
        for (pause, charge) in steps {
            now += pause * 1_000_000;
            if charge > 1 {
                pace.charge(1, now);
                begun.push(now);
            } else if pace.take(now).is_ok() {
                // In any stretch of time: what a period allows at once, and what came back since.
                begun.push(now);
                for (index, since) in begun.iter().enumerate() {
                    let allowed = u128::from(count) * (u128::from(now - since) + u128::from(period)) / u128::from(period);
                    prop_assert!((begun.len() - index) as u128 <= allowed + 1);
                }
            }
        }
    }
}

#[test]
fn threads_that_come_and_go_at_once_never_go_beyond_a_limit() {
    const THREADS: usize = 8;
    let limits = EndpointQuotas {
        per_tenant: clients(3),
        ..EndpointQuotas::default()
    };
    let main = endpoint("acme", "acme-main", limits);
    let quotas = Quotas::new(&config(clients(100), &[&main]));
    let refused = AtomicU64::new(0);
    let tenant = quotas.tenant(&main);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (quotas, main, refused, tenant) = (&quotas, &main, &refused, &tenant);
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let Ok(permit) = quotas.admit(main, &format!("r{thread}")) else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    assert!(tenant.used(Counted::Clients) <= 3);
                    let session = permit.server_session();
                    thread::yield_now();
                    drop((session, permit));
                }
            });
        }
    });
    drop(tenant);
    assert_empty(&quotas);
    assert!(
        refused.load(Ordering::Relaxed) > 0,
        "nobody met the limit: nothing was tried"
    );
}
