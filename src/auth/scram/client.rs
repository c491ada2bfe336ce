//! The end towards servers: proves a credential, and checks that the server has the verifier.
//!
//! Servers are not trusted: sizes and rounds are capped, and where a ClientKey logs in, salt and rounds of the
//! challenge are compared with its verifier before a proof is sent. It opens no connection.

use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    GS2_BOUND, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
    attributes::{Attributes, is_nonce, key_bytes, new_nonce},
};
use crate::auth::secrets::{Credential, ITERATIONS_MAX, Keys, hmac_sha256};
use crate::ids::{ScramVerifier, Secret};

/// Longest list of mechanisms that is read.
const OFFER_BYTES_MAX: usize = 1024;

/// Why a login to a server by SCRAM failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramClientError {
    /// The server offers neither mechanism.
    #[error("the server offers no SASL mechanism that pgwake knows")]
    NotOffered,
    /// The server wants SCRAM, and all that is known is an MD5 verifier.
    #[error("the server asks for SCRAM, but the role's verifier is an MD5 one")]
    Md5Only,
    /// The server's message is not SCRAM.
    #[error("malformed SCRAM message from the server: {0}")]
    Malformed(&'static str),
    /// The server's `rolpassword` is not the verifier that the client was checked against.
    #[error("the server's verifier for this role is not the one that pgwake has")]
    VerifierMismatch,
    /// More rounds of PBKDF2 than are computed for a server.
    #[error("the server asks for {0} rounds of PBKDF2, more than {ITERATIONS_MAX}")]
    Iterations(u32),
    /// The password was not hashed, because pgwake is ending.
    #[error("the password could not be hashed")]
    NotHashed,
    /// The server ended the exchange with an error of its own.
    #[error("the server ended the SCRAM exchange with an error")]
    Refused,
    /// The server could not prove that it has the verifier.
    #[error("the server's signature is wrong: it does not have this role's verifier")]
    WrongSignature,
}

impl From<&'static str> for ScramClientError {
    fn from(detail: &'static str) -> Self {
        Self::Malformed(detail)
    }
}

/// Before the server's challenge.
pub(crate) struct ScramClient {
    credential: Credential,
    mechanism: &'static str,
    gs2: &'static str,
    /// Hash of the server's certificate, where the exchange is bound to it.
    end_point: Vec<u8>,
    nonce: String,
    /// client-first-message-bare.
    bare: String,
}

/// After our proof: the server's own is next.
#[derive(Debug)]
#[must_use = "a server that is not asked for its signature has proved nothing"]
pub(crate) struct SignatureAwaited {
    signature: [u8; 32],
}

impl ScramClient {
    /// Chooses a mechanism out of the server's AuthenticationSASL: `offered` is its list of NUL-terminated names,
    /// as it stands in the message behind the number 10. `end_point` is the hash of the server's certificate
    /// (RFC 5929); with it channel binding is used where the server offers it.
    ///
    /// # Errors
    /// [`ScramClientError::NotOffered`], `Malformed` or `Md5Only`.
    pub(crate) fn begin(
        offered: &[u8],
        end_point: Option<&[u8]>,
        credential: &Credential,
    ) -> Result<Self, ScramClientError> {
        if matches!(credential, Credential::Md5(_) | Credential::Socket) {
            return Err(ScramClientError::Md5Only);
        }
        let names = mechanisms(offered)?;
        let offers = |name: &str| names.contains(&name.as_bytes());
        let (mechanism, gs2, end_point) = match end_point {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, GS2_BOUND, hash),
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "y,,", [].as_slice()),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "n,,", [].as_slice()),
            _ => return Err(ScramClientError::NotOffered),
        };
        let nonce = new_nonce();
        Ok(Self {
            credential: credential.clone(),
            mechanism,
            gs2,
            end_point: end_point.to_vec(),
            bare: format!("n=,r={nonce}"),
            nonce,
        })
    }

    /// The mechanism's name, for SASLInitialResponse.
    pub(crate) fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// The first message, for SASLInitialResponse. The name in it is empty, as libpq's: Postgres ignores it.
    pub(crate) fn client_first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2, self.bare).into_bytes()
    }

    /// Whether [`Self::answer`] takes long, because it has to hash a password.
    pub(crate) fn hashes(&self) -> bool {
        matches!(self.credential, Credential::Password(_) | Credential::Own { .. })
    }

    /// Takes the server's challenge (AuthenticationSASLContinue) and returns the message with our proof. Where
    /// [`Self::hashes`] says so it computes up to a million rounds of PBKDF2: use
    /// [`crate::auth::password::answer`] on a runtime.
    ///
    /// # Errors
    /// [`ScramClientError`]; no proof leaves then.
    pub(crate) fn answer(self, server_first: &[u8]) -> Result<(SignatureAwaited, Vec<u8>), ScramClientError> {
        let challenge = Challenge::parse(server_first, &self.nonce)?;
        let keys = self.keys(&challenge)?;
        let binding = BASE64_STANDARD.encode([self.gs2.as_bytes(), &self.end_point].concat());
        let without_proof = format!("c={binding},r={}", challenge.nonce);
        let said = [
            self.bare.as_bytes(),
            b",",
            server_first,
            b",",
            without_proof.as_bytes(),
        ];
        let mut proof = Zeroizing::new(hmac_sha256(&keys.client_key.stored_key(), &said));
        for (byte, key) in proof.iter_mut().zip(keys.client_key.0) {
            *byte ^= key;
        }
        let signature = hmac_sha256(&*keys.server_key, &said);
        let answer = format!("{without_proof},p={}", BASE64_STANDARD.encode(*proof));
        Ok((SignatureAwaited { signature }, answer.into_bytes()))
    }

    fn keys(&self, challenge: &Challenge<'_>) -> Result<Keys, ScramClientError> {
        match &self.credential {
            Credential::ClientKey { key, verifier } => {
                if challenge.salt != verifier.salt || challenge.iterations != verifier.iterations {
                    return Err(ScramClientError::VerifierMismatch);
                }
                Ok(Keys {
                    client_key: key.clone(),
                    server_key: Zeroizing::new(verifier.server_key),
                })
            }
            Credential::Password(password) => challenge.derive(password),
            Credential::Own { password, verifier } => {
                let is_known = challenge.salt == verifier.salt && challenge.iterations == verifier.iterations;
                // A password that was changed since is another matter: its verifier is not known.
                if !is_known && is_of(verifier, password) {
                    return Err(ScramClientError::VerifierMismatch);
                }
                challenge.derive(password)
            }
            Credential::Md5(_) | Credential::Socket => Err(ScramClientError::Md5Only),
        }
    }
}

