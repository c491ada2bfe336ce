//! From a socket to a startup packet over a secured stream: TLS by SSLRequest or directly, GSSENCRequest, the
//! refusal of plaintext, cancel requests.
//!
//! It decides nothing about names or people. The caller bounds it with a deadline that starts at accept.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Door, Socket, error::SessionError, record::Peer};
use crate::config::ListenTls;
use crate::metrics::Handshake;
use crate::tls::{
    CertificateStore, Opening, SSL_REQUEST, Secured, Stream, TlsError, accept, has_pending_bytes,
};
use crate::wire::WireError;
use crate::wire::proxy_header::{Proxied, ProxyHeaderError, read_proxy_header};
use crate::wire::say;
use crate::wire::startup::{CancelKey, Packet, Startup, read_packet};

/// First byte of a TLS handshake record; no startup packet begins with it, its length would be too large.
const TLS_HANDSHAKE: u8 = 0x16;
/// SSLRequest and GSSENCRequest, each once at most.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

/// What came in.
pub(super) enum Entered {
    /// A client that wants a session.
    Client(Box<Entrance>),
    /// A cancel request, answered by closing `client` once it has been passed on.
    Cancel { key: CancelKey, client: Box<Stream> },
    /// It closed before its first byte.
    Probe,
}

/// A client at the door.
pub(super) struct Entrance {
    pub(super) stream: Stream,
    pub(super) startup: Startup,
    /// TLS server name.
    pub(super) server_name: Option<String>,
    /// Channel binding of the certificate that was served.
    pub(super) end_point: Option<Arc<[u8]>>,
    /// The chain that it has shown.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// `TLSv1.3`, or `off`.
    pub(super) tls: &'static str,
    /// The cipher suite; empty without TLS.
    pub(super) cipher: &'static str,
    /// How it has begun.
    pub(super) handshake: Handshake,
}

/// Why nobody came in.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntranceError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Bytes came with an encryption request, before its answer.
    #[error("bytes came before the encryption request was answered")]
    Smuggled,
    /// Broken or refused; `stream` still takes the reason.
    #[error("{reason}")]
    Refused {
        stream: Box<Stream>,
        reason: SessionError,
    },
    #[error("connection lost: {0}")]
    Gone(#[from] std::io::Error),
}

/// Who a client is to the network. A proxy that the listener trusts says whom it speaks for; from anybody else a PROXY
/// header is no startup packet. Not cancel safe: the connection is given up with it.
pub(super) async fn introduce(socket: &mut Socket, door: &Door) -> Result<Peer, ProxyHeaderError> {
    let (stream, from) = match socket {
        Socket::Unix(_) => return Ok(Peer::Local),
        Socket::Tcp(stream, from) => (stream, *from),
    };
    if !door.proxies.iter().any(|proxies| proxies.contains(from.ip())) {
        return Ok(Peer::Tcp(from));
    }
    Ok(match read_proxy_header(stream).await? {
        Proxied::Client(client) => Peer::Proxied { client, proxy: from },
        Proxied::Nobody => Peer::Tcp(from),
    })
}

/// Takes a client in as far as its startup packet. Not cancel safe: the connection is given up with it.
pub(super) async fn enter(
    socket: Socket,
    door: &Door,
    certificates: &CertificateStore,
) -> Result<Entered, EntranceError> {
    match socket {
        Socket::Unix(stream) => plain(Stream::Unix(stream), None).await,
        Socket::Tcp(stream, _) => enter_tcp(stream, door, certificates).await,
    }
}

