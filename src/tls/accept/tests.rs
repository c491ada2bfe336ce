//! Real handshakes over loopback.

use std::time::Duration;

use proptest::prelude::*;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    runtime,
    task::yield_now,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::tls::end_point::end_point;
use crate::tls::provider;
use crate::tls::testing::{Ca, tcp_pair};

struct Setup {
    ca: Ca,
    folder: TempDir,
    store: Arc<CertificateStore>,
}

/// One certificate per list of names.
fn setup(lists: &[&[&str]]) -> Setup {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let issue = |(number, names): (usize, &&[&str])| ca.issue(folder.path(), &number.to_string(), names);
    let files: Vec<_> = lists.iter().enumerate().map(issue).collect();
    let store = CertificateStore::load(&files).unwrap();
    Setup { ca, folder, store }
}

impl Setup {
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        roots
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Both ends of a handshake.
    async fn handshake(
        &self,
        client: Arc<ClientConfig>,
        name: &'static str,
        opening: Opening,
    ) -> (Result<Secured, TlsError>, std::io::Result<TlsStream<TcpStream>>) {
        let (near, far) = tcp_pair().await;
        let connector = TlsConnector::from(client);
        let connecting = connector.connect(ServerName::try_from(name).unwrap(), far);
        let both = async { tokio::join!(accept(near, &self.store, opening), connecting) };
        timeout(Duration::from_secs(10), both).await.unwrap()
    }

    /// One that works.
    async fn secured(&self, name: &'static str) -> (Secured, TlsStream<TcpStream>) {
        let client = self.client(&[&TLS13], &["postgresql"]);
        let (secured, client) = self.handshake(client, name, Opening::AfterSslRequest).await;
        (secured.unwrap(), client.unwrap())
    }
}

fn shown_to(client: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// The alert that ended a client's handshake.
fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{other:?}, {error}"),
    }
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_that_ones_binding() {
    let setup = setup(&[&["one.example"], &["*.db.example"], &["two.example"]]);

    let mut bindings = Vec::new();
    for name in ["one.example", "demo.db.example", "two.example"] {
        let (secured, client) = setup.secured(name).await; // the client has checked the name
        assert_eq!(secured.server_name.as_deref(), Some(name));
        assert_eq!(
            secured.end_point.as_deref(),
            end_point(&shown_to(&client)).as_deref()
        );
        bindings.push(secured.end_point.unwrap());
    }
    bindings.dedup();
    assert_eq!(bindings.len(), 3);
}

#[tokio::test]
async fn a_name_is_lowercase_whatever_the_client_wrote() {
    let setup = setup(&[&["other.example"], &["demo.db.example"]]);

    let (secured, _client) = setup.secured("Demo.DB.example").await;

    assert_eq!(secured.server_name.as_deref(), Some("demo.db.example"));
}

#[tokio::test]
async fn a_client_that_connects_to_an_address_names_nothing_and_gets_the_first_certificate() {
    let setup = setup(&[&["127.0.0.1", "one.example"], &["two.example"]]);

    let (secured, client) = setup.secured("127.0.0.1").await;

    assert_eq!(secured.server_name, None);
    assert_eq!(
        secured.end_point.as_deref(),
        end_point(&shown_to(&client)).as_deref()
    );
}

/// The client's own order is OpenSSL's, AES-256 first.
#[tokio::test]
async fn aes_128_is_chosen_where_the_client_knows_it() {
    let setup = setup(&[&["a.example"]]);
    for (version, known, chosen) in [
        (&TLS13, "AES", "TLS13_AES_128_GCM_SHA256"),
        (&TLS13, "AES_256", "TLS13_AES_256_GCM_SHA384"),
        (&TLS13, "CHACHA20", "TLS13_CHACHA20_POLY1305_SHA256"),
        (&TLS12, "AES", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let mut provider = Arc::unwrap_or_clone(provider());
        provider
            .cipher_suites
            .retain(|suite| suite.suite().as_str().unwrap().contains(known));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let client = builder
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(setup.roots())
            .with_no_client_auth();

        let handshake = setup.handshake(Arc::new(client), "a.example", Opening::AfterSslRequest);

        assert_eq!(handshake.await.0.unwrap().cipher, chosen);
    }
}

#[tokio::test]
async fn both_versions_are_spoken_and_named() {
    let setup = setup(&[&["a.example"]]);
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let client = setup.client(&[version], &[]);

        let (secured, client) = setup
            .handshake(client, "a.example", Opening::AfterSslRequest)
            .await;

        let secured = secured.unwrap();
        assert_eq!(secured.protocol, name);
        let suite = client
            .unwrap()
            .get_ref()
            .1
            .negotiated_cipher_suite()
            .unwrap()
            .suite();
        assert_eq!(Some(secured.cipher), suite.as_str());
        assert!(!secured.cipher.is_empty());
    }
}

