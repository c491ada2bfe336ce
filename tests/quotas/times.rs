//! How long a session may last, and how long it may do nothing.

use super::{BOTH_WAYS, answered};
use crate::harness::{
    gateway::Setup,
    postgres::{Postgres, Version},
};

#[tokio::test]
async fn a_session_ends_at_its_age_but_not_within_a_transaction() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .fixed("quo-age", &postgres, "limits.per_role.session_age = \"1s\"")
        .start()
        .await;
    for pooling in BOTH_WAYS {
        let mut client = gateway.raw_served(&format!("quo-age{pooling}")).await;
        answered(&mut client, "begin").await;
        answered(&mut client, "select pg_sleep(1.2)").await;
        answered(&mut client, "select 1").await;
        client.query("commit").await;
        let said = client.until(b'E').await;
        assert!(said.iter().any(|message| message.tag == b'C'), "{said:?}");
        let told = said.last().unwrap().fields();
        assert_eq!((&*told[&'S'], &*told[&'C']), ("FATAL", "57P01"), "{told:?}");
        assert!(told[&'D'].starts_with("limits allow 1s"), "{told:?}");
        client.closed().await;
    }
}

#[tokio::test]
async fn who_does_nothing_for_too_long_is_ended() {
    let postgres = Postgres::start(Version::Debian).await;
    let limits = "limits.per_endpoint = { idle_time = \"400ms\", idle_in_transaction_time = \"300ms\" }";
    let gateway = Setup::new().fixed("quo-idle", &postgres, limits).start().await;
    for pooling in BOTH_WAYS {
        let endpoint = format!("quo-idle{pooling}");
        for (statements, sqlstate, detail) in [
            (
                &["select 1"][..],
                "57P05",
                "limits allow 400ms without a statement",
            ),
            (
                &["select pg_sleep(0.6)"],
                "57P05",
                "limits allow 400ms without a statement",
            ),
            (&["begin"], "25P03", "limits allow 300ms within a transaction"),
            (
                &["begin", "select 1"],
                "25P03",
                "limits allow 300ms within a transaction",
            ),
        ] {
            let mut client = gateway.raw_served(&endpoint).await;
            for sql in statements {
                answered(&mut client, sql).await;
            }
            let told = client.message().await.fields();
            assert_eq!(
                (&*told[&'S'], &*told[&'C']),
                ("FATAL", sqlstate),
                "{endpoint} {statements:?}"
            );
            assert!(told[&'D'].starts_with(detail), "{told:?}");
            assert!(!told[&'H'].is_empty(), "{told:?}");
            client.closed().await;
        }
    }
}
