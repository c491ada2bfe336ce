//! What strangers may try: how many may knock, how often they may guess, and from where an endpoint is seen at all.

use std::net::IpAddr;

use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};

use super::nowhere;
use crate::harness::{
    gateway::{Gateway, Setup},
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    raw::{self, Message, Raw, cancel_request},
    wait::until,
};

/// Plaintext, since most of what is tried here ends before TLS would matter.
const PLAIN: &str = r#"[{ address = "127.0.0.1:0", tls = "optional" }]"#;
/// The same behind load balancers in 127.0.1.0/24, which say whom they speak for.
const BEHIND_PROXY: &str = r#"[{ address = "127.0.0.1:0", tls = "optional", proxies = ["127.0.1.0/24"] }]"#;
/// A load balancer's own address.
const PROXY: &str = "127.0.1.9";

/// A connection from this address.
async fn from(gateway: &Gateway, from: &str) -> Raw {
    let from: IpAddr = from.parse().unwrap();
    Raw::tcp_from(from, gateway.address()).await
}

/// A connection of a load balancer that says it speaks for `client`.
async fn for_client(gateway: &Gateway, client: &str) -> Raw {
    let mut proxy = from(gateway, PROXY).await;
    proxy
        .send(format!("PROXY TCP4 {client} 127.0.1.9 40000 5432\r\n").as_bytes())
        .await;
    proxy
}

fn startup(endpoint: &str, role: &str) -> Vec<u8> {
    let options = format!("endpoint={endpoint}");
    let parameters = [("user", role), ("database", "postgres"), ("options", &options)];
    raw::startup(raw::PROTOCOL_3_0, &parameters)
}

/// Tries to log in; gives the error that it ended with, or `None` where the client is in.
async fn refusal(client: &mut Raw, endpoint: &str, role: &str, password: &str) -> Option<Message> {
    client.send(&startup(endpoint, role)).await;
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first = client.message().await;
    if first.tag == b'E' {
        return Some(first);
    }
    first.authentication(10);
    client
        .send_with(|bytes| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes).unwrap())
        .await;
    scram.update(client.message().await.authentication(11)).unwrap();
    client
        .send_with(|bytes| frontend::sasl_response(scram.message(), bytes).unwrap())
        .await;
    let last = client.message().await;
    (last.tag == b'E').then_some(last)
}

/// Tries to log in from an address; the SQLSTATE that it ended with, or "in".
async fn tried(gateway: &Gateway, address: &str, endpoint: &str, password: &str) -> String {
    let mut client = from(gateway, address).await;
    let refusal = refusal(&mut client, endpoint, SUPERUSER, password).await;
    refusal.map_or("in".to_owned(), |error| error.fields()[&'C'].clone())
}

#[tokio::test]
async fn a_flood_from_one_network_takes_no_place_of_another() {
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nunproved_max = 6\nunproved_per_network_max = 4\n")
        .tenants(&nowhere("str-flood"))
        .start()
        .await;
    let mut flood = Vec::new();
    for host in 1..=4 {
        flood.push(from(&gateway, &format!("127.0.2.{host}")).await);
    }
    until("four are counted", async || gateway.server.clients() == 4).await;
    assert!(
        !from(&gateway, "127.0.2.77").await.any().await,
        "something was said"
    );

    let mut other = from(&gateway, "127.0.3.1").await;
    other.send(&startup("str-flood", "app")).await;
    other.message().await.authentication(10);
    let another = from(&gateway, "127.0.3.2").await;
    until("six are counted", async || gateway.server.clients() == 6).await;
    assert!(
        !from(&gateway, "127.0.4.1").await.any().await,
        "something was said"
    );

    drop((flood, another));
    until("one is left", async || gateway.server.clients() == 1).await;
    let mut next = from(&gateway, "127.0.2.77").await;
    next.send(&startup("str-flood", "app")).await;
    next.message().await.authentication(10);
    gateway.server.stop().await;
}

#[tokio::test]
async fn who_has_logged_in_is_no_stranger_any_more() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nunproved_per_network_max = 1\n")
        .fixed("str-known", &postgres, "")
        .start()
        .await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut client = from(&gateway, "127.0.2.1").await;
        client.log_in(&startup("str-known", SUPERUSER), PASSWORD).await;
        inside.push(client);
    }
    drop(inside);
    gateway.server.stop().await;
}

