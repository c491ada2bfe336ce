//! Which branches there may be, as written.

use crate::config::{duration::SuspendAfter, read::table, size::Size, value::Count};

table! {
    /// `branches = { … }`; inherited key by key.
    BranchesTable {
        /// Whether logging in makes one.
        on_connect: bool,
        /// How long those stay that nobody uses.
        ttl: SuspendAfter,
        /// Most of an endpoint.
        max: Count<0, 100_000>,
        /// Most of a tenant.
        tenant_max: Count<0, 100_000>,
        /// Most bytes of all of a tenant's.
        tenant_bytes_max: Size<0, { usize::MAX }>,
    }
}
