//! Whole logins over a stream in memory: what comes of them, and what a stranger can see of it.

use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::{proofs::pretended, scram::ScramClient, token::TokenBook, *};
use crate::config::{LoginMethod, Role, RolesFrom};
use crate::error::{ClientError, SqlState};
use crate::ids::{EndpointName, Secret, Verifier};
use crate::store::Store;

mod drivers;

const HASH: &[u8] = &[0xcd; 32];

/// An endpoint without roles; its server is not reached here.
pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        name: EndpointName::parse("demo-main").unwrap(),
        ..Endpoint::without_compute("demo")
    }
}

/// The text of some SCRAM verifier.
pub(super) fn scram_text(iterations: u32) -> String {
    let key = "A".repeat(43);
    format!("SCRAM-SHA-256${iterations}:AAAAAAAAAAAAAAAAAAAAAA==${key}=:{key}=")
}

/// Roles from Postgres, read as `postgres`.
fn from_postgres() -> RolesFrom {
    RolesFrom::Postgres(crate::config::RoleReading {
        role: "postgres".to_owned(),
        password: None,
        database: "postgres".to_owned(),
    })
}

struct NeverAwake;

impl RoleSource for NeverAwake {
    fn read(&self, _: &EndpointName) -> BoxFuture<'_, Option<Result<Told, String>>> {
        Box::pin(async { None })
    }
}

fn proofs(book: RoleBook) -> Proofs {
    pretending(LoginMethod::Auto, Arc::new(book))
}

fn pretending(login: LoginMethod, book: Arc<RoleBook>) -> Proofs {
    Proofs::of(Arc::new(pretended(login)), TokenBook::of([].into_iter()), book)
}

fn role(verifier: Verifier) -> Role {
    Role {
        verifier: Some(verifier),
        server_password: None,
        subjects: Vec::new(),
        certificate_names: Vec::new(),
    }
}

/// What it is checked against with its folder, and an endpoint with the role `app` (password "secret").
struct House {
    proofs: Proofs,
    endpoint: Arc<Endpoint>,
    _dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let verifier = Verifier::Scram(verifier_for(&Secret::new("secret"), 4096));
        Self::with(role(verifier))
    }

    fn with_md5() -> Self {
        // md5sum of "secretapp".
        let verifier = Verifier::parse("md56a422f785c9e20873908ce25d1736ae2").unwrap();
        Self::with(role(verifier))
    }

    fn with(role: Role) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("state")).unwrap());
        let book = RoleBook::load(store, Arc::new(NeverAwake), []).unwrap();
        let mut endpoint = endpoint();
        endpoint.roles.insert("app".to_owned(), role);
        Self {
            proofs: proofs(book),
            endpoint: Arc::new(endpoint),
            _dir: dir,
        }
    }

    fn claim<'c>(&'c self, role: &'c str) -> Claim<'c> {
        Claim {
            endpoint: Some(&self.endpoint),
            known_as: "demo-main",
            role: role.as_bytes(),
            end_point: Some(HASH),
            certificates: &[],
            over_tls: TlsUse::Tls,
        }
    }
}

/// A stream that notes every write.
struct Noting<'n, S> {
    stream: S,
    writes: &'n Mutex<Vec<Vec<u8>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.lock().unwrap().push(buf.to_vec());
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [b"p", &length[..], body].concat()
}

fn initial_response(mechanism: &str, client_first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(client_first.len()).unwrap().to_be_bytes();
    message(&[mechanism.as_bytes(), b"\0", &length, client_first].concat())
}

/// The body of the next Authentication message, behind its number.
async fn authentication(stream: &mut DuplexStream, number: u32) -> Option<Vec<u8>> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.ok()?;
    assert_eq!(header[0], b'R');
    assert_eq!(header[5..], number.to_be_bytes());
    let length = u32::from_be_bytes(header[1..5].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap() - 8];
    stream.read_exact(&mut body).await.unwrap();
    Some(body)
}

