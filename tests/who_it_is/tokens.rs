//! Tokens as passwords: who comes in with one, who does not, and what becomes of a session when its token is over.

use std::{fs, sync::LazyLock, time::SystemTime};

use postgres_protocol::message::frontend;
use serde_json::{Value, json};

use super::{log_in, refused, startup, verifier};
use crate::harness::{
    account::Account,
    gateway::{Gateway, Setup},
    issuer::{By, Issuer},
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    psql::psql,
    raw::{Message, Raw},
    tls_client,
};

pub(super) static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

pub(super) fn claims(role: &str) -> Value {
    json!({ "iss": "https://id.example", "aud": "db", "sub": role, "exp": now() + 600, "tenant": "acme" })
}

pub(super) fn token(role: &str) -> String {
    ISSUER.token(By::P256, &claims(role))
}

fn changed(claim: &str, value: Value) -> String {
    let mut claims = claims("app");
    claims[claim] = value;
    ISSUER.token(By::P256, &claims)
}

/// `[defaults]` that let tokens of the issuer in, whose keys are in a file.
pub(super) fn with_tokens(setup: Setup, login: &str, more: &str) -> Setup {
    let file = setup.path().join("keys.json");
    fs::write(&file, ISSUER.key_set().to_string()).unwrap();
    setup.tenants(&format!(
        "[defaults]\nlogin = \"{login}\"\n\
         tokens = {{ keys = {{ file = \"keys.json\" }}, issuer = \"https://id.example\", audiences = [\"db\"]{more} }}\n"
    ))
}

/// An endpoint in front of a server, with the role `app`, whom pgwake logs in with a password.
pub(super) fn fixed(setup: Setup, endpoint: &str, postgres: &Postgres, keys: &str) -> Setup {
    setup.tenants(&format!(
        "[tenants.acme.endpoints.{endpoint}]\n\
         roles.app = {{ server_password = \"for pgwake alone\", subjects = [\"app\", \"orders-service\"] }}\n\
         roles.plain = {{ server_password = \"for pgwake alone\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n{keys}\n",
        postgres.socket().display()
    ))
}

pub(super) async fn with_app() -> Postgres {
    let postgres = Postgres::start(Version::Debian).await;
    let sql = "create role app login password 'for pgwake alone'; create role plain login password 'for pgwake alone'";
    postgres.connect().await.batch_execute(sql).await.unwrap();
    postgres
}

#[tokio::test]
async fn a_token_of_each_kind_logs_in_with_every_client() {
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "token", "");
    let gateway = fixed(setup, "tok-all", &postgres, "").start().await;
    for by in [By::Rsa, By::P256, By::Ed25519] {
        let token = ISSUER.token(by, &claims("orders-service"));
        log_in(&gateway, "tok-all", "app", &token).await.unwrap();
        let connection = gateway
            .connection_string("tok-all")
            .replace("user=postgres", "user=app");
        let connection = connection.replace(&PASSWORD.replace('\'', "\\'"), &token);
        let output = psql(&connection)
            .arguments(&["-c", "select session_user"])
            .run()
            .await;
        assert_eq!(output.succeeded().trim(), "app");
    }
    let mut long = claims("app");
    long["name"] = Value::from("x".repeat(8_000));
    let long = ISSUER.token(By::Rsa, &long);
    log_in(&gateway, "tok-all", "app", &long).await.unwrap();
}

#[tokio::test]
async fn clients_with_different_tokens_share_pooled_sessions() {
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "token", "");
    let gateway = fixed(
        setup,
        "tok-pool",
        &postgres,
        "pool = { mode = \"transaction\", size = 1 }",
    )
    .start()
    .await;
    let mut pids = Vec::new();
    for subject in ["app", "orders-service"] {
        let mut config = gateway.config("tok-pool");
        config.user("app").password(token(subject));
        let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
        let row = client.query_one("select pg_backend_pid()", &[]).await.unwrap();
        pids.push((row.get::<_, i32>(0), client));
    }
    assert_eq!(pids[0].0, pids[1].0);
}

