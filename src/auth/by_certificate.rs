//! Logging in by a client certificate alone.
//!
//! Whoever has none that is right goes through what an endpoint that does not exist would pretend, and is refused at
//! its end: strangers cannot tell that certificates are what counts here. Called by [`super::authenticate`].

use std::mem;

use super::{Attempt, Credential, certificate::CertificateError, refusal::Refusal};

/// What pgwake logs in to the server with for a client in whose certificate the role is named.
pub(super) fn credential(attempt: &mut Attempt<'_>) -> Result<Credential, Refusal> {
    let endpoint = attempt.claim.endpoint.ok_or(Refusal::UnknownEndpoint)?;
    if endpoint.client_certificates.is_none() {
        // Never by a checked configuration; nobody comes in by this either.
        return Err(Refusal::Certificate(CertificateError::Missing));
    }
    attempt.certificate?;
    let known = mem::replace(&mut attempt.looked_up, Err(Refusal::NoPassword))?;
    known.server_login(attempt.claim.endpoint)
}
