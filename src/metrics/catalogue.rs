//! Every metric: its name, its labels, what it says. The table in config/README.md has the same; a test compares.

/// What a metric is to whoever collects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// As collectors know it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels; [`WHOSE`] stands for those that are there where the configuration asks for them.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// `tenant`, or `tenant` and `endpoint`, where `admin.metrics_per` asks for them.
pub const WHOSE: &str = "*";

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal [$($label:expr),*] $help:literal;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        /// All of them.
        pub const CATALOGUE: &[Described] = &[$(Described {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        }),*];
    };
}

catalogue! {
    BUILD_INFO = Gauge "pgwake_build_info" ["version"] "1; the label says which pgwake this is";
    CLIENTS = Gauge "pgwake_clients" [] "clients that are connected, logged in or not";
    SESSIONS = Gauge "pgwake_sessions" ["pooling", WHOSE] "clients that are logged in";
    SESSIONS_TOTAL = Counter "pgwake_sessions_total" ["pooling", WHOSE] "clients that have logged in";
    PARKED = Gauge "pgwake_parked_clients" [WHOSE] "clients between transactions: they hold no server session";
    PINNED = Gauge "pgwake_pinned_clients" ["reason", WHOSE] "clients that keep a server session, by what they did; one client may have several reasons";
    REFUSALS = Counter "pgwake_refusals_total" ["reason", "sqlstate", WHOSE] "clients that were refused, or ended by an error";
    TURNED_AWAY = Counter "pgwake_turned_away_total" ["reason"] "connections closed before a word of theirs was answered: gate (too many that have not logged in), or proxy_header (none of those that a load balancer has to send)";
    CONNECT_PHASE = Histogram "pgwake_connect_phase_seconds" ["phase", "cold"] "how long clients took to come in: tls, auth, hold, connect, and the total; cold where the compute slept";
    HOLD = Histogram "pgwake_hold_seconds" ["result"] "how long clients were held while their compute woke";
    HELD = Gauge "pgwake_held_clients" [WHOSE] "clients that are held now";
    WAKES = Counter "pgwake_wakes_total" ["result", WHOSE] "wakes that have ended: ready, failed, or given up";
    WAKE = Histogram "pgwake_wake_seconds" ["result"] "how long wakes took";
    COALESCED = Counter "pgwake_coalesced_wakes_total" [WHOSE] "clients that joined a wake which was under way";
    SUSPENDS = Counter "pgwake_suspends_total" [WHOSE] "computes that were suspended";
    NOT_SUSPENDED = Counter "pgwake_failed_suspends_total" [WHOSE] "computes that were to be suspended, and could not be stopped: they may run on";
    VETOES = Counter "pgwake_suspend_vetoes_total" ["reason", WHOSE] "suspends that did not come because of what Postgres said: clients, maintenance, prepared_transactions, slots; or unanswered";
    AWAKE = Counter "pgwake_awake_seconds_total" [WHOSE] "how long computes have been awake";
    ENDPOINTS = Gauge "pgwake_endpoints" ["state"] "endpoints by the state of their compute";
    TURNS = Counter "pgwake_turns_total" ["session", WHOSE] "server sessions lent to clients: their own kept one, one that rested, one kept for another, a new one";
    POOL_SESSIONS = Gauge "pgwake_pool_sessions" ["state", WHOSE] "server sessions of transaction pooling";
    POOL_SIZE = Gauge "pgwake_pool_size" [WHOSE] "most server sessions there may be";
    POOL_WAITING = Gauge "pgwake_pool_waiting_clients" [WHOSE] "clients that wait for a server session";
    POOL_WAITS = Counter "pgwake_pool_waits_total" [WHOSE] "clients that got a server session after a wait";
    POOL_WAIT_SECONDS = Counter "pgwake_pool_wait_seconds_total" [WHOSE] "how long they waited, together";
    POOL_CLOSED = Counter "pgwake_pool_closed_total" ["reason", WHOSE] "server sessions that were closed";
    BYTES = Counter "pgwake_bytes_total" ["direction", WHOSE] "bytes of clients that are logged in: in from them, out to them";
    QUERIES = Counter "pgwake_queries_total" [WHOSE] "what clients asked: each Query, Execute and FunctionCall";
    CANCELS = Counter "pgwake_cancels_total" ["result"] "cancel requests: hit, missed, or limited";
    ASKED = Histogram "pgwake_control_plane_seconds" ["question", "result"] "questions to the control plane and how long they took: endpoint, wake, suspend, state, events; answered, refused (another status than the question allows), wrong (nobody can read it), or failed";
    TLS = Counter "pgwake_tls_handshakes_total" ["kind"] "clients by how they came: sslrequest, direct, failed, or plaintext";
    AUDIT_DROPPED = Counter "pgwake_audit_lines_dropped_total" [] "audit lines that were left out";
    CERTIFICATE = Gauge "pgwake_certificate_expiry_timestamp_seconds" ["certificate"] "when a certificate ends (Unix time)";
    CPU = Counter "process_cpu_seconds_total" [] "processor time";
    MEMORY = Gauge "process_resident_memory_bytes" [] "memory";
    FILES = Gauge "process_open_fds" [] "open files";
    FILES_MAX = Gauge "process_max_fds" [] "how many there may be";
    THREADS = Gauge "process_threads" [] "threads";
    STARTED = Gauge "process_start_time_seconds" [] "when pgwake was started (Unix time)";
}
