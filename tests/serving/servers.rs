//! Towards servers: TLS as configured, channel binding, Postgres 18, servers that are not there or break off.

use std::time::Duration;

use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_postgres::error::SqlState;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::served::{Served, has_sessions, logged_in, value};
use crate::harness::{
    certificates::{Authority, ServerCertificate},
    directories::Directory,
    gateway::{Gateway, Setup},
    logs,
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    raw::{Message, PROTOCOL_3_0},
};

/// An endpoint whose server is somewhere on TCP. Its role is listed: nothing need be read from the server.
fn endpoint(name: &str, verifier: &str, compute: &str) -> String {
    format!(
        "[tenants.acme.endpoints.{name}]\nroles.{SUPERUSER}.verifier = \"{verifier}\"\n\
         compute = {{ kind = \"fixed\", {compute} }}\n"
    )
}

/// A verifier of the superuser's password that no server has.
fn own_verifier() -> String {
    postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes())
}

/// The one that the server has.
async fn verifier(postgres: &Postgres) -> String {
    let sql = format!("select rolpassword from pg_authid where rolname = '{SUPERUSER}'");
    value(&postgres.connect().await, &sql).await
}

/// What a client that logs in is told in place of a greeting.
async fn refusal(gateway: &Gateway, endpoint: &str) -> tokio_postgres::Error {
    let config = gateway.config(endpoint);
    let refused = crate::harness::tls_client::connect(&config, &gateway.authority).await;
    refused
        .err()
        .unwrap_or_else(|| panic!("{endpoint} lets clients in"))
}

#[tokio::test]
async fn a_server_is_checked_as_far_as_configured() {
    let authority = Authority::new();
    let directory = Directory::new();
    let ca = authority.write(directory.path());
    let elsewhere = Directory::new();
    let stranger = Authority::new().write(elsewhere.path());
    let (ca, stranger) = (ca.display(), stranger.display());
    let certificate = authority.certify(&["localhost"]);
    let postgres = Prepared::new(Version::Debian).tls(&certificate).start().await;
    let verifier = verifier(&postgres).await;
    let port = postgres.port();
    let computes = [
        (
            "tls-require",
            format!("address = \"127.0.0.1:{port}\", tls = \"require\""),
        ),
        (
            "tls-verify-ca",
            format!("address = \"127.0.0.1:{port}\", tls = \"verify-ca\", ca = \"{ca}\""),
        ),
        (
            "tls-verify-full",
            format!("address = \"localhost:{port}\", tls = \"verify-full\", ca = \"{ca}\""),
        ),
        (
            "tls-wrong-name",
            format!("address = \"127.0.0.1:{port}\", tls = \"verify-full\", ca = \"{ca}\""),
        ),
        (
            "tls-wrong-ca",
            format!("address = \"localhost:{port}\", tls = \"verify-ca\", ca = \"{stranger}\""),
        ),
    ];
    let toml = computes
        .iter()
        .map(|(name, compute)| endpoint(name, &verifier, compute));
    let gateway = Setup::new().tenants(&toml.collect::<String>()).start().await;

    for name in ["tls-require", "tls-verify-ca", "tls-verify-full"] {
        let client = gateway.connect(name).await;
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(value(&client, sql).await, "t", "{name}");
    }
    for name in ["tls-wrong-name", "tls-wrong-ca"] {
        let error = refusal(&gateway, name).await;
        let error = error.as_db_error().unwrap();
        assert!(["08006", "57P03"].contains(&error.code().code()), "{error:?}");
        assert!(
            !error.message().contains("ertificate"),
            "the client reads the operator's matters: {error:?}"
        );
        let lines = logs::access_lines(name, 1).await;
        assert!(lines[0].field("outcome").contains("ertificate"), "{lines:?}");
    }
}

/// TLS without a check of the certificate is open to whoever sits between; SCRAM-SHA-256-PLUS is not.
#[tokio::test]
async fn somebody_in_the_middle_is_found_out_by_channel_binding() {
    let authority = Authority::new();
    let postgres = Prepared::new(Version::Debian)
        .tls(&authority.certify(&["localhost"]))
        .start()
        .await;
    let verifier = verifier(&postgres).await;
    let middle = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = middle.local_addr().unwrap().port();
    tokio::spawn(sit_between(
        middle,
        authority.certify(&["localhost"]),
        authority,
        postgres.port(),
    ));
    let compute = format!("address = \"127.0.0.1:{port}\", tls = \"require\"");
    let gateway = Setup::new()
        .tenants(&endpoint("tls-middle", &verifier, &compute))
        .start()
        .await;

    let error = refusal(&gateway, "tls-middle").await;

    let said = error.as_db_error().unwrap();
    assert_eq!(said.code().code(), "28000", "{said:?}");
    assert!(
        postgres.log().contains("SCRAM channel binding check failed"),
        "{}",
        postgres.log()
    );
}

