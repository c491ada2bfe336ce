//! What is set on sockets towards clients and servers, asked of the sockets themselves.

use std::{
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::served::{asleep, logged_in};
use crate::harness::{
    certificates::Authority,
    gateway::Setup,
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    raw::{PROTOCOL_3_0, Raw, cancel_request},
};

/// An endpoint whose server is on TCP; its role is read from there.
fn endpoint(name: &str, port: u16, tls: &str) -> String {
    format!(
        "[tenants.acme.endpoints.{name}]\n\
         roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}\n\
         compute = {{ kind = \"fixed\", address = \"127.0.0.1:{port}\", tls = \"{tls}\" }}\n"
    )
}

/// The sockets of this process, pgwake's among them, whose own port or whose peer's is `port`.
fn sockets(port: u16) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    let me = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let copies = numbers.filter_map(|number: i32| pidfd_getfd(&me, number, PidfdGetfdFlags::empty()).ok());
    let is = |address: std::io::Result<socket2::SockAddr>| {
        let address = address.ok().and_then(|address| address.as_socket());
        address.is_some_and(|address: SocketAddr| address.port() == port)
    };
    let connected = copies.filter(|socket| SockRef::from(socket).peer_addr().is_ok());
    let (near, others): (Vec<_>, Vec<_>) =
        connected.partition(|socket| is(SockRef::from(socket).local_addr()));
    let far = others
        .into_iter()
        .filter(|socket| is(SockRef::from(socket).peer_addr()));
    (near, far.collect())
}

#[tokio::test]
async fn sockets_on_both_sides_find_out_silent_peers() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .limit("tcp_keepalive = \"41s\"")
        .limit("tcp_user_timeout = \"23s\"")
        .tenants(&endpoint("sockets-set", postgres.port(), "disable"))
        .start()
        .await;
    let _client = gateway.connect("sockets-set").await;

    let (to_clients, _) = sockets(gateway.address().port());
    let (_, to_servers) = sockets(postgres.port());

    assert!(!to_clients.is_empty() && !to_servers.is_empty());
    for socket in to_clients.iter().chain(&to_servers) {
        let socket = SockRef::from(socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(41));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(23)));
    }
}

/// The first bytes of each connection that was passed on.
type Beginnings = Arc<Mutex<Vec<[u8; 8]>>>;

/// Passes connections on to `port` and remembers how each began.
async fn overheard(port: u16) -> (u16, Beginnings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let heard = Beginnings::default();
    let (address, begun) = (listener.local_addr().unwrap(), heard.clone());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let begun = begun.clone();
            tokio::spawn(async move {
                let mut first = [0; 8];
                client.read_exact(&mut first).await.unwrap();
                begun.lock().unwrap().push(first);
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                server.write_all(&first).await.unwrap();
                // Either side may break off.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address.port(), heard)
}

/// Whoever listens between pgwake and a server learns no key, although the client sent it in plaintext.
#[tokio::test]
async fn cancels_go_to_servers_over_tls_where_queries_do() {
    let certificate = Authority::new().certify(&["localhost"]);
    let postgres = Prepared::new(Version::Debian).tls(&certificate).start().await;
    let (port, begun) = overheard(postgres.port()).await;
    let gateway = Setup::new()
        .tenants(&endpoint("sockets-cancel", port, "require"))
        .start()
        .await;
    let client = gateway.raw_to("sockets-cancel").await;
    let (mut client, key) = logged_in(client, PROTOCOL_3_0, &[]).await;
    client.query("select pg_sleep(60)").await;
    asleep(&postgres.connect().await, key.pid).await;
    let before = begun.lock().unwrap().len();

    let mut cancel = Raw::tcp(gateway.address()).await;
    cancel.send(&cancel_request(key.pid, &key.secret)).await;
    cancel.closed().await;

    let answer = client.until(b'Z').await;
    assert!(
        answer
            .iter()
            .any(|message| message.tag == b'E' && message.sqlstate() == "57014")
    );
    let begun = begun.lock().unwrap();
    assert!(begun.len() > before);
    let ssl_request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    assert!(begun.iter().all(|first| *first == ssl_request), "{begun:x?}");
}
