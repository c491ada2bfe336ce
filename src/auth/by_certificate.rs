//! Logging in by a client certificate alone.
//!
//! Whoever has none that is right goes through what an endpoint that does not exist would pretend, and is refused at
//! its end: strangers cannot tell that certificates are what counts here. Called by [`super::authenticate`].

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Attempt, Claim, Proof, by_password, by_scram, by_token,
    certificate::CertificateError,
    conversation,
    refusal::{AuthError, Refusal},
    roles::Login,
};

/// Lets a client in whose certificate names the role. Not cancel safe.
pub(super) async fn log_in<S>(stream: &mut S, attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let checked = match attempt.claim.endpoint {
        Some(endpoint) if endpoint.client_certificates.is_some() => attempt.certificate,
        // Never by a checked configuration; nobody comes in by this either.
        Some(_) | None => Err(Refusal::Certificate(CertificateError::Missing)),
    };
    // That there is no endpoint is the true reason.
    let checked = match (attempt.claim.endpoint, &attempt.looked_up) {
        (None, Err(refusal)) => Err(*refusal),
        _ => checked,
    };
    let Attempt {
        claim,
        looked_up,
        certificate,
        pretended,
        proofs,
    } = attempt;
    let server_login = checked
        .and(looked_up)
        .and_then(|known| known.server_login(claim.endpoint));
    let refusal = match server_login {
        Ok(credential) => {
            conversation::end_password(stream).await?;
            return Ok(credential.into());
        }
        Err(refusal) => refusal,
    };
    let said = claim.said().to_owned();
    let attempt = Attempt {
        claim: Claim {
            endpoint: None,
            endpoint_said: &said,
            ..claim
        },
        looked_up: Err(refusal),
        certificate,
        pretended,
        proofs,
    };
    match pretended {
        Login::Scram => by_scram::log_in(stream, attempt).await,
        Login::Password => by_password::log_in(stream, attempt).await,
        Login::Token => by_token::log_in(stream, attempt).await,
        Login::PasswordOrToken => by_token::log_in_by_either(stream, attempt).await,
        Login::Certificate => Err(claim.refused(refusal)),
    }
}
