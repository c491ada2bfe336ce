//! The tables of the console: PgBouncer's columns under its names, and pgwake's own.
//!
//! Columns and tables that PgBouncer has got since 1.18 stand behind those of that version, which programs find by their
//! places, too. What pgwake calls an endpoint is a `database` here. What it does not know (a server session's pid, its own side of a
//! client's socket) is null, never made up; a *transaction* here is what a client does from its first statement until it is
//! idle outside of a transaction, and queries take as long as their transactions. `rows` fills them.

use pgwire::api::Type;

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Number(i64),
    Nothing,
}

impl Cell {
    pub(super) fn count(count: usize) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn total(total: u64) -> Self {
        Self::Number(i64::try_from(total).unwrap_or(i64::MAX))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.as_ref().to_owned())
    }
}

/// A table as it is shown.
pub(super) struct Table {
    pub(super) columns: &'static [(&'static str, Type)],
    pub(super) rows: Vec<Vec<Cell>>,
}

macro_rules! shown {
    ($($name:ident = $word:literal [$($column:literal: $kind:ident),*];)*) => {
        /// What can be shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Shown { $($name,)* }

        impl Shown {
            /// All of them.
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];

            /// The word behind SHOW.
            pub(super) fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The table of this name.
            pub(super) fn named(word: &str) -> Option<Self> {
                let fits = |shown: &&Self| shown.word().eq_ignore_ascii_case(word);
                Self::ALL.iter().find(fits).copied()
            }

            /// Its columns.
            pub(super) fn columns(self) -> &'static [(&'static str, Type)] {
                match self { $(Self::$name => &[$(($column, Type::$kind)),*],)* }
            }
        }
    };
}

shown! {
    Help = "HELP" ["command": TEXT, "what": TEXT];
    Version = "VERSION" ["version": TEXT];
    State = "STATE" ["key": TEXT, "value": TEXT];
    Databases = "DATABASES" ["name": TEXT, "host": TEXT, "port": INT8, "database": TEXT, "force_user": TEXT, "pool_size": INT8, "min_pool_size": INT8, "reserve_pool": INT8, "pool_mode": TEXT, "max_connections": INT8, "current_connections": INT8, "paused": INT8, "disabled": INT8, "reserve_pool_size": INT8, "server_lifetime": INT8, "load_balance_hosts": TEXT, "max_client_connections": INT8, "current_client_connections": INT8];
    Pools = "POOLS" ["database": TEXT, "user": TEXT, "cl_active": INT8, "cl_waiting": INT8, "cl_active_cancel_req": INT8, "cl_waiting_cancel_req": INT8, "sv_active": INT8, "sv_active_cancel": INT8, "sv_being_canceled": INT8, "sv_idle": INT8, "sv_used": INT8, "sv_tested": INT8, "sv_login": INT8, "maxwait": INT8, "maxwait_us": INT8, "pool_mode": TEXT, "load_balance_hosts": TEXT];
    Clients = "CLIENTS" ["type": TEXT, "user": TEXT, "database": TEXT, "state": TEXT, "addr": TEXT, "port": INT8, "local_addr": TEXT, "local_port": INT8, "connect_time": TEXT, "request_time": TEXT, "wait": INT8, "wait_us": INT8, "close_needed": INT8, "ptr": TEXT, "link": TEXT, "remote_pid": INT8, "tls": TEXT, "application_name": TEXT, "replication": TEXT, "prepared_statements": INT8, "id": TEXT, "idle_ignored": TEXT];
    Servers = "SERVERS" ["type": TEXT, "user": TEXT, "database": TEXT, "state": TEXT, "addr": TEXT, "port": INT8, "local_addr": TEXT, "local_port": INT8, "connect_time": TEXT, "request_time": TEXT, "wait": INT8, "wait_us": INT8, "close_needed": INT8, "ptr": TEXT, "link": TEXT, "remote_pid": INT8, "tls": TEXT, "application_name": TEXT, "replication": TEXT, "prepared_statements": INT8, "id": TEXT];
    Users = "USERS" ["name": TEXT, "pool_mode": TEXT, "pool_size": INT8, "reserve_pool_size": INT8, "max_user_connections": INT8, "current_connections": INT8, "max_user_client_connections": INT8, "current_client_connections": INT8];
    Lists = "LISTS" ["list": TEXT, "items": INT8];
    Totals = "TOTALS" ["name": TEXT, "value": INT8];
    Stats = "STATS" ["database": TEXT, "total_xact_count": INT8, "total_query_count": INT8, "total_received": INT8, "total_sent": INT8, "total_xact_time": INT8, "total_query_time": INT8, "total_wait_time": INT8, "avg_xact_count": INT8, "avg_query_count": INT8, "avg_recv": INT8, "avg_sent": INT8, "avg_xact_time": INT8, "avg_query_time": INT8, "avg_wait_time": INT8, "total_requests": INT8, "total_server_assignment_count": INT8, "avg_server_assignment_count": INT8];
    StatsTotals = "STATS_TOTALS" ["database": TEXT, "xact_count": INT8, "query_count": INT8, "bytes_received": INT8, "bytes_sent": INT8, "xact_time": INT8, "query_time": INT8, "wait_time": INT8, "server_assignment_count": INT8];
    StatsAverages = "STATS_AVERAGES" ["database": TEXT, "xact_count": INT8, "query_count": INT8, "bytes_received": INT8, "bytes_sent": INT8, "xact_time": INT8, "query_time": INT8, "wait_time": INT8, "server_assignment_count": INT8];
    Peers = "PEERS" ["peer_id": INT8, "host": TEXT, "port": INT8, "pool_size": INT8];
    PeerPools = "PEER_POOLS" ["database": TEXT, "cl_active_cancel_req": INT8, "cl_waiting_cancel_req": INT8, "sv_active_cancel": INT8, "sv_login": INT8];
    Config = "CONFIG" ["key": TEXT, "value": TEXT, "default": TEXT, "changeable": TEXT];
    Mem = "MEM" ["name": TEXT, "size": INT8, "used": INT8, "free": INT8, "memtotal": INT8];
    Endpoints = "ENDPOINTS" ["endpoint": TEXT, "tenant": TEXT, "state": TEXT, "for_ms": INT8, "why": TEXT, "held": INT8, "sessions": INT8, "pinned": INT8, "wakes": INT8, "disabled": INT8];
    Wakes = "WAKES" ["wake": TEXT, "endpoint": TEXT, "at": TEXT, "state": TEXT, "took_ms": INT8, "held": INT8, "phases": TEXT, "reason": TEXT];
    Waiters = "WAITERS" ["session": TEXT, "endpoint": TEXT, "user": TEXT, "addr": TEXT, "wait_ms": INT8];
    Tenants = "TENANTS" ["tenant": TEXT, "endpoints": INT8, "awake": INT8, "failed": INT8, "held": INT8, "sessions": INT8];
    Quotas = "QUOTAS" ["scope": TEXT, "tenant": TEXT, "database": TEXT, "user": TEXT, "limit": TEXT, "max": INT8, "per_ms": INT8, "used": INT8, "reserved": INT8];
}
