//! One client's connection: TCP, TLS, login, requests; the time of each step on the way in.
//!
//! It does not know what it asks for (`workload`) nor who counts (`tally`).

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    failure::Failure,
    scram::{MECHANISM, Proved, Scram},
    target::Target,
    wire::{self, Input, Message},
};

/// Room for an answer at first: that of a small row, so that thousands of clients stay small themselves.
const INPUT_BYTES: usize = 4096;

/// How long each step took, one after another.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steps {
    pub(crate) tcp: Duration,
    pub(crate) tls: Duration,
    /// Startup message to AuthenticationOk.
    pub(crate) auth: Duration,
    /// AuthenticationOk to ReadyForQuery.
    pub(crate) greeting: Duration,
}

impl Steps {
    /// All of them together.
    pub(crate) fn total(&self) -> Duration {
        self.tcp + self.tls + self.auth + self.greeting
    }
}

/// What came back for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rows: u64,
    /// Bytes of rows and of COPY data.
    pub(crate) bytes: u64,
}

/// A logged-in client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    input: Input,
    /// Everything has been answered.
    is_ready: bool,
}

/// A target with what its TLS needs, made once.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) target: Target,
    connector: Option<TlsConnector>,
    /// Instead of the target's address.
    pub(crate) socket: Option<PathBuf>,
}

impl Door {
    /// # Errors
    /// The target's roots cannot be read.
    pub(crate) fn new(target: &Target) -> Result<Self, String> {
        Ok(Self {
            target: target.clone(),
            connector: target.connector()?,
            socket: None,
        })
    }
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Any step failed.
    pub(crate) async fn open(door: &Door) -> Result<(Self, Steps), Failure> {
        let mut steps = Steps::default();
        let mut since = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            now - std::mem::replace(&mut since, now)
        };
        let stream = match &door.socket {
            Some(path) => Stream::Unix(UnixStream::connect(path).await?),
            None => {
                let tcp = TcpStream::connect(door.target.address).await?;
                tcp.set_nodelay(true)?;
                Stream::Plain(tcp)
            }
        };
        steps.tcp = lap();
        let stream = match (stream, &door.connector) {
            (Stream::Plain(tcp), Some(connector)) => {
                Stream::Tls(Box::new(secure(tcp, connector, &door.target).await?))
            }
            (stream, _) => stream,
        };
        steps.tls = lap();
        let mut connection = Self {
            stream,
            input: Input::with_room(INPUT_BYTES),
            is_ready: false,
        };
        connection.login(&door.target).await?;
        steps.auth = lap();
        connection.greeted().await?;
        steps.greeting = lap();
        Ok((connection, steps))
    }

    async fn login(&mut self, target: &Target) -> Result<(), Failure> {
        let mut parameters = vec![
            ("user", target.role.as_str()),
            ("database", target.database.as_str()),
            ("application_name", "pgwake-loadtest"),
        ];
        if let Some(options) = &target.options {
            parameters.push(("options", options));
        }
        self.write(&wire::startup(&parameters)).await?;
        let mut proved: Option<Proved> = None;
        let mut begun: Option<Scram> = None;
        loop {
            let message = self.message().await?;
            let body = self.input.body(&message);
            let (kind, rest) = split_kind(&message, body)?;
            match kind {
                0 => return Ok(()),
                10 => {
                    let scram = Scram::begin();
                    let first = scram.first();
                    begun = Some(scram);
                    let mut out = Vec::with_capacity(96);
                    wire::put(&mut out, b'p', |out| {
                        wire::put_text(out, MECHANISM);
                        let length = i32::try_from(first.len()).expect("a nonce is short");
                        out.extend(length.to_be_bytes());
                        out.extend(first.as_bytes());
                    });
                    self.write(&out).await?;
                }
                11 => {
                    let challenge = String::from_utf8_lossy(rest).into_owned();
                    let scram = begun.take().ok_or_else(|| unexpected("a SCRAM challenge"))?;
                    let next = scram.answer(&challenge, &target.password)?;
                    let mut out = Vec::with_capacity(128);
                    wire::put(&mut out, b'p', |out| out.extend(next.message.as_bytes()));
                    proved = Some(next);
                    self.write(&out).await?;
                }
                12 => proved
                    .as_ref()
                    .ok_or_else(|| unexpected("a SCRAM proof"))?
                    .check(&String::from_utf8_lossy(rest))?,
                _ => return Err(unexpected(&format!("login method {kind}"))),
            }
        }
    }

    async fn greeted(&mut self) -> Result<(), Failure> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'Z' => return Ok(()),
                b'E' => return Err(wire::refusal(self.input.body(&message))),
                b'S' | b'K' | b'N' | b'v' => {}
                tag => {
                    return Err(unexpected(&format!(
                        "message {:?} in the greeting",
                        char::from(tag)
                    )));
                }
            }
        }
    }

    /// Sends one request, in one write, and reads until ReadyForQuery.
    ///
    /// # Errors
    /// The server refused (everything up to its ReadyForQuery has been read, unless the connection ended), or the
    /// connection broke.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.write(request).await?;
        self.answer().await
    }

    /// Reads until ReadyForQuery, or until the server waits for COPY data.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub(crate) async fn answer(&mut self) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        let mut refused = None;
        loop {
            let message = match self.message().await {
                Ok(message) => message,
                // A FATAL is followed by the end of the stream; the SQLSTATE says more.
                Err(failure) => return Err(refused.unwrap_or(failure)),
            };
            match message.tag {
                b'D' | b'd' => {
                    answer.rows += 1;
                    answer.bytes += message.body.len() as u64;
                }
                b'E' => refused = Some(wire::refusal(self.input.body(&message))),
                b'G' => return Ok(answer),
                b'Z' => {
                    self.is_ready = true;
                    return refused.map_or(Ok(answer), Err);
                }
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.input.next()? {
                return Ok(message);
            }
            let read = self.stream.read(self.input.room()).await?;
            if read == 0 {
                return Err(Failure::Io(io::ErrorKind::UnexpectedEof));
            }
            self.input.filled(read);
        }
    }

    /// Sends bytes, all in one write where the socket takes them.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.is_ready = false;
        self.stream.write_all(bytes).await?;
        if let Stream::Tls(tls) = &mut self.stream {
            tls.flush().await?;
        }
        Ok(())
    }

    /// Whether it may be asked again: also after a refusal that did not end it.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Takes large answers in large reads.
    pub(crate) fn widen(&mut self, bytes: usize) {
        self.input = Input::with_room(bytes);
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        // Who has gone already need not be told.
        let _ = self.write(&[b'X', 0, 0, 0, 4]).await;
        let _ = self.stream.shutdown().await;
    }
}

