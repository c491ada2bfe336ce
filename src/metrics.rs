//! What is counted and measured, for whoever collects it. The only module that names metrics.
//!
//! Plain numbers and names come in, text goes out. What happens once per session or wake is counted as it happens;
//! what can be looked at is read when somebody collects ([`Reading`]), so that a message costs nothing. Each server has
//! its own [`Metrics`]: there is no recorder for the whole process. Who calls: `session` and `server` count, `admin`
//! collects.
#![expect(clippy::disallowed_macros, reason = "this is the module that names metrics")]

mod catalogue;
mod reading;
mod rising;
mod words;

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use ::metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::error::SqlState;
use catalogue as names;
pub use catalogue::{CATALOGUE, Described, Kind, WHOSE};
use reading::{Before, Key};
pub use reading::{EndpointReading, Parting, PoolReading, ProcessReading, Reading};
pub use words::{
    Asked, AskedResult, CancelResult, Handshake, HoldResult, Phase, RefusalReason, Temperature, TurnedAway,
    WakeResult,
};

/// From a warm connect to a start that takes as long as it may.
const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0,
];

/// What stands in place of a name that has no label of its own.
const OTHER: &str = "other";

/// Whether tenants and endpoints have series of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// All are one.
    Process,
    /// Each tenant has its own.
    Tenant,
    /// Each endpoint has its own.
    Endpoint,
}

/// Those who have series of their own; all others are `other`.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Who has any.
    pub per: Per,
    /// Names of tenants, or of endpoints: as many as there may be series.
    pub named: BTreeSet<String>,
}

/// Whom a number belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// Empty where it is not known.
    pub tenant: &'a str,
    /// As it is configured, or as a stranger says it.
    pub endpoint: &'a str,
}

