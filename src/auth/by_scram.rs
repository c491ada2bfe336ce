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
    // Made for every name: what takes time for those that do not exist alone would tell that they do not.
    let secret = attempt.proofs.roles.mock_secret();
    let mock = Against::mock(secret, claim.known_as, claim.role, attempt.mock_iterations());
    let verifier = attempt.take_verifier().and_then(|verifier| match verifier {
        Verifier::Scram(verifier) => Ok(verifier),
        Verifier::Md5(_) => Err(Refusal::Md5Verifier),
    });
    let against = match verifier {
        Ok(verifier) => {
            drop(mock);
            Against::known(verifier)
        }
        Err(refusal) => {
            attempt.looked_up = Err(refusal);
            mock
        }
    };
    let proved = match conversation::scram(stream, ScramServer::new(against, claim.end_point)).await {
        Err(AuthError::Scram(ScramError::WrongProof)) => return Err(attempt.refused(Refusal::WrongPassword)),
        proved => proved?,
    };
    let known = attempt.accepted()?;
    let welcome = conversation::welcome_by_scram(proved.server_final);
    let credential = known.server_password.map_or(
        Credential::ClientKey {
            key: proved.key,
            verifier: proved.verifier,
        },
        Credential::Password,
    );
    Ok(Proof::by(credential, welcome))
}