async fn secure(
    mut tcp: TcpStream,
    connector: &TlsConnector,
    target: &Target,
) -> Result<TlsStream<TcpStream>, Failure> {
    tcp.write_all(&wire::SSL_REQUEST).await?;
    let mut answer = [0];
    tcp.read_exact(&mut answer).await?;
    if answer != *b"S" {
        return Err(Failure::Tls("refused".into()));
    }
    let name = target
        .server_name
        .clone()
        .unwrap_or_else(|| target.address.ip().to_string());
    let name = ServerName::try_from(name).map_err(|error| Failure::Tls(error.to_string()))?;
    let tls = connector.connect(name, tcp).await;
    tls.map_err(|error| Failure::Tls(error.to_string()))
}

/// Kind and rest of an Authentication message.
fn split_kind<'a>(message: &Message, body: &'a [u8]) -> Result<(i32, &'a [u8]), Failure> {
    match (message.tag, body) {
        (b'R', [a, b, c, d, rest @ ..]) => Ok((i32::from_be_bytes([*a, *b, *c, *d]), rest)),
        (b'E', _) => Err(wire::refusal(body)),
        (b'N' | b'v', _) => Err(unexpected("a notice inside the login")),
        (tag, _) => Err(unexpected(&format!("message {:?} in the login", char::from(tag)))),
    }
}

fn unexpected(what: &str) -> Failure {
    Failure::Unexpected(what.into())
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Unix(unix) => Pin::new(unix).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Unix(unix) => Pin::new(unix).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
