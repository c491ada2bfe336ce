//! Proves who a client is before anything is woken for it.
//!
//! Unknown endpoint, unknown role and wrong password are one conversation and one answer. It does not wake, does
//! not limit attempts, and does not tell the client what went wrong: `session` does that with the error. Who
//! calls: `session` for [`authenticate`]; whoever logs in to servers for [`scram::ScramClient`] and
//! [`password`]; `server` for [`RoleBook`].

mod conversation;
pub(crate) mod password;
mod refusal;
mod roles;
pub mod scram;
mod secrets;

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Endpoint;
use crate::ids::Verifier;
pub(crate) use refusal::{AuthError, Refusal};
pub use roles::RoleBook;
use roles::{Known, Login};
pub(crate) use roles::{ROLES_MAX, ReadRole, RoleSource};
use scram::{Against, ScramError, ScramServer};
pub use secrets::verifier_for;
pub use secrets::{ClientKey, Credential};
pub(crate) use secrets::{ITERATIONS_DEFAULT, ITERATIONS_MAX};

/// By SCRAM the client would compute them; a password in clear is for pgwake to hash, and it computes no more than
/// [`ITERATIONS_MAX`].
const TOO_MANY_ROUNDS: Refusal = Refusal::UnusableVerifier(
    "it has more than 1,000,000 rounds, too many to hash a password that is sent in clear",
);

/// The right to ask for a wake: the first law of this house. Only three can make one: `auth` (a client that
/// proved who it is), `admin` (an operator) and `server` (pgwake's own first reading of roles).
#[derive(Debug)]
pub struct WakeRight(());

