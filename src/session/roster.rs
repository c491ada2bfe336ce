//! Who is here: every client that has proved who it is, for whoever looks from outside.
//!
//! A client's own task notes how it stands with a store into an atomic; nobody waits for those who look. It ends a
//! session on an operator's word by the session's own [`Bell`], and rings all bells where all are to look. Who calls:
//! `session` enters and notes, `admin` lists, cancels and ends.

mod deeds;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, SystemTime},
};

use dashmap::DashMap;
use tokio::{sync::watch, time::Instant};

use self::deeds::Told;
pub use self::deeds::{Deeds, Done, Passed};
use super::profile::Pins;
use crate::config::{IgnoredBy, PoolMode};
use crate::ids::{EndpointName, SessionId};
use crate::shutdown::{Bell, Phase, ShutdownWatch};
use crate::wire::startup::CancelKey;

/// All sessions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    here: Arc<DashMap<SessionId, Arc<Listed>>>,
    /// What those have done who have left, by endpoint. One that is gone may come back with who leaves it last:
    /// [`Roster::retain`] forgets it then, with the next that goes.
    left: Arc<DashMap<EndpointName, Deeds>>,
    told: Arc<Mutex<Told>>,
}

/// What a session does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is held while its compute wakes, or waits for a server session.
    Waiting,
    /// A statement or a transaction runs.
    Active,
    /// Session pooling, or pinned: it has a server session and runs nothing.
    Idle,
    /// Transaction pooling: it has no server session.
    Parked,
}

impl Doing {
    const ALL: [Self; 4] = [Self::Waiting, Self::Active, Self::Idle, Self::Parked];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Parked => "parked",
        }
    }
}

/// What is known of a session from its login on.
#[derive(Debug, Clone)]
pub struct Who {
    /// As its errors, its access line and the audit log call it.
    pub id: SessionId,
    /// Where it comes from.
    pub peer: String,
    /// Whose endpoint.
    pub tenant: Arc<str>,
    /// Where it is.
    pub endpoint: EndpointName,
    /// As whom.
    pub role: Arc<str>,
    /// What it says it wants.
    pub database: Arc<str>,
    /// What it says it is.
    pub application: Arc<str>,
    /// `TLSv1.3`, or `off`.
    pub tls: &'static str,
    /// When its server session is given back.
    pub pooling: PoolMode,
    /// By what it neither wakes its compute nor keeps it awake, if so.
    pub ignored: Option<IgnoredBy>,
    /// When it has logged in.
    pub since: SystemTime,
}

/// As [`Passed`], for those who look meanwhile.
#[derive(Debug, Default)]
struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    queries: AtomicU64,
}

/// A session that is here.
#[derive(Debug)]
pub struct Listed {
    /// Who it is.
    pub who: Who,
    began: Instant,
    doing: AtomicU8,
    /// Microseconds after `began`.
    doing_since: AtomicU64,
    turns: AtomicU64,
    /// Microseconds, up to `doing_since`.
    active: AtomicU64,
    waiting: AtomicU64,
    pins: AtomicU32,
    passed: Counters,
    counted: Counters,
    key: OnceLock<CancelKey>,
    bell: Arc<Bell>,
}

impl Listed {
    /// What it does, and for how long it has.
    pub fn doing(&self) -> (Doing, Duration) {
        let doing = Doing::ALL[usize::from(self.doing.load(Relaxed)) % Doing::ALL.len()];
        let since = Duration::from_micros(self.doing_since.load(Relaxed));
        (doing, self.began.elapsed().saturating_sub(since))
    }

    /// What it has done, up to now.
    pub fn deeds(&self) -> Deeds {
        let spent = |total: &AtomicU64| Duration::from_micros(total.load(Relaxed));
        let mut deeds = Deeds {
            passed: self.passed(),
            turns: self.turns.load(Relaxed),
            active: spent(&self.active),
            waiting: spent(&self.waiting),
        };
        match self.doing() {
            (Doing::Active, since) => deeds.active += since,
            (Doing::Waiting, since) => deeds.waiting += since,
            (Doing::Idle | Doing::Parked, _) => (),
        }
        deeds
    }

