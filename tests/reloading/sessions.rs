//! What a reload means for those who are here: access lists, limits, pools; and a reload under load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use postgres_protocol::message::frontend;

use super::{PLAIN, fixed, rewrite, started, text};
use crate::harness::{
    gate::Gate,
    gateway::Setup,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    raw::{self, Raw},
    tls_client,
    wait::until,
};
use crate::quotas::turned_away;

#[tokio::test]
async fn a_session_whose_address_is_not_allowed_any_more_ends() {
    let postgres = Postgres::start(Version::Debian).await;
    let keys = "access = { allow = [\"127.0.0.0/8\"] }";
    let setup = Setup::new()
        .listen(PLAIN)
        .tenants(&fixed("acme", "rel-access", &postgres, keys));
    let gateway = started(setup).await;
    let mut clients = Vec::new();
    for (from, name) in [
        ("127.0.2.1", "rel-access"),
        ("127.0.2.1", "rel-access-pooler"),
        ("127.0.3.1", "rel-access"),
        ("127.0.3.1", "rel-access-pooler"),
    ] {
        let options = format!("endpoint={name}");
        let parameters = [
            ("user", SUPERUSER),
            ("database", "postgres"),
            ("options", &options),
        ];
        let mut client = Raw::tcp_from(from.parse().unwrap(), gateway.address()).await;
        client
            .log_in(&raw::startup(raw::PROTOCOL_3_0, &parameters), PASSWORD)
            .await;
        clients.push(client);
    }
    // One of those that must go is in the middle of something.
    clients[0].query("select pg_sleep(600)").await;
    let watcher = postgres.connect().await;
    let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'";
    until("it runs", async || {
        watcher.query_one(running, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;

    let closed = text(&gateway).replace(
        "allow = [\"127.0.0.0/8\"]",
        "allow = [\"127.0.0.0/8\"], deny = [\"127.0.2.0/24\"]",
    );
    rewrite(gateway.path(), &closed);
    let changes = gateway.server.reload().await.unwrap();
    assert_eq!(changes.changed, ["tenants.acme.endpoints.rel-access"]);
    for client in &mut clients[..2] {
        let told = client.message().await.fields();
        assert_eq!((&*told[&'S'], &*told[&'C']), ("FATAL", "57P01"), "{told:?}");
        assert_eq!(told[&'M'], "this address is not allowed at the endpoint any more");
        client.closed().await;
    }
    for client in &mut clients[2..] {
        client.query("select 1").await;
        assert!(client.until(b'Z').await.iter().any(|message| message.tag == b'D'));
    }
    let gone =
        "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
    until("what it ran is cancelled", async || {
        watcher.query_one(gone, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_held_ends_where_its_address_is_not_allowed_any_more() {
    const ENDPOINT: &str = "rel-held";
    let setup = Setup::new().listen(PLAIN);
    let mut gate = Gate::new(setup.path());
    let setup = setup.gated(ENDPOINT, &gate, "access = { allow = [\"127.0.0.0/8\"] }");
    let gateway = started(setup).await;
    gate.close();
    let mut held = Vec::new();
    for name in [ENDPOINT, "rel-held-pooler"] {
        let options = format!("endpoint={name}");
        let parameters = [
            ("user", SUPERUSER),
            ("database", "postgres"),
            ("options", &options),
        ];
        let mut client = Raw::tcp_from("127.0.2.1".parse().unwrap(), gateway.address()).await;
        client
            .prove(&raw::startup(raw::PROTOCOL_3_0, &parameters), PASSWORD)
            .await;
        client.message().await.authentication(0);
        held.push(client);
    }

    let closed = text(&gateway).replace(
        "allow = [\"127.0.0.0/8\"]",
        "allow = [\"127.0.0.0/8\"], deny = [\"127.0.2.0/24\"]",
    );
    rewrite(gateway.path(), &closed);
    gateway.server.reload().await.unwrap();

    // The compute does not come up before both have gone.
    for client in &mut held {
        let told = loop {
            let message = client.message().await;
            if message.tag != b'N' {
                break message.fields();
            }
        };
        assert_eq!(told[&'M'], "this address is not allowed at the endpoint any more");
        client.closed().await;
    }
    gate.open();
    gateway.server.stop().await;
}

#[tokio::test]
async fn limits_and_pools_change_and_nobody_within_them_is_dropped() {
    let postgres = Postgres::start(Version::Debian).await;
    let keys = "limits.per_endpoint.clients_max = 2\npool.size = 2";
    let setup = Setup::new().tenants(&fixed("acme", "rel-limits", &postgres, keys));
    let gateway = started(setup).await;
    let here = [
        gateway.connect("rel-limits").await,
        gateway.connect("rel-limits-pooler").await,
    ];
    assert_eq!(turned_away(&gateway, "rel-limits").await[&'C'], "53300");
    let before = text(&gateway);
    let more = before
        .replace("clients_max = 2", "clients_max = 3")
        .replace("pool.size = 2", "pool.size = 1");
    rewrite(gateway.path(), &more);
    gateway.server.reload().await.unwrap();
    let third = gateway.connect("rel-limits-pooler").await;
    assert_eq!(turned_away(&gateway, "rel-limits").await[&'C'], "53300");
    rewrite(
        gateway.path(),
        &before.replace("clients_max = 2", "clients_max = 1"),
    );
    gateway.server.reload().await.unwrap();
    for client in here.iter().chain([&third]) {
        client.batch_execute("select 1").await.unwrap();
    }
    drop(third);
    assert_eq!(turned_away(&gateway, "rel-limits").await[&'C'], "53300");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_drops_nobody() {
    const CLIENTS: usize = 8;
    const RELOADS: usize = 12;
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-load", &postgres, "pool.size = 4"));
    let gateway = started(setup).await;
    let before = text(&gateway);
    let (goes_on, done) = (AtomicBool::new(true), AtomicU64::new(0));
    let work = |number: usize| {
        let (gateway, goes_on, done) = (&gateway, &goes_on, &done);
        async move {
            let name = ["rel-load", "rel-load-pooler"][number % 2];
            let mut client = gateway.connect(name).await;
            while goes_on.load(Ordering::Relaxed) {
                let transaction = client.transaction().await.unwrap();
                let row = transaction.query_one("select $1::int8", &[&1_i64]).await.unwrap();
                assert_eq!(row.get::<_, i64>(0), 1);
                transaction.commit().await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let all = futures_util::future::join_all((0..CLIENTS).map(work));
    let reloads = async {
        for number in 0..RELOADS {
            let seen = done.load(Ordering::Relaxed);
            until("work goes on", async || done.load(Ordering::Relaxed) > seen + 20).await;
            let size = 2 + number % 3;
            let other = before.replace(
                "pool.size = 4",
                &format!("pool.size = {size}\nhold_timeout = \"{}s\"", 20 + number),
            );
            rewrite(gateway.path(), &other);
            let changes = gateway.server.reload().await.unwrap();
            assert_eq!(changes.changed, ["tenants.acme.endpoints.rel-load"]);
        }
        goes_on.store(false, Ordering::Relaxed);
    };
    tokio::join!(all, reloads);
    assert!(done.load(Ordering::Relaxed) > 200);
}

/// A client that had begun to log in brought the limits with it that held then, for itself and for all who came behind it.
#[tokio::test]
async fn a_login_that_is_under_way_ends_under_the_limits_that_hold() {
    let postgres = Postgres::start(Version::Debian).await;
    let keys = "login = \"password\"\nlimits.per_role.clients_max = 9";
    let setup = Setup::new().tenants(&fixed("acme", "rel-began", &postgres, keys));
    let gateway = started(setup).await;
    gateway.learnt().await;
    let mut slow = gateway.raw_to("rel-began").await;
    let parameters = [("user", SUPERUSER), ("database", "postgres")];
    slow.send(&raw::startup(raw::PROTOCOL_3_0, &parameters)).await;
    slow.message().await.authentication(3);

    let lower = text(&gateway).replace("clients_max = 9", "clients_max = 1");
    rewrite(gateway.path(), &lower);
    gateway.server.reload().await.unwrap();
    slow.send_with(|bytes| frontend::password_message(PASSWORD.as_bytes(), bytes).unwrap())
        .await;
    slow.until(b'Z').await;

    let second = tls_client::connect(&gateway.config("rel-began"), &gateway.authority).await;
    assert_eq!(second.err().unwrap().code().unwrap().code(), "53300");
}
