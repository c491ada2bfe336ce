//! A driver that is not ours logs in: tokio-postgres over a stream in memory.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_postgres::{
    Config,
    config::ChannelBinding,
    tls::{ChannelBinding as Binding, TlsConnect, TlsStream},
};

use super::{HASH, House};
use crate::auth::{AuthError, Authenticated, Claim, authenticate};
use crate::error::ClientError;

/// Stands for TLS: passes bytes on and knows a certificate's hash.
struct Bound {
    stream: DuplexStream,
    hash: Vec<u8>,
}

impl AsyncRead for Bound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl TlsStream for Bound {
    fn channel_binding(&self) -> Binding {
        Binding::tls_server_end_point(self.hash.clone())
    }
}

/// Binds to this hash.
struct Bind(Vec<u8>);

impl TlsConnect<DuplexStream> for Bind {
    type Stream = Bound;
    type Error = io::Error;
    type Future = Ready<io::Result<Bound>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Bound { stream, hash: self.0 }))
    }
}

/// Answers SSLRequest, skips the startup packet, authenticates, and tells the client how that went.
async fn serve(
    mut stream: DuplexStream,
    house: &House,
    claim: Claim<'_>,
) -> Result<Authenticated, AuthError> {
    let mut ssl_request = [0; 8];
    stream.read_exact(&mut ssl_request).await.unwrap();
    stream.write_all(b"S").await.unwrap();
    let length = usize::try_from(stream.read_u32().await.unwrap()).unwrap();
    stream.read_exact(&mut vec![0; length - 4]).await.unwrap();
    let found = authenticate(&mut stream, claim, &house.proofs).await;
    let told = match &found {
        Ok(proved) => [&proved.welcome[..], b"Z\0\0\0\x05I"].concat(),
        Err(error) => {
            let fields = format!("SFATAL\0C{}\0M{}\0\0", error.sqlstate().0, error.message());
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            [b"E", &length[..], fields.as_bytes()].concat()
        }
    };
    stream.write_all(&told).await.unwrap();
    found
}

/// A login by tokio-postgres with channel binding: what pgwake and the driver say of it.
async fn driver(house: &House, password: &str, hash: &[u8]) -> (Result<Authenticated, AuthError>, String) {
    let (client, stream) = duplex(1 << 16);
    let mut config = Config::new();
    config
        .user("app")
        .password(password)
        .channel_binding(ChannelBinding::Require);
    let connect = async {
        match config.connect_raw(client, Bind(hash.to_vec())).await {
            Ok(_) => "connected".to_owned(),
            Err(error) => error
                .code()
                .map_or_else(|| error.to_string(), |code| code.code().to_owned()),
        }
    };
    tokio::join!(serve(stream, house, house.claim("app")), connect)
}

#[tokio::test]
async fn tokio_postgres_logs_in_with_channel_binding() {
    let house = House::new();
    let (found, told) = driver(&house, "secret", HASH).await;
    assert_eq!(told, "connected");
    assert_eq!(found.unwrap().role, "app");
}

#[tokio::test]
async fn tokio_postgres_is_told_why_it_cannot_log_in() {
    let house = House::new();
    assert_eq!(driver(&house, "wrong", HASH).await.1, "28P01");
    assert_eq!(driver(&house, "secret", &[0; 32]).await.1, "28000");
}

#[tokio::test]
async fn tokio_postgres_logs_in_with_a_password() {
    let house = House::with_md5();
    let claim = house.claim("app");
    let (client, stream) = duplex(1 << 16);
    let mut config = Config::new();
    config.user("app").password("secret");
    let connect = config.connect_raw(client, Bind(HASH.to_vec()));
    let (found, connected) = tokio::join!(serve(stream, &house, claim), connect);
    assert_eq!(found.unwrap().role, "app");
    assert!(connected.is_ok());
}
