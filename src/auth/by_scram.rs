//! Logging in by SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
//!
//! The exchange itself is `scram`'s work, its messages are `conversation`'s. Called by [`super::authenticate`].

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Attempt, Credential, Proof, conversation,
    refusal::{AuthError, Refusal},
    scram::{Against, ScramError, ScramServer},
};
use crate::ids::Verifier;

/// SCRAM, to its end. Not cancel safe.
pub(super) async fn log_in<S>(stream: &mut S, mut attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let claim = attempt.claim;
    attempt.looked_up = attempt.looked_up.and_then(|known| match known.verifier {
        Ok(Verifier::Md5(_)) => Err(Refusal::Md5Verifier),
        Ok(_) => Ok(known),
        Err(refusal) => Err(refusal),
    });
    let mock = || {
        let secret = attempt.proofs.roles.mock_secret();
        Against::mock(secret, claim.said(), claim.role, attempt.mock_iterations())
    };
    let against = match attempt.looked_up.as_ref().map(|known| &known.verifier) {
        Ok(Ok(Verifier::Scram(verifier))) => Against::known(verifier.clone()),
        Ok(_) | Err(_) => mock(),
    };
    let proved = match conversation::scram(stream, ScramServer::new(against, claim.end_point)).await {
        Err(AuthError::Scram(ScramError::WrongProof)) => return Err(attempt.refused(Refusal::WrongPassword)),
        proved => proved?,
    };
    let known = attempt.accepted().await?;
    conversation::end_scram(stream, proved.server_final).await?;
    let credential = known.server_password.map_or(
        Credential::ClientKey {
            key: proved.key,
            verifier: proved.verifier,
        },
        Credential::Password,
    );
    Ok(credential.into())
}
