//! A set of public keys as issuers publish it (JWK Set, RFC 7517).
//!
//! Keys that tokens cannot be checked with (shared secrets, other curves, keys for encryption) are left out, not
//! refused: sets have all kinds. Where a set comes from is `source`'s matter.

use std::sync::Arc;

use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::jws::Algorithm;

/// Most keys of a set; issuers publish two or three.
const KEYS_MAX: usize = 100;

/// Bytes of an RSA modulus: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that a token may be signed with.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    pub(super) kind: Kind,
}

/// What kind of key it is: this alone decides how a signature is checked.
#[derive(Debug)]
pub(super) enum Kind {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// Uncompressed: 4, x, y.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl Key {
    /// Whether signatures of this algorithm are this key's.
    pub(super) fn suits(&self, algorithm: Algorithm) -> bool {
        algorithm
            == match self.kind {
                Kind::Rsa(_) => Algorithm::Rs256,
                Kind::P256(_) => Algorithm::Es256,
                Kind::Ed25519(_) => Algorithm::EdDsa,
            }
    }
}

/// The keys of a set that can be used.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Arc<Key>>);

impl KeySet {
    /// Reads a JWK Set.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(json).map_err(|error| format!("it is not JSON: {error}"))?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("it is no JWK set: there is no list `keys` in it")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys, more than {KEYS_MAX}", keys.len()));
        }
        let usable = keys.iter().filter_map(Value::as_object).filter_map(key);
        let usable: Vec<_> = usable.map(Arc::new).collect();
        if usable.is_empty() {
            return Err("none of its keys is for RS256, ES256 or EdDSA".to_owned());
        }
        Ok(Self(usable))
    }

    /// The keys of this name that suit: sets may have several by mistake, or while one takes another's place. Without a name:
    /// the only one that suits, if there is one only.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Arc<Key>> {
        let suitable = self.0.iter().filter(|key| key.suits(algorithm));
        let named = |key: &&Arc<Key>| kid.is_none() || key.kid.as_deref() == kid;
        let found: Vec<_> = suitable.filter(named).cloned().collect();
        if kid.is_none() && found.len() > 1 {
            return Vec::new();
        }
        found
    }
}

fn key(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops") {
        let operations = operations.as_array()?;
        operations.iter().find(|one| one.as_str() == Some("verify"))?;
    }
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let kind = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let unsigned = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            let (n, e): (Vec<u8>, Vec<u8>) = (unsigned(bytes("n")?), unsigned(bytes("e")?));
            if !MODULUS_BYTES.contains(&n.len()) || !(1..=8).contains(&e.len()) {
                return None;
            }
            Kind::Rsa(RsaPublicKeyComponents { n, e })
        }
        ("EC", Some("P-256")) => {
            let mut point = [4; 65];
            point[1..33].copy_from_slice(&fixed(&bytes("x")?)?);
            point[33..].copy_from_slice(&fixed(&bytes("y")?)?);
            Kind::P256(point)
        }
        ("OKP", Some("Ed25519")) => Kind::Ed25519(fixed(&bytes("x")?)?),
        _ => return None,
    };
    let key = Key {
        kid: text("kid").map(str::to_owned),
        kind,
    };
    // A key for one algorithm is used for no other.
    match jwk.get("alg") {
        None => Some(key),
        Some(alg) => {
            let algorithm = Algorithm::named(alg.as_str()?)?;
            key.suits(algorithm).then_some(key)
        }
    }
}

fn fixed(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}
