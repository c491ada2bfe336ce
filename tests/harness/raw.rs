//! A client that sends exactly the bytes it is told, over TCP, a Unix socket or TLS, and reads message by message.
//!
//! It knows no more of the protocol than framing, so that it can say what no driver says. For what drivers say
//! use `tls_client`, `psql` or `python`.

mod message;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub(crate) use message::{Message, PROTOCOL_3_0, PROTOCOL_3_2, cancel_request, startup};

use super::wait::PATIENCE;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection.
pub(crate) struct Raw(Box<dyn Stream>);

impl Raw {
    /// By TCP; each write leaves at once.
    pub(crate) async fn tcp(address: SocketAddr) -> Self {
        let stream = bounded(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(Box::new(stream))
    }

    /// By TCP from this address of this machine: all of 127.0.0.0/8 is.
    pub(crate) async fn tcp_from(from: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = bounded(socket.connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(Box::new(stream))
    }

    /// By a Unix socket.
    pub(crate) async fn unix(path: &Path) -> Self {
        Self(Box::new(bounded(UnixStream::connect(path)).await.unwrap()))
    }

    /// Speaks TLS from here on: direct TLS where nothing was sent yet and `config` names the protocol by ALPN.
    pub(crate) async fn tls(self, config: ClientConfig, server_name: &str) -> std::io::Result<Self> {
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = bounded(connector.connect(name, self.0)).await?;
        Ok(Self(Box::new(stream)))
    }

    /// Asks for TLS as drivers do; panics where the answer is not `S`.
    pub(crate) async fn request_tls(mut self, config: ClientConfig, server_name: &str) -> Self {
        self.send_with(frontend::ssl_request).await;
        assert_eq!(self.byte().await, b'S');
        self.tls(config, server_name).await.unwrap()
    }

    /// Sends bytes in one write.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        bounded(async {
            self.0.write_all(bytes).await.unwrap();
            self.0.flush().await.unwrap();
        })
        .await;
    }

    /// Sends bytes to somebody who may have closed.
    pub(crate) async fn send_or_gone(&mut self, bytes: &[u8]) {
        let _ = bounded(self.0.write_all(bytes)).await;
        let _ = bounded(self.0.flush()).await;
    }

    /// Whether the other side says or closes something within this time; only for one that should not.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.0.read_u8()).await.is_ok()
    }

    /// Sends bytes, one write each.
    pub(crate) async fn send_one_by_one(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
        }
    }

    /// Sends what one or several functions of `postgres_protocol::message::frontend` encode.
    pub(crate) async fn send_with(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        encode(&mut bytes);
        self.send(&bytes).await;
    }

    /// Sends a simple Query.
    pub(crate) async fn query(&mut self, sql: &str) {
        self.send_with(|bytes| frontend::query(sql, bytes).unwrap()).await;
    }

    /// Reads one byte: the answer to SSLRequest and GSSENCRequest.
    pub(crate) async fn byte(&mut self) -> u8 {
        bounded(self.0.read_u8()).await.unwrap()
    }

    /// Reads one byte; says whether one came, and not the end.
    pub(crate) async fn any(&mut self) -> bool {
        bounded(self.0.read_u8()).await.is_ok()
    }

    /// Reads one message.
    pub(crate) async fn message(&mut self) -> Message {
        self.next()
            .await
            .unwrap_or_else(|| panic!("closed in place of a message"))
    }

    /// Reads one message; `None` where the other side has closed instead.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        bounded(Message::read(&mut self.0)).await
    }

    /// Reads up to and including the next message of this type; gives all of them.
    pub(crate) async fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut read = Vec::new();
        while read.last().is_none_or(|last: &Message| last.tag != tag) {
            read.push(self.message().await);
        }
        read
    }

    /// Waits until the other side closes; panics where it says anything more.
    pub(crate) async fn closed(&mut self) {
        let said = self.next().await;
        assert!(said.is_none(), "more was said: {said:?}");
    }

    /// Both directions apart, for a client that writes while it does not read.
    pub(crate) fn split(self) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin) {
        tokio::io::split(self.0)
    }

    /// Logs in by SCRAM without channel binding; gives all messages from AuthenticationOk to ReadyForQuery.
    pub(crate) async fn log_in(&mut self, startup: &[u8], password: &str) -> Vec<Message> {
        self.prove(startup, password).await;
        self.until(b'Z').await
    }

    /// Logs in as far as AuthenticationSASLFinal; AuthenticationOk is the next message.
    pub(crate) async fn prove(&mut self, startup: &[u8], password: &str) {
        self.send(startup).await;
        self.answer(password).await;
    }

    /// Goes through SCRAM without channel binding, from AuthenticationSASL to AuthenticationSASLFinal.
    pub(crate) async fn answer(&mut self, password: &str) {
        let mut scram = self.offer_proof(password).await;
        scram.finish(self.message().await.authentication(12)).unwrap();
    }

    /// The same up to the client's proof; gives what the next read has, which is the beginning of the answer.
    pub(crate) async fn answer_to_proof(&mut self, password: &str) -> Vec<u8> {
        self.offer_proof(password).await;
        let mut read = vec![0; 1 << 16];
        let count = bounded(self.0.read(&mut read)).await.unwrap();
        read.truncate(count);
        read
    }

    async fn offer_proof(&mut self, password: &str) -> ScramSha256 {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        self.message().await.authentication(10);
        self.send_with(|bytes| {
            frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes).unwrap();
        })
        .await;
        scram.update(self.message().await.authentication(11)).unwrap();
        self.send_with(|bytes| frontend::sasl_response(scram.message(), bytes).unwrap())
            .await;
        scram
    }
}

/// No wait of this client is without an end.
async fn bounded<T>(wait: impl Future<Output = T>) -> T {
    let Ok(done) = timeout(PATIENCE, wait).await else {
        panic!("the other side neither answered nor closed within {PATIENCE:?}");
    };
    done
}
