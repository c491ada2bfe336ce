//! Branches that a login makes, for those who have proved who they are and for nobody else.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_postgres::Config;

use super::{OPERATE, create, in_folder, numbers, started};
use crate::harness::{gateway::Gateway, postgres::SUPERUSER, raw::Message, tls_client, wait::until};
use crate::who_it_is::conversation;

/// Who waits for many copies at once on a busy machine.
fn patient(gateway: &Gateway, endpoint: &str) -> Config {
    let mut config = gateway.config(endpoint);
    config.connect_timeout(Duration::from_secs(300));
    config
}

/// A client of a branch that has what its parent had.
async fn log_in(gateway: &Gateway, name: &str) -> tokio_postgres::Client {
    let client = tls_client::connect(&patient(gateway, name), &gateway.authority)
        .await
        .unwrap();
    assert_eq!(numbers(&client, "select n from kept").await, [7], "{name}");
    client
}

#[tokio::test]
async fn who_wakes_nothing_makes_no_branch() {
    const PARENT: &str = "branch-ignored";
    let keys = "branches = { on_connect = true }\nidle_ignore = { application_names = [\"exporter\"] }";
    let gateway = started(PARENT, keys).await;
    let name = format!("{PARENT}--new");
    let mut exporter = patient(&gateway, &name);
    exporter.application_name("exporter");

    let refused = tls_client::connect(&exporter, &gateway.authority).await;

    let error = refused.expect_err("it makes none");
    assert_eq!(error.code().unwrap().code(), "08004", "{error:?}");
    assert!(in_folder(&gateway.data_dir(PARENT)).is_empty());
    tls_client::connect(&patient(&gateway, &name), &gateway.authority)
        .await
        .unwrap();
    assert!(!in_folder(&gateway.data_dir(PARENT)).is_empty());
    gateway.server.stop().await;
}

/// The endpoint refused its clients, and gave the same clients a fresh copy of its data.
#[tokio::test]
async fn an_endpoint_that_is_disabled_has_no_branches_made_by_clients() {
    const PARENT: &str = "branch-disabled";
    let gateway = started(PARENT, "branches = { on_connect = true }").await;
    let http = gateway.http(OPERATE);
    let disabled = http.post(&format!("/api/v1/endpoints/{PARENT}/disable")).await;
    assert_eq!(disabled.status, 200, "{disabled:?}");
    let name = format!("{PARENT}--new");

    let refused = tls_client::connect(&patient(&gateway, &name), &gateway.authority).await;

    let refused = refused.expect_err("it is disabled");
    let told = refused.as_db_error().unwrap();
    assert_eq!(told.code().code(), "57P03");
    assert_eq!(told.message(), format!("endpoint \"{PARENT}\" is disabled"));
    assert!(in_folder(&gateway.data_dir(PARENT)).is_empty());
    // An operator knows what he does.
    create(&gateway, PARENT, "new").await;
    http.post(&format!("/api/v1/endpoints/{PARENT}/enable")).await;
    tls_client::connect(
        &patient(&gateway, &format!("{PARENT}--other")),
        &gateway.authority,
    )
    .await
    .unwrap();
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_hundred_logins_at_once_make_exactly_the_branches_that_they_name() {
    const PARENT: &str = "branch-agents";
    let keys = "hold_timeout = \"5m\"\nstart_timeout = \"5m\"\nbranches = { on_connect = true, max = 5 }";
    let gateway = started(PARENT, keys).await;
    let parent = gateway.connect(PARENT).await;
    parent
        .batch_execute("create table kept as select 7 as n")
        .await
        .unwrap();
    // Five branches, twenty times each.
    let names: Vec<String> = (0..100)
        .map(|number| format!("{PARENT}--agent-{}", number % 5))
        .collect();

    let clients = join_all(names.iter().map(|name| log_in(&gateway, name))).await;

    let mut expected: Vec<String> = (0..5)
        .flat_map(|number| [format!("agent-{number}"), format!("agent-{number}.lock")])
        .collect();
    expected.sort();
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), expected);
    // Who is there is there under the branch's own name.
    let sessions = gateway
        .http(OPERATE)
        .get(&format!("/api/v1/sessions?endpoint={PARENT}--agent-3"))
        .await
        .json();
    assert_eq!(sessions["total"], 20);
    drop(clients);
    // One more is too many.
    let refused = tls_client::connect(
        &patient(&gateway, &format!("{PARENT}--agent-5")),
        &gateway.authority,
    )
    .await;
    let refused = refused.err().unwrap();
    let told = refused.as_db_error().unwrap();
    assert_eq!(told.code().code(), "53400");
    assert_eq!(
        told.message(),
        format!("endpoint \"{PARENT}\" has as many branches as it may have")
    );
    let bad = tls_client::connect(&patient(&gateway, &format!("{PARENT}--a--b")), &gateway.authority).await;
    assert_eq!(bad.err().unwrap().code().unwrap().code(), "22023");
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), expected);
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_branch_that_a_login_has_made_goes_when_nobody_has_used_it_for_its_ttl() {
    const PARENT: &str = "branch-agent-ttl";
    let keys = "hold_timeout = \"5m\"\nbranches = { on_connect = true, ttl = \"2s\" }";
    let gateway = started(PARENT, keys).await;
    let branch = format!("{PARENT}--task");
    let pooled = patient(&gateway, &format!("{branch}-pooler"));
    let client = tls_client::connect(&pooled, &gateway.authority).await.unwrap();
    client.batch_execute("create table kept (n int)").await.unwrap();
    let path = format!("/api/v1/branches/{branch}");
    assert_eq!(gateway.http(OPERATE).get(&path).await.json()["ttl_ms"], 2_000);
    drop(client);

    until("it to go", async || {
        gateway.http(OPERATE).get(&path).await.status == 404
    })
    .await;

    until("its files to go", async || {
        in_folder(&gateway.data_dir(PARENT)).is_empty()
    })
    .await;
    gateway.asleep(&branch).await;
    // And comes anew, as its parent is.
    let client = tls_client::connect(&patient(&gateway, &branch), &gateway.authority)
        .await
        .unwrap();
    client.batch_execute("create table kept (n int)").await.unwrap();
    gateway.server.stop().await;
}