/// Our own client, up to AuthenticationOk; `None` where the server ends it before.
async fn log_in(mut stream: DuplexStream, password: &str, end_point: Option<&[u8]>) -> Option<()> {
    let offered = authentication(&mut stream, 10).await?;
    let credential = Credential::Password(Secret::new(password));
    let client = ScramClient::begin(&offered, end_point, &credential).unwrap();
    let initial = initial_response(client.mechanism(), &client.client_first());
    stream.write_all(&initial).await.unwrap();
    let challenge = authentication(&mut stream, 11).await?;
    let (stage, answer) = password::answer(client, challenge).await.unwrap();
    stream.write_all(&message(&answer)).await.unwrap();
    stage.finish(&authentication(&mut stream, 12).await?).unwrap();
    authentication(&mut stream, 0).await.map(|_| ())
}

/// A login by our own client: what came of it, and what pgwake wrote.
async fn outcome(
    house: &House,
    claim: Claim<'_>,
    password: &str,
) -> (Result<Authenticated, AuthError>, Vec<Vec<u8>>) {
    let writes = Mutex::new(Vec::new());
    let (client, stream) = duplex(1 << 16);
    let server = async {
        let mut stream = Noting {
            stream,
            writes: &writes,
        };
        let found = authenticate(&mut stream, claim, &house.proofs).await;
        if let Ok(proved) = &found {
            stream.write_all(&proved.welcome).await.unwrap();
        }
        found
    };
    let (found, told) = tokio::join!(server, log_in(client, password, claim.end_point));
    assert_eq!(found.is_ok(), told.is_some());
    (found, writes.into_inner().unwrap())
}

/// What comes of bytes that are sent whatever pgwake says; the stream is closed behind them.
async fn outcome_of_bytes(house: &House, claim: Claim<'_>, bytes: &[u8]) -> Result<Authenticated, AuthError> {
    let (mut client, mut stream) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    authenticate(&mut stream, claim, &house.proofs).await
}

#[tokio::test]
async fn a_client_that_proves_who_it_is_earns_a_credential() {
    let house = House::new();
    for end_point in [Some(HASH), None] {
        let claim = Claim {
            end_point,
            ..house.claim("app")
        };
        let found = outcome(&house, claim, "secret").await.0.unwrap();
        assert_eq!(
            (found.role.as_str(), found.endpoint.name.as_str()),
            ("app", "demo-main")
        );
        let Credential::ClientKey { key, verifier } = found.credential else {
            panic!("another credential")
        };
        assert_eq!(key.stored_key(), verifier.stored_key);
        assert_eq!(
            house.endpoint.roles["app"].verifier,
            Some(Verifier::Scram(verifier))
        );
    }
}

#[tokio::test]
async fn a_role_with_a_server_password_logs_in_with_that() {
    let house = House::with(Role {
        server_password: Some(Secret::new("other")),
        ..role(Verifier::Scram(verifier_for(&Secret::new("secret"), 2)))
    });
    let found = outcome(&house, house.claim("app"), "secret").await.0.unwrap();
    assert!(matches!(found.credential, Credential::Password(password) if password.reveal() == "other"));
}

#[tokio::test]
async fn the_last_proof_and_the_welcome_arrive_in_one_write() {
    let house = House::new();
    let (_, writes) = outcome(&house, house.claim("app"), "secret").await;
    let last = writes.last().unwrap();
    assert_eq!(writes.len(), 3);
    assert_eq!(last[5..9], 12_u32.to_be_bytes());
    assert!(last.ends_with(b"R\0\0\0\x08\0\0\0\0"));
}

#[tokio::test]
async fn what_does_not_exist_looks_like_a_wrong_password() {
    let house = House::new();
    let nowhere = Claim {
        endpoint: None,
        known_as: "nowhere",
        ..house.claim("app")
    };
    let mut shapes = Vec::new();
    for (claim, password, refusal) in [
        (house.claim("app"), "wrong", Refusal::WrongPassword),
        (house.claim("ape"), "secret", Refusal::UnknownRole),
        (nowhere, "secret", Refusal::UnknownEndpoint),
    ] {
        let (found, writes) = outcome(&house, claim, password).await;
        let error = found.unwrap_err();
        assert!(matches!(error, AuthError::Refused { refusal: found, .. } if found == refusal));
        assert_eq!(error.sqlstate(), SqlState::INVALID_PASSWORD);
        let text = error.message().replace("ape", "app");
        assert_eq!(text, "password authentication failed for user \"app\"");
        let fixed = |write: &Vec<u8>| {
            (
                write.len(),
                write[..9].to_vec(),
                write[write.len() - 7..].to_vec(),
            )
        };
        shapes.push((
            writes.iter().map(fixed).collect::<Vec<_>>(),
            error.detail(),
            error.hint(),
        ));
    }
    assert!(shapes[0].0.len() == 2, "{shapes:?}");
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(shapes[0], shapes[2]);
}

