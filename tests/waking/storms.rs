//! Many sleeping endpoints that are wanted at once: everybody is served, each compute is started once, and no tenant waits
//! for the crowd of another.
//!
//! They print what they saw. `make test-storms` runs them at full size: `PGWAKE_STORM=100` is a thousand clients of a hundred
//! endpoints, `PGWAKE_NIGHTLY=300` a job that touches three hundred.
#![expect(clippy::print_stdout, reason = "what a run was worth is told by its figures")]

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use pgwake::server::raise_file_limit;
use tokio::time::Instant;

use super::turns::{waiting_for_a_turn, woken};
use crate::harness::{
    chance::number,
    gate::Gate,
    gateway::{Gateway, Setup},
    raw::Raw,
    wait::until,
};

const AT_ONCE_MAX: usize = 8;
const TENANTS: [&str; 3] = ["acme", "zoo", "park"];

fn count(variable: &str, few: u64) -> usize {
    number(variable).unwrap_or(few).try_into().unwrap()
}

/// Comes, is served with one statement and leaves; how long it was held behind its proof.
async fn visit(gateway: &Gateway, endpoint: &str) -> Duration {
    let client = gateway.raw_proved(endpoint).await;
    finish(client, Instant::now()).await
}

async fn finish(mut client: Raw, since: Instant) -> Duration {
    // It may take longer than a client of tests waits for one message: NOTICEs come meanwhile.
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
    let setup = Setup::new().limit(&format!("wakes_at_once_max = {AT_ONCE_MAX}"));
    let setup = (0..endpoints).fold(setup, |setup, number| {
        let setup = setup.of_tenant(TENANTS[number % TENANTS.len()]);
        setup.listed(&name(number), "hold_timeout = \"10m\"\nsuspend_after = \"1h\"")
    });
    let gateway = setup.start().await;
    let began = Instant::now();

    let visits = (0..endpoints * clients_each).map(async |number| {
        let endpoint = number % endpoints;
        (
            TENANTS[endpoint % TENANTS.len()],
            visit(&gateway, &name(endpoint)).await,
        )
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
    const ALONE: &str = "nightly-alone";
    const AWAKE: &str = "nightly-awake";
    let endpoints = count("PGWAKE_NIGHTLY", 20);
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
    let job = join_all(
        crowd
            .iter()
            .map(async |name| (gateway.raw_proved(name).await, Instant::now())),
    )
    .await;
    until("the job to stand in line", async || {
        waiting_for_a_turn(&gateway) + woken("nightly-crowd-").len() == endpoints
    })
    .await;
    let before = woken("nightly-").len() - 1;
    let alone = gateway.raw_proved(ALONE).await;
    let came = Instant::now();
    until("one more to stand in line", async || {
        waiting_for_a_turn(&gateway) + woken("nightly-").len() == endpoints + 2
    })
    .await;

    gate.open();
    let work = async {
        let served = join_all(job.into_iter().map(|(client, since)| finish(client, since))).await;
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
    let (job_held, alone_held, answered) = tokio::join!(work, finish(alone, came), neighbour);

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