#[tokio::test]
async fn what_is_not_right_of_a_token_is_a_wrong_password_and_wakes_nothing() {
    let gateway = with_tokens(Setup::new(), "token", "")
        .listed("tok-wrong", "roles.app = { server_password = \"x\" }")
        .start()
        .await;
    let wrong_key = Issuer::new().token(By::P256, &claims("app"));
    let none = ISSUER.token(By::Nobody, &claims("app"));
    let confused = ISSUER.signed(
        By::PublicKeyAsSecret,
        &json!({ "alg": "RS256", "kid": "rsa" }),
        &claims("app"),
    );
    let huge = changed("name", Value::from("x".repeat(40_000)));
    for (what, token) in [
        ("audience", changed("aud", json!("another-audience"))),
        ("issuer", changed("iss", json!("https://other.example"))),
        ("expired", changed("exp", json!(now() - 60))),
        ("not yet", changed("nbf", json!(now() + 60))),
        ("issued later", changed("iat", json!(now() + 60))),
        ("other role", token("somebody")),
        ("wrong key", wrong_key),
        ("none", none),
        (
            "shared secret",
            ISSUER.token(By::PublicKeyAsSecret, &claims("app")),
        ),
        ("confused", confused),
        ("huge", huge),
        ("no token", "a password".to_owned()),
    ] {
        let error = log_in(&gateway, "tok-wrong", "app", &token).await.unwrap_err();
        assert_eq!(error.code().code(), "28P01", "{what}");
        assert_eq!(
            error.message(),
            "password authentication failed for user \"app\"",
            "{what}"
        );
        let detail = error.detail().unwrap_or_default();
        assert_eq!(
            detail.contains("the token has expired"),
            what == "expired",
            "{what}"
        );
    }
    assert_eq!(gateway.wakes("tok-wrong"), 0);
    for secret in ["eyJ", "another-audience"] {
        assert!(logs::with_text(secret).is_empty(), "{secret}");
    }
    // Longer than any message of a login may be.
    let mut client = gateway.raw_to("tok-wrong").await;
    client.send(&startup("app")).await;
    client.message().await.authentication(3);
    client.send(b"p\0\x01\0\0").await;
    assert_eq!(client.message().await.sqlstate(), "08P01");
}

/// All that is heard from the startup packet on; the session's id and the role's name are taken out.
async fn heard(gateway: &Gateway, endpoint: &str, role: &str, password: &str) -> Vec<Message> {
    let mut client: Raw = gateway.raw_to(endpoint).await;
    client.send(&startup(role)).await;
    let mut heard = vec![client.message().await];
    client
        .send_with(|bytes| frontend::password_message(password.as_bytes(), bytes).unwrap())
        .await;
    let mut last = client.message().await;
    client.closed().await;
    let text = String::from_utf8(last.body.clone()).unwrap();
    let (before, after) = text.split_once("(pgwake session ").unwrap();
    last.body = format!("{}{}", before.replace(role, "…"), &after[16..]).into_bytes();
    heard.push(last);
    heard
}

#[tokio::test]
async fn neither_roles_nor_endpoints_can_be_told_by_the_answers_to_tokens() {
    let postgres = with_app().await;
    for login in ["token", "password-or-token"] {
        let endpoint = format!("tok-{}", &login[..4]);
        let setup = with_tokens(Setup::new(), login, "");
        let gateway = fixed(setup, &endpoint, &postgres, "").start().await;
        let odd = "o\"d'd \\ role\u{1F40A}/%s$1;--";
        for password in [
            "no token".to_owned(),
            token("nobody else"),
            changed("exp", json!(0)),
            changed("aud", json!("elsewhere")),
            ISSUER.signed(
                By::P256,
                &json!({ "alg": "ES256", "kid": "other" }),
                &claims("app"),
            ),
        ] {
            let known = heard(&gateway, &endpoint, "app", &password).await;
            for (endpoint, role) in [
                (endpoint.as_str(), "ape"),
                (&endpoint, odd),
                ("tok-nowhere", "app"),
                ("tok-nowhere", odd),
            ] {
                assert_eq!(
                    heard(&gateway, endpoint, role, &password).await,
                    known,
                    "{endpoint} {role} {password}"
                );
            }
        }
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn a_role_is_taken_with_every_character_it_may_have() {
    let postgres = Postgres::start(Version::Debian).await;
    let admin = postgres.connect().await;
    let mut keys = String::new();
    let odd = [
        "o\"d'd \\ role",
        "\u{1F40A} ä",
        "/.*",
        "+app",
        "all",
        "a.b",
        "%s$1;--",
    ];
    for role in odd {
        let sql = format!("create role \"{}\" login password 'x'", role.replace('"', "\"\""));
        admin.batch_execute(&sql).await.unwrap();
        keys.push_str(&format!("roles.{role:?} = {{ server_password = \"x\" }}\n"));
    }
    let setup = with_tokens(Setup::new(), "token", "");
    let gateway = fixed(setup, "tok-odd", &postgres, &keys).start().await;
    for role in odd {
        log_in(&gateway, "tok-odd", role, &token(role)).await.unwrap();
        let code = refused(&gateway, "tok-odd", role, &token(&format!("{role} "))).await;
        assert_eq!(code.as_deref(), Some("28P01"), "{role}");
    }
}

#[tokio::test]
async fn passwords_and_tokens_may_come_to_one_endpoint() {
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "password-or-token", "");
    let keys = format!("roles.app.verifier = \"{}\"", verifier("the client's"));
    let setup = setup.tenants(&format!(
        "[tenants.acme.endpoints.tok-both]\n\
         roles.app.server_password = \"for pgwake alone\"\n{keys}\n\
         roles.plain = {{ server_password = \"for pgwake alone\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
        postgres.socket().display()
    ));
    let gateway = setup.start().await;
    log_in(&gateway, "tok-both", "app", "the client's").await.unwrap();
    log_in(&gateway, "tok-both", "app", &token("app")).await.unwrap();
    log_in(&gateway, "tok-both", "plain", &token("plain"))
        .await
        .unwrap();
    for (role, password) in [
        ("app", "another"),
        ("plain", "the client's"),
        ("plain", "for pgwake alone"),
        ("app", ""),
    ] {
        let code = refused(&gateway, "tok-both", role, password).await;
        assert_eq!(code.as_deref(), Some("28P01"), "{role} {password}");
    }
}

#[tokio::test]
async fn a_local_server_lets_pgwake_in_for_a_role_without_a_password() {
    let setup = with_tokens(Setup::new(), "token", "");
    let data_dir = setup.data_dir("tok-local");
    fs::create_dir_all(data_dir.parent().unwrap()).unwrap();
    if let Some(account) = Account::for_postgres() {
        account.own(data_dir.parent().unwrap());
    }
    let gateway = setup
        .tenants(&format!(
            "[tenants.acme.endpoints.tok-local]\nroles.app = {{}}\nroles.'odd \"role\"' = {{}}\n\
             compute = {{ kind = \"process\", data_dir = \"{}\", database = \"app\", owner = \"app\" }}\n",
            data_dir.display()
        ))
        .start()
        .await;
    for (role, mode) in [("app", ""), ("app", "-pooler"), ("odd \"role\"", "")] {
        let mut config = gateway.config(&format!("tok-local{mode}"));
        config.user(role).password(token(role)).dbname("app");
        let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
        let row = client
            .query_one(
                "select session_user::text, usesuper from pg_user where usename = session_user",
                &[],
            )
            .await
            .unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), (role, false));
    }
}

