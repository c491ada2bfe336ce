//! Logging in by a password in clear, over TLS alone.
//!
//! Hashing is `password`'s work, whose turn it is is `line`'s. Called by [`super::authenticate`].

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{
    Attempt, Credential, Proof, TlsUse, conversation,
    password::{Wanted, check},
    proofs::lane,
    refusal::{AuthError, Refusal},
    secrets::ITERATIONS_MAX,
};
use crate::ids::Verifier;

/// By SCRAM the client would compute them; a password in clear is for pgwake to hash, and it computes no more than
/// [`ITERATIONS_MAX`].
const TOO_MANY_ROUNDS: Refusal = Refusal::UnusableVerifier(
    "it has more than 1,000,000 rounds, too many to hash a password that is sent in clear",
);

/// Asks for the password and checks it. Not cancel safe.
pub(super) async fn log_in<S>(stream: &mut S, attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let password = ask(stream, &attempt).await?;
    prove(attempt, password).await
}

/// What the client sends as its password.
pub(super) async fn ask<S>(stream: &mut S, attempt: &Attempt<'_>) -> Result<Zeroizing<Vec<u8>>, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if attempt.claim.over_tls == TlsUse::Plaintext {
        return Err(AuthError::PasswordNeedsTls);
    }
    conversation::password(stream).await
}

/// Checks the password that has come.
pub(super) async fn prove(
    mut attempt: Attempt<'_>,
    password: Zeroizing<Vec<u8>>,
) -> Result<Proof, AuthError> {
    let claim = attempt.claim;
    let wanted = match attempt.take_verifier() {
        Ok(Verifier::Scram(verifier)) if verifier.iterations > ITERATIONS_MAX => Err(TOO_MANY_ROUNDS),
        Ok(Verifier::Scram(verifier)) => Ok(Wanted::Scram(verifier)),
        Ok(Verifier::Md5(verifier)) => Ok(Wanted::Md5(verifier)),
        Err(refusal) => Err(refusal),
    };
    let wanted = wanted.unwrap_or_else(|refusal| {
        attempt.looked_up = Err(refusal);
        Wanted::Nothing
    });
    let role = String::from_utf8_lossy(claim.role);
    let turn = attempt.proofs.line.turn(lane(claim.endpoint)).await;
    let turn = turn.map_err(|_full| AuthError::Busy)?;
    let checked = check(turn, password, &role, wanted, attempt.mock_iterations()).await;
    let Some(credential) = checked.map_err(AuthError::NotChecked)? else {
        return Err(attempt.refused(Refusal::WrongPassword));
    };
    let known = attempt.accepted()?;
    let credential = known.server_password.map_or(credential, Credential::Password);
    Ok(Proof::by(credential, conversation::welcome()))
}
