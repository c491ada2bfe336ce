//! One connection to a server, from dialling it to its first ReadyForQuery.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    login::{Login, LoginError, Privacy},
    no_process,
};
use crate::auth::Credential;
use crate::compute::Address;
use crate::config::ServerAddress;
use crate::tls::{DialError, SocketSettings, Stream, dial};
use crate::wire::message::{Message, take_message};
use crate::wire::reply::{LOGIN_MESSAGE_BYTES_MAX, error_fields};
use crate::wire::say;
use crate::wire::startup::{CANCEL_SECRET_BYTES_MAX, CancelKey};
use crate::wire::{WireError, cursor::Cursor};

/// A server that has moved leaves an address at which often nobody answers. Over a Unix socket the system knows at once.
const STALE_DIAL_MAX: Duration = Duration::from_secs(1);

/// Longest greeting (ParameterStatus and notices) that is taken from a server.
const GREETING_BYTES_MAX: usize = 256 * 1024;
/// How long a Terminate may take on its way; the socket is closed in any case.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(100);

/// A session that a server has greeted.
#[derive(Debug)]
pub struct ServerSession {
    /// The connection.
    pub stream: Stream,
    /// ParameterStatus and NoticeResponse messages as the server sent them.
    pub greeting: Bytes,
    /// The key that the server gave; `None` where it gave none.
    pub key: Option<CancelKey>,
    /// What the server sent behind its first ReadyForQuery.
    pub early: Bytes,
}

/// As whom to log in, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The role.
    pub role: &'a str,
    /// `None` for a server that lets the operating system's user in.
    pub credential: Option<&'a Credential>,
    /// The startup parameters, `user` among them.
    pub parameters: &'a [(Bytes, Bytes)],
}

/// What is known of an address beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Where its server has just come up, or always is.
    Fresh,
    /// A server was there some time ago, and a wake would find where it is now.
    MayBeStale,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Of connections over TCP.
    pub sockets: &'a SocketSettings,
    /// Whether it is worth waiting for.
    pub freshness: Freshness,
}

/// Dials and logs in. Not cancel safe: dropping it closes the connection.
///
/// # Errors
/// [`LoginError`]; what the server itself said is in it, whole.
pub async fn connect(
    address: &Address,
    identity: Identity<'_>,
    way: Way<'_>,
) -> Result<ServerSession, LoginError> {
    let dialing = dial(&address.server, &address.tls, way.sockets);
    let dialed = match (way.freshness, &address.server) {
        (Freshness::MayBeStale, ServerAddress::Tcp { host, port }) => {
            let late = |_| DialError::Connect {
                server: format!("{host}:{port}"),
                source: std::io::ErrorKind::TimedOut.into(),
            };
            timeout(STALE_DIAL_MAX, dialing).await.map_err(late)??
        }
        _ => dialing.await?,
    };
    address.check_server(&dialed.stream)?;
    let mut conversation = Conversation {
        stream: dialed.stream,
        read: BytesMut::with_capacity(4096),
    };
    let mut hello = BytesMut::new();
    say::startup(identity.parameters, &mut hello);
    conversation.send(&hello).await?;
    let mut login = Login::new(
        identity.role,
        identity.credential,
        dialed.end_point.as_deref(),
        Privacy::of(address),
    );
    loop {
        let message = conversation.next().await?;
        match message.tag {
            b'R' => {
                let answer = login.answer(&message.body).await?;
                if login.is_done() {
                    return greeted(conversation).await;
                }
                conversation.send(&answer).await?;
            }
            b'N' => (),
            b'E' => return Err(refused(&message)),
            _ => return Err(WireError::Violation("the server sent something else than its login").into()),
        }
    }
}

impl<'a> Way<'a> {
    /// To a server that has just come up, or always is there.
    pub fn fresh(sockets: &'a SocketSettings) -> Self {
        Self {
            sockets,
            freshness: Freshness::Fresh,
        }
    }
}

