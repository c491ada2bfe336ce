//! Commands that do not come to their end: they are ended, with all that belongs to them.

use super::{number, refusal, told};
use crate::harness::{
    gateway::{Setup, clear, obstruct, times},
    processes,
    wait::until,
};

/// Heeds no SIGTERM, and has a child that does not either.
const HANGS: &str = "trap '' TERM\nsleep 1000 & echo $! >\"$here/$name.child\"\n\
    echo $$ >\"$here/$name.leader\"\necho so far >&2\nwhile :; do sleep 1; done\n";

fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_start_that_hangs_is_killed_with_its_children_at_its_limit() {
    const ENDPOINT: &str = "cmd-hangs";
    let setup = Setup::new().commands(ENDPOINT, "start_timeout = \"3s\"", "");
    obstruct(setup.path(), ENDPOINT, "start", HANGS);
    let gateway = setup.start().await;

    let fields = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    let expected = "its start command had not ended after 3s and was killed";
    assert!(fields[&'D'].starts_with(expected), "{fields:?}");
    let lines = told(ENDPOINT, "could not be started");
    assert_eq!(lines[0].field("detail"), "so far", "{lines:?}");
    for of in ["leader", "child"] {
        let pid = number(&gateway.path().join(format!("{ENDPOINT}.{of}"))).await;
        until("the end of all of it", async || is_gone(pid)).await;
    }
    clear(gateway.path(), ENDPOINT, "start");
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_start_that_takes_longer_than_the_endpoint_gives_it_is_killed_too() {
    const ENDPOINT: &str = "cmd-overdue";
    let setup = Setup::new().commands(ENDPOINT, "", "start_timeout = \"5s\"");
    obstruct(setup.path(), ENDPOINT, "start", HANGS);
    let gateway = setup.start().await;

    let fields = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    assert!(fields[&'D'].starts_with("it"), "{fields:?}");
    let leader = number(&gateway.path().join(format!("{ENDPOINT}.leader"))).await;
    until("its end", async || is_gone(leader)).await;
    until("what it left to be stopped", async || {
        times(gateway.path(), ENDPOINT, "stop") == 1
    })
    .await;
    gateway.server.stop().await;
    let child = number(&gateway.path().join(format!("{ENDPOINT}.child"))).await;
    until("its child's end", async || is_gone(child)).await;
}

#[tokio::test]
async fn the_end_of_pgwake_ends_a_start_that_hangs() {
    const ENDPOINT: &str = "cmd-ended";
    let setup = Setup::new().commands(ENDPOINT, "", "");
    obstruct(setup.path(), ENDPOINT, "start", HANGS);
    let gateway = setup.start().await;
    let _client = gateway.raw_proved(ENDPOINT).await;
    let leader = number(&gateway.path().join(format!("{ENDPOINT}.leader"))).await;

    gateway.server.stop().await;

    assert!(is_gone(leader));
    assert_eq!(times(gateway.path(), ENDPOINT, "stop"), 1);
}

#[tokio::test]
async fn a_stop_that_hangs_is_killed_and_the_compute_goes_on_serving() {
    const ENDPOINT: &str = "cmd-unstopped";
    const LOOK: &str = "a-token-to-look-with";
    const WHY: &str = "its stop command had not ended after 3s and was killed";
    let setup = Setup::new()
        .commands(ENDPOINT, "stop_timeout = \"3s\"", "suspend_after = \"300ms\"")
        .admin(&format!("read_tokens = [\"{LOOK}\"]"));
    obstruct(setup.path(), ENDPOINT, "stop", HANGS);
    let gateway = setup.start().await;
    drop(gateway.connect(ENDPOINT).await);
    until("the stop to be given up", async || {
        !told(ENDPOINT, "could not be stopped").is_empty()
    })
    .await;
    let lines = told(ENDPOINT, "could not be stopped");
    assert_eq!(lines[0].field("reason"), WHY);
    let http = gateway.http(LOOK);
    let shown = http.get(&format!("/api/v1/endpoints/{ENDPOINT}")).await.json();
    assert_eq!(shown["suspend_failure"], WHY, "{shown}");
    let metrics = http.get("/metrics").await.body;
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("pgwake_failed_suspends_total"));
    assert!(failed.is_some_and(|line| !line.ends_with(" 0")), "{failed:?}");

    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 1, "it ran all the time");

    clear(gateway.path(), ENDPOINT, "stop");
    drop(client);
    gateway.server.stop().await;
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn a_look_that_hangs_keeps_no_other_endpoint_waiting() {
    const ENDPOINT: &str = "cmd-silent";
    const OTHER: &str = "cmd-lively";
    let setup = Setup::new()
        .limit("commands_at_once = 2")
        .commands(ENDPOINT, "status_timeout = \"1m\"", "")
        .commands(OTHER, "", "");
    let gateway = setup.start().await;
    obstruct(gateway.path(), ENDPOINT, "status", HANGS);
    let _held = gateway.raw_proved(ENDPOINT).await;
    let leader = number(&gateway.path().join(format!("{ENDPOINT}.leader"))).await;

    let client = gateway.connect(OTHER).await;
    client.query_one("select 1", &[]).await.unwrap();

    assert!(!is_gone(leader));
    clear(gateway.path(), ENDPOINT, "status");
    drop(client);
    gateway.server.stop().await;
    assert!(is_gone(leader));
}
