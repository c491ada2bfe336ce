//! Files are read again while a control plane has endpoints as well.

use std::{fs, time::SystemTime};

use serde_json::json;

use super::{asking, number, plane::Plane};
use crate::harness::{
    gateway::{Gateway, Setup, append},
    issuer::{By, Issuer},
    postgres::{PASSWORD, SUPERUSER},
    tls_client,
    wait::until,
};

async fn started(setup: Setup) -> Gateway {
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    gateway
}

#[tokio::test]
async fn a_file_takes_a_name_over_and_gives_it_back() {
    const ENDPOINT: &str = "cp-taken";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({ "pool": { "mode": "transaction" } }));
    let local = setup.make_data_dir("cp-taken-local");
    let gateway = started(setup).await;
    let mut parked = gateway.raw_served(ENDPOINT).await;
    let file = gateway.path().join("pgwake.toml");
    let before = fs::read_to_string(&file).unwrap();
    let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    append(
        &file,
        &format!(
            "[tenants.shop.endpoints.{ENDPOINT}]\n\
             roles.{SUPERUSER} = {{ verifier = \"{verifier}\", server_password = \"{PASSWORD}\" }}\n\
             compute = {{ kind = \"process\", data_dir = \"{}\" }}\n",
            local.display()
        ),
    );

    let changes = gateway.server.reload().await.unwrap();

    assert!(changes.needs_restart.is_empty(), "{changes}");
    assert_eq!(changes.added.len(), 1, "{changes}");
    let ended = parked.until(b'E').await;
    assert_eq!(ended.last().unwrap().fields()[&'C'], "57P01");
    let client = gateway.connect_again(ENDPOINT).await;
    let sql = "select count(*) from pg_settings where name = 'listen_addresses' and setting = ''";
    assert_eq!(number(&client, sql).await, 1, "it is pgwake's own");
    assert_eq!(plane.generation(ENDPOINT), 1);

    fs::write(&file, before).unwrap();
    let changes = gateway.server.reload().await.unwrap();

    assert_eq!(changes.removed.len(), 1, "{changes}");
    let client = gateway.connect_again(ENDPOINT).await;
    assert_eq!(number(&client, sql).await, 0, "it is the control plane's");
}

#[tokio::test]
async fn other_defaults_hold_with_the_next_login_though_the_answer_is_the_same() {
    const ENDPOINT: &str = "cp-defaults";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"");
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = started(setup).await;
    let here = gateway.connect(ENDPOINT).await;
    let name = pgwake::ids::EndpointName::parse(ENDPOINT).unwrap();
    append(
        &gateway.path().join("pgwake.toml"),
        "[tenants.acme]\nhold_timeout = \"17s\"\n",
    );

    gateway.server.reload().await.unwrap();

    until("it to hold", async || {
        drop(gateway.connect(ENDPOINT).await);
        let endpoint = gateway.server.house().directory.endpoint(&name).unwrap();
        endpoint.hold_timeout.as_secs() == 17
    })
    .await;
    assert_eq!(number(&here, "select 1::bigint").await, 1);
    assert_eq!(plane.generation(ENDPOINT), 1);
}

/// No endpoint of a file has them: they are known as soon as one of the control plane's has.
#[tokio::test]
async fn tokens_of_a_tenant_that_only_the_control_plane_has_are_let_in_also_by_other_keys() {
    const ENDPOINT: &str = "cp-tokens";
    let plane = Plane::start().await;
    let setup = asking(&plane, "fresh_for = \"1h\"").tenants(
        "[tenants.acme]\nlogin = \"token\"\n\
         tokens = { keys = { file = \"keys.json\" }, issuer = \"https://id.example\", audiences = [\"db\"], \
             tenant_claim = \"tenant\" }\n",
    );
    let issuer = Issuer::new();
    for file in ["keys.json", "other.json"] {
        fs::write(setup.path().join(file), issuer.key_set().to_string()).unwrap();
    }
    plane.own(&setup, ENDPOINT, json!({}));
    let gateway = started(setup).await;
    let mut config = gateway.config(ENDPOINT);
    let end = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    let claims =
        json!({ "iss": "https://id.example", "aud": "db", "sub": SUPERUSER, "exp": end, "tenant": "acme" });
    config.password(issuer.token(By::P256, &claims));
    tls_client::connect(&config, &gateway.authority).await.unwrap();

    let file = gateway.path().join("pgwake.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("keys.json", "other.json")).unwrap();
    gateway.server.reload().await.unwrap();

    tls_client::connect(&config, &gateway.authority).await.unwrap();
}