async fn enter_tcp(
    mut stream: TcpStream,
    door: &Door,
    certificates: &CertificateStore,
) -> Result<Entered, EntranceError> {
    // Room for one byte more than an SSLRequest has: what comes behind it before its answer shows.
    let mut seen = [0; SSL_REQUEST.len() + 1];
    // It may close without a byte, or the connection be reset.
    let Ok(count @ 1..) = stream.peek(&mut seen).await else {
        return Ok(Entered::Probe);
    };
    if seen[0] == TLS_HANDSHAKE {
        let accepted = accept(stream, certificates, Opening::Direct).await?;
        return secured(accepted, Handshake::Direct).await;
    }
    // What most clients begin with, and nothing else: read at once.
    if seen[..count] == SSL_REQUEST && !certificates.is_empty() {
        stream.read_exact(&mut seen[..count]).await?;
        stream.write_all(say::TLS_YES).await?;
        let accepted = accept(stream, certificates, Opening::AfterSslRequest).await?;
        return secured(accepted, Handshake::SslRequest).await;
    }
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        let packet = match read_packet(&mut stream).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Entered::Probe),
            Err(error) => return Err(refused(Stream::Tcp(stream), error)),
        };
        let encryption = match packet {
            Packet::Cancel(key) => return Ok(cancel(key, Stream::Tcp(stream))),
            Packet::Start(startup) => return plaintext(stream, startup, door).await,
            Packet::SslRequest if !certificates.is_empty() => say::TLS_YES,
            Packet::SslRequest | Packet::GssEncRequest => say::ENCRYPTION_NO,
        };
        if has_pending_bytes(&stream) {
            return Err(EntranceError::Smuggled);
        }
        stream.write_all(encryption).await?;
        if encryption == say::TLS_YES {
            let accepted = accept(stream, certificates, Opening::AfterSslRequest).await?;
            return secured(accepted, Handshake::SslRequest).await;
        }
    }
    let error = WireError::Violation("too many encryption requests");
    Err(refused(Stream::Tcp(stream), error))
}

async fn plaintext(stream: TcpStream, startup: Startup, door: &Door) -> Result<Entered, EntranceError> {
    let stream = Stream::Tcp(stream);
    if door.tls == ListenTls::Required {
        return Err(EntranceError::Refused {
            stream: Box::new(stream),
            reason: SessionError::PlaintextRefused,
        });
    }
    Ok(client(stream, startup, None))
}

async fn secured(secured: Secured, handshake: Handshake) -> Result<Entered, EntranceError> {
    let tls = Tls {
        handshake,
        server_name: secured.server_name,
        end_point: secured.end_point,
        certificates: secured.certificates,
        protocol: secured.protocol,
        cipher: secured.cipher,
    };
    plain(secured.stream, Some(tls)).await
}

struct Tls {
    handshake: Handshake,
    server_name: Option<String>,
    end_point: Option<Arc<[u8]>>,
    certificates: Vec<CertificateDer<'static>>,
    protocol: &'static str,
    cipher: &'static str,
}

/// A stream that is as secure as it will be.
async fn plain(mut stream: Stream, tls: Option<Tls>) -> Result<Entered, EntranceError> {
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        match read_packet(&mut stream).await {
            Ok(None) => return Ok(Entered::Probe),
            Ok(Some(Packet::Cancel(key))) => return Ok(cancel(key, stream)),
            Ok(Some(Packet::Start(startup))) => return Ok(client(stream, startup, tls)),
            // On a Unix socket libpq may ask for GSSAPI or TLS first; within TLS it is a violation.
            Ok(Some(Packet::SslRequest | Packet::GssEncRequest)) if tls.is_none() => {
                stream.write_all(say::ENCRYPTION_NO).await?;
            }
            Ok(Some(_)) => {
                return Err(refused(
                    stream,
                    WireError::Violation("encryption was asked for twice"),
                ));
            }
            Err(error) => return Err(refused(stream, error)),
        }
    }
    Err(refused(
        stream,
        WireError::Violation("too many encryption requests"),
    ))
}

fn client(stream: Stream, startup: Startup, tls: Option<Tls>) -> Entered {
    let protocol = tls.as_ref().map_or("off", |tls| tls.protocol);
    let handshake = tls.as_ref().map_or(Handshake::Plaintext, |tls| tls.handshake);
    let cipher = tls.as_ref().map_or("", |tls| tls.cipher);
    let (server_name, end_point, certificates) = tls.map_or((None, None, Vec::new()), |tls| {
        (tls.server_name, tls.end_point, tls.certificates)
    });
    Entered::Client(Box::new(Entrance {
        stream,
        startup,
        server_name,
        end_point,
        certificates,
        tls: protocol,
        cipher,
        handshake,
    }))
}

fn cancel(key: CancelKey, client: Stream) -> Entered {
    Entered::Cancel {
        key,
        client: Box::new(client),
    }
}

fn refused(stream: Stream, error: WireError) -> EntranceError {
    match error {
        WireError::Gone(error) => EntranceError::Gone(error),
        error => EntranceError::Refused {
            stream: Box::new(stream),
            reason: SessionError::Wire(error),
        },
    }
}
