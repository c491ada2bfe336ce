//! What a client of the port may not do to it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{READ, admin};
use crate::harness::wait::PATIENCE;

/// Sends bytes and reads all that comes until the end.
async fn said(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may close before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_that_are_too_large_too_many_or_none_are_refused_and_others_served() {
    let gateway = admin().listed("ops-heads", "").start().await;
    let http = gateway.http(READ);
    let large = format!("GET /live HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET /live HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));

    for (what, bytes) in [
        ("large", large.as_bytes()),
        ("many", many.as_bytes()),
        ("none", b"\x16\x03\x01\r\n\r\n"),
    ] {
        let answer = said(http.address, bytes).await;
        assert!(!answer.contains("200 OK"), "{what}: {answer}");
    }
    assert_eq!(http.get("/live").await.status, 200);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_and_holds_up_nobody() {
    let gateway = admin().listed("ops-slow", "").start().await;
    let http = gateway.http(READ);
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(http.address).await.unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nx: ").await.unwrap();
        slow.push(stream);
    }

    assert_eq!(http.get("/live").await.status, 200);

    for mut stream in slow {
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        drop(ended.expect("it is given up"));
    }
}