/// The salt that a name is shown.
async fn salt(proofs: &Proofs, claim: Claim<'_>) -> String {
    let (mut client, mut stream) = duplex(1 << 16);
    let sent = initial_response("SCRAM-SHA-256", b"n,,n=,r=abc");
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let _ = authenticate(&mut stream, claim, proofs).await;
    authentication(&mut client, 10).await.unwrap();
    let challenge = String::from_utf8(authentication(&mut client, 11).await.unwrap()).unwrap();
    challenge.split(",s=").nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_name_that_does_not_exist_keeps_its_salt_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let mut salts = Vec::new();
    for said in ["nowhere", "nowhere", "elsewhere"] {
        let store = Arc::new(Store::open(&dir.path().join("state")).unwrap());
        let book = RoleBook::load(store, Arc::new(NeverAwake), []).unwrap();
        let claim = Claim {
            endpoint: None,
            known_as: said,
            ..house.claim("app")
        };
        salts.push(salt(&proofs(book), claim).await);
    }
    assert_eq!(salts[0], salts[1]);
    assert_ne!(salts[0], salts[2]);
}

/// The salt was that of the endpoint's own name where there was one: a branch that existed had another than one that did not,
/// which has its parent's login.
#[tokio::test]
async fn an_unknown_role_has_one_salt_whatever_endpoint_a_name_leads_to() {
    let house = House::new();
    let parent = house.claim("stranger");
    let name = EndpointName::parse_any("demo-main--there").unwrap();
    let branch = Arc::new(Endpoint {
        name,
        ..Endpoint::clone(&house.endpoint)
    });
    let known = salt(&house.proofs, parent).await;
    for endpoint in [Some(&branch), None] {
        assert_eq!(known, salt(&house.proofs, Claim { endpoint, ..parent }).await);
    }
}

#[tokio::test]
async fn nothing_behind_the_last_message_is_read() {
    let house = House::new();
    let (mut client, mut stream) = duplex(1 << 16);
    let claim = Claim {
        endpoint: None,
        ..house.claim("app")
    };
    let first = initial_response("SCRAM-SHA-256", b"n,,n=,r=abc");
    let last = message(b"c=biws,r=abc,p=AAAA");
    client
        .write_all(&[first, last, b"behind".to_vec()].concat())
        .await
        .unwrap();
    authenticate(&mut stream, claim, &house.proofs).await.unwrap_err();
    let mut rest = [0; 6];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"behind");
}

#[tokio::test]
async fn a_client_may_ask_for_an_empty_challenge_first() {
    let house = House::new();
    let (mut client, mut stream) = duplex(1 << 16);
    let empty = message(b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    client.write_all(&empty).await.unwrap();
    client.write_all(&message(b"n,,n=,r=abc")).await.unwrap();
    client.shutdown().await.unwrap();
    let found = authenticate(&mut stream, house.claim("app"), &house.proofs).await;
    assert!(matches!(found, Err(AuthError::Left(_))));
    authentication(&mut client, 10).await.unwrap();
    assert!(authentication(&mut client, 11).await.unwrap().is_empty());
    assert!(
        authentication(&mut client, 11)
            .await
            .unwrap()
            .starts_with(b"r=abc")
    );
}

#[tokio::test]
async fn what_is_no_response_is_a_protocol_violation() {
    let house = House::new();
    for (bytes, expected) in [
        (
            &b"Q\0\0\0\x05\0"[..],
            "expected SASL response, got message type 81",
        ),
        // Its body is not waited for.
        (b"Q\0\0\xff\0", "expected SASL response, got message type 81"),
        (b"p\0\0\0\x03", "invalid message length"),
        (b"p\0\x01\0\0", "invalid message length"),
        (b"p\xff\xff\xff\xff", "invalid message length"),
        (b"p\0\0\0\x04", "malformed SCRAM message"),
        (
            b"p\0\0\0\x0aX\0\xff\xff\xff\xffp\0\0\0\x0fn,,n=,r=abc",
            "client selected an invalid SASL authentication mechanism",
        ),
    ] {
        let error = outcome_of_bytes(&house, house.claim("app"), bytes)
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), SqlState::PROTOCOL_VIOLATION, "{error}");
        assert_eq!(error.message(), expected);
    }
}

