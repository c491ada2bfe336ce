//! Looks at everything for those who collect metrics.

use std::{collections::HashMap, fmt};

use super::{View, process};
use crate::config::{Endpoint, PoolMode};
use crate::ids::EndpointName;
use crate::metrics::{EndpointReading, PoolReading, Reading, Whose};
use crate::pool::{CloseReason, PoolFigures};
use crate::session::{
    Pooling,
    roster::{Doing, Listed},
};
use crate::wake::WakeFigures;

/// The clients of an endpoint.
#[derive(Debug, Default, Clone)]
pub(super) struct Clients {
    /// By kind of pooling.
    sessions: [usize; PoolMode::ALL.len()],
    /// By what they do.
    pub(super) waiting: usize,
    pub(super) active: usize,
    pub(super) idle: usize,
    pub(super) parked: usize,
    /// Those who keep a server session.
    pub(super) pinned: usize,
    /// By reason.
    pins: HashMap<&'static str, usize>,
    /// Those of them who keep the compute awake by that.
    pub(super) pinned_counted: usize,
    /// Of these, one that an operator can look for: the first by session, and what pins it.
    pub(super) pinned_first: Option<(Named, String)>,
    /// Those who are idle, and count.
    pub(super) idle_counted: usize,
    /// The first of them.
    pub(super) idle_first: Option<Named>,
}

/// A client, by a name that an operator can look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    session: String,
    application: String,
}

impl Named {
    fn of(listed: &Listed) -> Self {
        Self {
            session: listed.who.id.to_string(),
            application: listed.who.application.to_string(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.application.as_str() {
            "" => write!(f, "session {}", self.session),
            application => write!(f, "application {application:?}"),
        }
    }
}

/// Keeps the first.
fn note<T: Ord>(first: &mut Option<T>, next: T) {
    *first = Some(match first.take() {
        Some(first) => first.min(next),
        None => next,
    });
}

impl Clients {
    /// All of them.
    pub(super) fn count(&self) -> usize {
        self.sessions.iter().sum()
    }
}

impl View {
    /// The clients of each endpoint that has any.
    pub(super) fn clients_by_endpoint(&self) -> HashMap<EndpointName, Clients> {
        let mut all: HashMap<EndpointName, Clients> = HashMap::new();
        for listed in self.house.roster.all() {
            let clients = all.entry(listed.who.endpoint.clone()).or_default();
            let counts = listed.who.ignored.is_none();
            clients.sessions[listed.who.pooling as usize] += 1;
            match listed.doing().0 {
                Doing::Waiting => clients.waiting += 1,
                Doing::Active => clients.active += 1,
                Doing::Idle => {
                    clients.idle += 1;
                    if counts {
                        clients.idle_counted += 1;
                        note(&mut clients.idle_first, Named::of(&listed));
                    }
                }
                Doing::Parked => clients.parked += 1,
            }
            let pins = listed.pins();
            clients.pinned += usize::from(!pins.is_empty());
            if !pins.is_empty() && counts {
                clients.pinned_counted += 1;
                note(&mut clients.pinned_first, (Named::of(&listed), pins.join(", ")));
            }
            for pin in pins {
                *clients.pins.entry(pin).or_default() += 1;
            }
        }
        all
    }

    /// Everything, and what has passed since the last look is counted.
    pub(super) fn metrics(&self) -> String {
        self.count_passed();
        self.house.metrics.collect(|| self.read())
    }

    fn read(&self) -> Reading {
        let clients = self.clients_by_endpoint();
        let none = Clients::default();
        let endpoints = self.house.directory.endpoints().map(|endpoint| {
            let clients = clients.get(&endpoint.name).unwrap_or(&none);
            self.read_endpoint(&endpoint, clients)
        });
        let certificates = self.house.certificates.expiries().into_iter();
        Reading {
            clients: (self.clients)(),
            endpoints: endpoints.collect(),
            certificates: certificates
                .map(|(file, ends)| (file.display().to_string(), ends))
                .collect(),
            audit_lines_dropped: self.house.audit.dropped(),
            process: process::read(),
        }
    }

    /// Of those who are still here.
    fn count_passed(&self) {
        for listed in self.house.roster.all() {
            let passed = listed.newly_passed();
            let whose = Whose {
                tenant: &listed.who.tenant,
                endpoint: listed.who.endpoint.as_str(),
            };
            let bytes = (passed.bytes_in, passed.bytes_out);
            self.house.metrics.passed(whose, bytes, passed.queries);
        }
    }

    fn read_endpoint(&self, endpoint: &Endpoint, clients: &Clients) -> EndpointReading {
        let figures = self.house.wakes.figures(&endpoint.name);
        let pooling = self.house.pooling.get(&endpoint.name);
        EndpointReading {
            sessions: PoolMode::ALL
                .map(|mode| (mode.as_str(), clients.sessions[mode as usize]))
                .to_vec(),
            parked: clients.parked,
            pinned: crate::session::pin_reasons()
                .map(|reason| (reason, clients.pins.get(reason).copied().unwrap_or_default()))
                .collect(),
            ..read_counted(endpoint, figures, pooling.as_deref())
        }
    }
}

/// How an endpoint stands, but for its clients.
pub(crate) fn read_counted(
    endpoint: &Endpoint,
    figures: Option<WakeFigures>,
    pooling: Option<&Pooling>,
) -> EndpointReading {
    let mut reading = EndpointReading {
        tenant: endpoint.tenant.to_string(),
        endpoint: endpoint.name.to_string(),
        ..EndpointReading::default()
    };
    if let Some(figures) = figures {
        reading.state = figures.state.as_str();
        reading.held = figures.held;
        reading.joined = figures.joined;
        reading.vetoes = figures.vetoes.by_kind().collect();
        reading.awake = figures.awake;
    }
    if let Some(pooling) = pooling {
        reading.pool = read_pool(&pooling.pool.figures());
    }
    reading
}

fn read_pool(figures: &PoolFigures) -> PoolReading {
    let sum = |pick: fn(&crate::pool::KeyFigures) -> usize| figures.keys.iter().map(pick).sum();
    let counts = &figures.counts;
    PoolReading {
        size: figures.size,
        sessions: [
            ("lent", sum(|key| key.lent)),
            ("kept", sum(|key| key.kept)),
            ("resting", sum(|key| key.resting)),
            ("closing", figures.closing),
        ],
        waiting: figures.waiting + figures.waiting_for_slot,
        waits: figures.waits.count,
        waited: figures.waits.total,
        lent: [
            ("kept", counts.kept_taken),
            ("resting", counts.resting_taken),
            ("taken over", counts.stolen),
            ("new", counts.adopted),
        ],
        closed: CloseReason::ALL
            .map(|reason| (reason.as_str(), counts.closed(reason)))
            .to_vec(),
    }
}