#[tokio::test]
async fn guessing_locks_a_role_out_from_where_it_was_guessed_and_from_nowhere_else() {
    const ENDPOINT: &str = "str-guess";
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nfailures_max = 3\nlockout_min = \"1h\"\nlockout_max = \"1h\"\n")
        .fixed(ENDPOINT, &postgres, "")
        .start()
        .await;
    assert_eq!(tried(&gateway, "127.0.3.1", ENDPOINT, PASSWORD).await, "in");
    for _ in 0..4 {
        assert_eq!(tried(&gateway, "127.0.2.1", ENDPOINT, "wrong").await, "28P01");
    }
    // Not even the right one is looked at, wherever in that network it comes from.
    assert_eq!(tried(&gateway, "127.0.2.2", ENDPOINT, PASSWORD).await, "53400");
    // A network from which the role has come in before may fail.
    for _ in 0..8 {
        assert_eq!(tried(&gateway, "127.0.3.2", ENDPOINT, "wrong").await, "28P01");
    }
    assert_eq!(tried(&gateway, "127.0.3.2", ENDPOINT, PASSWORD).await, "in");
    assert_eq!(tried(&gateway, "127.0.4.1", ENDPOINT, PASSWORD).await, "in");
    gateway.server.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_locked_out_in_the_same_words() {
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nfailures_max = 2\nlockout_min = \"1h\"\nlockout_max = \"1h\"\n")
        .tenants(&nowhere("str-exists"))
        .start()
        .await;
    let mut last_words = Vec::new();
    for (endpoint, role) in [
        ("str-exists", "app"),
        ("str-exists", "nobody"),
        ("str-no-such", "app"),
    ] {
        for _ in 0..3 {
            let mut client = from(&gateway, "127.0.2.1").await;
            let refused = refusal(&mut client, endpoint, role, "wrong").await.unwrap();
            assert_eq!(refused.fields()[&'C'], "28P01");
        }
        let mut client = from(&gateway, "127.0.2.1").await;
        let mut fields = refusal(&mut client, endpoint, role, "wrong")
            .await
            .unwrap()
            .fields();
        client.closed().await;
        // The session's own number.
        fields.remove(&'D');
        last_words.push(fields);
    }
    assert_eq!(last_words[0][&'C'], "53400");
    assert_eq!(last_words[0][&'S'], "FATAL");
    assert!(
        last_words.iter().all(|words| *words == last_words[0]),
        "{last_words:?}"
    );
    let line = logs::access_lines("str-no-such", 4).await;
    assert!(line[3].field("outcome").contains("locked out"), "{line:?}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn attempts_of_a_network_are_limited_and_those_that_succeed_do_not_count() {
    const ENDPOINT: &str = "str-often";
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nattempts = \"6/h\"\nattempts_per_endpoint = \"4/h\"\n")
        .fixed(ENDPOINT, &postgres, "")
        .start()
        .await;
    for _ in 0..10 {
        assert_eq!(tried(&gateway, "127.0.2.1", ENDPOINT, PASSWORD).await, "in");
    }
    for _ in 0..4 {
        assert_eq!(tried(&gateway, "127.0.2.1", ENDPOINT, "wrong").await, "28P01");
    }
    assert_eq!(tried(&gateway, "127.0.2.1", ENDPOINT, PASSWORD).await, "53400");
    for _ in 0..2 {
        assert_eq!(
            tried(&gateway, "127.0.2.1", "str-not-there", "wrong").await,
            "28P01"
        );
    }
    assert_eq!(
        tried(&gateway, "127.0.2.1", "str-not-that", "wrong").await,
        "53400"
    );
    assert_eq!(tried(&gateway, "127.0.3.1", ENDPOINT, PASSWORD).await, "in");
    gateway.server.stop().await;
}

