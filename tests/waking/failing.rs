//! A compute that cannot be started: everyone who waits is told why, and it is not tried again for every client.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use tokio::time::Instant;

use super::{gated, refusal};
use crate::harness::{
    account::Account,
    gateway::{Gateway, Setup, append},
    logs, processes,
};

fn settings(gateway: &Gateway, endpoint: &str) -> std::path::PathBuf {
    gateway.data_dir(endpoint).join("postgresql.conf")
}

#[tokio::test]
async fn broken_configuration_is_told_at_once_and_served_after_its_repair() {
    const ENDPOINT: &str = "failing-settings";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let good = fs::read(settings(&gateway, ENDPOINT)).unwrap();
    append(&settings(&gateway, ENDPOINT), "shared_buffers = nonsense");
    let since = Instant::now();

    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(
        told[&'M'],
        "compute for endpoint \"failing-settings\" could not be started"
    );
    assert!(
        told[&'D'].starts_with("postgres ended with exit status 1 before it took logins"),
        "{told:?}"
    );
    assert!(told.contains_key(&'H'), "{told:?}");
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "57P03");
    let lines = logs::of_endpoint(ENDPOINT);
    let failed = lines
        .iter()
        .find(|line| line.field("message") == "could not be started")
        .unwrap();
    assert!(failed.field("detail").contains("\"nonsense\""), "{failed:?}");
    assert!(
        !format!("{told:?}").contains("nonsense"),
        "the server's log is the operator's"
    );

    fs::write(settings(&gateway, ENDPOINT), good).unwrap();
    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    gateway.server.stop().await;
}

#[tokio::test]
async fn failure_is_told_to_all_who_wait_and_remembered_for_a_moment() {
    const ENDPOINT: &str = "failing-remembered";
    let (gateway, mut gate) = gated(ENDPOINT, "").await;
    append(&settings(&gateway, ENDPOINT), "shared_buffers = nonsense");
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gateway.raw_proved(ENDPOINT).await);
    }
    let mut late = gateway.raw_to(ENDPOINT).await;

    gate.open();
    let mut told = Vec::new();
    for client in &mut clients {
        told.push(refusal(client).await[&'D'].clone());
    }
    crate::harness::gateway::prove(&mut late).await;
    let late = refusal(&mut late).await;

    let reason = |detail: &str| {
        detail
            .split("; not started again for ")
            .next()
            .unwrap()
            .to_owned()
    };
    told.iter()
        .for_each(|detail| assert_eq!(reason(detail), reason(&late[&'D'])));
    assert_eq!(gateway.wakes(ENDPOINT), 1);
    gateway.server.stop().await;
}

#[tokio::test]
async fn folder_that_the_user_of_postgres_cannot_enter_is_named() {
    const ENDPOINT: &str = "failing-folder";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let parent = gateway.path().join("computes");
    fs::set_permissions(&parent, Permissions::from_mode(0o600)).unwrap();

    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    fs::set_permissions(&parent, Permissions::from_mode(0o755)).unwrap();
    assert!(told[&'D'].contains(parent.to_str().unwrap()), "{told:?}");
    assert!(told[&'D'].contains("cannot"), "{told:?}");
    let lines = logs::of_endpoint(ENDPOINT);
    let failed = lines
        .iter()
        .find(|line| line.field("message") == "could not be started")
        .unwrap();
    assert!(
        failed.field("reason").contains(parent.to_str().unwrap()),
        "{failed:?}"
    );
    gateway.connect_again(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn postgres_runs_as_an_unprivileged_user() {
    const ENDPOINT: &str = "failing-user";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let _client = gateway.connect(ENDPOINT).await;

    let running = processes::in_directory(&gateway.data_dir(ENDPOINT));

    let expected = Account::for_postgres().map(|account| account.uid);
    let expected = expected.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    assert_ne!(expected, 0);
    assert!(!running.is_empty());
    for process in running {
        let owner = fs::metadata(format!("/proc/{}", process.pid)).map(|meta| meta.uid());
        assert!(
            owner.is_err() || owner.is_ok_and(|uid| uid == expected),
            "{process:?}"
        );
    }
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_storm_of_equal_errors_is_one_line_and_their_number() {
    const ENDPOINT: &str = "failing-storm";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    append(&settings(&gateway, ENDPOINT), "shared_buffers = nonsense");
    let told = |message: &str| {
        let lines = logs::of_endpoint(ENDPOINT).into_iter();
        lines
            .filter(|line| line.field("message") == message)
            .collect::<Vec<_>>()
    };

    for _ in 0..12 {
        refusal(&mut gateway.raw_proved(ENDPOINT).await).await;
    }

    // Each session has its record, and the operator one warning.
    logs::access_lines(ENDPOINT, 12).await;
    assert_eq!(told("session failed").len(), 1);
    gateway.server.stop().await;
    let again = told("the same again, since it was last told");
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(
        (again[0].field("more"), again[0].field("sqlstate")),
        ("11", "57P03")
    );
}
