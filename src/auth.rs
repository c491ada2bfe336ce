//! Proves who a client is before anything is woken for it.
//!
//! Unknown endpoint, unknown role and wrong password are one conversation and one answer. It does not wake, does
//! not limit attempts, and does not tell the client what went wrong: `session` does that with the error. Who
//! calls: `session` for [`authenticate`]; whoever logs in to servers for [`scram::ScramClient`] and
//! [`password`]; `server` for [`RoleBook`] and [`Proofs`].

mod by_certificate;
mod by_password;
mod by_scram;
mod by_token;
mod certificate;
mod conversation;
mod line;
pub(crate) mod password;
mod proofs;
mod refusal;
mod roles;
pub mod scram;
mod secrets;
mod token;

use std::{fmt, mem, sync::Arc, time::SystemTime};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::config::Endpoint;
use crate::ids::Verifier;
use certificate::CertificateError;
pub(crate) use certificate::check_authority;
use proofs::NOBODY;
pub use proofs::Proofs;
pub(crate) use refusal::{AuthError, Refusal};
pub use roles::RoleBook;
use roles::{Known, Login};
pub(crate) use roles::{OtherServer, ROLES_MAX, ReadRole, RoleSource, Told};
pub use secrets::verifier_for;
pub use secrets::{ClientKey, Credential};
pub(crate) use secrets::{ITERATIONS_DEFAULT, ITERATIONS_MAX};
pub(crate) use token::key_file_problem;

/// The right to ask for a wake: the first law of this house. Only three can make one: `auth` (a client that
/// proved who it is), `admin` (an operator) and `server` (pgwake's own first reading of roles). Who has one may pass it
/// on to what is done for him.
#[derive(Debug, Clone)]
pub struct WakeRight(());

impl WakeRight {
    /// For pgwake's own first reading of an endpoint's roles. Only `server` calls this; a test holds that.
    pub(crate) fn for_reading_roles() -> Self {
        Self(())
    }

    /// For the clients of the pgwake whose place this one takes: each has proved who it is, there. Only `server` calls this.
    pub(crate) fn for_predecessor() -> Self {
        Self(())
    }

    /// For an operator who has the right to order. Only `admin` calls this; a test holds that.
    pub(crate) fn for_operator() -> Self {
        Self(())
    }

    /// For a client that has proved who it is.
    fn for_client() -> Self {
        Self(())
    }
}

/// Who a client says it is, and over what it says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'c> {
    /// The endpoint behind the name; `None`: there is none, and the login is a mock.
    pub(crate) endpoint: Option<&'c Arc<Endpoint>>,
    /// By what name strangers know it (`Resolved::known_as`): one for all names of an endpoint and for its branches, whether there
    /// are any or not. Mock salts are derived from it, and from nothing that only an endpoint has that exists.
    pub(crate) known_as: &'c str,
    /// `user` of the startup packet.
    pub(crate) role: &'c [u8],
    /// Hash of the certificate that was served (`tls-server-end-point`, RFC 5929); `None`: not over TLS, or none
    /// is defined for it. With it SCRAM-SHA-256-PLUS is offered.
    pub(crate) end_point: Option<&'c [u8]>,
    /// The chain that it has shown in its handshake, leaf first; empty: none.
    pub(crate) certificates: &'c [CertificateDer<'static>],
    /// Who could listen.
    pub(crate) over_tls: TlsUse,
}

/// Whether a password in clear would be private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsUse {
    /// Encrypted.
    Tls,
    /// Not encrypted, and never leaves the machine: as good as TLS for a password.
    UnixSocket,
    /// Not encrypted.
    Plaintext,
}

