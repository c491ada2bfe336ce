//! Keys, verifiers and the arithmetic between them: RFC 5802, RFC 7677 and what Postgres makes of them.
//!
//! Pure functions on bytes; it neither speaks a protocol nor decides whom to believe. Who calls: the rest of
//! `auth`, and `pgwake hash-password`.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use stringprep::tables;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ids::{Md5Verifier, ScramVerifier, Secret};

/// PBKDF2 rounds of a new verifier: Postgres' own default of `scram_iterations`.
pub(crate) const ITERATIONS_DEFAULT: u32 = 4096;

/// Most PBKDF2 rounds that are computed here, for whomever: about half a second of one core.
pub(crate) const ITERATIONS_MAX: u32 = 1_000_000;

/// Length of the salts that Postgres makes, and so of ours.
pub(crate) const SALT_BYTES: usize = 16;

/// The key that proves a password without being it (RFC 5802, section 3): what a client's proof reveals and
/// what logs in to a server that has the same verifier. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClientKey(pub(crate) [u8; 32]);

impl ClientKey {
    /// `SHA256(ClientKey)`, as a verifier has it.
    pub(crate) fn stored_key(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What pgwake logs in to the server with, on behalf of a client that has proved who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Logs in where the server's `rolpassword` is this very verifier.
    ClientKey {
        /// Revealed by the client's proof, or derived from its password.
        key: ClientKey,
        /// What it was proved against.
        verifier: ScramVerifier,
    },
    /// The server password that the configuration names for the role.
    Password(Secret),
    /// The password of a login of pgwake's own, and what the server has for it as far as is known: a server that wants a
    /// proof against something else gets none.
    Own {
        /// As it is configured.
        password: Secret,
        /// As the server told it with its roles.
        verifier: ScramVerifier,
    },
    /// Answers an MD5 challenge of a server whose `rolpassword` is this very verifier.
    Md5(Md5Verifier),
    /// None: the server's own socket lets the user of the operating system in that pgwake runs as.
    Socket,
}

/// A verifier for `password` with a new random salt, as `CREATE ROLE … PASSWORD` would make it. Computes
/// `iterations` rounds of PBKDF2 (0 counts as 1): call it off the runtime.
pub fn verifier_for(password: &Secret, iterations: u32) -> ScramVerifier {
    let mut salt = vec![0; SALT_BYTES];
    fill_random(&mut salt);
    let keys = Keys::derive(password.reveal().as_bytes(), &salt, iterations);
    ScramVerifier {
        iterations: iterations.max(1),
        salt,
        stored_key: keys.client_key.stored_key(),
        server_key: *keys.server_key,
    }
}

/// Both keys of a password (RFC 5802, section 3).
pub(crate) struct Keys {
    pub(crate) client_key: ClientKey,
    pub(crate) server_key: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// `iterations` rounds of PBKDF2, then two HMACs. Slow by design: call it off the runtime.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            salt,
            &prepared(password),
            &mut *salted,
        );
        Self {
            client_key: ClientKey(hmac_sha256(&*salted, &[b"Client Key"])),
            server_key: Zeroizing::new(hmac_sha256(&*salted, &[b"Server Key"])),
        }
    }
}

/// HMAC-SHA-256 over the parts, one after another.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let tag = context.sign();
    tag.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system's random numbers are there");
}

