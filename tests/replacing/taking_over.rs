//! What a successor takes over, and what it leaves to its predecessor.

use std::{fs, os::unix::fs::MetadataExt};

use super::{does, held_by_a_start, is_ended, replacing, served, successor};
use crate::harness::{
    child::Pgwake,
    gate::Gate,
    gateway::Setup,
    http::Http,
    processes,
    raw::{PROTOCOL_3_0, Raw, cancel_request, startup},
    wait::until,
};

#[tokio::test]
async fn a_transaction_ends_where_it_began_and_its_compute_sleeps_afterwards() {
    const ENDPOINT: &str = "replacing-transaction";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"50ms\"");
    let elder = Pgwake::start(&setup).await;
    let mut idle = served(&elder, ENDPOINT).await;
    let mut working = served(&elder, ENDPOINT).await;
    does(
        &mut working,
        "create table kept (n int); begin; insert into kept values (1)",
    )
    .await;
    let postmaster = processes::postmaster(&setup.data_dir(ENDPOINT));

    let younger = successor(&setup).await;

    assert_eq!(younger.address(), elder.address());
    is_ended(&mut idle, "57P01").await;
    // It comes and goes, and would be the last to use the compute.
    let client = younger.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    does(&mut working, "select pg_sleep(0.3)").await;
    assert_eq!(processes::postmaster(&setup.data_dir(ENDPOINT)), postmaster);
    does(&mut working, "insert into kept values (2); commit").await;
    is_ended(&mut working, "57P01").await;
    let ended = elder.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(
        ended.errors.contains("another pgwake serves from now on"),
        "{ended:?}"
    );
    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    let client = younger.connect(ENDPOINT).await;
    let row = client.query_one("select count(*) from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
    drop(client);
    younger.ends_cleanly().await;
}

#[tokio::test]
async fn pooled_clients_that_are_parked_come_to_the_successor() {
    const ENDPOINT: &str = "replacing-parked";
    let setup = Setup::new().listed(ENDPOINT, "suspend_after = \"1h\"");
    let elder = Pgwake::start(&setup).await;
    let pooled = format!("{ENDPOINT}-pooler");
    let mut parked = served(&elder, &pooled).await;
    does(&mut parked, "select 1").await;
    let mut begun = served(&elder, &pooled).await;
    does(&mut begun, "select 1").await;
    // Postgres has not heard of this.
    does(&mut begun, "begin").await;
    let postmaster = processes::postmaster(&setup.data_dir(ENDPOINT));

    let younger = successor(&setup).await;

    is_ended(&mut parked, "57P01").await;
    let mut again = served(&younger, &pooled).await;
    does(&mut again, "select 1").await;
    does(&mut begun, "select 2").await;
    does(&mut begun, "commit").await;
    is_ended(&mut begun, "57P01").await;
    elder.end().await.succeeded();
    assert_eq!(processes::postmaster(&setup.data_dir(ENDPOINT)), postmaster);
    younger.ends_cleanly().await;
}

/// The first one could not write down any more when they were used, and called that an error of each.
#[tokio::test]
async fn branches_go_over_and_nobody_speaks_of_errors() {
    const ENDPOINT: &str = "replacing-branch";
    let setup = Setup::new()
        .limit("disk_free_min = 0")
        .listed(ENDPOINT, "branches = { on_connect = true, ttl = \"1h\" }");
    let elder = Pgwake::start(&setup).await;
    let branch = format!("{ENDPOINT}--one");
    let mut idle = served(&elder, &branch).await;
    does(&mut idle, "create table kept ()").await;

    let younger = successor(&setup).await;

    is_ended(&mut idle, "57P01").await;
    let ended = elder.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!ended.errors.contains("ERROR"), "{ended:?}");
    let mut again = served(&younger, &branch).await;
    does(&mut again, "select from kept").await;
    drop(again);
    younger.ends_cleanly().await;
}

/// The successor knows of nobody who uses it.
#[tokio::test]
async fn a_branch_that_the_predecessors_clients_use_outlives_its_ttl() {
    const ENDPOINT: &str = "replacing-ttl";
    let setup = Setup::new()
        .limit("disk_free_min = 0")
        .listed(ENDPOINT, "branches = { on_connect = true, ttl = \"2s\" }");
    let elder = Pgwake::start(&setup).await;
    let branch = format!("{ENDPOINT}--one");
    let mut working = served(&elder, &branch).await;
    does(
        &mut working,
        "create table kept (n int); begin; insert into kept values (1)",
    )
    .await;

    let younger = successor(&setup).await;

    // By its ttl it would be gone twice over.
    does(&mut working, "select pg_sleep(5)").await;
    does(&mut working, "commit").await;
    is_ended(&mut working, "57P01").await;
    let mut again = served(&younger, &branch).await;
    does(&mut again, "insert into kept values (2)").await;
    drop(again);
    elder.end().await.succeeded();
    younger.ends_cleanly().await;
}

