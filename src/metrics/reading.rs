//! What is looked at when somebody collects: plain numbers, joined where they have no series of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::{Duration, UNIX_EPOCH},
};

use ::metrics::Label;

use super::{
    CATALOGUE, Metrics, Whose, catalogue as names,
    rising::{Rising, Said},
};

/// A series.
pub(super) type Key = (&'static str, Vec<Label>);

/// How everything stands.
#[derive(Debug, Default)]
pub struct Reading {
    /// Connected clients, logged in or not.
    pub clients: usize,
    /// Every endpoint.
    pub endpoints: Vec<EndpointReading>,
    /// Certificates by their files, and when they end (Unix time).
    pub certificates: Vec<(String, i64)>,
    /// Audit lines that were left out.
    pub audit_lines_dropped: u64,
    /// The process.
    pub process: ProcessReading,
}

/// How an endpoint stands.
#[derive(Debug, Default)]
pub struct EndpointReading {
    /// Its owner.
    pub tenant: String,
    /// Its name.
    pub endpoint: String,
    /// Where its compute is.
    pub state: &'static str,
    /// Logged in, by kind of pooling.
    pub sessions: Vec<(&'static str, usize)>,
    /// Between transactions.
    pub parked: usize,
    /// By reason.
    pub pinned: Vec<(&'static str, usize)>,
    /// Held while it wakes.
    pub held: usize,
    /// Joined a wake that was under way, so far.
    pub joined: u64,
    /// Suspends that were vetoed so far, by reason.
    pub vetoes: Vec<(&'static str, u64)>,
    /// How long it has been awake in all.
    pub awake: Duration,
    /// Its server sessions.
    pub pool: PoolReading,
}

/// How an endpoint's server sessions stand.
#[derive(Debug, Default)]
pub struct PoolReading {
    /// Most.
    pub size: usize,
    /// By state.
    pub sessions: [(&'static str, usize); 4],
    /// Clients that wait.
    pub waiting: usize,
    /// Clients that have waited.
    pub waits: u64,
    /// How long.
    pub waited: Duration,
    /// Sessions lent, by where they came from.
    pub lent: [(&'static str, u64); 4],
    /// Sessions closed, by reason.
    pub closed: Vec<(&'static str, u64)>,
}

/// How the process stands.
#[derive(Debug, Default)]
pub struct ProcessReading {
    /// Processor time.
    pub cpu: Duration,
    /// Resident bytes.
    pub memory: u64,
    /// Open files.
    pub files: u64,
    /// Most open files; `None`: there is no limit.
    pub files_max: Option<u64>,
    /// Threads.
    pub threads: u64,
}

/// What is to be shown, with those that share a series added up.
struct Sheet<'a> {
    /// What counters were before.
    before: (&'a Rising<u64>, &'a Rising<Duration>),
    gauges: BTreeMap<Key, f64>,
    counters: Said<u64>,
    seconds: Said<Duration>,
    /// Whose they are; nobody's is the process'.
    endpoint: String,
}

/// What was read before.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Who is not there any more is set to nothing.
    gauges: BTreeSet<Key>,
    counters: Rising<u64>,
    seconds: Rising<Duration>,
    /// The exporter counts in whole numbers.
    seconds_shown: BTreeMap<Key, Duration>,
}

/// What an endpoint that is on its way out was last read as, until its last reading.
#[derive(Debug)]
#[must_use = "what it counts until it has left is to be told"]
pub struct Parting {
    counters: Rising<u64>,
    seconds: Rising<Duration>,
}

impl<'a> Sheet<'a> {
    fn after(counters: &'a Rising<u64>, seconds: &'a Rising<Duration>) -> Self {
        Self {
            before: (counters, seconds),
            gauges: BTreeMap::new(),
            counters: Said::default(),
            seconds: Said::default(),
            endpoint: String::new(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of things are far below 2^53")]
    fn gauge(&mut self, key: Key, value: usize) {
        *self.gauges.entry(key).or_default() += value as f64;
    }

    fn counter(&mut self, key: Key, value: u64) {
        self.counters.add(&self.endpoint, key, value, self.before.0);
    }

    fn seconds(&mut self, key: Key, value: Duration) {
        self.seconds.add(&self.endpoint, key, value, self.before.1);
    }
}

impl Metrics {
    /// Reads, and puts that in place of what was read before: no two at once, or what the slower one has seen would look as if
    /// counters had begun again. Those of seconds are returned as text.
    pub(super) fn note(&self, read: impl FnOnce() -> Reading) -> String {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = read();
        let mut sheet = Sheet::after(&before.counters, &before.seconds);
        self.add_process(&reading, &mut sheet);
        for endpoint in &reading.endpoints {
            sheet.endpoint.clone_from(&endpoint.endpoint);
            self.add_endpoint(endpoint, &mut sheet);
            self.add_pool(endpoint, &mut sheet);
        }
        let Sheet {
            gauges,
            counters,
            seconds,
            ..
        } = sheet;
        for gone in before.gauges.iter().filter(|key| !gauges.contains_key(*key)) {
            self.set_gauge(gone, 0.0);
        }
        for (key, value) in &gauges {
            self.set_gauge(key, *value);
        }
        let counted = before.counters.more(counters);
        let passed = before.seconds.more(seconds);
        self.add(&mut before, counted, passed);
        before.gauges = gauges.into_keys().collect();
        text_of(&before.seconds_shown)
    }

    fn add(&self, before: &mut Before, counted: BTreeMap<Key, u64>, passed: BTreeMap<Key, Duration>) {
        for (key, more) in counted {
            self.add_to_counter(&key, more);
        }
        for (key, more) in passed {
            *before.seconds_shown.entry(key).or_default() += more;
        }
    }

    /// An endpoint that nobody reads any more is on its way out.
    pub fn parting(&self, endpoint: &str) -> Parting {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        Parting {
            counters: before.counters.parting(endpoint),
            seconds: before.seconds.parting(endpoint),
        }
    }

    /// It has left, and this is what it has come to: whoever collects next learns what was counted since it was last read.
    pub fn parted(&self, mut parting: Parting, last: &EndpointReading) {
        let mut sheet = Sheet::after(&parting.counters, &parting.seconds);
        sheet.endpoint.clone_from(&last.endpoint);
        self.add_endpoint(last, &mut sheet);
        self.add_pool(last, &mut sheet);
        let Sheet {
            counters, seconds, ..
        } = sheet;
        let counted = parting.counters.more(counters);
        let passed = parting.seconds.more(seconds);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(&mut before, counted, passed);
    }

    fn add_endpoint(&self, endpoint: &EndpointReading, sheet: &mut Sheet<'_>) {
        let whose = endpoint.whose();
        for (pooling, count) in &endpoint.sessions {
            let labels = self.labelled(whose, [("pooling", *pooling)]);
            sheet.gauge((names::SESSIONS, labels), *count);
        }
        for (reason, count) in &endpoint.pinned {
            sheet.gauge(
                (names::PINNED, self.labelled(whose, [("reason", *reason)])),
                *count,
            );
        }
        for (reason, count) in &endpoint.vetoes {
            let labels = self.labelled(whose, [("reason", *reason)]);
            sheet.counter((names::VETOES, labels), *count);
        }
        let labels = self.labelled(whose, []);
        sheet.gauge((names::PARKED, labels.clone()), endpoint.parked);
        sheet.gauge((names::HELD, labels.clone()), endpoint.held);
        sheet.counter((names::COALESCED, labels.clone()), endpoint.joined);
        sheet.seconds((names::AWAKE, labels), endpoint.awake);
        let state = vec![Label::from_static_parts("state", endpoint.state)];
        sheet.gauge((names::ENDPOINTS, state), 1);
    }

    fn add_pool(&self, endpoint: &EndpointReading, sheet: &mut Sheet<'_>) {
        let (whose, pool) = (endpoint.whose(), &endpoint.pool);
        for (state, count) in pool.sessions {
            sheet.gauge(
                (names::POOL_SESSIONS, self.labelled(whose, [("state", state)])),
                count,
            );
        }
        for (from, count) in pool.lent {
            sheet.counter((names::TURNS, self.labelled(whose, [("session", from)])), count);
        }
        for (reason, count) in &pool.closed {
            let labels = self.labelled(whose, [("reason", *reason)]);
            sheet.counter((names::POOL_CLOSED, labels), *count);
        }
        let labels = self.labelled(whose, []);
        sheet.gauge((names::POOL_SIZE, labels.clone()), pool.size);
        sheet.gauge((names::POOL_WAITING, labels.clone()), pool.waiting);
        sheet.counter((names::POOL_WAITS, labels.clone()), pool.waits);
        sheet.seconds((names::POOL_WAIT_SECONDS, labels), pool.waited);
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes and times are far below 2^53")]
    fn add_process(&self, reading: &Reading, sheet: &mut Sheet<'_>) {
        let process = &reading.process;
        let version = Label::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        sheet.gauge((names::BUILD_INFO, vec![version]), 1);
        sheet.gauge((names::CLIENTS, Vec::new()), reading.clients);
        sheet.counter((names::AUDIT_DROPPED, Vec::new()), reading.audit_lines_dropped);
        sheet.seconds((names::CPU, Vec::new()), process.cpu);
        for (certificate, ends) in &reading.certificates {
            let labels = vec![Label::new("certificate", certificate.clone())];
            sheet.gauges.insert((names::CERTIFICATE, labels), *ends as f64);
        }
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        for (name, value) in [
            (names::MEMORY, process.memory as f64),
            (names::FILES, process.files as f64),
            (
                names::FILES_MAX,
                process.files_max.map_or(f64::INFINITY, |max| max as f64),
            ),
            (names::THREADS, process.threads as f64),
            (names::STARTED, started.as_secs_f64()),
        ] {
            sheet.gauges.insert((name, Vec::new()), value);
        }
    }
}

/// In the text form of <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn text_of(counters: &BTreeMap<Key, Duration>) -> String {
    let mut text = String::new();
    let mut last = "";
    for ((name, labels), value) in counters {
        if *name != last {
            let help = CATALOGUE.iter().find(|described| described.name == *name);
            let help = help.map_or("", |described| described.help);
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
            last = name;
        }
        // Values are names that the configuration allows: nothing in them needs to be escaped.
        let labels: Vec<_> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        text.push_str(&format!("{name}{labels} {}\n", value.as_secs_f64()));
    }
    text
}

impl EndpointReading {
    fn whose(&self) -> Whose<'_> {
        Whose {
            tenant: &self.tenant,
            endpoint: &self.endpoint,
        }
    }
}