    /// Why it keeps its server session; nothing where it does not.
    pub fn pins(&self) -> Vec<&'static str> {
        Pins::from_bits(self.pins.load(Relaxed)).names().collect()
    }

    /// What has passed, as of its last pause.
    pub fn passed(&self) -> Passed {
        let Counters {
            bytes_in,
            bytes_out,
            queries,
        } = &self.passed;
        Passed {
            bytes_in: bytes_in.load(Relaxed),
            bytes_out: bytes_out.load(Relaxed),
            queries: queries.load(Relaxed),
        }
    }

    /// What of that nobody has looked at so far: each is told once.
    pub fn newly_passed(&self) -> Passed {
        let now = self.passed();
        let new = |counted: &AtomicU64, now: u64| now.saturating_sub(counted.fetch_max(now, Relaxed));
        Passed {
            bytes_in: new(&self.counted.bytes_in, now.bytes_in),
            bytes_out: new(&self.counted.bytes_out, now.bytes_out),
            queries: new(&self.counted.queries, now.queries),
        }
    }

    /// The key that its statements are cancelled by, once it has one. No answer shows it.
    pub fn cancel_key(&self) -> Option<&CancelKey> {
        self.key.get()
    }

    /// Ends it now, whatever it does: it reads 57P01.
    pub fn end(&self) {
        self.bell.end();
    }

    /// What it does from now on.
    pub(super) fn does(&self, doing: Doing, now: Instant) {
        let now = now.saturating_duration_since(self.began).as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let (before, since) = (self.doing.load(Relaxed), self.doing_since.load(Relaxed));
        let spent = now.saturating_sub(since);
        // Only its own task writes: what stands here has not changed since it was read.
        let add =
            |total: &AtomicU64, more: u64| total.store(total.load(Relaxed).saturating_add(more), Relaxed);
        if before == Doing::Active as u8 {
            add(&self.active, spent);
        } else if before == Doing::Waiting as u8 {
            add(&self.waiting, spent);
        }
        add(
            &self.turns,
            u64::from(doing == Doing::Active && before != Doing::Active as u8),
        );
        // Who is parked is not rung for when leases are told something: whoever ends that looks at what they were told
        // behind this, and who tells them looks at this behind that. All of it in one order: one of the two sees it.
        let order = if before == Doing::Parked as u8 {
            SeqCst
        } else {
            Relaxed
        };
        self.doing.store(doing as u8, order);
        self.doing_since.store(now, Relaxed);
    }

    /// It has no server session from now on.
    pub(super) fn parks(&self, passed: Passed, now: Instant) {
        self.does(Doing::Parked, now);
        self.set_pins(Pins::NONE);
        self.set_passed(passed);
    }

    /// Whether it has none.
    pub(super) fn is_parked(&self) -> bool {
        self.doing.load(SeqCst) == Doing::Parked as u8
    }

    /// Why it keeps its server session from now on.
    pub(super) fn set_pins(&self, pins: Pins) {
        self.pins.store(pins.bits(), Relaxed);
    }

    /// What has passed so far.
    pub(super) fn set_passed(&self, passed: Passed) {
        self.passed.bytes_in.store(passed.bytes_in, Relaxed);
        self.passed.bytes_out.store(passed.bytes_out, Relaxed);
        self.passed.queries.store(passed.queries, Relaxed);
    }

    /// Its key.
    pub(super) fn set_key(&self, key: &CancelKey) {
        // It has one for its whole stay.
        let _ = self.key.set(key.clone());
    }
}

/// A session that is listed as long as this lives.
#[derive(Debug)]
pub(super) struct Present {
    listed: Arc<Listed>,
    roster: Roster,
}

impl Present {
    /// For the parts of the session.
    pub(super) fn shared(&self) -> Arc<Listed> {
        self.listed.clone()
    }
}

impl std::ops::Deref for Present {
    type Target = Listed;

    fn deref(&self) -> &Listed {
        &self.listed
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let endpoint = self.listed.who.endpoint.clone();
        *self.roster.left.entry(endpoint).or_default() += self.listed.deeds();
        self.roster.here.remove(&self.listed.who.id);
    }
}

impl Roster {
    /// A client has logged in; `bell` is its session's.
    pub(super) fn enter(&self, who: Who, bell: Arc<Bell>) -> Present {
        let id = who.id;
        let listed = Arc::new(Listed {
            who,
            began: Instant::now(),
            doing: AtomicU8::new(Doing::Waiting as u8),
            doing_since: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            active: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            pins: AtomicU32::new(0),
            passed: Counters::default(),
            counted: Counters::default(),
            key: OnceLock::new(),
            bell,
        });
        self.here.insert(id, listed.clone());
        Present {
            listed,
            roster: self.clone(),
        }
    }

    /// Has every session look when there is a new phase, or a new number of changes, up to the end of pgwake.
    pub async fn ring(self, mut shutdown: ShutdownWatch, mut changes: watch::Receiver<u64>) {
        loop {
            let is_over = tokio::select! {
                phase = shutdown.changed() => phase.is_none_or(|phase| phase == Phase::Stopping),
                changed = changes.changed() => changed.is_err(),
            };
            self.here.iter().for_each(|listed| listed.bell.ring());
            if is_over {
                return;
            }
        }
    }

    /// Has the sessions of an endpoint look that may hold a lease: who is parked holds none.
    pub fn ring_at(&self, endpoint: &EndpointName) {
        let here = self.here.iter();
        let there = here.filter(|listed| listed.who.endpoint == *endpoint && !listed.is_parked());
        there.for_each(|listed| listed.bell.ring());
    }

    /// Everybody who is here now.
    pub fn all(&self) -> Vec<Arc<Listed>> {
        self.here.iter().map(|entry| entry.value().clone()).collect()
    }

    /// What all clients have done so far. Never less than the last time.
    pub fn done(&self) -> Done {
        let mut told = self.told();
        let mut by_endpoint: HashMap<EndpointName, Deeds> = HashMap::new();
        for left in self.left.iter() {
            by_endpoint.insert(left.key().clone(), *left.value());
        }
        for listed in self.all() {
            *by_endpoint.entry(listed.who.endpoint.clone()).or_default() += listed.deeds();
        }
        told.next(by_endpoint)
    }

    /// Forgets at which endpoint something was done that is not kept, of those who have left.
    pub fn retain(&self, is_kept: impl Fn(&EndpointName) -> bool) {
        let mut told = self.told();
        self.left.retain(|name, deeds| {
            let is_kept = is_kept(name);
            if !is_kept {
                told.forget(name, *deeds);
            }
            is_kept
        });
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing is done under the lock that could leave it half changed.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of this id.
    pub fn find(&self, id: SessionId) -> Option<Arc<Listed>> {
        self.here.get(&id).map(|listed| listed.value().clone())
    }
}
