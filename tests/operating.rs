//! What operators see and order, through the real port, with real computes behind it.

mod access;
mod console;
mod documented;
mod events;
mod limits;
mod looking;
mod metrics;
mod ordering;
mod pgbouncer;
mod probes;

use serde_json::Value;

use crate::harness::{gateway::Setup, http::Http, postgres::PASSWORD};

/// Good for looking.
const READ: &str = "read-token-for-tests";
/// Good for everything.
const OPERATE: &str = "operate-token-for-tests";

/// The port of operators, with a token of each kind.
fn admin() -> Setup {
    Setup::new().admin(&format!(
        "read_tokens = [\"{READ}\"]\noperate_tokens = [\"{OPERATE}\"]"
    ))
}

/// What an endpoint's own view says.
async fn endpoint(http: &Http, name: &str) -> Value {
    http.get(&format!("/api/v1/endpoints/{name}")).await.json()
}

/// The items of a list.
async fn items(http: &Http, path: &str) -> Vec<Value> {
    let page = http.get(path).await.json();
    page["items"].as_array().unwrap().clone()
}

/// What a configuration knows of the superuser's password.
fn verifier() -> String {
    postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes())
}
