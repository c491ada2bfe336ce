//! The end towards servers: exchanges with honest servers and with others.

use proptest::prelude::*;

use super::*;
use crate::auth::scram::{Against, ScramServer};
use crate::auth::secrets::{ClientKey, verifier_for};
use crate::ids::{Md5Verifier, ScramVerifier, Secret};

const HASH: &[u8] = &[7; 48];
const PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";
const BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text))
}

fn begin(credential: &Credential) -> ScramClient {
    ScramClient::begin(PLAIN, None, credential).unwrap()
}

/// The example of RFC 7677, section 3, whose client says its name.
fn rfc_client() -> ScramClient {
    let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
    ScramClient {
        bare: format!("n=user,r={nonce}"),
        nonce,
        ..begin(&password("pencil"))
    }
}

const RFC_CHALLENGE: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

#[test]
fn the_example_of_rfc_7677_is_proved() {
    let (stage, answer) = rfc_client().answer(RFC_CHALLENGE).unwrap();
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    stage
        .finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        .unwrap();
}

/// Logs in to a server that has `verifier`; the server's opinion, and ours of it.
fn log_in(credential: &Credential, verifier: &ScramVerifier) -> Result<ClientKey, ScramClientError> {
    let client = begin(credential);
    let server = ScramServer::new(Against::known(verifier.clone()), None);
    let (awaited, challenge) = server
        .challenge(client.mechanism().as_bytes(), &client.client_first())
        .unwrap();
    let (stage, answer) = client.answer(&challenge)?;
    let proved = awaited.check(&answer).map_err(|_| ScramClientError::Refused)?;
    stage.finish(&proved.server_final)?;
    Ok(proved.key)
}

#[test]
fn the_key_that_a_client_revealed_logs_in_for_it() {
    let verifier = verifier_for(&Secret::new("secret"), 2);
    let key = log_in(&password("secret"), &verifier).unwrap();
    let credential = Credential::ClientKey {
        key,
        verifier: verifier.clone(),
    };
    log_in(&credential, &verifier).unwrap();
}

#[test]
fn no_proof_leaves_for_a_server_with_another_verifier() {
    let ours = verifier_for(&Secret::new("secret"), 2);
    let credential = Credential::ClientKey {
        key: log_in(&password("secret"), &ours).unwrap(),
        verifier: ours.clone(),
    };
    let other_salt = verifier_for(&Secret::new("secret"), 2);
    let mut other_rounds = ours.clone();
    other_rounds.iterations = 3;
    for theirs in [other_salt, other_rounds] {
        let found = log_in(&credential, &theirs);
        assert_eq!(found.err(), Some(ScramClientError::VerifierMismatch));
    }
}

#[test]
fn a_server_that_does_not_have_the_verifier_is_found_out() {
    let (stage, _) = rfc_client().answer(RFC_CHALLENGE).unwrap();
    let wrong = format!("v={}", BASE64_STANDARD.encode([0; 32]));
    assert_eq!(
        stage.finish(wrong.as_bytes()),
        Err(ScramClientError::WrongSignature)
    );
    let finish = |message: &[u8]| rfc_client().answer(RFC_CHALLENGE).unwrap().0.finish(message);
    assert_eq!(finish(b"e=other-error"), Err(ScramClientError::Refused));
    for wrong in [
        &b""[..],
        b"v=",
        b"v=AAAA",
        b"x=1",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=1",
    ] {
        assert!(
            matches!(finish(wrong), Err(ScramClientError::Malformed(_))),
            "{wrong:?}"
        );
    }
}

#[test]
fn channel_binding_is_used_where_both_can() {
    let chosen = |offered, end_point| {
        let client = ScramClient::begin(offered, end_point, &password("x")).unwrap();
        let first = String::from_utf8(client.client_first()).unwrap();
        (client.mechanism(), first.split("n=,").next().unwrap().to_owned())
    };
    assert_eq!(
        chosen(BOTH, Some(HASH)),
        ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,".to_owned())
    );
    assert_eq!(chosen(PLAIN, Some(HASH)), ("SCRAM-SHA-256", "y,,".to_owned()));
    assert_eq!(chosen(BOTH, None), ("SCRAM-SHA-256", "n,,".to_owned()));
}

