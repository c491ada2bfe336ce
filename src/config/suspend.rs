//! What speaks against a suspend beside the clock, as checked.

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