impl ServerSession {
    /// Says Terminate and closes. Cancel safe.
    pub async fn close(mut self) {
        let goodbye = async {
            self.stream.write_all(say::TERMINATE).await?;
            self.stream.shutdown().await
        };
        // A server that does not take it sees the connection close all the same.
        let _ = timeout(TERMINATE_TIMEOUT, goodbye).await;
    }
}

/// After AuthenticationOk: what the server tells about itself, up to ReadyForQuery.
async fn greeted(mut conversation: Conversation) -> Result<ServerSession, LoginError> {
    let mut greeting = BytesMut::new();
    let mut key = None;
    loop {
        let message = conversation.next().await?;
        match message.tag {
            b'S' | b'N' if greeting.len() + message.body.len() < GREETING_BYTES_MAX => {
                message.put(&mut greeting)
            }
            b'K' => key = Some(key_data(&message)?),
            b'E' => return Err(refused(&message)),
            b'Z' => break,
            _ => return Err(WireError::Violation("the server's greeting is not one").into()),
        }
    }
    let early = conversation.read.freeze();
    Ok(ServerSession {
        stream: conversation.stream,
        greeting: greeting.freeze(),
        key,
        early,
    })
}

fn key_data(message: &Message) -> Result<CancelKey, WireError> {
    let mut cursor = Cursor::new(&message.body);
    let pid = cursor
        .i32()
        .map_err(|_| WireError::Violation("the server's BackendKeyData is too short"))?;
    let secret = cursor.rest();
    if !(4..=CANCEL_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(WireError::Violation(
            "the server's cancel key has an impossible length",
        ));
    }
    // A copy: it outlives the buffer that the greeting was read into.
    Ok(CancelKey {
        pid,
        secret: Bytes::copy_from_slice(secret),
    })
}

/// Every SQLSTATE has so many.
const SQLSTATE_BYTES: usize = 5;

fn refused(message: &Message) -> LoginError {
    let fields = error_fields(&message.body);
    if fields.sqlstate.len() != SQLSTATE_BYTES {
        // Its client could make nothing of it.
        return LoginError::Wire(WireError::Violation("an error without an SQLSTATE"));
    }
    let mut whole = BytesMut::new();
    message.put(&mut whole);
    LoginError::Refused {
        fields,
        message: whole.freeze(),
    }
}

/// Messages with a server, before anything is relayed.
pub(super) struct Conversation {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
}

