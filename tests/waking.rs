//! Waking: one start for any number of clients, who are held until it is done or their time is over, and are told
//! the truth.

mod failing;
mod held;
mod latency;
mod leaving;
mod lost;
mod memory;
mod once;
mod recovering;
mod room;
mod strangers;
mod turns;

use tokio_postgres::Client;

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    tls_client,
    wait::until,
};

/// A gateway with one endpoint behind a closed gate; `keys` are further lines of the endpoint's table.
async fn gated(endpoint: &str, keys: &str) -> (Gateway, Gate) {
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    (setup.gated(endpoint, &gate, keys).start().await, gate)
}

/// A session as soon as there is one: a failure is remembered for seconds at most.
async fn connected_again(gateway: &Gateway, endpoint: &str) -> Client {
    let mut client = None;
    until("the compute to be woken again", async || {
        let config = gateway.config(endpoint);
        client = tls_client::connect(&config, &gateway.authority).await.ok();
        client.is_some()
    })
    .await;
    client.unwrap()
}
