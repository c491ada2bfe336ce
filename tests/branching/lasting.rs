//! Branches over restarts, crashes and reloads.

use std::fs;

use rustix::process::Signal;

use super::{OPERATE, create, in_folder, numbers, setup, started};
use crate::harness::{
    child::Pgwake,
    http::Http,
    logs, processes,
    programs::{Finished, Program},
    tls_client,
    wait::until,
};

#[tokio::test]
async fn a_branch_is_there_after_a_restart() {
    const PARENT: &str = "branch-restart";
    let branch = format!("{PARENT}--stays");
    let gateway = started(PARENT, "").await;
    create(&gateway, PARENT, "stays").await;
    let client = gateway.connect(&branch).await;
    client
        .batch_execute("create table kept as select 42 as n")
        .await
        .unwrap();
    drop(client);

    let gateway = gateway.restart().await;

    let client = gateway.connect(&branch).await;
    assert_eq!(numbers(&client, "select n from kept").await, [42]);
    let listed = gateway.http(OPERATE).get("/api/v1/branches").await.json();
    assert_eq!(listed["items"][0]["branch"], *branch);
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_branch_changes_with_its_parent_and_is_served_as_long_as_that_is_there() {
    const PARENT: &str = "branch-reload";
    let branch = format!("{PARENT}--child");
    let gateway = started(PARENT, "access = { allow = [\"127.0.0.1\"] }").await;
    create(&gateway, PARENT, "child").await;
    let mut client = gateway.raw_served(&branch).await;
    let file = gateway.path().join("pgwake.toml");
    let rewrite = |text: &str| {
        let new = gateway.path().join("new.toml");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    let before = fs::read_to_string(&file).unwrap();

    rewrite(&before.replace("allow = [\"127.0.0.1\"]", "allow = [\"192.0.2.1\"]"));
    gateway.server.reload().await.unwrap();
    assert_eq!(
        client.message().await.sqlstate(),
        "57P01",
        "its address is not allowed any more"
    );
    let refused = tls_client::connect(&gateway.config(&branch), &gateway.authority).await;
    assert_eq!(refused.err().unwrap().code().unwrap().code(), "28P01");

    rewrite(&before);
    gateway.server.reload().await.unwrap();
    let mut client = gateway.raw_served(&branch).await;

    // Without its parent it is not served, and its data stays.
    let without = &before[..before
        .find(&format!("[tenants.acme.endpoints.{PARENT}]"))
        .unwrap()];
    rewrite(without);
    gateway.server.reload().await.unwrap();
    let fields = client.message().await.fields();
    assert_eq!(fields[&'C'], "57P01");
    assert_eq!(fields[&'M'], format!("endpoint \"{branch}\" has been removed"));
    let told = logs::with_text(PARENT);
    let told = told
        .iter()
        .find(|line| line.field("message").contains("its branches are not served"));
    assert_eq!(told.unwrap().field("names"), "child");
    gateway.asleep(&branch).await;
    let listed = gateway.http(OPERATE).get("/api/v1/branches").await.json();
    assert_eq!(listed["items"][0]["state"], serde_json::Value::Null);
    assert!(gateway.data_dir(&branch).join("PG_VERSION").exists());

    rewrite(&before);
    until("its parent to be back", async || {
        gateway.server.reload().await.is_ok()
    })
    .await;
    // What is still leaving comes back once it has left.
    gateway
        .connect_again(&branch)
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    gateway.server.stop().await;
}

fn command(state_dir: &std::path::Path, arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["branch"])
        .arguments(arguments)
        .arguments(&["--state-dir"])
        .argument(state_dir)
}

async fn run(state_dir: &std::path::Path, arguments: &[&str]) -> Finished {
    command(state_dir, arguments).run().await
}

#[tokio::test]
async fn what_a_killed_pgwake_has_left_half_made_is_removed_by_the_next_one() {
    const PARENT: &str = "branch-killed";
    let setup = setup().listed(PARENT, "");
    let data_dir = setup.data_dir(PARENT);
    let state_dir = setup.path().join("state");
    let pgwake = Pgwake::start(&setup).await;
    let whole = run(&state_dir, &["create", PARENT, "whole"]).await;
    assert!(whole.status.success(), "{whole:?}");
    let client = pgwake.connect(&format!("{PARENT}--whole")).await;
    // Zeros that take no room here, and seconds to be copied.
    let large = fs::File::create(data_dir.join("base/large")).unwrap();
    large.set_len(8 << 30).unwrap();
    let _asking = command(&state_dir, &["create", PARENT, "half", "--max", "1h"]).start();
    let half_made = || in_folder(&data_dir).contains(&"half.copy".to_owned());
    until("the copy to begin", async || half_made()).await;

    pgwake.signal(Signal::KILL);
    pgwake.end().await;

    assert!(
        half_made(),
        "this file system copies faster than anybody can look"
    );
    drop(client);
    large.set_len(0).unwrap();
    let adopted = processes::postmaster(&data_dir.with_extension("branches").join("whole"));
    let pgwake = Pgwake::start(&setup).await;
    until("the rest to be removed", async || !half_made()).await;
    assert_eq!(in_folder(&data_dir), ["whole", "whole.lock"]);
    // The whole one runs on, and the half one can be made anew.
    let client = pgwake.connect(&format!("{PARENT}--whole")).await;
    client.batch_execute("select 1").await.unwrap();
    assert_eq!(
        processes::postmaster(&data_dir.with_extension("branches").join("whole")),
        adopted
    );
    let again = run(&state_dir, &["create", PARENT, "half"]).await;
    assert!(again.status.success(), "{again:?}");
    pgwake.connect(&format!("{PARENT}--half")).await;
    drop(client);
    pgwake.signal(Signal::TERM);
    assert_eq!(pgwake.end().await.status.code(), Some(0));
}

#[tokio::test]
async fn a_branch_whose_files_are_gone_is_no_empty_database() {
    const PARENT: &str = "branch-lost";
    let branch = format!("{PARENT}--lost");
    let gateway = started(PARENT, "").await;
    create(&gateway, PARENT, "lost").await;
    fs::remove_dir_all(gateway.data_dir(&branch)).unwrap();
    let refused = tls_client::connect(&gateway.config(&branch), &gateway.authority).await;
    let refused = refused.err().unwrap();
    let told = refused.as_db_error().unwrap();
    assert_eq!(told.code().code(), "57P03");
    assert!(
        told.detail()
            .unwrap()
            .contains("the branch's data directory is gone"),
        "{told:?}"
    );
    assert!(!gateway.data_dir(&branch).exists());
    gateway.server.stop().await;
}

#[tokio::test]
async fn branches_that_nobody_uses_are_removed_after_their_ttl() {
    const PARENT: &str = "branch-ttl";
    let gateway = started(PARENT, "").await;
    let http: Http = gateway.http(OPERATE);
    let path = format!("/api/v1/endpoints/{PARENT}/branches?name=");
    http.post(&format!("{path}used&ttl=8s")).await.json();
    let client = gateway.connect(&format!("{PARENT}--used")).await;
    http.post(&format!("{path}unused&ttl=8s")).await.json();
    http.post(&format!("{path}kept")).await.json();

    until("the unused one to go", async || {
        http.get(&format!("/api/v1/branches/{PARENT}--unused"))
            .await
            .status
            == 404
    })
    .await;

    until("its files to go", async || {
        in_folder(&gateway.data_dir(PARENT)) == ["kept", "kept.lock", "used", "used.lock"]
    })
    .await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    until("the other one to go", async || {
        http.get(&format!("/api/v1/branches/{PARENT}--used")).await.status == 404
    })
    .await;
    let kept = http
        .post(&format!("/api/v1/branches/{PARENT}--kept/renew?ttl=1h"))
        .await
        .json();
    assert_eq!(kept["ttl_ms"], 3_600_000);
    gateway.server.stop().await;
}

/// With every start the five minutes began anew in which a branch stayed in any case: where pgwake was started more often than
/// that, none was removed.
#[tokio::test]
async fn branches_are_removed_after_their_ttl_however_often_pgwake_is_started() {
    const PARENT: &str = "branch-ttl-starts";
    let setup = setup().listed(PARENT, "");
    let data_dir = setup.data_dir(PARENT);
    let state_dir = setup.path().join("state");
    let mut starts = 0;
    loop {
        let pgwake = Pgwake::start(&setup).await;
        starts += 1;
        if starts == 1 {
            let made = run(&state_dir, &["create", PARENT, "left", "--ttl", "4s"]).await;
            assert!(made.status.success(), "{made:?}");
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        pgwake.signal(Signal::TERM);
        assert_eq!(pgwake.end().await.status.code(), Some(0));
        if in_folder(&data_dir).is_empty() {
            break;
        }
        assert!(starts < 10, "nobody has used it for {starts} times two seconds");
    }
}
