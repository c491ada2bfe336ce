//! What is asked of a stream that nobody has polled for a while: what came in meanwhile, and whether another
//! thread may poll it from now on.
//!
//! To read is to ask the socket itself: a runtime hears of bytes only when it has looked at its sockets again, and of a
//! socket that was moved to it not before that. Who calls: `pool`, before it lends an idle server session, and `session`,
//! as a client goes to another thread.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
};

use rustls::ConnectionCommon;
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

use super::{Stream, socket::receive};

impl Stream {
    /// Whether anything may have arrived since the last read, as far as the runtime that polls it has heard: it looks at
    /// all its sockets together, so what came before a client's request shows with it. Asks nothing of the system.
    pub fn may_have_news(&self) -> bool {
        // Nothing is done where it would be done: it is only asked whether there is a reason to.
        let is_told = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())),
            // What was decrypted and not read yet shows nowhere else.
            Self::TlsFromClient(_) | Self::TlsToServer(_) => Ok(()),
        };
        is_told.is_ok()
    }

    /// Reads what has arrived, without waiting: at most one read of the socket. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing has arrived; else what the system or TLS says.
    pub fn read_arrived(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => receive(stream.as_fd(), bytes),
            Self::Unix(stream) => receive(stream.as_fd(), bytes),
            Self::TlsFromClient(stream) => {
                let (socket, connection) = stream.get_mut();
                decrypt(connection, socket.0.as_fd(), bytes)
            }
            Self::TlsToServer(stream) => {
                let (socket, connection) = stream.get_mut();
                decrypt(connection, socket.0.as_fd(), bytes)
            }
        }
    }

    /// Registers the socket with the present runtime, which is to poll it from now on. A TLS stream to a server
    /// stays where it is, as one from a client does where there are no more descriptors: it works from every thread, at the
    /// cost of being woken from another one.
    ///
    /// # Errors
    /// What the system says; the socket is closed.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn moved_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
            Self::TlsFromClient(mut stream) => {
                // What TLS reads and writes cannot be taken out of it: another descriptor of the same socket takes its place.
                let socket = &mut stream.get_mut().0.0;
                let another = socket.as_fd().try_clone_to_owned();
                if let Ok(moved) = another.and_then(|another| TcpStream::from_std(another.into())) {
                    *socket = moved;
                }
                Self::TlsFromClient(stream)
            }
            tls @ Self::TlsToServer(_) => tls,
        })
    }
}

fn decrypt<D>(
    connection: &mut ConnectionCommon<D>,
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<usize> {
    match connection.reader().read(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
        decrypted_before => return decrypted_before,
    }
    if connection.read_tls(&mut Arrived(socket))? > 0 {
        connection.process_new_packets().map_err(io::Error::other)?;
    }
    connection.reader().read(bytes)
}

/// What a socket has received, read without waiting.
struct Arrived<'a>(BorrowedFd<'a>);

