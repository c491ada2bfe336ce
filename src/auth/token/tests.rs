//! Tokens in front of a key set in a file: which are taken, and what is wrong with the others.

use std::{fs, sync::LazyLock};

use proptest::prelude::*;
use serde_json::json;

use super::{
    issuer::{By, Issuer},
    *,
};

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);

/// Some time in 2033.
const NOW: u64 = 2_000_000_000;

struct Stage {
    book: TokenBook,
    tokens: Tokens,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::of(&ISSUER.key_set())
    }

    fn of(keys: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        fs::write(&file, keys.to_string()).unwrap();
        let tokens = Tokens {
            keys: TokenKeys::File(file),
            issuer: "https://id.example".to_owned(),
            audiences: vec!["db".to_owned(), "other-db".to_owned()],
            role_claim: "sub".to_owned(),
            tenant_claim: None,
            leeway: Duration::from_secs(30),
            end_sessions: false,
        };
        Self {
            book: TokenBook::of([&tokens].into_iter()),
            tokens,
            _dir: dir,
        }
    }

    async fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        self.book.check(&self.tokens, token.as_bytes(), now).await
    }
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "db", "sub": "app", "exp": NOW + 60 })
}

/// The claims with one of them changed, or taken out.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

const SIGNED: [By; 3] = [By::Rsa, By::P256, By::Ed25519];

/// Whoever put another key under a name that was known was refused until the set was old, 5 minutes for a URL.
#[tokio::test(start_paused = true)]
async fn another_key_under_a_known_name_is_read_for_a_token_that_it_has_signed() {
    let (before, after) = (&ISSUER, Issuer::new());
    let stage = Stage::new();
    let (old, new) = (
        before.token(By::P256, &claims()),
        after.token(By::P256, &claims()),
    );
    stage.check(&old).await.unwrap();
    let TokenKeys::File(file) = &stage.tokens.keys else {
        panic!("the keys are in a file")
    };
    fs::write(file, after.key_set().to_string()).unwrap();
    // Strangers cannot have it read again and again.
    assert_eq!(stage.check(&new).await.unwrap_err(), TokenError::Signature);
    stage.check(&old).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    stage.check(&new).await.unwrap();
    assert_eq!(stage.check(&old).await.unwrap_err(), TokenError::Signature);
}

#[tokio::test]
async fn each_kind_of_key_signs_tokens_that_are_taken() {
    let stage = Stage::new();
    for by in SIGNED {
        let token = ISSUER.token(by, &claims());
        let claims = stage.check(&token).await.unwrap();
        assert!(claims.has("sub", "app") && !claims.has("sub", "ap"), "{by:?}");
        assert_eq!(claims.lasts, Duration::from_secs(90));
        assert!(looks_like_one(token.as_bytes()));
        // Without a name it is found, since it is the only one of its kind.
        let header = json!({ "alg": by.alg() });
        stage
            .check(&ISSUER.signed(by, &header, &claims_of(by)))
            .await
            .unwrap();
    }
}

fn claims_of(_: By) -> Value {
    with("aud", json!(["elsewhere", "other-db"]))
}

#[tokio::test]
async fn neither_none_nor_a_shared_secret_signs() {
    let stage = Stage::new();
    for by in [By::Nobody, By::PublicKeyAsSecret] {
        let found = stage.check(&ISSUER.token(by, &claims())).await;
        assert_eq!(found.unwrap_err(), TokenError::Algorithm);
        for alg in ["None", "NONE", "nOnE", "HS512", "PS256", "RS512", "ES256K", ""] {
            let header = json!({ "alg": alg, "kid": "rsa" });
            let found = stage.check(&ISSUER.signed(by, &header, &claims())).await;
            assert_eq!(found.unwrap_err(), TokenError::Algorithm, "{alg}");
        }
    }
}

/// Only the first of them was tried.
#[tokio::test]
async fn each_of_several_keys_of_one_name_signs() {
    let keys = |issuer: &Issuer| issuer.key_set()["keys"].as_array().unwrap().clone();
    let other = Issuer::new();
    let both = [keys(&other), keys(&ISSUER)].concat();
    let stage = Stage::of(&json!({ "keys": both }));
    for by in SIGNED {
        for issuer in [&ISSUER, &other] {
            stage.check(&issuer.token(by, &claims())).await.unwrap();
        }
        let found = stage.check(&Issuer::new().token(by, &claims())).await;
        assert_eq!(found.unwrap_err(), TokenError::Signature);
    }
}

