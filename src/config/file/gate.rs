//! Who may try to come in, and from where, as written.

use std::time::Duration;

use crate::config::{
    Network, Rate,
    read::{List, table},
    value::Count,
};

table! {
    /// `[gate]`
    GateTable {
        /// Most connections that have not logged in.
        unproved_max: Count<1, 1_000_000>,
        /// Most of them from one network.
        unproved_per_network_max: Count<1, 1_000_000>,
        /// Attempts of a network.
        attempts: Rate,
        /// Attempts of a network at an endpoint.
        attempts_per_endpoint: Rate,
        /// Failures that are forgiven.
        failures_max: Count<1, 1_000_000>,
        /// The first lock-out.
        lockout_min: Duration,
        /// The longest lock-out.
        lockout_max: Duration,
    }
}

table! {
    /// `access = { … }`; inherited key by key.
    AccessTable {
        /// Only from these networks.
        allow: List<Network>,
        /// Not from these.
        deny: List<Network>,
    }
}
