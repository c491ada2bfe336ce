//! Servers that follow a script, and real handshakes.

use std::{fs, future::Future, path::PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::{TempDir, tempdir};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::config::CertificateFiles;
use crate::tls::testing::{Ca, SOCKETS, write_pair};
use crate::tls::{CertificateStore, Opening, accept};

/// Runs `script` for the first connection; gives the port.
async fn server<F, Fut>(script: F) -> (u16, JoinHandle<()>)
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        script(listener.accept().await.unwrap().0).await;
    });
    (port, serving)
}

/// A server that answers the SSLRequest with these bytes and waits for the client to leave.
async fn answering(answer: &'static [u8]) -> u16 {
    let script = move |mut stream: TcpStream| async move {
        read_ssl_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    server(script).await.0
}

async fn read_ssl_request(stream: &mut TcpStream) {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(u32::from_be_bytes(request[..4].try_into().unwrap()), 8);
    assert_eq!(u32::from_be_bytes(request[4..].try_into().unwrap()), 80_877_103);
}

/// A server that speaks TLS with this certificate, says `hi` and waits for the client to leave.
async fn speaking_tls(files: CertificateFiles) -> u16 {
    let store = CertificateStore::load(&[files]).unwrap();
    let script = move |mut stream: TcpStream| async move {
        read_ssl_request(&mut stream).await;
        stream.write_all(b"S").await.unwrap();
        if let Ok(mut secured) = accept(stream, &store, Opening::AfterSslRequest).await {
            secured.stream.write_all(b"hi").await.unwrap();
            let _ = secured.stream.read_to_end(&mut Vec::new()).await;
        }
    };
    server(script).await.0
}

fn at(host: &str, port: u16) -> ServerAddress {
    ServerAddress::Tcp {
        host: host.to_owned(),
        port,
    }
}

async fn dialed(host: &str, port: u16, tls: &ServerTls) -> Result<Dialed, DialError> {
    let server = at(host, port);
    let dialing = dial(&server, tls, &SOCKETS);
    timeout(Duration::from_secs(10), dialing).await.unwrap()
}

/// A CA in a file, and a certificate of it.
struct Setup {
    folder: TempDir,
    ca: PathBuf,
    server: CertificateFiles,
}

fn setup(names: &[&str]) -> Setup {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let server = ca.issue(folder.path(), "server", names);
    let file = folder.path().join("ca.pem");
    fs::write(&file, ca.pem()).unwrap();
    Setup {
        folder,
        ca: file,
        server,
    }
}

/// The certificate was refused, for the reason that this text has.
fn assert_refused(result: Result<Dialed, DialError>, reason: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
    assert!(!error.server_is_absent());
    assert!(format!("{error:?}").contains(reason), "{error:?}");
}

#[tokio::test]
async fn a_plain_connection_is_settled_and_sends_nothing_of_its_own() {
    let script = |mut stream: TcpStream| async move {
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"mine");
    };
    let (port, serving) = server(script).await;

    let mut dialed = dialed("127.0.0.1", port, &ServerTls::Disable).await.unwrap();

    dialed.stream.write_all(b"mine").await.unwrap();
    serving.await.unwrap();
    assert_eq!(dialed.end_point, None);
    let Stream::Tcp(stream) = &dialed.stream else {
        panic!("{dialed:?}")
    };
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn all_addresses_of_a_host_are_tried() {
    // Only IPv4 listens; `localhost` may be ::1 first.
    let (port, _serving) = server(|_| async {}).await;

    assert!(dialed("localhost", port, &ServerTls::Disable).await.is_ok());
}

#[tokio::test]
async fn nobody_there_is_worth_a_wake() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = dialed("127.0.0.1", port, &ServerTls::Require).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { .. }), "{error:?}");
    assert!(error.server_is_absent());

    let error = dialed("no-such-host.invalid", 5432, &ServerTls::Disable)
        .await
        .unwrap_err();
    assert!(error.server_is_absent(), "{error:?}");

    let folder = tempdir().unwrap();
    let socket = ServerAddress::Unix(folder.path().join(".s.PGSQL.5432"));
    let error = dial(&socket, &ServerTls::Disable, &SOCKETS).await.unwrap_err();
    assert!(error.server_is_absent(), "{error:?}");
    assert!(
        error.to_string().contains(".s.PGSQL.5432: No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn a_unix_socket_is_reached_without_tls() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.5432");
    let listener = UnixListener::bind(&path).unwrap();

    let dialed = dial(&ServerAddress::Unix(path), &ServerTls::Require, &SOCKETS)
        .await
        .unwrap();

    assert!(matches!(dialed.stream, Stream::Unix(_)));
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_full_unix_socket_is_waited_for() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        waiting.push(stream);
    }
    let server = ServerAddress::Unix(path);
    let dialing = dial(&server, &ServerTls::Disable, &SOCKETS);
    tokio::pin!(dialing);
    assert!(
        futures_util::poll!(&mut dialing).is_pending(),
        "a full queue is no refusal"
    );

    let _accepted = socket.accept().unwrap();

    assert!(timeout(Duration::from_secs(10), dialing).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to() {
    let error = dialed("127.0.0.1", answering(b"N").await, &ServerTls::Require)
        .await
        .unwrap_err();

    assert!(matches!(error, DialError::NoTls { .. }), "{error:?}");
    assert!(!error.server_is_absent());
    assert!(error.to_string().contains("does not speak tls"), "{error}");
}

#[tokio::test]
async fn an_error_instead_of_an_answer_is_not_believed() {
    let answer = b"E\0\0\0\x10SFATAL\0Mforged\0\0";
    let error = dialed("127.0.0.1", answering(answer).await, &ServerTls::Require)
        .await
        .unwrap_err();

    assert!(matches!(error, DialError::RefusedTls { .. }), "{error:?}");
    assert!(!error.to_string().contains("forged"));
}

#[tokio::test]
async fn another_protocol_is_named_as_such() {
    let error = dialed("127.0.0.1", answering(b"H").await, &ServerTls::Require)
        .await
        .unwrap_err();

    assert!(
        matches!(error, DialError::NotPostgres { byte: b'H', .. }),
        "{error:?}"
    );
}

/// CVE-2021-23222: what comes in plaintext with the answer would have been read as if it were encrypted.
#[tokio::test]
async fn plaintext_behind_the_answer_ends_the_connection() {
    let error = dialed(
        "127.0.0.1",
        answering(b"SR\0\0\0\x08\0\0\0\0").await,
        &ServerTls::Require,
    )
    .await;
    assert!(matches!(error, Err(DialError::Smuggled { .. })), "{error:?}");

    let greeting = |mut stream: TcpStream| async move {
        stream.write_all(b"SS").await.unwrap(); // before it was asked
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (port, _serving) = server(greeting).await;
    let error = dialed("127.0.0.1", port, &ServerTls::Require).await;
    assert!(matches!(error, Err(DialError::Smuggled { .. })), "{error:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_in_between_is_absent() {
    let (port, _serving) =
        server(|mut stream: TcpStream| async move { read_ssl_request(&mut stream).await }).await;
    let error = dialed("127.0.0.1", port, &ServerTls::Require).await.unwrap_err();
    assert!(matches!(error, DialError::Lost { .. }), "{error:?}");
    assert!(error.server_is_absent());

    let script = |mut stream: TcpStream| async move {
        read_ssl_request(&mut stream).await;
        stream.write_all(b"S").await.unwrap();
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
    };
    let (port, _serving) = server(script).await;
    let error = dialed("127.0.0.1", port, &ServerTls::Require).await.unwrap_err();
    assert!(matches!(error, DialError::Lost { .. }), "{error:?}");
    assert!(error.server_is_absent());
}

#[tokio::test]
async fn verify_full_reaches_the_right_server_and_knows_its_binding() {
    let setup = setup(&["localhost", "127.0.0.1"]);
    let shown = crate::tls::read_certificates(&setup.server.certificate).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let port = speaking_tls(setup.server.clone()).await;

        let mut dialed = dialed(host, port, &ServerTls::VerifyFull { ca: setup.ca.clone() })
            .await
            .unwrap();

        let mut said = [0; 2];
        dialed.stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hi");
        assert_eq!(dialed.end_point, end_point(&shown[0]));
        assert!(dialed.end_point.is_some());
    }
}

#[tokio::test]
async fn verify_full_refuses_another_hosts_certificate_and_verify_ca_does_not_ask() {
    let setup = setup(&["other.example"]);

    let full = ServerTls::VerifyFull { ca: setup.ca.clone() };
    assert_refused(
        dialed("localhost", speaking_tls(setup.server.clone()).await, &full).await,
        "NotValidForName",
    );

    let chain = ServerTls::VerifyCa { ca: setup.ca.clone() };
    assert!(
        dialed("localhost", speaking_tls(setup.server.clone()).await, &chain)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn another_ca_is_refused_unless_nothing_is_asked() {
    let (theirs, ours) = (setup(&["localhost"]), setup(&["localhost"]));
    for tls in [
        ServerTls::VerifyCa { ca: ours.ca.clone() },
        ServerTls::VerifyFull { ca: ours.ca.clone() },
    ] {
        let port = speaking_tls(theirs.server.clone()).await;
        // Both authorities have the same name, so that it is the signature that fails.
        assert_refused(dialed("localhost", port, &tls).await, "InvalidCertificate");
    }
    let port = speaking_tls(theirs.server.clone()).await;
    assert!(dialed("localhost", port, &ServerTls::Require).await.is_ok());
}

/// A server's own certificate as `ca`, the way Postgres' documentation makes one, with CA:TRUE.
fn self_signed(folder: &TempDir, last_year: i32) -> CertificateFiles {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(last_year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write_pair(folder.path(), "self", &certificate.pem(), &key.serialize_pem())
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_as_itself_while_it_is_valid() {
    let folder = tempdir().unwrap();

    let files = self_signed(&folder, 2200);
    let tls = ServerTls::VerifyFull {
        ca: files.certificate.clone(),
    };
    assert!(
        dialed("localhost", speaking_tls(files.clone()).await, &tls)
            .await
            .is_ok()
    );
    assert_refused(
        dialed("127.0.0.1", speaking_tls(files).await, &tls).await,
        "NotValidForName",
    );

    let files = self_signed(&folder, 2001);
    assert_refused(
        dialed("localhost", speaking_tls(files).await, &tls).await,
        "Expired",
    );
}

#[tokio::test]
async fn trusted_roots_are_read_again_when_their_file_changes() {
    let (first, second) = (setup(&["localhost"]), setup(&["localhost"]));
    let tls = ServerTls::VerifyFull { ca: first.ca.clone() };
    assert!(
        dialed("localhost", speaking_tls(first.server.clone()).await, &tls)
            .await
            .is_ok()
    );
    assert!(
        dialed("localhost", speaking_tls(second.server.clone()).await, &tls)
            .await
            .is_err()
    );

    let draft = first.folder.path().join("draft");
    fs::copy(&second.ca, &draft).unwrap();
    fs::rename(&draft, &first.ca).unwrap();

    assert!(
        dialed("localhost", speaking_tls(second.server.clone()).await, &tls)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn roots_that_cannot_be_used_are_named_before_anything_is_connected() {
    let folder = tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let tls = ServerTls::VerifyCa { ca: ca.clone() };

    let error = dialed("127.0.0.1", 1, &tls).await.unwrap_err();
    assert!(matches!(error, DialError::Roots(_)), "{error:?}");
    assert!(error.to_string().contains("ca.pem: No such file"), "{error}");

    fs::write(&ca, "nothing").unwrap();
    let error = dialed("127.0.0.1", 1, &tls).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no certificate in it"),
        "{error}"
    );
    assert!(!error.server_is_absent());
}

#[tokio::test]
async fn where_pgwake_itself_listens_is_no_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = SOCKETS.clone();
    sockets.own.set(vec![address]);
    let server = at("localhost", address.port());
    for tls in [ServerTls::Disable, ServerTls::Require] {
        let error = dial(&server, &tls, &sockets).await.unwrap_err();
        assert!(matches!(&error, DialError::Itself { .. }), "{error}");
        assert!(!error.server_is_absent(), "a wake does not help");
    }
}
