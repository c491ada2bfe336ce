//! Which messages leave together: a client that counts TLS records sees it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::harness::{
    gateway::{DOMAIN, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
};

/// A socket that gives no more than the rest of one TLS record at a time, and counts them.
struct ByRecord {
    stream: TcpStream,
    header: Vec<u8>,
    left: usize,
    records: usize,
}

impl AsyncRead for ByRecord {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // A record's header has five bytes, the last two are its length.
        let wanted = if self.left > 0 {
            self.left
        } else {
            5 - self.header.len()
        };
        let before = buffer.filled().len();
        let mut part = buffer.take(wanted);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        let bytes = part.filled().to_vec();
        buffer.set_filled(before);
        buffer.put_slice(&bytes);
        if self.left > 0 {
            self.left -= count;
        } else {
            self.header.extend_from_slice(&bytes);
            if let [_, _, _, high, low] = self.header[..] {
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.records += 1;
                self.header.clear();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByRecord {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn the_servers_proof_and_the_welcome_leave_in_one_packet() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("scr-record", &postgres, "").start().await;
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let by_record = ByRecord {
        stream,
        header: Vec::new(),
        left: 0,
        records: 0,
    };
    let name = ServerName::try_from(format!("scr-record.{DOMAIN}")).unwrap();
    let config = gateway.authority.client_config(&["postgresql"]);
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, by_record).await.unwrap();
    let mut record = vec![0; 20_000];

    let mut packet = bytes::BytesMut::new();
    frontend::startup_message([("user", SUPERUSER), ("database", "postgres")], &mut packet).unwrap();
    stream.write_all(&packet).await.unwrap();
    let count = stream.read(&mut record).await.unwrap();
    assert_eq!(record[..9], *b"R\0\0\0\x2a\0\0\0\x0a", "{count}");
    let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
    packet.clear();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut packet).unwrap();
    stream.write_all(&packet).await.unwrap();
    let count = stream.read(&mut record).await.unwrap();
    scram.update(&record[9..count]).unwrap();
    packet.clear();
    frontend::sasl_response(scram.message(), &mut packet).unwrap();
    let before = stream.get_ref().0.records;
    stream.write_all(&packet).await.unwrap();

    let count = stream.read(&mut record).await.unwrap();
    let records = stream.get_ref().0.records - before;
    assert_eq!(records, 1, "{}", record[..count].escape_ascii());
    let (last, ok) = record[..count].split_at(count - 9);
    assert_eq!(last[..1], *b"R");
    assert_eq!(last[5..9], 12_i32.to_be_bytes(), "no SASLFinal");
    assert_eq!(ok, b"R\0\0\0\x08\0\0\0\0", "no AuthenticationOk behind it");
}
