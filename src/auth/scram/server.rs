//! The end towards clients: believes a proof, and keeps the ClientKey that it reveals.
//!
//! It refuses what Postgres refuses, and reads nothing more. It does not say *why* a login failed: a role that
//! does not exist goes through the same steps as one that does, and always fails at the last one.

use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::{Choice, ConstantTimeEq};

use super::{
    GS2_BOUND, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
    attributes::{Attributes, is_nonce, key_bytes, new_nonce},
};
use crate::auth::secrets::{ClientKey, SALT_BYTES, hmac_sha256, sha256};
use crate::ids::ScramVerifier;
use crate::store::MockSecret;

/// Why an exchange with a client ended without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// The message is not SCRAM.
    #[error("malformed SCRAM message")]
    Malformed(&'static str),
    /// A mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// Another channel binding than `tls-server-end-point`.
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    /// The client believes that channel binding is not offered, but it is: somebody may have removed it.
    #[error("SCRAM channel binding negotiation error")]
    BindingRemoved,
    /// The client is bound to another certificate: somebody may sit in between.
    #[error("SCRAM channel binding check failed")]
    BindingOther,
    /// The last message repeats another gs2 header than the first one had.
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    BindingAttribute,
    /// `a=`: log in as one role, act as another.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// `m=`: a mandatory extension.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// The last message belongs to another exchange.
    #[error("invalid SCRAM response")]
    Nonce,
    /// The proof is not one for this verifier.
    #[error("the proof is wrong")]
    WrongProof,
}

impl From<&'static str> for ScramError {
    fn from(detail: &'static str) -> Self {
        Self::Malformed(detail)
    }
}

/// The body of a SASLInitialResponse (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InitialResponse<'b> {
    /// The name of the mechanism that the client chose.
    pub(crate) mechanism: &'b [u8],
    /// `None`: the client wants to be asked once more before it sends its first message.
    pub(crate) client_first: Option<&'b [u8]>,
}

impl<'b> InitialResponse<'b> {
    /// Takes the body apart; whether its parts make sense is seen later.
    pub(crate) fn parse(body: &'b [u8]) -> Result<Self, ScramError> {
        let end = body.iter().position(|byte| *byte == 0);
        let (mechanism, rest) = body.split_at(end.ok_or("The mechanism has no end.")?);
        let (length, data) = rest[1..]
            .split_first_chunk::<4>()
            .ok_or("The length of the response is missing.")?;
        let client_first = match i32::from_be_bytes(*length) {
            -1 if data.is_empty() => None,
            length if usize::try_from(length) == Ok(data.len()) => Some(data),
            _ => return Err("Message length does not match input length.".into()),
        };
        Ok(Self {
            mechanism,
            client_first,
        })
    }
}

/// What proofs are checked against.
pub(crate) struct Against {
    verifier: ScramVerifier,
    /// Whether any proof is good enough at all.
    may_pass: Choice,
}

impl Against {
    /// A role's verifier.
    pub(crate) fn known(verifier: ScramVerifier) -> Self {
        Self {
            verifier,
            may_pass: Choice::from(1),
        }
    }

    /// A verifier for a name that has none: the same salt whenever the name is said, and no proof for it.
    pub(crate) fn mock(secret: &MockSecret, endpoint: &str, role: &[u8], iterations: u32) -> Self {
        let derived = |what: &[u8]| hmac_sha256(secret.reveal(), &[endpoint.as_bytes(), &[0], role, what]);
        Self {
            verifier: ScramVerifier {
                iterations,
                salt: derived(b"")[..SALT_BYTES].to_vec(),
                stored_key: derived(b"\0stored key"),
                server_key: derived(b"\0server key"),
            },
            may_pass: Choice::from(0),
        }
    }
}

/// Before the client's first message.
pub(crate) struct ScramServer {
    against: Against,
    /// Hash of the served certificate; `None`: PLUS is not offered.
    end_point: Option<Vec<u8>>,
}

/// After the challenge: the proof is next.
pub(crate) struct ProofAwaited {
    against: Against,
    flag: Flag,
    /// What `c=` must be.
    binding: String,
    /// The client's and ours.
    nonce: String,
    /// client-first-message-bare and server-first-message, joined by a comma.
    said: Vec<u8>,
}

/// The client knows the password.
pub(crate) struct Proved {
    pub(crate) key: ClientKey,
    pub(crate) verifier: ScramVerifier,
    /// server-final-message: our own proof.
    pub(crate) server_final: Vec<u8>,
}

impl ScramServer {
    pub(crate) fn new(against: Against, end_point: Option<&[u8]>) -> Self {
        Self {
            against,
            end_point: end_point.map(<[u8]>::to_vec),
        }
    }

    /// The mechanisms to offer, the stronger one first, as Postgres does.
    pub(crate) fn mechanisms(&self) -> Vec<String> {
        let bound = self.end_point.is_some().then_some(SCRAM_SHA_256_PLUS);
        let offered = bound.into_iter().chain([SCRAM_SHA_256]);
        offered.map(str::to_owned).collect()
    }

    /// Takes the client's first message and returns the challenge.
    pub(crate) fn challenge(
        self,
        mechanism: &[u8],
        client_first: &[u8],
    ) -> Result<(ProofAwaited, Vec<u8>), ScramError> {
        self.challenge_with(mechanism, client_first, &new_nonce())
    }

