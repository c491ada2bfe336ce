//! What a pgwake that was killed leaves behind is taken over or cleared away by the next one.

use std::fs;

use rustix::process::Signal;

use crate::harness::{child::Pgwake, gateway::Setup, processes, wait::until};

/// A pgwake that was killed while a client was served.
async fn crashed(setup: &Setup, endpoint: &str) -> i32 {
    let pgwake = Pgwake::start(setup).await;
    let client = pgwake.connect(endpoint).await;
    client
        .batch_execute("create table kept as select 42 as answer")
        .await
        .unwrap();
    let postmaster = processes::postmaster(&setup.data_dir(endpoint));
    pgwake.signal(Signal::KILL);
    assert!(!pgwake.end().await.status.success());
    postmaster
}

async fn keeps_its_data(pgwake: &Pgwake<'_>, endpoint: &str) {
    let client = pgwake.connect(endpoint).await;
    let row = client.query_one("select answer from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[tokio::test]
async fn running_compute_is_adopted_and_suspended_later() {
    const ENDPOINT: &str = "crashing-adopted";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1s\"");
    let postmaster = crashed(&setup, ENDPOINT).await;

    let pgwake = Pgwake::start(&setup).await;
    keeps_its_data(&pgwake, ENDPOINT).await;

    assert_eq!(processes::postmaster(&setup.data_dir(ENDPOINT)), postmaster);
    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    let log = pgwake.ends_cleanly().await;
    assert!(log.contains("found running"), "{log}");
    assert!(!log.contains("woken"), "{log}");
}

#[tokio::test]
async fn adopted_compute_that_nobody_asks_for_is_suspended() {
    const ENDPOINT: &str = "crashing-unasked";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"500ms\"");
    crashed(&setup, ENDPOINT).await;

    let pgwake = Pgwake::start(&setup).await;

    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn stale_pid_file_that_means_another_process_is_no_obstacle() {
    const ENDPOINT: &str = "crashing-stale";
    let setup = Setup::new().listed(ENDPOINT, "");
    crashed(&setup, ENDPOINT).await;
    let pid_file = setup.data_dir(ENDPOINT).join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    processes::kill_all_in(&setup.data_dir(ENDPOINT));
    let rest = text.split_once('\n').unwrap().1;
    // The number has come to mean this test.
    fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();

    let pgwake = Pgwake::start(&setup).await;

    keeps_its_data(&pgwake, ENDPOINT).await;
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn orphan_that_spins_is_cleared_away() {
    const ENDPOINT: &str = "crashing-orphan";
    let setup = Setup::new().listed(ENDPOINT, "");
    let data_dir = setup.data_dir(ENDPOINT);
    let pgwake = Pgwake::start(&setup).await;
    let client = pgwake.connect(ENDPOINT).await;
    client
        .batch_execute("create table kept as select 42 as answer")
        .await
        .unwrap();
    let mut spinning = pgwake.raw_proved(ENDPOINT).await;
    spinning.until(b'Z').await;
    spinning.query("do $$begin loop end loop; end$$").await;
    let spins = || {
        let running = processes::in_directory(&data_dir);
        running
            .iter()
            .find(|process| process.command.ends_with(" DO"))
            .map(|process| process.pid)
    };
    until("the backend to spin", async || spins().is_some()).await;
    // First pgwake, so that it cannot clear anything away itself.
    pgwake.signal(Signal::KILL);
    pgwake.end().await;
    processes::signal(processes::postmaster(&data_dir), Signal::KILL);
    let orphan = spins().unwrap();

    let pgwake = Pgwake::start(&setup).await;

    keeps_its_data(&pgwake, ENDPOINT).await;
    assert_ne!(spins(), Some(orphan));
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn second_pgwake_on_the_same_directories_names_the_first() {
    const ENDPOINT: &str = "crashing-second";
    let setup = Setup::new().listed(ENDPOINT, "");
    let first = Pgwake::start(&setup).await;

    let second = crate::harness::child::program(&setup).run().await;

    let pid = first.running.pid().to_string();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(second.errors.contains(&pid), "{second:?}");
    first
        .connect(ENDPOINT)
        .await
        .query_one("select 1", &[])
        .await
        .unwrap();
    first.ends_cleanly().await;
}
