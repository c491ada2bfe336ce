//! TLS by request and directly, GSSAPI refused, plaintext refused or allowed, nothing smuggled.

use postgres_protocol::message::frontend;

use super::{access_of, host, libpq, nowhere, startup};
use crate::harness::{
    gateway::{DOMAIN, Setup},
    logs,
    postgres::{PASSWORD, Postgres, Version},
    psql::psql,
    python::python,
    raw::Raw,
    wait::until,
};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

#[tokio::test]
async fn tls_1_2_and_1_3_by_request_and_directly() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("enc-versions", &postgres, "").start().await;
    for version in ["TLSv1.2", "TLSv1.3"] {
        for negotiation in ["postgres", "direct"] {
            let name = format!("enc-{version}-{negotiation}");
            let more = format!(
                "application_name={name} channel_binding=require sslnegotiation={negotiation} \
                 ssl_min_protocol_version={version} ssl_max_protocol_version={version}"
            );
            let connection = libpq(&gateway, &host("enc-versions"), &more);
            let said = python("psycopg_query", &[&connection, "select 6 * 7"])
                .run()
                .await
                .succeeded();
            assert!(said.contains("[[[42]]]"), "{said}");
            assert_eq!(access_of(&name).await.field("tls"), version);
        }
    }
}

#[tokio::test]
async fn direct_tls_needs_its_own_protocol_name() {
    let gateway = Setup::new().tenants(&nowhere("enc-alpn")).start().await;
    let name = host("enc-alpn");
    for offered in [&[][..], &["h2", "http/1.1"], &["postgres"]] {
        let config = gateway.authority.client_config(offered);
        let refused = Raw::tcp(gateway.address()).await.tls(config, &name).await;
        assert!(refused.is_err(), "{offered:?} was let in");
    }
    let config = gateway.authority.client_config(&["h2", "postgresql"]);
    let mut client = Raw::tcp(gateway.address())
        .await
        .tls(config, &name)
        .await
        .unwrap();
    client.send(&startup(&[])).await;
    client.message().await.authentication(10);
}

#[tokio::test]
async fn gssapi_is_answered_no_and_tls_follows() {
    let gateway = Setup::new().tenants(&nowhere("enc-gss")).start().await;
    let mut client = Raw::tcp(gateway.address()).await;
    client.send(&GSSENC_REQUEST).await;
    assert_eq!(client.byte().await, b'N');
    let config = gateway.authority.client_config(&[]);
    let mut client = client.request_tls(config, &host("enc-gss")).await;
    client.send(&startup(&[])).await;
    client.message().await.authentication(10);
}

#[tokio::test]
async fn encryption_is_not_asked_for_without_end() {
    let gateway = Setup::new().tenants(&nowhere("enc-endless")).start().await;
    let mut client = Raw::tcp(gateway.address()).await;
    for _ in 0..2 {
        client.send(&GSSENC_REQUEST).await;
        assert_eq!(client.byte().await, b'N');
    }
    let mut inside = gateway.raw_to("enc-endless").await;
    inside.send_with(frontend::ssl_request).await;
    assert_eq!(inside.message().await.sqlstate(), "08P01");
    inside.closed().await;
}

#[tokio::test]
async fn plaintext_is_refused_with_a_hint_whatever_it_names() {
    let gateway = Setup::new().tenants(&nowhere("enc-refused")).start().await;
    for options in ["endpoint=enc-refused", "endpoint=nobody-has-it", ""] {
        let mut client = Raw::tcp(gateway.address()).await;
        client.send(&startup(&[("options", options)])).await;
        let refusal = client.message().await.fields();
        client.closed().await;

        assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "08004"));
        assert!(refusal[&'H'].contains("sslmode=require"), "{refusal:?}");
        let session = refusal[&'D']
            .rsplit_once("session ")
            .unwrap()
            .1
            .trim_end_matches(')')
            .to_owned();
        until("the access line", async || {
            let line = logs::with_text(&session).into_iter().next_back();
            line.is_some_and(|line| line.field("sqlstate") == "08004" && line.field("tls") == "off")
        })
        .await;
    }
}

