//! Replaced several times in a row while clients work, wake and let sleep: each keeps a ledger of what was acknowledged.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_postgres::{Client, Error};

use super::{does, is_ended, served, successor};
use crate::harness::{
    certificates::Authority,
    child::Pgwake,
    gateway::{Setup, config_at},
    processes, tls_client,
    wait::until,
};

/// Clients with a session of their own, and as many that are pooled.
const CLERKS: usize = 4;
/// So often it is replaced.
const TIMES: usize = 3;

/// What may end a session when pgwake is replaced; whether the last statement took effect is not known by 08007.
const PLANNED: [&str; 3] = ["57P01", "57P03", "08007"];

/// One client that writes numbers, one after another, each in a transaction of its own.
struct Clerk {
    name: String,
    endpoint: String,
    address: SocketAddr,
    /// The last number whose commit was acknowledged.
    acknowledged: AtomicU64,
    /// Numbers that were not: they may be there or not.
    unsure: Mutex<BTreeSet<i64>>,
    sessions: AtomicU64,
}

impl Clerk {
    /// Until it is told to stop. Connects again whenever its session ends.
    async fn work(&self, authority: &Authority, stop: &AtomicBool) {
        let mut next = 1;
        while !stop.load(Ordering::Relaxed) {
            let client = match tls_client::connect(&config_at(self.address, &self.endpoint), authority).await
            {
                Ok(client) => client,
                Err(error) => {
                    self.check(&error);
                    continue;
                }
            };
            self.sessions.fetch_add(1, Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = self.write(&client, next).await {
                    // Who writes long after it was told the end, and has not read that yet, meets a closed socket.
                    if !is_of_kind(&error, io::ErrorKind::ConnectionReset) {
                        self.check(&error);
                    }
                    // It may have been written all the same.
                    self.unsure.lock().unwrap().insert(i64::try_from(next).unwrap());
                    next += 1;
                    break;
                }
                self.acknowledged.store(next, Ordering::Relaxed);
                next += 1;
                // Now and then long enough for the compute to be suspended.
                sleep(Duration::from_millis(if next % 10 == 0 { 400 } else { 5 })).await;
            }
        }
    }

    async fn write(&self, client: &Client, number: u64) -> Result<(), Error> {
        let number = i64::try_from(number).unwrap();
        let sql = format!(
            "begin; insert into ledger values ('{}', {number}); commit",
            self.name
        );
        client.batch_execute(&sql).await
    }

    /// All that was acknowledged is there, once.
    async fn has_lost_nothing(&self, client: &Client) {
        let acknowledged = i64::try_from(self.acknowledged.load(Ordering::Relaxed)).unwrap();
        let sessions = self.sessions.load(Ordering::Relaxed);
        let sql = "select number from ledger where clerk = $1";
        let rows = client.query(sql, &[&self.name]).await.unwrap();
        let found: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found.len(), rows.len(), "{} has written twice", self.name);
        let unsure = self.unsure.lock().unwrap();
        let is_lost = |number: &i64| !found.contains(number) && !unsure.contains(number);
        let lost: Vec<i64> = (1..=acknowledged).filter(is_lost).collect();
        assert!(lost.is_empty(), "{}: {lost:?} were acknowledged", self.name);
        assert!(
            sessions > 1,
            "{} was never sent away: this proves nothing",
            self.name
        );
    }

    /// What ends a session is said, and nobody is refused.
    fn check(&self, error: &Error) {
        let is_refused = is_of_kind(error, io::ErrorKind::ConnectionRefused);
        assert!(!is_refused, "{}: {error:?}", self.name);
        if let Some(code) = error.code() {
            assert!(PLANNED.contains(&code.code()), "{}: {error:?}", self.name);
        } else {
            // tokio-postgres says no more than this of a session that ends while nothing is asked.
            assert!(error.is_closed(), "{}: {error:?}", self.name);
        }
    }
}

fn is_of_kind(error: &Error, kind: io::ErrorKind) -> bool {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_work_lose_nothing_and_are_never_refused() {
    const ENDPOINT: &str = "replacing-loaded";
    const BESIDE: &str = "replacing-beside";
    let setup = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"200ms\"")
        .listed(BESIDE, "suspend_after = \"50ms\"");
    let mut pgwake = Pgwake::start(&setup).await;
    let client = pgwake.connect(ENDPOINT).await;
    client
        .batch_execute("create table ledger (clerk text, number bigint)")
        .await
        .unwrap();
    drop(client);
    let address = pgwake.address();
    let stop = AtomicBool::new(false);
    let clerks: Vec<Clerk> = (0..2 * CLERKS)
        .map(|index| {
            let suffix = ["", "-pooler"][index % 2];
            Clerk {
                name: format!("clerk{index}"),
                endpoint: format!("{ENDPOINT}{suffix}"),
                address,
                acknowledged: AtomicU64::new(0),
                unsure: Mutex::default(),
                sessions: AtomicU64::new(0),
            }
        })
        .collect();
    let story = async {
        // Its transaction begins at the first one and ends after the last has come.
        let mut patient = served(&pgwake, BESIDE).await;
        does(&mut patient, "begin; create table kept as select 42 as answer").await;
        let postmaster = processes::postmaster(&setup.data_dir(BESIDE));

        let mut elders = Vec::new();
        for _ in 0..TIMES {
            let before: Vec<u64> = clerks
                .iter()
                .map(|clerk| clerk.acknowledged.load(Ordering::Relaxed))
                .collect();
            let younger = successor(&setup).await;
            elders.push(std::mem::replace(&mut pgwake, younger));
            until("every clerk to have written again", async || {
                let now = clerks
                    .iter()
                    .map(|clerk| clerk.acknowledged.load(Ordering::Relaxed));
                now.zip(&before).all(|(now, before)| now > *before + 3)
            })
            .await;
        }

        assert_eq!(processes::postmaster(&setup.data_dir(BESIDE)), postmaster);
        does(&mut patient, "commit").await;
        is_ended(&mut patient, "57P01").await;
        for elder in elders {
            elder.end().await.succeeded();
        }
        let data_dir = setup.data_dir(BESIDE);
        until("the compute beside to be suspended", async || {
            processes::in_directory(&data_dir).is_empty()
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        pgwake
    };
    let working = join_all(clerks.iter().map(|clerk| clerk.work(setup.authority(), &stop)));
    let (pgwake, _) = tokio::join!(story, working);
    let client = pgwake.connect(ENDPOINT).await;
    for clerk in &clerks {
        clerk.has_lost_nothing(&client).await;
    }
    drop(client);
    pgwake.ends_cleanly().await;
}
