//! What is in a branch: the parent's data of one moment, and nothing of either afterwards.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{OPERATE, ask_for, create, in_folder, numbers, started};
use crate::harness::{tls_client, wait::until};

#[tokio::test]
async fn a_branch_of_a_sleeping_parent_has_its_data_and_writes_do_not_cross() {
    const PARENT: &str = "branch-asleep";
    let branch = format!("{PARENT}--copy");
    let gateway = started(PARENT, "suspend_after = \"100ms\"").await;
    let parent = gateway.connect(PARENT).await;
    let before = "create table kept (n int); insert into kept values (1); \
                  select pg_create_physical_replication_slot('of_the_parent', true)";
    parent.batch_execute(before).await.unwrap();
    drop(parent);
    gateway.asleep(PARENT).await;
    let data_dir = gateway.data_dir(PARENT);
    fs::create_dir(data_dir.join("log")).unwrap();
    fs::write(data_dir.join("log/postgresql.log"), "of the parent").unwrap();

    let made = create(&gateway, PARENT, "copy").await;

    assert_eq!(made["branch"], *branch);
    assert_eq!(gateway.wakes(PARENT), 1, "to be copied it need not be awake");
    let copied = gateway.data_dir(&branch);
    for left_out in [
        "postmaster.pid",
        "postmaster.opts",
        "log/postgresql.log",
        "pg_replslot/of_the_parent",
    ] {
        assert!(!copied.join(left_out).exists(), "{left_out}");
    }
    assert!(data_dir.join("pg_replslot/of_the_parent").exists());
    let in_branch = gateway.connect(&branch).await;
    let in_parent = gateway.connect(PARENT).await;
    in_branch
        .batch_execute("insert into kept values (2)")
        .await
        .unwrap();
    in_parent
        .batch_execute("insert into kept values (3)")
        .await
        .unwrap();
    assert_eq!(numbers(&in_branch, "select n from kept order by n").await, [1, 2]);
    assert_eq!(numbers(&in_parent, "select n from kept order by n").await, [1, 3]);
    drop((in_branch, in_parent));
    gateway.asleep(&branch).await;
    let again = gateway.connect(&branch).await;
    assert_eq!(numbers(&again, "select n from kept order by n").await, [1, 2]);
    gateway.server.stop().await;
}

/// Whoever named a branch before anybody had used its parent was told to connect to that once.
#[tokio::test]
async fn a_parent_that_nobody_has_used_is_made_for_its_first_branch() {
    const PARENT: &str = "branch-unused";
    let gateway = started(
        PARENT,
        "branches = { on_connect = true }\nsuspend_after = \"100ms\"",
    )
    .await;
    fs::remove_dir_all(gateway.data_dir(PARENT)).unwrap();
    let http = gateway.http(OPERATE);

    let asked = async { ask_for(&http, PARENT, "ordered").await.json() };
    let (logged_in, ordered) = tokio::join!(gateway.connect("branch-unused--by-login"), asked);

    assert_eq!(numbers(&logged_in, "select 7").await, [7]);
    assert_eq!(ordered["branch"], "branch-unused--ordered");
    let in_branch = gateway.connect("branch-unused--ordered").await;
    assert_eq!(numbers(&in_branch, "select 8").await, [8]);
    assert_eq!(gateway.wakes(PARENT), 1, "it was made once");
    let parent = gateway.connect(PARENT).await;
    assert_eq!(numbers(&parent, "select 9").await, [9]);
    gateway.server.stop().await;
}

/// Accounts between which money moves, some of it in large transactions that touch every page.
const LEDGER: &str = "create table ledger (id int primary key, balance int, filler text); \
                      insert into ledger select id, 100, repeat('x', 300) from generate_series(1, 3000) id; \
                      create table moved (n int)";

/// Moves money; each account of the first half is locked before one of the second, so that nobody waits in a circle.
fn a_move(number: u64) -> String {
    let (from, to) = (1 + number * 7919 % 1500, 1501 + number * 104_729 % 1500);
    format!(
        "begin; update ledger set balance = balance - 7 where id = {from}; \
         update ledger set balance = balance + 7 where id = {to}; insert into moved values (1); commit"
    )
}