impl Conversation {
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message; reads as much as comes, since nobody else reads this connection yet.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        loop {
            match take_message(&mut self.read, LOGIN_MESSAGE_BYTES_MAX) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => (),
                Err(error) => return self.last_words().await.ok_or(error),
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(WireError::Gone(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The last words of a server that has no process for us; what came has no length.
    async fn last_words(&mut self) -> Option<Message> {
        let is_more = |read: &[u8]| read.starts_with(b"E") && read.len() < no_process::BYTES_MAX;
        while is_more(&self.read)
            && self
                .stream
                .read_buf(&mut self.read)
                .await
                .is_ok_and(|read| read > 0)
        {}
        no_process::as_error(&self.read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::net::UnixListener;

    use super::*;

    const SOMEBODY: Identity<'static> = Identity {
        role: "postgres",
        credential: None,
        parameters: &[],
    };
    use crate::config::{Limits, ServerTls};
    use crate::error::{ClientError, SqlState};

    /// What a listener of our own user is sent, and what comes of it, where a server of user `uid` is expected.
    async fn login_where_expected(uid: impl FnOnce(u32) -> u32) -> (usize, LoginError) {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let ours = place.path().metadata().unwrap().uid();
        let address = Address {
            server: ServerAddress::Unix(socket),
            tls: ServerTls::Disable,
            server_uid: Some(uid(ours)),
        };
        let received = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read(&mut [0; 64]).await.unwrap()
        };
        let sockets = SocketSettings::from(&Limits::default());
        let way = Way::fresh(&sockets);
        let (received, session) = tokio::join!(received, connect(&address, SOMEBODY, way));
        (received, session.unwrap_err())
    }

    /// A tenant could replace its server's socket by a link to another tenant's, and read that one's roles.
    #[tokio::test]
    async fn nothing_is_said_to_a_server_of_another_user() {
        let (received, error) = login_where_expected(|ours| ours + 1).await;
        assert_eq!(received, 0);
        assert!(matches!(error, LoginError::Impostor(_)), "{error}");
        assert!(!error.is_unreachable());
        assert_eq!(error.sqlstate(), SqlState::SERVER_LOST);
        assert_eq!(error.message(), "pgwake does not trust the server");

        let (received, error) = login_where_expected(|ours| ours).await;
        assert!(received > 0);
        assert!(matches!(error, LoginError::Wire(_)), "{error}");
    }

    /// Where Postgres could start no process more, clients read `invalid message length` and 08006.
    #[tokio::test]
    async fn a_server_without_a_process_for_us_is_understood() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let address = Address {
            server: ServerAddress::Unix(socket),
            tls: ServerTls::Disable,
            server_uid: None,
        };
        let answered = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
            for part in [&b"Ecould not"[..], b" fork new process\n\0"] {
                stream.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let sockets = SocketSettings::from(&Limits::default());
        let way = Way::fresh(&sockets);
        let ((), session) = tokio::join!(answered, connect(&address, SOMEBODY, way));
        let Err(LoginError::Refused { fields, .. }) = session else {
            panic!("{session:?}");
        };
        assert_eq!(
            (&*fields.sqlstate, &*fields.message),
            ("53300", "could not fork new process")
        );
    }

    /// A socket that pgwake may not write to, or a process without file descriptors, was told as a server that is not
    /// trusted, whose TLS is wrong: also where there is no TLS at all.
    #[tokio::test]
    async fn a_connection_that_cannot_be_made_here_is_not_told_as_a_matter_of_trust() {
        let place = tempfile::tempdir().unwrap();
        let address = Address {
            // What the system refuses before it looks for anybody.
            server: ServerAddress::Unix(place.path().join("s".repeat(200))),
            tls: ServerTls::Disable,
            server_uid: None,
        };
        let sockets = SocketSettings::from(&Limits::default());
        let error = connect(&address, SOMEBODY, Way::fresh(&sockets))
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), SqlState::CANNOT_CONNECT_NOW);
        assert_eq!(error.message(), "the server cannot be reached");
        assert_eq!(
            error.detail().as_deref(),
            Some("no connection to the server could be made")
        );
        // Neither a wake nor another try at once would help.
        assert!(!error.is_unreachable() && !error.is_absent());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_may_be_stale_is_given_up_after_a_second() {
        // A listener whose queue is full: what asks for more is not answered.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let at = listener.local_addr().unwrap();
        let _first = std::net::TcpStream::connect(at).unwrap();
        let address = Address {
            server: ServerAddress::Tcp {
                host: at.ip().to_string(),
                port: at.port(),
            },
            tls: ServerTls::Disable,
            server_uid: None,
        };
        let sockets = SocketSettings::from(&Limits::default());
        for freshness in [Freshness::MayBeStale, Freshness::Fresh] {
            let way = Way {
                sockets: &sockets,
                freshness,
            };
            let began = tokio::time::Instant::now();
            let connected = timeout(Duration::from_secs(5), connect(&address, SOMEBODY, way)).await;
            match freshness {
                Freshness::MayBeStale => {
                    let error = connected.unwrap().unwrap_err();
                    assert!(error.is_unreachable(), "{error}");
                    assert_eq!(began.elapsed(), STALE_DIAL_MAX);
                }
                Freshness::Fresh => assert!(connected.is_err(), "it is waited for"),
            }
        }
    }
}
