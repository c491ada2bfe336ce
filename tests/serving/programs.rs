//! Postgres' own programs through pgwake: dump and restore, base backup, logical replication.

use std::fs;

use super::served::{Served, value};
use crate::harness::{
    directories::Directory,
    postgres::{Prepared, Version, programs},
    programs::Program,
};

fn program(name: &str) -> Program {
    Program::new(programs(Version::Debian).join(name))
}

#[tokio::test]
async fn a_database_is_dumped_and_restored() {
    let served = Served::start("program-dump").await;
    let client = served.connect().await;
    client
        .batch_execute(
            "create table things (id int primary key, data bytea); \
             insert into things select n, convert_to(repeat('x', n), 'UTF8') from generate_series(1, 2000) n; \
             select lo_from_bytea(0, 'large object')",
        )
        .await
        .unwrap();
    client.batch_execute("create database copied").await.unwrap();
    let directory = Directory::new();
    let dump = directory.path().join("dump").display().to_string();

    let arguments = ["-Fd", "-j", "2", "-f", &dump, "-d", &served.connection_string()];
    program("pg_dump").arguments(&arguments).run().await.succeeded();
    let target = format!("{} dbname=copied", served.connection_string());
    let arguments = ["-j", "2", "-d", &target, &dump];
    program("pg_restore")
        .arguments(&arguments)
        .run()
        .await
        .succeeded();

    let mut config = served.gateway.config("program-dump");
    config.dbname("copied");
    let copied = crate::harness::tls_client::connect(&config, &served.gateway.authority)
        .await
        .unwrap();
    assert_eq!(
        value(&copied, "select sum(length(data)) from things").await,
        "2001000"
    );
    assert_eq!(
        value(&copied, "select count(*) from pg_largeobject_metadata").await,
        "1"
    );
}

#[tokio::test]
async fn a_base_backup_is_taken() {
    let served = Served::start("program-backup").await;
    let directory = Directory::new();
    let target = directory.path().join("backup");
    let arguments = ["-X", "stream", "-c", "fast", "-D", target.to_str().unwrap()];

    program("pg_basebackup")
        .arguments(&arguments)
        .arguments(&["-d", &served.connection_string()])
        .run()
        .await
        .succeeded();

    assert_eq!(
        fs::read_to_string(target.join("PG_VERSION")).unwrap().trim(),
        "15"
    );
    let verified = program("pg_verifybackup")
        .argument(&target)
        .run()
        .await
        .succeeded();
    assert!(verified.contains("successfully verified"), "{verified}");
}

#[tokio::test]
async fn changes_are_received_by_logical_replication() {
    let prepared = Prepared::new(Version::Debian).setting("wal_level", "logical");
    let served = Served::with("program-logical", prepared).await;
    let connection = served.connection_string();
    let slot = ["-S", "slot", "-d", &connection];
    program("pg_recvlogical")
        .arguments(&slot)
        .arguments(&["--create-slot", "-P", "test_decoding"])
        .run()
        .await
        .succeeded();
    let mut receiving = program("pg_recvlogical")
        .arguments(&slot)
        .arguments(&["--start", "-f", "-", "-F", "0"])
        .start();

    let client = served.connect().await;
    client
        .batch_execute("create table things (id int)")
        .await
        .unwrap();
    for id in 1..=20 {
        client
            .batch_execute(&format!("insert into things values ({id})"))
            .await
            .unwrap();
        receiving.hear(&format!("INSERT: id[integer]:{id}")).await;
    }

    receiving.signal(rustix::process::Signal::INT);
    receiving.end().await.succeeded();
    program("pg_recvlogical")
        .arguments(&slot)
        .argument("--drop-slot")
        .run()
        .await
        .succeeded();
}
