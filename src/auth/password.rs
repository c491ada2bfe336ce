//! Passwords as they are: checked where a client sends one over TLS, hashed where a server asks for it.
//!
//! Hashing is slow by design, so it runs beside the runtime and only a few at a time; for checks `line` says whose
//! turn it is. A check costs the rounds of the
//! role's own verifier; for one without rounds, or without a role, it costs those that most roles of the endpoint
//! have. All else about it is the same work. Who calls: `auth` for clients; whoever logs in to a server for the
//! rest.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};
use zeroize::Zeroizing;

use super::{
    line::Turn,
    scram::{ScramClient, ScramClientError, SignatureAwaited},
    secrets::{Credential, ITERATIONS_MAX, Keys, SALT_BYTES},
};
use crate::ids::{Md5Verifier, ScramVerifier};

/// Passwords that are hashed at the same time for logins to servers, in the whole process. Apart from the checks:
/// who has proved who it is does not stand in the line of those who have not.
const ANSWERS_MAX: usize = 2;

static ANSWERS: Semaphore = Semaphore::const_new(ANSWERS_MAX);

/// What a password is checked against.
pub(super) enum Wanted {
    /// A role with a SCRAM verifier of at most [`ITERATIONS_MAX`] rounds; with more, every password is wrong.
    Scram(ScramVerifier),
    /// A role with an MD5 verifier.
    Md5(Md5Verifier),
    /// No role: every password is wrong, after the same work.
    Nothing,
}

/// Checks a password that a client sent in clear. `mock_iterations` is the work where the role's own verifier
/// asks for none. `None`: it is wrong. Cancel safe: hashing that has begun ends by itself and keeps its turn until
/// then.
pub(super) async fn check(
    turn: Turn,
    password: Zeroizing<Vec<u8>>,
    role: &str,
    wanted: Wanted,
    mock_iterations: u32,
) -> Result<Option<Credential>, JoinError> {
    let role = role.to_owned();
    spawn_blocking(move || {
        let _turn = turn;
        check_now(&password, &role, wanted, mock_iterations)
    })
    .await
}

/// [`ScramClient::answer`], with the hashing of a password beside the runtime. Waits for a turn to hash: the
/// caller bounds it. Cancel safe: hashing that has begun ends by itself.
///
/// # Errors
/// As [`ScramClient::answer`].
pub(crate) async fn answer(
    client: ScramClient,
    server_first: Vec<u8>,
) -> Result<(SignatureAwaited, Vec<u8>), ScramClientError> {
    if !client.hashes() {
        return client.answer(&server_first);
    }
    let turn = ANSWERS.acquire().await.expect("the semaphore is never closed");
    let hashed = spawn_blocking(move || {
        let _turn = turn;
        client.answer(&server_first)
    });
    hashed.await.unwrap_or(Err(ScramClientError::NotHashed))
}

/// The answer to a server's AuthenticationMD5Password: `md5` and the digits of md5(md5(password ‖ role) ‖ salt)
/// (<https://www.postgresql.org/docs/current/protocol-flow.html>). `None`: a ClientKey cannot answer it.
pub(crate) fn md5_answer(credential: &Credential, role: &str, salt: [u8; 4]) -> Option<Zeroizing<String>> {
    let stored = match credential {
        Credential::Md5(verifier) => verifier.clone(),
        Credential::Password(password) => md5_verifier(password.reveal().as_bytes(), role),
        // A server that had a verifier for SCRAM asks for that.
        Credential::Own { .. } | Credential::ClientKey { .. } | Credential::Socket => return None,
    };
    let digits = md5_hex(&[&stored.hex, &salt]);
    let digits = str::from_utf8(&*digits).expect("hexadecimal digits are ASCII");
    Some(Zeroizing::new(format!("md5{digits}")))
}

fn check_now(password: &[u8], role: &str, wanted: Wanted, mock_iterations: u32) -> Option<Credential> {
    let mock_salt = [0; SALT_BYTES];
    let (salt, iterations) = match &wanted {
        Wanted::Scram(verifier) => (&verifier.salt[..], verifier.iterations),
        Wanted::Md5(_) | Wanted::Nothing => (&mock_salt[..], mock_iterations),
    };
    let key = Keys::derive(password, salt, iterations.min(ITERATIONS_MAX)).client_key;
    let md5 = md5_verifier(password, role);
    match wanted {
        Wanted::Scram(verifier) => {
            let right = key.stored_key().ct_eq(&verifier.stored_key);
            bool::from(right).then_some(Credential::ClientKey { key, verifier })
        }
        Wanted::Md5(verifier) => {
            let right = md5.hex.ct_eq(&verifier.hex);
            bool::from(right).then_some(Credential::Md5(verifier))
        }
        Wanted::Nothing => None,
    }
}

