//! What is known of one client's stay, written once at its end: the access line.
//!
//! Everything on the way only fills it in. No secret gets here.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    House,
    error::SessionError,
    roster::{Listed, Passed, Present},
};
use crate::config::PoolMode;
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::SessionId;
use crate::metrics::{Metrics, Phase, Temperature};
use crate::shutdown::{Bell, SessionWatch};
use crate::storm::Storms;
use crate::wake::Weight;

/// How much of a name that a client says gets into a log line.
const SAID_BYTES_MAX: usize = 128;

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over TCP, through a proxy that said so.
    Proxied { client: SocketAddr, proxy: SocketAddr },
    /// Over a Unix socket.
    Local,
}

impl Peer {
    /// Its own address, not a proxy's; one that is IPv4 in IPv6's clothes is that IPv4 address.
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Proxied { client: address, .. } => Some(address.ip().to_canonical()),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Proxied { client: address, .. } => write!(f, "{address}"),
            Self::Local => f.write_str("local"),
        }
    }
}

/// How a stay ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the client was told last, or the nearest code where it was told nothing.
    pub(super) sqlstate: Cow<'static, str>,
    /// What happened, for the operator.
    pub(super) what: String,
    /// `None`: it ended as it should.
    pub(super) fault: Option<Fault>,
    /// Who ended it.
    pub(super) by: EndedBy,
}

/// Who ended a stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The client, in whatever way.
    Client,
    /// pgwake, with an error.
    Pgwake,
    /// The server, with an error of its own; its words may repeat a statement.
    Server,
}

impl Outcome {
    /// The client left when it wanted to.
    pub(super) fn ended() -> Self {
        Self {
            sqlstate: SqlState::SUCCESS.0.into(),
            what: "ended".into(),
            fault: None,
            by: EndedBy::Client,
        }
    }

    /// pgwake ended the stay itself.
    pub(super) fn of(error: &SessionError) -> Self {
        let fault = if error.is_planned() {
            None
        } else {
            Some(error.fault())
        };
        let by = match error {
            SessionError::ClientGone => EndedBy::Client,
            _ => EndedBy::Pgwake,
        };
        Self {
            fault,
            by,
            ..Self::failed(error)
        }
    }

    /// The client has left before it came in.
    pub(super) fn left(error: &impl ClientError) -> Self {
        Self {
            by: EndedBy::Client,
            ..Self::failed(error)
        }
    }

    /// Something went wrong; `error` says what, to the operator in its own words.
    pub(super) fn failed(error: &impl ClientError) -> Self {
        Self {
            sqlstate: error.sqlstate().0.into(),
            what: error.to_string(),
            fault: Some(error.fault()),
            by: EndedBy::Pgwake,
        }
    }
}

/// One client's stay.
#[derive(Debug)]
pub(super) struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) peer: Peer,
    since: Instant,
    phase_since: Instant,
    pub(super) endpoint: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) role: Arc<str>,
    pub(super) database: Arc<str>,
    pub(super) application: Arc<str>,
    pub(super) tls: &'static str,
    /// The cipher suite's IANA name; empty without TLS.
    pub(super) cipher: &'static str,
    /// How clients of its endpoint prove who they are.
    pub(super) method: &'static str,
    /// Known once it has proved who it is.
    pub(super) pooling: Option<PoolMode>,
    /// Whether it matters to its compute's sleep what it does; known once it has proved who it is.
    pub(super) weight: Weight,
    /// Whether it was held while its compute woke.
    pub(super) cold: bool,
    pub(super) passed: Passed,
    phases: Phases,
    /// Rung, from its login on, where it is to look whether it may go on.
    pub(super) bell: Arc<Bell>,
    /// From its login on.
    pub(super) present: Option<Present>,
}

/// How long each step on the way in took.
#[derive(Debug, Default, Clone, Copy)]
struct Phases {
    tls: Duration,
    auth: Duration,
    hold: Duration,
    connect: Duration,
}

/// A step on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Tls,
    Auth,
    Hold,
    Connect,
}

