//! Logging in to a server, whatever method it asks for, with what the client's own proof left behind.

use std::{borrow::Cow, io, net::IpAddr};

use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::auth::Credential;
use crate::auth::password;
use crate::auth::scram::{ScramClient, ScramClientError, SignatureAwaited};
use crate::compute::{Address, Impostor};
use crate::config::{ServerAddress, ServerTls};
use crate::error::{ClientError, Fault, SqlState};
use crate::tls::DialError;
use crate::wire::WireError;
use crate::wire::reply::{AuthenticationRequest, ErrorFields, authentication_request};
use crate::wire::say;

/// Why there is no server session.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server could not be reached.
    #[error("the server cannot be reached: {0}")]
    Dial(#[from] DialError),
    /// Somebody else answered in the server's place; nothing was sent.
    #[error("the server's address is not its own any more: {0}")]
    Impostor(#[from] Impostor),
    /// The server said no; its own words go to the client.
    #[error("the server refused the login: {} {}", fields.sqlstate, fields.message)]
    Refused {
        /// What pgwake looks at.
        fields: ErrorFields,
        /// The whole ErrorResponse.
        message: Bytes,
    },
    /// The server left or broke the protocol.
    #[error("the server's login failed: {0}")]
    Wire(#[from] WireError),
    /// The credential does not suit what the server asks for.
    #[error("pgwake cannot log in to the server: {0}")]
    Scram(#[from] ScramClientError),
    /// A method that needs what pgwake does not have.
    #[error("the server asks for {0}, and pgwake has no password for this role")]
    Method(&'static str),
    /// The server wants a secret in clear over a connection that somebody may listen to.
    #[error("the server asks for the password in clear over a connection that is not verified: {0}")]
    Insecure(&'static str),
    /// Nothing came in time.
    #[error("the server did not answer in time")]
    Timeout,
}

impl LoginError {
    /// Whether nothing listens where the server should be. (A server that is slow, or that drops one login, is
    /// there: what one client meets must not cost the others their sessions.)
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Dial(error) if error.server_is_absent())
    }

    /// Whether the server is there and says that it is still starting (57P03).
    pub fn is_starting(&self) -> bool {
        matches!(self, Self::Refused { fields, .. } if fields.sqlstate == SqlState::CANNOT_CONNECT_NOW.0)
    }

    /// Whether nobody was there, or left without an answer: another try may meet a server that has come up again. (One
    /// that stays and says nothing has had its time.)
    pub fn is_absent(&self) -> bool {
        self.is_unreachable() || self.has_left()
    }

    /// Whether a server took the connection and left without an answer.
    pub fn has_left(&self) -> bool {
        matches!(self, Self::Wire(WireError::Gone(_)))
    }

    /// Whether pgwake's credential is not the server's.
    pub fn is_mismatch(&self) -> bool {
        self.kind() == Kind::Mismatch
    }

    /// Whether the server does not let this role in, or not with this credential: it may have changed there.
    pub fn is_about_the_role(&self) -> bool {
        match self {
            Self::Refused { fields, .. } => fields.sqlstate.starts_with("28"),
            error => error.is_mismatch(),
        }
    }

    /// What is wrong, in a word that decides what the client reads.
    fn kind(&self) -> Kind {
        match self {
            Self::Dial(error) if error.server_is_absent() => Kind::Absent,
            Self::Timeout | Self::Wire(WireError::Gone(_)) => Kind::Absent,
            Self::Scram(ScramClientError::VerifierMismatch | ScramClientError::Md5Only) | Self::Method(_) => {
                Kind::Mismatch
            }
            Self::Dial(DialError::Connect { .. } | DialError::Lost { .. } | DialError::Itself { .. }) => {
                Kind::Unreached
            }
            Self::Dial(_) | Self::Impostor(_) | Self::Scram(_) | Self::Insecure(_) => Kind::Untrusted,
            Self::Refused { .. } | Self::Wire(_) => Kind::Broken,
        }
    }
}

/// What is wrong with a login to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody answers now.
    Absent,
    /// It was never asked, for a reason on this side: a socket that is closed to pgwake, no file descriptor left.
    Unreached,
    /// pgwake's credential is not the server's.
    Mismatch,
    /// It cannot be believed to be the server, or is not to be told a secret.
    Untrusted,
    /// It does not speak as a server does.
    Broken,
}

impl ClientError for LoginError {
    fn sqlstate(&self) -> SqlState {
        match self.kind() {
            Kind::Absent | Kind::Unreached => SqlState::CANNOT_CONNECT_NOW,
            Kind::Mismatch => SqlState::INVALID_PASSWORD,
            Kind::Untrusted | Kind::Broken => SqlState::SERVER_LOST,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self.kind() {
            Kind::Absent | Kind::Unreached => "the server cannot be reached",
            Kind::Mismatch => "pgwake cannot log in to the server for this role",
            Kind::Untrusted => "pgwake does not trust the server",
            Kind::Broken => "the server's login failed",
        }
        .into()
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            // Where a server is, and what its certificate says, is the operator's business alone.
            Self::Dial(DialError::Connect { .. } | DialError::Lost { .. }) => {
                "no connection to the server could be made".into()
            }
            Self::Dial(DialError::Itself { .. }) => "its address leads to pgwake itself".into(),
            Self::Dial(_) => "the TLS connection to the server did not come about as it is configured".into(),
            Self::Impostor(_) => "something else listens in the server's place".into(),
            other => other.to_string().into(),
        })
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(
            match self.kind() {
                Kind::Absent => "try again in a moment",
                Kind::Mismatch => {
                    "the role's verifier in pgwake must be the server's own: copy pg_authid.rolpassword, or set the \
                     role's server_password; for tokens pg_hba.conf may have a line `peer map=pgwake` for the role"
                }
                Kind::Unreached | Kind::Untrusted | Kind::Broken => "the operator's log says more under this session",
            }
            .into(),
        )
    }

    fn fault(&self) -> Fault {
        match self.kind() {
            Kind::Mismatch | Kind::Untrusted => Fault::Tenant,
            Kind::Absent | Kind::Unreached | Kind::Broken => Fault::Compute,
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        let server = "127.0.0.1:5432".to_owned();
        let absent = DialError::Connect {
            server: server.clone(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        crate::error::examples! {
            Self::Dial(_) => [
                Self::Dial(absent),
                Self::Dial(DialError::Itself { server: server.clone() }),
                Self::Dial(DialError::NoTls { server }),
            ],
            Self::Impostor(_) => [Self::Impostor(Impostor::example())],
            Self::Refused { .. } => [Self::Refused { fields: ErrorFields::default(), message: Bytes::new() }],
            Self::Wire(_) => WireError::examples().into_iter().map(Self::Wire),
            Self::Scram(_) => [ScramClientError::VerifierMismatch, ScramClientError::WrongSignature].map(Self::Scram),
            Self::Method(_) => [Self::Method("an MD5 password")],
            Self::Insecure(_) => [Self::Insecure("a password")],
            Self::Timeout => [Self::Timeout],
        }
    }
}

/// One login.
pub(crate) struct Login<'a> {
    role: &'a str,
    credential: Option<&'a Credential>,
    end_point: Option<&'a [u8]>,
    privacy: Privacy,
    state: State,
}

/// Who may listen to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// Nobody, and the server is the one that is meant: TLS with a verified certificate, or this machine.
    Private,
    /// Perhaps somebody in between.
    Open,
}

impl Privacy {
    /// Of a connection to `address`.
    pub(super) fn of(address: &Address) -> Self {
        let local = match &address.server {
            ServerAddress::Unix(_) => true,
            ServerAddress::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        };
        let verified = matches!(
            address.tls,
            ServerTls::VerifyCa { .. } | ServerTls::VerifyFull { .. }
        );
        if local || verified {
            Self::Private
        } else {
            Self::Open
        }
    }
}

enum State {
    Begin,
    Challenged(ScramClient),
    SignatureAwaited(SignatureAwaited),
    /// The server has proved itself, or is not asked to.
    Proved,
    Done,
}

impl<'a> Login<'a> {
    /// Without a credential, or with [`Credential::Socket`], for a server that lets the operating system's user in.
    pub(crate) fn new(
        role: &'a str,
        credential: Option<&'a Credential>,
        end_point: Option<&'a [u8]>,
        privacy: Privacy,
    ) -> Self {
        Self {
            role,
            credential: credential.filter(|credential| !matches!(credential, Credential::Socket)),
            end_point,
            privacy,
            state: State::Begin,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// What to answer to an Authentication message; empty where nothing is.
    pub(crate) async fn answer(&mut self, body: &Bytes) -> Result<BytesMut, LoginError> {
        let mut out = BytesMut::new();
        let state = std::mem::replace(&mut self.state, State::Begin);
        self.state = match (authentication_request(body)?, state) {
            (AuthenticationRequest::Ok, State::Begin | State::Proved) => State::Done,
            (AuthenticationRequest::CleartextPassword, State::Begin) => {
                self.put_password(&mut out)?;
                State::Proved
            }
            (AuthenticationRequest::Md5Password(salt), State::Begin) => {
                self.put_md5(salt, &mut out)?;
                State::Proved
            }
            (AuthenticationRequest::Sasl(offered), State::Begin) => {
                let credential = self.credential.ok_or(LoginError::Method("a password"))?;
                let client = ScramClient::begin(&offered, self.end_point, credential)?;
                say::sasl_initial_response(client.mechanism(), &client.client_first(), &mut out);
                State::Challenged(client)
            }
            (AuthenticationRequest::SaslContinue(first), State::Challenged(client)) => {
                let (awaited, proof) = password::answer(client, first.to_vec()).await?;
                say::password_message(&proof, &mut out);
                State::SignatureAwaited(awaited)
            }
            (AuthenticationRequest::SaslFinal(last), State::SignatureAwaited(awaited)) => {
                awaited.finish(&last)?;
                State::Proved
            }
            (AuthenticationRequest::Other(_), State::Begin) => {
                return Err(LoginError::Method("a login method that pgwake does not speak"));
            }
            _ => return Err(WireError::Violation("the server's login is out of order").into()),
        };
        Ok(out)
    }

    fn put_password(&self, out: &mut BytesMut) -> Result<(), LoginError> {
        let Some(Credential::Password(password) | Credential::Own { password, .. }) = self.credential else {
            return Err(LoginError::Method("the password itself"));
        };
        if self.privacy == Privacy::Open {
            return Err(LoginError::Insecure("set tls = \"verify-full\" for this compute"));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(password.reveal().len() + 1));
        body.extend_from_slice(password.reveal().as_bytes());
        body.push(0);
        say::password_message(&body, out);
        Ok(())
    }

    fn put_md5(&self, salt: [u8; 4], out: &mut BytesMut) -> Result<(), LoginError> {
        let answer = self
            .credential
            .and_then(|credential| password::md5_answer(credential, self.role, salt));
        let answer = answer.ok_or(LoginError::Method("an MD5 password"))?;
        let mut body = BytesMut::from(answer.as_bytes());
        body.put_u8(0);
        say::password_message(&body, out);
        Ok(())
    }
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        Self::Wire(error.into())
    }
}
