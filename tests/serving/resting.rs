//! Clients that do nothing cost nothing: no thread of theirs wakes for them.

use std::{fs, time::Duration};

use tokio::time::sleep;

use crate::harness::{
    child::Pgwake,
    gateway::Setup,
    postgres::{Postgres, Version},
    wait::until,
};

/// Longer than anything that would tick for all of them may be apart.
const WHILE: Duration = Duration::from_millis(500);

/// How often the threads of clients have gone to sleep until now.
fn rests(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    let of_clients: Vec<u64> = statuses
        .filter(|status| status.starts_with("Name:\tclients-"))
        .map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse().unwrap()
        })
        .collect();
    assert!(!of_clients.is_empty());
    of_clients.iter().sum()
}

#[tokio::test]
async fn no_thread_wakes_for_clients_that_do_nothing() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().fixed("serv-rest", &postgres, "");
    let pgwake = Pgwake::start(&setup).await;
    let mut clients = Vec::new();
    for endpoint in ["serv-rest", "serv-rest-pooler", "serv-rest-pooler"] {
        let client = pgwake.connect(endpoint).await;
        client.batch_execute("select 1").await.unwrap();
        clients.push(client);
    }
    let pid = pgwake.running.pid();
    until("a while in which nothing wakes", async || {
        let before = rests(pid);
        sleep(WHILE).await;
        rests(pid) == before
    })
    .await;
    // They are there.
    for client in &clients {
        client.batch_execute("select 1").await.unwrap();
    }
    drop(clients);
    pgwake.ends_cleanly().await;
}
