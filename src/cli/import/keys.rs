//! What becomes of each key of `[pgbouncer]`: it carries over, or it is told what to do instead. No key is passed over.

use std::time::Duration;

use crate::config::DurationText;

/// Where a key goes in pgwake's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Limits,
    Pool,
    PerEndpoint,
    PerRole,
}

/// What a value is, with the least and the most that pgwake takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Count(u64, u64),
    /// In seconds, with a fraction at times; the least in milliseconds.
    Seconds(u64, u64),
    Milliseconds(u64, u64),
    Mode,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It has a place.
    Carried(Table, &'static str, Kind),
    /// It is looked at together with others.
    Together,
    /// Nothing corresponds, and this is to be done.
    Told(&'static str),
    /// PgBouncer may know it; this does not.
    Unknown,
}

const YEAR: u64 = 366 * 86_400;
const MANY: u64 = 1_000_000;

/// The fate of a key of `[pgbouncer]`.
pub(super) fn fate(key: &str) -> Fate {
    use Fate::{Carried, Together, Told};
    use Kind::{Count, Milliseconds, Mode, Seconds};
    match key {
        "max_client_conn" => Carried(Table::Limits, "clients_max", Count(1, MANY)),
        "client_login_timeout" => Carried(Table::Limits, "login_timeout", Seconds(1, YEAR)),
        "server_connect_timeout" => Carried(Table::Limits, "connect_timeout", Seconds(1, YEAR)),
        "tcp_keepidle" => Carried(Table::Limits, "tcp_keepalive", Seconds(1000, 9 * 3600)),
        "tcp_user_timeout" => Carried(
            Table::Limits,
            "tcp_user_timeout",
            Milliseconds(1, 24 * 86_400_000),
        ),
        "pool_mode" => Carried(Table::Pool, "mode", Mode),
        "default_pool_size" => Carried(Table::Pool, "size", Count(1, 10_000)),
        "query_wait_timeout" => Carried(Table::Pool, "wait_timeout", Seconds(1, YEAR)),
        "server_lifetime" => Carried(Table::Pool, "lifetime", Seconds(1, YEAR)),
        "server_idle_timeout" => Carried(Table::Pool, "idle_time", Seconds(1, YEAR)),
        "max_prepared_statements" => Carried(Table::Pool, "statements_max", Count(1, 100_000)),
        "max_db_connections" => Carried(Table::PerEndpoint, "server_sessions_max", Count(1, MANY)),
        "max_db_client_connections" => Carried(Table::PerEndpoint, "clients_max", Count(1, MANY)),
        "max_user_connections" => Carried(Table::PerRole, "server_sessions_max", Count(1, MANY)),
        "max_user_client_connections" => Carried(Table::PerRole, "clients_max", Count(1, MANY)),
        "client_idle_timeout" => Carried(Table::PerRole, "idle_time", Seconds(1, YEAR)),
        "idle_transaction_timeout" => Carried(Table::PerRole, "idle_in_transaction_time", Seconds(1, YEAR)),
        "listen_addr"
        | "listen_port"
        | "unix_socket_dir"
        | "client_tls_sslmode"
        | "client_tls_cert_file"
        | "client_tls_key_file"
        | "server_tls_sslmode"
        | "server_tls_ca_file"
        | "auth_type"
        | "auth_file"
        | "admin_users"
        | "stats_users" => Together,
        other => told(other).map_or(Fate::Unknown, Told),
    }
}

/// Keys without a counterpart, and what to do for them.
const TOLD: &[(&[&str], &str)] = &[
    (
        &["auth_query", "auth_user", "auth_dbname"],
        "pgwake reads roles itself: roles_from = { role = \"…\", password = { file = \"…\" }, database = \"…\" } \
             for each endpoint; that role needs SELECT on pg_authid; or list each role with its verifier",
    ),
    (
        &["auth_hba_file"],
        "access.allow and access.deny of an endpoint say from where it may be reached",
    ),
    (
        &["auth_ident_file", "auth_pam_confdir", "auth_ldap_options"],
        "pgwake proves clients by SCRAM, passwords, tokens and certificates; see `login`",
    ),
    (
        &["client_tls_ca_file"],
        "client_certificates = { ca = \"…\" } asks clients of an endpoint for a certificate, and login = \
             \"certificate\" lets them in with it alone",
    ),
    (
        &["server_tls_cert_file", "server_tls_key_file"],
        "pgwake shows servers no certificate: let it in by password",
    ),
    (
        &[
            "client_tls_protocols",
            "client_tls_ciphers",
            "client_tls13_ciphers",
            "client_tls_dheparams",
            "client_tls_ecdhcurve",
            "server_tls_protocols",
            "server_tls_ciphers",
            "server_tls13_ciphers",
        ],
        "nothing to do: pgwake speaks TLS 1.2 and 1.3 with good ciphers alone",
    ),
    (
        &["server_reset_query", "server_reset_query_always"],
        "nothing to do: pgwake asks Postgres what a client has changed, and takes exactly that back",
    ),
    (
        &["ignore_startup_parameters"],
        "nothing to do: startup parameters go to Postgres, and belong to their client",
    ),
    (
        &["track_extra_parameters"],
        "nothing to do: every setting stays with its client",
    ),
    (
        &["server_check_query", "server_check_delay"],
        "nothing to do: a lost session is noticed",
    ),
    (
        &["server_login_retry"],
        "nothing to do: a failed login is tried anew for the next client",
    ),
    (
        &["server_fast_close"],
        "RECONNECT on the console has sessions replaced as they come back",
    ),
    (
        &["server_round_robin"],
        "nothing corresponds: a client gets its own last session, else the one that rested last",
    ),
    (
        &["min_pool_size"],
        "nothing corresponds: pgwake opens sessions when they are needed; the least is 0",
    ),
    (
        &["reserve_pool_size", "reserve_pool_timeout", "reserve_pool"],
        "nothing corresponds: add the reserve to pool.size",
    ),
    (
        &["query_timeout"],
        "set statement_timeout in Postgres: ALTER ROLE … SET statement_timeout = …",
    ),
    (
        &["transaction_timeout"],
        "set transaction_timeout in Postgres 17 or later",
    ),
    (
        &["cancel_wait_timeout"],
        "nothing to do: cancel requests do not queue",
    ),
    (
        &["query_wait_notify", "login_notify_message"],
        "nothing to do: clients that are held read a NOTICE after 2 s",
    ),
    (
        &["suspend_timeout"],
        "drain_timeout under [limits] says how long transactions may go on at an end",
    ),
    (
        &["autodb_idle_timeout", "pool_idle_timeout"],
        "nothing to do: endpoints are listed, and sessions end after pool.idle_time",
    ),
    (
        &["disable_pqexec"],
        "nothing corresponds: several statements in one message pass",
    ),
    (
        &["application_name_add_host"],
        "nothing corresponds: access lines have the client's address beside its application_name",
    ),
    (&["scram_iterations"], "pgwake hash-password --iterations N"),
    (
        &[
            "logfile",
            "syslog",
            "syslog_facility",
            "syslog_ident",
            "verbose",
            "log_connections",
            "log_disconnections",
            "log_pooler_errors",
        ],
        "pgwake logs to standard error, a line for each session (-v for more, --log-format json)",
    ),
    (
        &["log_stats", "stats_period"],
        "metrics are at /metrics of [listen] admin, and in SHOW STATS",
    ),
    (
        &[
            "pidfile",
            "user",
            "conffile",
            "job_name",
            "service_name",
            "daemon",
        ],
        "a service manager's work: pgwake stays in the foreground and forks nothing",
    ),
    (
        &["unix_socket_mode", "unix_socket_group"],
        "nothing corresponds: put the socket into a folder that only they may enter",
    ),
    (
        &["so_reuseport", "peer_id"],
        "nothing to do: one pgwake uses all cores, and passes cancel requests on itself",
    ),
    (
        &[
            "listen_backlog",
            "tcp_defer_accept",
            "tcp_socket_buffer",
            "pkt_buf",
            "sbuf_loopcnt",
            "max_packet_size",
        ],
        "nothing to do: rows of any size pass in constant memory",
    ),
    (
        &["tcp_keepalive", "tcp_keepcnt", "tcp_keepintvl"],
        "limits.tcp_keepalive and limits.tcp_user_timeout say when a silent peer counts as gone",
    ),
    (
        &[
            "dns_max_ttl",
            "dns_nxdomain_ttl",
            "dns_zone_check_period",
            "resolv_conf",
        ],
        "the system's resolver is asked for each new connection to a server",
    ),
];

fn told(key: &str) -> Option<&'static str> {
    let row = TOLD.iter().find(|(keys, _)| keys.contains(&key));
    row.map(|(_, advice)| *advice)
}

