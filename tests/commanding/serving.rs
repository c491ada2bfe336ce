//! What goes as it should: woken by a client, suspended without one, wherever it listens this time.

use std::fs;

use super::port;
use crate::harness::{
    gateway::{Gateway, Setup, obstruct, story, times},
    processes,
    wait::until,
};

const SLEEPY: &str = "suspend_after = \"300ms\"";

async fn serve_one(gateway: &Gateway, endpoint: &str) -> i32 {
    port(&gateway.connect(endpoint).await).await
}

#[tokio::test]
async fn it_is_started_for_a_client_stopped_without_one_and_started_again() {
    const ENDPOINT: &str = "cmd-again";
    let gateway = Setup::new().commands(ENDPOINT, "", SLEEPY).start().await;
    // Looked at when pgwake came up.
    assert_eq!(story(gateway.path(), ENDPOINT), ["status"]);

    for round in 1..=2 {
        assert_eq!(serve_one(&gateway, ENDPOINT).await, 5432);
        gateway.asleep(ENDPOINT).await;
        until("the stop to be looked at", async || {
            story(gateway.path(), ENDPOINT).len() == 1 + 4 * round
        })
        .await;
    }

    let once = ["status", "start", "stop", "status"];
    assert_eq!(
        story(gateway.path(), ENDPOINT),
        [&["status"][..], &once, &once].concat()
    );
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn where_it_listens_is_what_its_start_prints_each_time_anew() {
    const ENDPOINT: &str = "cmd-printed";
    let gateway = Setup::new().printed(ENDPOINT, "", SLEEPY).start().await;
    for expected in [5432, 5433, 5434] {
        assert_eq!(serve_one(&gateway, ENDPOINT).await, expected);
        gateway.asleep(ENDPOINT).await;
        until("the suspend to be over", async || !gateway.is_awake(ENDPOINT)).await;
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_pooled_client_stays_while_it_sleeps_and_wakes_it_at_another_address() {
    const ENDPOINT: &str = "cmd-pooled";
    let gateway = Setup::new().printed(ENDPOINT, "", SLEEPY).start().await;
    let client = gateway.connect(&format!("{ENDPOINT}-pooler")).await;
    assert_eq!(port(&client).await, 5432);
    gateway.asleep(ENDPOINT).await;
    assert_eq!(port(&client).await, 5433);
    gateway.server.stop().await;
    assert!(processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn two_are_started_at_once_and_every_name_is_one_argument() {
    const LETTERS: &str = "z-abcdefghijklmnopqrstuvwxyz-0123456789";
    const OTHER: &str = "cmd-beside";
    let setup = Setup::new();
    // Each start waits for the other one.
    let meet = |other: &str| {
        format!("echo x >\"$here/$name.came\"\nwhile [ ! -e \"$here/{other}.came\" ]; do sleep 0.02; done\n")
    };
    obstruct(setup.path(), LETTERS, "start", &meet(OTHER));
    obstruct(setup.path(), OTHER, "start", &meet(LETTERS));
    let note = r#"for word in "$#" "$@"; do printf '%s\n' "$word"; done >"$0.noted"; exit 3"#;
    let words = format!(
        "[tenants.a.endpoints.cmd-words]\nroles_from = \"postgres\"\n\
         compute = {{ kind = \"command\", start = [\"false\"], status = [\"sh\", \"-c\", {note:?}, \
         \"{}/words\", \"{{tenant}} {{endpoint}}\", \"; $(id)\", \"--{{tenant}}\"] }}\n",
        setup.path().display()
    );
    let gateway = setup
        .commands(LETTERS, "", "")
        .printed(OTHER, "", "")
        .tenants(&words)
        .start_untaught()
        .await
        .unwrap();

    let ports = tokio::join!(serve_one(&gateway, LETTERS), serve_one(&gateway, OTHER));

    assert_eq!(ports, (5432, 5432));
    let noted = fs::read_to_string(gateway.path().join("words.noted")).unwrap();
    assert_eq!(noted, "3\na cmd-words\n; $(id)\n--a\n");
    gateway.server.stop().await;
}

#[tokio::test]
async fn without_a_stop_command_it_stays_awake_also_when_pgwake_ends_and_is_found_again() {
    const ENDPOINT: &str = "cmd-stays";
    let setup = Setup::new().commands(ENDPOINT, "no stop", "suspend_after = \"50ms\"");
    let gateway = setup.start().await;
    serve_one(&gateway, ENDPOINT).await;
    let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
    let order = gateway.server.house().wakes.suspend(&name);
    assert!(
        matches!(order, pgwake::wake::SuspendOrder::NotSuspendable),
        "{order:?}"
    );

    let gateway = gateway.restart().await;

    assert!(gateway.is_awake(ENDPOINT), "found by its status");
    serve_one(&gateway, ENDPOINT).await;
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 1);
    // It cannot be stopped, but started it can be.
    processes::kill_all_in(&gateway.data_dir(ENDPOINT));
    serve_one(&gateway, ENDPOINT).await;
    assert_eq!(times(gateway.path(), ENDPOINT, "start"), 2);
    gateway.server.stop().await;
    assert!(!processes::in_directory(&gateway.data_dir(ENDPOINT)).is_empty());
}

#[tokio::test]
async fn a_reload_brings_one_and_takes_it_away_with_its_server() {
    const ENDPOINT: &str = "cmd-reloaded";
    let setup = Setup::new().commands("cmd-before", "", "");
    let file = setup.write();
    let table = setup.commanded(ENDPOINT, "", "");
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let before = fs::read_to_string(&file).unwrap();

    fs::write(&file, format!("{before}\n{table}")).unwrap();
    let changes = gateway.server.reload().await.unwrap();
    assert_eq!(changes.added.len(), 1, "{changes}");
    serve_one(&gateway, ENDPOINT).await;

    fs::write(&file, &before).unwrap();
    gateway.server.reload().await.unwrap();
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}
