//! A compute whose disk is full: clients and operators are told so, nothing is lost, and it is served again once there is
//! room.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use serde_json::Value;

use super::refusal;
use crate::harness::{
    gateway::{Gateway, Setup},
    logs,
    mounted::Mounted,
    postgres::{PASSWORD, SUPERUSER},
    tls_client,
    wait::until,
};

const OPERATE: &str = "operate-token-for-full-disks";

fn setup() -> Setup {
    Setup::new().admin(&format!("operate_tokens = [\"{OPERATE}\"]"))
}

async fn shown(gateway: &Gateway, endpoint: &str) -> Value {
    let path = format!("/api/v1/endpoints/{endpoint}");
    gateway.http(OPERATE).get(&path).await.json()
}

/// What the log says of starts that failed.
fn failures(endpoint: &str) -> Vec<logs::Line> {
    let mut lines = logs::of_endpoint(endpoint);
    lines.retain(|line| line.field("message") == "could not be started");
    lines
}

#[tokio::test]
async fn a_start_without_room_is_told_as_that_and_succeeds_once_there_is_some() {
    const ENDPOINT: &str = "full-asleep";
    const BESIDE: &str = "full-beside";
    let Some(mounted) = Mounted::tmpfs("100m") else {
        return;
    };
    let setup = setup()
        .listed_in(&mounted.path(), ENDPOINT, ["", ""])
        .listed(BESIDE, "");
    let gateway = setup.start().await;
    let filler = mounted.fill(0);
    let why = "the disk is full: postgres ended with exit status 1 before it took logins";

    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    assert!(told[&'D'].starts_with(&format!("{why} (wake ")), "{told:?}");
    assert!(told[&'H'].starts_with("try again in 1 s; "), "{told:?}");
    let failed = failures(ENDPOINT);
    assert_eq!(failed[0].field("reason"), why);
    assert!(
        failed[0].field("detail").contains("No space left on device"),
        "{failed:?}"
    );
    let beside = gateway.connect(BESIDE).await;
    beside.query_one("select 1", &[]).await.unwrap();
    let shows = shown(&gateway, ENDPOINT).await;
    assert_eq!(
        (&shows["state"], &shows["failure"]),
        (&"failed".into(), &why.into()),
        "{shows}"
    );

    drop(filler);
    let client = gateway.connect_again(ENDPOINT).await;
    client.query_one("select 1", &[]).await.unwrap();
    let shows = shown(&gateway, ENDPOINT).await;
    assert_eq!(
        (&shows["state"], &shows["failure"]),
        (&"awake".into(), &Value::Null),
        "{shows}"
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_first_use_without_room_is_told_as_that_and_leaves_no_half_of_a_database() {
    const ENDPOINT: &str = "full-new";
    let Some(mounted) = Mounted::tmpfs("100m") else {
        return;
    };
    let data_dir = mounted.path().join(ENDPOINT);
    let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    let setup = setup().tenants(&format!(
        "[tenants.acme.endpoints.{ENDPOINT}]\n\
         roles.{SUPERUSER} = {{ verifier = \"{verifier}\" }}\n\
         compute = {{ kind = \"process\", data_dir = \"{}\" }}\n",
        data_dir.display()
    ));
    let gateway = setup.start().await;
    // Enough for it to begin.
    let filler = mounted.fill(8 << 20);

    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;

    let why = "the disk is full: initdb failed while making a data directory";
    assert!(told[&'D'].starts_with(why), "{told:?}");
    assert!(!data_dir.exists());
    drop(filler);
    gateway.connect_again(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_while_it_is_awake_fails_the_statement_and_a_suspend_loses_nothing() {
    const ENDPOINT: &str = "full-awake";
    let Some(mounted) = Mounted::tmpfs("120m") else {
        return;
    };
    let setup = setup().listed_in(&mounted.path(), ENDPOINT, ["", "suspend_after = \"1h\""]);
    let gateway = setup.start().await;
    let client = gateway.connect(ENDPOINT).await;
    // A segment of WAL of its own has room for what follows, so that it is the table that finds none.
    let sql =
        "create table kept (n int, filling text); select pg_switch_wal(); insert into kept values (0, '')";
    client.batch_execute(sql).await.unwrap();
    let fill = "insert into kept select n, repeat('x', 1000) from generate_series(1, 100) n";
    let filler = mounted.fill(0);

    let refused = client.batch_execute(fill).await.unwrap_err();

    let refused = refused.as_db_error().unwrap();
    assert_eq!(
        (refused.code().code(), refused.severity()),
        ("53100", "ERROR"),
        "{refused:?}"
    );
    // What needs no further page is written.
    client
        .batch_execute("insert into kept values (1, '')")
        .await
        .unwrap();
    drop(client);
    let suspend = format!("/api/v1/endpoints/{ENDPOINT}/suspend");
    until("nobody to use it", async || {
        gateway.http(OPERATE).post(&suspend).await.status == 200
    })
    .await;
    until("it to sleep", async || {
        shown(&gateway, ENDPOINT).await["state"] == "asleep"
    })
    .await;

    drop(filler);
    let client = gateway.connect_again(ENDPOINT).await;
    let row = client
        .query_one("select count(*), sum(n) from kept", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1));
    client.batch_execute(fill).await.unwrap();
    gateway.server.stop().await;
}

/// Its log may be on the same disk, or in another language.
#[tokio::test]
async fn a_server_that_cannot_say_why_it_ends_has_its_disk_looked_at() {
    const ENDPOINT: &str = "full-silent";
    let Some(mounted) = Mounted::tmpfs("100m") else {
        return;
    };
    let setup = setup();
    let silent = setup.path().join("silent");
    fs::create_dir(&silent).unwrap();
    fs::write(silent.join("postgres"), "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(silent.join("postgres"), Permissions::from_mode(0o755)).unwrap();
    let compute = format!("programs = \"{}\", ", silent.display());
    let setup = setup.listed_in(&mounted.path(), ENDPOINT, [&compute, ""]);
    let gateway = setup.start().await;
    let told = refusal(&mut gateway.raw_proved(ENDPOINT).await).await;
    assert!(
        told[&'D'].starts_with("postgres ended with exit status 1"),
        "{told:?}"
    );

    let _filler = mounted.fill(0);
    until("it to be started again", async || {
        gateway.raw_proved(ENDPOINT).await.message().await;
        failures(ENDPOINT).len() == 2
    })
    .await;

    let why = "the disk is full: postgres ended with exit status 1 before it took logins";
    assert_eq!(failures(ENDPOINT)[1].field("reason"), why);
    gateway.server.stop().await;
}

/// Where not even WAL can be written Postgres gives up as a whole, and again while it recovers.
#[tokio::test]
async fn a_server_that_ends_on_a_full_disk_keeps_what_was_committed() {
    const ENDPOINT: &str = "full-wal";
    let Some(mounted) = Mounted::tmpfs("180m") else {
        return;
    };
    let gateway = setup()
        .listed_in(&mounted.path(), ENDPOINT, ["", ""])
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;
    // Pages without rows in them: there is room for the table, but not for WAL.
    let sql = "create table kept (n int, filling text);
        alter table kept alter column filling set storage plain;
        insert into kept select 0, repeat('x', 7000) from generate_series(1, 2000) n;
        delete from kept";
    client.batch_execute(sql).await.unwrap();
    client
        .batch_execute("vacuum (truncate false) kept")
        .await
        .unwrap();
    // There is a segment of WAL with room for some of the rows, wherever the one before has ended.
    let sql =
        "select pg_switch_wal(); select pg_logical_emit_message(true, '', repeat('x', 8 * 1024 * 1024))";
    client.batch_execute(sql).await.unwrap();
    let filler = mounted.fill(0);

    let mut kept = 0;
    let error = loop {
        let sql = format!("insert into kept values ({}, repeat('x', 7000))", kept + 1);
        match client.batch_execute(&sql).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };

    assert!((1..2000).contains(&kept), "there was room for {kept}: {error:?}");
    let code = error.code().unwrap().code();
    assert!(["53100", "08006", "08007"].contains(&code), "{error:?}");
    let mut told = Vec::new();
    until("somebody to be told", async || {
        let refused = tls_client::connect(&gateway.config(ENDPOINT), &gateway.authority).await;
        let detail = refused
            .err()
            .and_then(|refused| refused.as_db_error()?.detail().map(str::to_owned));
        told.extend(detail);
        told.last()
            .is_some_and(|detail| detail.starts_with("the disk is full: "))
    })
    .await;
    drop(filler);
    let client = gateway.connect_again(ENDPOINT).await;
    let row = client
        .query_one("select count(distinct n)::int, max(n) from kept", &[])
        .await
        .unwrap();
    let (count, last): (i32, i32) = (row.get(0), row.get(1));
    assert!(
        count == last && [kept, kept + 1].contains(&last),
        "{kept} were told, {count} up to {last} are there"
    );
    gateway.server.stop().await;
}
