//! Another server behind the address of an endpoint's own: not believed, not used, until somebody says that it is right.

use std::fs;

use super::{log_in, refused};
use crate::harness::{
    address::Address,
    gateway::{Gateway, Setup},
    http::Http,
    logs,
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version},
    tls_client,
    wait::until,
};

const TOKEN: &str = "operate-token-for-tests";

fn setup() -> Setup {
    Setup::new().admin(&format!("operate_tokens = [\"{TOKEN}\"]"))
}

/// An endpoint at an address; `more` are further keys of its compute.
fn at(endpoint: &str, address: &Address, more: &str) -> String {
    let kind = format!("kind = \"fixed\", address = \"{}\"{more}", address.text());
    table(endpoint, (SUPERUSER, PASSWORD), &kind)
}

fn table(endpoint: &str, (role, password): (&str, &str), compute: &str) -> String {
    format!(
        "[tenants.acme.endpoints.{endpoint}]\n\
         roles_from = {{ role = \"{role}\", password = \"{password}\" }}\n\
         compute = {{ {compute} }}\n"
    )
}

/// Another cluster, with the same superuser to the salt of its password, as one that was filled from a dump; and with a
/// role of its own.
async fn another_like(own: &Postgres) -> Postgres {
    let sql = "select rolpassword from pg_authid where rolname = 'postgres'";
    let verifier: String = own.connect().await.query_one(sql, &[]).await.unwrap().get(0);
    let other = Prepared::of_another(Version::Debian).start().await;
    let sql = format!("alter role postgres password '{verifier}'; create role stranger login password 'pw'");
    other.connect().await.batch_execute(&sql).await.unwrap();
    other
}

