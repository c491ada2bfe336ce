//! What is asked of a stream that nobody has polled for a while: what came in meanwhile, and whether another
//! thread may poll it from now on.
//!
//! It asks the socket itself: a runtime hears of bytes only when it has looked at its sockets again, and of a
//! socket that was moved to it not before that. Who calls: `pool`, before it lends an idle server session.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::net::{RecvFlags, recv};
use rustls::ConnectionCommon;
use tokio::net::{TcpStream, UnixStream};

use super::Stream;

impl Stream {
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
                decrypt(connection, socket.as_fd(), bytes)
            }
            Self::TlsToServer(stream) => {
                let (socket, connection) = stream.get_mut();
                decrypt(connection, socket.as_fd(), bytes)
            }
        }
    }

    /// Registers a plain socket with the present runtime, which is to poll it from now on. A TLS stream stays
    /// where it is: it works from every thread, at the cost of being woken from another one.
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
            tls @ (Self::TlsFromClient(_) | Self::TlsToServer(_)) => tls,
        })
    }
}

fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (_, count) = recv(socket, bytes, RecvFlags::DONTWAIT)?;
    Ok(count)
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
