//! The way to a server: connect, settle the socket, ask for TLS and check whom we reached.
//!
//! It speaks no further than the handshake, logs nothing and tries nothing twice except the next address of
//! the same host. `pool` dials for every server session and for pgwake's own questions, `cancel` for passing on a cancel
//! request, `compute` to see whether anybody answers; each bounds the whole call with its own deadline.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use super::{
    SocketSettings, Stream, TlsError, end_point::end_point, has_pending_bytes, reach,
    server_check::client_config, socket::Socket, sockets::settle,
};
use crate::config::{ServerAddress, ServerTls};

/// SSLRequest: length 8, code 1234/5679
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A Unix socket whose queue is full refuses at once instead of queueing; it is asked again after this.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(5);

/// A stream that a startup packet can be sent on.
#[derive(Debug)]
pub struct Dialed {
    /// To the server.
    pub stream: Stream,
    /// Channel binding of the server's certificate, for SCRAM-SHA-256-PLUS towards it.
    pub end_point: Option<Vec<u8>>,
}

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers under this address.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Host and port, or the socket's path.
        server: String,
        /// What the system says; of several addresses, about the last.
        source: io::Error,
    },
    /// The name leads to pgwake itself.
    #[error("{server} is where pgwake itself listens: name the address at which postgres does")]
    Itself {
        /// Host and port.
        server: String,
    },
    /// The connection ended before TLS stood.
    #[error("{server} closed the connection while tls was agreed on: {source}")]
    Lost {
        /// Host and port.
        server: String,
        /// What the system says.
        source: io::Error,
    },
    /// It answered the SSLRequest with `N`.
    #[error("{server} does not speak tls (it needs `ssl = on`), and the configuration asks for it")]
    NoTls {
        /// Host and port.
        server: String,
    },
    /// It answered the SSLRequest with an ErrorResponse. What that says cannot be trusted yet, and is not read.
    #[error("{server} answered the request for tls with an error")]
    RefusedTls {
        /// Host and port.
        server: String,
    },
    /// It answered the SSLRequest with something that Postgres never answers.
    #[error("{server} is not a postgres server: it answered the request for tls with byte {byte:#04x}")]
    NotPostgres {
        /// Host and port.
        server: String,
        /// The answer.
        byte: u8,
    },
    /// Bytes came along with the answer to the SSLRequest: somebody tries to have plaintext taken for encrypted.
    #[error("{server} sent plaintext behind its answer to the request for tls (CVE-2021-23222)")]
    Smuggled {
        /// Host and port.
        server: String,
    },
    /// The trusted roots cannot be used.
    #[error("trusted roots cannot be used: {0}")]
    Roots(#[source] TlsError),
    /// The host is neither a DNS name nor an IP address, so no certificate can name it.
    #[error("`{host}` is neither a dns name nor an ip address; tls needs one")]
    HostName {
        /// As configured.
        host: String,
    },
    /// The certificate is not the one that is trusted, or no common version or cipher.
    #[error("tls with {server} failed: {source}")]
    Tls {
        /// Host and port.
        server: String,
        /// What rustls says.
        source: rustls::Error,
    },
}

impl DialError {
    /// Whether no server is there, so that waking it (again) may help. Everything else is a matter of
    /// configuration, or of this process.
    pub fn server_is_absent(&self) -> bool {
        use io::ErrorKind::{
            AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset,
            HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected, NotFound, TimedOut,
            UnexpectedEof,
        };
        let (Self::Connect { source, .. } | Self::Lost { source, .. }) = self else {
            return false;
        };
        matches!(
            source.kind(),
            AddrNotAvailable
                | BrokenPipe
                | ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | HostUnreachable
                | NetworkDown
                | NetworkUnreachable
                | NotConnected
                | NotFound
                | TimedOut
                | UnexpectedEof
        )
    }
}

