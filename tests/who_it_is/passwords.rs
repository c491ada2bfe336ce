//! Roles with an MD5 verifier: password over TLS, never in plaintext.

use std::fs;

use super::{log_in, refused, startup};
use crate::harness::{
    directories::Directory,
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    psql::psql,
    raw::Raw,
};

/// A server where `old` and the superuser have MD5 verifiers, and the directory that its rules are in.
async fn with_md5() -> (Postgres, Directory) {
    let directory = Directory::for_postgres();
    let rules = directory.path().join("hba");
    fs::write(&rules, "local all all md5\nhost all all all md5\n").unwrap();
    let postgres = Prepared::new(Version::Debian)
        .setting("hba_file", rules.to_str().unwrap())
        .setting("password_encryption", "md5")
        .start()
        .await;
    let admin = postgres.connect().await;
    let superuser = PASSWORD.replace('\'', "''");
    let sql =
        format!("create role old login password 'md5 secret'; alter role {SUPERUSER} password '{superuser}'");
    admin.batch_execute(&sql).await.unwrap();
    (postgres, directory)
}

async fn gateway(postgres: &Postgres, endpoint: &str, keys: &str) -> Gateway {
    Setup::new()
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional" }"#)
        .fixed(endpoint, postgres, keys)
        .start()
        .await
}

#[tokio::test]
async fn md5_verifiers_log_in_with_the_password_over_tls() {
    let (postgres, _directory) = with_md5().await;
    let gateway = gateway(&postgres, "pwd-md5", "").await;
    log_in(&gateway, "pwd-md5", "old", "md5 secret").await.unwrap();
    // The method is the endpoint's, so that it tells nothing about a role.
    log_in(&gateway, "pwd-md5", SUPERUSER, PASSWORD).await.unwrap();
    for (role, password) in [
        ("old", "wrong"),
        ("old", ""),
        ("unknown", "md5 secret"),
        (SUPERUSER, "x"),
    ] {
        assert_eq!(
            refused(&gateway, "pwd-md5", role, password).await.as_deref(),
            Some("28P01"),
            "{role}"
        );
    }
    for role in ["old", SUPERUSER, "unknown"] {
        let mut client = gateway.raw_to("pwd-md5").await;
        client.send(&startup(role)).await;
        client.message().await.authentication(3);
    }
    let connection = gateway
        .connection_string("pwd-md5")
        .replace("user=postgres", "user=old");
    let connection = connection.replace("the superuser\\'s password", "md5 secret");
    psql(&connection)
        .arguments(&["-c", "select 1"])
        .run()
        .await
        .succeeded();
}

#[tokio::test]
async fn passwords_are_not_taken_in_plaintext() {
    let (postgres, _directory) = with_md5().await;
    let gateway = gateway(&postgres, "pwd-plain", "").await;
    for role in ["old", SUPERUSER, "unknown"] {
        let mut client = Raw::tcp(gateway.address()).await;
        let packet = crate::harness::raw::startup(
            crate::harness::raw::PROTOCOL_3_0,
            &[("user", role), ("options", "endpoint=pwd-plain")],
        );
        client.send(&packet).await;
        let refusal = client.message().await.fields();
        client.closed().await;
        assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "08004"), "{role}");
        assert!(refusal[&'H'].contains("sslmode=require"), "{refusal:?}");
    }
}

/// One role that has a SCRAM verifier, among those that do not.
const ONE_SCRAM: &str =
    "set password_encryption = 'scram-sha-256'; create role young login password 'scram secret'";

#[tokio::test]
async fn one_role_with_md5_does_not_make_the_others_send_passwords() {
    let (postgres, _directory) = with_md5().await;
    postgres.connect().await.batch_execute(ONE_SCRAM).await.unwrap();
    for (endpoint, keys) in [("pwd-mixed", ""), ("pwd-scram", "login = \"scram\"")] {
        let gateway = gateway(&postgres, endpoint, keys).await;
        log_in(&gateway, endpoint, "young", "scram secret").await.unwrap();
        let code = refused(&gateway, endpoint, "old", "md5 secret").await;
        assert_eq!(code.as_deref(), Some("28P01"), "{endpoint}");
        let mut client = gateway.raw_to(endpoint).await;
        client.send(&startup("old")).await;
        client.message().await.authentication(10);
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn a_listed_role_with_md5_makes_its_endpoint_ask_for_passwords() {
    let (postgres, _directory) = with_md5().await;
    let admin = postgres.connect().await;
    admin.batch_execute(ONE_SCRAM).await.unwrap();
    let sql = "select rolpassword from pg_authid where rolname = 'old'";
    let verifier: String = admin.query_one(sql, &[]).await.unwrap().get(0);
    let keys = format!("roles.old.verifier = \"{verifier}\"");
    let gateway = gateway(&postgres, "pwd-listed", &keys).await;
    log_in(&gateway, "pwd-listed", "old", "md5 secret").await.unwrap();
    log_in(&gateway, "pwd-listed", "young", "scram secret")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_endpoint_that_says_password_takes_it_from_scram_roles() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = gateway(&postgres, "pwd-clear", "login = \"password\"").await;
    log_in(&gateway, "pwd-clear", SUPERUSER, PASSWORD).await.unwrap();
    let code = refused(&gateway, "pwd-clear", SUPERUSER, "wrong").await;
    assert_eq!(code.as_deref(), Some("28P01"));
    let mut client = gateway.raw_to("pwd-clear").await;
    client.send(&startup(SUPERUSER)).await;
    client.message().await.authentication(3);
    // Two strings are not one password.
    client
        .send(format!("p\0\0\0\x20{PASSWORD}\0more").as_bytes())
        .await;
    assert_eq!(client.message().await.sqlstate(), "08P01");
}
