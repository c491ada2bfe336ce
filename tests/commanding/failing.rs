//! Starts that fail: the client is told so and no more, the operator why, and nothing is left half started.

use std::{fs, process::Command};

use super::{refusal, told};
use crate::harness::{
    gateway::{Setup, clear, obstruct, prove, story, times},
    logs, processes,
    wait::until,
};

#[tokio::test]
async fn a_start_that_fails_is_told_remembered_for_a_moment_and_repeated() {
    const ENDPOINT: &str = "cmd-fails";
    let setup = Setup::new().commands(ENDPOINT, "", "");
    obstruct(setup.path(), ENDPOINT, "start", "echo no room left >&2\nexit 5\n");
    let gateway = setup.start().await;
    let mut late = gateway.raw_to(ENDPOINT).await;

    let fields = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;
    prove(&mut late).await;
    let late = refusal(&mut late).await;

    assert_eq!(
        fields[&'M'],
        "compute for endpoint \"cmd-fails\" could not be started"
    );
    let expected = "its start command ended with exit status 5";
    assert!(fields[&'D'].starts_with(expected), "{fields:?}");
    assert!(late[&'D'].starts_with(expected), "{late:?}");
    assert!(
        !format!("{fields:?}").contains("room"),
        "what it says is the operator's"
    );
    let lines = told(ENDPOINT, "could not be started");
    assert_eq!(lines[0].field("detail"), "no room left", "{lines:?}");
    let access = logs::access_lines(ENDPOINT, 2).await;
    assert_eq!(access[0].field("sqlstate"), "57P03");
    // Looked at twice, started, and cleared away what may have been left.
    let first = &story(gateway.path(), ENDPOINT)[..4];
    assert_eq!(first, ["status", "status", "start", "stop"]);

    clear(gateway.path(), ENDPOINT, "start");
    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    gateway.server.stop().await;
}

#[tokio::test]
async fn garbage_and_megabytes_are_no_address() {
    for (endpoint, script) in [
        ("cmd-garbage", "echo 'the secret is 42'; exit 0"),
        (
            "cmd-shouts",
            "head -c 20000000 /dev/zero | tr '\\0' x; echo; exit 0",
        ),
        ("cmd-lines", "echo 127.0.0.1:5432; echo 127.0.0.1:5433; exit 0"),
        ("cmd-elsewhere", "echo 192.0.2.1:5432; exit 0"),
    ] {
        let setup = Setup::new().printed(endpoint, "", "");
        obstruct(setup.path(), endpoint, "start", script);
        let gateway = setup.start().await;

        let fields = refusal(&mut gateway.raw_proved(endpoint).await).await;

        assert!(fields[&'D'].starts_with("its command printed "), "{fields:?}");
        assert!(!format!("{fields:?}").contains("secret"), "{fields:?}");
        assert_eq!(times(gateway.path(), endpoint, "stop"), 1);
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_started_while_nobody_knows_whether_it_runs() {
    const ENDPOINT: &str = "cmd-unknown";
    let setup = Setup::new().commands(ENDPOINT, "status_every = \"1s\"", "");
    obstruct(
        setup.path(),
        ENDPOINT,
        "status",
        "echo the daemon sleeps >&2\nexit 1\n",
    );
    let gateway = setup.start().await;

    let fields = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    let expected = "its status command ended with exit status 1";
    assert!(fields[&'D'].starts_with(expected), "{fields:?}");
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 0);
    let lines = told(ENDPOINT, "could not be started");
    assert_eq!(lines[0].field("detail"), "the daemon sleeps");

    clear(gateway.path(), ENDPOINT, "status");
    drop(gateway.connect_again(ENDPOINT).await);
    // Nor is one that runs taken for lost by answers that say nothing.
    let looks = times(gateway.path(), ENDPOINT, "status");
    obstruct(gateway.path(), ENDPOINT, "status", "exit 1\n");
    until("two such answers", async || {
        times(gateway.path(), ENDPOINT, "status") >= looks + 2
    })
    .await;
    drop(gateway.connect(ENDPOINT).await);
    assert!(told(ENDPOINT, "died").is_empty());
    clear(gateway.path(), ENDPOINT, "status");
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 1);
    gateway.server.stop().await;
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn one_that_somebody_else_has_started_is_taken_over() {
    const ENDPOINT: &str = "cmd-taken";
    let setup = Setup::new().commands(ENDPOINT, "", "suspend_after = \"300ms\"");
    let gateway = setup.start().await;
    let script = gateway.path().join("ctl");
    let started = Command::new(script).args(["start", ENDPOINT]).status().unwrap();
    assert!(started.success());

    drop(gateway.connect(ENDPOINT).await);

    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 1);
    assert_eq!(told(ENDPOINT, "found running").len(), 1);
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_server_that_comes_up_after_its_command_is_waited_for() {
    const ENDPOINT: &str = "cmd-slow";
    let setup = Setup::new().commands(ENDPOINT, "", "");
    // As `docker start` does: it ends at once, and the server comes when it comes.
    let script = "(while [ ! -e \"$here/go\" ]; do sleep 0.05; done\n\
         pg_ctl -w -s -l \"$data/server.log\" -o \"-c listen_addresses= -c unix_socket_directories=$data\" start\n\
         ) >/dev/null 2>&1 &\nexit 0\n";
    obstruct(setup.path(), ENDPOINT, "start", script);
    let gateway = setup.start().await;
    let mut client = gateway.raw_proved(ENDPOINT).await;
    let record = gateway.path().join("state/commands").join(ENDPOINT);
    until("the command to end", async || {
        times(gateway.path(), ENDPOINT, "start") == 1 && !record.exists()
    })
    .await;
    assert!(!gateway.is_awake(ENDPOINT));

    fs::write(gateway.path().join("go"), "").unwrap();

    client.until(b'Z').await;
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}