/// What somebody with a wrong password hears.
async fn heard(gateway: &Gateway, endpoint: &str, role: &str) -> Vec<Message> {
    conversation(gateway.raw_to(endpoint).await, role, "wrong").await
}

/// The salt and the rounds of a challenge: the same for the same name.
fn salt(heard: &[Message]) -> String {
    let challenge = heard
        .iter()
        .find(|message| message.tag == b'R' && message.body.starts_with(&[0, 0, 0, 11]));
    let text = String::from_utf8_lossy(&challenge.unwrap().body[4..]).into_owned();
    let (_, salt) = text.split_once(",s=").unwrap();
    salt.to_owned()
}

#[tokio::test]
async fn who_has_proved_nothing_makes_no_branch_and_learns_of_none() {
    const PARENT: &str = "branch-strangers";
    for keys in ["branches.on_connect = true", "branches.on_connect = false"] {
        let gateway = started(PARENT, keys).await;
        create(&gateway, PARENT, "real").await;
        // A role that nobody has told those that exist from all others by its salt.
        for role in [SUPERUSER, "nobody's"] {
            let mut salts = Vec::new();
            for name in ["--real", "--none", "--none-too", "--b_ad", ""] {
                let heard = heard(&gateway, &format!("{PARENT}{name}"), role).await;
                let refusal = heard.last().unwrap().fields();
                assert_eq!(refusal[&'C'], "28P01", "{name}");
                assert_eq!(
                    refusal[&'M'],
                    format!("password authentication failed for user \"{role}\"")
                );
                salts.push(salt(&heard));
            }
            salts.dedup();
            assert_eq!(salts.len(), 1, "one login for the parent and all of its branches");
        }
        // Branches of nobody's are as alike as those of somebody's, and so is their parent.
        let mut nobodys = Vec::new();
        for name in ["--real", "--none", ""] {
            nobodys.push(salt(
                &heard(&gateway, &format!("branch-nobodys{name}"), SUPERUSER).await,
            ));
        }
        nobodys.dedup();
        assert_eq!(nobodys.len(), 1);
        assert_eq!(in_folder(&gateway.data_dir(PARENT)), ["real", "real.lock"]);
        assert_eq!(
            gateway.wakes(PARENT) + gateway.wakes(&format!("{PARENT}--real")),
            0
        );
        gateway.server.stop().await;
    }
}

#[tokio::test]
async fn where_logins_make_none_who_has_proved_himself_is_told_so() {
    const PARENT: &str = "branch-unasked";
    let gateway = started(PARENT, "").await;
    let refused = tls_client::connect(&gateway.config(&format!("{PARENT}--none")), &gateway.authority).await;
    let refused = refused.err().unwrap();
    let told = refused.as_db_error().unwrap();
    assert_eq!(told.code().code(), "08004");
    assert_eq!(told.message(), format!("there is no branch \"{PARENT}--none\""));
    assert_eq!(gateway.wakes(PARENT), 0);
    assert_eq!(in_folder(&gateway.data_dir(PARENT)), [""; 0]);
    gateway.server.stop().await;
}
