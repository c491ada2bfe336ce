//! The first of a host's addresses that answers: a name may have some at which nobody is.
//!
//! Who calls: `dial` for servers, and whoever asks a server of the web. Each bounds the whole with a deadline of its own.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// An address that does not answer is given up for the host's next one after this. Between machines of one
/// provider a connection takes milliseconds; the first lost SYN is repeated after 1 s.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(2);

/// Connects to the host, whose addresses are tried in the order in which the resolver gives them. Cancel safe.
pub(crate) async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    match lookup_host((host, port)).await {
        Ok(addresses) => first_of(&addresses.collect::<Vec<_>>()).await,
        Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, error.to_string())),
    }
}

async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if tried + 1 == addresses.len() {
            connecting.await
        } else {
            timeout(NEXT_ADDRESS_AFTER, connecting)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Its queue is full and nobody takes from it: it answers no more than a machine that is gone.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, listener, queued)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_is_left_for_the_next() {
        let (gone, _listener, _queued) = silent().await;
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there_at = there.local_addr().unwrap();
        let refused = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        // Before the system gives it up.
        let addresses = [gone, refused, there_at, gone];
        let reaching = timeout(Duration::from_secs(60), first_of(&addresses));
        let reached = reaching.await.expect("it was waited for").unwrap();
        assert_eq!(reached.peer_addr().unwrap(), there_at);
        let error = first_of(&[gone, refused]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_of(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