/// The password as Postgres hashes it: SASLprep (RFC 4013) where that works, else the bytes as they are.
///
/// Postgres looks for forbidden characters before it normalizes, `stringprep` after; where that matters the
/// password is left as it is here too. Neither lets a password vanish.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let raw = || Zeroizing::new(password.to_vec());
    let Ok(text) = str::from_utf8(password) else {
        return raw();
    };
    let forbidden =
        |c| tables::unassigned_code_point(c) || tables::change_display_properties_or_deprecated(c);
    if text.chars().any(forbidden) {
        return raw();
    }
    match stringprep::saslprep(text) {
        Ok(text) if !text.is_empty() => Zeroizing::new(text.into_owned().into_bytes()),
        _ => raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Verifier;

    fn parsed(text: &str) -> ScramVerifier {
        match Verifier::parse(text).unwrap() {
            Verifier::Scram(verifier) => verifier,
            Verifier::Md5(_) => panic!("expected SCRAM"),
        }
    }

    fn proves(password: &[u8], verifier: &ScramVerifier) -> bool {
        let keys = Keys::derive(password, &verifier.salt, verifier.iterations);
        keys.client_key.stored_key() == verifier.stored_key && *keys.server_key == verifier.server_key
    }

    /// Each made by PostgreSQL 15 with `CREATE ROLE … PASSWORD` in a UTF-8 database.
    const MADE_BY_POSTGRES: &[(&str, &str)] = &[
        (
            "a\u{340}b",
            "SCRAM-SHA-256$4096:E9zQuZpe1bnnQjvqYtWmXQ==$1n1mtRMdvqf/5PhmfYTiBSquyzfyrfHqDrLAF5/M/NY=:uj98TYh6LrM/z8I6yT//K/N2CbjgjR1cvz7vfmzs9Cw=",
        ),
        (
            "a\u{1F100}b",
            "SCRAM-SHA-256$4096:WcKTxnIDVD2ycrzshCM0lQ==$IRM2Dc4ghhrjg3JKEv0FsRrLIo20jJpCWvro/E+HIf8=:DMjg/8Cy881m72MgGHZh/fDVGftJ/KZQ81z+XiY71qc=",
        ),
        (
            "\u{AD}",
            "SCRAM-SHA-256$4096:3TnN+qUMfH16mpWC5JOBgA==$wR0JWfERCfsUBi7dNZR8drn8jc3i5ljugT8//fEmhZg=:N/6WZwRA8zF0s7WORIpYoM4KvxrA9v/O71gEzMcCpi0=",
        ),
        (
            "a\u{AD}b\u{A0}c\u{2168}",
            "SCRAM-SHA-256$4096:K6jswHtgi1fueOEjChZ4rA==$o1DVKk48tQwJZP4PphG1FudfUNZw8UtXm2W8OSKYdZY=:hXy2oXfMTOIs1xSO8Fy3qW9EMxmsyRFDPzB7YvWzSEk=",
        ),
        (
            "a\tb",
            "SCRAM-SHA-256$4096:9UjFTQVUyjxsgbQcPg868Q==$E356guJHs1Z5SCOQAueCq+eDfuefliwQLG2SScyYpf4=:wFRQaz6gGO854XrzzYBJwqc/7FWmals78Q+qIJPC8Xs=",
        ),
        (
            "\u{628}a",
            "SCRAM-SHA-256$4096:mX5VpCugWqM/6abuiEDgCw==$69m7MDXl/VidDXEAsiiTQqP5CvQ1KBvQgZ6Eie8QDLs=:Sl9Yog7XxFWQERfnUDFD9cPd4N1IXmAvCU5SLKtzXXk=",
        ),
        (
            "a\u{200B}b",
            "SCRAM-SHA-256$4096:Nr+RSKYe3/GigFR5Jr8gqg==$aDgwui90PZMvWgY7JmcQMEvfDqHqQ8Kt/e41lJhN/DI=:D+GbgxQhrAUsF1CM/rLHATU5dHc5GW1DocPCaODCE5U=",
        ),
    ];

    #[test]
    fn passwords_are_prepared_as_postgres_prepares_them() {
        for (password, verifier) in MADE_BY_POSTGRES {
            let verifier = parsed(verifier);
            assert!(proves(password.as_bytes(), &verifier), "{password:?}");
            assert!(!proves(b"ab", &verifier), "{password:?}");
        }
    }

    #[test]
    fn a_password_that_is_not_utf_8_is_taken_as_it_is() {
        assert_eq!(*prepared(b"\xff\xc2\xa0"), b"\xff\xc2\xa0");
    }

    #[test]
    fn new_verifiers_are_proved_by_their_password_alone_and_never_alike() {
        let password = Secret::new("schön geheim");
        let [one, other] = [(); 2].map(|()| verifier_for(&password, 2));
        assert!(proves(password.reveal().as_bytes(), &one));
        assert!(!proves("schon geheim".as_bytes(), &one));
        assert_ne!(one.salt, other.salt);
        assert_eq!(parsed(&one.to_text()), one);
    }

    #[test]
    fn keys_are_never_printed() {
        let credential = Credential::ClientKey {
            key: ClientKey([7; 32]),
            verifier: verifier_for(&Secret::new("x"), 1),
        };
        assert_eq!(format!("{credential:?}"), "ClientKey { key: …, verifier: … }");
    }
}