/// All metrics of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    labels: Labels,
    started: SystemTime,
    before: Mutex<Before>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(labels: Labels) -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        let metrics = Self {
            handle: recorder.handle(),
            recorder,
            labels,
            started: SystemTime::now(),
            before: Mutex::default(),
        };
        metrics.within(|| {
            for described in CATALOGUE {
                match described.kind {
                    Kind::Counter => describe_counter!(described.name, described.help),
                    Kind::Gauge => describe_gauge!(described.name, described.help),
                    Kind::Histogram => describe_histogram!(described.name, described.help),
                }
            }
        });
        // Whoever watches for them sees them from the start.
        for reason in TurnedAway::ALL {
            metrics.turned_away_so_often(reason, 0);
        }
        metrics
    }

    /// When it all began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// A connection was closed before a word of its was answered.
    pub fn turned_away(&self, reason: TurnedAway) {
        self.turned_away_so_often(reason, 1);
    }

    fn turned_away_so_often(&self, reason: TurnedAway, count: u64) {
        let labels = labels([("reason", reason.as_str())]);
        self.within(|| counter!(names::TURNED_AWAY, labels).increment(count));
    }

    /// A client has logged in.
    pub fn session_began(&self, whose: Whose<'_>, pooling: &'static str) {
        self.count(
            names::SESSIONS_TOTAL,
            self.labelled(whose, [("pooling", pooling)]),
        );
    }

    /// It has got as far as its first statement, so long after it came.
    pub fn came_in(&self, cold: Temperature, phases: [(Phase, Duration); 5]) {
        for (phase, took) in phases {
            let labels = labels([("phase", phase.as_str()), ("cold", cold.as_str())]);
            self.measure(names::CONNECT_PHASE, labels, took);
        }
    }

    /// A client was refused, or ended by an error.
    pub fn refused(&self, whose: Whose<'_>, reason: RefusalReason, sqlstate: &str) {
        let sqlstate = SqlState::known(sqlstate).map_or(OTHER, |known| known.0);
        let own = [("reason", reason.as_str()), ("sqlstate", sqlstate)];
        self.count(names::REFUSALS, self.labelled(whose, own));
    }

    /// A client was held while its compute woke.
    pub fn held(&self, result: HoldResult, waited: Duration) {
        self.measure(names::HOLD, labels([("result", result.as_str())]), waited);
    }

    /// A wake has ended.
    pub fn wake_ended(&self, whose: Whose<'_>, result: WakeResult, took: Duration) {
        let own = [("result", result.as_str())];
        self.count(names::WAKES, self.labelled(whose, own));
        self.measure(names::WAKE, labels(own), took);
    }

    /// A compute was suspended.
    pub fn suspended(&self, whose: Whose<'_>) {
        self.count(names::SUSPENDS, self.labelled(whose, []));
    }

    /// A compute was to be suspended, and could not be stopped.
    pub fn not_suspended(&self, whose: Whose<'_>) {
        self.count(names::NOT_SUSPENDED, self.labelled(whose, []));
    }

    /// Bytes and queries of a session that have not been counted before.
    pub fn passed(&self, whose: Whose<'_>, (from_client, to_client): (u64, u64), queries: u64) {
        self.within(|| {
            for (direction, bytes) in [("in", from_client), ("out", to_client)] {
                let labels = self.labelled(whose, [("direction", direction)]);
                counter!(names::BYTES, labels).increment(bytes);
            }
            counter!(names::QUERIES, self.labelled(whose, [])).increment(queries);
        });
    }

    /// A cancel request has come.
    pub fn cancel(&self, result: CancelResult) {
        self.count(names::CANCELS, labels([("result", result.as_str())]));
    }

    /// The control plane was asked.
    pub fn asked(&self, what: Asked, result: AskedResult, took: Duration) {
        let labels = labels([("question", what.as_str()), ("result", result.as_str())]);
        self.measure(names::ASKED, labels, took);
    }

    /// A client has come as far as its startup packet, or not.
    pub fn handshake(&self, kind: Handshake) {
        self.count(names::TLS, labels([("kind", kind.as_str())]));
    }

    /// Sums up what was measured since the last time; to be called now and then where nobody collects.
    pub fn sum_up(&self) {
        self.handle.run_upkeep();
    }

    /// Everything, as Prometheus reads it.
    pub fn collect(&self, read: impl FnOnce() -> Reading) -> String {
        let seconds = self.note(read);
        self.handle.render() + &seconds
    }

    fn count(&self, name: &'static str, labels: Vec<Label>) {
        self.within(|| counter!(name, labels).increment(1));
    }

    fn measure(&self, name: &'static str, labels: Vec<Label>, took: Duration) {
        self.within(|| histogram!(name, labels).record(took));
    }

    fn set_gauge(&self, (name, labels): &Key, value: f64) {
        self.within(|| gauge!(*name, labels.clone()).set(value));
    }

    fn add_to_counter(&self, (name, labels): &Key, more: u64) {
        self.within(|| counter!(*name, labels.clone()).increment(more));
    }

    fn within<T>(&self, count: impl FnOnce() -> T) -> T {
        ::metrics::with_local_recorder(&self.recorder, count)
    }

    fn labelled<const N: usize>(
        &self,
        whose: Whose<'_>,
        own: [(&'static str, &'static str); N],
    ) -> Vec<Label> {
        let mut all = labels(own);
        let named = |name: &str| match self.labels.named.contains(name) {
            true => name.to_owned(),
            false => OTHER.to_owned(),
        };
        match self.labels.per {
            Per::Process => (),
            Per::Tenant => all.push(Label::new("tenant", named(whose.tenant))),
            Per::Endpoint => {
                let endpoint = named(whose.endpoint);
                let tenant = match endpoint == whose.endpoint {
                    true => whose.tenant.to_owned(),
                    false => OTHER.to_owned(),
                };
                all.extend([Label::new("tenant", tenant), Label::new("endpoint", endpoint)]);
            }
        }
        all
    }
}

fn labels<const N: usize>(own: [(&'static str, &'static str); N]) -> Vec<Label> {
    own.into_iter()
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect()
}

#[cfg(test)]
mod tests;