impl WakeRight {
    /// For pgwake's own first reading of an endpoint's roles. Only `server` calls this; a test holds that.
    pub(crate) fn for_reading_roles() -> Self {
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
    /// The endpoint's name, as `tenant` took it from what the client said: lowercase, and without a domain where it
    /// was under one.
    pub(crate) endpoint_said: &'c str,
    /// `user` of the startup packet.
    pub(crate) role: &'c [u8],
    /// Hash of the certificate that was served (`tls-server-end-point`, RFC 5929); `None`: not over TLS, or none
    /// is defined for it. With it SCRAM-SHA-256-PLUS is offered.
    pub(crate) end_point: Option<&'c [u8]>,
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

/// A client that has proved who it is, and has been told so.
pub(crate) struct Authenticated {
    /// Where it may go.
    pub(crate) endpoint: Arc<Endpoint>,
    /// As whom.
    pub(crate) role: String,
    /// What pgwake logs in to the server with for it.
    pub(crate) credential: Credential,
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

/// Runs the conversation from the first Authentication message to AuthenticationOk, which leaves together with
/// SASLFinal. Reads not a byte further. Every wait on the client, and on a turn to hash a password, is the
/// caller's to bound. Not cancel safe: drop the stream with it.
///
/// # Errors
/// [`AuthError`]; nothing about it has been sent.
pub(crate) async fn authenticate<S>(
    stream: &mut S,
    claim: Claim<'_>,
    book: &RoleBook,
) -> Result<Authenticated, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let looked_up = match claim.endpoint {
        Some(endpoint) => book.look_up(endpoint, claim.role).await,
        None => Err(Refusal::UnknownEndpoint),
    };
    let login = claim
        .endpoint
        .map_or(Login::Scram, |endpoint| book.login_method(endpoint));
    let proved = match login {
        Login::Scram => by_scram(stream, &claim, looked_up, book).await,
        Login::Password => by_password(stream, &claim, looked_up, book).await,
    };
    if let (Err(AuthError::Refused { .. }), Some(endpoint)) = (&proved, claim.endpoint) {
        book.suspect(endpoint);
    }
    let credential = proved?;
    let (Some(endpoint), Ok(role)) = (claim.endpoint, str::from_utf8(claim.role)) else {
        unreachable!("only a known role of a known endpoint has a credential")
    };
    Ok(Authenticated {
        endpoint: Arc::clone(endpoint),
        role: role.to_owned(),
        credential,
        right: WakeRight::for_client(),
    })
}

/// SCRAM. The steps for a name that is not known are those for one that is, up to the last.
async fn by_scram<S>(
    stream: &mut S,
    claim: &Claim<'_>,
    looked_up: Result<Known, Refusal>,
    book: &RoleBook,
) -> Result<Credential, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let iterations = mock_iterations(claim, book);
    let mock = Against::mock(book.mock_secret(), said(claim), claim.role, iterations);
    let (against, known) = match looked_up {
        Ok(known) => match &known.verifier {
            Verifier::Scram(verifier) => (Against::known(verifier.clone()), Ok(known)),
            Verifier::Md5(_) => (mock, Err(Refusal::Md5Verifier)),
        },
        Err(refusal) => (mock, Err(refusal)),
    };
    let proved = match conversation::scram(stream, ScramServer::new(against, claim.end_point)).await {
        Err(AuthError::Scram(ScramError::WrongProof)) => {
            return Err(refused(claim, known.err().unwrap_or(Refusal::WrongPassword)));
        }
        proved => proved?,
    };
    let known = accepted(claim, known)?;
    conversation::end_scram(stream, proved.server_final).await?;
    Ok(known.server_password.map_or(
        Credential::ClientKey {
            key: proved.key,
            verifier: proved.verifier,
        },
        Credential::Password,
    ))
}

/// The password in clear.
async fn by_password<S>(
    stream: &mut S,
    claim: &Claim<'_>,
    looked_up: Result<Known, Refusal>,
    book: &RoleBook,
) -> Result<Credential, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if claim.over_tls == TlsUse::Plaintext {
        return Err(AuthError::PasswordNeedsTls);
    }
    let password = conversation::password(stream).await?;
    let looked_up = looked_up.and_then(|known| match &known.verifier {
        Verifier::Scram(verifier) if verifier.iterations > ITERATIONS_MAX => Err(TOO_MANY_ROUNDS),
        _ => Ok(known),
    });
    let wanted = match &looked_up {
        Ok(known) => match &known.verifier {
            Verifier::Scram(verifier) => password::Wanted::Scram(verifier.clone()),
            Verifier::Md5(verifier) => password::Wanted::Md5(verifier.clone()),
        },
        Err(_) => password::Wanted::Nothing,
    };
    let role = String::from_utf8_lossy(claim.role);
    let checked = password::check(password, &role, wanted, mock_iterations(claim, book)).await;
    let Some(credential) = checked.map_err(AuthError::NotChecked)? else {
        return Err(refused(claim, looked_up.err().unwrap_or(Refusal::WrongPassword)));
    };
    let known = accepted(claim, looked_up)?;
    conversation::end_password(stream).await?;
    Ok(known.server_password.map_or(credential, Credential::Password))
}

/// The role, which has just proved who it is, unless its time is over.
fn accepted(claim: &Claim<'_>, known: Result<Known, Refusal>) -> Result<Known, AuthError> {
    let known = known.map_err(|refusal| refused(claim, refusal))?;
    if known.is_expired(SystemTime::now()) {
        return Err(refused(claim, Refusal::Expired));
    }
    Ok(known)
}

fn refused(claim: &Claim<'_>, refusal: Refusal) -> AuthError {
    let role = String::from_utf8_lossy(claim.role).into_owned();
    AuthError::Refused { role, refusal }
}

fn mock_iterations(claim: &Claim<'_>, book: &RoleBook) -> u32 {
    claim
        .endpoint
        .map_or(ITERATIONS_DEFAULT, |endpoint| book.mock_iterations(endpoint))
}

/// What a mock salt is derived from. All names of an endpoint that exists are one, as they are for its roles.
fn said<'c>(claim: &Claim<'c>) -> &'c str {
    match claim.endpoint {
        Some(endpoint) => endpoint.name.as_str(),
        None => claim.endpoint_said,
    }
}

#[cfg(test)]
mod tests;
