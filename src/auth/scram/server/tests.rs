//! The end towards clients: exchanges as RFC 7677 has them, and everything that Postgres refuses.

use proptest::prelude::*;

use super::*;
use crate::auth::scram::ScramClient;
use crate::auth::secrets::{Credential, verifier_for};
use crate::ids::{Secret, Verifier};
use crate::store::Store;

const HASH: &[u8] = &[0xab; 32];

fn verifier() -> ScramVerifier {
    verifier_for(&Secret::new("pencil"), 2)
}

fn against(verifier: &ScramVerifier) -> Against {
    Against::known(verifier.clone())
}

fn mock_secret() -> MockSecret {
    let dir = tempfile::tempdir().unwrap();
    Store::open(&dir.path().join("state")).unwrap().mock_secret()
}

/// The example of RFC 7677, section 3.
mod rfc {
    pub(super) const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub(super) const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    pub(super) const CHALLENGE: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub(super) const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub(super) const SIGNATURE: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    pub(super) const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
}

#[test]
fn the_example_of_rfc_7677_is_believed() {
    let Ok(Verifier::Scram(verifier)) = Verifier::parse(rfc::VERIFIER) else {
        panic!("not a verifier")
    };
    let server = ScramServer::new(against(&verifier), None);
    let (stage, challenge) = server
        .challenge_with(b"SCRAM-SHA-256", rfc::FIRST, rfc::NONCE)
        .unwrap();
    assert_eq!(challenge, rfc::CHALLENGE);
    let proved = stage.check(rfc::FINAL).unwrap();
    assert_eq!(proved.server_final, rfc::SIGNATURE);
    assert_eq!(proved.key.stored_key(), verifier.stored_key);
}

