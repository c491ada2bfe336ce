//! Sockets to listen on.

use std::{
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UnixListener};

use super::BoundAddress;
use crate::config::{Listen, ListenAddress};
use crate::session::{Door, Socket};
use crate::tls::{SocketSettings, settle};

/// Connections that the system holds for us until they are accepted: a thousand clients may come at once.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen on {address}: {error}")]
    Tcp {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on {}: {error}", path.display())]
    Unix {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody answers on that Unix socket.
    #[error("cannot listen on {}: another program does", .0.display())]
    Taken(PathBuf),
    /// Something else is in its place.
    #[error("cannot listen on {}: there is something that is no socket; remove it, or name another path", .0.display())]
    NoSocket(PathBuf),
}

/// A listener that accepts.
pub struct Bound {
    socket: Listening,
    written: ListenAddress,
    address: BoundAddress,
    door: Arc<Door>,
}

enum Listening {
    Tcp(TcpListener),
    /// Removes its file when dropped, where that is not another pgwake's.
    Unix(UnixListener, Option<PathBuf>),
}

/// Takes a socket that already listens at one configured address, or binds it, inside a runtime. What was taken is
/// another pgwake's, too, until [`Bound::own`].
///
/// # Errors
/// [`BindError`] names the address.
pub fn bind_or_inherit(listen: &Listen, inherited: Option<OwnedFd>) -> Result<Bound, BindError> {
    let Some(socket) = inherited else {
        return bind(listen);
    };
    let (socket, address) = match &listen.address {
        ListenAddress::Tcp(address) => {
            let failed = |error| BindError::Tcp {
                address: *address,
                error,
            };
            let listener = TcpListener::from_std(socket.into()).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            (Listening::Tcp(listener), BoundAddress::Tcp(bound))
        }
        ListenAddress::Unix(path) => {
            let failed = |error| BindError::Unix {
                path: path.to_owned(),
                error,
            };
            if let Some(mode) = listen.mode {
                fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
            }
            let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
            (Listening::Unix(listener, None), BoundAddress::Unix(path.clone()))
        }
    };
    Ok(Bound {
        socket,
        written: listen.address.clone(),
        address,
        door: door(listen),
    })
}

fn door(listen: &Listen) -> Arc<Door> {
    Arc::new(Door {
        tls: listen.tls,
        default_endpoint: listen.default_endpoint.clone(),
        proxies: listen.proxies.clone(),
    })
}

/// Binds one configured address, inside a runtime.
///
/// # Errors
/// [`BindError`] names the address.
pub fn bind(listen: &Listen) -> Result<Bound, BindError> {
    let (socket, address) = match &listen.address {
        ListenAddress::Tcp(address) => {
            let failed = |error| BindError::Tcp {
                address: *address,
                error,
            };
            let listener = bind_tcp(*address).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            (Listening::Tcp(listener), BoundAddress::Tcp(bound))
        }
        ListenAddress::Unix(path) => {
            let listener = bind_unix(path, listen.mode)?;
            (
                Listening::Unix(listener, Some(path.clone())),
                BoundAddress::Unix(path.clone()),
            )
        }
    };
    Ok(Bound {
        socket,
        written: listen.address.clone(),
        address,
        door: door(listen),
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // What is written is what is bound: `[::]` takes IPv6 alone, so that `0.0.0.0` can stand beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Nobody can connect before the permissions are as they are to be: only then it listens.
fn bind_unix(path: &Path, mode: Option<u32>) -> Result<UnixListener, BindError> {
    let failed = |error| BindError::Unix {
        path: path.to_owned(),
        error,
    };
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(BindError::NoSocket(path.to_owned()));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(BindError::Taken(path.to_owned()));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let bound = || {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(BACKLOG)?;
        UnixListener::from_std(OwnedFd::from(socket).into())
    };
    bound().map_err(failed)
}

impl Bound {
    /// The address as it is written.
    pub fn written(&self) -> &ListenAddress {
        &self.written
    }

    /// Where it can be reached.
    pub fn address(&self) -> &BoundAddress {
        &self.address
    }

    /// What it asks of its clients.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The same socket once more, for another pgwake.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Listening::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Listening::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// No other pgwake listens on the same socket any more.
    pub fn own(&mut self) {
        if let (Listening::Unix(_, file), BoundAddress::Unix(path)) = (&mut self.socket, &self.address) {
            *file = Some(path.clone());
        }
    }

    /// Another pgwake listens on the same socket.
    pub fn leave(mut self) {
        if let Listening::Unix(_, path) = &mut self.socket {
            *path = None;
        }
    }

    /// Every client's socket has these settings from its first moment: on Linux it has those of the socket that listens.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn settle(&self, settings: &SocketSettings) -> io::Result<()> {
        match &self.socket {
            Listening::Tcp(listener) => settle(listener, settings),
            Listening::Unix(..) => Ok(()),
        }
    }

    /// Registers the socket with the present runtime, which is to accept.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn move_here(&mut self) -> io::Result<()> {
        let socket = self.socket()?;
        match &mut self.socket {
            Listening::Tcp(listener) => *listener = TcpListener::from_std(socket.into())?,
            Listening::Unix(listener, _) => *listener = UnixListener::from_std(socket.into())?,
        }
        Ok(())
    }

    /// The next client, on the runtime that accepts. Cancel safe.
    ///
    /// # Errors
    /// What the system says; see accept(2).
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Listening::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Socket::Tcp(stream, peer))
            }
            Listening::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Unix(_, Some(path)) = self {
            // Somebody may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}
