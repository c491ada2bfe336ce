//! One byte stream, whatever carries it.
//!
//! An enum and not a boxed trait: the relay polls it for every packet, and whoever holds it may ask what it
//! is. A peer that ends TLS without saying so (close_notify) reads as `UnexpectedEof`; Postgres' own messages
//! tell where they end, so callers treat that as a plain end.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{client, server};

use super::socket::{Socket, poll_arrived, poll_receive, poll_send};

/// A byte stream of a client or towards a server.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS, pgwake being the server.
    TlsFromClient(Box<server::TlsStream<Socket>>),
    /// TLS, pgwake being the client.
    TlsToServer(Box<client::TlsStream<Socket>>),
}

/// Calls the same method on whichever stream it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::TlsFromClient($inner) => $call,
            Stream::TlsToServer($inner) => $call,
        }
    };
}

impl Stream {
    /// The user that the peer runs as, by number; for a server, the user that it began to listen as. `None` where the
    /// system does not say: only Unix sockets tell (`SO_PEERCRED`,
    /// <https://man7.org/linux/man-pages/man7/unix.7.html>).
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Self::Unix(stream) => Some(stream.peer_cred().ok()?.uid()),
            Self::Tcp(_) | Self::TlsFromClient(_) | Self::TlsToServer(_) => None,
        }
    }

    /// `Pending` where the runtime has not heard of anything to read, so that a read would only find that out: its task is
    /// woken for it. `Ready` says nothing.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
            // What was decrypted and not read yet shows nowhere else.
            Self::TlsFromClient(_) | Self::TlsToServer(_) => Poll::Ready(()),
        }
    }

    /// `Pending` where the runtime has heard of nothing new at the socket since it was last read: neither bytes nor the
    /// peer's leaving. `Ready` says nothing, and what was decrypted and not read yet does not show.
    pub fn poll_socket_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::TlsFromClient(stream) => stream.get_ref().0.0.poll_read_ready(cx),
            Self::TlsToServer(stream) => stream.get_ref().0.0.poll_read_ready(cx),
        }
        .map(drop)
    }

    /// Reads, where [`poll_news`](Self::poll_news) has just said `Ready`. `Ready(Ok(0))` is the end of the stream.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub fn poll_read_news(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_arrived(stream, cx, bytes),
            Self::Unix(stream) => poll_arrived(stream, cx, bytes),
            Self::TlsFromClient(_) | Self::TlsToServer(_) => {
                let mut read = ReadBuf::new(bytes);
                ready!(Pin::new(self).poll_read(cx, &mut read))?;
                Poll::Ready(Ok(read.filled().len()))
            }
        }
    }

    /// Whether the peer has closed its side, asked of the socket itself: it shows also behind bytes that nobody
    /// has read yet.
    pub fn has_hung_up(&self) -> bool {
        let socket = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::TlsFromClient(stream) => stream.get_ref().0.0.as_fd(),
            Self::TlsToServer(stream) => stream.get_ref().0.0.as_fd(),
        };
        let mut sockets = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
        // HUP and ERR are told unasked. An error of poll itself says nothing about the peer.
        matches!(poll(&mut sockets, Some(&Timespec::default())), Ok(1..))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => poll_receive(stream, cx, buf),
            Self::Unix(stream) => poll_receive(stream, cx, buf),
            Self::TlsFromClient(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::TlsToServer(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => poll_send(stream, cx, buf),
            Self::Unix(stream) => poll_send(stream, cx, buf),
            Self::TlsFromClient(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::TlsToServer(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}