#[tokio::test]
async fn direct_tls_needs_the_protocols_name() {
    let setup = setup(&[&["a.example"]]);

    let client = setup.client(&[&TLS13, &TLS12], &["postgresql"]);
    let (secured, client) = setup.handshake(client, "a.example", Opening::Direct).await;
    assert!(secured.is_ok());
    assert_eq!(
        client.unwrap().get_ref().1.alpn_protocol(),
        Some(&b"postgresql"[..])
    );

    for (versions, alpn) in [
        (&[&TLS13][..], &[][..]),
        (&[&TLS12], &[]),
        (&[&TLS13], &["h2", "http/1.1"]),
    ] {
        let client = setup.client(versions, alpn);
        let (secured, client) = setup.handshake(client, "a.example", Opening::Direct).await;
        assert!(matches!(secured, Err(TlsError::NoProtocolOffered)), "{alpn:?}");
        assert_eq!(
            alert(&client.unwrap_err()),
            AlertDescription::NoApplicationProtocol
        );
    }
}

#[tokio::test]
async fn after_an_ssl_request_the_protocols_name_may_be_missing_but_not_another() {
    let setup = setup(&[&["a.example"]]);

    let client = setup.client(&[&TLS13], &[]);
    let (secured, client) = setup
        .handshake(client, "a.example", Opening::AfterSslRequest)
        .await;
    assert!(secured.is_ok() && client.is_ok());

    let client = setup.client(&[&TLS13], &["h2"]);
    let (secured, client) = setup
        .handshake(client, "a.example", Opening::AfterSslRequest)
        .await;
    assert!(matches!(secured, Err(TlsError::Handshake(_))));
    assert_eq!(
        alert(&client.unwrap_err()),
        AlertDescription::NoApplicationProtocol
    );
}

#[tokio::test]
async fn nothing_is_resumed() {
    let setup = setup(&[&["a.example"]]);
    for version in [&TLS12, &TLS13] {
        let config = setup.client(&[version], &[]); // keeps what it could resume with
        for _ in 0..2 {
            let (secured, client) = setup
                .handshake(config.clone(), "a.example", Opening::AfterSslRequest)
                .await;
            let (mut secured, mut client) = (secured.unwrap(), client.unwrap());
            secured.stream.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x'); // tickets would come before it
            let connection = client.get_ref().1;
            assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(connection.tls13_tickets_received(), 0);
        }
    }
}

#[tokio::test]
async fn without_a_certificate_the_client_is_told() {
    let mut setup = setup(&[]);
    setup.store = CertificateStore::load(&[]).unwrap();
    let client = setup.client(&[&TLS13], &["postgresql"]);

    let (secured, client) = setup.handshake(client, "a.example", Opening::Direct).await;

    assert!(matches!(secured, Err(TlsError::NoCertificate)));
    assert_eq!(alert(&client.unwrap_err()), AlertDescription::HandshakeFailure);
}

