//! Drivers: tokio-postgres here, psycopg (libpq 18), asyncpg and pg8000 by the scripts in `tests/drivers`.

use std::pin::pin;

use futures_util::{SinkExt, StreamExt, TryStreamExt, future::join_all, stream};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Socket,
    binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream},
    error::SqlState,
    types::Type,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::served::{Served, value};
use crate::harness::{python::python, wait::until};

#[tokio::test]
async fn tokio_postgres_pipelines_prepares_and_rolls_back() {
    let served = Served::start("driver-rust").await;
    let mut client = served.connect().await;

    let numbers = client
        .prepare_typed("select $1 + 1", &[Type::INT4])
        .await
        .unwrap();
    let answers = join_all((0..1000).map(|n: i32| {
        let (client, numbers) = (&client, &numbers);
        async move { client.query_one(numbers, &[&n]).await.unwrap().get::<_, i32>(0) }
    }));
    assert_eq!(answers.await, (1..=1000).collect::<Vec<_>>());

    client
        .batch_execute("create table kept (id int primary key)")
        .await
        .unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .execute("insert into kept values (1)", &[])
        .await
        .unwrap();
    let twice = transaction
        .execute("insert into kept values (1)", &[])
        .await
        .unwrap_err();
    assert_eq!(twice.code(), Some(&SqlState::UNIQUE_VIOLATION));
    let ignored = transaction
        .execute("insert into kept values (2)", &[])
        .await
        .unwrap_err();
    assert_eq!(ignored.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .execute("insert into kept values (3)", &[])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        value(&client, "select string_agg(id::text, ',') from kept").await,
        "3"
    );
}

#[tokio::test]
async fn tokio_postgres_copies_binary_both_ways() {
    let served = Served::start("driver-copy").await;
    let client = served.connect().await;
    client
        .batch_execute("create temp table rows (id int4, text text)")
        .await
        .unwrap();
    let types = [Type::INT4, Type::TEXT];

    let sink = client
        .copy_in::<_, bytes::Bytes>("copy rows from stdin binary")
        .await
        .unwrap();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for id in 0..50_000_i32 {
        writer.as_mut().write(&[&id, &"some text"]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), 50_000);

    let copied = client.copy_out("copy rows to stdout binary").await.unwrap();
    let rows = pin!(BinaryCopyOutStream::new(copied, &types));
    let ids: Vec<i32> = rows.map_ok(|row| row.get::<i32>(0)).try_collect().await.unwrap();
    assert_eq!(ids, (0..50_000).collect::<Vec<_>>());

    // Dropped in the middle: the driver says CopyFail and goes on.
    let mut sink = Box::pin(client.copy_in::<_, &[u8]>("copy rows from stdin").await.unwrap());
    sink.as_mut().send(b"1\tx\n").await.unwrap();
    drop(sink);
    assert_eq!(value(&client, "select count(*) from rows").await, "50000");
}

#[tokio::test]
async fn notifications_reach_an_idle_session_with_their_senders_number() {
    let served = Served::start("driver-notify").await;
    let tls = MakeRustlsConnect::new(served.gateway.authority.client_config(&[]));
    let (listener, mut connection) = served.gateway.config("driver-notify").connect(tls).await.unwrap();
    let heard = tokio::spawn(async move { next_notification(&mut connection).await });
    listener.batch_execute("listen news").await.unwrap();

    let sender = served.connect().await;
    let pid = value(&sender, "select pg_backend_pid()").await;
    sender.batch_execute("notify news, 'hello'").await.unwrap();

    assert_eq!(heard.await.unwrap(), (pid, "hello".to_owned()));
}

async fn next_notification<T>(connection: &mut Connection<Socket, T>) -> (String, String)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(|cx| connection.poll_message(cx));
    loop {
        if let AsyncMessage::Notification(note) = messages.next().await.unwrap().unwrap() {
            return (note.process_id().to_string(), note.payload().to_owned());
        }
    }
}

#[tokio::test]
async fn tokio_postgres_cancels_over_tls() {
    let served = Served::start("driver-cancel").await;
    let client = served.connect().await;
    let pid = value(&client, "select pg_backend_pid()").await.parse().unwrap();
    let token = client.cancel_token();
    let tls = MakeRustlsConnect::new(served.gateway.authority.client_config(&[]));

    let (slept, ()) = tokio::join!(client.batch_execute("select pg_sleep(60)"), async {
        served.sleeps(pid).await;
        token.cancel_query(tls).await.unwrap();
    });

    assert_eq!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    // This driver does not wait for the cancel's end. Postgres signals the process and then its group: the second may
    // strike what comes next.
    while let Err(error) = client.simple_query("select 1").await {
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    }
}

#[tokio::test]
async fn psycopg_does_all_it_can() {
    let served = Served::start("driver-psycopg").await;
    let connection_string = format!(
        "{} sslnegotiation=direct min_protocol_version=3.2 max_protocol_version=3.2 channel_binding=require",
        served.connection_string()
    );

    let said = python("psycopg_tour", &[&connection_string])
        .run()
        .await
        .succeeded();

    assert!(said.ends_with("all well"), "{said}");
    served.has_sessions(0).await;
}

#[tokio::test]
async fn asyncpg_does_all_it_can() {
    let served = Served::start("driver-asyncpg").await;
    let arguments = served.by_address();
    let said = python("asyncpg_tour", &arguments.each_ref().map(String::as_str))
        .run()
        .await;
    assert_eq!(said.succeeded(), "all well");
    served.has_sessions(0).await;
}

#[tokio::test]
async fn pg8000_does_all_it_can() {
    let served = Served::start("driver-pg8000").await;
    let arguments = served.by_address();
    let said = python("pg8000_tour", &arguments.each_ref().map(String::as_str))
        .run()
        .await;
    assert_eq!(said.succeeded(), "all well");
    served.has_sessions(0).await;
}

#[tokio::test]
async fn an_ended_driver_leaves_no_server_session() {
    let served = Served::start("driver-leaves").await;
    let clients: Vec<Client> = join_all((0..5).map(|_| served.connect())).await;
    served.has_sessions(5).await;
    drop(clients);
    served.has_sessions(0).await;
    until("all keys to be gone", async || {
        served.gateway.server.house().cancels.is_empty()
    })
    .await;
}
