//! Logging in with a token in the password's place, over TLS alone.
//!
//! What a token is worth is `token`'s work. Unknown endpoints and roles cost the same as known ones: the token is
//! checked first, against the rules of the endpoint or those that most have. Called by [`super::authenticate`].

use std::time::SystemTime;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use zeroize::Zeroizing;

use super::{
    Attempt, Proof, by_password, conversation,
    refusal::{AuthError, Refusal},
    token::{Claims, TokenError, looks_like_one},
};
use crate::config::Endpoint;

/// Asks for a token and checks it. Not cancel safe.
pub(super) async fn log_in<S>(stream: &mut S, attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let token = by_password::ask(stream, &attempt).await?;
    prove(attempt, token).await
}

/// Asks for either, and checks what has come. Not cancel safe.
pub(super) async fn log_in_by_either<S>(stream: &mut S, attempt: Attempt<'_>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said = by_password::ask(stream, &attempt).await?;
    if looks_like_one(&said) {
        prove(attempt, said).await
    } else {
        by_password::prove(attempt, said).await
    }
}

async fn prove(attempt: Attempt<'_>, token: Zeroizing<Vec<u8>>) -> Result<Proof, AuthError> {
    let proofs = attempt.proofs;
    let wrong = |error| attempt.claim.refused(Refusal::Token(error));
    let Some(rules) = proofs.token_rules(attempt.claim.endpoint) else {
        return Err(wrong(TokenError::NoKeys));
    };
    let checked = proofs.tokens.check(rules, &token, SystemTime::now()).await;
    drop(token);
    // Before the role is looked at: who holds a token that is not right any more learns nothing about roles.
    let claims = checked.map_err(wrong)?;
    if let Some(endpoint) = attempt.claim.endpoint {
        check_for(&claims, endpoint, attempt.claim.role).map_err(wrong)?;
    }
    attempt
        .certificate
        .map_err(|refusal| attempt.claim.refused(refusal))?;
    let ends_at = rules.end_sessions.then(|| Instant::now() + claims.lasts);
    let credential = attempt.server_login()?;
    Ok(Proof {
        credential,
        ends_at,
        welcome: conversation::welcome(),
    })
}

/// Whether it is for this tenant and this role.
fn check_for(claims: &Claims, endpoint: &Endpoint, role: &[u8]) -> Result<(), TokenError> {
    let rules = endpoint.tokens.as_ref().ok_or(TokenError::NoKeys)?;
    if let Some(claim) = &rules.tenant_claim
        && !claims.has(claim, endpoint.tenant.as_str())
    {
        return Err(TokenError::Tenant);
    }
    let role = str::from_utf8(role).map_err(|_| TokenError::Role)?;
    let is_for = |subject: &str| claims.has(&rules.role_claim, subject);
    let subjects = endpoint.roles.get(role).map_or(&[][..], |role| &role.subjects);
    let granted = match subjects {
        [] => is_for(role),
        subjects => subjects.iter().any(|subject| is_for(subject)),
    };
    if granted { Ok(()) } else { Err(TokenError::Role) }
}
