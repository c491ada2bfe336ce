//! What is set on every TCP socket, and the one question that is asked of a raw one.

use std::{io, mem::MaybeUninit, os::fd::AsFd, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::Limits;

/// Between the probes of an idle connection that does not answer them. How many are sent does not matter:
/// with TCP_USER_TIMEOUT set, Linux counts time and not probes (tcp(7)).
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a silent TCP peer is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketSettings {
    /// An idle connection is probed after this.
    pub keepalive: Duration,
    /// A peer that takes nothing for this long counts as gone (TCP_USER_TIMEOUT). On Linux that is also one that
    /// is alive and does not read: a closed window is no acknowledgement.
    pub user_timeout: Duration,
}

impl From<&Limits> for SocketSettings {
    fn from(limits: &Limits) -> Self {
        Self {
            keepalive: limits.tcp_keepalive,
            user_timeout: limits.tcp_user_timeout,
        }
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
