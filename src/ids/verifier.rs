//! What Postgres keeps of a password: the text of `pg_authid.rolpassword`, taken apart.
//!
//! It only reads and writes the text form (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>);
//! proving a password against it is `auth`'s work.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a text is not a verifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// Neither form is recognised.
    #[error(
        "not a verifier: expected `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (what `pgwake hash-password` prints)"
    )]
    Form,
    /// The number of iterations is not in 1..=10,000,000.
    #[error("the number of iterations is not between 1 and 10,000,000")]
    Iterations,
    /// Salt or keys are not base64 of the right length.
    #[error("the {0} is not base64 of the right length")]
    Field(&'static str),
}

/// What a role's password is checked against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verifier {
    /// `SCRAM-SHA-256$…`
    Scram(ScramVerifier),
    /// `md5…`
    Md5(Md5Verifier),
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramVerifier {
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// The salt, decoded.
    pub salt: Vec<u8>,
    /// `SHA256(ClientKey)`: what a client's proof is checked against.
    pub stored_key: [u8; 32],
    /// What the server's signature is made with.
    pub server_key: [u8; 32],
}

/// `md5` and 32 hexadecimal digits: `md5(password ‖ role)`. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Md5Verifier {
    /// The 32 lowercase hexadecimal digits, without `md5`.
    pub hex: [u8; 32],
}

impl Verifier {
    /// Parses the text of `pg_authid.rolpassword`.
    ///
    /// # Errors
    /// [`VerifierError`] tells what is wrong, without repeating the text.
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
            return ScramVerifier::parse_rest(rest).map(Self::Scram);
        }
        let hex = text
            .strip_prefix("md5")
            .and_then(|hex| <[u8; 32]>::try_from(hex.as_bytes()).ok());
        match hex {
            Some(hex) if hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self::Md5(Md5Verifier { hex }))
            }
            _ => Err(VerifierError::Form),
        }
    }
}

impl ScramVerifier {
    /// Most PBKDF2 rounds that are believed; Postgres allows 2³¹−1, which nobody could log in with.
    pub const ITERATIONS_MAX: u32 = 10_000_000;

    fn parse_rest(rest: &str) -> Result<Self, VerifierError> {
        let (head, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = head.split_once(':').ok_or(VerifierError::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let iterations: u32 = iterations.parse().map_err(|_| VerifierError::Iterations)?;
        if !(1..=Self::ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError::Iterations);
        }
        let salt = BASE64_STANDARD
            .decode(salt)
            .map_err(|_| VerifierError::Field("salt"))?;
        if salt.is_empty() {
            return Err(VerifierError::Field("salt"));
        }
        Ok(Self {
            iterations,
            salt,
            stored_key: key(stored_key).ok_or(VerifierError::Field("StoredKey"))?,
            server_key: key(server_key).ok_or(VerifierError::Field("ServerKey"))?,
        })
    }

    /// The text as Postgres stores it in `pg_authid.rolpassword`. It is a secret: keep it out of logs.
    pub fn to_text(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

fn key(text: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for Md5Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    #[test]
    fn a_verifier_is_written_as_it_was_read_and_never_printed() {
        let Ok(Verifier::Scram(verifier)) = Verifier::parse(TEXT) else {
            panic!("not parsed")
        };
        assert_eq!(verifier.to_text(), TEXT);
        assert_eq!(format!("{verifier:?}"), "…");
    }

    #[test]
    fn what_is_no_verifier_says_which_part_is_wrong() {
        assert_eq!(Verifier::parse("secret"), Err(VerifierError::Form));
        assert_eq!(Verifier::parse("md5nothex"), Err(VerifierError::Form));
        assert_eq!(
            Verifier::parse(&TEXT.replace("4096", "0")),
            Err(VerifierError::Iterations)
        );
        assert_eq!(
            Verifier::parse(&TEXT.replace("$AAAA", "$A")),
            Err(VerifierError::Field("StoredKey"))
        );
    }
}
