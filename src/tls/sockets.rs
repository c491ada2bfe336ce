//! What is set on every TCP socket, and the one question that is asked of a raw one.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, OnceLock},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::Limits;

/// Between the probes of an idle connection that does not answer them. How many are sent does not matter:
/// with TCP_USER_TIMEOUT set, Linux counts time and not probes (tcp(7)).
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a silent TCP peer is found out, and who is none. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// An idle connection is probed after this.
    pub keepalive: Duration,
    /// A peer that takes nothing for this long counts as gone (TCP_USER_TIMEOUT). On Linux that is also one that
    /// is alive and does not read: a closed window is no acknowledgement.
    pub user_timeout: Duration,
    /// Where no server is.
    pub own: OwnAddresses,
}

impl From<&Limits> for SocketSettings {
    fn from(limits: &Limits) -> Self {
        Self {
            keepalive: limits.tcp_keepalive,
            user_timeout: limits.tcp_user_timeout,
            own: OwnAddresses::default(),
        }
    }
}

/// Where pgwake itself listens, once it does. A server's name may come to lead there, as when the name of a database is given
/// to the proxy in front of it: each client would come in again and again.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<OnceLock<Vec<SocketAddr>>>);

impl OwnAddresses {
    /// It listens there from now on. The first word counts.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        let _ = self.0.set(addresses);
    }

    /// Whether who has connected so has come to pgwake itself.
    pub(super) fn are_at_the_end_of(&self, stream: &TcpStream) -> bool {
        let Some(own) = self.0.get() else {
            return false;
        };
        let (Ok(near), Ok(far)) = (stream.local_addr(), stream.peer_addr()) else {
            return false;
        };
        let [near, there] = [near.ip(), far.ip()].map(|ip| ip.to_canonical());
        // Who connects to its own machine has one address at both ends, or one of those that lead nowhere else.
        let is_this_machine = near == there || there.is_loopback();
        own.iter().any(|own| {
            let is_there = own.ip() == there || (own.ip().is_unspecified() && is_this_machine);
            own.port() == far.port() && is_there
        })
    }
}

/// Sets TCP_NODELAY, keepalive and TCP_USER_TIMEOUT on a socket, or for those that will be accepted on it.
///
/// # Errors
/// What the system says, usually that the peer is gone already.
pub fn settle<S: AsFd>(stream: &S, settings: &SocketSettings) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(settings.keepalive)
        .with_interval(PROBE_INTERVAL.min(settings.keepalive));
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(settings.user_timeout))
}

/// Whether the peer has sent bytes that nobody has read yet. Behind an SSLRequest, and before its answer, that
/// is plaintext which an attacker wants to pass off as encrypted (CVE-2021-23214): close the connection.
pub fn has_pending_bytes(stream: &TcpStream) -> bool {
    // Asks the socket itself, which never blocks: tokio's readiness may not have heard of the bytes yet.
    let mut byte = [MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(1..))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::tls::testing::{SOCKETS, tcp_pair};

    #[tokio::test]
    async fn a_socket_that_is_accepted_is_settled_as_the_one_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        settle(&listener, &SOCKETS).unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (near, far) = (near.unwrap().0, far.unwrap());
        settle(&far, &SOCKETS).unwrap();

        for stream in [near, far] {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), SOCKETS.keepalive);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(SOCKETS.user_timeout));
        }
    }

    #[tokio::test]
    async fn who_comes_to_where_pgwake_listens_is_known_by_its_connection() {
        let (near, _far) = tcp_pair().await;
        // Accepted, so that this end has the address that was listened on.
        let (client, _listening) = (_far, near);
        let there = client.peer_addr().unwrap();
        let is_own = |addresses: &[SocketAddr]| {
            let own = OwnAddresses::default();
            own.set(addresses.to_vec());
            own.are_at_the_end_of(&client)
        };
        let of_all = |ip: &str| SocketAddr::new(ip.parse().unwrap(), there.port());
        assert!(is_own(&[there]));
        assert!(is_own(&[of_all("192.0.2.1"), of_all("0.0.0.0")]));
        assert!(is_own(&[of_all("::")]), "it may take IPv4 in as well");
        assert!(!is_own(&[of_all("192.0.2.1")]), "that is another address");
        let other_port = SocketAddr::new(there.ip(), there.port() ^ 1);
        assert!(!is_own(&[other_port]), "that is another's port");
        assert!(
            !OwnAddresses::default().are_at_the_end_of(&client),
            "it listens nowhere yet"
        );
    }

    #[tokio::test]
    async fn bytes_that_wait_unread_are_seen_and_an_end_is_none() {
        let (near, mut far) = tcp_pair().await;
        assert!(!has_pending_bytes(&near));

        far.write_all(b"x").await.unwrap();
        near.readable().await.unwrap();
        assert!(has_pending_bytes(&near));
        assert!(has_pending_bytes(&near), "looking does not take them away");

        let (near, far) = tcp_pair().await;
        drop(far);
        near.readable().await.unwrap();
        assert!(!has_pending_bytes(&near));
    }
}
