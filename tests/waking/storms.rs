//! Many sleeping endpoints that are wanted at once: everybody is served, each compute is started once, and no tenant waits
//! for the crowd of another.
//!
//! They print what they saw. `make test-storms` runs them at full size: `PGWAKE_STORM=100` is a thousand clients of a hundred
//! endpoints, `PGWAKE_NIGHTLY=300` a job that touches three hundred.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use pgwake::server::raise_file_limit;
use tokio::{sync::Semaphore, time::Instant};

use super::turns::{waiting_for_a_turn, woken};
use crate::harness::{
    chance::number,
    gate::Gate,
    gateway::{Gateway, Setup},
    raw::Raw,
    wait::until,
};

/// Nobody's login takes so long that it is given up, on a machine that all of them share.
const LOGINS_AT_ONCE: usize = 20;
const TENANTS: [&str; 3] = ["acme", "zoo", "park"];

fn count(variable: &str, few: u64) -> usize {
    number(variable).unwrap_or(few).try_into().unwrap()
}

/// Has proved who it is, and is held since.
async fn come(gateway: &Gateway, endpoint: &str, logins: &Semaphore) -> (Raw, Instant) {
    let _turn = logins.acquire().await.unwrap();
    (gateway.raw_proved(endpoint).await, Instant::now())
}

/// Is served with one statement and leaves; how long it was held behind its proof.
async fn finish((mut client, since): (Raw, Instant)) -> Duration {
    client.until(b'Z').await;
    let held = since.elapsed();
    client.query("select 1").await;
    let answer = client.until(b'Z').await;
    assert!(answer.iter().any(|message| message.tag == b'D'), "{answer:?}");
    held
}

#[tokio::test]
async fn a_storm_is_served_by_one_start_for_each_compute() {
    let endpoints = count("PGWAKE_STORM", 8);
    let clients_each = 10;
    raise_file_limit();
    let name = |number: usize| format!("thunder-{number}");
    // Fewer than there are endpoints: there is a line.
    let at_once_max = (endpoints / 4).clamp(2, 8);
    let setup = Setup::new().limit(&format!("wakes_at_once_max = {at_once_max}"));
    let setup = (0..endpoints).fold(setup, |setup, number| {
        let setup = setup.of_tenant(TENANTS[number % TENANTS.len()]);
        setup.listed(&name(number), "hold_timeout = \"2m\"\nsuspend_after = \"1h\"")
    });
    let gateway = setup.start().await;
    let (began, logins) = (Instant::now(), Semaphore::new(LOGINS_AT_ONCE));

    let visits = (0..endpoints * clients_each).map(async |number| {
        let endpoint = number % endpoints;
        let client = come(&gateway, &name(endpoint), &logins).await;
        (TENANTS[endpoint % TENANTS.len()], finish(client).await)
    });
    let held = join_all(visits).await;

    let mut by_tenant: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    held.iter()
        .for_each(|(tenant, held)| by_tenant.entry(tenant).or_default().push(*held));
    println!(
        "{} clients of {endpoints} endpoints served within {:?}",
        held.len(),
        began.elapsed()
    );
    for (tenant, mut held) in by_tenant {
        held.sort();
        println!(
            "  {tenant}: held for {:?} in the middle, {:?} at most",
            held[held.len() / 2],
            held[held.len() - 1]
        );
    }
    for number in 0..endpoints {
        assert_eq!(gateway.wakes(&name(number)), 1, "{}", name(number));
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_nightly_job_over_sleeping_endpoints_disturbs_no_other_tenant() {
    const AT_ONCE_MAX: usize = 2;
    const ALONE: &str = "nightly-alone";
    const AWAKE: &str = "nightly-awake";
    let endpoints = count("PGWAKE_NIGHTLY", 12);
    raise_file_limit();
    let crowd: Vec<_> = (0..endpoints)
        .map(|number| format!("nightly-crowd-{number}"))
        .collect();
    let setup = Setup::new().limit(&format!("wakes_at_once_max = {AT_ONCE_MAX}"));
    let mut gate = Gate::new(setup.path());
    let keys = "hold_timeout = \"10m\"\nsuspend_after = \"1s\"";
    let setup = crowd
        .iter()
        .fold(setup, |setup, name| setup.gated(name, &gate, keys));
    let setup = setup.of_tenant("zoo").gated(ALONE, &gate, keys).listed(AWAKE, "");
    let gateway = setup.start().await;
    let awake = gateway.connect(AWAKE).await;
    gate.close();
    let logins = Semaphore::new(LOGINS_AT_ONCE);
    let job = join_all(crowd.iter().map(|name| come(&gateway, name, &logins))).await;
    until("the job to stand in line", async || {
        waiting_for_a_turn(&gateway) + woken("nightly-crowd-").len() == endpoints
    })
    .await;
    let before = woken("nightly-").len() - 1;
    let alone = come(&gateway, ALONE, &logins).await;
    until("one more to stand in line", async || {
        waiting_for_a_turn(&gateway) + woken("nightly-").len() == endpoints + 2
    })
    .await;

    gate.open();
    let work = async {
        let served = join_all(job.into_iter().map(finish)).await;
        served.into_iter().max().unwrap()
    };
    let neighbour = async {
        let mut longest = Duration::ZERO;
        for _ in 0..endpoints {
            let since = Instant::now();
            awake.query_one("select 1", &[]).await.unwrap();
            longest = longest.max(since.elapsed());
        }
        longest
    };
    let (job_held, alone_held, answered) = tokio::join!(work, finish(alone), neighbour);

    let order = woken("nightly-");
    let place = order
        .iter()
        .filter(|name| *name != AWAKE)
        .position(|name| name == ALONE)
        .unwrap();
    println!(
        "{endpoints} endpoints of one tenant, held for {job_held:?} at most: the other's one for {alone_held:?}, \
         behind {} starts; its awake one answered within {answered:?}",
        place - before
    );
    // What the crowd may spend before it is the other's turn: a second's worth of starts, four at least a quarter of one.
    // And where logging in took long, starts that hang at the gate have let others begin.
    assert!(
        place <= before + 5 + AT_ONCE_MAX,
        "{place} behind {before}: {order:?}"
    );
    for name in &crowd {
        assert_eq!(gateway.wakes(name), 1, "{name}");
    }
    drop(awake);
    gateway.server.stop().await;
}
