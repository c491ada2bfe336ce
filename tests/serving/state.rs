//! What a session keeps between statements: it stays with the session, and ends with it.

use postgres_protocol::message::frontend;

use super::served::{Served, tags, value};
use crate::harness::raw::PROTOCOL_3_0;

#[tokio::test]
async fn cursors_temporary_tables_and_locks_stay_with_their_session() {
    let served = Served::start("state-kept").await;
    let (client, other) = (served.connect().await, served.connect().await);

    client
        .batch_execute("begin; declare held cursor with hold for select generate_series(1, 9); commit")
        .await
        .unwrap();
    client
        .batch_execute("create temp table mine as select 1 as id")
        .await
        .unwrap();
    assert_eq!(value(&client, "select pg_try_advisory_lock(7)").await, "t");

    assert_eq!(value(&client, "fetch 1 from held").await, "1");
    assert_eq!(value(&client, "fetch 1 from held").await, "2");
    assert_eq!(value(&client, "select id from mine").await, "1");
    assert_eq!(value(&other, "select pg_try_advisory_lock(7)").await, "f");
    assert!(other.batch_execute("table mine").await.is_err());
    drop(client);
    served.has_sessions(1).await;
    assert_eq!(value(&other, "select pg_try_advisory_lock(7)").await, "t");
}

#[tokio::test]
async fn large_objects_are_written_and_read_in_pieces() {
    let served = Served::start("state-objects").await;
    let client = served.connect().await;
    client.batch_execute("begin").await.unwrap();
    let oid = value(&client, "select lo_create(0)").await;
    let descriptor = value(&client, &format!("select lo_open({oid}, 393216)")).await;
    for _ in 0..3 {
        let sql = format!("select lowrite({descriptor}, convert_to(repeat('x', 1000000), 'UTF8'))");
        assert_eq!(value(&client, &sql).await, "1000000");
    }
    value(&client, &format!("select lo_lseek({descriptor}, 2999999, 0)")).await;
    assert_eq!(
        value(&client, &format!("select loread({descriptor}, 10)")).await,
        "\\x78"
    );
    client.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn reset_and_discard_return_to_the_clients_own_startup_values() {
    let served = Served::start("state-reset").await;
    let parameters = [
        ("application_name", "mine"),
        ("DateStyle", "German"),
        ("options", "-c statement_timeout=12345 -c search_path=a,\\ b"),
    ];
    let (mut client, _) = served.raw_with(PROTOCOL_3_0, &parameters).await;
    let sql = "select concat_ws('|', current_setting('application_name'), current_setting('datestyle'), \
               current_setting('statement_timeout'), current_setting('search_path'))";
    for reset in ["", "reset all", "discard all"] {
        client
            .query("set application_name = 'x'; set datestyle = 'SQL'; set statement_timeout = 1000; set search_path = c")
            .await;
        client.until(b'Z').await;
        let reset = if reset.is_empty() {
            "reset application_name; reset datestyle; reset statement_timeout; reset search_path"
        } else {
            reset
        };
        client.query(reset).await;
        client.until(b'Z').await;
        client.query(sql).await;
        let answer = client.until(b'Z').await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
        assert_eq!(row, [Some("mine|German, DMY|12345ms|a, b".to_owned())], "{reset}");
    }
}

#[tokio::test]
async fn a_transaction_stays_open_between_messages() {
    let served = Served::start("state-transaction").await;
    let (mut client, _) = served.raw().await;
    client.query("begin; create table born (id int)").await;
    assert_eq!(client.until(b'Z').await.last().unwrap().body, b"T");
    let direct = served.direct().await;
    assert!(direct.batch_execute("table born").await.is_err());
    client.query("select 1 / 0").await;
    assert_eq!(client.until(b'Z').await.last().unwrap().body, b"E");
    client.send_with(frontend::sync).await;
    assert_eq!(client.until(b'Z').await.last().unwrap().body, b"E");
    client.query("rollback; create table born (id int)").await;
    let answer = client.until(b'Z').await;
    assert_eq!((tags(&answer).as_str(), &answer[2].body[..]), ("CCZ", &b"I"[..]));
    direct.batch_execute("table born").await.unwrap();
}

/// What the client is told about its session is what the session itself knows.
#[tokio::test]
async fn the_process_number_is_the_servers_own() {
    let served = Served::start("state-pid").await;
    let (mut client, key) = served.raw().await;
    client
        .query("listen me; notify me; select pg_backend_pid()")
        .await;
    let answer = client.until(b'Z').await;
    let row = answer.iter().find(|message| message.tag == b'D').unwrap().row();
    let note = answer.iter().find(|message| message.tag == b'A').unwrap();
    assert_eq!(row, [Some(key.pid.to_string())]);
    assert_eq!(note.body[..4], key.pid.to_be_bytes());
}