/// Who has been let in stays, also where nobody else is let in any more.
#[tokio::test]
async fn a_transaction_on_a_disabled_endpoint_keeps_its_compute() {
    const ENDPOINT: &str = "replacing-disabled";
    let setup = Setup::new()
        .admin("operate_tokens = [\"an-operators-token-of-some-length\"]")
        .listed(ENDPOINT, "suspend_after = \"50ms\"");
    let elder = Pgwake::start(&setup).await;
    let mut working = served(&elder, ENDPOINT).await;
    does(&mut working, "begin").await;
    let disable = format!("/api/v1/endpoints/{ENDPOINT}/disable");
    let operator = Http::new(elder.admin().unwrap(), Some("an-operators-token-of-some-length"));
    operator.post(&disable).await.json();

    let younger = successor(&setup).await;

    does(&mut working, "select pg_sleep(1)").await;
    does(&mut working, "commit").await;
    is_ended(&mut working, "57P01").await;
    elder.end().await.succeeded();
    // Nobody uses it any more, and it is not for ever.
    processes::none_in(&setup.data_dir(ENDPOINT)).await;
    younger.ends_cleanly().await;
}

#[tokio::test]
async fn a_wake_that_is_under_way_is_finished_first() {
    const ENDPOINT: &str = "replacing-waking";
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let setup = setup.gated(ENDPOINT, &gate, "suspend_after = \"1h\"");
    let mut elder = Pgwake::start(&setup).await;
    let mut held = held_by_a_start(&elder, &setup, &mut gate, ENDPOINT).await;
    let program = replacing(&setup.path().join("pgwake.toml"));

    let starting = tokio::join!(Pgwake::start_as(program, &setup), async {
        elder.running.hear_error("is to take this one's place").await;
        gate.open();
    });

    let (younger, ()) = starting;
    // It was served by the first one, and was idle by then; or it was too late for that.
    let mut told = held.message().await;
    while !matches!(told.tag, b'E') {
        told = held.message().await;
    }
    assert!(["57P01", "57P03"].contains(&&*told.sqlstate()), "{told:?}");
    let client = younger.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    elder.end().await.succeeded();
    drop(client);
    let log = younger.ends_cleanly().await;
    assert!(log.contains("found running") && !log.contains("woken"), "{log}");
}

#[tokio::test]
async fn a_cancel_reaches_the_predecessors_client_by_way_of_the_successor() {
    const ENDPOINT: &str = "replacing-cancel";
    let setup = Setup::new().listed(ENDPOINT, "");
    let elder = Pgwake::start(&setup).await;
    let mut client = elder.raw_proved(ENDPOINT).await;
    let greeting = client.until(b'Z').await;
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let (pid, secret) = key.cancel_key();
    client.query("select pg_sleep(600)").await;
    let data_dir = setup.data_dir(ENDPOINT);
    until("the statement to run", async || {
        let running = processes::in_directory(&data_dir);
        running.iter().any(|process| process.command.ends_with(" SELECT"))
    })
    .await;
    let younger = successor(&setup).await;

    let mut cancelling = Raw::tcp(younger.address()).await;
    cancelling.send(&cancel_request(pid, secret)).await;
    cancelling.closed().await;

    let answer = client.until(b'Z').await;
    let error = answer.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014");
    is_ended(&mut client, "57P01").await;
    elder.end().await.succeeded();
    younger.ends_cleanly().await;
}

#[tokio::test]
async fn unix_sockets_and_the_port_of_operators_are_taken_over() {
    const ENDPOINT: &str = "replacing-sockets";
    let setup = Setup::new();
    let socket = setup.path().join(".s.PGSQL.5432");
    let setup = setup
        .listen(&format!(
            "[\"127.0.0.1:0\", {{ unix = \"{}\", default_endpoint = \"{ENDPOINT}\" }}]",
            socket.display()
        ))
        .admin("")
        .listed(ENDPOINT, "");
    let elder = Pgwake::start(&setup).await;
    let inode = fs::metadata(&socket).unwrap().ino();

    let younger = successor(&setup).await;

    assert_eq!(younger.admin(), elder.admin());
    elder.end().await.succeeded();
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    let mut client = Raw::unix(&socket).await;
    let parameters = [("user", "postgres"), ("database", "postgres")];
    client.send(&startup(PROTOCOL_3_0, &parameters)).await;
    assert_eq!(client.message().await.tag, b'R');
    let http = Http::new(younger.admin().unwrap(), None);
    assert_eq!(http.get("/ready").await.body, "ready\n");
    drop(client);
    younger.ends_cleanly().await;
    assert!(!socket.exists(), "the socket is left behind");
}

#[tokio::test]
async fn where_nobody_serves_it_is_an_ordinary_start() {
    const ENDPOINT: &str = "replacing-nobody";
    let setup = Setup::new().listed(ENDPOINT, "");
    setup.write();
    let alone = successor(&setup).await;
    let client = alone.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    alone.ends_cleanly().await;
}
