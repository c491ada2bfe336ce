//! How an endpoint's compute stands, and what happens to it, as plain data for whoever looks from outside.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{backoff::Backoff, error::WakeId};
use crate::config::SuspendVeto;

/// Where a compute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComputeState {
    /// Nobody looked yet.
    Unknown,
    /// Somebody is looking whether it runs.
    Inspecting,
    /// It does not run.
    Asleep,
    /// It waits for its turn to be started.
    InLine,
    /// It is being started.
    Waking,
    /// It takes logins.
    Awake,
    /// It takes logins, and is about to be suspended: idle sessions are ended, and what it knows is read.
    Emptying,
    /// It is being stopped.
    Suspending,
    /// It does not run, and the last try to start it failed.
    Failed,
}

impl ComputeState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Inspecting,
        Self::Asleep,
        Self::InLine,
        Self::Waking,
        Self::Awake,
        Self::Emptying,
        Self::Suspending,
        Self::Failed,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inspecting => "inspecting",
            Self::Asleep => "asleep",
            Self::InLine => "queued",
            Self::Waking => "waking",
            Self::Awake => "awake",
            Self::Emptying => "emptying",
            Self::Suspending => "suspending",
            Self::Failed => "failed",
        }
    }
}

/// How one endpoint's compute stands.
#[derive(Debug, Clone)]
pub struct WakeFigures {
    /// Where it is.
    pub state: ComputeState,
    /// Since when.
    pub since: Instant,
    /// Whether an operator has disabled it.
    pub is_disabled: bool,
    /// Whether pgwake can suspend it at all.
    pub is_suspendable: bool,
    /// How long without work until it is suspended; `None`: it stays awake.
    pub suspend_after: Option<Duration>,
    /// When it is suspended if nothing happens before.
    pub suspends_at: Option<Instant>,
    /// What keeps it awake although nobody uses it.
    pub veto: Option<Arc<str>>,
    /// How often something did, by kind.
    pub vetoes: Vetoes,
    /// Leases of those who work, and count.
    pub active: usize,
    /// Leases of those who rest, and count.
    pub resting: usize,
    /// Clients that are held.
    pub held: usize,
    /// Those of them for whom it is woken.
    pub held_counted: usize,
    /// Since when the first of them is.
    pub held_since: Option<Instant>,
    /// Starts that were asked for.
    pub started: u64,
    /// Clients that joined a start which was under way.
    pub joined: u64,
    /// How long it has been awake, all generations together.
    pub awake: Duration,
    /// The last start.
    pub wake: Option<WakeId>,
    /// Why the last start failed; nothing once another has succeeded.
    pub failure: Option<Arc<str>>,
    /// Why it could not be stopped when it was last to be, after which it may run on.
    pub left: Option<Arc<str>>,
    /// How many starts in a row failed, and when the next one may be tried.
    pub backoff: Option<Backoff>,
}

/// Something happened to a compute.
#[derive(Debug, Clone)]
pub enum WakeEvent {
    /// A start was asked for.
    Woken {
        /// Which.
        wake: WakeId,
    },
    /// It takes logins after a start.
    Ready {
        /// Which start.
        wake: WakeId,
        /// How long it took.
        took: Duration,
        /// What took how long.
        phases: Vec<(&'static str, Duration)>,
    },
    /// A start failed.
    Failed {
        /// Which.
        wake: WakeId,
        /// How long it took.
        took: Duration,
        /// Why.
        reason: String,
    },
    /// A start was not done in time, or nobody needed it any more.
    GivenUp {
        /// Which.
        wake: WakeId,
        /// After how long.
        took: Duration,
        /// Which of these.
        reason: String,
    },
    /// It was suspended.
    Suspended {
        /// How long the stop took.
        took: Duration,
        /// How long it had been awake.
        awake: Duration,
    },
    /// It was to be suspended, and could not be stopped: it may run on.
    NotSuspended {
        /// How long the stop took.
        took: Duration,
        /// Why.
        reason: String,
    },
    /// It ended by itself.
    Died {
        /// As far as it is known.
        reason: String,
    },
}

/// Why a compute that nobody uses is not suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// Of what kind it is; `None`: nobody knows, since there was no answer.
    pub kind: Option<SuspendVeto>,
    /// What it is: "client psql from 10.0.0.1".
    pub reason: Arc<str>,
}

impl Veto {
    /// There was no answer.
    pub fn unanswered() -> Self {
        let reason = "question unanswered".into();
        Self { kind: None, reason }
    }
}

/// How often a suspend was vetoed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vetoes([u64; SuspendVeto::ALL.len()], u64);

impl Vetoes {
    pub(super) fn count(&mut self, veto: &Veto) {
        *match veto.kind {
            Some(kind) => &mut self.0[kind as usize],
            None => &mut self.1,
        } += 1;
    }

    /// By the word for it.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = SuspendVeto::ALL.map(|kind| (kind.as_str(), self.0[kind as usize]));
        known.into_iter().chain([("unanswered", self.1)])
    }
}

/// What comes of an operator's order to suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspendOrder {
    /// It has begun; a client that comes meanwhile is served, and calls it off.
    Begun,
    /// It does not run.
    AsleepAlready,
    /// So many clients work.
    InUse(usize),
    /// It is being started, or looked at.
    UnderWay,
    /// pgwake cannot stop it.
    NotSuspendable,
}
