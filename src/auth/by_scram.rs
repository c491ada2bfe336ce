//! Logging in by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
//!
//! The exchange itself is `scram`'s work, its messages are `conversation`'s. Called by [`super::authenticate`].

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Attempt, Credential, conversation,
    refusal::{AuthError, Refusal},
    scram::{Against, ScramError, ScramServer},
};
use crate::ids::Verifier;

/// SCRAM, to its end. Not cancel safe.
pub(super) async fn log_in<S>(stream: &mut S, mut attempt: Attempt<'_>) -> Result<Credential, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let claim = attempt.claim;
    if attempt
        .looked_up
        .as_ref()
        .is_ok_and(|known| matches!(known.verifier, Verifier::Md5(_)))
    {
        attempt.looked_up = Err(Refusal::Md5Verifier);
    }
    let mock = || {
        let secret = attempt.proofs.roles.mock_secret();
        Against::mock(secret, claim.said(), claim.role, attempt.mock_iterations())
    };
    let against = match attempt.looked_up.as_ref().map(|known| &known.verifier) {
        Ok(Verifier::Scram(verifier)) => Against::known(verifier.clone()),
        Ok(Verifier::Md5(_)) | Err(_) => mock(),
    };
    let proved = match conversation::scram(stream, ScramServer::new(against, claim.end_point)).await {
        Err(AuthError::Scram(ScramError::WrongProof)) => return Err(attempt.refused(Refusal::WrongPassword)),
        proved => proved?,
    };
    let known = attempt.accepted()?;
    conversation::end_scram(stream, proved.server_final).await?;
    Ok(known.server_password.map_or(
        Credential::ClientKey {
            key: proved.key,
            verifier: proved.verifier,
        },
        Credential::Password,
    ))
}
