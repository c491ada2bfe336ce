//! Wrong password, unknown role and unknown endpoint are one conversation.

use std::collections::BTreeSet;

use super::{conversation, startup, verifier};
use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, Version},
    raw::{self, Message, Raw},
};

const ROLES: &str = "create role app_one login password 'right';
    create role expired login password 'right' valid until '2001-01-01';
    create role nologin password 'right';
    create role bare_one login;";

/// Tags, lengths and all that is not random: what two conversations must share.
fn shape(heard: &[Message], role: &str) -> Vec<(u8, usize, String)> {
    let shape = |message: &Message| {
        let words = if message.tag == b'E' {
            let mut fields = message.fields();
            let detail = fields.insert('D', String::new()).unwrap();
            assert!(detail.starts_with("(pgwake session "), "{detail}");
            format!("{fields:?}").replace(role, "ROLE")
        } else {
            let text = String::from_utf8_lossy(&message.body[4..]).into_owned();
            text.rsplit_once(",i=")
                .map_or("", |(_, rounds)| rounds)
                .to_owned()
        };
        (message.tag, message.body.len(), words)
    };
    heard.iter().map(shape).collect()
}

#[tokio::test]
async fn whatever_is_wrong_reads_the_same() {
    let postgres = Postgres::start(Version::Debian).await;
    postgres.connect().await.batch_execute(ROLES).await.unwrap();
    let gateway = Setup::new().fixed("one-known", &postgres, "").start().await;
    let mut shapes = Vec::new();
    for (endpoint, role, password) in [
        ("one-known", "app_one", "wrong"),
        ("one-known", "unknown", "right"),
        ("one-known", "expired", "right"),
        ("one-known", "expired", "wrong"),
        ("one-known", "nologin", "right"),
        ("one-known", "bare_one", ""),
        ("one-where", "app_one", "right"),
        ("x", "app_one", "right"),
    ] {
        let heard = conversation(gateway.raw_to(endpoint).await, role, password).await;
        let refusal = heard[2].fields();
        assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "28P01"));
        let expected = format!("password authentication failed for user \"{role}\"");
        assert_eq!(refusal[&'M'], expected);
        assert!(!refusal.contains_key(&'H'), "{refusal:?}");
        // Roles' names have different lengths, and the error repeats them.
        let mut shape = shape(&heard, role);
        shape[2].1 -= role.len();
        shapes.push((format!("{endpoint} {role} {password}"), shape));
    }
    for (name, shape) in &shapes[1..] {
        assert_eq!(*shape, shapes[0].1, "{name}");
    }
}

#[tokio::test]
async fn one_tenants_password_is_worthless_at_another_whatever_name_leads_there() {
    let endpoint = |tenant: &str, name: &str, password: &str| {
        format!(
            "[tenants.{tenant}.endpoints.{name}]\nroles.app.verifier = \"{}\"\n\
             compute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n",
            verifier(password)
        )
    };
    let gateway = Setup::new()
        .tenants(&endpoint("acme", "one-acme", "of acme"))
        .tenants(&endpoint("other", "one-other", "of other"))
        .start()
        .await;
    for (name, password) in [
        ("one-acme", "of other"),
        ("one-other", "of acme"),
        ("one-other-pooler", "of acme"),
    ] {
        let heard = conversation(gateway.raw_to(name).await, "app", password).await;
        assert_eq!(heard.last().unwrap().sqlstate(), "28P01", "{name}");
    }
    // The server name says one tenant, `options` the other.
    let options = [("user", "app"), ("options", "endpoint=one-other")];
    let mut client = gateway.raw_to("one-acme").await;
    client.send(&raw::startup(raw::PROTOCOL_3_0, &options)).await;
    assert_eq!(client.message().await.sqlstate(), "08004");
}

#[tokio::test]
async fn roles_with_other_rounds_hide_among_themselves() {
    let rounds = pgwake::auth::verifier_for(&pgwake::ids::Secret::new("right"), 12_345);
    let gateway = Setup::new()
        .tenants(&format!(
            "[tenants.acme.endpoints.one-rounds]\n\
             roles.app.verifier = \"{}\"\n\
             compute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n",
            rounds.to_text()
        ))
        .start()
        .await;
    for role in ["app", "unknown"] {
        assert_eq!(challenge(&gateway, "one-rounds", role).await.1, "12345", "{role}");
    }
}

/// Salt and rounds that a role is challenged with.
async fn challenge(gateway: &Gateway, endpoint: &str, role: &str) -> (String, String) {
    let heard = conversation(gateway.raw_to(endpoint).await, role, "wrong").await;
    let text = String::from_utf8(heard[1].authentication(11).to_vec()).unwrap();
    let (rest, rounds) = text.rsplit_once(",i=").unwrap();
    let (_, salt) = rest.split_once(",s=").unwrap();
    (salt.to_owned(), rounds.to_owned())
}

#[tokio::test]
async fn salts_stay_the_same_for_a_name_over_restarts_and_differ_between_names() {
    let known = verifier(PASSWORD);
    let gateway = Setup::new()
        .tenants(&format!(
            "[tenants.acme.endpoints.one-salt]\n\
             roles.app.verifier = \"{known}\"\n\
             compute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n"
        ))
        .start()
        .await;
    const NAMES: [(&str, &str); 6] = [
        ("one-salt", "app"),
        ("one-salt", "stranger"),
        ("one-salt", "stranger2"),
        ("one-none", "app"),
        ("one-none", "stranger"),
        ("one-none2", "app"),
    ];
    let salts = async |gateway: &Gateway| {
        let mut salts = Vec::new();
        for (endpoint, role) in NAMES {
            salts.push(challenge(gateway, endpoint, role).await.0);
        }
        salts
    };
    let before = salts(&gateway).await;
    assert_eq!(before, salts(&gateway).await);
    assert_eq!(BTreeSet::from_iter(&before).len(), NAMES.len(), "{before:?}");
    assert!(known.contains(&before[0]), "the role's own salt is not used");
    let lengths: BTreeSet<usize> = before.iter().map(String::len).collect();
    assert_eq!(lengths.len(), 1, "{before:?}");

    let gateway = gateway.restart().await;
    assert_eq!(before, salts(&gateway).await);
}

#[tokio::test]
async fn nothing_is_said_to_a_client_that_leaves_in_the_middle() {
    let gateway = Setup::new().start().await;
    for messages in 0..2 {
        let mut client: Raw = gateway.raw_to("one-leaves").await;
        client.send(&startup("app")).await;
        client.message().await.authentication(10);
        if messages > 0 {
            client.send(b"p\0\0\0\x40SCRAM-SHA").await;
        }
    }
    crate::harness::wait::until("nobody is left", async || gateway.server.clients() == 0).await;
}
