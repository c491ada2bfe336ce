//! Clients that share sessions are served by one thread where one can do it, whatever the burst was that they came in.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::sleep};

use crate::harness::{
    child::Pgwake,
    gateway::Setup,
    postgres::{Postgres, Version},
    wait::until,
};

/// More than one thread gets at once.
const CLIENTS: usize = 64;
/// A client asks so often: all of them are far from too much for one thread.
const ASKS_EVERY: Duration = Duration::from_millis(100);
const WHILE: Duration = Duration::from_millis(500);

/// How long each thread of clients has run, in nanoseconds; those of work that blocks have the same names.
fn spent(pid: u32) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let folders = threads.map(|thread| thread.unwrap().path());
    let of_clients = folders.filter(|folder| {
        let name = fs::read_to_string(folder.join("comm"));
        name.is_ok_and(|name| name.starts_with("clients-"))
    });
    let spent = of_clients.map(|folder| {
        let text = fs::read_to_string(folder.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    });
    spent.collect()
}

/// Clients that come at once, over TLS, and ask now and then.
async fn asking(pgwake: &Pgwake<'_>) -> JoinSet<()> {
    let coming = (0..CLIENTS).map(|_| pgwake.connect("serv-gather-pooler"));
    let mut asking = JoinSet::new();
    for (number, client) in join_all(coming).await.into_iter().enumerate() {
        asking.spawn(async move {
            let mine = format!("select {number}, current_setting('application_name')");
            let set = format!("set application_name = 'client {number}'");
            client.batch_execute(&set).await.unwrap();
            loop {
                let row = client.query_one(&mine, &[]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), i32::try_from(number).unwrap());
                assert_eq!(row.get::<_, &str>(1), format!("client {number}"));
                sleep(ASKS_EVERY).await;
            }
        });
    }
    asking
}

#[tokio::test]
async fn clients_of_a_burst_are_served_by_one_thread_soon() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().fixed("serv-gather", &postgres, "pool.size = 8");
    let pgwake = Pgwake::start(&setup).await;
    let mut asking = asking(&pgwake).await;
    let pid = pgwake.running.pid();
    until("a while in which one thread does nearly everything", async || {
        let before = spent(pid);
        sleep(WHILE).await;
        let after = spent(pid);
        let ran: Vec<u64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        let (most, all) = (*ran.iter().max().unwrap(), ran.iter().sum::<u64>());
        most > 0 && (all - most) * 20 < most
    })
    .await;
    // Whoever has moved is served as before.
    sleep(WHILE).await;
    assert!(asking.try_join_next().is_none(), "they go on");
    asking.shutdown().await;
    pgwake.ends_cleanly().await;
}