#[test]
fn offers_that_cannot_be_met_are_errors() {
    let begin = |offered: &[u8]| ScramClient::begin(offered, None, &password("x")).err();
    assert_eq!(
        begin(b"SCRAM-SHA-1\0OAUTHBEARER\0\0"),
        Some(ScramClientError::NotOffered)
    );
    assert_eq!(
        begin(b"SCRAM-SHA-256-PLUS\0\0"),
        Some(ScramClientError::NotOffered)
    );
    for wrong in [
        &b""[..],
        b"\0",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"\0\0SCRAM-SHA-256\0\0",
    ] {
        assert!(
            matches!(begin(wrong), Some(ScramClientError::Malformed(_))),
            "{wrong:?}"
        );
    }
    let long = [b"X\0".repeat(600), PLAIN.to_vec()].concat();
    assert!(matches!(begin(&long), Some(ScramClientError::Malformed(_))));
    let md5 = Credential::Md5(Md5Verifier { hex: [b'0'; 32] });
    assert_eq!(
        ScramClient::begin(PLAIN, None, &md5).err(),
        Some(ScramClientError::Md5Only)
    );
}

#[test]
fn challenges_are_capped_and_read_strictly() {
    let answer = |challenge: &str| {
        let client = begin(&password("x"));
        let challenge = challenge.replace('N', &client.nonce);
        client.answer(challenge.as_bytes()).err()
    };
    assert_eq!(answer("r=Nabc,s=AAAA,i=1"), None);
    assert_eq!(answer("r=Nabc,s=AAAA,i=1,x=ignored"), None);
    assert_eq!(
        answer("r=Nabc,s=AAAA,i=1000001"),
        Some(ScramClientError::Iterations(1_000_001))
    );
    for wrong in [
        "",
        "r=N,s=AAAA,i=1",
        "r=other,s=AAAA,i=1",
        "r=Nä,s=AAAA,i=1",
        "r=Nabc,s=,i=1",
        "r=Nabc,s=A,i=1",
        "r=Nabc,s=AAAA,i=0",
        "r=Nabc,s=AAAA,i=-1",
        "r=Nabc,s=AAAA,i=99999999999",
        "r=Nabc,i=1,s=AAAA",
        "m=must,r=Nabc,s=AAAA,i=1",
        "r=Nabc,s=AAAA,i=1,",
    ] {
        assert!(
            matches!(answer(wrong), Some(ScramClientError::Malformed(_))),
            "{wrong:?}"
        );
    }
    let long = format!("r=Nabc,s={},i=1", "AAAA".repeat(2000));
    assert!(matches!(answer(&long), Some(ScramClientError::Malformed(_))));
}

fn own(text: &str, verifier: &ScramVerifier) -> Credential {
    Credential::Own {
        password: Secret::new(text),
        verifier: verifier.clone(),
    }
}

#[test]
fn a_server_that_wants_a_proof_of_the_same_password_against_another_salt_gets_none() {
    let [known, other] = [(); 2].map(|()| verifier_for(&Secret::new("pencil"), 16));
    assert!(log_in(&own("pencil", &known), &known).is_ok());
    assert_eq!(
        log_in(&own("pencil", &known), &other).err(),
        Some(ScramClientError::VerifierMismatch)
    );
    let mut rounds = known.clone();
    rounds.iterations = 1;
    assert_eq!(
        log_in(&own("pencil", &known), &rounds).err(),
        Some(ScramClientError::VerifierMismatch)
    );
}

#[test]
fn a_password_that_was_changed_in_the_configuration_is_proved_against_what_the_server_has_now() {
    let known = verifier_for(&Secret::new("pencil"), 16);
    let changed = verifier_for(&Secret::new("crayon"), 16);
    assert!(log_in(&own("crayon", &known), &changed).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_bytes_from_a_server_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ScramClient::begin(&bytes, Some(HASH), &password("x"));
        prop_assert!(begin(&password("x")).answer(&bytes).is_err());
        let stage = SignatureAwaited { signature: [3; 32] };
        prop_assert!(stage.finish(&bytes).is_err());
    }
}
