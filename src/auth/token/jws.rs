//! A signed token as it is written: three parts with dots between them (RFC 7515, section 3.1).
//!
//! The header is a stranger's word until the signature has been checked: it only says which key to look for. Nothing
//! here knows what claims mean.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    TokenError,
    keys::{Key, Kind},
};

/// Longest header, still in base64.
const HEADER_BYTES_MAX: usize = 2048;

/// How a token may be signed. There is no `none` among these, and no shared secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in `alg`.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A token that has been taken apart, and not checked.
pub(super) struct Signed<'t> {
    /// What the signature is of: header, dot and payload.
    said: &'t [u8],
    payload: &'t [u8],
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl<'t> Signed<'t> {
    /// Takes it apart.
    pub(super) fn parse(text: &'t [u8]) -> Result<Self, TokenError> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        if header.len() > HEADER_BYTES_MAX {
            return Err(TokenError::Malformed("its header is too long"));
        }
        let (algorithm, kid) = read_header(&decoded(header)?)?;
        Ok(Self {
            said: &text[..header.len() + 1 + payload.len()],
            payload,
            signature: decoded(signature)?,
            algorithm,
            kid,
        })
    }

    /// The key that it names.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that it names.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What stands between the dots, for `fuzzing`.
    #[cfg(any(test, fuzzing))]
    pub(super) fn payload_text(&self) -> &'t [u8] {
        self.payload
    }

    /// What nobody may believe, for `fuzzing`.
    #[cfg(any(test, fuzzing))]
    pub(super) fn unverified_payload(&self) -> Option<Vec<u8>> {
        decoded(self.payload).ok()
    }

    /// The payload, if this key has signed it. The algorithm is the key's own; one that the header only claims is
    /// refused.
    pub(super) fn verify(&self, key: &Key) -> Result<Vec<u8>, TokenError> {
        if !key.suits(self.algorithm) {
            return Err(TokenError::UnknownKey);
        }
        let (said, signature) = (self.said, &self.signature[..]);
        let verified = match &key.kind {
            Kind::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, said, signature),
            Kind::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(said, signature)
            }
            Kind::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(said, signature),
        };
        verified.map_err(|_unspecified| TokenError::Signature)?;
        decoded(self.payload)
    }
}

fn read_header(json: &[u8]) -> Result<(Algorithm, Option<String>), TokenError> {
    let Ok(Value::Object(header)) = serde_json::from_slice(json) else {
        return Err(TokenError::Malformed("its header is no JSON object"));
    };
    // What must be understood to trust it is not understood here (RFC 7515, section 4.1.11).
    if header.contains_key("crit") {
        return Err(TokenError::Malformed("its header asks for an extension"));
    }
    match header.get("typ") {
        None => (),
        Some(Value::String(typ)) if is_token(typ) => (),
        Some(_) => return Err(TokenError::Malformed("it is another kind of thing")),
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm
        .and_then(Algorithm::named)
        .ok_or(TokenError::Algorithm)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(TokenError::Malformed("its `kid` is no text")),
    };
    Ok((algorithm, kid))
}

/// A JWT, or an access token (RFC 9068).
fn is_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.trim_start_matches("application/"), "jwt" | "at+jwt")
}

fn decoded(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| TokenError::Malformed("a part of it is not base64"))
}
