//! How long a refusal takes tells nothing: neither whether a role exists, nor whether an endpoint does.
//!
//! Measured from each of a stranger's words to the answer, over a Unix socket, where least else takes time. The sides
//! take turns, in an order that changes, so that whatever else this machine does slows all of them alike.

use std::time::Instant;

use postgres_protocol::message::frontend;
use rand::seq::SliceRandom;

use super::{
    tokens::{token, with_tokens},
    verifier,
};
use crate::harness::{
    certificates::{Authority, ServerCertificate},
    gateway::{DOMAIN, Gateway, Setup},
    postgres::{PASSWORD, SUPERUSER},
    raw::{self, Message, Raw},
    wait::until,
};

/// Logins of each side, beside those that warm up what is made only once.
const SAMPLES: usize = 2_000;
const WARMING: usize = 100;
/// Further apart two medians, or other deciles, may not be. Less than that is what a build without optimization takes to move
/// a value, or to look twice: 4 of 180 microseconds, which a machine that does nothing else does show.
const APART_MAX: f64 = 0.05;
/// Nor two distributions (Kolmogorov–Smirnov), where a decile is.
const DISTANCE_MAX: f64 = 0.1;

/// Two samples of this size from one distribution are further apart once in a thousand times (1.95 √(2/n)). Medians of
/// samples that are nearer say nothing: on a busy machine they are far apart by chance.
const DISTANCE_BY_CHANCE_MAX: f64 = 0.062;

/// One of these tests at a time: they would measure one another.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Who is refused, by endpoint and role: a role that exists, one that does not, one at an endpoint that does not.
type Sides = [(&'static str, &'static str); 3];
const LISTED: Sides = [("tim-known", "app"), ("tim-known", "ape"), ("tim-knows", "app")];
const READ: Sides = [
    ("tim-read", SUPERUSER),
    ("tim-read", "postgrex"),
    ("tim-reed", SUPERUSER),
];

/// What a stranger says.
#[derive(Debug, Clone)]
enum Try {
    /// A proof that is none, in answer to the challenge.
    Scram,
    /// Something in a password's place.
    Says(String),
}

/// Seconds from each word to its answer; the last one is the refusal.
async fn refusal(
    gateway: &Gateway,
    (endpoint, role): (&str, &str),
    attempt: &Try,
    shown: Option<&ServerCertificate>,
) -> Vec<f64> {
    let stream = match shown {
        None => Raw::unix(&gateway.path().join("s")).await,
        Some(shown) => {
            let config = gateway.authority.client_config_with(shown);
            let plaintext = Raw::tcp(gateway.address()).await;
            let name = format!("{endpoint}.{DOMAIN}");
            plaintext.request_tls(config, &name).await
        }
    };
    let mut client = Timed::new(stream);
    let options = format!("endpoint={endpoint}");
    let parameters = [("user", role), ("database", "postgres"), ("options", &options)];
    let first = client.ask(&raw::startup(raw::PROTOCOL_3_0, &parameters)).await;
    let mut last = bytes::BytesMut::new();
    match attempt {
        Try::Says(text) => {
            first.authentication(3);
            frontend::password_message(text.as_bytes(), &mut last).unwrap();
        }
        Try::Scram => {
            first.authentication(10);
            let mut said = bytes::BytesMut::new();
            frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=fyko", &mut said).unwrap();
            let challenge = client.ask(&said).await;
            let text = String::from_utf8_lossy(challenge.authentication(11)).into_owned();
            let (nonce, _) = text.split_once(',').unwrap();
            let proof = format!("c=biws,{nonce},p={}=", "A".repeat(43));
            frontend::sasl_response(proof.as_bytes(), &mut last).unwrap();
        }
    }
    assert_eq!(client.ask(&last).await.sqlstate(), "28P01");
    client.took
}

/// A client with a stop watch.
struct Timed {
    client: Raw,
    took: Vec<f64>,
}

impl Timed {
    fn new(client: Raw) -> Self {
        let took = Vec::new();
        Self { client, took }
    }

    async fn ask(&mut self, word: &[u8]) -> Message {
        let since = Instant::now();
        self.client.send(word).await;
        let answer = self.client.message().await;
        self.took.push(since.elapsed().as_secs_f64());
        answer
    }
}

/// Of each word the times of each side, sorted.
async fn measured(
    gateway: &Gateway,
    sides: &Sides,
    attempt: &Try,
    shown: Option<&ServerCertificate>,
) -> Vec<[Vec<f64>; 3]> {
    let mut words: Vec<[Vec<f64>; 3]> = Vec::new();
    for round in 0..WARMING + SAMPLES {
        let mut order = [0, 1, 2];
        order.shuffle(&mut rand::rng());
        for side in order {
            let took = refusal(gateway, sides[side], attempt, shown).await;
            if round >= WARMING {
                words.resize_with(took.len(), Default::default);
                words
                    .iter_mut()
                    .zip(took)
                    .for_each(|(word, took)| word[side].push(took));
            }
        }
    }
    let sides = words.iter_mut().flatten();
    sides.for_each(|side| side.sort_unstable_by(f64::total_cmp));
    words
}