#[tokio::test]
async fn channel_binding_that_was_tampered_with_is_told_by_its_own_code() {
    let house = House::new();
    let downgraded = initial_response("SCRAM-SHA-256", b"y,,n=,r=abc");
    let error = outcome_of_bytes(&house, house.claim("app"), &downgraded)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), SqlState("28000"));
    assert!(error.detail().unwrap().contains("does support channel binding"));
}

#[tokio::test]
async fn a_client_that_leaves_is_nobody_to_tell() {
    let house = House::new();
    for bytes in [&b""[..], b"p\0\0", b"p\0\0\x01\0partly", b"p\0\0\xff\xff"] {
        let found = outcome_of_bytes(&house, house.claim("app"), bytes).await;
        assert!(matches!(found, Err(AuthError::Left(_))), "{bytes:?}");
    }
}

#[tokio::test]
async fn an_md5_verifier_makes_the_endpoint_take_passwords_over_tls() {
    let house = House::with_md5();
    let right = message(b"secret\0");
    let found = outcome_of_bytes(&house, house.claim("app"), &right)
        .await
        .unwrap();
    assert!(matches!(found.credential, Credential::Md5(_)));
    for (role, password, expected) in [
        ("app", &b"wrong\0"[..], Refusal::WrongPassword),
        ("app", b"\0", Refusal::WrongPassword),
        ("ape", b"secret\0", Refusal::UnknownRole),
    ] {
        let found = outcome_of_bytes(&house, house.claim(role), &message(password)).await;
        assert!(matches!(found, Err(AuthError::Refused { refusal, .. }) if refusal == expected));
    }
    for wrong in [&b""[..], b"secret", b"se\0cret\0", b"secret\0\0"] {
        let error = outcome_of_bytes(&house, house.claim("app"), &message(wrong))
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), SqlState::PROTOCOL_VIOLATION, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_password_is_not_asked_for_where_others_can_listen() {
    let house = House::with_md5();
    let over = |over_tls| Claim {
        over_tls,
        end_point: None,
        ..house.claim("app")
    };
    let right = message(b"secret\0");
    let error = outcome_of_bytes(&house, over(TlsUse::Plaintext), &right)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), SqlState::REJECTED);
    assert!(error.hint().is_some());
    assert!(
        outcome_of_bytes(&house, over(TlsUse::UnixSocket), &right)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_password_proves_a_scram_verifier_where_passwords_are_configured() {
    let mut house = House::new();
    Arc::get_mut(&mut house.endpoint).unwrap().login = LoginMethod::Password;
    let found = outcome_of_bytes(&house, house.claim("app"), &message(b"secret\0"))
        .await
        .unwrap();
    assert!(matches!(found.credential, Credential::ClientKey { .. }));
}

/// It was logged as a wrong password, whatever the password.
#[tokio::test]
async fn rounds_that_no_password_is_hashed_with_are_told_to_the_operator() {
    let mut verifier = verifier_for(&Secret::new("secret"), 1);
    verifier.iterations = ITERATIONS_MAX + 1;
    let mut house = House::with(role(Verifier::Scram(verifier)));
    Arc::get_mut(&mut house.endpoint).unwrap().login = LoginMethod::Password;
    let found = outcome_of_bytes(&house, house.claim("app"), &message(b"secret\0")).await;
    let error = found.unwrap_err();
    assert!(
        error.to_string().contains("more than 1,000,000 rounds"),
        "{error}"
    );
    assert_eq!(error.sqlstate(), SqlState::INVALID_PASSWORD);
}

#[tokio::test]
async fn an_endpoint_that_does_not_exist_pretends_what_the_defaults_say() {
    let house = House::new();
    let House {
        proofs,
        endpoint,
        _dir,
    } = house;
    let house = House {
        proofs: pretending(LoginMethod::Password, Arc::clone(&proofs.roles)),
        endpoint,
        _dir,
    };
    let nowhere = Claim {
        endpoint: None,
        known_as: "nowhere",
        ..house.claim("app")
    };
    let error = outcome_of_bytes(&house, nowhere, &message(b"secret\0"))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        AuthError::Refused {
            refusal: Refusal::UnknownEndpoint,
            ..
        }
    ));
}

