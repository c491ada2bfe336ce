//! What operators order of branches, over HTTP and by commands.

use std::{fs, path::Path};

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;

use super::{OPERATE, ask_for, create, crowd, in_folder, numbers, setup, started};
use crate::harness::{
    programs::{Finished, Program},
    tls_client,
};

async fn run(gateway: &crate::harness::gateway::Gateway, arguments: &[&str]) -> Finished {
    Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["branch"])
        .arguments(arguments)
        .arguments(&["--config"])
        .argument(gateway.path().join("pgwake.toml"))
        .run()
        .await
}

/// This was an error of pgwake itself, whatever the reason.
#[tokio::test]
async fn a_parent_that_runs_and_takes_nobody_in_says_so_itself() {
    const PARENT: &str = "branch-disabled";
    let gateway = started(PARENT, "").await;
    let client = gateway.connect(PARENT).await;
    let http = gateway.http(OPERATE);
    let disabled = http.post(&format!("/api/v1/endpoints/{PARENT}/disable")).await;
    assert_eq!(disabled.status, 200);

    let refused = ask_for(&http, PARENT, "copy").await;

    let (status, error) = refused.error();
    assert_eq!(status, 503, "{error}");
    assert!(
        error.starts_with(&format!("endpoint \"{PARENT}\" is disabled")),
        "{error}"
    );
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), [""; 0]);
    drop(client);
    http.post(&format!("/api/v1/endpoints/{PARENT}/enable")).await;
    create(&gateway, PARENT, "copy").await;
    gateway.server.stop().await;
}

/// A branch could grow with its parent beyond what all of them may have.
#[tokio::test]
async fn a_branch_is_not_reset_to_more_than_its_tenant_may_have() {
    const PARENT: &str = "branch-grown";
    let branch = format!("{PARENT}--copy");
    // One has 28 MiB.
    let gateway = started(PARENT, "branches = { tenant_bytes_max = \"40MiB\" }").await;
    let http = gateway.http(OPERATE);
    let before = create(&gateway, PARENT, "copy").await["bytes"].clone();
    let parent = gateway.connect(PARENT).await;
    let large = "create table large as select repeat(md5(n::text), 60) from generate_series(1, 10000) n";
    parent.batch_execute(large).await.unwrap();

    let refused = http
        .post(&format!("/api/v1/branches/{branch}/reset?max=5m"))
        .await;

    let (status, error) = refused.error();
    assert_eq!(status, 409, "{error}");
    assert!(
        error.ends_with("40MiB are the limit (branches.tenant_bytes_max)"),
        "{error}"
    );
    let listed = http.get(&format!("/api/v1/branches/{branch}")).await.json();
    assert_eq!(listed["bytes"], before);
    let in_branch = gateway.connect(&branch).await;
    in_branch.batch_execute("create table own ()").await.unwrap();
    gateway.server.stop().await;
}

