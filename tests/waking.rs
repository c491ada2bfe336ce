//! Waking: one start for any number of clients, who are held until it is done or their time is over, and are told
//! the truth.

mod crash_loop;
mod failing;
mod full_disk;
mod held;
mod interrupted;
mod latency;
mod leaving;
mod lost;
mod memory;
mod once;
mod recovering;
mod room;
mod storms;
mod strangers;
mod turns;

use std::collections::BTreeMap;

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    raw::Raw,
};

/// A gateway with one endpoint behind a closed gate; `keys` are further lines of the endpoint's table.
async fn gated(endpoint: &str, keys: &str) -> (Gateway, Gate) {
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    (setup.gated(endpoint, &gate, keys).start().await, gate)
}

/// How an endpoint whose compute cannot be started refuses.
async fn refusal(client: &mut Raw) -> BTreeMap<char, String> {
    let fields = client.message().await.fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"), "{fields:?}");
    client.closed().await;
    fields
}
