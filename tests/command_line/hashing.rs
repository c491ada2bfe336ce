//! `pgwake hash-password`, and the words that the program says of itself.

use super::pgwake;
use crate::harness::{
    gateway::Setup,
    postgres::{Postgres, Version},
    tls_client,
};

/// What it prints for a password on its standard input: verifier and statement.
async fn hashed(password: &str, more: &[&str]) -> (String, String) {
    let mut running = pgwake(&[&["hash-password"], more].concat()).start();
    running.say(password).await;
    let output = running.end().await.succeeded();
    let (verifier, statement) = output.split_once('\n').unwrap();
    (verifier.to_owned(), statement.to_owned())
}

#[tokio::test]
async fn verifier_and_statement_open_both_doors() {
    let postgres = Postgres::start(Version::Debian).await;
    let password = "it's \"odd\" \u{fc}\\ ";
    let (verifier, statement) = hashed(password, &["--role", "o'hara \"x\""]).await;
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
    assert!(!statement.contains(password), "{statement}");
    let admin = postgres.connect().await;
    admin
        .batch_execute("create role \"o'hara \"\"x\"\"\" login")
        .await
        .unwrap();
    admin.batch_execute(&statement).await.unwrap();

    let gateway = Setup::new()
        .tenants(&format!(
            "[tenants.acme.endpoints.cmd-hash]\n\
             roles.\"o'hara \\\"x\\\"\".verifier = \"{verifier}\"\n\
             compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
            postgres.socket().display()
        ))
        .start()
        .await;
    let mut config = gateway.config("cmd-hash");
    config.user("o'hara \"x\"").password(password);
    tls_client::connect(&config, &gateway.authority).await.unwrap();
    config.password("it's");
    assert!(tls_client::connect(&config, &gateway.authority).await.is_err());
}

#[tokio::test]
async fn each_verifier_has_a_salt_of_its_own() {
    let (one, _) = hashed("same", &[]).await;
    let (other, statement) = hashed("same", &["--iterations", "10000"]).await;
    assert_ne!(one, other);
    assert!(other.starts_with("SCRAM-SHA-256$10000:"), "{other}");
    assert!(statement.contains(&other), "{statement}");
}

#[tokio::test]
async fn no_password_is_an_error() {
    let finished = pgwake(&["hash-password"]).run().await;
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.output, "");
    assert!(finished.errors.contains("empty"), "{finished:?}");
}

#[tokio::test]
async fn help_teaches_and_version_tells() {
    let help = pgwake(&["--help"]).run().await.succeeded();
    for word in [
        "demo",
        "serve",
        "check",
        "hash-password",
        "--log-format",
        "RUST_LOG",
        "SIGTERM",
    ] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    for command in ["demo", "serve", "check", "hash-password"] {
        pgwake(&[command, "--help"]).run().await.succeeded();
    }
    let version = pgwake(&["--version"]).run().await.succeeded();
    assert_eq!(version, format!("pgwake {}", env!("CARGO_PKG_VERSION")));
    for wrong in [&["wake"][..], &["serve"], &["demo", "--suspend-after", "20"]] {
        let finished = pgwake(wrong).run().await;
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    }
}
