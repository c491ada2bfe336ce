//! How long a refusal takes tells nothing: neither whether a role exists, nor whether an endpoint does.
//!
//! The sides take turns, in an order that changes, so that whatever else this machine does slows all of them alike.

use std::{fs, time::Instant};

use rand::seq::SliceRandom;
use serde_json::json;

use super::*;
use crate::auth::token::issuer::{By, Issuer};
use crate::config::{TokenKeys, Tokens};

/// Logins of each side.
const SAMPLES: usize = 2_000;
/// Further apart two medians may not be.
const MEDIANS_APART_MAX: f64 = 0.05;
/// Nor two distributions (Kolmogorov–Smirnov).
const DISTANCE_MAX: f64 = 0.1;

/// Who is refused: a role that exists, one that does not, and any at an endpoint that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Role,
    NoRole,
    NoEndpoint,
}

const SIDES: [Side; 3] = [Side::Role, Side::NoRole, Side::NoEndpoint];

fn claim(house: &House, side: Side) -> Claim<'_> {
    match side {
        Side::Role => house.claim("app"),
        Side::NoRole => house.claim("ape"),
        Side::NoEndpoint => Claim {
            endpoint: None,
            endpoint_said: "demo-nain",
            ..house.claim("app")
        },
    }
}

/// One way to be refused: the client's end of the conversation.
#[derive(Debug, Clone)]
enum Try {
    /// A proof that is none, in answer to the challenge.
    Scram,
    /// A message in a password's place.
    Said(Vec<u8>),
}

/// A refusal, in seconds of our side alone as far as that can be told.
async fn refusal(house: &House, side: Side, attempt: &Try) -> f64 {
    let (mut client, mut stream) = duplex(1 << 16);
    let said = async {
        let message = match attempt {
            Try::Said(bytes) => {
                authentication(&mut client, 3).await.unwrap();
                message(bytes)
            }
            Try::Scram => {
                authentication(&mut client, 10).await.unwrap();
                let first = initial_response("SCRAM-SHA-256", b"n,,n=,r=fyko");
                client.write_all(&first).await.unwrap();
                let challenge = authentication(&mut client, 11).await.unwrap();
                let nonce = challenge.split(|byte| *byte == b',').next().unwrap();
                let proof = format!("c=biws,{},p={}=", String::from_utf8_lossy(nonce), "A".repeat(43));
                message(proof.as_bytes())
            }
        };
        client.write_all(&message).await.unwrap();
        Instant::now()
    };
    let proved = authenticate(&mut stream, claim(house, side), &house.proofs);
    let (refused, since) = tokio::join!(async { (proved.await, Instant::now()) }, said);
    assert!(
        matches!(refused.0, Err(AuthError::Refused { .. })),
        "{side:?} {:?}",
        refused.0
    );
    refused.1.duration_since(since).as_secs_f64()
}

async fn measured(house: &House, attempt: &Try) -> [Vec<f64>; 3] {
    let mut all = [const { Vec::new() }; 3];
    for round in 0..SAMPLES + 50 {
        let mut order = [0, 1, 2];
        order.shuffle(&mut rand::rng());
        for side in order {
            let took = refusal(house, SIDES[side], attempt).await;
            // The first ones warm up what is made only once.
            if round >= 50 {
                all[side].push(took);
            }
        }
    }
    all.iter_mut()
        .for_each(|side| side.sort_unstable_by(f64::total_cmp));
    all
}

/// The largest difference between two distributions, of sorted samples.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let below = |all: &[f64], at: f64| all.partition_point(|sample| *sample <= at) as f64 / all.len() as f64;
    let apart = |at: &f64| (below(one, *at) - below(other, *at)).abs();
    one.iter().chain(other).map(apart).fold(0.0, f64::max)
}

/// What can be told from these samples; empty: nothing.
fn told(all: &[Vec<f64>; 3]) -> String {
    let mut told = String::new();
    for (one, other) in [(0, 1), (0, 2)] {
        let (a, b) = (all[one][SAMPLES / 2], all[other][SAMPLES / 2]);
        let (medians, distance) = ((a - b).abs() / a.max(b), distance(&all[one], &all[other]));
        if medians > MEDIANS_APART_MAX || distance > DISTANCE_MAX {
            let (one, other) = (SIDES[one], SIDES[other]);
            told += &format!("{one:?} and {other:?}: medians {a:e} {b:e}, distance {distance:.3}\n");
        }
    }
    told
}

/// Nothing can be told; a machine that was busy with one side gets a second try.
async fn assert_alike(house: &House, attempt: &Try) {
    let first = told(&measured(house, attempt).await);
    if !first.is_empty() {
        let second = told(&measured(house, attempt).await);
        assert!(second.is_empty(), "{attempt:?}\n{first}{second}");
    }
}

/// An endpoint whose clients log in so, and what does not exist pretends the same.
fn house(login: LoginMethod, tokens: Option<Tokens>) -> House {
    let mut house = House::new();
    let endpoint = Arc::make_mut(&mut house.endpoint);
    (endpoint.login, endpoint.tokens) = (login, tokens.clone());
    let book = TokenBook::of(tokens.iter());
    house.proofs = Proofs::of(Strangers { login, tokens }, book, house.proofs.roles.clone());
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_proof_takes_as_long_whatever_exists() {
    assert_alike(&house(LoginMethod::Scram, None), &Try::Scram).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_password_takes_as_long_whatever_exists() {
    assert_alike(
        &house(LoginMethod::Password, None),
        &Try::Said(b"wrong\0".to_vec()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_for_another_role_takes_as_long_whatever_exists() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let issuer = Issuer::new();
    fs::write(&file, issuer.key_set().to_string()).unwrap();
    let tokens = Tokens {
        keys: TokenKeys::File(file),
        issuer: "https://id.example".to_owned(),
        audiences: vec!["db".to_owned()],
        role_claim: "sub".to_owned(),
        tenant_claim: None,
        leeway: Duration::from_secs(30),
        end_sessions: false,
    };
    let claims =
        json!({ "iss": "https://id.example", "aud": "db", "sub": "somebody", "exp": 9_999_999_999_u64 });
    let mut token = issuer.token(By::Ed25519, &claims).into_bytes();
    token.push(0);
    let house = house(LoginMethod::Token, Some(tokens));
    assert_alike(&house, &Try::Said(token)).await;
}
