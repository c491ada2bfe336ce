//! Steps about what belongs to a session: settings, transactions, notifications, cancels, COPY, temporary tables.

use std::{pin::pin, sync::Arc};

use futures_util::{SinkExt, StreamExt, TryStreamExt, future::join_all, stream};
use tokio_postgres::{
    AsyncMessage, IsolationLevel,
    binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream},
    error::SqlState,
    types::Type,
};

use super::{Means, Step, value};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("settings_stay_with_their_connection", |means| {
        Box::pin(settings_stay_with_their_connection(means))
    }),
    ("settings_end_with_their_transaction", |means| {
        Box::pin(settings_end_with_their_transaction(means))
    }),
    ("transactions_and_savepoints", |means| {
        Box::pin(transactions_and_savepoints(means))
    }),
    ("many_clients_lose_nothing", |means| {
        Box::pin(many_clients_lose_nothing(means))
    }),
    ("copy_in_and_out", |means| Box::pin(copy_in_and_out(means))),
    ("notifications", |means| Box::pin(notifications(means))),
    ("cancelled_statements", |means| {
        Box::pin(cancelled_statements(means))
    }),
    ("temporary_tables_are_private", |means| {
        Box::pin(temporary_tables_are_private(means))
    }),
    ("roles_and_databases_of_its_own", |means| {
        Box::pin(roles_and_databases_of_its_own(means))
    }),
];

async fn settings_stay_with_their_connection(means: Arc<Means>) {
    let mut clients = Vec::new();
    for number in 0..means.lengths(6, 12) {
        let client = means.connect_with(|config| {
            config.application_name(format!("client {number}"));
            config.options(format!("-c statement_timeout={}s", 100 + number));
        });
        let client = client.await;
        let set = format!("set search_path to \"schema {number}\"; set app.tenant_id to 'tenant {number}'");
        client.batch_execute(&set).await.unwrap();
        clients.push(client);
    }
    let shown = "select concat_ws('|', current_setting('application_name'), current_setting('statement_timeout'), \
                 current_setting('search_path'), current_setting('app.tenant_id'))";
    for _ in 0..means.lengths(4, 40) {
        let answers = join_all(clients.iter().map(|client| value(client, shown))).await;
        for (number, answer) in answers.iter().enumerate() {
            let wanted = format!(
                "client {number}|{}s|\"schema {number}\"|tenant {number}",
                100 + number
            );
            assert_eq!(*answer, wanted);
        }
    }
}

async fn settings_end_with_their_transaction(means: Arc<Means>) {
    let mut client = means.connect().await;
    let other = means.connect().await;
    let zone = "show timezone";
    let usual = value(&other, zone).await;
    let transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute("set timezone to 'Asia/Tokyo'")
        .await
        .unwrap();
    assert_eq!(value(&other, zone).await, usual);
    drop(transaction);
    assert_eq!(value(&client, zone).await, usual);
    client
        .batch_execute("set timezone to 'Asia/Tokyo'")
        .await
        .unwrap();
    assert_eq!(value(&other, zone).await, usual);
    assert_eq!(value(&client, zone).await, "Asia/Tokyo");
    client.batch_execute("discard all").await.unwrap();
    assert_eq!(value(&client, zone).await, usual);
}

async fn transactions_and_savepoints(means: Arc<Means>) {
    let mut client = means.connect().await;
    client
        .batch_execute("create table rust_steps (id int primary key)")
        .await
        .unwrap();
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .start()
        .await
        .unwrap();
    transaction
        .execute("insert into rust_steps values (1)", &[])
        .await
        .unwrap();
    let savepoint = transaction.savepoint("named").await.unwrap();
    let twice = savepoint
        .execute("insert into rust_steps values (1)", &[])
        .await
        .unwrap_err();
    assert_eq!(twice.code(), Some(&SqlState::UNIQUE_VIOLATION));
    let ignored = savepoint.query("select 1", &[]).await.unwrap_err();
    assert_eq!(ignored.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    savepoint.rollback().await.unwrap();
    let level = transaction
        .query_one("show transaction_isolation", &[])
        .await
        .unwrap();
    assert_eq!(level.get::<_, &str>(0), "serializable");
    transaction.commit().await.unwrap();
    let dropped = client.transaction().await.unwrap();
    dropped
        .execute("insert into rust_steps values (2)", &[])
        .await
        .unwrap();
    drop(dropped);
    assert_eq!(
        value(&client, "select string_agg(id::text, ',') from rust_steps").await,
        "1"
    );
}

async fn many_clients_lose_nothing(means: Arc<Means>) {
    let owner = means.connect().await;
    let table = "create table rust_accounts as select n as id, 100 as balance from generate_series(0, 9) n";
    owner.batch_execute(table).await.unwrap();
    let rounds = means.lengths(10, 100);
    let transfers = means
        .clients()
        .await
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            tokio::spawn(async move {
                let update = "update rust_accounts set balance = balance + $1 where id = $2";
                let number = i32::try_from(number).unwrap();
                for round in 0..rounds {
                    let (one, two) = ((number + round) % 10, (number * round + 5) % 10);
                    let transaction = client.transaction().await.unwrap();
                    let update = transaction.prepare(update).await.unwrap();
                    for (id, amount) in [(one.min(two), number), (one.max(two), -number)] {
                        transaction.execute(&update, &[&amount, &id]).await.unwrap();
                    }
                    transaction.commit().await.unwrap();
                }
            })
        });
    for ended in join_all(transfers).await {
        ended.unwrap();
    }
    assert_eq!(
        value(&owner, "select sum(balance) from rust_accounts").await,
        "1000"
    );
}

