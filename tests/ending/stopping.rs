//! Ctrl-C: the terminal signals a whole process group, in which only pgwake is.

use rustix::process::Signal;

use crate::harness::{child::Pgwake, gateway::Setup, processes};

#[tokio::test]
async fn ctrl_c_reaches_pgwake_alone_and_stops_everything_cleanly() {
    const ENDPOINT: &str = "stopping-group";
    let setup = Setup::new().listed(ENDPOINT, "");
    let data_dir = setup.data_dir(ENDPOINT);
    let pgwake = Pgwake::start(&setup).await;
    let mut working = pgwake.raw_proved(ENDPOINT).await;
    working.until(b'Z').await;
    working
        .query("create table kept (n int); begin; insert into kept values (1)")
        .await;
    working.until(b'Z').await;

    pgwake.running.signal_group(Signal::INT);
    // Postgres would take the signal for a fast shutdown and end this session.
    working.query("select 1; commit").await;
    let answer = working.until(b'Z').await;

    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    assert_eq!(working.message().await.sqlstate(), "57P01");
    let ended = pgwake.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(processes::in_directory(&data_dir).is_empty());
    let log = std::fs::read_to_string(setup.path().join("state/log/stopping-group.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}
