//! What a client asks for at its start reaches Postgres, and Postgres' own answer reaches the client.

use std::collections::BTreeMap;

use postgres_protocol::message::frontend;

use super::{host, libpq, startup};
use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    psql::psql,
    raw::{self, Raw},
};

/// One value from a query.
async fn value(client: &mut Raw, sql: &str) -> String {
    client.query(sql).await;
    let answer = client.until(b'Z').await;
    let row = answer.iter().find(|message| message.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("{sql}: {answer:?}"));
    row.row().remove(0).unwrap()
}

const PARAMETERS: &[(&str, &str)] = &[
    ("application_name", "par \u{00fc} 'x'"),
    ("TimeZone", "Pacific/Chatham"),
    ("search_path", "\"odd schema\", public"),
    ("DateStyle", "German, DMY"),
    ("client_encoding", "LATIN1"),
    ("extra_float_digits", "-2"),
    ("myapp.tenant", "acme; drop table x; --"),
    ("options", "-c geqo=off -c statement_timeout=7s"),
];

const EXPECTED: &[(&str, &str)] = &[
    ("application_name", "par ?? 'x'"),
    ("TimeZone", "Pacific/Chatham"),
    ("search_path", "\"odd schema\", public"),
    ("DateStyle", "German, DMY"),
    ("client_encoding", "LATIN1"),
    ("extra_float_digits", "-2"),
    ("myapp.tenant", "acme; drop table x; --"),
    ("geqo", "off"),
    ("statement_timeout", "7s"),
];

#[tokio::test]
async fn every_startup_parameter_reaches_postgres_and_is_what_reset_returns_to() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("par-all", &postgres, "").start().await;
    let mut direct = Raw::unix(&postgres.socket()).await;
    direct.log_in(&startup(PARAMETERS), PASSWORD).await;
    let mut client = gateway.raw_to("par-all").await;
    let greeting = client.log_in(&startup(PARAMETERS), PASSWORD).await;
    let told: BTreeMap<_, _> = greeting
        .iter()
        .filter(|message| message.tag == b'S')
        .map(raw::Message::parameter)
        .collect();
    assert_eq!(told["TimeZone"], "Pacific/Chatham");
    assert_eq!(told["client_encoding"], "LATIN1");

    for words in ["", "reset all", "discard all"] {
        if !words.is_empty() {
            for (name, _) in EXPECTED
                .iter()
                .filter(|(name, _)| !name.contains("client_encoding"))
            {
                let other = match *name {
                    "geqo" => "on",
                    "statement_timeout" | "extra_float_digits" => "1",
                    "TimeZone" => "UTC",
                    "DateStyle" => "ISO, MDY",
                    _ => "other",
                };
                value(
                    &mut client,
                    &format!("select set_config('{name}', '{other}', false)"),
                )
                .await;
            }
            client.query(words).await;
            client.until(b'Z').await;
        }
        for (name, expected) in EXPECTED {
            let show = format!("select current_setting('{name}')");
            let found = value(&mut client, &show).await;
            assert_eq!(found, value(&mut direct, &show).await, "{name} {words}");
            if *name != "application_name" {
                assert_eq!(found, *expected, "{name} {words}");
            }
        }
    }
}

/// What a server says to this startup packet: its error's fields, but where in the server's source it came up.
async fn refusal(mut client: Raw, startup: &[u8]) -> BTreeMap<char, String> {
    client.send(startup).await;
    client.answer(PASSWORD).await;
    let said = client.until(b'E').await;
    client.closed().await;
    said.last().unwrap().fields()
}

async fn assert_same_refusal(
    gateway: &Gateway,
    postgres: &Postgres,
    parameters: &[(&str, &str)],
    code: &str,
) {
    let all = [&[("user", SUPERUSER)], parameters].concat();
    let packet = raw::startup(raw::PROTOCOL_3_0, &all);
    let direct = refusal(Raw::unix(&postgres.socket()).await, &packet).await;
    let through = refusal(gateway.raw_to("par-refused").await, &packet).await;
    assert_eq!(through[&'C'], code);
    assert_eq!(through, direct, "{parameters:?}");
}

#[tokio::test]
async fn what_postgres_refuses_it_refuses_in_its_own_words() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("par-refused", &postgres, "").start().await;
    let there = ("database", "postgres");
    for (parameters, code) in [
        (&[("database", "not there")][..], "3D000"),
        (&[there, ("geqo", "maybe")], "22023"),
        (&[there, ("no_such_setting", "1")], "42704"),
        (&[there, ("options", "-c work_mem=1kB")], "22023"),
        (&[there, ("options", "--no-such")], "42601"),
        (&[there, ("client_encoding", "klingon")], "22023"),
        (&[there, ("shared_buffers", "1GB")], "55P02"),
    ] {
        assert_same_refusal(&gateway, &postgres, parameters, code).await;
    }
}

const ODD: [&str; 5] = [
    "with space; 'quotes' \"more\"",
    "dot.dot/slash\\back",
    "%41 endpoint=x = options",
    "Grün ☃",
    "template-0",
];

#[tokio::test]
async fn databases_and_roles_may_have_any_name() {
    let postgres = Postgres::start(Version::Debian).await;
    let admin = postgres.connect().await;
    let roles: Vec<String> = ODD.iter().map(|name| format!("{name} of a role")).collect();
    for (name, role) in ODD.iter().zip(&roles) {
        let (name, role) = (name.replace('"', "\"\""), role.replace('"', "\"\""));
        for sql in [
            format!("create role \"{role}\" login password 'odd'"),
            format!("create database \"{name}\""),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
    }
    let gateway = Setup::new().fixed("par-odd", &postgres, "").start().await;
    for (name, role) in ODD.iter().zip(&roles) {
        let packet = raw::startup(raw::PROTOCOL_3_0, &[("user", role), ("database", name)]);
        let mut client = gateway.raw_to("par-odd").await;
        client.log_in(&packet, "odd").await;
        let found = value(&mut client, "select current_database() || '|' || current_user").await;
        assert_eq!(found, format!("{name}|{role}"));
        client.send_with(frontend::terminate).await;
    }
    // A client that names no database means the one with its role's name.
    let packet = raw::startup(raw::PROTOCOL_3_0, &[("user", SUPERUSER)]);
    let mut client = gateway.raw_to("par-odd").await;
    client.log_in(&packet, PASSWORD).await;
    assert_eq!(value(&mut client, "select current_database()").await, SUPERUSER);
}

#[tokio::test]
async fn replication_connections_are_passed_on() {
    let postgres = Prepared::new(Version::Debian)
        .setting("wal_level", "logical")
        .start()
        .await;
    let gateway = Setup::new().fixed("par-repl", &postgres, "").start().await;
    for kind in ["database", "true"] {
        let connection = libpq(&gateway, &host("par-repl"), &format!("replication={kind}"));
        let said = psql(&connection)
            .arguments(&["-c", "IDENTIFY_SYSTEM"])
            .run()
            .await
            .succeeded();
        assert_eq!(said.split('|').count(), 4, "{said}");
    }
}
