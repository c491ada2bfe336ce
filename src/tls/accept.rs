//! The handshake with a client, up to a secured stream and the name that the client asked for.
//!
//! It does not know what the name stands for, and it leaves the SSLRequest, its answer and the deadline to the
//! caller. A client that fails here gets a TLS alert; nothing else could reach it.

use std::sync::Arc;

use rustls::{ProtocolVersion, server::Acceptor};
use rustls_pki_types::CertificateDer;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use super::{ALPN_POSTGRESQL, CertificateStore, Stream, TlsError, socket::Socket};

/// How the client came to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It sent an SSLRequest and was answered `S`. ALPN is optional.
    AfterSslRequest,
    /// It began with TLS. ALPN `postgresql` is required, or any web page could make a browser talk to us.
    Direct,
}

/// A client's stream after the handshake.
#[derive(Debug)]
pub struct Secured {
    /// What client and pgwake say from here on.
    pub stream: Stream,
    /// The name that the client asked for (SNI), lowercase, without a trailing dot.
    pub server_name: Option<String>,
    /// Channel binding of the certificate that was served; `None`: SCRAM-SHA-256-PLUS is not offered.
    pub end_point: Option<Arc<[u8]>>,
    /// The chain that the client has shown, leaf first, unchecked but for the leaf's key. Empty: none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// `TLSv1.2` or `TLSv1.3`, as `pg_stat_ssl` says it.
    pub protocol: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
}

/// The alerts that are sent before a TLS state exists (RFC 8446, section 6).
#[derive(Clone, Copy)]
enum Alert {
    HandshakeFailure = 40,
    NoApplicationProtocol = 120,
}

/// Makes TLS out of a client's TCP stream.
///
/// Not cancel safe: the handshake's bytes are gone when it is dropped, and so is the connection.
///
/// # Errors
/// [`TlsError::NoCertificate`], [`TlsError::NoProtocolOffered`] or [`TlsError::Handshake`]; the client has been
/// sent an alert.
pub async fn accept(
    stream: TcpStream,
    store: &CertificateStore,
    opening: Opening,
) -> Result<Secured, TlsError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), Socket(stream))
        .await
        .map_err(TlsError::Handshake)?;
    let hello = start.client_hello();
    let server_name = hello
        .server_name()
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let offered = hello
        .alpn()
        .is_some_and(|mut protocols| protocols.any(|name| name == ALPN_POSTGRESQL));
    if opening == Opening::Direct && !offered {
        refuse(start.io, Alert::NoApplicationProtocol).await;
        return Err(TlsError::NoProtocolOffered);
    }
    let Some(served) = store.choose(server_name.as_deref()) else {
        refuse(start.io, Alert::HandshakeFailure).await;
        return Err(TlsError::NoCertificate);
    };
    let stream = start
        .into_stream(served.config.clone())
        .await
        .map_err(TlsError::Handshake)?;
    let connection = stream.get_ref().1;
    let protocol = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let certificates = connection.peer_certificates();
    let certificates = certificates.map_or(Vec::new(), |chain| {
        chain.iter().cloned().map(CertificateDer::into_owned).collect()
    });
    let cipher = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("");
    Ok(Secured {
        stream: Stream::TlsFromClient(Box::new(stream)),
        server_name,
        end_point: served.end_point.clone(),
        certificates,
        protocol,
        cipher,
    })
}

/// Ends the connection with a fatal alert in the clear, as both TLS versions allow before the ServerHello.
async fn refuse(mut stream: Socket, alert: Alert) {
    let record = [0x15, 3, 3, 0, 2, 2, alert as u8];
    // The client may be gone; there is nobody left to tell.
    if stream.write_all(&record).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
