//! A compute without clients is suspended, leaves no process behind, and is woken by the next client.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::harness::{
    gateway::{Gateway, Setup},
    logs::{self, Line},
    processes,
    wait::until,
};

/// How an endpoint's compute fared, as the log tells it.
fn story(endpoint: &str) -> Vec<Line> {
    let lines = logs::of_endpoint(endpoint).into_iter();
    lines
        .filter(|line| line.target.starts_with("pgwake::wake"))
        .collect()
}

fn messages(story: &[Line]) -> Vec<&str> {
    story.iter().map(|line| line.field("message")).collect()
}

async fn serve_one(gateway: &Gateway, endpoint: &str) {
    let client = gateway.connect(endpoint).await;
    client.query_one("select 1", &[]).await.unwrap();
}

#[tokio::test]
async fn compute_without_clients_is_suspended_and_woken_again() {
    const ENDPOINT: &str = "suspending-again";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"300ms\"")
        .start()
        .await;
    for _ in 0..2 {
        serve_one(&gateway, ENDPOINT).await;
        assert!(!processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
        gateway.asleep(ENDPOINT).await;
        assert!(!gateway.is_awake(ENDPOINT));
    }
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn each_change_is_one_line_of_the_log_with_how_long_it_took() {
    const ENDPOINT: &str = "suspending-story";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"300ms\"")
        .start()
        .await;

    serve_one(&gateway, ENDPOINT).await;
    until("the suspend to be told", async || {
        messages(&story(ENDPOINT)).contains(&"suspended")
    })
    .await;

    let story = story(ENDPOINT);
    assert_eq!(messages(&story), ["woken", "ready", "suspended"]);
    assert!(!story[0].field("wake").is_empty());
    assert_eq!(story[0].field("wake"), story[1].field("wake"));
    for line in &story[1..] {
        assert!(line.field("took_ms").parse::<u64>().is_ok(), "{line:?}");
    }
    assert!(story[1].field("phases").contains(" ms, "), "{:?}", story[1]);
    assert!(story[2].field("awake_s").parse::<u64>().is_ok(), "{:?}", story[2]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn compute_that_never_sleeps_stays_until_the_end() {
    const ENDPOINT: &str = "suspending-never";
    const SLEEPER: &str = "suspending-never-other";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"never\"")
        .listed(SLEEPER, "suspend_after = \"300ms\"")
        .start()
        .await;
    serve_one(&gateway, ENDPOINT).await;
    serve_one(&gateway, SLEEPER).await;

    gateway.asleep(SLEEPER).await;

    assert!(gateway.is_awake(ENDPOINT));
    serve_one(&gateway, ENDPOINT).await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn client_that_comes_during_a_suspend_is_held_and_served_by_the_next_wake() {
    const ENDPOINT: &str = "suspending-arrival";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"300ms\"\nstop_timeout = \"30s\"")
        .start()
        .await;
    serve_one(&gateway, ENDPOINT).await;
    let data_dir = gateway.data_dir(ENDPOINT);
    let postmaster = processes::postmaster(&data_dir);
    // The last one to end: it writes everything down first.
    let checkpointer = processes::the(&data_dir, "checkpointer");
    processes::signal(checkpointer, Signal::STOP);
    until("the suspend to begin", async || !gateway.is_awake(ENDPOINT)).await;

    let mut client = gateway.raw_proved(ENDPOINT).await;
    let notice = client.message().await;
    assert_eq!(
        processes::postmaster(&data_dir),
        postmaster,
        "it is still being stopped"
    );
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    processes::signal(checkpointer, Signal::CONT);
    client.until(b'Z').await;

    assert_eq!(notice.tag, b'N');
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    assert_ne!(processes::postmaster(&data_dir), postmaster);
    gateway.server.stop().await;
}

#[tokio::test]
async fn clean_stop_that_takes_too_long_is_forced() {
    const ENDPOINT: &str = "suspending-forced";
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"300ms\"\nstop_timeout = \"500ms\"")
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;
    client
        .batch_execute("create table kept as select 42 as answer")
        .await
        .unwrap();
    let checkpointer = processes::the(&gateway.data_dir(ENDPOINT), "checkpointer");
    processes::signal(checkpointer, Signal::STOP);

    drop(client);
    gateway.asleep(ENDPOINT).await;

    let client = gateway.connect(ENDPOINT).await;
    let row = client.query_one("select answer from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    gateway.server.stop().await;
}

#[tokio::test]
async fn work_starts_the_clock_again() {
    const ENDPOINT: &str = "suspending-clock";
    let after = Duration::from_millis(800);
    let gateway = Setup::new()
        .listed(ENDPOINT, "suspend_after = \"800ms\"")
        .start()
        .await;
    serve_one(&gateway, ENDPOINT).await;
    sleep(after / 2).await;
    let since = Instant::now();

    serve_one(&gateway, ENDPOINT).await;

    gateway.asleep(ENDPOINT).await;
    assert!(since.elapsed() >= after, "{:?}", since.elapsed());
    gateway.server.stop().await;
}