#[test]
fn control_characters_of_a_role_reach_no_log() {
    let error = AuthError::Refused {
        role: "a\n\u{1b}[2Jb".to_owned(),
        refusal: Refusal::UnknownRole,
    };
    assert!(!error.to_string().contains(char::is_control));
    assert!(
        error.message().contains("\"a\n\u{1b}[2Jb\""),
        "the client reads what Postgres would say"
    );
}

#[tokio::test]
async fn an_md5_role_cannot_log_in_where_scram_is_configured() {
    let mut house = House::with_md5();
    Arc::get_mut(&mut house.endpoint).unwrap().login = LoginMethod::Scram;
    let error = outcome(&house, house.claim("app"), "secret").await.0.unwrap_err();
    assert!(matches!(
        error,
        AuthError::Refused {
            refusal: Refusal::Md5Verifier,
            ..
        }
    ));
}

#[tokio::test]
async fn an_expired_password_is_refused_at_the_end_whatever_its_truth() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let expired = ReadRole {
        name: "app".to_owned(),
        verifier: Some(Secret::new(verifier_for(&Secret::new("secret"), 4096).to_text())),
        can_login: true,
        valid_until: Some(1),
    };
    let store = Arc::new(Store::open(&dir.path().join("state")).unwrap());
    store
        .remember_roles(&house.endpoint.name, &[expired], None)
        .unwrap();
    let house = House {
        proofs: proofs(RoleBook::load(store, Arc::new(NeverAwake), [&house.endpoint.name]).unwrap()),
        endpoint: Arc::new(Endpoint {
            roles_from: from_postgres(),
            ..endpoint()
        }),
        _dir: dir,
    };
    for (password, expected) in [("secret", Refusal::Expired), ("wrong", Refusal::WrongPassword)] {
        let (found, writes) = outcome(&house, house.claim("app"), password).await;
        assert!(matches!(found, Err(AuthError::Refused { refusal, .. }) if refusal == expected));
        assert_eq!(writes.len(), 2);
    }
}

/// A server where `app` has had its password changed to "new", and nobody has said so.
struct Changed;

impl RoleSource for Changed {
    fn read(&self, _: &EndpointName) -> BoxFuture<'_, Option<Result<Told, String>>> {
        Box::pin(async { Some(Ok(Told::by(None, [app("new")]))) })
    }
}

fn app(password: &str) -> ReadRole {
    ReadRole {
        name: "app".to_owned(),
        verifier: Some(Secret::new(verifier_for(&Secret::new(password), 2).to_text())),
        can_login: true,
        valid_until: None,
    }
}

#[tokio::test]
async fn a_password_that_was_changed_unseen_is_right_from_the_second_try_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("state")).unwrap());
    let name = endpoint().name;
    store.remember_roles(&name, &[app("old")], None).unwrap();
    let house = House {
        proofs: proofs(RoleBook::load(store, Arc::new(Changed), [&name]).unwrap()),
        endpoint: Arc::new(Endpoint {
            roles_from: from_postgres(),
            ..endpoint()
        }),
        _dir: dir,
    };
    let first = outcome(&house, house.claim("app"), "new").await.0;
    assert!(matches!(
        first,
        Err(AuthError::Refused {
            refusal: Refusal::WrongPassword,
            ..
        })
    ));
    // Whoever has told the client.
    house.proofs.roles.suspect(&house.endpoint);
    house.proofs.roles.drain().await;
    assert!(outcome(&house, house.claim("app"), "new").await.0.is_ok());
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_never_log_in(bytes in prop::collection::vec(any::<u8>(), 0..300), md5 in any::<bool>()) {
        let house = if md5 { House::with_md5() } else { House::new() };
        let found = block_on(outcome_of_bytes(&house, house.claim("app"), &bytes));
        prop_assert!(found.is_err());
        let framed = message(&bytes);
        let found = block_on(outcome_of_bytes(&house, house.claim("app"), &framed));
        prop_assert!(found.is_err());
        let first = initial_response("SCRAM-SHA-256", &bytes);
        let found = block_on(outcome_of_bytes(&house, house.claim("app"), &first));
        prop_assert!(found.is_err());
    }
}
