//! The keys that tokens are checked with, where they come from a server of the web: new ones, slow ones, hostile ones.

use std::time::Duration;

use serde_json::json;

use super::{
    log_in, refused,
    tokens::{ISSUER, claims, fixed, token, with_app},
};
use crate::harness::{
    certificates::Authority,
    gateway::{Gateway, Setup},
    issuer::By,
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
