//! An issuer of tokens with one key of each kind, and with the bad habits of those who forge them.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key, which is its own `kid`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Rsa,
    P256,
    Ed25519,
    /// The set's RSA modulus as the secret of an HMAC: a key for everybody.
    PublicKeyAsSecret,
    /// No signature.
    Nobody,
}

impl By {
    pub(crate) fn kid(self) -> &'static str {
        match self {
            Self::Rsa | Self::PublicKeyAsSecret | Self::Nobody => "rsa",
            Self::P256 => "p256",
            Self::Ed25519 => "ed25519",
        }
    }

    pub(crate) fn alg(self) -> &'static str {
        match self {
            Self::Rsa => "RS256",
            Self::P256 => "ES256",
            Self::Ed25519 => "EdDSA",
            Self::PublicKeyAsSecret => "HS256",
            Self::Nobody => "none",
        }
    }
}

/// Signs tokens.
pub(crate) struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Issuer {
    /// With new keys.
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref()).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            random,
        }
    }

    /// Its public keys, beside some that no token is checked with.
    pub(crate) fn key_set(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({ "keys": [
            { "kty": "oct", "kid": "secret", "k": text(b"a shared secret") },
            { "kty": "RSA", "kid": "rsa", "n": text(self.modulus()), "e": "AQAB", "use": "enc" },
            { "kty": "RSA", "kid": "rsa", "n": text(self.modulus()), "e": "AQAB", "use": "sig", "alg": "RS256" },
            { "kty": "EC", "kid": "p256", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) },
            { "kty": "OKP", "kid": "ed25519", "crv": "Ed25519", "x": text(self.ed25519.public_key().as_ref()) },
        ]})
    }

    /// A token with these claims.
    pub(crate) fn token(&self, by: By, claims: &Value) -> String {
        let header = json!({ "alg": by.alg(), "kid": by.kid(), "typ": "JWT" });
        self.signed(by, &header, claims)
    }

    /// The same with any header.
    pub(crate) fn signed(&self, by: By, header: &Value, claims: &Value) -> String {
        let said = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims.to_string().as_bytes())
        );
        let signature = self.signature(by, said.as_bytes());
        format!("{said}.{}", text(&signature))
    }

    fn signature(&self, by: By, said: &[u8]) -> Vec<u8> {
        match by {
            By::Rsa => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                let signed = self
                    .rsa
                    .sign(&RSA_PKCS1_SHA256, &self.random, said, &mut signature);
                signed.unwrap();
                signature
            }
            By::P256 => self.p256.sign(&self.random, said).unwrap().as_ref().to_vec(),
            By::Ed25519 => self.ed25519.sign(said).as_ref().to_vec(),
            By::PublicKeyAsSecret => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.modulus());
                aws_lc_rs::hmac::sign(&key, said).as_ref().to_vec()
            }
            By::Nobody => Vec::new(),
        }
    }

    /// From the DER of the public key (RFC 8017): header, 0, 256 bytes of modulus, exponent.
    fn modulus(&self) -> &[u8] {
        &self.rsa.public_key().as_ref()[9..265]
    }
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