#[tokio::test]
async fn cancel_requests_that_guess_are_limited_and_one_that_hits_is_not_hindered() {
    const ENDPOINT: &str = "str-cancel";
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(PLAIN)
        .tenants("[gate]\nattempts = \"5/h\"\n")
        .fixed(ENDPOINT, &postgres, "")
        .start()
        .await;
    let mut client = from(&gateway, "127.0.2.1").await;
    let greeting = client.log_in(&startup(ENDPOINT, SUPERUSER), PASSWORD).await;
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let (pid, secret) = key.cancel_key();
    let strikes = async |address: &str, secret: &[u8]| {
        let mut canceller = from(&gateway, address).await;
        canceller.send(&cancel_request(pid, secret)).await;
        canceller.closed().await;
    };
    for _ in 0..8 {
        strikes("127.0.3.1", b"none").await;
    }
    // From where too much was guessed nothing is passed on any more, though it is the right one.
    client.query("select pg_sleep(600)").await;
    let watcher = postgres.connect().await;
    let runs = async || {
        let sql = "select 1 from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
        watcher.query(sql, &[]).await.unwrap().len() == 1
    };
    until("the statement runs", runs).await;
    strikes("127.0.3.1", secret).await;
    assert!(runs().await);
    for _ in 0..8 {
        strikes("127.0.2.1", secret).await;
    }
    let ended = client.until(b'Z').await;
    assert!(
        ended
            .iter()
            .any(|message| message.tag == b'E' && message.fields()[&'C'] == "57014")
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_nobody_to_those_who_may_not_come_from_where_they_are() {
    const ENDPOINT: &str = "str-lists";
    let postgres = Postgres::start(Version::Debian).await;
    let keys = "access = { allow = [\"127.0.2.0/24\", \"127.0.3.7\"], deny = [\"127.0.2.66\"] }";
    let gateway = Setup::new()
        .listen(PLAIN)
        .fixed(ENDPOINT, &postgres, keys)
        .start()
        .await;
    for (address, expected) in [
        ("127.0.2.1", "in"),
        ("127.0.3.7", "in"),
        ("127.0.2.66", "28P01"),
        ("127.0.3.8", "28P01"),
    ] {
        let code = tried(&gateway, address, ENDPOINT, PASSWORD).await;
        assert_eq!(code, expected, "{address}");
    }
    let hears = async |address: &str, endpoint: &str| {
        let mut client = from(&gateway, address).await;
        let refused = refusal(&mut client, endpoint, SUPERUSER, PASSWORD).await.unwrap();
        let mut fields = refused.fields();
        fields.remove(&'D');
        fields
    };
    assert_eq!(
        hears("127.0.3.8", ENDPOINT).await,
        hears("127.0.3.8", "str-nobody").await
    );
    let lines = logs::access_lines(ENDPOINT, 5).await;
    let reasons = lines
        .iter()
        .filter(|line| line.field("outcome").contains("address is not allowed"));
    assert_eq!(reasons.count(), 3, "{lines:?}");
    gateway.server.stop().await;
}

#[tokio::test]
async fn load_balancers_say_who_the_client_is_and_nobody_else_may() {
    const ENDPOINT: &str = "str-proxy";
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .listen(BEHIND_PROXY)
        .fixed(ENDPOINT, &postgres, "access = { allow = [\"203.0.113.0/24\"] }")
        .start()
        .await;
    let mut inside = for_client(&gateway, "203.0.113.7").await;
    assert!(
        refusal(&mut inside, ENDPOINT, SUPERUSER, PASSWORD)
            .await
            .is_none()
    );
    inside.until(b'Z').await;
    let mut outside = for_client(&gateway, "198.51.100.7").await;
    let refused = refusal(&mut outside, ENDPOINT, SUPERUSER, PASSWORD)
        .await
        .unwrap();
    assert_eq!(refused.fields()[&'C'], "28P01");

    // In version 2, with an extension, IPv4 in IPv6's clothes; TLS begins behind it.
    let mapped = [
        &[0; 10][..],
        &[0xff, 0xff, 203, 0, 113, 8],
        &[0; 16],
        &[0x9c, 0x40, 0x15, 0x38],
    ]
    .concat();
    let rest = [&mapped[..], &[0xea, 0, 2, 1, 2]].concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    let header = [b"\r\n\r\n\0\r\nQUIT\n\x21\x21".as_slice(), &length, &rest].concat();
    let mut proxy = from(&gateway, PROXY).await;
    proxy.send(&header).await;
    let config = gateway.authority.client_config(&[]);
    let mut secured = proxy.request_tls(config, "str-proxy.db.localhost").await;
    assert!(
        refusal(&mut secured, ENDPOINT, SUPERUSER, PASSWORD)
            .await
            .is_none()
    );

    // A load balancer that sends none, and somebody else who sends one.
    let mut silent = from(&gateway, PROXY).await;
    silent.send(&startup(ENDPOINT, SUPERUSER)).await;
    assert!(!silent.any().await, "it was taken for the client");
    let mut liar = from(&gateway, "127.0.2.1").await;
    liar.send(b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 5432\r\n")
        .await;
    let refused = liar.message().await;
    assert_eq!(refused.fields()[&'C'], "08P01");

    drop((inside, secured));
    let lines = logs::access_lines(ENDPOINT, 3).await;
    let with = |peer: &str| lines.iter().find(|line| line.field("peer") == peer).unwrap();
    assert!(with("203.0.113.7:40000").field("proxy").starts_with("127.0.1.9:"));
    with("198.51.100.7:40000");
    with("203.0.113.8:40000");
    gateway.server.stop().await;
}
