//! Endpoints that come while those whose place they take still have sessions that end.

use super::{rewrite, started, text};
use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    logs,
    raw::Raw,
    tls_client,
    wait::until,
};
use pgwake::{ids::EndpointName, server::Changes};

/// A client in a transaction that has written something.
async fn in_transaction(gateway: &Gateway, endpoint: &str) -> Raw {
    let mut client = gateway.raw_served(endpoint).await;
    client
        .query("begin; create table kept (number int); insert into kept values (42)")
        .await;
    client.until(b'Z').await;
    client
}

async fn committed(mut client: Raw) {
    client.query("commit").await;
    let told = client.until(b'E').await;
    assert!(told.iter().any(|message| message.tag == b'C'), "{told:?}");
}

async fn kept(gateway: &Gateway, endpoint: &str) -> i32 {
    let client = gateway.connect_again(endpoint).await;
    client
        .query_one("select number from kept", &[])
        .await
        .unwrap()
        .get(0)
}

async fn put_in_force(gateway: &Gateway, text: &str) -> Changes {
    rewrite(gateway.path(), text);
    gateway.server.reload().await.unwrap()
}

fn names(names: &[EndpointName]) -> Vec<&str> {
    names.iter().map(EndpointName::as_str).collect()
}

async fn refused_with(gateway: &Gateway, endpoint: &str) -> String {
    let refused = tls_client::connect(&gateway.config(endpoint), &gateway.authority).await;
    refused.err().unwrap().code().unwrap().code().to_owned()
}

#[tokio::test]
async fn what_is_put_back_comes_behind_its_last_session_and_all_else_holds_at_once() {
    let setup = Setup::new()
        .listed("rel-beside", "suspend_after = \"1h\"")
        .listed("rel-back", "");
    let gateway = started(setup).await;
    let client = in_transaction(&gateway, "rel-back").await;
    let before = text(&gateway);
    let without = &before[..before.find("[tenants.acme.endpoints.rel-back]").unwrap()];
    let changes = put_in_force(&gateway, without).await;
    assert_eq!(names(&changes.removed), ["rel-back"]);

    let changes = put_in_force(&gateway, &before.replace("\"1h\"", "\"2h\"")).await;

    assert_eq!(
        (names(&changes.late), names(&changes.added)),
        (vec!["rel-back"], vec![])
    );
    assert_eq!(changes.changed, ["tenants.acme.endpoints.rel-beside"]);
    assert_eq!(
        changes.to_string(),
        "endpoint rel-back waits until sessions of before have ended, tenants.acme.endpoints.rel-beside changed"
    );
    assert_eq!(refused_with(&gateway, "rel-back").await, "28P01");
    committed(client).await;
    assert_eq!(kept(&gateway, "rel-back").await, 42);
}

#[tokio::test]
async fn a_new_name_takes_over_the_data_directory_behind_the_last_session_of_the_old_one() {
    let gateway = started(Setup::new().listed("rel-old", "")).await;
    let client = in_transaction(&gateway, "rel-old").await;

    let renamed = text(&gateway).replace("endpoints.rel-old]", "endpoints.rel-new]");
    let changes = put_in_force(&gateway, &renamed).await;

    assert_eq!(
        (names(&changes.late), names(&changes.removed)),
        (vec!["rel-new"], vec!["rel-old"])
    );
    committed(client).await;
    assert_eq!(kept(&gateway, "rel-new").await, 42);
    assert_eq!(refused_with(&gateway, "rel-old").await, "28P01");
}

/// The log said of such a start that it had not been ready in time.
#[tokio::test]
async fn a_start_that_is_taken_away_ends_with_that_reason() {
    const ENDPOINT: &str = "rel-waking";
    let setup = Setup::new();
    let without = std::fs::read_to_string(setup.write()).unwrap();
    let mut gate = Gate::new(setup.path());
    gate.close();
    let gateway = started(setup.gated(ENDPOINT, &gate, "")).await;
    let mut held = gateway.raw_proved(ENDPOINT).await;
    until("it to be held", async || gateway.wakes(ENDPOINT) == 1).await;

    put_in_force(&gateway, &without).await;

    let told = held.until(b'E').await.last().unwrap().fields();
    assert_eq!(told[&'C'], "57P01", "{told:?}");
    assert!(
        told[&'M'].starts_with(&format!("endpoint \"{ENDPOINT}\"")),
        "{told:?}"
    );
    until("it to be gone", async || {
        let lines = logs::of_endpoint(ENDPOINT);
        lines.iter().any(|line| line.field("message") == "removed")
    })
    .await;
    let lines = logs::of_endpoint(ENDPOINT);
    let messages: Vec<_> = lines.iter().map(|line| line.field("message")).collect();
    assert!(
        messages.contains(&"was removed while it was starting; stopped"),
        "{messages:?}"
    );
    assert!(
        !messages.iter().any(|message| message.contains("in time")),
        "{messages:?}"
    );
}

/// Whoever cleared up behind an endpoint that had gone put the limits in force once more that had held a moment before: where
/// a reload was just changing them, the old ones were back until the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_go_take_no_new_limit_with_them() {
    const GOING: usize = 150;
    let gateway = started(Setup::new().limit("transactions = \"1000/s\"")).await;
    let stays = text(&gateway);
    let verifier = postgres_protocol::password::scram_sha_256(b"x");
    let roles = format!("roles.app = {{ verifier = \"{verifier}\" }}");
    let going: String = (0..GOING)
        .map(|number| {
            format!(
                "[tenants.going.endpoints.going-{number}]\n{}\ncompute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n",
                roles
            )
        })
        .collect();
    let limit = || {
        let figures = gateway.server.house().quotas.figures(std::iter::empty());
        let mut limits = figures.iter().filter(|one| one.limit == "transactions");
        limits.next().unwrap().max
    };
    for round in 0..10_u64 {
        let [before, after] = [1001 + 2 * round, 1002 + 2 * round]
            .map(|count| stays.replace("\"1000/s\"", &format!("\"{count}/s\"")));
        for text in [format!("{before}{going}"), before.clone(), after] {
            rewrite(gateway.path(), &text);
            gateway.server.reload().await.unwrap();
        }
        for _ in 0..200 {
            assert_eq!(limit(), 1002 + 2 * round, "in round {round}");
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
        }
    }
}