#[tokio::test]
async fn one_tenants_token_is_worthless_at_another() {
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "token", ", tenant_claim = \"tenant\"");
    let setup = fixed(setup, "tok-ours", &postgres, "").tenants(&format!(
        "[tenants.zoo.endpoints.tok-theirs]\nroles.app = {{ server_password = \"for pgwake alone\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n",
        postgres.socket().display()
    ));
    let gateway = setup.start().await;
    let both = changed("tenant", json!(["zoo", "acme"]));
    for (endpoint, token, expected) in [
        ("tok-ours", token("app"), None),
        ("tok-theirs", token("app"), Some("28P01")),
        ("tok-theirs", changed("tenant", json!("zoo")), None),
        ("tok-ours", changed("tenant", json!("zoo")), Some("28P01")),
        ("tok-ours", changed("tenant", Value::Null), Some("28P01")),
        ("tok-ours", both.clone(), None),
        ("tok-theirs", both, None),
    ] {
        let found = refused(&gateway, endpoint, "app", &token).await;
        assert_eq!(found.as_deref(), expected, "{endpoint}");
    }
}

#[tokio::test]
async fn a_session_may_end_with_its_token_but_never_inside_a_transaction() {
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "token", ", end_sessions = true, leeway = \"0s\"");
    let gateway = fixed(setup, "tok-ends", &postgres, "").start().await;
    for name in ["tok-ends", "tok-ends-pooler"] {
        let short = changed("exp", json!(now() + 3));
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = gateway.raw_to(name).await;
            client.send(&startup("app")).await;
            client.message().await.authentication(3);
            client
                .send_with(|bytes| frontend::password_message(short.as_bytes(), bytes).unwrap())
                .await;
            client.until(b'Z').await;
            clients.push(client);
        }
        let (mut idle, mut busy) = (clients.remove(0), clients.remove(0));
        busy.query("begin; select 1").await;
        busy.until(b'Z').await;
        let last = idle.message().await.fields();
        assert_eq!((&*last[&'S'], &*last[&'C']), ("FATAL", "57P01"), "{name}");
        assert!(last[&'M'].contains("expired"), "{last:?}");
        idle.closed().await;
        busy.query("select 2").await;
        busy.until(b'Z').await;
        busy.query("commit").await;
        busy.until(b'Z').await;
        assert_eq!(busy.message().await.sqlstate(), "57P01", "{name}");
    }
}

#[tokio::test]
async fn a_token_is_not_taken_in_plaintext() {
    let gateway = with_tokens(Setup::new(), "token", "")
        .listen(r#"{ address = "127.0.0.1:0", tls = "optional" }"#)
        .listed("tok-plain", "")
        .start()
        .await;
    for endpoint in ["tok-plain", "tok-nowhere"] {
        let mut client = Raw::tcp(gateway.address()).await;
        let packet = crate::harness::raw::startup(
            crate::harness::raw::PROTOCOL_3_0,
            &[("user", SUPERUSER), ("options", &format!("endpoint={endpoint}"))],
        );
        client.send(&packet).await;
        assert_eq!(client.message().await.sqlstate(), "08004", "{endpoint}");
    }
}