#[tokio::test]
async fn a_branch_of_a_parent_that_takes_writes_is_of_one_moment_and_its_clients_notice_nothing() {
    const PARENT: &str = "branch-busy";
    let branch = format!("{PARENT}--ledger");
    let gateway = started(PARENT, "").await;
    let client = gateway.connect(PARENT).await;
    client.batch_execute(LEDGER).await.unwrap();
    let (moves, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for writer in 0..3 {
        let (client, moves, stop) = (gateway.connect(PARENT).await, moves.clone(), stop.clone());
        writers.push(tokio::spawn(async move {
            let (backend, mut number) = (numbers(&client, "select pg_backend_pid()").await, writer);
            while !stop.load(Ordering::Relaxed) {
                number += 3;
                client.batch_execute(&a_move(number)).await.unwrap();
                moves.fetch_add(1, Ordering::Relaxed);
            }
            assert_eq!(numbers(&client, "select pg_backend_pid()").await, backend);
        }));
    }
    until("writes", async || moves.load(Ordering::Relaxed) > 20).await;
    let before = moves.load(Ordering::Relaxed);

    let made = create(&gateway, PARENT, "ledger").await;

    let after = moves.load(Ordering::Relaxed);
    until("further writes", async || {
        moves.load(Ordering::Relaxed) > after + 20
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(made["parent"], PARENT);
    let copy = gateway.connect(&branch).await;
    assert_eq!(
        numbers(&copy, "select sum(balance)::int from ledger").await,
        [300_000]
    );
    let moved = numbers(&copy, "select count(*)::int from moved").await[0];
    assert!(
        u64::try_from(moved).unwrap() >= before,
        "what was committed before is there: {moved} of {before}"
    );
    let in_parent = numbers(&client, "select count(*)::int from moved").await[0];
    assert!(
        moved < in_parent,
        "what came after is not there: {moved} of {in_parent}"
    );
    let spent = numbers(
        &copy,
        "select (sum(100 - balance) / 7)::int from ledger where id <= 1500",
    )
    .await;
    assert_eq!(spent, [moved], "whole transactions alone");
    // Nothing of the backup stays behind.
    let slots = numbers(&client, "select count(*)::int from pg_replication_slots").await;
    assert_eq!(slots, [0]);
    // A crash of the branch is recovered from like any other.
    crate::harness::processes::kill_all_in(&gateway.data_dir(&branch));
    until("it to be there again", async || {
        let again = tls_client::connect(&gateway.config(&branch), &gateway.authority).await;
        match again {
            Ok(again) => numbers(&again, "select sum(balance)::int from ledger").await == [300_000],
            Err(_) => false,
        }
    })
    .await;
    gateway.server.stop().await;
}

/// The backup's session said nothing while the files were copied, and the server ended it.
#[tokio::test]
async fn a_parent_that_ends_idle_sessions_is_copied_while_it_runs() {
    const PARENT: &str = "branch-idle-session";
    let gateway = started(PARENT, "").await;
    let client = gateway.connect(PARENT).await;
    let large =
        "create table large as select repeat(md5(i::text), 60) as filler from generate_series(1, 50000) i";
    client.batch_execute(large).await.unwrap();
    let (sql, reload) = (
        "alter system set idle_session_timeout = '150ms'",
        "select pg_reload_conf()",
    );
    client.batch_execute(sql).await.unwrap();
    client.batch_execute(reload).await.unwrap();

    let made = create(&gateway, PARENT, "copy").await;

    assert_eq!(made["branch"], format!("{PARENT}--copy"), "{made}");
    let copy = gateway.connect(&format!("{PARENT}--copy")).await;
    let rows = numbers(&copy, "select count(*)::int from large").await;
    assert_eq!(rows, [50_000]);
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_a_branch_would_share_with_its_parent_is_refused() {
    const PARENT: &str = "branch-tablespace";
    let gateway = started(PARENT, "").await;
    let elsewhere = gateway.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    if let Some(account) = crate::harness::account::Account::for_postgres() {
        account.own(&elsewhere);
    }
    let client = gateway.connect(PARENT).await;
    let sql = format!("create tablespace outside location '{}'", elsewhere.display());
    client.batch_execute(&sql).await.unwrap();

    let (status, error) = ask_for(&gateway.http(OPERATE), PARENT, "copy").await.error();

    assert_eq!(status, 409);
    assert!(
        error.contains("it has a tablespace outside of its data directory"),
        "{error}"
    );
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), [""; 0]);
    client.batch_execute("drop tablespace outside").await.unwrap();
    create(&gateway, PARENT, "copy").await;
    gateway.server.stop().await;
}

/// Postgres never got over a recovery from a backup that was interrupted, and a branch begins with one: it could never be
/// used.
#[tokio::test]
async fn a_branch_whose_first_recovery_was_interrupted_is_recovered_again() {
    const PARENT: &str = "branch-interrupted";
    let branch = format!("{PARENT}--again");
    let gateway = started(PARENT, "").await;
    let client = gateway.connect(PARENT).await;
    client
        .batch_execute("create table kept as select 42 as n")
        .await
        .unwrap();
    create(&gateway, PARENT, "again").await;
    let data_dir = gateway.data_dir(&branch);
    let label = fs::read_to_string(data_dir.join("backup_label")).unwrap();
    let segment = label.split_once("(file ").unwrap().1.split(')').next().unwrap();
    let segment = data_dir.join("pg_wal").join(segment);
    // Its recovery ends behind the record of its checkpoint, as if everything had stopped there.
    let whole = fs::read(&segment).unwrap();
    let mut cut = whole.clone();
    let checkpoint = label
        .split_once("CHECKPOINT LOCATION: ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap();
    let checkpoint = u32::from_str_radix(checkpoint.split_once('/').unwrap().1, 16).unwrap();
    let record = usize::try_from(checkpoint).unwrap() % whole.len();
    let length = u32::from_ne_bytes(whole[record..record + 4].try_into().unwrap());
    cut[record + usize::try_from(length.next_multiple_of(8)).unwrap()..].fill(0);
    fs::write(&segment, cut).unwrap();

    let refused = tls_client::connect(&gateway.config(&branch), &gateway.authority).await;

    assert_eq!(refused.err().unwrap().code().unwrap().code(), "57P03");
    assert!(
        !data_dir.join("backup_label").exists(),
        "Postgres has taken it away"
    );
    fs::write(&segment, whole).unwrap();
    let again = gateway.connect_again(&branch).await;
    assert_eq!(numbers(&again, "select n from kept").await, [42]);
    // And that is the end of it.
    drop(again);
    crate::harness::processes::kill_all_in(&data_dir);
    let again = gateway.connect_again(&branch).await;
    assert_eq!(numbers(&again, "select n from kept").await, [42]);
    gateway.server.stop().await;
}