async fn copy_in_and_out(means: Arc<Means>) {
    let client = means.connect().await;
    client
        .batch_execute("create table rust_rows (id int4 primary key, text text)")
        .await
        .unwrap();
    let types = [Type::INT4, Type::TEXT];
    let count: i32 = means.lengths(3_000, 100_000);
    let sink = client
        .copy_in::<_, bytes::Bytes>("copy rust_rows from stdin binary")
        .await
        .unwrap();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for id in 0..count {
        writer.as_mut().write(&[&id, &"some text"]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), u64::from(count.cast_unsigned()));

    let other = means.connect().await;
    let copied = other.copy_out("copy rust_rows to stdout binary").await.unwrap();
    let rows = pin!(BinaryCopyOutStream::new(copied, &types));
    let ids: Vec<i32> = rows.map_ok(|row| row.get::<i32>(0)).try_collect().await.unwrap();
    assert_eq!(ids, (0..count).collect::<Vec<_>>());

    // Dropped in the middle, and refused in the middle: the session goes on.
    let mut sink = Box::pin(
        client
            .copy_in::<_, &[u8]>("copy rust_rows from stdin")
            .await
            .unwrap(),
    );
    sink.as_mut().send(b"-1\tx\n").await.unwrap();
    drop(sink);
    let mut sink = Box::pin(
        client
            .copy_in::<_, &[u8]>("copy rust_rows from stdin")
            .await
            .unwrap(),
    );
    sink.as_mut().send(b"no number\tx\n").await.unwrap();
    let refused = sink.as_mut().finish().await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    assert_eq!(
        value(&client, "select count(*) from rust_rows").await,
        count.to_string()
    );
}

async fn notifications(means: Arc<Means>) {
    let (listener, mut connection) = means.config.connect(means.tls()).await.unwrap();
    let heard = tokio::spawn(async move {
        let mut messages = pin!(stream::poll_fn(move |cx| connection.poll_message(cx)));
        let mut notes = Vec::new();
        while notes.len() < 3 {
            if let AsyncMessage::Notification(note) = messages.next().await.unwrap().unwrap() {
                notes.push((note.process_id(), note.payload().to_owned()));
            }
        }
        notes
    });
    listener.batch_execute("listen rust_news").await.unwrap();
    let sender = means.connect().await;
    for number in 0..3 {
        sender
            .execute("select pg_notify('rust_news', $1)", &[&number.to_string()])
            .await
            .unwrap();
    }
    let pid = value(&sender, "select pg_backend_pid()").await;
    for (number, (sender, payload)) in heard.await.unwrap().into_iter().enumerate() {
        assert_eq!(payload, number.to_string());
        assert!(!means.own_sessions || sender.to_string() == pid);
    }
}

async fn cancelled_statements(means: Arc<Means>) {
    let name = "rust to be cancelled";
    let client = means.connect_with(|config| {
        config.application_name(name);
    });
    let client = client.await;
    let other = means.connect().await;
    for _ in 0..means.lengths(2, 20) {
        let token = client.cancel_token();
        let (slept, ()) = tokio::join!(client.batch_execute("select pg_sleep(60)"), async {
            let sql = "select 1 from pg_stat_activity where application_name = $1 and wait_event = 'PgSleep'";
            while other.query(sql, &[&name]).await.unwrap().is_empty() {}
            token.cancel_query(means.tls()).await.unwrap();
        });
        assert_eq!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        // This driver does not wait for the cancel's end. Postgres signals the process and then its group: the second may
        // strike what comes next.
        while let Err(error) = client.simple_query("select 1").await {
            assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        }
        assert_eq!(value(&other, "select 2").await, "2");
    }
}

async fn temporary_tables_are_private(means: Arc<Means>) {
    let clients = [means.connect().await, means.connect().await];
    for (number, client) in clients.iter().enumerate() {
        let sql = format!("create temp table private as select {number} as number");
        client.batch_execute(&sql).await.unwrap();
    }
    for _ in 0..5 {
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(
                value(client, "select number from private").await,
                number.to_string()
            );
        }
    }
    for client in &clients {
        client.batch_execute("discard temp").await.unwrap();
        let gone = client
            .simple_query("select number from private")
            .await
            .unwrap_err();
        assert_eq!(gone.code(), Some(&SqlState::UNDEFINED_TABLE));
    }
}

async fn roles_and_databases_of_its_own(means: Arc<Means>) {
    let owner = means.connect().await;
    owner
        .batch_execute("create role rust_suite login password 'its own'")
        .await
        .unwrap();
    owner
        .batch_execute("create database rust_suite owner rust_suite")
        .await
        .unwrap();
    let own = || {
        means.connect_with(|config| {
            config.user("rust_suite").password("its own").dbname("rust_suite");
        })
    };
    let (client, second) = (own().await, own().await);
    client.batch_execute("create table mine (id int)").await.unwrap();
    let who = "select concat_ws('|', current_user, current_database(), count(*)) from mine";
    assert_eq!(value(&second, who).await, "rust_suite|rust_suite|0");
    drop((client, second));
    owner
        .batch_execute("drop database rust_suite with (force)")
        .await
        .unwrap();
    owner.batch_execute("drop role rust_suite").await.unwrap();
}
