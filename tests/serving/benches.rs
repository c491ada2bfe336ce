//! pgbench over TLS: every query mode, reading, writing and connecting anew each time.

use super::served::Served;
use crate::harness::psql::pgbench;

#[tokio::test]
async fn pgbench_runs_in_every_mode() {
    let served = Served::start("pgbench-modes").await;
    let bench = async |arguments: &[&str]| {
        let report = pgbench(&served.connection_string(), arguments).run().await;
        report.succeeded()
    };
    bench(&["-i", "-q", "-s", "1"]).await;
    for mode in ["simple", "extended", "prepared"] {
        for kind in [&["-b", "tpcb-like"][..], &["-S"], &["-N"]] {
            let load = ["-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50"];
            let report = bench(&[&load[..], kind].concat()).await;
            assert!(report.contains("processed: 200/200"), "{mode} {kind:?}: {report}");
            assert!(
                report.contains("failed transactions: 0 "),
                "{mode} {kind:?}: {report}"
            );
        }
    }
    let report = bench(&["-S", "-C", "-n", "-M", "extended", "-c", "4", "-t", "15"]).await;
    assert!(report.contains("processed: 60/60"), "{report}");
    let sum =
        "select (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)";
    assert_eq!(super::served::value(&served.direct().await, sum).await, "t");
    served.has_sessions(0).await;
}