fn md5_verifier(password: &[u8], role: &str) -> Md5Verifier {
    let hex = *md5_hex(&[password, role.as_bytes()]);
    Md5Verifier { hex }
}

fn md5_hex(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    let mut hex = Zeroizing::new([0; 32]);
    for (digits, byte) in hex.chunks_exact_mut(2).zip(hasher.finalize()) {
        digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::auth::line::Line;
    use crate::auth::secrets::verifier_for;
    use crate::ids::{Secret, Verifier};

    fn md5_of(text: &str) -> Md5Verifier {
        match Verifier::parse(text).unwrap() {
            Verifier::Md5(verifier) => verifier,
            Verifier::Scram(_) => panic!("expected MD5"),
        }
    }

    /// `md5` of "secret" and "app", by md5sum.
    const MD5_OF_SECRET_APP: &str = "md56a422f785c9e20873908ce25d1736ae2";

    async fn checked(password: &[u8], role: &str, wanted: Wanted) -> Option<Credential> {
        let password = Zeroizing::new(password.to_vec());
        let turn = Line::default().turn(None).await.unwrap();
        check(turn, password, role, wanted, 2).await.unwrap()
    }

    #[tokio::test]
    async fn a_right_password_gives_the_key_that_the_verifier_was_made_with() {
        let verifier = verifier_for(&Secret::new("secret"), 2);
        let wanted = || Wanted::Scram(verifier.clone());
        let found = checked(b"secret", "app", wanted()).await;
        let Some(Credential::ClientKey { key, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(key.stored_key(), verifier.stored_key);
        assert!(checked(b"Secret", "app", wanted()).await.is_none());
        assert!(checked(b"", "app", wanted()).await.is_none());
    }

    #[tokio::test]
    async fn an_md5_verifier_belongs_to_one_password_and_one_role() {
        let wanted = || Wanted::Md5(md5_of(MD5_OF_SECRET_APP));
        let found = checked(b"secret", "app", wanted()).await;
        assert!(matches!(found, Some(Credential::Md5(_))));
        assert!(checked(b"secret", "other", wanted()).await.is_none());
        assert!(
            checked(b"secre", "tapp", wanted()).await.is_some(),
            "that is how MD5 verifiers are"
        );
        assert!(checked(b"wrong", "app", wanted()).await.is_none());
    }

    #[tokio::test]
    async fn without_a_role_every_password_is_wrong() {
        assert!(checked(b"secret", "app", Wanted::Nothing).await.is_none());
    }

    #[tokio::test]
    async fn nobody_is_hashed_a_verifier_of_absurd_cost() {
        let mut verifier = verifier_for(&Secret::new("secret"), 1);
        verifier.iterations = ITERATIONS_MAX + 1;
        assert!(checked(b"secret", "app", Wanted::Scram(verifier)).await.is_none());
    }

    /// A server's challenge to `client`, to be answered from a password.
    fn challenge(client: &ScramClient) -> Vec<u8> {
        let first = String::from_utf8(client.client_first()).unwrap();
        let nonce = first.split("r=").nth(1).unwrap();
        format!("r={nonce}abc,s=AAAA,i=1").into_bytes()
    }

    /// Strangers' checks and logins to servers had one line together: who kept it full kept all others waiting.
    #[tokio::test]
    async fn checks_of_strangers_keep_no_login_to_a_server_waiting() {
        let line = Line::default();
        let mut turns = Vec::new();
        while let Some(turn) = line.turn(None).now_or_never() {
            turns.push(turn.unwrap());
        }
        let credential = Credential::Password(Secret::new("secret"));
        let client = ScramClient::begin(b"SCRAM-SHA-256\0\0", None, &credential).unwrap();
        let challenge = challenge(&client);
        let answered = tokio::time::timeout(std::time::Duration::from_secs(30), answer(client, challenge));
        assert!(answered.await.expect("it waits for the strangers").is_ok());
    }

    #[test]
    fn md5_challenges_are_answered_from_password_or_verifier_alike() {
        let salt = *b"\x01\x02\x03\x04";
        let by_password = md5_answer(&Credential::Password(Secret::new("secret")), "app", salt);
        let by_verifier = md5_answer(&Credential::Md5(md5_of(MD5_OF_SECRET_APP)), "app", salt);
        assert_eq!(by_password, by_verifier);
        assert_eq!(
            by_password.unwrap().as_str(),
            "md5911f527656472583a006e7727877b33e"
        );
    }
}
