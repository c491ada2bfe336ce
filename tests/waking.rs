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

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
};

/// A gateway with one endpoint behind a closed gate; `keys` are further lines of the endpoint's table.
async fn gated(endpoint: &str, keys: &str) -> (Gateway, Gate) {
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    gate.close();
    (setup.gated(endpoint, &gate, keys).start().await, gate)
}
