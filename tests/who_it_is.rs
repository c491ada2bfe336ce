//! Who it is: proved before anything is woken, told to nobody who does not know, passed on to the server.

mod access_lines;
mod audit;
mod client_certificates;
mod hostile_servers;
mod learning;
mod libpq_certificates;
mod one_conversation;
mod other_server;
mod passwords;
mod roles;
mod scram;
mod server_login;
mod timing;
mod token_keys;
mod tokens;
mod wakes_nothing;

use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::frontend,
};
use tokio_postgres::error::DbError;

use crate::harness::{
    gateway::Gateway,
    raw::{self, Message, Raw},
    tls_client,
};

/// The text that configuration and Postgres keep of a password.
fn verifier(password: &str) -> String {
    let password = pgwake::ids::Secret::new(password);
    pgwake::auth::verifier_for(&password, 4096).to_text()
}

/// A startup packet of this role for the database `postgres`.
fn startup(role: &str) -> Vec<u8> {
    raw::startup(raw::PROTOCOL_3_0, &[("user", role), ("database", "postgres")])
}

/// Logs in, asks something, leaves.
async fn log_in(gateway: &Gateway, endpoint: &str, role: &str, password: &str) -> Result<(), DbError> {
    let mut config = gateway.config(endpoint);
    config.user(role).password(password);
    match tls_client::connect(&config, &gateway.authority).await {
        Ok(client) => {
            client.batch_execute("select 1").await.unwrap();
            Ok(())
        }
        Err(error) => Err(error.as_db_error().unwrap_or_else(|| panic!("{error}")).clone()),
    }
}

/// The SQLSTATE that a login ends with; `None` where it does not end.
async fn refused(gateway: &Gateway, endpoint: &str, role: &str, password: &str) -> Option<String> {
    let error = log_in(gateway, endpoint, role, password).await.err()?;
    Some(error.code().code().to_owned())
}

/// All that a client hears from its startup packet to its refusal, going through SCRAM with this password.
pub(crate) async fn conversation(mut client: Raw, role: &str, password: &str) -> Vec<Message> {
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    client.send(&startup(role)).await;
    let mut heard = vec![client.message().await];
    client
        .send_with(|bytes| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes).unwrap())
        .await;
    heard.push(client.message().await);
    scram.update(heard[1].authentication(11)).unwrap();
    client
        .send_with(|bytes| frontend::sasl_response(scram.message(), bytes).unwrap())
        .await;
    heard.push(client.message().await);
    client.closed().await;
    heard
}
