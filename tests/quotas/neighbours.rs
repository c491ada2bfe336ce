//! A tenant that is at its limits, and what its neighbour notices of it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio_postgres::Client;

use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
};

/// Statements of one phase.
const STATEMENTS: usize = 60;
/// Phases with the neighbour at its limits, and as many without.
const ROUNDS: usize = 5;
/// How much slower a quiet tenant's median may get. Both tenants share this machine's cores with all other tests.
const RATIO_MAX: f64 = 4.0;

/// How long each of some statements took.
async fn latencies(client: &Client) -> Vec<Duration> {
    let mut all = Vec::with_capacity(STATEMENTS);
    for _ in 0..STATEMENTS {
        let since = Instant::now();
        client.query_one("select 1", &[]).await.unwrap();
        all.push(since.elapsed());
    }
    all
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64()
}

/// Makes as many transactions as it is let, and counts those that it is not, while `goes_on`.
async fn hammer(gateway: &Gateway, goes_on: &AtomicBool, refused: &AtomicU64) {
    let client = gateway.connect("quo-loud-pooler").await;
    while goes_on.load(Ordering::Relaxed) {
        if let Err(error) = client.batch_execute("select 1").await {
            assert_eq!(error.code().unwrap().code(), "53400", "{error:?}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_its_limits_is_not_felt_by_another() {
    let postgres = Postgres::start(Version::Debian).await;
    let quiet = format!(
        "[tenants.quiet.endpoints.quo-quiet]\n\
         roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
        postgres.socket().display()
    );
    let gateway = Setup::new()
        .tenants("[tenants.acme.limits]\nper_tenant.transactions = \"5/s\"\n")
        .fixed("quo-loud", &postgres, "")
        .tenants(&quiet)
        .start()
        .await;
    for pooling in super::BOTH_WAYS {
        let client = gateway.connect(&format!("quo-quiet{pooling}")).await;
        latencies(&client).await;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let refused = AtomicU64::new(0);
        for _ in 0..ROUNDS {
            alone.extend(latencies(&client).await);
            let goes_on = AtomicBool::new(true);
            let loud = async {
                tokio::join!(
                    hammer(&gateway, &goes_on, &refused),
                    hammer(&gateway, &goes_on, &refused)
                )
            };
            let measured = async {
                let before = refused.load(Ordering::Relaxed);
                while refused.load(Ordering::Relaxed) < before + 4 {
                    tokio::task::yield_now().await;
                }
                beside.extend(latencies(&client).await);
                goes_on.store(false, Ordering::Relaxed);
            };
            tokio::join!(loud, measured);
        }
        let (alone, beside) = (median(alone), median(beside));
        println!(
            "median of a quiet tenant{pooling}: {:.0} µs alone, {:.0} µs beside one at its limits ({} refusals)",
            alone * 1e6,
            beside * 1e6,
            refused.load(Ordering::Relaxed)
        );
        assert!(beside < alone * RATIO_MAX, "{alone} s alone, {beside} s beside");
    }
}