impl SessionRecord {
    /// Of a client that was accepted at `since`.
    pub(super) fn new(id: SessionId, peer: Peer, since: Instant) -> Self {
        Self {
            id,
            peer,
            since,
            phase_since: since,
            endpoint: Arc::default(),
            tenant: Arc::default(),
            role: Arc::default(),
            database: Arc::default(),
            application: Arc::default(),
            tls: "off",
            cipher: "",
            method: "",
            pooling: None,
            weight: Weight::Counts,
            cold: false,
            passed: Passed::default(),
            phases: Phases::default(),
            bell: Arc::default(),
            present: None,
        }
    }

    /// It is listed from its login on.
    pub(super) fn listed(&self) -> Option<&Listed> {
        self.present.as_deref()
    }

    /// What ends it: the end of pgwake, or an operator's word. To be waited for from its login on.
    pub(super) fn shutdown(&self, house: &House) -> SessionWatch {
        house.shutdown.of_session(&self.bell)
    }

    /// Why it is ended by that.
    pub(super) fn ending(&self) -> SessionError {
        match self.bell.is_ended() {
            true => SessionError::Terminated,
            false => SessionError::ShuttingDown,
        }
    }

    /// It has been greeted.
    pub(super) fn came_in(&self, metrics: &Metrics) {
        let cold = match self.cold {
            true => Temperature::Cold,
            false => Temperature::Warm,
        };
        let phases = [
            (Phase::Tls, self.phases.tls),
            (Phase::Auth, self.phases.auth),
            (Phase::Hold, self.phases.hold),
            (Phase::Connect, self.phases.connect),
            (Phase::Total, self.since.elapsed()),
        ];
        metrics.came_in(cold, phases);
    }

    /// How long it has been here.
    pub(super) fn stay(&self) -> Duration {
        self.since.elapsed()
    }

    /// The time since the last step ended belongs to `step`.
    pub(super) fn step_ended(&mut self, step: Step) {
        let now = Instant::now();
        let phase = match step {
            Step::Tls => &mut self.phases.tls,
            Step::Auth => &mut self.phases.auth,
            Step::Hold => &mut self.phases.hold,
            Step::Connect => &mut self.phases.connect,
        };
        *phase += now - self.phase_since;
        self.phase_since = now;
    }

    /// Notes what the client says of itself, shortened to what is worth a line.
    pub(super) fn note(&mut self, role: &[u8], database: &[u8], application: &[u8]) {
        self.role = shortened(role);
        self.database = shortened(database);
        self.application = shortened(application);
    }

    /// Writes the access line, and the error where pgwake, the compute or its configuration are at fault: the first of
    /// equal ones. What clients say stands in it quoted and escaped: fields are strings, and none of them is part of a message.
    pub(super) fn close(self, outcome: &Outcome, storms: &Storms) {
        let (endpoint, role) = (&*self.endpoint, &*self.role);
        let (sqlstate, what) = (&*outcome.sqlstate, outcome.what.as_str());
        if matches!(
            outcome.fault,
            Some(Fault::Compute | Fault::Pgwake | Fault::Tenant)
        ) && storms.is_first(endpoint, sqlstate)
        {
            tracing::warn!(session = %self.id, endpoint, role, sqlstate, error = what, "session failed");
        }
        let proxy = match self.peer {
            Peer::Proxied { proxy, .. } => Some(tracing::field::display(proxy)),
            Peer::Tcp(_) | Peer::Local => None,
        };
        tracing::info!(
            target: "pgwake::access",
            session = %self.id,
            peer = %self.peer,
            proxy,
            tls = self.tls,
            tenant = &*self.tenant,
            endpoint,
            role,
            database = &*self.database,
            application = &*self.application,
            pooling = self.pooling.map_or("", PoolMode::as_str),
            sqlstate,
            outcome = what,
            cold = self.cold,
            bytes_in = self.passed.bytes_in,
            bytes_out = self.passed.bytes_out,
            queries = self.passed.queries,
            tls_ms = milliseconds(self.phases.tls),
            auth_ms = milliseconds(self.phases.auth),
            hold_ms = milliseconds(self.phases.hold),
            connect_ms = milliseconds(self.phases.connect),
            stay_ms = milliseconds(self.since.elapsed()),
            "session ended"
        );
    }
}

/// The beginning of what a client says: Postgres' own names have at most 63 bytes.
pub(super) fn shortened(text: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(&text[..text.len().min(SAID_BYTES_MAX)]).into()
}

/// With one decimal: logs are read by people.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
