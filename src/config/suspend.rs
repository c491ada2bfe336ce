//! What speaks against a suspend beside the clock, and whose traffic does not, as checked.

use std::collections::BTreeSet;

/// What an endpoint's own Postgres is asked for just before it is suspended: where there is any of it, it stays awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SuspendVeto {
    /// Others' sessions, replication among them: those who have come beside pgwake.
    Clients,
    /// Vacuum, autovacuum, and what builds or rewrites tables and indexes.
    Maintenance,
    /// Prepared transactions.
    PreparedTransactions,
    /// Replication slots that somebody may still come for.
    Slots,
}

impl SuspendVeto {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::Clients,
        Self::Maintenance,
        Self::PreparedTransactions,
        Self::Slots,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Maintenance => "maintenance",
            Self::PreparedTransactions => "prepared_transactions",
            Self::Slots => "slots",
        }
    }
}

/// Whose traffic neither keeps a compute awake nor wakes it: exporters, health checks, dashboards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdleIgnore {
    /// Roles.
    pub roles: BTreeSet<String>,
    /// What clients call themselves as they come in, to the letter.
    pub application_names: BTreeSet<String>,
}

/// By which of its names a client is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredBy {
    /// The role that it has proved to be.
    Role,
    /// The `application_name` that it came with.
    ApplicationName,
}

impl IgnoredBy {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::ApplicationName => "application_name",
        }
    }
}

impl IdleIgnore {
    /// By what a client is ignored that came with this `application_name`, if it is.
    pub fn ignores(&self, role: &str, application_name: &[u8]) -> Option<IgnoredBy> {
        let by_name =
            || str::from_utf8(application_name).is_ok_and(|name| self.application_names.contains(name));
        if self.roles.contains(role) {
            Some(IgnoredBy::Role)
        } else {
            by_name().then_some(IgnoredBy::ApplicationName)
        }
    }
}