/// Our own client against a server, with the messages changed on the way.
fn exchange(
    server: ScramServer,
    mut client: (ScramClient, Vec<u8>),
    change: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Result<Proved, ScramError> {
    let mechanism = client.0.mechanism().as_bytes();
    let (stage, challenge) = server.challenge(mechanism, &client.1)?;
    client.1 = client.0.answer(&challenge).map_err(|_| ScramError::Nonce)?.1;
    stage.check(&change(client.1))
}

fn client_with(password: &str, end_point: Option<&[u8]>) -> (ScramClient, Vec<u8>) {
    let offered: &[u8] = match end_point {
        Some(_) => b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
        None => b"SCRAM-SHA-256\0\0",
    };
    let credential = Credential::Password(Secret::new(password));
    let client = ScramClient::begin(offered, end_point, &credential).unwrap();
    let first = client.client_first();
    (client, first)
}

fn same(message: Vec<u8>) -> Vec<u8> {
    message
}

#[test]
fn a_right_password_reveals_the_client_key_with_and_without_channel_binding() {
    for end_point in [None, Some(HASH)] {
        let verifier = verifier();
        let server = ScramServer::new(against(&verifier), end_point);
        let proved = exchange(server, client_with("pencil", end_point), same).unwrap();
        assert_eq!(proved.key.stored_key(), verifier.stored_key);
        assert_eq!(proved.verifier, verifier);
    }
}

#[test]
fn a_wrong_password_is_a_wrong_proof() {
    let server = ScramServer::new(against(&verifier()), Some(HASH));
    let found = exchange(server, client_with("pencils", Some(HASH)), same);
    assert_eq!(found.err(), Some(ScramError::WrongProof));
}

#[test]
fn plus_is_offered_first_and_only_where_the_certificate_has_a_hash() {
    let offered = |end_point| ScramServer::new(against(&verifier()), end_point).mechanisms();
    assert_eq!(offered(Some(HASH)), ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    assert_eq!(offered(None), ["SCRAM-SHA-256"]);
}

#[test]
fn a_client_that_is_bound_to_another_certificate_is_refused_before_its_proof() {
    let server = ScramServer::new(against(&verifier()), Some(HASH));
    let found = exchange(server, client_with("pencil", Some(&[0xac; 32])), same);
    assert_eq!(found.err(), Some(ScramError::BindingOther));
}

/// What the server says to a first message, without a proof.
fn first(end_point: Option<&[u8]>, mechanism: &str, message: &str) -> Result<String, ScramError> {
    let server = ScramServer::new(against(&verifier()), end_point);
    let (_, challenge) = server.challenge(mechanism.as_bytes(), message.as_bytes())?;
    Ok(String::from_utf8(challenge).unwrap())
}

#[test]
fn mechanism_and_gs2_flag_must_agree() {
    let malformed = |found: Result<String, ScramError>| matches!(found, Err(ScramError::Malformed(_)));
    let plus = "SCRAM-SHA-256-PLUS";
    assert!(malformed(first(Some(HASH), plus, "n,,n=,r=abc")));
    assert!(malformed(first(Some(HASH), plus, "y,,n=,r=abc")));
    assert!(malformed(first(
        Some(HASH),
        "SCRAM-SHA-256",
        "p=tls-server-end-point,,n=,r=abc"
    )));
    assert_eq!(
        first(Some(HASH), "SCRAM-SHA-256", "y,,n=,r=abc"),
        Err(ScramError::BindingRemoved)
    );
    assert_eq!(
        first(Some(HASH), plus, "p=tls-unique,,n=,r=abc"),
        Err(ScramError::BindingType)
    );
    assert!(first(Some(HASH), "SCRAM-SHA-256", "n,,n=,r=abc").is_ok());
    assert!(first(None, "SCRAM-SHA-256", "y,,n=,r=abc").is_ok());
}

#[test]
fn mechanisms_that_were_not_offered_are_refused() {
    let bound = "p=tls-server-end-point,,n=,r=abc";
    assert_eq!(
        first(None, "SCRAM-SHA-256-PLUS", bound),
        Err(ScramError::Mechanism)
    );
    assert_eq!(
        first(None, "SCRAM-SHA-1", "n,,n=,r=abc"),
        Err(ScramError::Mechanism)
    );
    assert_eq!(first(None, "", "n,,n=,r=abc"), Err(ScramError::Mechanism));
}

#[test]
fn first_messages_are_read_as_postgres_reads_them() {
    let plain = |message: &str| first(None, "SCRAM-SHA-256", message);
    assert!(plain("n,,n=somebody else,r=abc").unwrap().starts_with("r=abc"));
    assert!(plain("n,,n=,r=abc,x=ignored,y=").is_ok());
    assert_eq!(
        plain("n,a=admin,n=,r=abc"),
        Err(ScramError::AuthorizationIdentity)
    );
    assert_eq!(plain("n,,m=must,n=,r=abc"), Err(ScramError::Extension));
    for wrong in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=,r",
        "n,,n=,r=",
        "n,,n=,r=a\u{7f}",
        "n,,n=,r=ä",
        "n,,r=abc,n=",
        "n,,n=,r=abc,",
        "n,,n=,r=abc\0",
        "n,,n=,r=abc,1=x",
        "q,,n=,r=abc",
        "n;,n=,r=abc",
        "p,,n=,r=abc",
    ] {
        assert!(matches!(plain(wrong), Err(ScramError::Malformed(_))), "{wrong:?}");
    }
    let long = format!("n,,n=,r={}", "a".repeat(5000));
    assert_eq!(
        plain(&long),
        Err(ScramError::Malformed("The message is too long."))
    );
}

/// What the server says to the last message of a right exchange after a change to it.
fn changed(end_point: Option<&[u8]>, change: impl Fn(String) -> String) -> ScramError {
    let server = ScramServer::new(against(&verifier()), end_point);
    let change = |message| change(String::from_utf8(message).unwrap()).into_bytes();
    exchange(server, client_with("pencil", end_point), change)
        .err()
        .unwrap()
}

#[test]
fn tampered_last_messages_are_refused() {
    let error = changed(None, |message| message.replace("c=biws", "c=eSws"));
    assert_eq!(error, ScramError::BindingAttribute);
    let error = changed(Some(HASH), |message| message.replacen("c=", "c=biws,c=", 1));
    assert_eq!(error, ScramError::BindingOther);
    let error = changed(None, |message| message.replace("r=", "r=x"));
    assert_eq!(error, ScramError::Nonce);
    let error = changed(None, |message| message.replace(",p=", ",x=inserted,p="));
    assert_eq!(error, ScramError::WrongProof);
    let error = changed(None, |message| message.replace(",p=", ",p=AAAA"));
    assert_eq!(
        error,
        ScramError::Malformed("Malformed proof in client-final-message.")
    );
    let error = changed(None, |message| message + ",x=behind");
    assert_eq!(
        error,
        ScramError::Malformed("Garbage found at the end of client-final-message.")
    );
    let error = changed(None, |message| message.split(",p=").next().unwrap().to_owned());
    assert!(matches!(error, ScramError::Malformed(_)));
}

#[test]
fn a_name_without_a_verifier_has_one_salt_and_no_proof() {
    let secret = mock_secret();
    let mock = |endpoint, role: &[u8]| Against::mock(&secret, endpoint, role, 4096);
    let salt = |endpoint, role: &[u8]| mock(endpoint, role).verifier.salt.clone();
    assert_eq!(salt("demo", b"app"), salt("demo", b"app"));
    assert_eq!(salt("demo", b"app").len(), 16);
    assert_ne!(salt("demo", b"app"), salt("demo", b"app2"));
    assert_ne!(salt("demo", b"app"), salt("dem", b"oapp"));
    let server = ScramServer::new(mock("demo", b"app"), None);
    let found = exchange(server, client_with("pencil", None), same);
    assert_eq!(found.err(), Some(ScramError::WrongProof));
}

#[test]
fn not_even_the_password_behind_a_mock_verifier_passes() {
    let against = Against {
        verifier: verifier(),
        may_pass: Choice::from(0),
    };
    let server = ScramServer::new(against, None);
    let found = exchange(server, client_with("pencil", None), same);
    assert_eq!(found.err(), Some(ScramError::WrongProof));
}

#[test]
fn an_initial_response_is_confined_to_its_message() {
    let parse = |body: &'static [u8]| InitialResponse::parse(body);
    let found = parse(b"SCRAM-SHA-256\0\0\0\0\x03abc").unwrap();
    assert_eq!(
        (found.mechanism, found.client_first),
        (&b"SCRAM-SHA-256"[..], Some(&b"abc"[..]))
    );
    assert_eq!(parse(b"X\0\xff\xff\xff\xff").unwrap().client_first, None);
    for wrong in [
        &b""[..],
        b"SCRAM-SHA-256",
        b"X\0\0\0",
        b"X\0\0\0\0\x04abc",
        b"X\0\0\0\0\x02abc",
        b"X\0\xff\xff\xff\xffabc",
        b"X\0\xff\xff\xff\xfe",
        b"X\0\x7f\xff\xff\xffabc",
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

/// One edit of a message.
#[derive(Debug, Clone)]
enum Edit {
    Replace(u8),
    Insert(u8),
    Remove,
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, Edit)>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b",=cnrpmae\0A/+".to_vec())];
    let edit = (0..3, byte).prop_map(|(which, byte)| match which {
        0 => Edit::Replace(byte),
        1 => Edit::Insert(byte),
        _ => Edit::Remove,
    });
    prop::collection::vec((any::<prop::sample::Index>(), edit), 1..4)
}

