//! Certificates: chosen by name, exchanged while serving.

use std::{fs, path::Path};

use super::{host, startup};
use crate::harness::{
    certificates::Authority,
    gateway::{DOMAIN, Gateway, Setup},
    postgres::{Postgres, Version},
    raw::Raw,
    wait::until,
};

/// Whether a client that trusts `authority` alone comes in under this name.
async fn trusted(gateway: &Gateway, authority: &Authority, name: &str) -> bool {
    let config = authority.client_config(&["postgresql"]);
    let client = Raw::tcp(gateway.address()).await.tls(config, name).await;
    let Ok(mut client) = client else { return false };
    client.send(&startup(&[])).await;
    client.message().await.authentication(10);
    true
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let gateway = Setup::new()
        .domain("eu.pg.example")
        .certificate("wild", &["*.eu.pg.example"])
        .certificate("exact", &["one.eu.pg.example", "pg.acme.example"])
        .certificate("local", &[&format!("*.{DOMAIN}")])
        .start()
        .await;
    // The client checks each certificate against the name, so one that is not for it would fail.
    for name in ["one.eu.pg.example", "two.eu.pg.example", "any.db.localhost"] {
        assert!(trusted(&gateway, &gateway.authority, name).await, "{name}");
    }
    for name in ["deep.two.eu.pg.example", "elsewhere.example"] {
        assert!(!trusted(&gateway, &gateway.authority, name).await, "{name}");
    }
}

/// Puts a certificate in place as renewals do: beside it, then renamed over it.
fn replace(authority: &Authority, directory: &Path) {
    let paths = authority
        .certify(&[&format!("*.{DOMAIN}")])
        .write(directory, "renewed");
    for (from, to) in [(paths.key, "server.key"), (paths.certificate, "server.pem")] {
        fs::rename(from, directory.join(to)).unwrap();
    }
}

#[tokio::test]
async fn certificates_are_exchanged_without_dropping_anyone() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("crt-reload", &postgres, "").start().await;
    let name = host("crt-reload");
    let session = gateway.connect("crt-reload").await;
    let renewed = Authority::new();
    assert!(!trusted(&gateway, &renewed, &name).await);

    replace(&renewed, gateway.path());
    until("the new certificate is served", async || {
        trusted(&gateway, &renewed, &name).await
    })
    .await;

    assert!(!trusted(&gateway, &gateway.authority, &name).await);
    let row = session.query_one("select 6 * 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_one_before() {
    let gateway = Setup::new().start().await;
    let name = format!("any.{DOMAIN}");
    fs::write(gateway.path().join("server.pem"), "no certificate").unwrap();
    let told = || {
        let lines = crate::harness::logs::with_text(gateway.path().to_str().unwrap());
        lines
            .iter()
            .any(|line| line.level == tracing::Level::ERROR && line.field("message").contains("not reloaded"))
    };
    until("the operator is told", async || told()).await;
    assert!(trusted(&gateway, &gateway.authority, &name).await);

    let renewed = Authority::new();
    replace(&renewed, gateway.path());
    until("the new certificate is served", async || {
        trusted(&gateway, &renewed, &name).await
    })
    .await;
}

#[tokio::test]
async fn certificates_in_a_linked_folder_are_exchanged_as_kubernetes_does() {
    let setup = Setup::new();
    let authority = Authority::new();
    let renewed = Authority::new();
    let (one, two, link) = (
        setup.path().join("..one"),
        setup.path().join("..two"),
        setup.path().join("..data"),
    );
    for (authority, directory) in [(&authority, &one), (&renewed, &two)] {
        fs::create_dir(directory).unwrap();
        authority
            .certify(&[&format!("*.{DOMAIN}")])
            .write(directory, "server");
    }
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let file = setup.write();
    for name in ["server.pem", "server.key"] {
        let path = file.with_file_name(name);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), path).unwrap();
    }
    let config = pgwake::config::load(&file).unwrap().config;
    let server = pgwake::server::Server::start(config).await.unwrap();
    let pgwake::listener::BoundAddress::Tcp(address) = server.addresses()[0].clone() else {
        unreachable!("one TCP listener")
    };
    let trusted = async |authority: &Authority| {
        let config = authority.client_config(&["postgresql"]);
        Raw::tcp(address)
            .await
            .tls(config, "any.db.localhost")
            .await
            .is_ok()
    };
    assert!(trusted(&authority).await);

    let fresh = link.with_file_name("..fresh");
    std::os::unix::fs::symlink(&two, &fresh).unwrap();
    fs::rename(&fresh, &link).unwrap();
    until("the new certificate is served", async || trusted(&renewed).await).await;
    server.stop().await;
}