/// A header's word about the algorithm made a check take one key for another in many libraries.
#[tokio::test(start_paused = true)]
async fn the_key_decides_the_algorithm_and_not_the_header() {
    let stage = Stage::new();
    for by in SIGNED {
        for claimed in SIGNED.into_iter().filter(|claimed| *claimed != by) {
            let header = json!({ "alg": claimed.alg(), "kid": by.kid() });
            let found = stage.check(&ISSUER.signed(by, &header, &claims())).await;
            assert_eq!(
                found.unwrap_err(),
                TokenError::UnknownKey,
                "{by:?} as {claimed:?}"
            );
            let header = json!({ "alg": claimed.alg(), "kid": claimed.kid() });
            let found = stage.check(&ISSUER.signed(by, &header, &claims())).await;
            assert_eq!(found.unwrap_err(), TokenError::Signature, "{by:?} as {claimed:?}");
        }
        for forged in [By::PublicKeyAsSecret, By::Nobody] {
            let header = json!({ "alg": by.alg(), "kid": by.kid() });
            let found = stage.check(&ISSUER.signed(forged, &header, &claims())).await;
            assert_eq!(found.unwrap_err(), TokenError::Signature);
        }
    }
    for kid in ["secret", "none", ""] {
        let header = json!({ "alg": "RS256", "kid": kid });
        let found = stage.check(&ISSUER.signed(By::Rsa, &header, &claims())).await;
        assert_eq!(found.unwrap_err(), TokenError::UnknownKey, "{kid}");
    }
}

#[tokio::test]
async fn whose_it_is_and_when_it_holds_is_checked() {
    let stage = Stage::new();
    let malformed_time = TokenError::Malformed("a time in it is no number");
    for (claim, value, expected) in [
        ("iss", json!("https://id.example/"), TokenError::Issuer),
        ("iss", json!(["https://id.example"]), TokenError::Issuer),
        ("iss", Value::Null, TokenError::Issuer),
        ("aud", json!("dbx"), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("aud", json!({ "db": 1 }), TokenError::Audience),
        ("aud", Value::Null, TokenError::Audience),
        ("exp", json!(NOW - 30), TokenError::Expired),
        ("exp", json!(0), TokenError::Expired),
        ("exp", json!(-1e300), TokenError::Expired),
        ("exp", Value::Null, TokenError::Malformed("it has no `exp`")),
        ("exp", json!("soon"), malformed_time),
        ("nbf", json!(NOW + 31), TokenError::NotYet),
        ("nbf", json!("now"), malformed_time),
        ("iat", json!(NOW + 31), TokenError::IssuedLater),
    ] {
        let token = ISSUER.token(By::Ed25519, &with(claim, value.clone()));
        let found = stage.check(&token).await.unwrap_err();
        assert_eq!(found, expected, "{claim} = {value}");
    }
    for (claim, value) in [
        ("exp", json!(NOW - 29)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW + 30)),
        ("iat", json!(f64::from(2_000_000_000_u32) + 29.5)),
    ] {
        let token = ISSUER.token(By::Ed25519, &with(claim, value.clone()));
        assert!(stage.check(&token).await.is_ok(), "{claim} = {value}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_none() {
    let stage = Stage::new();
    let right = ISSUER.token(By::Rsa, &claims());
    let parts: Vec<&str> = right.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let crit = ISSUER.signed(
        By::Rsa,
        &json!({ "alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false }),
        &claims(),
    );
    let other_kind = ISSUER.signed(
        By::Rsa,
        &json!({ "alg": "RS256", "kid": "rsa", "typ": "logout+jwt" }),
        &claims(),
    );
    for wrong in [
        String::new(),
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!("{right}."),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}A"),
        format!("{header}. {payload}.{signature}"),
        format!("{}.{payload}.{signature}", "A".repeat(2049)),
        crit,
        other_kind,
    ] {
        let found = stage.check(&wrong).await.unwrap_err();
        assert!(
            matches!(found, TokenError::Malformed(_) | TokenError::Signature),
            "{wrong}: {found}"
        );
    }
    let found = stage
        .check(&format!("{header}.{}.{signature}", &payload[1..]))
        .await;
    assert_eq!(found.unwrap_err(), TokenError::Signature);
    let huge = ISSUER.token(By::Rsa, &with("name", json!("x".repeat(20_000))));
    assert_eq!(stage.check(&huge).await.unwrap_err(), TokenError::TooLong);
    let large = ISSUER.token(By::Rsa, &with("name", json!("x".repeat(8_000))));
    assert!(stage.check(&large).await.is_ok());
    let no_object = ISSUER.token(By::Rsa, &json!(["exp"]));
    assert!(matches!(
        stage.check(&no_object).await.unwrap_err(),
        TokenError::Malformed(_)
    ));
}

#[test]
fn passwords_do_not_look_like_tokens() {
    for password in [
        "",
        "eyJ",
        "eyJ.a",
        "a.b.c",
        "eyJa.b.c.d",
        "correct horse. battery. staple",
    ] {
        assert!(!looks_like_one(password.as_bytes()), "{password}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in a token, it is not taken any more.
    #[test]
    fn no_changed_token_is_taken(at in 0..400_usize, to in any::<u8>()) {
        let stage = Stage::new();
        let mut token = ISSUER.token(By::Ed25519, &claims()).into_bytes();
        let at = at % token.len();
        prop_assume!(token[at] != to);
        token[at] = to;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let found = runtime.block_on(stage.book.check(&stage.tokens, &token, now));
        prop_assert!(found.is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_tokens(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Signed::parse(&bytes).is_err());
        prop_assert!(keys::KeySet::parse(&bytes).is_err());
    }
}
