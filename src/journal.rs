//! What has happened lately: the last wakes of each endpoint, the last refusals, and a stream of both for whoever
//! watches.
//!
//! Bounded in every direction: so many lines, so many events for each watcher, who is told how many he has missed. It
//! is memory, no record: `audit` is for those who must be able to prove something. Lines have no secret and no text of
//! a statement, because their givers put none in. Who calls: `session` and `server` tell, `admin` shows.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::broadcast;

use crate::ids::{EndpointName, SessionId, SystemIdentifier};

/// Wakes that are remembered of each endpoint.
const WAKES_PER_ENDPOINT: usize = 16;
/// Clients that are remembered of each wake; all are counted.
const SESSIONS_PER_WAKE: usize = 16;
/// Refusals that are remembered.
const REFUSALS: usize = 1024;
/// Events that a slow watcher may lag behind; further ones it has missed.
const EVENTS: usize = 1024;

/// How far a wake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeState {
    /// Under way.
    Waking,
    /// The compute takes logins.
    Ready,
    /// It could not be started.
    Failed,
    /// It was not ready in time, or nobody needed it any more.
    GivenUp,
}

impl WakeState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waking => "waking",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::GivenUp => "given up",
        }
    }
}

/// One wake.
#[derive(Debug, Clone)]
pub struct WakeLine {
    /// As the log and errors call it.
    pub id: String,
    /// Whose compute.
    pub endpoint: EndpointName,
    /// When it began.
    pub at: SystemTime,
    /// How far it has come.
    pub state: WakeState,
    /// How long it took; until it has ended: nothing.
    pub took: Duration,
    /// What took how long.
    pub phases: Vec<(&'static str, Duration)>,
    /// Why it failed.
    pub reason: String,
    /// How many clients were held for it, and have their answer.
    pub held: u64,
    /// The first of them, and how long each was held.
    pub sessions: Vec<(SessionId, Duration)>,
}

/// One client that was refused, or ended by an error.
#[derive(Debug, Clone)]
pub struct RefusalLine {
    /// As its error, its access line and the audit log call it.
    pub session: SessionId,
    /// When.
    pub at: SystemTime,
    /// Where it came from.
    pub peer: String,
    /// Whose endpoint it is, where that is known.
    pub tenant: String,
    /// The endpoint that it said.
    pub endpoint: String,
    /// The role that it said.
    pub role: String,
    /// The code that it was told.
    pub sqlstate: String,
    /// What for, in one word.
    pub kind: &'static str,
    /// What happened, as the operator may know it.
    pub reason: String,
}

/// Something to watch.
#[derive(Debug, Clone)]
pub enum Event {
    /// A wake has begun, or ended.
    Wake(WakeLine),
    /// A compute was suspended, having been awake for so long.
    Suspend {
        /// Whose.
        endpoint: EndpointName,
        /// When.
        at: SystemTime,
        /// For how long.
        awake: Duration,
        /// How long the stop took.
        took: Duration,
    },
    /// A compute was to be suspended, and could not be stopped.
    NotSuspended {
        /// Whose.
        endpoint: EndpointName,
        /// When.
        at: SystemTime,
        /// How long that was tried.
        took: Duration,
        /// Why.
        reason: String,
    },
    /// A compute ended by itself.
    Died {
        /// Whose.
        endpoint: EndpointName,
        /// When.
        at: SystemTime,
        /// As far as it is known.
        reason: String,
    },
    /// Another server answers in the place of an endpoint's own.
    OtherServer {
        /// Whose place.
        endpoint: EndpointName,
        /// When.
        at: SystemTime,
        /// The endpoint's own.
        expected: SystemIdentifier,
        /// The one that answers.
        found: SystemIdentifier,
    },
    /// A client was refused, or ended by an error.
    Refusal(RefusalLine),
    /// An operator has done something.
    Operator {
        /// When.
        at: SystemTime,
        /// What, to what.
        what: String,
    },
}

/// The latest of everything.
#[derive(Debug)]
pub struct Journal {
    events: broadcast::Sender<Arc<Event>>,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    wakes: HashMap<EndpointName, VecDeque<WakeLine>>,
    refusals: VecDeque<RefusalLine>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            events: broadcast::Sender::new(EVENTS),
            latest: Mutex::default(),
        }
    }
}

impl Journal {
    /// Everything from now on. A receiver that lags is told how many it has missed.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// A wake has begun. Only endpoints that exist are told of, and [`Journal::retain`] forgets others: their number bounds
    /// what is remembered.
    pub fn wake_began(&self, id: String, endpoint: &EndpointName) {
        let line = WakeLine {
            id,
            endpoint: endpoint.clone(),
            at: SystemTime::now(),
            state: WakeState::Waking,
            took: Duration::ZERO,
            phases: Vec::new(),
            reason: String::new(),
            held: 0,
            sessions: Vec::new(),
        };
        let mut latest = self.latest();
        let lines = latest.wakes.entry(endpoint.clone()).or_default();
        push(lines, line.clone(), WAKES_PER_ENDPOINT);
        drop(latest);
        self.tell(Event::Wake(line));
    }

