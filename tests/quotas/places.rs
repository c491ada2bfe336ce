//! What there may be only so many of at once: clients, server sessions, computes that are awake, clients that wait.

use std::fs;

use super::{BOTH_WAYS, answered, assert_told, let_in, refused, turned_away};
use crate::harness::{
    gate::Gate,
    gateway::Setup,
    postgres::{Postgres, Version},
    wait::until,
};

#[tokio::test]
async fn one_client_too_many_is_told_so_and_comes_in_when_another_leaves() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new()
        .tenants("[audit]\nto = \"file\"\nfile = \"audit.json\"\n")
        .fixed("quo-clients", &postgres, "limits.per_endpoint.clients_max = 2")
        .start()
        .await;
    for pooling in BOTH_WAYS {
        let endpoint = format!("quo-clients{pooling}");
        let first = gateway.raw_served(&endpoint).await;
        let mut second = gateway.raw_served(&endpoint).await;
        let told = turned_away(&gateway, &endpoint).await;
        assert_told(
            &told,
            "53300",
            "limits.per_endpoint.clients_max is 2, and there are 2",
        );
        assert_eq!(told[&'M'], "too many clients of endpoint \"quo-clients\"");
        drop(first);
        let_in(&gateway, &endpoint).await;
        answered(&mut second, "select 1").await;
        drop(second);
        until("everybody has left", async || gateway.server.clients() == 0).await;
    }
    gateway.server.stop().await;
    let audit = fs::read_to_string(gateway.path().join("audit.json")).unwrap();
    let lines = audit.lines().filter(|line| line.contains("\"event\":\"quota\""));
    let lines: Vec<_> = lines
        .filter(|line| line.contains("limits.per_endpoint.clients_max"))
        .collect();
    assert!(lines.len() >= 2, "{audit}");
    assert!(
        lines[0].contains("\"sqlstate\":\"53300\"") && lines[0].contains("\"role\":\"postgres\""),
        "{}",
        lines[0]
    );
}

#[tokio::test]
async fn what_is_reserved_is_for_operators() {
    let postgres = Postgres::start(Version::Debian).await;
    let limits = "[tenants.acme.limits]\nper_tenant = { clients_max = 3, operator_reserve = 2 }\n";
    let gateway = Setup::new()
        .tenants(limits)
        .fixed("quo-usual", &postgres, "")
        .fixed("quo-boss", &postgres, "limits.operator_roles = [\"postgres\"]")
        .start()
        .await;
    let _usual = gateway.connect("quo-usual").await;
    let told = turned_away(&gateway, "quo-usual-pooler").await;
    let detail = "limits.per_tenant.clients_max is 3, of which 2 are reserved for operators, and there are 1";
    assert_told(&told, "53300", detail);
    let _operators = [
        gateway.connect("quo-boss").await,
        gateway.connect("quo-boss-pooler").await,
    ];
    let told = turned_away(&gateway, "quo-boss").await;
    assert_told(
        &told,
        "53300",
        "limits.per_tenant.clients_max is 3, and there are 3",
    );
}

#[tokio::test]
async fn server_sessions_of_a_tenant_are_limited_and_idle_ones_make_room() {
    let postgres = Postgres::start(Version::Debian).await;
    let limits = "[tenants.acme.limits]\nper_tenant.server_sessions_max = 1\n";
    let gateway = Setup::new()
        .tenants(limits)
        .fixed("quo-one", &postgres, "")
        .fixed("quo-two", &postgres, "")
        .start()
        .await;
    let detail = "limits.per_tenant.server_sessions_max is 1, and there are 1";
    let alone = gateway.raw_served("quo-one").await;
    for pooling in BOTH_WAYS {
        assert_told(
            &turned_away(&gateway, &format!("quo-two{pooling}")).await,
            "53300",
            detail,
        );
    }
    drop(alone);
    let_in(&gateway, "quo-one-pooler").await;

    let mut one = gateway.raw_served("quo-one-pooler").await;
    // The session that the other one has left behind is closed for it.
    let mut two = gateway.raw_served("quo-two-pooler").await;
    answered(&mut one, "begin").await;
    answered(&mut one, "select 1").await;
    assert_told(&refused(&mut two, "select 2").await, "53300", detail);
    answered(&mut one, "commit").await;
    answered(&mut two, "select 2").await;
    answered(&mut one, "select 1").await;
}

#[tokio::test]
async fn computes_that_are_awake_at_once_are_limited() {
    for (number, pooling) in BOTH_WAYS.into_iter().enumerate() {
        let limits = "[tenants.acme.limits]\nper_tenant.computes_awake_max = 1\n";
        let (first, second) = (format!("quo-awake-{number}a"), format!("quo-awake-{number}b"));
        let gateway = Setup::new()
            .tenants(limits)
            .listed(&first, "suspend_after = \"50ms\"")
            .listed(&second, "suspend_after = \"50ms\"")
            .start()
            .await;
        let mut holder = gateway.raw_served(&format!("{first}{pooling}")).await;
        answered(&mut holder, "begin").await;
        answered(&mut holder, "select 1").await;
        let told = turned_away(&gateway, &format!("{second}{pooling}")).await;
        assert_told(
            &told,
            "53400",
            "limits.per_tenant.computes_awake_max is 1, and there are 1",
        );
        assert_eq!(gateway.wakes(&second), 0);
        drop(holder);
        gateway.asleep(&first).await;
        let_in(&gateway, &format!("{second}{pooling}")).await;
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn clients_that_wait_for_a_compute_are_limited() {
    const LIMITS: [&str; 3] = [
        "limits.per_endpoint.held_clients_max",
        "limits.per_tenant.held_clients_max",
        "limits.held_clients_max",
    ];
    for (number, limit) in LIMITS.into_iter().enumerate() {
        let endpoint = format!("quo-held-{number}");
        let setup = Setup::new();
        let mut gate = Gate::new(setup.path());
        let setup = match number {
            0 => setup.gated(&endpoint, &gate, "limits.per_endpoint.held_clients_max = 2"),
            1 => setup
                .tenants("[tenants.acme.limits]\nper_tenant.held_clients_max = 2\n")
                .gated(&endpoint, &gate, ""),
            _ => setup.limit("held_clients_max = 2").gated(&endpoint, &gate, ""),
        };
        let gateway = setup.start().await;
        gate.close();
        let names = BOTH_WAYS.map(|pooling| format!("{endpoint}{pooling}"));
        let mut held = [
            gateway.raw_proved(&names[0]).await,
            gateway.raw_proved(&names[1]).await,
        ];
        let is_held = || {
            let endpoint = pgwake::ids::EndpointName::parse(&endpoint).unwrap();
            gateway.server.house().wakes.figures(&endpoint).unwrap().held
        };
        until("two clients to be held", async || is_held() == 2).await;
        for name in &names {
            let told = turned_away(&gateway, name).await;
            // At once, and with the queue's length.
            assert_told(&told, "57P03", &format!("{limit} is 2, and there are 2"));
        }
        gate.open();
        for client in &mut held {
            client.until(b'Z').await;
        }
        for name in &names {
            let_in(&gateway, name).await;
        }
        assert_eq!(gateway.wakes(&endpoint), 1);
        gateway.server.stop().await;
    }
}
