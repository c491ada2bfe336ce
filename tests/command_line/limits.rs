//! The system's limits: raised as far as they go, and survived where they are reached.

use std::net::TcpStream;

use crate::harness::{
    child::{Pgwake, program_with},
    gateway::Setup,
    wait::until,
};

#[tokio::test]
async fn the_soft_limit_of_files_is_raised_to_the_hard_one() {
    let setup = Setup::new();
    let program = program_with(&setup, &["prlimit", "--nofile=128:2048"]);
    let pgwake = Pgwake::start_as(program, &setup).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", pgwake.running.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = line.split_whitespace().filter(|word| *word == "2048").collect();
    assert_eq!(numbers.len(), 2, "{line}");
}

#[tokio::test]
async fn no_more_files_is_waited_out() {
    const ENDPOINT: &str = "cmd-files";
    let setup = Setup::new().listed(ENDPOINT, "");
    let program = program_with(&setup, &["prlimit", "--nofile=96:96"]);
    let mut pgwake = Pgwake::start_as(program, &setup).await;
    pgwake
        .connect(ENDPOINT)
        .await
        .batch_execute("select 1")
        .await
        .unwrap();

    // The system takes them in; pgwake cannot any more.
    let address = pgwake.address();
    let crowd: Vec<_> = (0..120).map(|_| TcpStream::connect(address).unwrap()).collect();
    pgwake.running.hear_error("cannot accept clients").await;
    // It pauses between tries: the log is not flooded.
    pgwake.running.hear_error("cannot accept clients").await;
    drop(crowd);

    until("somebody is served again", async || {
        let client = pgwake.try_connect(ENDPOINT).await;
        match client {
            Ok(client) => client.batch_execute("select 1").await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
    pgwake.signal(rustix::process::Signal::TERM);
    let ended = pgwake.end().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        ended.errors.contains("fewer files may be open here"),
        "{}",
        ended.errors
    );
    let complaints = ended.errors.matches("cannot accept clients").count();
    assert!(complaints < 50, "{complaints} lines");
}
