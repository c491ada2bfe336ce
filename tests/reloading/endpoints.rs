//! Endpoints, tenants and roles that come and go.

use super::{fixed, rewrite, started, text};
use crate::harness::{
    gateway::Setup,
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    tls_client,
    wait::until,
};

#[tokio::test]
async fn endpoints_come_and_go_and_the_sessions_of_others_go_on() {
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new()
        .tenants(&fixed("acme", "rel-stays", &postgres, ""))
        .tenants(&fixed("acme", "rel-goes", &postgres, ""));
    let gateway = started(setup).await;
    let stays = gateway.connect("rel-stays").await;
    let mut idle = gateway.raw_served("rel-goes").await;
    let mut parked = gateway.raw_served("rel-goes-pooler").await;
    let mut busy = gateway.raw_served("rel-goes").await;
    busy.query("begin").await;
    busy.until(b'Z').await;

    let with_one_more = format!(
        "{}\n{}",
        text(&gateway),
        fixed("other", "rel-comes", &postgres, "")
    );
    let gone = with_one_more.replace(&fixed("acme", "rel-goes", &postgres, ""), "");
    rewrite(gateway.path(), &gone);
    let changes = gateway.server.reload().await.unwrap();
    let names =
        |names: &[pgwake::ids::EndpointName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&changes.added), ["rel-comes"]);
    assert_eq!(names(&changes.removed), ["rel-goes"]);

    for client in [&mut idle, &mut parked] {
        let told = client.message().await.fields();
        assert_eq!((&*told[&'S'], &*told[&'C']), ("FATAL", "57P01"), "{told:?}");
        assert_eq!(told[&'M'], "endpoint \"rel-goes\" has been removed");
        client.closed().await;
    }
    busy.query("select 1").await;
    assert!(busy.until(b'Z').await.iter().any(|message| message.tag == b'D'));
    busy.query("commit").await;
    let last = busy.until(b'E').await;
    assert!(last.iter().any(|message| message.tag == b'C'), "{last:?}");

    stays.batch_execute("select 1").await.unwrap();
    gateway.learnt().await;
    gateway
        .connect("rel-comes")
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    gateway
        .connect("rel-comes-pooler")
        .await
        .batch_execute("select 1")
        .await
        .unwrap();
    let refused = tls_client::connect(&gateway.config("rel-goes"), &gateway.authority).await;
    assert_eq!(
        refused.err().unwrap().code().unwrap().code(),
        "28P01",
        "it is as if it had never been"
    );

    // And back again.
    rewrite(gateway.path(), &with_one_more);
    gateway.server.reload().await.unwrap();
    gateway.learnt().await;
    until("it is back", async || {
        tls_client::connect(&gateway.config("rel-goes"), &gateway.authority)
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_local_compute_that_is_taken_out_is_stopped_and_a_new_policy_holds() {
    let setup = Setup::new().listed("rel-local", "suspend_after = \"never\"");
    let gateway = started(setup).await;
    let client = gateway.connect("rel-local").await;
    client.batch_execute("select 1").await.unwrap();
    drop(client);
    let before = text(&gateway);
    rewrite(
        gateway.path(),
        &before.replace("suspend_after = \"never\"", "suspend_after = \"50ms\""),
    );
    gateway.server.reload().await.unwrap();
    gateway.asleep("rel-local").await;

    rewrite(gateway.path(), &before);
    gateway.server.reload().await.unwrap();
    gateway.connect("rel-local").await;
    assert!(gateway.is_awake("rel-local"));
    let without = &before[..before.find("[tenants.acme.endpoints.rel-local]").unwrap()];
    rewrite(gateway.path(), without);
    gateway.server.reload().await.unwrap();
    gateway.asleep("rel-local").await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn roles_come_and_go_and_who_is_here_stays() {
    let listed = |password: &str| {
        let verifier = pgwake::auth::verifier_for(&pgwake::ids::Secret::new(password), 4096);
        format!(
            "roles.{SUPERUSER} = {{ verifier = \"{}\", server_password = \"{PASSWORD}\" }}",
            verifier.to_text()
        )
    };
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().tenants(&fixed("acme", "rel-roles", &postgres, &listed(PASSWORD)));
    let gateway = started(setup).await;
    let here = gateway.connect("rel-roles").await;
    let before = text(&gateway);
    let at = before.find(&format!("roles.{SUPERUSER}")).unwrap();
    rewrite(
        gateway.path(),
        &format!("{}{}\n", &before[..at], listed("another password")),
    );
    gateway.server.reload().await.unwrap();
    here.batch_execute("select 1").await.unwrap();
    let refused = tls_client::connect(&gateway.config("rel-roles"), &gateway.authority).await;
    assert_eq!(refused.err().unwrap().code().unwrap().code(), "28P01");
    let mut config = gateway.config("rel-roles");
    config.password("another password");
    tls_client::connect(&config, &gateway.authority).await.unwrap();
}

/// A database's name is given to the proxy in front of it, and its configuration still says that name: each client came in
/// again and again, until there was no place left.
#[tokio::test]
async fn an_address_that_has_come_to_be_its_own_is_told_and_leads_nowhere() {
    let gateway = started(Setup::new()).await;
    let own = gateway.address();
    let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    let itself = format!(
        "[tenants.acme.endpoints.rel-itself]\nroles.{SUPERUSER} = {{ verifier = \"{verifier}\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{own}\", tls = \"require\" }}\n"
    );
    rewrite(gateway.path(), &format!("{}\n{itself}", text(&gateway)));
    gateway.server.reload().await.unwrap();

    for name in ["rel-itself", "rel-itself-pooler"] {
        let refused = tls_client::connect(&gateway.config(name), &gateway.authority).await;
        let error = refused.err().unwrap();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "57P03", "{error:?}");
        let detail = error.detail().unwrap();
        assert!(detail.contains("its address leads to pgwake itself"), "{detail}");
    }
    until("the operator is told", async || {
        let lines = logs::of_endpoint("rel-itself");
        let mut told = lines.iter().map(|line| line.field("error"));
        told.any(|error| error.contains("is where pgwake itself listens"))
    })
    .await;
}