/// A client that has proved who it is.
pub(crate) struct Authenticated {
    /// What it has not been told yet: SASLFinal, where there is one, and AuthenticationOk. Whatever it is told next goes
    /// behind it; Postgres, too, keeps it back until there is more to say.
    pub(crate) welcome: Vec<u8>,
    /// Where it may go.
    pub(crate) endpoint: Arc<Endpoint>,
    /// As whom.
    pub(crate) role: String,
    /// What pgwake logs in to the server with for it.
    pub(crate) credential: Credential,
    /// When its token is over, where its session is to end with it.
    pub(crate) ends_at: Option<Instant>,
    /// What it has earned by the proof.
    pub(crate) right: WakeRight,
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("endpoint", &self.endpoint.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Runs the conversation from the first Authentication message to the last, which is left to the caller to send: see
/// [`Authenticated::welcome`]. Reads not a byte further. Every wait on the client, and on a turn to hash a password, is the
/// caller's to bound. Not cancel safe: drop the stream with it.
///
/// # Errors
/// [`AuthError`]; nothing about it has been sent.
pub(crate) async fn authenticate<S>(
    stream: &mut S,
    claim: Claim<'_>,
    proofs: &Proofs,
) -> Result<Authenticated, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let role = claim.endpoint.map_or(NOBODY.as_bytes(), |_| claim.role);
    let looked_up = proofs.roles.look_up(proofs.shown(claim.endpoint), role).await;
    let looked_up = match claim.endpoint {
        Some(_) => looked_up,
        None => Err(Refusal::UnknownEndpoint),
    };
    // By somebody's rules where there are none: which endpoints ask for a certificate is not to be told by the time.
    let ruled = claim.endpoint.filter(|one| one.client_certificates.is_some());
    let checked = claim.check_certificate(proofs.shown(ruled), proofs).await;
    let (login, pretended) = (proofs.login(claim.endpoint), proofs.login(None));
    let mut attempt = Attempt {
        claim,
        looked_up,
        certificate: ruled.map_or(Ok(()), |_| checked),
        proofs,
    };
    let shown = (login == Login::Certificate).then(|| by_certificate::credential(&mut attempt));
    let proved = match shown {
        Some(Ok(credential)) => Ok(Proof::by(credential, conversation::welcome())),
        Some(Err(refusal)) => {
            attempt.pretend(refusal);
            log_in(stream, pretended, attempt)
                .await
                .map_err(|error| match error {
                    AuthError::Left(_) => AuthError::LeftRefused(refusal),
                    other => other,
                })
        }
        None => log_in(stream, login, attempt).await,
    };
    let Proof {
        credential,
        ends_at,
        welcome,
    } = proved?;
    let (Some(endpoint), Ok(role)) = (claim.endpoint, str::from_utf8(claim.role)) else {
        unreachable!("only a known role of a known endpoint has a credential")
    };
    Ok(Authenticated {
        welcome,
        endpoint: Arc::clone(endpoint),
        role: role.to_owned(),
        credential,
        ends_at,
        right: WakeRight::for_client(),
    })
}

/// By what is said behind the startup packet. Not cancel safe.
async fn log_in<S>(stream: &mut S, login: Login, attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match login {
        Login::Scram => by_scram::log_in(stream, attempt).await,
        Login::Password => by_password::log_in(stream, attempt).await,
        Login::Token => by_token::log_in(stream, attempt).await,
        Login::PasswordOrToken => by_token::log_in_by_either(stream, attempt).await,
        // It was looked at, and said nothing; nor is there anything else to say.
        Login::Certificate => Err(attempt.refused(Refusal::Certificate(CertificateError::Missing))),
    }
}

/// What comes of a proof.
struct Proof {
    /// What pgwake logs in to the server with.
    credential: Credential,
    ends_at: Option<Instant>,
    /// What lets the client in.
    welcome: Vec<u8>,
}

impl Proof {
    /// One without an end.
    fn by(credential: Credential, welcome: Vec<u8>) -> Self {
        Self {
            credential,
            ends_at: None,
            welcome,
        }
    }
}

/// One login, whatever its method. The steps for a name that is not known are those for one that is, up to the
/// last.
struct Attempt<'a> {
    claim: Claim<'a>,
    /// The role, or why there is none to log in as.
    looked_up: Result<Known, Refusal>,
    /// Whether the client has shown the certificate that its endpoint wants, if it wants any.
    certificate: Result<(), Refusal>,
    proofs: &'a Proofs,
}

impl Attempt<'_> {
    /// What the role's password is checked against. It is moved, since wiping a copy would take time between the
    /// client's last word and the answer, for a role that exists alone.
    fn take_verifier(&mut self) -> Result<Verifier, Refusal> {
        let known = self.looked_up.as_mut().map_err(|refusal| *refusal)?;
        mem::replace(&mut known.verifier, Err(Refusal::NoPassword))
    }

    /// The role, which has just proved its password, unless the password's time is over or a certificate is missing.
    fn accepted(self) -> Result<Known, AuthError> {
        let known = self.looked_up.map_err(|refusal| self.claim.refused(refusal))?;
        if known.is_expired(SystemTime::now()) {
            return Err(self.claim.refused(Refusal::Expired));
        }
        self.certificate.map_err(|refusal| self.claim.refused(refusal))?;
        Ok(known)
    }

    /// Goes on like a login at an endpoint that does not exist, to be refused for this in the end.
    fn pretend(&mut self, refusal: Refusal) {
        self.claim.endpoint = None;
        self.looked_up = Err(refusal);
    }

    /// The proof is wrong; where the role is not to log in anyway, that is the true reason.
    fn refused(self, wrong: Refusal) -> AuthError {
        self.claim.refused(self.looked_up.err().unwrap_or(wrong))
    }

    /// What pgwake logs in with for a role that has proved itself by no password.
    fn server_login(self) -> Result<Credential, AuthError> {
        let known = self.looked_up;
        let credential = known.and_then(|known| known.server_login(self.claim.endpoint));
        credential.map_err(|refusal| self.claim.refused(refusal))
    }

    fn mock_iterations(&self) -> u32 {
        self.proofs.mock_iterations(self.claim.endpoint)
    }
}

impl Claim<'_> {
    /// Whether the client has shown a certificate that this endpoint lets its role in with, if it wants any.
    async fn check_certificate(&self, endpoint: &Endpoint, proofs: &Proofs) -> Result<(), Refusal> {
        let Some(rules) = endpoint.client_certificates.as_ref() else {
            return Ok(());
        };
        let other = Refusal::Certificate(CertificateError::OtherRole);
        let role = str::from_utf8(self.role).map_err(|_| other)?;
        let listed = endpoint.roles.get(role);
        let listed = listed.map_or(&[][..], |role| &role.certificate_names);
        let wanted: Vec<&str> = match listed {
            [] => vec![role],
            listed => listed.iter().map(String::as_str).collect(),
        };
        let checked = proofs.authorities.check(rules, self.certificates, &wanted).await;
        checked.map_err(Refusal::Certificate)
    }

    fn refused(&self, refusal: Refusal) -> AuthError {
        let role = String::from_utf8_lossy(self.role).into_owned();
        AuthError::Refused { role, refusal }
    }
}

/// What strangers send inside SASL messages and as tokens, for `fuzzing`.
#[cfg(any(test, fuzzing))]
mod decoding;
#[cfg(any(test, fuzzing))]
pub(crate) use decoding::{decode_key_set, decode_sasl, decode_token};

#[cfg(test)]
mod tests;
