//! Files that cannot hold: everything stays as it was.

use std::fs;

use super::{fixed, rewrite, started, text};
use crate::harness::{
    gateway::Setup,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    tls_client,
};
use pgwake::{auth::verifier_for, ids::Secret};

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new()
        .tenants("[audit]\nto = \"file\"\nfile = \"audit.json\"\n")
        .tenants(&fixed(
            "acme",
            "rel-broken",
            &postgres,
            "limits.per_endpoint.clients_max = 7",
        ));
    let gateway = started(setup).await;
    let client = gateway.connect("rel-broken").await;
    let right = text(&gateway);
    let lowered = right.replace("clients_max = 7", "clients_max = 1");
    let cut = &lowered[..lowered.find("compute").unwrap() + 12];
    let deep = format!("{lowered}\nx = {}", "[".repeat(100_000));
    let cases: [(&str, &[u8]); 8] = [
        ("nothing at all", b""),
        ("half written", cut.as_bytes()),
        (
            "one wrong key beside a right one",
            &[lowered.as_bytes(), b"\nlimitz.clients_max = 1\n"].concat(),
        ),
        (
            "a wrong value",
            lowered
                .replace("clients_max = 1", "clients_max = 0")
                .as_bytes()
                .to_vec()
                .leak(),
        ),
        ("not UTF-8", &[lowered.as_bytes(), b"\n# \xff\xfe\n"].concat()),
        ("a NUL", &[lowered.as_bytes(), b"\nstate_dir = \"\0\"\n"].concat()),
        ("very deep", deep.as_bytes()),
        (
            "an authority that is not there",
            &[
                lowered.as_bytes(),
                b"\nclient_certificates = { ca = \"nowhere.pem\" }\n",
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in cases {
        fs::write(gateway.path().join("pgwake.toml"), bytes).unwrap();
        let error = gateway.server.reload().await.expect_err(what);
        assert!(!error.to_string().is_empty(), "{what}");
        // The lower limit, which was right by itself, does not hold.
        let second = gateway.connect("rel-broken").await;
        client.batch_execute("select 1").await.unwrap();
        second.batch_execute("select 1").await.unwrap();
    }
    fs::remove_file(gateway.path().join("pgwake.toml")).unwrap();
    gateway.server.reload().await.expect_err("no file");
    rewrite(gateway.path(), &right);
    let changes = gateway.server.reload().await.unwrap();
    assert!(changes.is_empty(), "{changes}");
    gateway.server.stop().await;
    let audit = fs::read_to_string(gateway.path().join("audit.json")).unwrap();
    let told = audit
        .lines()
        .filter(|line| line.contains("\"event\":\"reload\"") && line.contains("failed"));
    assert_eq!(told.count(), 9, "{audit}");
}

/// Only a change of the file itself was a reason to try again.
#[tokio::test]
async fn what_failed_for_a_file_beside_it_holds_once_that_is_there() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-beside", &postgres, ""));
    let gateway = started(setup).await;
    let authority = "client_certificates = { ca = \"later.pem\" }\n";
    rewrite(gateway.path(), &(text(&gateway) + authority));
    gateway.server.reload().await.expect_err("it is not there");
    let asks = || {
        let mut endpoints = gateway.server.house().directory.endpoints();
        endpoints.next().unwrap().client_certificates.is_some()
    };
    gateway.server.reloader().retry().await;
    assert!(!asks());
    let ca = gateway.authority.write(gateway.path());
    fs::copy(ca, gateway.path().join("later.pem")).unwrap();
    gateway.server.reloader().retry().await;
    assert!(asks());
    gateway.server.stop().await;
}

/// It said that nothing had changed, and served what was there before until somebody looked by chance.
#[tokio::test]
async fn certificates_are_read_again_with_the_configuration() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-served", &postgres, ""));
    let gateway = started(setup).await;
    let new = gateway.authority.certify(&["*.db.example"]);
    new.write(gateway.path(), "server");
    gateway.server.reload().await.unwrap();
    let again = gateway.server.house().certificates.reload();
    assert!(again.changed.is_empty() && again.failed.is_empty(), "{again:?}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_told_by_name_and_the_rest_holds() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-restart", &postgres, ""));
    let gateway = started(setup).await;
    let before = text(&gateway);
    let after = before
        .replace("state_dir = \"state\"", "state_dir = \"elsewhere\"")
        .replace(
            "postgres = \"127.0.0.1:0\"",
            "postgres = [\"127.0.0.1:0\", \"[::1]:0\"]",
        )
        .replace(
            "[limits]",
            "[limits]\ntcp_keepalive = \"10s\"\nlogin_timeout = \"14s\"",
        )
        .replace(
            "kind = \"fixed\", address = \"/",
            "kind = \"fixed\", address = \"/nowhere/",
        )
        .replace(
            "[tenants.acme.endpoints.rel-restart]",
            "[tenants.acme.endpoints.rel-restart]\nstop_timeout = \"11s\"",
        );
    rewrite(gateway.path(), &after);
    let changes = gateway.server.reload().await.unwrap();
    assert_eq!(changes.changed, ["limits"]);
    let endpoint = |key: &str| format!("tenants.acme.endpoints.rel-restart.{key}");
    let needs_restart = [
        "state_dir",
        "listen.postgres",
        "limits.tcp_keepalive",
        &endpoint("compute"),
        &endpoint("stop_timeout"),
    ];
    assert_eq!(changes.needs_restart, needs_restart);
    assert_eq!(gateway.server.house().limits.load().login_timeout.as_secs(), 14);
    gateway
        .connect("rel-restart")
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_endpoint_that_changes_its_tenant_is_the_old_ones_whole_until_a_restart() {
    let listed = |password: &str| {
        let verifier = verifier_for(&Secret::new(password), 4096);
        let verifier = verifier.to_text();
        format!("roles.{SUPERUSER} = {{ verifier = \"{verifier}\", server_password = \"{PASSWORD}\" }}")
    };
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-moves", &postgres, &listed(PASSWORD)));
    let gateway = started(setup).await;
    let before = text(&gateway);
    let at = before.find("[tenants.acme.endpoints.rel-moves]").unwrap();
    let moved = fixed("other", "rel-moves", &postgres, &listed("another's password"));
    rewrite(gateway.path(), &format!("{}{moved}", &before[..at]));

    let changes = gateway.server.reload().await.unwrap();

    assert_eq!(changes.needs_restart, ["tenants.other.endpoints.rel-moves"]);
    assert!(changes.changed.is_empty(), "{changes}");
    gateway.connect("rel-moves").await;
    let mut config = gateway.config("rel-moves");
    config.password("another's password");
    let refused = tls_client::connect(&config, &gateway.authority).await;
    assert_eq!(refused.err().unwrap().code().unwrap().code(), "28P01");
}