#[tokio::test]
async fn commands_make_list_reset_and_delete() {
    const PARENT: &str = "branch-command";
    let branch = format!("{PARENT}--one");
    let gateway = started(PARENT, "").await;
    let parent = gateway.connect(PARENT).await;
    parent
        .batch_execute("create table kept as select 1 as n")
        .await
        .unwrap();

    let created = run(&gateway, &["create", PARENT, "one", "--ttl", "1h"]).await;

    assert!(created.status.success(), "{created:?}");
    let url = format!(
        "postgresql://{branch}.db.localhost:{}/postgres?sslmode=verify-full",
        gateway.address().port()
    );
    assert!(created.output.contains(&url), "{created:?}");
    let again = run(&gateway, &["create", PARENT, "one"]).await;
    assert!(again.status.success(), "{again:?}");
    let listed = run(&gateway, &["list", PARENT]).await;
    assert!(
        listed.output.lines().nth(1).unwrap().starts_with(&branch),
        "{listed:?}"
    );
    assert_eq!(listed.output.lines().count(), 2, "{listed:?}");

    let in_branch = gateway.connect(&branch).await;
    in_branch.batch_execute("drop table kept").await.unwrap();
    parent.batch_execute("insert into kept values (2)").await.unwrap();
    let reset = run(&gateway, &["reset", PARENT, "one"]).await;
    assert!(reset.status.success(), "{reset:?}");
    let ended = in_branch.query("select 1", &[]).await.unwrap_err();
    assert!(
        ended.is_closed() || ended.code() == Some(&SqlState::ADMIN_SHUTDOWN),
        "{ended}"
    );
    let in_branch = gateway.connect(&branch).await;
    assert_eq!(numbers(&in_branch, "select n from kept order by n").await, [1, 2]);

    let deleted = run(&gateway, &["delete", &branch]).await;
    assert!(deleted.status.success(), "{deleted:?}");
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), [""; 0]);
    let missing = run(&gateway, &["delete", &branch]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        missing
            .errors
            .contains(&format!("there is no branch \"{branch}\"")),
        "{missing:?}"
    );
    for bad in ["../evil", "A", "a--b", "pooler", "x.y"] {
        let refused = run(&gateway, &["create", PARENT, bad]).await;
        assert_eq!(refused.status.code(), Some(1), "{bad}");
        assert!(refused.errors.contains(bad), "{refused:?}");
    }
    gateway.server.stop().await;
    let alone = run(&gateway, &["list"]).await;
    assert_eq!(alone.status.code(), Some(1));
    assert!(
        alone.errors.contains("no pgwake serves") && alone.errors.contains("pgwake serve --config"),
        "{alone:?}"
    );
}

fn files_of(folder: &Path, branch: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(branch)).collect()
}

#[tokio::test]
async fn a_branch_that_is_deleted_ends_its_clients_and_leaves_nothing() {
    const PARENT: &str = "branch-delete";
    let branch = format!("{PARENT}--gone");
    let gateway = started(PARENT, "").await;
    let http = gateway.http(OPERATE);
    create(&gateway, PARENT, "gone").await;
    let mut idle = gateway.raw_served(&branch).await;
    let mut parked = gateway.raw_served(&format!("{branch}-pooler")).await;
    let mut busy = gateway.raw_served(&branch).await;
    busy.query("begin").await;
    busy.until(b'Z').await;
    let log = gateway.path().join("state/log");
    assert!(!files_of(&log, &branch).is_empty(), "it has run");

    let deleted = http.ask("DELETE", &format!("/api/v1/branches/{branch}")).await;

    assert_eq!(deleted.status, 200, "{deleted:?}");
    for client in [&mut idle, &mut parked, &mut busy] {
        let fields = client.message().await.fields();
        assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P01"), "{fields:?}");
        client.closed().await;
    }
    gateway.asleep(&branch).await;
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), [""; 0]);
    let again = http.ask("DELETE", &format!("/api/v1/branches/{branch}")).await;
    assert_eq!(again.error().0, 404);
    // Where branches come and go all day, what is left of each would fill any disk and any memory.
    for folder in ["sockets", "state/log"] {
        let left = files_of(&gateway.path().join(folder), &branch);
        assert!(left.is_empty(), "{left:?}");
    }
    let wakes = http.get("/api/v1/wakes").await.json().to_string();
    assert!(!wakes.contains(&branch), "{wakes}");
    let quotas = http.get("/api/v1/quotas").await.json().to_string();
    assert!(!quotas.contains(&branch), "{quotas}");
    // The same name once more is another branch.
    create(&gateway, PARENT, "gone").await;
    gateway
        .connect(&branch)
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_hundred_at_once_make_as_many_as_there_may_be_and_a_retry_is_harmless() {
    const PARENT: &str = "branch-hundred";
    let gateway = started(PARENT, "branches.max = 7").await;
    let http = gateway.http(OPERATE);
    // Ten names, ten times each.
    let names: Vec<String> = (0..100).map(|number| format!("n{}", number % 10)).collect();

    let answers = join_all(names.iter().map(|name| ask_for(&http, PARENT, name))).await;

    let mut made = Vec::new();
    for (name, answer) in names.iter().zip(&answers) {
        if answer.status == 200 {
            assert_eq!(answer.json()["branch"], format!("{PARENT}--{name}"));
            made.push(name.clone());
        } else {
            let (status, error) = answer.error();
            assert_eq!(status, 409, "{error}");
            assert!(error.ends_with("7 are the limit (branches.max)"), "{error}");
        }
    }
    made.sort();
    assert_eq!(made.len(), 70, "each of those ten times: {made:?}");
    made.dedup();
    let expected: Vec<String> = made
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}.lock")])
        .collect();
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), expected);
    let listed = http
        .get(&format!("/api/v1/endpoints/{PARENT}/branches"))
        .await
        .json();
    assert_eq!(listed["total"], 7);
    let client = tls_client::connect(
        &gateway.config(&format!("{PARENT}--{}", made[0])),
        &gateway.authority,
    )
    .await;
    client.unwrap().batch_execute("select 1").await.unwrap();
    gateway.server.stop().await;
}

