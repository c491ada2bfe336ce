//! SCRAM with and without channel binding, whatever the certificate is signed with.

mod records;

use postgres_protocol::{
    authentication::sasl::{ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    message::frontend,
};
use tokio_postgres::config::ChannelBinding;

use super::startup;
use crate::harness::{
    certificates::Authority,
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    psql::psql,
    raw::Raw,
    tls_client,
};

/// Whether psql gets in with this `channel_binding`.
async fn psql_gets_in(gateway: &Gateway, endpoint: &str, binding: &str) -> bool {
    let connection = format!(
        "{} channel_binding={binding}",
        gateway.connection_string(endpoint)
    );
    let finished = psql(&connection).arguments(&["-c", "select 1"]).run().await;
    finished.status.success()
}

async fn tokio_postgres_gets_in(gateway: &Gateway, endpoint: &str, binding: ChannelBinding) -> bool {
    let mut config = gateway.config(endpoint);
    config.channel_binding(binding);
    tls_client::connect(&config, &gateway.authority).await.is_ok()
}

/// The mechanisms that are offered.
async fn offered(client: &mut Raw) -> String {
    client.send(&startup(SUPERUSER)).await;
    let names = client.message().await.authentication(10).to_vec();
    String::from_utf8(names).unwrap()
}

#[tokio::test]
async fn logins_are_bound_to_the_certificates_own_hash() {
    let postgres = Postgres::start(Version::Debian).await;
    for (endpoint, algorithm) in [
        ("scr-sha256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("scr-sha384", &rcgen::PKCS_ECDSA_P384_SHA384),
    ] {
        let gateway = Setup::new()
            .signed_by(Authority::signing(algorithm))
            .fixed(endpoint, &postgres, "")
            .start()
            .await;
        let mut client = gateway.raw_to(endpoint).await;
        assert_eq!(
            offered(&mut client).await,
            "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        );
        for binding in ["require", "prefer", "disable"] {
            assert!(
                psql_gets_in(&gateway, endpoint, binding).await,
                "{endpoint} {binding}"
            );
        }
        for binding in [ChannelBinding::Require, ChannelBinding::Disable] {
            assert!(
                tokio_postgres_gets_in(&gateway, endpoint, binding).await,
                "{endpoint} {binding:?}"
            );
        }
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn a_certificate_without_a_hash_of_its_own_binds_nothing() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .signed_by(Authority::signing(&rcgen::PKCS_ED25519))
        .fixed("scr-ed25519", &postgres, "")
        .start()
        .await;
    let mut client = gateway.raw_to("scr-ed25519").await;
    assert_eq!(offered(&mut client).await, "SCRAM-SHA-256\0\0");
    // libpq says here that it could bind: that is right as long as binding was not offered.
    assert!(psql_gets_in(&gateway, "scr-ed25519", "prefer").await);
    assert!(!psql_gets_in(&gateway, "scr-ed25519", "require").await);
    assert!(tokio_postgres_gets_in(&gateway, "scr-ed25519", ChannelBinding::Prefer).await);
}

/// The SQLSTATE that an exchange with this mechanism and this binding ends with.
async fn ends_with(gateway: &Gateway, mechanism: &str, binding: Binding) -> String {
    let mut client = gateway.raw_to("scr-wrong").await;
    client.send(&startup(SUPERUSER)).await;
    client.message().await.authentication(10);
    let mut scram = ScramSha256::new(PASSWORD.as_bytes(), binding);
    client
        .send_with(|bytes| frontend::sasl_initial_response(mechanism, scram.message(), bytes).unwrap())
        .await;
    let answer = client.message().await;
    let last = if answer.tag == b'R' {
        scram.update(answer.authentication(11)).unwrap();
        client
            .send_with(|bytes| frontend::sasl_response(scram.message(), bytes).unwrap())
            .await;
        client.message().await
    } else {
        answer
    };
    client.closed().await;
    last.sqlstate()
}

#[tokio::test]
async fn mechanism_and_binding_must_agree() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("scr-wrong", &postgres, "").start().await;
    let other = || Binding::tls_server_end_point(vec![7; 32]);
    for (mechanism, binding, code) in [
        // The client believes that binding is not offered: somebody has removed it.
        (SCRAM_SHA_256, Binding::unrequested(), "28000"),
        // It is bound to another certificate: somebody sits in between.
        (SCRAM_SHA_256_PLUS, other(), "28000"),
        (SCRAM_SHA_256, other(), "08P01"),
        (SCRAM_SHA_256_PLUS, Binding::unsupported(), "08P01"),
        ("SCRAM-SHA-1", Binding::unsupported(), "08P01"),
    ] {
        let found = ends_with(&gateway, mechanism, binding).await;
        assert_eq!(found, code, "{mechanism}");
    }
}
