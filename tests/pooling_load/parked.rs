//! Real pools full of idle connections in front of a compute that sleeps and wakes: no pool notices.

mod pools;

use std::time::Instant;

use super::pooled::{Lending, Pooled};
use pools::Pools;

const SESSIONS: usize = 10;
/// Bursts with a suspend before each: more than the five after which psycopg prepares a statement.
const CYCLES: usize = 7;

#[tokio::test]
async fn five_hundred_idle_clients_of_real_pools_outlive_every_suspend() {
    let pooled = Pooled::start("parked-pools", &Lending::of(SESSIONS), "suspend_after = \"1s\"").await;
    let mut pools = Pools::open(&pooled).await;
    let clients = pools.clients();
    assert_eq!(clients, 500);

    for cycle in 0..CYCLES {
        pooled.asleep().await;
        assert_eq!(pooled.gateway.server.clients(), clients, "all are still here");
        let (wakes, since) = (pooled.wakes(), Instant::now());
        pools.burst().await;
        println!(
            "burst {cycle}: {clients} clients served within {:?}",
            since.elapsed()
        );
        assert_eq!(pooled.wakes(), wakes + 1, "one wake served all");
    }

    pools.close().await;
    pooled.gateway.server.stop().await;
}
