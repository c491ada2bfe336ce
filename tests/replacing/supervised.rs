//! `pgwake replace`: the running one starts its successor, and whoever looks after the service looks after that.

use std::fs;

use rustix::process::Signal;
use tokio::{net::UnixDatagram, time::timeout};

use super::replacing;
use crate::harness::{
    child::{Pgwake, program},
    gateway::Setup,
    processes,
    programs::Program,
    wait::{PATIENCE, until},
};

async fn next(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let received = timeout(PATIENCE, socket.recv(&mut bytes)).await;
    let length = received.expect("something is said in time").unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

async fn ordered(setup: &Setup) -> String {
    let config = setup.path().join("pgwake.toml");
    let command = Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["replace", "--config"])
        .argument(config);
    command.run().await.succeeded()
}

#[tokio::test]
async fn a_supervisor_is_told_of_the_process_that_takes_over_and_of_no_end() {
    const ENDPOINT: &str = "replacing-supervised";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let path = setup.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    let watchdog = "600000000";
    let program = program(&setup)
        .variable("NOTIFY_SOCKET", &path)
        .variable("WATCHDOG_USEC", watchdog);
    let elder = Pgwake::start_as(program, &setup).await;
    let first = elder.running.pid();
    assert!(next(&supervisor).await.starts_with("READY=1"));
    let client = elder.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    let postmaster = processes::postmaster(&setup.data_dir(ENDPOINT));

    let said = ordered(&setup).await;

    let pid = said.strip_prefix("replaced: pgwake with pid ").unwrap();
    let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
    let mut told = next(&supervisor).await;
    // The first one lives, and reloads where files were written a moment ago.
    while ["WATCHDOG=1", "STATUS=", "RELOADING=1", "READY=1"]
        .iter()
        .any(|other| told.starts_with(other))
    {
        told = next(&supervisor).await;
    }
    assert_eq!(told, format!("MAINPID={pid}"));
    told = next(&supervisor).await;
    while told.starts_with("WATCHDOG=1") {
        told = next(&supervisor).await;
    }
    assert!(told.starts_with("READY=1\nSTATUS=serving"), "{told}");
    until("the first one's end", async || {
        let state = fs::read_to_string(format!("/proc/{first}/stat"));
        state.is_err() || state.unwrap().contains(") Z ")
    })
    .await;
    assert!(client.is_closed());
    let client = elder.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    assert_eq!(processes::postmaster(&setup.data_dir(ENDPOINT)), postmaster);
    drop(client);
    // It writes to where the first one wrote.
    processes::signal(pid, Signal::TERM);
    let log = elder.end().await.errors;
    assert!(!log.contains("STOPPING"), "{log}");
    assert!(log.ends_with("ended; no compute is left running\n"), "{log}");
    let mut rest = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(length) = supervisor.try_recv(&mut bytes) {
        rest.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    let ends = rest.iter().filter(|said| said.starts_with("STOPPING=1")).count();
    assert_eq!(ends, 1, "{rest:?}");
}

#[tokio::test]
async fn a_supervised_pgwake_is_replaced_by_its_own_successor_alone() {
    const ENDPOINT: &str = "replacing-stranger";
    let setup = Setup::new().listed(ENDPOINT, "");
    let path = setup.path().join("notify");
    let _supervisor = UnixDatagram::bind(&path).unwrap();
    let pgwake = Pgwake::start_as(program(&setup).variable("NOTIFY_SOCKET", &path), &setup).await;
    // Said after that it serves.
    let mut seen = String::new();
    while !seen.starts_with("READY=1") {
        seen = next(&_supervisor).await;
    }

    let refused = replacing(&setup.path().join("pgwake.toml")).run().await.failed();

    assert!(refused.contains("pgwake replace"), "{refused}");
    let client = pgwake.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    pgwake.ends_cleanly().await;
}

#[tokio::test]
async fn a_successor_that_does_not_begin_is_told_of() {
    const ENDPOINT: &str = "replacing-broken";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let pgwake = Pgwake::start(&setup).await;
    let config = setup.path().join("pgwake.toml");
    let state = setup.path().join("state");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\nwrong = 1\n")).unwrap();

    let command = Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["replace", "--state-dir"])
        .argument(&state);
    let failed = command.run().await.failed();

    assert!(
        failed.contains("not replaced") && failed.contains("64"),
        "{failed}"
    );
    fs::write(&config, text).unwrap();
    let client = pgwake.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    pgwake.ends_cleanly().await;
}
