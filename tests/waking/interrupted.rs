//! pgwake is killed at any moment of a wake: the next one goes on with what it finds, starts nothing twice, and serves.
//!
//! `PGWAKE_ROUNDS=200` kills it at as many moments.

use std::{fs, path::Path, time::Duration};

use rand::RngExt;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::harness::{
    chance::{Chance, number, up_to},
    child::Pgwake,
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER},
    processes::{in_directory, postmasters},
    wait::until,
};

/// The postmaster that says in its file that it is there.
fn known(data_dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.parse().ok()?;
    postmasters(data_dir).contains(&pid).then_some(pid)
}

/// How long it takes from a proof to the first answer.
async fn time_of_a_wake(setup: &Setup, endpoint: &str) -> Duration {
    let pgwake = Pgwake::start(setup).await;
    let mut client = pgwake.raw_proved(endpoint).await;
    let since = Instant::now();
    client.until(b'Z').await;
    let took = since.elapsed();
    client.query("create table kept (round bigint primary key)").await;
    client.until(b'Z').await;
    drop(client);
    pgwake.ends_cleanly().await;
    took
}

#[tokio::test]
async fn killed_at_any_moment_of_a_wake_it_leaves_what_the_next_one_goes_on_with() {
    const ENDPOINT: &str = "interrupted";
    let rounds = number("PGWAKE_ROUNDS").unwrap_or(8);
    let mut random = Chance::new().of(0);
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let data_dir = setup.data_dir(ENDPOINT);
    let took = time_of_a_wake(&setup, ENDPOINT).await;
    let (mut begun, mut adopted) = (0, 0);

    for round in 0..rounds {
        let pgwake = Pgwake::start(&setup).await;
        let held = pgwake.raw_proved(ENDPOINT).await;
        // The moments are spread over the wake and a little more.
        let share = (round as f64 + random.random::<f64>()) / rounds as f64;
        sleep(took.mul_f64(share * 1.2)).await;
        pgwake.signal(Signal::KILL);
        pgwake.end().await;
        drop(held);
        begun += usize::from(!postmasters(&data_dir).is_empty());
        let left = known(&data_dir);

        let next = Pgwake::start(&setup).await;
        let client = next.connect(ENDPOINT).await;

        let sql = format!("insert into kept values ({round}) returning (select count(*) from kept)");
        let before = client.query_one(&sql, &[]).await.unwrap();
        assert_eq!(
            before.get::<_, i64>(0),
            round.cast_signed(),
            "what was committed is lost"
        );
        let serving = postmasters(&data_dir);
        assert_eq!(serving.len(), 1, "{serving:?}");
        if let Some(left) = left {
            assert_eq!(serving, [left], "round {round}: what was started runs on");
            adopted += 1;
        }
        drop(client);
        next.ends_cleanly().await;
        assert!(in_directory(&data_dir).is_empty());
    }

    println!(
        "{rounds} wakes of {took:?}: {begun} had a server when pgwake was killed, {adopted} of them were known"
    );
    assert!(adopted > 0, "it was always killed too early: this proves little");
}

#[tokio::test]
async fn killed_while_a_database_is_made_it_leaves_no_half_of_one() {
    const ENDPOINT: &str = "interrupted-new";
    let mut random = Chance::new().of(1);
    for round in 0..number("PGWAKE_ROUNDS").unwrap_or(8).div_ceil(8) {
        let name = format!("{ENDPOINT}-{round}");
        let setup = Setup::new();
        let data_dir = setup.data_dir(&name);
        let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
        let setup = setup.tenants(&format!(
            "[tenants.acme.endpoints.{name}]\n\
             roles.{SUPERUSER} = {{ verifier = \"{verifier}\" }}\n\
             compute = {{ kind = \"process\", data_dir = \"{}\" }}\n",
            data_dir.display()
        ));
        let half = data_dir.with_extension("new");
        let pgwake = Pgwake::start(&setup).await;
        let held = pgwake.raw_proved(&name).await;
        until("it to be made", async || half.exists()).await;
        sleep(up_to(&mut random, 800)).await;
        pgwake.signal(Signal::KILL);
        pgwake.end().await;
        drop(held);

        let next = Pgwake::start(&setup).await;
        let client = next.connect(&name).await;

        client.query_one("select 1", &[]).await.unwrap();
        assert_eq!(postmasters(&data_dir).len(), 1);
        assert!(!half.exists());
        drop(client);
        next.ends_cleanly().await;
    }
}
