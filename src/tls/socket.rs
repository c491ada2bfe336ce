//! What a socket receives and sends, by the system's own calls.
//!
//! The runtime reads and writes sockets by way of the C library, where every call of a program with threads begins and ends as
//! a point at which its thread could be cancelled: four times for each transaction. Here the call itself is made, as soon as
//! the runtime has heard that it may be. Who calls: the streams of this room.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A TCP socket below TLS.
#[derive(Debug)]
pub struct Socket(pub(super) TcpStream);

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

/// A socket that a runtime watches.
pub(super) trait Watched: AsFd {
    /// `Ready` where the runtime has heard that there may be something to read; else the task is woken for it.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The same for room to write.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes the call, unless the runtime knows that there is nothing to do. `WouldBlock` tells it that there is not.
    fn try_call(&self, interest: Interest, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

macro_rules! watched {
    ($($socket:ty),*) => {$(
        impl Watched for $socket {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_call(
                &self,
                interest: Interest,
                call: impl FnOnce() -> io::Result<usize>,
            ) -> io::Result<usize> {
                self.try_io(interest, call)
            }
        }
    )*};
}

watched!(TcpStream, UnixStream);

/// Reads what has come, without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (_, count) = recv(socket, bytes, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Reads what the runtime has just heard of. `Ready(Ok(0))` is the end of the stream, or no room in `bytes`.
pub(super) fn poll_arrived(
    socket: &impl Watched,
    cx: &mut Context<'_>,
    bytes: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let mut count = None;
        let received = socket.try_call(Interest::READABLE, || {
            let received = receive(socket.as_fd(), bytes)?;
            count = Some(received);
            // It has been emptied: the runtime need not look again before it hears of more.
            match 0 < received && received < bytes.len() {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(received),
            }
        });
        match (count, received) {
            (Some(count), _) => return Poll::Ready(Ok(count)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(socket.poll_readable(cx))?;
            }
            (None, received) => return Poll::Ready(received),
        }
    }
}

/// Reads, as [`AsyncRead::poll_read`].
pub(super) fn poll_receive(
    socket: &impl Watched,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    ready!(socket.poll_readable(cx))?;
    let count = ready!(poll_arrived(socket, cx, buf.initialize_unfilled()))?;
    buf.advance(count);
    Poll::Ready(Ok(()))
}

/// Writes, as [`AsyncWrite::poll_write`].
pub(super) fn poll_send(
    socket: &impl Watched,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_writable(cx))?;
        let sent = socket.try_call(Interest::WRITABLE, || {
            Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            sent => return Poll::Ready(sent),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        poll_receive(&self.0, cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(&self.0, cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            // One record.
            [buf] => poll_send(&self.0, cx, buf),
            bufs => Pin::new(&mut self.0).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;
    use crate::tls::{Stream, testing::tcp_pair};

    /// Both ends of each kind of socket; one of TCP as below TLS, too.
    async fn pairs() -> Vec<(&'static str, Box<dyn Duplex>, Stream)> {
        let (near, far) = tcp_pair().await;
        let (below_near, below_far) = tcp_pair().await;
        let (unix_near, unix_far) = UnixStream::pair().unwrap();
        vec![
            ("tcp", Box::new(Stream::Tcp(near)), Stream::Tcp(far)),
            ("below TLS", Box::new(Socket(below_near)), Stream::Tcp(below_far)),
            ("unix", Box::new(Stream::Unix(unix_near)), Stream::Unix(unix_far)),
        ]
    }

    trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
    impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

    #[tokio::test]
    async fn what_comes_is_read_and_the_end_is_seen() {
        for (kind, mut near, mut far) in pairs().await {
            far.write_all(b"abcde").await.unwrap();
            let mut two = [0; 2];
            for part in [b"ab", b"cd"] {
                near.read_exact(&mut two).await.unwrap();
                assert_eq!(&two, part, "{kind}");
            }
            assert_eq!(
                near.read(&mut two).await.unwrap(),
                1,
                "{kind}: less than there is room for"
            );
            let mut more = Box::pin(near.read_u8());
            let early = timeout(Duration::from_millis(20), &mut more).await;
            assert!(early.is_err(), "{kind}: {early:?}");
            far.write_all(b"f").await.unwrap();
            assert_eq!(
                (&mut more).await.unwrap(),
                b'f',
                "{kind}: woken by what comes later"
            );
            drop((more, far));
            assert_eq!(near.read(&mut two).await.unwrap(), 0, "{kind}");
        }
    }

    /// A look at a socket that was just emptied would be one more call for each answer.
    #[tokio::test]
    async fn a_socket_that_was_emptied_is_not_asked_again_before_there_is_news() {
        let (near, far) = tcp_pair().await;
        let (unix_near, unix_far) = UnixStream::pair().unwrap();
        for (mut near, mut far) in [
            (Stream::Tcp(near), Stream::Tcp(far)),
            (Stream::Unix(unix_near), Stream::Unix(unix_far)),
        ] {
            far.write_all(b"abc").await.unwrap();
            assert_eq!(near.read(&mut [0; 3]).await.unwrap(), 3);
            assert!(near.may_have_news(), "there may be more: {near:?}");
            far.write_all(b"abc").await.unwrap();
            assert_eq!(near.read(&mut [0; 4]).await.unwrap(), 3);
            assert!(!near.may_have_news(), "{near:?}");
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_until_it_does() {
        const BYTES: usize = 16 << 20;
        for (kind, mut near, mut far) in pairs().await {
            // In a task of its own, or its progress would wake the writer, too.
            let reading = tokio::spawn(async move {
                // First the socket fills up.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let mut read = Vec::new();
                far.read_to_end(&mut read).await.unwrap();
                read
            });
            let sent = vec![7; BYTES];
            let writing = timeout(Duration::from_secs(10), near.write_all(&sent)).await;
            writing.unwrap_or_else(|_| panic!("{kind}: not woken")).unwrap();
            drop(near);
            let read = reading.await.unwrap();
            assert!(read == sent, "{kind}: {} bytes came", read.len());
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_is_an_error_of_the_call() {
        for (kind, mut near, far) in pairs().await {
            drop(far);
            let mut written = Ok(());
            for _ in 0..100 {
                written = near.write_all(&[0; 1024]).await;
                if written.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            assert!(kinds.contains(&written.unwrap_err().kind()), "{kind}");
        }
    }
}
