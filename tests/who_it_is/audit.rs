//! The audit log: every event with who it was, and nothing that is secret.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use serde_json::Value;

use super::{conversation, log_in, startup};
use crate::harness::{
    child::{Pgwake, program_with},
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, SUPERUSER},
    raw::{self, Raw},
    tls_client,
    wait::until,
};

const TO_FILE: &str = "[audit]\nto = \"file\"\nfile = \"audit.json\"\n";

/// All that the file holds, once there are so many lines of this kind.
async fn events(gateway: &Gateway, kind: &str, count: usize) -> Vec<Value> {
    let file = gateway.path().join("audit.json");
    let mut found = Vec::new();
    until(&format!("{count} lines of {kind}"), async || {
        let text = fs::read_to_string(&file).unwrap();
        let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        found = whole.collect();
        found
            .iter()
            .filter(|event: &&Value| event["event"] == kind)
            .count()
            >= count
    })
    .await;
    found
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn each_step_of_a_client_is_a_line_with_who_it_was() {
    let gateway = Setup::new()
        .listed("aud-steps", "")
        .tenants(TO_FILE)
        .start()
        .await;
    for (pooling, expected) in [
        (
            "",
            &["connect", "auth_ok", "wake_asked", "wake_ready", "session_closed"][..],
        ),
        ("-pooler", &["connect", "auth_ok", "session_closed"]),
    ] {
        let file = gateway.path().join("audit.json");
        fs::write(&file, "").unwrap();
        let mut config = gateway.config(&format!("aud-steps{pooling}"));
        config.application_name("an \"app\"\n");
        let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
        let sql = "select 'aud-secret statement'";
        client.batch_execute(sql).await.unwrap();
        client
            .batch_execute("select aud_secret_column")
            .await
            .unwrap_err();
        drop(client);
        let events = events(&gateway, "session_closed", 1).await;
        assert_eq!(kinds(&events), expected);
        let session = &events[0]["session"];
        for event in &events {
            for (field, value) in [
                ("tenant", "acme"),
                ("endpoint", "aud-steps"),
                ("role", SUPERUSER),
                ("database", "postgres"),
                ("application", "an \"app\"\n"),
                ("tls", "TLSv1.3"),
                ("method", "scram"),
            ] {
                assert_eq!(event[field], value, "{event}");
            }
            assert_eq!(&event["session"], session, "{event}");
            assert!(
                event["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
                "{event}"
            );
            assert!(event["cipher"].as_str().unwrap().starts_with("TLS13_"), "{event}");
            assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        }
        let last = events.last().unwrap();
        assert_eq!(last["sqlstate"], "00000", "{last}");
        assert!(last["bytes_in"].as_u64().unwrap() > 20, "{last}");
        let text = fs::read_to_string(&file).unwrap();
        for secret in ["aud-secret", "aud_secret", PASSWORD] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

/// The log heard of what a client was refused when its turn ended: without pooling, or pinned, when its stay did.
#[tokio::test]
async fn what_is_refused_is_told_while_its_client_is_here() {
    let gateway = Setup::new()
        .listed("aud-quota", "limits.per_role.transactions = \"2/h\"")
        .tenants(TO_FILE)
        .start()
        .await;
    let mut pinned = gateway.raw_served("aud-quota-pooler").await;
    let mut unpooled = gateway.raw_served("aud-quota").await;
    for (client, sql) in [(&mut pinned, "listen news"), (&mut unpooled, "select 1")] {
        client.query(sql).await;
        client.until(b'Z').await;
    }
    for (number, client) in [&mut pinned, &mut unpooled].into_iter().enumerate() {
        for _ in 0..3 {
            client.query("select 2").await;
            let said = client.until(b'Z').await;
            assert_eq!(said[0].fields()[&'C'], "53400", "{said:?}");
        }
        let events = events(&gateway, "quota", number + 1).await;
        assert!(!kinds(&events).contains(&"session_closed"), "{events:?}");
        let told = events.last().unwrap();
        assert_eq!(told["limit"], "limits.per_role.transactions", "{told}");
        assert_eq!(told["sqlstate"], "53400", "{told}");
        assert!(told["reason"].as_str().unwrap().contains("is 2/h"), "{told}");
    }
}

#[tokio::test]
async fn a_wake_that_fails_has_what_its_client_reads_of_it() {
    let gateway = Setup::new()
        .listed("aud-broken", "")
        .tenants(TO_FILE)
        .start()
        .await;
    let settings = gateway.data_dir("aud-broken").join("postgresql.conf");
    let broken = fs::read_to_string(&settings).unwrap() + "\nshared_buffers = nonsense\n";
    fs::write(&settings, broken).unwrap();
    gateway.raw_proved("aud-broken").await.until(b'E').await;
    let events = events(&gateway, "wake_failed", 1).await;
    let told = events
        .iter()
        .find(|event| event["event"] == "wake_failed")
        .unwrap();
    assert_eq!(
        told["reason"],
        "compute for endpoint \"aud-broken\" could not be started"
    );
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("postgres ended with exit status 1"), "{told}");
    assert!(!told.to_string().contains("nonsense"), "{told}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_failed_login_has_its_true_reason() {
    let gateway = Setup::new()
        .listed("aud-failed", "")
        .tenants(TO_FILE)
        .start()
        .await;
    for (number, (endpoint, role, reason)) in [
        ("aud-failed", SUPERUSER, "wrong password"),
        ("aud-failed", "nobody", "no such role is known"),
        ("aud-nowhere", "nobody", "no such endpoint"),
    ]
    .into_iter()
    .enumerate()
    {
        conversation(gateway.raw_to(endpoint).await, role, "aud-secret guess").await;
        let events = events(&gateway, "auth_failed", number + 1).await;
        let last = events.last().unwrap();
        assert!(last["reason"].as_str().unwrap().ends_with(reason), "{last}");
        assert_eq!(
            (&last["sqlstate"], &last["role"]),
            (&"28P01".into(), &role.into())
        );
        let tenant = (endpoint == "aud-failed").then_some("acme");
        assert_eq!(last["tenant"].as_str(), tenant, "{last}");
        assert!(!last.to_string().contains("aud-secret"), "{last}");
    }
    assert_eq!(gateway.wakes("aud-failed"), 0);
}

#[tokio::test]
async fn lock_outs_and_refused_encryption_have_lines_of_their_own() {
    let gateway = Setup::new()
        .listed("aud-locked", "")
        .tenants(TO_FILE)
        .tenants("[gate]\nfailures_max = 2\n")
        .start()
        .await;
    for _ in 0..3 {
        conversation(gateway.raw_to("aud-locked").await, SUPERUSER, "aud-secret guess").await;
    }
    let told = events(&gateway, "lockout", 1).await;
    let lockout = told.iter().find(|event| event["event"] == "lockout").unwrap();
    assert_eq!(
        (&lockout["role"], &lockout["endpoint"]),
        (&SUPERUSER.into(), &"aud-locked".into()),
        "{lockout}"
    );
    assert_eq!(told.iter().filter(|event| event["event"] == "connect").count(), 3);

    let mut plain = Raw::tcp(gateway.address()).await;
    plain.send(&startup("app")).await;
    assert_eq!(plain.message().await.sqlstate(), "08004");
    let mut broken = Raw::tcp(gateway.address()).await;
    broken.send(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).await;
    while broken.any().await {}
    let told = events(&gateway, "tls_refused", 2).await;
    let reasons: Vec<_> = told
        .iter()
        .filter(|event| event["event"] == "tls_refused")
        .collect();
    assert_eq!(
        (&reasons[0]["sqlstate"], &reasons[1]["sqlstate"]),
        (&"08004".into(), &"08P01".into()),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .all(|event| event["peer"].as_str().unwrap().starts_with("127.0.0.1:"))
    );
}

#[tokio::test]
async fn a_cancel_and_a_client_that_leaves_early_are_told() {
    let gateway = Setup::new().tenants(TO_FILE).start().await;
    let mut cancel = Raw::tcp(gateway.address()).await;
    cancel.send(&raw::cancel_request(7, b"1234")).await;
    cancel.closed().await;
    events(&gateway, "cancel", 1).await;
    let mut client = gateway.raw_to("aud-nowhere").await;
    client.send(&startup("app")).await;
    client.message().await.authentication(10);
    drop(client);
    let events = events(&gateway, "auth_failed", 1).await;
    assert!(
        events.last().unwrap()["reason"]
            .as_str()
            .unwrap()
            .contains("left")
    );
}

#[tokio::test]
async fn what_was_told_before_the_end_is_written() {
    let gateway = Setup::new().listed("aud-end", "").tenants(TO_FILE).start().await;
    let _ = log_in(&gateway, "aud-end", SUPERUSER, "wrong").await;
    gateway.server.stop().await;
    let text = fs::read_to_string(gateway.path().join("audit.json")).unwrap();
    assert!(text.contains("\"auth_failed\"") && text.ends_with('\n'), "{text}");
}

#[tokio::test]
async fn a_new_file_may_be_read_by_its_group_whatever_the_umask_is_and_another_stays_as_it_is() {
    let mode = async |before: Option<u32>| {
        let setup = Setup::new().tenants(TO_FILE);
        let file = setup.path().join("audit.json");
        if let Some(mode) = before {
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        let program = program_with(&setup, &["sh", "-c", "umask 077; exec \"$@\"", "sh"]);
        let pgwake = Pgwake::start_as(program, &setup).await;
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        drop(pgwake);
        mode
    };
    assert_eq!(mode(None).await, 0o640);
    assert_eq!(mode(Some(0o600)).await, 0o600);
}
