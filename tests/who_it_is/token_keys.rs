//! The keys that tokens are checked with, where they come from a server of the web: new ones, slow ones, hostile ones.

use std::{fs, time::Duration};

use serde_json::json;

use super::{
    log_in, refused,
    tokens::{ISSUER, claims, fixed, token, with_app, with_tokens},
};
use crate::harness::{
    certificates::Authority,
    gateway::{Gateway, Setup},
    issuer::By,
    logs,
    postgres::Postgres,
    wait::until,
    web::{Answer, Web},
};

/// An endpoint whose keys come from this server.
async fn behind(web: &Web, authority: Authority, endpoint: &str, postgres: &Postgres) -> Gateway {
    let setup = Setup::new().signed_by(authority);
    let tokens = format!(
        "[defaults]\nlogin = \"token\"\n\
         tokens = {{ keys = {{ url = \"{}\", ca = \"ca.pem\" }}, issuer = \"https://id.example\", audiences = [\"db\"] }}\n",
        web.url("/keys")
    );
    fixed(setup.tenants(&tokens), endpoint, postgres, "")
        .start()
        .await
}

#[tokio::test]
async fn keys_come_by_tls_and_a_new_one_is_fetched() {
    let postgres = with_app().await;
    let authority = Authority::new();
    let mut old = ISSUER.key_set();
    old["keys"].as_array_mut().unwrap().truncate(3);
    let web = Web::start(&authority, Answer::Body(old.to_string())).await;
    let gateway = behind(&web, authority, "tok-web", &postgres).await;
    let by_rsa = ISSUER.token(By::Rsa, &claims("app"));
    log_in(&gateway, "tok-web", "app", &by_rsa).await.unwrap();
    assert_eq!(web.requests(), 1);
    web.answer(Answer::Body(ISSUER.key_set().to_string()));
    // Strangers' keys do not have it fetched again and again; the new one is there before long.
    until("the new key is known", async || {
        let by_other = ISSUER.signed(By::P256, &json!({ "alg": "ES256", "kid": "x" }), &claims("app"));
        assert_eq!(
            refused(&gateway, "tok-web", "app", &by_other).await.as_deref(),
            Some("28P01")
        );
        log_in(&gateway, "tok-web", "app", &token("app")).await.is_ok()
    })
    .await;
    assert_eq!(web.requests(), 2);
    // What is known is used while the issuer is silent.
    web.answer(Answer::Nothing);
    log_in(&gateway, "tok-web", "app", &token("app")).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_slow_or_hostile_keeps_nobody_waiting_for_long() {
    let postgres = with_app().await;
    for (number, answer) in [
        Answer::Nothing,
        Answer::Drip,
        Answer::Endless,
        Answer::Redirect("/elsewhere".to_owned()),
        Answer::Body("[".repeat(100_000)),
        Answer::Body(String::new()),
    ]
    .into_iter()
    .enumerate()
    {
        let authority = Authority::new();
        let web = Web::start(&authority, answer.clone()).await;
        let endpoint = format!("tok-slow{number}");
        let gateway = behind(&web, authority, &endpoint, &postgres).await;
        let begun = std::time::Instant::now();
        let found = refused(&gateway, &endpoint, "app", &token("app")).await;
        assert_eq!(found.as_deref(), Some("28P01"), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{answer:?}");
        assert_eq!(web.requests(), 1, "{answer:?}");
        gateway.server.stop().await;
    }
}

/// It said "it is not JSON", "length limit exceeded" and "302 Found", and the operator was none the wiser.
#[tokio::test]
async fn the_log_says_what_an_issuer_answers_instead_of_keys() {
    let keys = ISSUER.key_set().to_string();
    for (answer, expected) in [
        (
            Answer::Said(
                "200 OK\r\ncontent-encoding: gzip".to_owned(),
                "\u{1f}packed".to_owned(),
            ),
            "compressed (gzip)",
        ),
        (
            Answer::Redirect("https://elsewhere.example/login?state=1".to_owned()),
            "no redirect is followed: it leads to https://elsewhere.example/login",
        ),
        (
            Answer::Body(keys + &" ".repeat(256 * 1024)),
            "longer than 256 KiB",
        ),
        (
            Answer::Said("200 OK\r\ntransfer-encoding: chunked".to_owned(), "{}".to_owned()),
            "chunk size",
        ),
    ] {
        let authority = Authority::new();
        let web = Web::start(&authority, answer).await;
        let setup = Setup::new().signed_by(authority);
        let tokens = format!(
            "[defaults]\nlogin = \"token\"\n\
             tokens = {{ keys = {{ url = \"{}\", ca = \"ca.pem\" }}, issuer = \"x\", audiences = [\"x\"] }}\n",
            web.url("/told")
        );
        let gateway = setup.tenants(&tokens).start().await;
        until("it is told", async || {
            let told = logs::with_text(&web.url("/told"));
            told.iter().any(|line| line.field("problem").contains(expected))
        })
        .await;
        gateway.server.stop().await;
    }
}

/// Nobody has guessed: there was nothing that a token could be checked with. Once there is, those who have right ones come in,
/// and guesses count as ever.
#[tokio::test]
async fn nobody_is_locked_out_for_keys_that_cannot_be_had() {
    const ENDPOINT: &str = "tok-locked";
    let postgres = with_app().await;
    let setup = with_tokens(Setup::new(), "token", "");
    let (file, keys) = (setup.path().join("keys.json"), ISSUER.key_set().to_string());
    fs::write(&file, "").unwrap();
    let gate = "[gate]\nfailures_max = 2\nlockout_min = \"1h\"\nlockout_max = \"1h\"\n";
    let gateway = fixed(setup.tenants(gate), ENDPOINT, &postgres, "").start().await;
    for _ in 0..6 {
        let found = refused(&gateway, ENDPOINT, "app", &token("app")).await;
        assert_eq!(found.as_deref(), Some("28P01"));
    }
    fs::write(&file, keys).unwrap();
    until("the keys are known", async || {
        log_in(&gateway, ENDPOINT, "app", &token("app")).await.is_ok()
    })
    .await;
    until("guesses lock out", async || {
        let guess = token("nobody");
        refused(&gateway, ENDPOINT, "plain", &guess).await.as_deref() == Some("53400")
    })
    .await;
    gateway.server.stop().await;
}