/// Takes one connection at a time, ends its TLS and speaks TLS with the server.
async fn sit_between(listener: TcpListener, certificate: ServerCertificate, authority: Authority, port: u16) {
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()));
    let connector = TlsConnector::from(Arc::new(authority.client_config(&[])));
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        client.write_all(b"S").await.unwrap();
        let Ok(mut client) = acceptor.accept(client).await else {
            continue;
        };
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        server.write_all(&request).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'S');
        let name = ServerName::try_from("localhost").unwrap();
        let mut server = connector.connect(name, server).await.unwrap();
        // Either side may break off.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn postgres_18_is_served() {
    let served = Served::with("server-18", Prepared::new(Version::V18)).await;
    let client = served.connect().await;
    assert!(value(&client, "show server_version").await.starts_with("18"));
    let (mut raw, key) = served.raw().await;
    raw.query("select pg_sleep(60)").await;
    served.sleeps(key.pid).await;
    drop(raw);
    served.has_sessions(1).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let toml = endpoint(
        "server-down",
        &own_verifier(),
        &format!("address = \"127.0.0.1:{port}\""),
    );
    let gateway = Setup::new().tenants(&toml).start().await;
    let since = Instant::now();

    let error = refusal(&gateway, "server-down").await;

    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::CANNOT_CONNECT_NOW);
    assert!(
        error.detail().is_some_and(|detail| !detail.is_empty()),
        "{error:?}"
    );
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error:?}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let lines = logs::access_lines("server-down", 1).await;
    assert_eq!(lines[0].field("sqlstate"), "57P03");
}

#[tokio::test]
async fn what_postgres_says_to_a_login_reaches_the_client_whole() {
    let few = Prepared::new(Version::Debian)
        .setting("max_connections", "8")
        .setting("superuser_reserved_connections", "0")
        .setting("max_wal_senders", "0");
    let served = Served::with("server-full", few).await;
    // For later: a server session that its client has left goes a moment after it.
    let beside = served.direct().await;
    let mut clients = Vec::new();
    for _ in 1..8 {
        clients.push(served.connect().await);
    }
    let full = refusal(&served.gateway, "server-full").await;
    let full = full.as_db_error().unwrap();
    assert_eq!(full.code(), &SqlState::TOO_MANY_CONNECTIONS);
    assert_eq!(full.message(), "sorry, too many clients already");
    clients.clear();
    has_sessions(&beside, 0).await;

    let mut config = served.gateway.config("server-full");
    config.dbname("nowhere");
    let missing = crate::harness::tls_client::connect(&config, &served.gateway.authority).await;
    let missing = missing.err().unwrap();
    let missing = missing.as_db_error().unwrap();
    assert_eq!(missing.code(), &SqlState::UNDEFINED_DATABASE);
    assert_eq!(missing.message(), "database \"nowhere\" does not exist");
    let lines = logs::access_lines("server-full", 9).await;
    let told = |code: &str| lines.iter().any(|line| line.field("sqlstate") == code);
    assert!(told("53300") && told("3D000"), "{lines:?}");
}

/// A server that lets everybody in, and answers the first message with `words`, then closes.
async fn scripted(words: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream
            .read_exact(&mut vec![0; length as usize - 4])
            .await
            .unwrap();
        let greeting = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07keysZ\0\0\0\x05I";
        stream.write_all(greeting).await.unwrap();
        Message::read(&mut stream).await.unwrap();
        stream.write_all(&words).await.unwrap();
    });
    port
}

#[tokio::test]
async fn a_row_that_breaks_off_is_not_completed_by_other_words() {
    // A row of 1,000 bytes of which 100 come.
    let row = [b"D\0\0\x03\xe8\0\x01\0\0\x03\xde".as_slice(), &[b'x'; 100]].concat();
    let port = scripted(row.clone()).await;
    let toml = endpoint(
        "server-breaks",
        &own_verifier(),
        &format!("address = \"127.0.0.1:{port}\""),
    );
    let gateway = Setup::new().tenants(&toml).start().await;
    let (client, _) = logged_in(gateway.raw_to("server-breaks").await, PROTOCOL_3_0, &[]).await;
    let (mut reader, mut writer) = client.split();

    writer.write_all(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
    writer.flush().await.unwrap();

    let mut read = Vec::new();
    // The end of TLS may be told or not.
    let _ = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut read))
        .await
        .unwrap();
    assert_eq!(read, row);
    let lines = logs::access_lines("server-breaks", 1).await;
    assert_eq!(lines[0].field("sqlstate"), "08007");
}

#[tokio::test]
async fn a_server_that_closes_between_messages_is_told_as_lost() {
    let port = scripted(b"N\0\0\0\x04".to_vec()).await;
    let toml = endpoint(
        "server-closes",
        &own_verifier(),
        &format!("address = \"127.0.0.1:{port}\""),
    );
    let gateway = Setup::new().tenants(&toml).start().await;
    let (mut client, _) = logged_in(gateway.raw_to("server-closes").await, PROTOCOL_3_0, &[]).await;

    client.query("insert into t values (1)").await;

    assert_eq!(client.message().await.tag, b'N');
    let lost = client.message().await;
    assert_eq!(lost.sqlstate(), "08007");
    assert!(lost.fields()[&'D'].contains("whether the last statement took effect is unknown"));
    client.closed().await;
}

/// A server that takes a connection and is gone before it answers, as a postmaster that is killed just then, is tried
/// again before anybody is told.
#[tokio::test]
async fn a_login_that_a_server_leaves_is_tried_again() {
    const ENDPOINT: &str = "server-leaves-once";
    let postgres = Prepared::new(Version::Debian).start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, server) = (listener.local_addr().unwrap().port(), postgres.port());
    let compute = format!("address = \"127.0.0.1:{port}\", tls = \"disable\"");
    let setup = Setup::new().tenants(&endpoint(ENDPOINT, &verifier(&postgres).await, &compute));
    let gateway = setup.start().await;
    for suffix in ["", "-pooler"] {
        let config = gateway.config(&format!("{ENDPOINT}{suffix}"));
        let serving = async {
            drop(listener.accept().await.unwrap());
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        };
        let connecting = crate::harness::tls_client::connect(&config, &gateway.authority);
        let (client, ()) = tokio::join!(connecting, serving);
        let client = client.unwrap();
        assert_eq!(value(&client, "select 'served'").await, "served", "{suffix}");
    }
}