#[tokio::test]
async fn many_plaintext_refusals_at_once_cost_little() {
    let gateway = Setup::new().tenants(&nowhere("enc-cheap")).start().await;
    let address = gateway.address();
    let refused = (0..300).map(|_| {
        tokio::spawn(async move {
            let mut client = Raw::tcp(address).await;
            client.send(&startup(&[])).await;
            assert_eq!(client.message().await.sqlstate(), "08004");
            client.closed().await;
        })
    });
    let refused: Vec<_> = refused.collect();
    for one in refused {
        one.await.unwrap();
    }
    until("nobody is left", async || gateway.server.clients() == 0).await;
}

#[tokio::test]
async fn libpq_that_prefers_tls_is_not_tricked_into_plaintext() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("enc-prefer", &postgres, "").start().await;
    let more = "sslmode=prefer sslrootcert='' application_name=enc-prefer-app";
    let connection = libpq(&gateway, &host("enc-prefer"), more);
    psql(&connection)
        .arguments(&["-c", "select 1"])
        .run()
        .await
        .succeeded();
    assert_eq!(access_of("enc-prefer-app").await.field("tls"), "TLSv1.3");

    let plain = libpq(&gateway, &host("enc-prefer"), "sslmode=disable");
    let errors = psql(&plain).arguments(&["-c", "select 1"]).run().await.failed();
    assert!(errors.contains("TLS is required"), "{errors}");
    assert!(errors.contains("HINT:"), "{errors}");
}

#[tokio::test]
async fn a_listener_may_allow_plaintext_beside_tls() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional" }"#)
        .fixed("enc-optional", &postgres, "")
        .start()
        .await;
    let plain = "sslmode=disable options='endpoint=enc-optional' application_name=enc-optional-plain";
    let tls = "application_name=enc-optional-tls";
    for (more, seen) in [(plain, "off"), (tls, "TLSv1.3")] {
        let connection = libpq(&gateway, &host("enc-optional"), more);
        let said = psql(&connection).arguments(&["-c", "select 6 * 7"]).run().await;
        assert_eq!(said.succeeded(), "42");
        let application = more.rsplit_once('=').unwrap().1;
        assert_eq!(access_of(application).await.field("tls"), seen);
    }
    // Without TLS there is nothing to bind to.
    let mut client = Raw::tcp(gateway.address()).await;
    client
        .send(&startup(&[("options", "endpoint=enc-optional")]))
        .await;
    assert_eq!(
        client.message().await.authentication(10),
        b"SCRAM-SHA-256\0\0",
        "channel binding was offered in plaintext"
    );
    client.send_with(frontend::terminate).await;
}

#[tokio::test]
async fn bytes_smuggled_behind_a_request_close_the_connection() {
    let gateway = Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional" }"#)
        .tenants(&nowhere("enc-smuggled"))
        .start()
        .await;
    let packet = startup(&[("options", "endpoint=enc-smuggled")]);
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        for smuggled in [&b"\0"[..], b"\x16\x03\x01", &packet, &SSL_REQUEST] {
            let mut client = Raw::tcp(gateway.address()).await;
            client.send(&[&request, smuggled].concat()).await;
            client.closed().await;
        }
    }
    until("nobody is left", async || gateway.server.clients() == 0).await;
}

#[tokio::test]
async fn a_startup_packet_comes_in_single_bytes() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("enc-bytes", &postgres, "").start().await;
    let mut client = Raw::tcp(gateway.address()).await;
    client.send_one_by_one(&SSL_REQUEST).await;
    assert_eq!(client.byte().await, b'S');
    let config = gateway.authority.client_config(&[]);
    let mut client = client.tls(config, &format!("enc-bytes.{DOMAIN}")).await.unwrap();
    client.send_one_by_one(&startup(&[])).await;
    client.answer(PASSWORD).await;
    let greeting = client.until(b'Z').await;
    assert!(greeting.iter().any(|message| message.tag == b'K'), "{greeting:?}");
    client.send_with(frontend::terminate).await;
}