    fn challenge_with(
        self,
        mechanism: &[u8],
        client_first: &[u8],
        our_nonce: &str,
    ) -> Result<(ProofAwaited, Vec<u8>), ScramError> {
        let first = ClientFirst::parse(client_first)?;
        let binding = BASE64_STANDARD.encode(self.bound_to(mechanism, first.flag)?);
        let nonce = format!("{}{our_nonce}", first.nonce);
        let ScramVerifier { salt, iterations, .. } = &self.against.verifier;
        let challenge = format!("r={nonce},s={},i={iterations}", BASE64_STANDARD.encode(salt)).into_bytes();
        let stage = ProofAwaited {
            against: self.against,
            flag: first.flag,
            binding,
            nonce,
            said: [first.bare, &challenge].join(&b','),
        };
        Ok((stage, challenge))
    }

    /// The gs2 header, followed by the certificate's hash where the exchange is bound to it.
    fn bound_to(&self, mechanism: &[u8], flag: Flag) -> Result<Vec<u8>, ScramError> {
        let bound = match (mechanism, &self.end_point) {
            (chosen, _) if chosen == SCRAM_SHA_256.as_bytes() => None,
            (chosen, Some(hash)) if chosen == SCRAM_SHA_256_PLUS.as_bytes() => Some(hash),
            _ => return Err(ScramError::Mechanism),
        };
        match (flag, bound) {
            (Flag::Bound, Some(hash)) => Ok([GS2_BOUND.as_bytes(), hash].concat()),
            (Flag::Bound, None) => Err("The client selected SCRAM-SHA-256 without channel binding, \
                but the SCRAM message includes channel binding data."
                .into()),
            (_, Some(_)) => Err("The client selected SCRAM-SHA-256-PLUS, \
                but the SCRAM message does not include channel binding data."
                .into()),
            (Flag::NotOffered, None) if self.end_point.is_some() => Err(ScramError::BindingRemoved),
            (Flag::NotOffered, None) => Ok(b"y,,".to_vec()),
            (Flag::NotSupported, None) => Ok(b"n,,".to_vec()),
        }
    }
}

/// gs2-cbind-flag: what the client thinks of channel binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flag {
    /// `n`: it cannot.
    NotSupported,
    /// `y`: it could, and thinks that we cannot.
    NotOffered,
    /// `p=tls-server-end-point`.
    Bound,
}

struct ClientFirst<'m> {
    flag: Flag,
    nonce: &'m str,
    bare: &'m [u8],
}

impl<'m> ClientFirst<'m> {
    fn parse(message: &'m [u8]) -> Result<Self, ScramError> {
        let mut attributes = Attributes::of(message)?;
        let (flag, rest) = match message[0] {
            b'n' => (Flag::NotSupported, &message[1..]),
            b'y' => (Flag::NotOffered, &message[1..]),
            b'p' if attributes.expect(b'p')? == b"tls-server-end-point" => {
                (Flag::Bound, &message[GS2_BOUND.len() - 2..])
            }
            b'p' => return Err(ScramError::BindingType),
            _ => return Err("Unexpected channel-binding flag.".into()),
        };
        let rest = rest.strip_prefix(b",").ok_or("Comma expected.")?;
        if rest.first() == Some(&b'a') {
            return Err(ScramError::AuthorizationIdentity);
        }
        let bare = rest
            .strip_prefix(b",")
            .ok_or("Unexpected attribute in client-first-message.")?;
        let mut attributes = Attributes::of(bare)?;
        if attributes.peek() == Some(b'm') {
            return Err(ScramError::Extension);
        }
        // The name in here is ignored, as in Postgres: the startup packet has said who it is.
        attributes.expect(b'n')?;
        let nonce = attributes.expect(b'r')?;
        while attributes.position().is_some() {
            attributes.any()?;
        }
        let nonce = str::from_utf8(nonce)
            .ok()
            .filter(|nonce| is_nonce(nonce.as_bytes()));
        let nonce = nonce.ok_or("Non-printable characters in SCRAM nonce.")?;
        Ok(Self { flag, nonce, bare })
    }
}

impl ProofAwaited {
    /// Takes the client's last message and believes it, or not.
    pub(crate) fn check(self, client_final: &[u8]) -> Result<Proved, ScramError> {
        let mut attributes = Attributes::of(client_final)?;
        if attributes.expect(b'c')? != self.binding.as_bytes() {
            return Err(match self.flag {
                Flag::Bound => ScramError::BindingOther,
                Flag::NotOffered | Flag::NotSupported => ScramError::BindingAttribute,
            });
        }
        let nonce = attributes.expect(b'r')?;
        let (proof_at, proof) = loop {
            let position = attributes.position().unwrap_or(client_final.len());
            if let (b'p', proof) = attributes.any()? {
                break (position, proof);
            }
        };
        if attributes.position().is_some() {
            return Err("Garbage found at the end of client-final-message.".into());
        }
        let proof = key_bytes(proof).ok_or("Malformed proof in client-final-message.")?;
        if nonce != self.nonce.as_bytes() {
            return Err(ScramError::Nonce);
        }
        self.prove(&client_final[..proof_at - 1], proof)
    }

    /// RFC 5802, section 3, from the verifier's side: ClientKey = ClientProof XOR ClientSignature.
    fn prove(self, without_proof: &[u8], proof: [u8; 32]) -> Result<Proved, ScramError> {
        let Against { verifier, may_pass } = self.against;
        let said = [&*self.said, b",", without_proof];
        let mut key = ClientKey(hmac_sha256(&verifier.stored_key, &said));
        for (byte, proved) in key.0.iter_mut().zip(proof) {
            *byte ^= proved;
        }
        let right = sha256(&key.0).ct_eq(&verifier.stored_key) & may_pass;
        let signature = hmac_sha256(&verifier.server_key, &said);
        if !bool::from(right) {
            return Err(ScramError::WrongProof);
        }
        let server_final = format!("v={}", BASE64_STANDARD.encode(signature)).into_bytes();
        Ok(Proved {
            key,
            verifier,
            server_final,
        })
    }
}

#[cfg(test)]
mod tests;