/// Reaches a server, by TLS where asked for. Over a Unix socket there is no TLS, as in libpq.
///
/// Cancel safe: dropping it closes what was opened.
///
/// # Errors
/// [`DialError`]; [`DialError::server_is_absent`] tells whether a wake may help.
pub async fn dial(
    server: &ServerAddress,
    tls: &ServerTls,
    sockets: &SocketSettings,
) -> Result<Dialed, DialError> {
    let (host, port) = match server {
        ServerAddress::Unix(path) => {
            return Ok(Dialed {
                stream: Stream::Unix(connect_unix(path).await?),
                end_point: None,
            });
        }
        ServerAddress::Tcp { host, port } => (host.as_str(), *port),
    };
    let place = format!("{host}:{port}");
    if *tls == ServerTls::Disable {
        let stream = connect_tcp((host, port), &place, sockets).await?;
        return Ok(Dialed {
            stream: Stream::Tcp(stream),
            end_point: None,
        });
    }
    let config = configuration(tls).await?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::HostName {
        host: host.to_owned(),
    })?;
    let mut stream = connect_tcp((host, port), &place, sockets).await?;
    ask_for_tls(&mut stream, &place).await?;
    handshake(stream, name, config, place).await
}

fn connect_error(server: &str, source: io::Error) -> DialError {
    DialError::Connect {
        server: server.to_owned(),
        source,
    }
}

async fn connect_unix(path: &Path) -> Result<UnixStream, DialError> {
    loop {
        match UnixStream::connect(path).await {
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => sleep(FULL_QUEUE_RETRY).await,
            result => return result.map_err(|source| connect_error(&path.display().to_string(), source)),
        }
    }
}

async fn connect_tcp(
    (host, port): (&str, u16),
    place: &str,
    sockets: &SocketSettings,
) -> Result<TcpStream, DialError> {
    let failed = |source| connect_error(place, source);
    let stream = reach(host, port).await.map_err(failed)?;
    if sockets.own.are_at_the_end_of(&stream) {
        let server = place.to_owned();
        return Err(DialError::Itself { server });
    }
    settle(&stream, sockets).map_err(failed)?;
    Ok(stream)
}

/// Reads files at times, and so away from the runtime's thread.
async fn configuration(tls: &ServerTls) -> Result<Arc<ClientConfig>, DialError> {
    let tls = tls.clone();
    let made = task::spawn_blocking(move || client_config(&tls)).await;
    made.expect("it does not panic, and the runtime waits for it")
        .map_err(DialError::Roots)
}

/// Sends the SSLRequest and takes an `S` that comes alone.
async fn ask_for_tls(stream: &mut TcpStream, place: &str) -> Result<(), DialError> {
    let server = || place.to_owned();
    let lost = |source| DialError::Lost {
        server: server(),
        source,
    };
    if has_pending_bytes(stream) {
        return Err(DialError::Smuggled { server: server() });
    }
    stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
    let answer = stream.read_u8().await.map_err(lost)?;
    match answer {
        b'S' if has_pending_bytes(stream) => Err(DialError::Smuggled { server: server() }),
        b'S' => Ok(()),
        b'N' => Err(DialError::NoTls { server: server() }),
        b'E' => Err(DialError::RefusedTls { server: server() }),
        byte => Err(DialError::NotPostgres {
            server: server(),
            byte,
        }),
    }
}

async fn handshake(
    stream: TcpStream,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    server: String,
) -> Result<Dialed, DialError> {
    let stream = match TlsConnector::from(config).connect(name, Socket(stream)).await {
        Ok(stream) => stream,
        Err(source) => match source.downcast::<rustls::Error>() {
            Ok(source) => return Err(DialError::Tls { server, source }),
            Err(source) => return Err(DialError::Lost { server, source }),
        },
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let end_point = certificates.and_then(<[_]>::first).and_then(end_point);
    Ok(Dialed {
        stream: Stream::TlsToServer(Box::new(stream)),
        end_point,
    })
}

#[cfg(test)]
mod tests;
