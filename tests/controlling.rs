//! Endpoints that a control plane owns: the reference control plane, real Postgres behind it, real clients in front.

mod coming_back;
mod counting;
mod failing;
mod flapping;
mod plane;
mod reloaded;
mod serving;
mod strangers;
mod succeeding;
mod trusted;
mod wrong;

use std::collections::BTreeMap;

use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use tokio_postgres::{Client, error::DbError};

use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::PASSWORD,
    raw::{PROTOCOL_3_0, Raw, startup},
    tls_client,
};
use plane::Plane;

/// A gateway that asks this control plane; `keys` are further lines of `[control_plane]`.
fn asking(plane: &Plane, keys: &str) -> Setup {
    Setup::new().tenants(&plane.toml(keys))
}

/// How a login with this password ends that does not succeed.
async fn refused_with(gateway: &Gateway, endpoint: &str, password: &str) -> DbError {
    let mut config = gateway.config(endpoint);
    config.password(password);
    let refused = tls_client::connect(&config, &gateway.authority).await;
    let error = refused.expect_err("nobody comes in");
    error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// The same with the right one.
async fn refused(gateway: &Gateway, endpoint: &str) -> DbError {
    refused_with(gateway, endpoint, PASSWORD).await
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// What a stranger sees of a login with a wrong password: the types of all messages, and what the error says.
async fn login_of_a_stranger(gateway: &Gateway, endpoint: &str) -> (Vec<u8>, BTreeMap<char, String>) {
    let mut client: Raw = gateway.raw_to(endpoint).await;
    let parameters = [("user", "stranger"), ("database", "postgres")];
    client.send(&startup(PROTOCOL_3_0, &parameters)).await;
    let mut scram = ScramSha256::new(b"wrong", ChannelBinding::unsupported());
    let first = client.message().await;
    first.authentication(10);
    client
        .send_with(|bytes| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes).unwrap())
        .await;
    let challenge = client.message().await;
    scram.update(challenge.authentication(11)).unwrap();
    client
        .send_with(|bytes| frontend::sasl_response(scram.message(), bytes).unwrap())
        .await;
    let last = client.message().await;
    let mut fields = last.fields();
    // Each has a number of its own.
    fields.retain(|key, _| "SCM".contains(*key));
    (vec![first.tag, challenge.tag, last.tag], fields)
}