/// As many as the variable says, 12 without it: a hundred are 2.8 GB, and take their time.
#[tokio::test]
async fn many_different_ones_at_once_are_made_whole_or_refused() {
    const PARENT: &str = "branch-many";
    let max = std::env::var("PGWAKE_TEST_BRANCHES").map_or(12, |number| number.parse().unwrap());
    let limits = format!("branches.max = {max}\nbranches.tenant_max = 1000");
    let gateway = started(PARENT, &limits).await;
    let data_dir = gateway.data_dir(PARENT);
    crowd(&gateway, (PARENT, &data_dir), max + 4, max).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_branched_is_refused_with_the_reason() {
    const PARENT: &str = "branch-refused";
    let postgres = crate::harness::postgres::Postgres::start(crate::harness::postgres::Version::Debian).await;
    let gateway = setup()
        .listed(PARENT, "hold_timeout = \"1s\"")
        .fixed("branch-fixed", &postgres, "")
        .start()
        .await;
    let http = gateway.http(OPERATE);
    create(&gateway, PARENT, "one").await;
    let large = fs::File::create(gateway.data_dir(PARENT).join("base/large")).unwrap();
    large.set_len(1 << 40).unwrap();
    for (path, expected) in [
        (
            "endpoints/branch-fixed/branches?name=a",
            (409, "kind = \"process\""),
        ),
        (
            "endpoints/branch-refused--one/branches?name=a",
            (404, "there is no such endpoint"),
        ),
        (
            "endpoints/branch-nowhere/branches?name=a",
            (404, "there is no such endpoint"),
        ),
        ("endpoints/branch-refused/branches", (400, "`name` is missing")),
        (
            "endpoints/branch-refused/branches?name=a_b",
            (400, "'_' is none of them"),
        ),
        ("branches/branch-refused--none/reset", (404, "there is no branch")),
        ("branches/branch-refused--none/renew", (404, "there is no branch")),
    ] {
        let (status, error) = http.post(&format!("/api/v1/{path}")).await.error();
        assert_eq!(status, expected.0, "{path}: {error}");
        assert!(error.contains(expected.1), "{path}: {error}");
    }
    let too_large = http
        .post(&format!("/api/v1/endpoints/{PARENT}/branches?name=a"))
        .await
        .error();
    assert!(too_large.0 == 507 || too_large.0 == 409, "{too_large:?}");
    large.set_len(5 << 30).unwrap();
    let (status, error) = http
        .post(&format!("/api/v1/endpoints/{PARENT}/branches?name=a"))
        .await
        .error();
    assert_eq!(status, 409, "{error}");
    assert!(
        error.contains("have to be copied, which takes about") && error.contains("1s are waited"),
        "{error}"
    );
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), ["one", "one.lock"]);
    let not_allowed = http.ask("DELETE", &format!("/api/v1/endpoints/{PARENT}")).await;
    assert_eq!(not_allowed.status, 405);
    gateway.server.stop().await;
}