/// A value as TOML has it; `Err`: what to do instead.
pub(super) fn carried(kind: Kind, value: &str) -> Result<String, String> {
    let (number, least, most) = match kind {
        Kind::Mode => {
            return match value.to_ascii_lowercase().as_str() {
                mode @ ("session" | "transaction") => Ok(format!("{mode:?}")),
                "statement" => Err(
                    "write mode = \"transaction\": pgwake lets transactions of several statements pass"
                        .to_owned(),
                ),
                _ => Err("PgBouncer has no such mode".to_owned()),
            };
        }
        Kind::Count(least, most) => (value.parse::<u64>().ok(), least, most),
        // Their fractions count: 0.5 is half a second.
        Kind::Seconds(least, most) => {
            let seconds = value
                .parse::<f64>()
                .ok()
                .filter(|seconds| (0.0..1e9).contains(seconds));
            // Not negative and small enough, so the cast keeps it.
            (
                seconds.map(|seconds| (seconds * 1000.0).round() as u64),
                least,
                most * 1000,
            )
        }
        Kind::Milliseconds(least, most) => (value.parse().ok(), least, most),
    };
    match (number, kind) {
        (Some(0), _) => {
            Err("0 is \"no limit\" or \"off\" there: leave the key out, or write a large value".to_owned())
        }
        (Some(number), _) if !(least..=most).contains(&number) => {
            Err("pgwake takes no such value for it: see config/reference.toml".to_owned())
        }
        (Some(number), Kind::Count(..)) => Ok(number.to_string()),
        (Some(number), _) => Ok(format!("\"{}\"", DurationText(Duration::from_millis(number)))),
        (None, _) => Err("this is no number".to_owned()),
    }
}
