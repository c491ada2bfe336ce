//! pgbench with many times more clients than there are server sessions, in every query mode.

use std::time::Duration;

use super::pooled::{Lending, Pooled};
use crate::harness::psql::pgbench;

const SESSIONS: usize = 4;
const CLIENTS: &str = "64";
/// 64 logins and 1280 transactions on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn sixty_four_clients_of_pgbench_share_four_sessions() {
    let pooled = Pooled::start("load-pgbench", &Lending::of(SESSIONS), "").await;
    let connection_string = pooled.gateway.connection_string(&pooled.name());
    let bench = async |arguments: &[&str]| {
        let run = pgbench(&connection_string, arguments).limit(LIMIT).run();
        pooled.unpinned(run).await.succeeded()
    };
    bench(&["-i", "-q", "-s", "1"]).await;

    for mode in ["simple", "extended", "prepared"] {
        for kind in [
            &["-S", "-t", "20"][..],
            &["-b", "tpcb-like", "-t", "5"],
            &["-S", "-C", "-t", "3"],
        ] {
            // A thread each: pgbench prepares and connects without looking after the thread's other clients, which
            // may be those whose transactions are waited for.
            let load = [&["-n", "-M", mode, "-c", CLIENTS, "-j", CLIENTS], kind].concat();
            let report = bench(&load).await;
            let count: usize = kind[kind.len() - 1].parse().unwrap();
            let count = count * CLIENTS.parse::<usize>().unwrap();
            assert!(
                report.contains(&format!("processed: {count}/{count}")),
                "{load:?}: {report}"
            );
            assert!(report.contains("failed transactions: 0 "), "{load:?}: {report}");
        }
    }

    let client = pooled.gateway.connect(&pooled.name()).await;
    let sums = "select (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches), \
                (select count(*) from pgbench_history)";
    let row = client.query_one(sums, &[]).await.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, i64>(1)), (true, 3 * 64 * 5));
    assert_eq!(pooled.wakes(), 1);
    pooled.gateway.server.stop().await;
}