fn edited(mut message: Vec<u8>, edits: &[(prop::sample::Index, Edit)]) -> Vec<u8> {
    for (place, edit) in edits {
        if message.is_empty() {
            return message;
        }
        let at = place.index(message.len());
        match edit {
            Edit::Replace(byte) => message[at] = *byte,
            Edit::Insert(byte) => message.insert(at, *byte),
            Edit::Remove => drop(message.remove(at)),
        }
    }
    message
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_authenticate(
        body in prop::collection::vec(any::<u8>(), 0..200),
        last in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = InitialResponse::parse(&body);
        let server = ScramServer::new(against(&verifier()), Some(HASH));
        let _ = server.challenge(b"SCRAM-SHA-256", &body);
        let server = ScramServer::new(against(&verifier()), None);
        let (stage, _) = server.challenge(b"SCRAM-SHA-256", b"n,,n=,r=abc").unwrap();
        prop_assert!(stage.check(&last).is_err());
    }

    #[test]
    fn an_edited_first_message_never_authenticates(edits in edits(), bound in any::<bool>()) {
        let end_point = bound.then_some(HASH);
        let (client, first) = client_with("pencil", end_point);
        let changed = edited(first.clone(), &edits);
        prop_assume!(changed != first);
        let server = ScramServer::new(against(&verifier()), end_point);
        prop_assert!(exchange(server, (client, changed), same).is_err());
    }

    #[test]
    fn an_edited_last_message_never_authenticates(edits in edits(), bound in any::<bool>()) {
        let end_point = bound.then_some(HASH);
        let server = ScramServer::new(against(&verifier()), end_point);
        let unchanged = std::cell::Cell::new(false);
        let found = exchange(server, client_with("pencil", end_point), |message| {
            let changed = edited(message.clone(), &edits);
            unchanged.set(changed == message);
            changed
        });
        prop_assert_eq!(found.is_ok(), unchanged.get());
    }
}
