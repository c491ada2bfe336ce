//! What may happen only so often, or go on only so fast: logins, wakes, transactions, bytes.

use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;

use super::{BOTH_WAYS, answered, assert_told, refused, turned_away};
use crate::harness::{
    gateway::Setup,
    postgres::{Postgres, Version},
};

#[tokio::test]
async fn logins_that_come_too_fast_are_refused_after_the_proof() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .fixed("quo-connects", &postgres, "limits.per_role.connects = \"3/h\"")
        .start()
        .await;
    for pooling in ["", "-pooler", ""] {
        gateway.connect(&format!("quo-connects{pooling}")).await;
    }
    for pooling in BOTH_WAYS {
        let told = turned_away(&gateway, &format!("quo-connects{pooling}")).await;
        assert_told(
            &told,
            "53400",
            "limits.per_role.connects is 3/h, and all of it is used; the next is possible in ",
        );
        assert!(
            told[&'M'].contains("role \"postgres\" at endpoint \"quo-connects\""),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn wakes_are_limited_and_an_awake_compute_serves_everybody() {
    let gateway = Setup::new()
        .listed(
            "quo-wakes",
            "suspend_after = \"50ms\"\nlimits.per_endpoint.wakes = \"2/h\"",
        )
        .start()
        .await;
    let mut parked = gateway.raw_served("quo-wakes-pooler").await;
    gateway.asleep("quo-wakes").await;
    let holder = gateway.raw_served("quo-wakes").await;
    answered(&mut parked, "select 1").await;
    assert_eq!(gateway.wakes("quo-wakes"), 2);
    drop(holder);
    gateway.asleep("quo-wakes").await;
    let detail = "limits.per_endpoint.wakes is 2/h, and all of it is used";
    assert_told(&turned_away(&gateway, "quo-wakes").await, "53400", detail);
    // Its client stays.
    assert_told(&refused(&mut parked, "select 1").await, "53400", detail);
    assert_told(&refused(&mut parked, "select 1").await, "53400", detail);
    assert_eq!(gateway.wakes("quo-wakes"), 2);
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_transaction_beyond_the_rate_is_refused_and_its_client_stays() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .fixed(
            "quo-transactions",
            &postgres,
            "limits.per_endpoint.transactions = \"8/h\"",
        )
        .fixed("quo-unlimited", &postgres, "")
        .start()
        .await;
    let detail = "limits.per_endpoint.transactions is 8/h, and all of it is used; the next is possible in ";
    let mut clients = Vec::new();
    for pooling in BOTH_WAYS {
        let mut client = gateway.raw_served(&format!("quo-transactions{pooling}")).await;
        for sql in [
            "select 1",
            "begin",
            "select 2",
            "select broken",
            "rollback",
            "select 3",
        ] {
            client.query(sql).await;
            client.until(b'Z').await;
        }
        answered(&mut client, "select 4; select 5").await;
        clients.push(client);
    }
    for client in &mut clients {
        let since = Instant::now();
        for _ in 0..3 {
            let told = refused(client, "select 6").await;
            assert_told(&told, "53400", detail);
        }
        // Two pauses: one who asks again and again keeps nobody busy.
        assert!(
            since.elapsed() >= Duration::from_millis(40),
            "{:?}",
            since.elapsed()
        );
        // A whole pipeline is one error, and one ReadyForQuery.
        client
            .send_with(|bytes| {
                frontend::parse("", "select 7", [], bytes).unwrap();
                let bound = frontend::bind(
                    "",
                    "",
                    [],
                    [],
                    |(), _| Ok(postgres_protocol::IsNull::Yes),
                    [],
                    bytes,
                );
                assert!(bound.is_ok());
                frontend::execute("", 0, bytes).unwrap();
                frontend::sync(bytes);
            })
            .await;
        let said = client.until(b'Z').await;
        let tags: Vec<_> = said.iter().map(|message| message.tag).collect();
        assert_eq!(tags, *b"EZ", "{said:?}");
        assert_told(&said[0].fields(), "53400", detail);
    }
    answered(&mut gateway.raw_served("quo-unlimited").await, "select 1").await;
}

#[tokio::test]
async fn bytes_come_slower_and_all_of_them() {
    const BYTES: usize = 900 << 10;
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .fixed("quo-in", &postgres, "limits.per_role.bytes_in = \"300KiB/s\"")
        .fixed("quo-out", &postgres, "limits.per_role.bytes_out = \"300KiB/s\"")
        .start()
        .await;
    for pooling in BOTH_WAYS {
        let sent = async {
            let client = gateway.connect(&format!("quo-in{pooling}")).await;
            let since = Instant::now();
            let text = "x".repeat(BYTES);
            let row = client.query_one("select length($1)", &[&text]).await.unwrap();
            (row.get::<_, i32>(0), since.elapsed())
        };
        let received = async {
            let client = gateway.connect(&format!("quo-out{pooling}")).await;
            let since = Instant::now();
            let sql = format!("select repeat('x', {BYTES})");
            let row = client.query_one(&sql, &[]).await.unwrap();
            (
                i32::try_from(row.get::<_, &str>(0).len()).unwrap(),
                since.elapsed(),
            )
        };
        let (sent, received) = tokio::join!(sent, received);
        for (bytes, took) in [sent, received] {
            assert_eq!(bytes, i32::try_from(BYTES).unwrap());
            // A second's worth at once, the rest in two seconds; the last buffer is nobody's debt yet.
            assert!(took > Duration::from_millis(1_500), "{took:?}");
        }
        // What the first has used, the next has to wait for.
    }
}