impl Read for Arrived<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        receive(self.0, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tempfile::tempdir;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;
    use crate::config::{ServerAddress, ServerTls};
    use crate::tls::testing::{Ca, SOCKETS, tcp_pair};
    use crate::tls::{CertificateStore, Opening, accept, dial};

    /// Both ends of a TLS connection; each is a thread of its own, so that the other end may wait for it.
    async fn tls_pair() -> (Stream, Stream) {
        let folder = tempdir().unwrap();
        let files = Ca::new().issue(folder.path(), "server", &["localhost"]);
        let store = CertificateStore::load(&[files]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ServerAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let secured = accept(stream, &store, Opening::AfterSslRequest).await;
            secured.unwrap().stream
        };
        let dialing = dial(&address, &ServerTls::Require, &SOCKETS);
        let (server, dialed) = tokio::join!(serving, dialing);
        (dialed.unwrap().stream, server)
    }

    /// What `ours` finds when `theirs` says nothing, says `hi`, and leaves.
    async fn assert_found(mut ours: Stream, mut theirs: Stream) {
        let mut bytes = [0; 16];
        let nothing = ours.read_arrived(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

        theirs.write_all(b"hi").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_arrived(&mut bytes).unwrap(), 2);
        assert_eq!(&bytes[..2], b"hi");
        let nothing = ours.read_arrived(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

        theirs.shutdown().await.unwrap();
        assert_eq!(ours.read_arrived(&mut bytes).unwrap(), 0);
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_without_waiting() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_found(Stream::Unix(ours), Stream::Unix(theirs)).await;
        let (ours, theirs) = tcp_pair().await;
        assert_found(Stream::Tcp(ours), Stream::Tcp(theirs)).await;
    }

    /// Has the runtime look at its sockets until it has heard of `stream`.
    async fn heard_of(stream: &Stream) {
        while !stream.may_have_news() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn assert_heard_of(mut ours: Stream, mut theirs: Stream) {
        // It is known to be there before it is known to be silent.
        ours.read(&mut [0; 16]).now_or_never();
        assert!(!ours.may_have_news());
        theirs.write_all(b"hi").await.unwrap();
        heard_of(&ours).await;
        ours.read_exact(&mut [0; 2]).await.unwrap();
        ours.read(&mut [0; 16]).now_or_never();
        assert!(!ours.may_have_news());
        drop(theirs);
        heard_of(&ours).await;
    }

    #[tokio::test]
    async fn the_runtime_hears_of_bytes_and_of_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_heard_of(Stream::Unix(ours), Stream::Unix(theirs)).await;
        let (ours, theirs) = tcp_pair().await;
        assert_heard_of(Stream::Tcp(ours), Stream::Tcp(theirs)).await;
    }

    #[tokio::test]
    async fn what_tls_has_decrypted_already_is_news() {
        let (mut client, mut server) = tls_pair().await;
        server.write_all(b"hi").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut [0; 1]).await.unwrap();
        assert!(client.may_have_news());
        assert_eq!(client.read_arrived(&mut [0; 16]).unwrap(), 1);
    }

    #[tokio::test]
    async fn what_has_arrived_is_decrypted() {
        let (client, server) = tls_pair().await;
        assert_found(client, server).await;
        let (client, server) = tls_pair().await;
        assert_found(server, client).await;
    }

    /// Has a stream say and hear something where it was moved to, while the runtime that polled it before polls nothing.
    fn assert_goes_on_elsewhere(runtime: &tokio::runtime::Runtime, ours: Stream, mut theirs: Stream) {
        let elsewhere = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let going_on = async move {
            let mut ours = ours.moved_here().unwrap();
            ours.write_all(b"here").await.unwrap();
            ours.flush().await.unwrap();
            let mut bytes = [0; 5];
            ours.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"there");
        };
        // Where it is polled by nobody it would be waited for in vain.
        elsewhere.block_on(async { timeout(Duration::from_secs(10), going_on).await.unwrap() });
        let mut bytes = [0; 4];
        runtime.block_on(theirs.read_exact(&mut bytes)).unwrap();
        assert_eq!(&bytes, b"here");
    }

    #[test]
    fn a_client_is_polled_by_the_runtime_that_it_was_moved_to() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tls = runtime.block_on(async {
            let (client, server) = tls_pair().await;
            (server, client)
        });
        let tcp = runtime.block_on(tcp_pair());
        let unix = runtime.block_on(async { UnixStream::pair().unwrap() });
        for (mut ours, mut theirs) in [
            tls,
            (Stream::Tcp(tcp.0), Stream::Tcp(tcp.1)),
            (Stream::Unix(unix.0), Stream::Unix(unix.1)),
        ] {
            runtime.block_on(async {
                // Both have waited for it where they were.
                assert!(ours.read(&mut [0; 1]).now_or_never().is_none());
                theirs.write_all(b"there").await.unwrap();
                theirs.flush().await.unwrap();
            });
            assert_goes_on_elsewhere(&runtime, ours, theirs);
        }
    }

    #[tokio::test]
    async fn a_tls_stream_goes_on_after_a_look() {
        let (mut client, mut server) = tls_pair().await;
        let nothing = client.read_arrived(&mut [0; 16]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        server.write_all(b"first").await.unwrap();
        assert_eq!(client.read_arrived(&mut [0; 16]).unwrap(), 5);

        server.write_all(b"then").await.unwrap();
        let mut rest = [0; 4];
        client.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"then");
        client.write_all(b"back").await.unwrap();
        server.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"back");
    }
}
