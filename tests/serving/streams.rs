//! Memory: a row of any size passes in little of it, idle clients hold none for reading. Sizes are of a process
//! of its own.

use futures_util::{StreamExt, stream};
use postgres_protocol::message::frontend;
use tokio::io::AsyncReadExt;

use super::child::Child;
use crate::harness::{
    postgres::{Postgres, Prepared, Version},
    raw::Raw,
};

/// Bytes of the row's one column.
const ROW: usize = 600_000_000;

/// Reads an answer without keeping it; gives how many bytes came in front of ReadyForQuery.
async fn drain(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let tag = reader.read_u8().await.unwrap();
        let mut left = reader.read_u32().await.unwrap() as usize - 4;
        total += left;
        while left > 0 {
            let part = left.min(buffer.len());
            reader.read_exact(&mut buffer[..part]).await.unwrap();
            left -= part;
        }
        assert_ne!(tag, b'E');
        if tag == b'Z' {
            return total;
        }
    }
}

#[tokio::test]
async fn a_huge_row_passes_in_constant_memory() {
    let postgres = Postgres::start(Version::Debian).await;
    let child = Child::start("stream-row", &postgres).await;
    for (kind, client) in [
        ("plaintext", child.raw_plain().await.0),
        ("tls", child.raw_tls().await.0),
    ] {
        let (mut reader, mut writer) = client.split();
        let mut query = bytes::BytesMut::new();
        frontend::query(&format!("select repeat('x', {ROW})"), &mut query).unwrap();
        let before = child.resident();
        child.forget_most();
        tokio::io::AsyncWriteExt::write_all(&mut writer, &query)
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::flush(&mut writer).await.unwrap();

        let bytes = drain(&mut reader).await;

        assert!(bytes > ROW);
        let grown = child.resident_most().saturating_sub(before);
        println!("a row of {ROW} bytes over {kind}: {grown} KiB more at most");
        assert!(grown < 4096, "{kind}: {grown} KiB for one row");
    }
}

/// Sends one large Query and reads a large answer: one megabyte each way.
async fn move_a_megabyte(client: &mut Raw) {
    let sql = format!("select repeat('y', 1000000) /* {} */", "x".repeat(1_000_000));
    client.query(&sql).await;
    let answer = client.until(b'Z').await;
    assert!(answer[1].body.len() > 1_000_000);
}

#[tokio::test]
async fn an_idle_client_holds_no_read_buffer() {
    const CLIENTS: u64 = 300;
    let postgres = many(CLIENTS + 20).await;
    let child = Child::start("stream-idle", &postgres).await;
    for kind in ["plaintext", "tls"] {
        let mut clients = crowd(&child, kind, CLIENTS).await;
        let before = child.resident();
        for client in &mut clients {
            move_a_megabyte(client).await;
        }
        let grown = child.resident().saturating_sub(before);
        println!("{CLIENTS} clients over {kind} that have moved 1 MB each way: {grown} KiB more");
        // One buffer of 16 KiB each would be 4800 KiB; what is left is the stock that threads keep.
        assert!(grown < 2 * CLIENTS + 2048, "{kind}: {grown} KiB more");
    }
}

#[tokio::test]
async fn a_thousand_clients_are_served_at_once() {
    const CLIENTS: u64 = 500;
    let postgres = many(2 * CLIENTS + 20).await;
    let child = Child::start("stream-thousand", &postgres).await;
    let mut all = Vec::new();
    for kind in ["plaintext", "tls"] {
        let before = child.resident();
        all.extend(crowd(&child, kind, CLIENTS).await);
        let each = child.resident().saturating_sub(before) * 1024 / CLIENTS;
        println!("an idle client over {kind}: {each} bytes");
        assert!(each < 64 * 1024, "{kind}: {each} bytes for an idle client");
    }
    for (index, client) in all.iter_mut().enumerate().rev() {
        client.query(&format!("select {index}")).await;
        assert_eq!(client.until(b'Z').await[1].row(), [Some(index.to_string())]);
    }
}

/// A server for many sessions.
async fn many(sessions: u64) -> Postgres {
    Prepared::new(Version::Debian)
        .setting("max_connections", &sessions.to_string())
        .start()
        .await
}

/// Clients that have logged in, a few at a time.
async fn crowd(child: &Child, kind: &str, count: u64) -> Vec<Raw> {
    let connect = |_| async {
        let (client, _) = if kind == "tls" {
            child.raw_tls().await
        } else {
            child.raw_plain().await
        };
        client
    };
    stream::iter(0..count)
        .map(connect)
        .buffer_unordered(8)
        .collect()
        .await
}