#[tokio::test]
async fn a_reload_leaves_living_connections_alone() {
    let setup = setup(&[&["a.example"]]);
    let (mut old, mut old_client) = setup.secured("a.example").await;
    setup.ca.issue(setup.folder.path(), "0", &["a.example"]);

    assert_eq!(setup.store.reload().changed.len(), 1);

    let (new, new_client) = setup.secured("a.example").await;
    assert_ne!(new.end_point, old.end_point);
    assert_ne!(shown_to(&new_client), shown_to(&old_client));
    old_client.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    old.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn slices_are_written_together_through_tls() {
    let setup = setup(&[&["a.example"]]);
    let (mut secured, mut client) = setup.secured("a.example").await;
    assert!(secured.stream.is_write_vectored());

    let slices = [std::io::IoSlice::new(b"one "), std::io::IoSlice::new(b"packet")];
    assert_eq!(secured.stream.write_vectored(&slices).await.unwrap(), 10);
    secured.stream.shutdown().await.unwrap();

    let mut read = String::new();
    client.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "one packet");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_handshake() {
    let setup = setup(&[&["a.example"]]);
    let (near, far) = tcp_pair().await;
    drop(far);

    let error = accept(near, &setup.store, Opening::Direct).await.unwrap_err();

    assert!(matches!(error, TlsError::Handshake(error) if error.kind() == std::io::ErrorKind::UnexpectedEof));
}

/// What a client sends first.
fn client_hello(setup: &Setup) -> Vec<u8> {
    let config = setup.client(&[&TLS13, &TLS12], &["postgresql"]);
    let mut client = ClientConnection::new(config, ServerName::try_from("a.example").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Sends `bytes` in pieces of the given sizes (round and round), then ends.
async fn accept_pieces(
    setup: &Setup,
    bytes: &[u8],
    sizes: &[usize],
    opening: Opening,
) -> Result<Secured, TlsError> {
    let (near, mut far) = tcp_pair().await;
    far.set_nodelay(true).unwrap();
    let mut rest = bytes;
    let sending = async {
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            if piece.is_empty() || far.write_all(piece).await.is_err() {
                break; // refused already
            }
            yield_now().await;
        }
        let _ = far.shutdown().await;
        let mut answer = Vec::new();
        let _ = far.read_to_end(&mut answer).await;
    };
    let both = async { tokio::join!(accept(near, &setup.store, opening), sending) };
    timeout(Duration::from_secs(10), both)
        .await
        .expect("it ends when the client does")
        .0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_bytes_in_arbitrary_pieces_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
        as_record in any::<bool>(),
        sizes in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let setup = setup(&[&["a.example"]]);
        let mut sent = bytes;
        if as_record {
            let length = u16::try_from(sent.len()).unwrap().to_be_bytes();
            sent.splice(0..0, [22, 3, 1, length[0], length[1]]);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(accept_pieces(&setup, &sent, &sizes, Opening::AfterSslRequest));
        prop_assert!(matches!(result, Err(TlsError::Handshake(_))), "{result:?}");
    }

    #[test]
    fn a_damaged_client_hello_in_arbitrary_pieces_never_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        sizes in proptest::collection::vec(1usize..200, 1..8),
        opening in prop_oneof![Just(Opening::Direct), Just(Opening::AfterSslRequest)],
    ) {
        let setup = setup(&[&["a.example"]]);
        let mut hello = client_hello(&setup);
        for (place, byte) in &damage {
            let place = place.index(hello.len());
            hello[place] = *byte;
        }
        let length = hello.len() - keep.index(hello.len()) / 2;
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Even a whole one is not a whole handshake.
        prop_assert!(runtime.block_on(accept_pieces(&setup, &hello[..length], &sizes, opening)).is_err());
    }
}

#[tokio::test]
async fn a_client_hello_may_come_byte_by_byte() {
    let setup = setup(&[&["a.example"]]);
    let (near, far) = tcp_pair().await;
    far.set_nodelay(true).unwrap();
    let config = setup.client(&[&TLS13], &["postgresql"]);
    let mut client = ClientConnection::new(config, ServerName::try_from("a.example").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut far = far;

    let sending = async {
        for byte in &hello {
            far.write_all(std::slice::from_ref(byte)).await.unwrap();
            yield_now().await;
        }
        far.read_u8().await.unwrap() // 22: the server goes on with its own handshake record
    };
    let accepting = accept(near, &setup.store, Opening::Direct);
    tokio::select! {
        result = accepting => panic!("{result:?}"),
        first = sending => assert_eq!(first, 22),
    }
}
