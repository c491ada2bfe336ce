//! COPY: tens of megabytes in, out, and both with an error on the way.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use postgres_protocol::message::frontend;
use tokio_postgres::error::SqlState;

use super::served::{Served, tags, value};

/// Lines of COPY's text form, 1 MiB in all.
fn mebibyte() -> Bytes {
    Bytes::from([b"1\t".as_slice(), &[b'x'; 1021], b"\n"].concat().repeat(1024))
}

/// A CopyData message.
fn data(lines: impl AsRef<[u8]>) -> BytesMut {
    let mut message = BytesMut::new();
    frontend::CopyData::new(lines.as_ref())
        .unwrap()
        .write(&mut message);
    message
}

#[tokio::test]
async fn tens_of_megabytes_go_in_and_out() {
    let served = Served::start("copy-large").await;
    let client = served.connect().await;
    client
        .batch_execute("create unlogged table rows (id int, text text)")
        .await
        .unwrap();

    let mut sink = Box::pin(client.copy_in("copy rows from stdin").await.unwrap());
    for _ in 0..40 {
        sink.as_mut().send(mebibyte()).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), 40 * 1024);

    let out = client.copy_out("copy rows to stdout").await.unwrap();
    let bytes = out
        .try_fold(0, |sum, part| async move { Ok(sum + part.len()) })
        .await
        .unwrap();
    assert_eq!(bytes, 40 << 20);
}

#[tokio::test]
async fn an_error_in_the_middle_ends_the_copy_alone() {
    let served = Served::start("copy-error").await;
    let (mut client, _) = served.raw().await;
    client
        .query("create unlogged table rows (id int, text text)")
        .await;
    client.until(b'Z').await;
    let good = data(mebibyte());
    for wrong_at in [0, 10, 19] {
        client.query("copy rows from stdin").await;
        client.until(b'G').await;
        for index in 0..20 {
            if index == wrong_at {
                client.send(&data("no number\tx\n")).await;
            }
            client.send(&good).await;
        }
        client.send_with(frontend::copy_done).await;
        let answer = client.until(b'Z').await;
        assert_eq!(
            (tags(&answer).as_str(), answer[0].sqlstate().as_str()),
            ("EZ", "22P02")
        );
        client.query("select count(*) from rows").await;
        assert_eq!(client.until(b'Z').await[1].row(), [Some("0".to_owned())]);
    }
}

#[tokio::test]
async fn an_error_behind_rows_comes_behind_rows() {
    let served = Served::start("copy-out-error").await;
    let client = served.connect().await;
    let sql = "copy (select 1 / (20000 - n) from generate_series(1, 30000) n) to stdout";
    let mut rows = 0;
    let out = client.copy_out(sql).await.unwrap().inspect_ok(|_| rows += 1);
    let error = out.try_for_each(async |_| Ok(())).await.unwrap_err();
    assert_eq!((error.code(), rows), (Some(&SqlState::DIVISION_BY_ZERO), 19_999));
    assert_eq!(value(&client, "select 6 * 7").await, "42");
}

/// What comes too late for a COPY that has failed is swallowed by the server, and does no harm to what follows.
#[tokio::test]
async fn late_data_of_a_failed_copy_is_swallowed() {
    let served = Served::start("copy-late").await;
    let (mut client, _) = served.raw().await;
    client.query("create temp table rows (id int primary key)").await;
    client.until(b'Z').await;
    client.query("copy rows from stdin").await;
    client.until(b'G').await;
    client.send(&data("no number\n")).await;
    let failed = client.until(b'Z').await;
    assert_eq!(failed[0].sqlstate(), "22P02");

    client
        .send_with(|bytes| {
            bytes.extend(data("1\n"));
            frontend::copy_done(bytes);
            frontend::query("select 1", bytes).unwrap();
        })
        .await;

    assert_eq!(tags(&client.until(b'Z').await), "TDCZ");
}

/// Two COPYs in one Query have one ReadyForQuery.
#[tokio::test]
async fn two_copies_in_one_query_are_served() {
    let served = Served::start("copy-twice").await;
    let (mut client, _) = served.raw().await;
    client
        .query("create temp table rows (id int); copy rows from stdin; copy rows from stdin; table rows")
        .await;
    for number in ["1\n", "2\n"] {
        client.until(b'G').await;
        client
            .send_with(|bytes| {
                bytes.extend(data(number));
                frontend::copy_done(bytes);
            })
            .await;
    }
    assert_eq!(tags(&client.until(b'Z').await), "CTDDCZ");
}
