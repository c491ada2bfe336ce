//! What a client of the port may not do to it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{OPERATE, READ, admin};
use crate::harness::wait::{PATIENCE, until};

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

/// Connections that asked for much and took nothing had all places for as long as they liked: no probe was answered.
#[tokio::test]
async fn those_who_take_no_answer_keep_nobody_out_and_are_given_up() {
    let gateway = admin().listed("ops-taking", "").start().await;
    let http = gateway.http(READ);
    let mut watching = http.events().await;
    let asked = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(300);
    let mut idle = Vec::new();
    for _ in 0..140 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(http.address).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        idle.push(stream);
    }

    assert_eq!(http.get("/live").await.status, 200);
    assert_eq!(http.get("/metrics").await.status, 200);

    let last = idle.last_mut().unwrap();
    until("it is given up", async || last.write_all(b"x").await.is_err()).await;
    // Whoever watches asks for something all the time.
    let disable = "/api/v1/endpoints/ops-taking/disable";
    assert_eq!(gateway.http(OPERATE).post(disable).await.status, 200);
    watching.until("operator", |_| true).await;
}