impl SignatureAwaited {
    /// Takes the server's last message (AuthenticationSASLFinal): whether it knows the verifier, too.
    ///
    /// # Errors
    /// [`ScramClientError::WrongSignature`], `Refused` or `Malformed`: the server is not to be trusted.
    pub(crate) fn finish(self, server_final: &[u8]) -> Result<(), ScramClientError> {
        let mut attributes = Attributes::of(server_final)?;
        if attributes.peek() == Some(b'e') {
            return Err(ScramClientError::Refused);
        }
        let signature =
            key_bytes(attributes.expect(b'v')?).ok_or("The signature is not base64 of 32 bytes.")?;
        if attributes.position().is_some() {
            return Err("Something follows the signature.".into());
        }
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err(ScramClientError::WrongSignature)
        }
    }
}

struct Challenge<'m> {
    nonce: &'m str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'m> Challenge<'m> {
    fn derive(&self, password: &Secret) -> Result<Keys, ScramClientError> {
        if self.iterations > ITERATIONS_MAX {
            return Err(ScramClientError::Iterations(self.iterations));
        }
        let password = password.reveal().as_bytes();
        Ok(Keys::derive(password, &self.salt, self.iterations))
    }

    fn parse(message: &'m [u8], our_nonce: &str) -> Result<Self, ScramClientError> {
        let mut attributes = Attributes::of(message)?;
        if attributes.peek() == Some(b'm') {
            return Err("It requires an extension.".into());
        }
        let nonce = attributes.expect(b'r')?;
        let salt = attributes.expect(b's')?;
        let iterations = attributes.expect(b'i')?;
        while attributes.position().is_some() {
            attributes.any()?;
        }
        let theirs = nonce
            .strip_prefix(our_nonce.as_bytes())
            .ok_or("It answers another nonce.")?;
        if !is_nonce(theirs) {
            return Err("The server added nothing printable to the nonce.".into());
        }
        let nonce = str::from_utf8(nonce).map_err(|_| "The nonce is not text.")?;
        let salt = BASE64_STANDARD
            .decode(salt)
            .map_err(|_| "The salt is not base64.")?;
        let iterations = str::from_utf8(iterations)
            .ok()
            .and_then(|digits| digits.parse().ok());
        match iterations {
            Some(iterations) if iterations > 0 && !salt.is_empty() => Ok(Self {
                nonce,
                salt,
                iterations,
            }),
            _ => Err("Salt and rounds cannot be used.".into()),
        }
    }
}

/// Whether it is the verifier of this password.
fn is_of(verifier: &ScramVerifier, password: &Secret) -> bool {
    if verifier.iterations > ITERATIONS_MAX {
        return false;
    }
    let keys = Keys::derive(password.reveal().as_bytes(), &verifier.salt, verifier.iterations);
    bool::from(keys.client_key.stored_key().ct_eq(&verifier.stored_key))
}

/// The names in a list of NUL-terminated names that ends with an empty one.
fn mechanisms(offered: &[u8]) -> Result<Vec<&[u8]>, ScramClientError> {
    let list = offered
        .strip_suffix(&[0, 0])
        .filter(|_| offered.len() <= OFFER_BYTES_MAX)
        .ok_or("The list of mechanisms does not end where it should.")?;
    let names: Vec<_> = list.split(|byte| *byte == 0).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err("The list of mechanisms has an empty name.".into());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