async fn identifier(postgres: &Postgres) -> String {
    let sql = "select system_identifier::text from pg_control_system()";
    postgres.connect().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn superuser(gateway: &Gateway, endpoint: &str) -> Option<String> {
    refused(gateway, endpoint, SUPERUSER, PASSWORD).await
}

/// Waits until clients are refused. A login may come before anybody has seen that the server is gone.
async fn found_out(gateway: &Gateway, endpoint: &str) {
    until("the other server to be found out", async || {
        superuser(gateway, endpoint).await.as_deref() == Some("57P03")
    })
    .await;
}

async fn served_again(gateway: &Gateway, endpoint: &str) {
    until("clients to be served again", async || {
        superuser(gateway, endpoint).await.is_none()
    })
    .await;
}

async fn view(http: &Http, endpoint: &str) -> serde_json::Value {
    http.get(&format!("/api/v1/endpoints/{endpoint}")).await.json()
}

#[tokio::test]
async fn it_is_neither_believed_nor_used_also_after_a_restart_and_others_notice_nothing() {
    const ENDPOINT: &str = "oth-fixed";
    let own = Postgres::start(Version::Debian).await;
    let other = another_like(&own).await;
    let (expected, found) = (identifier(&own).await, identifier(&other).await);
    let address = Address::of(own.port()).await;
    let setup = setup().tenants(&at(ENDPOINT, &address, ""));
    let gateway = setup.fixed("oth-beside", &own, "").start().await;
    let http = gateway.http(TOKEN);
    let mut events = http.events().await;
    let client = gateway.connect(ENDPOINT).await;
    let beside = gateway.connect("oth-beside").await;

    address.give_to(other.port());
    until("the connection to break", async || client.is_closed()).await;
    found_out(&gateway, ENDPOINT).await;

    let told = events
        .until("other-server", |told| told["endpoint"] == ENDPOINT)
        .await;
    assert_eq!(
        (&told["expected"], &told["found"]),
        (&expected.clone().into(), &found.clone().into())
    );
    let view = view(&http, ENDPOINT).await;
    assert_eq!(
        (&view["system_identifier"], &view["other_server"]),
        (&expected.clone().into(), &found.clone().into())
    );
    let lines = logs::of_endpoint(ENDPOINT);
    let line = lines
        .iter()
        .find(|line| line.field("message").starts_with("another server answers"));
    let line = line.expect("it is told to the operator");
    assert_eq!(
        (line.field("expected"), line.field("found")),
        (&*expected, &*found)
    );
    let stranger = refused(&gateway, ENDPOINT, "stranger", "pw").await;
    assert_eq!(
        stranger.as_deref(),
        Some("28P01"),
        "the other one's roles are believed"
    );
    let error = log_in(&gateway, ENDPOINT, SUPERUSER, PASSWORD).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("the server of endpoint \"{ENDPOINT}\" is not the one that it was")
    );
    beside.batch_execute("select 1").await.unwrap();
    log_in(&gateway, "oth-beside", SUPERUSER, PASSWORD).await.unwrap();

    let gateway = gateway.restart().await;
    assert_eq!(superuser(&gateway, ENDPOINT).await.as_deref(), Some("57P03"));
    address.give_to(own.port());
    served_again(&gateway, ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_server_with_another_salt_gets_no_proof_until_an_operator_has_said_so() {
    const ENDPOINT: &str = "oth-salt";
    let own = Postgres::start(Version::Debian).await;
    let other = Prepared::of_another(Version::Debian).setting("log_connections", "on");
    let other = other.start().await;
    let address = Address::of(own.port()).await;
    let gateway = setup().tenants(&at(ENDPOINT, &address, "")).start().await;
    let client = gateway.connect(ENDPOINT).await;

    address.give_to(other.port());
    until("the connection to break", async || client.is_closed()).await;
    let reason = "asks for a proof against another verifier";
    let is_told = || {
        let lines = logs::of_endpoint(ENDPOINT);
        lines.iter().any(|line| {
            line.field("message").starts_with("roles cannot be read") && line.field("reason").contains(reason)
        })
    };
    until("the reading to be given up", async || {
        let refused = superuser(&gateway, ENDPOINT).await;
        assert_ne!(refused, None, "it was let in");
        is_told()
    })
    .await;
    let log = other.log();
    assert!(
        log.contains("connection received")
            && !log.contains("authorized: user=postgres application_name=pgwake"),
        "{log}"
    );

    let order = format!("/api/v1/endpoints/{ENDPOINT}/forget-server");
    let done = gateway.http(TOKEN).post(&order).await;
    assert_eq!(done.json()["kept"], true);
    served_again(&gateway, ENDPOINT).await;
    assert_eq!(
        view(&gateway.http(TOKEN), ENDPOINT).await["system_identifier"],
        identifier(&other).await
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_number_that_is_written_holds_at_once_and_ends_who_is_elsewhere() {
    const ENDPOINT: &str = "oth-number";
    let own = Postgres::start(Version::Debian).await;
    let address = Address::of(own.port()).await;
    let number = |number: &str| at(ENDPOINT, &address, &format!(", system_identifier = {number}"));
    let setup = setup().tenants(&number("\"any\""));
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let text = fs::read_to_string(&file).unwrap();
    let written = async |value: &str| {
        let text = text.replace(&number("\"any\""), &number(value));
        fs::write(&file, text).unwrap();
        let changes = gateway.server.reloader().reload().await.unwrap();
        assert!(changes.needs_restart.is_empty(), "{changes}");
    };
    let client = gateway.connect(ENDPOINT).await;
    let pooled = gateway.connect(&format!("{ENDPOINT}-pooler")).await;
    pooled.batch_execute("select 1").await.unwrap();

    written("42").await;
    found_out(&gateway, ENDPOINT).await;
    until("the session to end", async || client.is_closed()).await;
    let error = pooled.batch_execute("select 1").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57P03", "{error}");

    written(&identifier(&own).await).await;
    served_again(&gateway, ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn whoever_answers_is_served_where_that_is_configured() {
    const ENDPOINT: &str = "oth-any";
    let own = Postgres::start(Version::Debian).await;
    let other = another_like(&own).await;
    let address = Address::of(own.port()).await;
    let any = at(ENDPOINT, &address, ", system_identifier = \"any\"");
    let gateway = setup().tenants(&any).start().await;

    address.give_to(other.port());
    until("the other one's roles to be read", async || {
        refused(&gateway, ENDPOINT, "stranger", "pw").await.is_none()
    })
    .await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_compute_that_has_moved_is_found_where_its_command_says_while_another_has_its_address() {
    const ENDPOINT: &str = "oth-moved";
    let own = Postgres::start(Version::Debian).await;
    let other = another_like(&own).await;
    let [before, after] = [Address::of(own.port()).await, Address::of(own.port()).await];
    let setup = setup();
    let file = setup.path().join("address");
    fs::write(&file, before.text()).unwrap();
    let cat = format!("[\"cat\", \"{}\"]", file.display());
    let compute = format!("kind = \"command\", start = {cat}, status = {cat}, status_every = \"never\"");
    let gateway = setup
        .tenants(&table(ENDPOINT, (SUPERUSER, PASSWORD), &compute))
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;

    before.give_to(other.port());
    until("the connection to break", async || client.is_closed()).await;
    found_out(&gateway, ENDPOINT).await;
    fs::write(&file, after.text()).unwrap();
    served_again(&gateway, ENDPOINT).await;
    assert_eq!(
        view(&gateway.http(TOKEN), ENDPOINT).await["other_server"],
        serde_json::Value::Null
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_tell_which_one_it_is_is_served_and_that_is_said() {
    const ENDPOINT: &str = "oth-silent";
    let own = Postgres::start(Version::Debian).await;
    let sql = "create role reader login password 'pw'; grant select on pg_authid to reader;
        revoke execute on function pg_control_system() from public";
    own.connect().await.batch_execute(sql).await.unwrap();
    let address = Address::of(own.port()).await;
    let compute = format!("kind = \"fixed\", address = \"{}\"", address.text());
    let gateway = setup()
        .tenants(&table(ENDPOINT, ("reader", "pw"), &compute))
        .start()
        .await;

    let client = tls_client::connect(&gateway.config(ENDPOINT), &gateway.authority)
        .await
        .unwrap();
    client
        .batch_execute("create role later login password 'pw'")
        .await
        .unwrap();
    log_in(&gateway, ENDPOINT, "later", "pw").await.unwrap();
    assert_eq!(
        view(&gateway.http(TOKEN), ENDPOINT).await["system_identifier"],
        serde_json::Value::Null
    );
    let said = |message: &str| message.starts_with("the server does not tell which one it is");
    let lines = logs::of_endpoint(ENDPOINT);
    assert_eq!(lines.iter().filter(|line| said(line.field("message"))).count(), 1);
    gateway.server.stop().await;
}