    /// The last wake of an endpoint that is under way has ended: `end` says how.
    pub fn wake_ended(&self, id: &str, endpoint: &EndpointName, end: impl FnOnce(&mut WakeLine)) {
        let mut latest = self.latest();
        let lines = latest.wakes.get_mut(endpoint);
        let line = lines.and_then(|lines| lines.iter_mut().rev().find(|line| line.id == id));
        let Some(line) = line else { return };
        end(line);
        let line = line.clone();
        drop(latest);
        self.tell(Event::Wake(line));
    }

    /// A client that was held for the endpoint's last wake has its answer.
    pub fn held(&self, endpoint: &EndpointName, session: SessionId, waited: Duration) {
        let mut latest = self.latest();
        let last = latest.wakes.get_mut(endpoint).and_then(VecDeque::back_mut);
        let Some(line) = last else { return };
        line.held += 1;
        if line.sessions.len() < SESSIONS_PER_WAKE {
            line.sessions.push((session, waited));
        }
    }

    /// Forgets the wakes of endpoints that are not kept.
    pub fn retain(&self, is_kept: impl Fn(&EndpointName) -> bool) {
        self.latest().wakes.retain(|name, _| is_kept(name));
    }

    /// A client was refused, or ended by an error.
    pub fn refused(&self, line: RefusalLine) {
        push(&mut self.latest().refusals, line.clone(), REFUSALS);
        self.tell(Event::Refusal(line));
    }

    /// Something else has happened.
    pub fn tell(&self, event: Event) {
        // Nobody may be watching.
        let _ = self.events.send(Arc::new(event));
    }

    /// The last wakes of an endpoint, the latest first.
    pub fn wakes_of(&self, endpoint: &EndpointName) -> Vec<WakeLine> {
        let latest = self.latest();
        let lines = latest.wakes.get(endpoint);
        lines
            .map(|lines| lines.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    /// The last wakes of all endpoints, the latest first.
    pub fn wakes(&self) -> Vec<WakeLine> {
        let mut lines: Vec<_> = self.latest().wakes.values().flatten().cloned().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at));
        lines
    }

    /// The last refusals, the latest first.
    pub fn refusals(&self) -> Vec<RefusalLine> {
        self.latest().refusals.iter().rev().cloned().collect()
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(lines: &mut VecDeque<T>, line: T, max: usize) {
    if lines.len() == max {
        lines.pop_front();
    }
    lines.push_back(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EndpointName {
        EndpointName::parse(text).unwrap()
    }

    #[test]
    fn only_the_last_wakes_of_an_endpoint_are_remembered_and_those_of_others_stay() {
        let journal = Journal::default();
        journal.wake_began("quiet".into(), &name("quiet"));
        for number in 0..100 {
            journal.wake_began(format!("{number}"), &name("busy"));
        }
        let wakes = journal.wakes_of(&name("busy"));
        assert_eq!((wakes.len(), &*wakes[0].id), (WAKES_PER_ENDPOINT, "99"));
        assert_eq!(journal.wakes().len(), WAKES_PER_ENDPOINT + 1);
        assert_eq!(journal.wakes_of(&name("quiet")).len(), 1);
    }

    #[test]
    fn wakes_of_endpoints_that_are_gone_are_forgotten() {
        let journal = Journal::default();
        for endpoint in ["gone", "here"] {
            journal.wake_began(endpoint.into(), &name(endpoint));
        }
        journal.retain(|endpoint| *endpoint == name("here"));
        // What was under way does not bring it back.
        journal.wake_ended("gone", &name("gone"), |line| line.state = WakeState::GivenUp);
        assert!(journal.wakes_of(&name("gone")).is_empty());
        assert_eq!(journal.wakes().len(), 1);
    }

    #[test]
    fn clients_are_counted_beyond_those_that_are_remembered() {
        let journal = Journal::default();
        journal.held(&name("main"), SessionId::from_random(0), Duration::ZERO);
        journal.wake_began("first".into(), &name("main"));
        for bits in 0..100 {
            journal.held(&name("main"), SessionId::from_random(bits), Duration::ZERO);
        }
        let wakes = journal.wakes_of(&name("main"));
        assert_eq!((wakes[0].held, wakes[0].sessions.len()), (100, SESSIONS_PER_WAKE));
    }

    #[tokio::test]
    async fn a_watcher_who_is_slow_is_told_what_he_has_missed() {
        let journal = Journal::default();
        let mut watching = journal.watch();
        for number in 0..EVENTS + 7 {
            journal.wake_began(format!("{number}"), &name("main"));
        }
        let missed = watching.recv().await.unwrap_err();
        assert!(
            matches!(missed, broadcast::error::RecvError::Lagged(7)),
            "{missed}"
        );
        let Event::Wake(line) = &*watching.recv().await.unwrap() else {
            panic!("not a wake");
        };
        assert_eq!(line.id, "7");
    }
}
