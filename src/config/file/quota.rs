//! How much clients may have, as written.
//!
//! `[limits]` has the keys of [`QuotaTable`] for the whole process; with defaults, tenants and endpoints they stand
//! under the scope that they are for.

use std::time::Duration;

use crate::config::{
    Rate,
    quota::{ByteRate, Limited},
    read::{List, table},
    value::Count,
};

table! {
    /// The limits of one scope.
    QuotaTable {
        /// Most clients at once.
        clients_max: Limited<Count<1, 1_000_000>>,
        /// How many of them only operator roles may be.
        operator_reserve: Count<0, 1_000_000>,
        /// Most server sessions at once.
        server_sessions_max: Limited<Count<1, 1_000_000>>,
        /// Most computes awake at once.
        computes_awake_max: Limited<Count<1, 1_000_000>>,
        /// Most clients held at once.
        held_clients_max: Limited<Count<1, 1_000_000>>,
        /// Logins that succeed.
        connects: Limited<Rate>,
        /// Wakes.
        wakes: Limited<Rate>,
        /// Transactions.
        transactions: Limited<Rate>,
        /// Bytes from clients.
        bytes_in: Limited<ByteRate>,
        /// Bytes to clients.
        bytes_out: Limited<ByteRate>,
        /// How long a session may last.
        session_age: Limited<Duration>,
        /// How long it may do nothing.
        idle_time: Limited<Duration>,
        /// How long it may do nothing within a transaction.
        idle_in_transaction_time: Limited<Duration>,
    }
}

table! {
    /// `limits = { … }`; inherited key by key.
    ScopedLimits {
        /// All of a tenant's endpoints together.
        per_tenant: QuotaTable,
        /// Each endpoint.
        per_endpoint: QuotaTable,
        /// Each role of an endpoint.
        per_role: QuotaTable,
        /// Roles for which places are reserved.
        operator_roles: List<String>,
    }
}