/// The largest difference between two distributions, of sorted samples.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let below = |all: &[f64], at: f64| all.partition_point(|sample| *sample <= at) as f64 / all.len() as f64;
    let apart = |at: &f64| (below(one, *at) - below(other, *at)).abs();
    one.iter().chain(other).map(apart).fold(0.0, f64::max)
}

/// How far apart the deciles of two distributions are, at most.
fn deciles_apart(one: &[f64], other: &[f64]) -> f64 {
    let decile = |tenth: usize| {
        let (a, b) = (one[one.len() * tenth / 10], other[other.len() * tenth / 10]);
        (a - b).abs() / a.max(b)
    };
    (1..10).map(decile).fold(0.0, f64::max)
}

/// What can be told from these samples; empty: nothing.
fn told(sides: &Sides, words: &[[Vec<f64>; 3]]) -> String {
    let mut told = String::new();
    for ((word, all), other) in (0..).zip(words).flat_map(|word| [(word, 1), (word, 2)]) {
        let (a, b) = (all[0][SAMPLES / 2], all[other][SAMPLES / 2]);
        let (medians, distance) = ((a - b).abs() / a.max(b), distance(&all[0], &all[other]));
        let deciles = deciles_apart(&all[0], &all[other]);
        let figures = format!(
            "word {word}, {:?}: medians {a:e} {b:e}, distance {distance:.3}, deciles {deciles:.3}",
            sides[other]
        );
        eprintln!("{figures}");
        let are_other = medians > APART_MAX && distance > DISTANCE_BY_CHANCE_MAX;
        let are_shaped_otherwise = distance > DISTANCE_MAX && deciles > APART_MAX;
        if are_other || are_shaped_otherwise {
            told += &format!("{figures}\n");
        }
    }
    told
}

/// Nothing can be told; a machine that was busy with one side gets a second try.
async fn assert_alike(gateway: &Gateway, sides: &Sides, attempt: &Try, shown: Option<&ServerCertificate>) {
    let _alone = ALONE.lock().await;
    let first = told(sides, &measured(gateway, sides, attempt, shown).await);
    if !first.is_empty() {
        let second = told(sides, &measured(gateway, sides, attempt, shown).await);
        assert!(second.is_empty(), "{attempt:?}\n{first}{second}");
    }
    gateway.server.stop().await;
}

/// An endpoint with the role `app`, and nothing behind it.
fn known(setup: Setup) -> Setup {
    known_with(setup, "")
}

/// Clients come over a Unix socket, too.
fn with_socket(setup: Setup) -> Setup {
    let socket = setup.path().join("s");
    setup.listen(&format!("[\"127.0.0.1:0\", {{ unix = {socket:?} }}]"))
}

fn known_with(setup: Setup, keys: &str) -> Setup {
    with_socket(setup).tenants(&format!(
        "[tenants.acme.endpoints.tim-known]\nroles.app.verifier = \"{}\"\nroles.app.server_password = \"x\"\n\
         compute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n{keys}\n",
        verifier(PASSWORD)
    ))
}

#[tokio::test]
async fn a_wrong_proof_takes_as_long_whatever_exists() {
    let gateway = known(Setup::new()).start().await;
    assert_alike(&gateway, &LISTED, &Try::Scram, None).await;
}

/// Roles that were read from Postgres, and are remembered while it sleeps.
#[tokio::test]
async fn a_wrong_proof_takes_as_long_where_roles_are_read() {
    let setup = with_socket(Setup::new()).process("tim-read", "suspend_after = \"100ms\"");
    let gateway = setup.start().await;
    until("the compute to sleep", async || !gateway.is_awake("tim-read")).await;
    assert_alike(&gateway, &READ, &Try::Scram, None).await;
}

#[tokio::test]
async fn a_wrong_password_takes_as_long_whatever_exists() {
    let gateway = known(Setup::new().tenants("[defaults]\nlogin = \"password\"\n"))
        .start()
        .await;
    assert_alike(&gateway, &LISTED, &Try::Says("wrong".to_owned()), None).await;
}

#[tokio::test]
async fn a_token_for_another_role_takes_as_long_whatever_exists() {
    let gateway = known(with_tokens(Setup::new(), "token", "")).start().await;
    assert_alike(&gateway, &LISTED, &Try::Says(token("somebody")), None).await;
}

#[tokio::test]
async fn a_strangers_certificate_takes_as_long_whatever_exists() {
    let setup = Setup::new().tenants(
        "[gate]\nattempts = \"10000/s\"\nattempts_per_endpoint = \"10000/s\"\nfailures_max = 1000000\n",
    );
    let clients = Authority::new();
    let ca = clients.write(setup.path());
    let keys = format!("login = \"certificate\"\nclient_certificates = {{ ca = {ca:?} }}");
    let gateway = known_with(setup, &keys).start().await;
    let shown = Authority::new().certify_client("app", Vec::new(), |_| ());
    assert_alike(&gateway, &LISTED, &Try::Scram, Some(&shown)).await;
}
