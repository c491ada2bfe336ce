//! The client's side of SCRAM-SHA-256, without channel binding, and the verifier that a server keeps.
//!
//! The salted password is remembered per password, salt and rounds: a generator that spends two milliseconds of
//! PBKDF2 on each connect measures itself. See <https://datatracker.ietf.org/doc/html/rfc5802>.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{LazyLock, Mutex},
};

use aws_lc_rs::{
    constant_time, digest, hmac,
    pbkdf2::{self, PBKDF2_HMAC_SHA256},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::failure::Failure;

/// The mechanism's name.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";

/// As many rounds as Postgres itself uses.
const ROUNDS: u32 = 4096;

type Salted = [u8; 32];

/// Password, salt, rounds.
type Salting = (String, Vec<u8>, u32);

static SALTED: LazyLock<Mutex<HashMap<Salting, Salted>>> = LazyLock::new(Mutex::default);

/// A conversation whose first message has been made.
#[derive(Debug)]
pub(crate) struct Scram {
    nonce: String,
}

/// A conversation that waits for the server's proof.
#[derive(Debug)]
pub(crate) struct Proved {
    /// What the client sends.
    pub(crate) message: String,
    server_signature: hmac::Tag,
}

impl Scram {
    /// Begins, with a nonce of its own.
    pub(crate) fn begin() -> Self {
        let mut nonce = [0; 18];
        rand::fill(&mut nonce).expect("the system's random source does not fail once it is seeded");
        Self {
            nonce: STANDARD.encode(nonce),
        }
    }

    /// The first message: no channel binding, since not every proxy offers it and all are to do the same work.
    pub(crate) fn first(&self) -> String {
        format!("n,,n=,r={}", self.nonce)
    }

    /// Answers the server's challenge.
    ///
    /// # Errors
    /// The challenge is none.
    pub(crate) fn answer(self, challenge: &str, password: &str) -> Result<Proved, Failure> {
        let wrong = || Failure::Unexpected("a SCRAM challenge that is none".into());
        let field = |key| {
            challenge
                .split(',')
                .find_map(|field| field.strip_prefix(key))
                .ok_or_else(wrong)
        };
        let nonce = field("r=")?;
        let salt = STANDARD.decode(field("s=")?).map_err(|_| wrong())?;
        let rounds = field("i=")?.parse::<u32>().map_err(|_| wrong())?;
        if !nonce.starts_with(&self.nonce) {
            return Err(wrong());
        }
        let salted = salted(password, &salt, rounds).ok_or_else(wrong)?;
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("n=,r={},{challenge},{without_proof}", self.nonce);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let signature = sign(stored_key.as_ref(), said.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = sign(&salted, b"Server Key");
        Ok(Proved {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)),
            server_signature: sign(server_key.as_ref(), said.as_bytes()),
        })
    }
}

impl Proved {
    /// Checks that the server knows the verifier.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check(&self, last: &str) -> Result<(), Failure> {
        let theirs = last
            .strip_prefix("v=")
            .and_then(|text| STANDARD.decode(text).ok())
            .unwrap_or_default();
        constant_time::verify_slices_are_equal(&theirs, self.server_signature.as_ref())
            .map_err(|_| Failure::Unexpected("a server that does not know the verifier".into()))
    }
}

/// What a server keeps of a password.
pub(crate) fn verifier(password: &str) -> String {
    let mut salt = [0; 16];
    rand::fill(&mut salt).expect("the system's random source does not fail once it is seeded");
    let salted = salted(password, &salt, ROUNDS).expect("the rounds are not zero");
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = sign(&salted, b"Server Key");
    format!(
        "{MECHANISM}${ROUNDS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key)
    )
}

fn salted(password: &str, salt: &[u8], rounds: u32) -> Option<Salted> {
    let rounds = NonZeroU32::new(rounds)?;
    let key = (password.to_owned(), salt.to_vec(), rounds.get());
    let known = SALTED.lock().expect("nobody panics with it").get(&key).copied();
    if known.is_some() {
        return known;
    }
    let mut salted = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
    SALTED.lock().expect("nobody panics with it").insert(key, salted);
    Some(salted)
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_rfc_7677_does_but_for_the_name() {
        // The example of RFC 7677 has a user name; Postgres' clients send none, so the proof is another.
        let scram = Scram {
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        };
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proved = scram.answer(challenge, "pencil").unwrap();
        assert!(
            proved
                .message
                .starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=")
        );
        assert!(proved.check("v=AAAA").is_err());
    }

    #[test]
    fn a_challenge_for_somebody_else_is_refused() {
        let scram = Scram::begin();
        assert!(
            scram
                .answer("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "pencil")
                .is_err()
        );
    }
}
