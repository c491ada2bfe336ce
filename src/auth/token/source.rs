//! The keys of one issuer, and when they are read again.
//!
//! ```text
//!   none ──first login, or start──▶ reading ──▶ fresh ──time──▶ old: used, and read again beside the logins
//!                                      ▲                        ├─ time without a login ──▶ read again before the next
//!                                      │                        └─ reading fails for a day ──▶ none
//!                                      └── a token names a key that is not there, or that has not signed it
//! ```
//!
//! Nothing is read while nobody comes: where the last look is long past, an issuer may have taken a key back since.
//!
//! Strangers can name any key, so that cause a reading at most once in a while; whoever names an unknown key, or one that
//! has not signed his token, waits for the reading under way, nobody else waits. Called by `token`.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    TokenError,
    fetch::fetch,
    jws::Algorithm,
    keys::{Key, KeySet},
};
use crate::config::TokenKeys;

/// How long one reading may take in all, from the look-up of the name to the last byte.
const READING_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys that could not be read again are used for this long: an issuer that is down for a night is no reason to keep
/// everybody out, and one that is gone for longer is.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How often a set is read.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// What was read this short a time ago is not read again for its age.
    fresh_for: Duration,
    /// For unknown keys, for wrong signatures, and after a failure, at most once in this time.
    again_after: Duration,
}

/// A request to somebody else's server.
const PACE_OF_URLS: Pace = Pace {
    fresh_for: Duration::from_secs(300),
    again_after: Duration::from_secs(10),
};

/// A look at a file of our own.
const PACE_OF_FILES: Pace = Pace {
    fresh_for: Duration::from_secs(5),
    again_after: Duration::from_secs(1),
};

/// One set of keys.
pub(super) struct KeySource {
    from: TokenKeys,
    pace: Pace,
    kept: ArcSwapOption<Kept>,
    flight: Mutex<Flight>,
    /// The number of the last reading that has ended.
    ended: watch::Sender<u64>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Kept {
    keys: KeySet,
    at: Instant,
}

#[derive(Default)]
struct Flight {
    running: bool,
    number: u64,
    begun_at: Option<Instant>,
    /// Told to the operator already.
    problem: Option<String>,
}

impl KeySource {
    /// Nothing is read yet; readings run in `tasks`.
    pub(super) fn new(from: TokenKeys, tasks: TaskTracker) -> Self {
        let pace = match &from {
            TokenKeys::File(_) => PACE_OF_FILES,
            TokenKeys::Url { .. } => PACE_OF_URLS,
        };
        Self {
            from,
            pace,
            kept: ArcSwapOption::empty(),
            flight: Mutex::default(),
            ended: watch::Sender::new(0),
            tasks,
        }
    }

    /// The keys of this name that suit: at least one. Cancel safe: a reading goes on.
    pub(super) async fn find(
        self: &Arc<Self>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<Key>>, TokenError> {
        if let Some(kept) = self.usable()
            && let found = kept.keys.find(kid, algorithm)
            && !found.is_empty()
        {
            let age = kept.at.elapsed();
            // An issuer that cannot be read is not waited for by everybody.
            let is_waited_for = age > 2 * self.pace.fresh_for && self.flight().problem.is_none();
            if !is_waited_for {
                if age > self.pace.fresh_for {
                    self.begin();
                }
                return Ok(found);
            }
        }
        self.is_read_again().await;
        let kept = self.usable().ok_or(TokenError::NoKeys)?;
        let found = kept.keys.find(kid, algorithm);
        if found.is_empty() {
            return Err(TokenError::UnknownKey);
        }
        Ok(found)
    }

    /// Waits for the reading under way, or for one that begins now. `false`: neither, the last one began a moment ago.
    /// Cancel safe: a reading goes on.
    pub(super) async fn is_read_again(self: &Arc<Self>) -> bool {
        let Some(number) = self.begin() else {
            return false;
        };
        let mut ended = self.ended.subscribe();
        // It ends by itself; what has come by then counts.
        let _ = timeout(READING_TIMEOUT, ended.wait_for(|last| *last >= number)).await;
        true
    }

    /// Begins a reading, unless the last one began a moment ago. The number of the one under way, if any is.
    pub(super) fn begin(self: &Arc<Self>) -> Option<u64> {
        let mut flight = self.flight();
        if flight.running {
            return Some(flight.number);
        }
        let recent = |at: Instant| at.elapsed() < self.pace.again_after;
        if flight.begun_at.is_some_and(recent) {
            return None;
        }
        flight.running = true;
        flight.number += 1;
        flight.begun_at = Some(Instant::now());
        self.tasks.spawn(Arc::clone(self).run());
        Some(flight.number)
    }

    /// One reading. Not cancel safe: it would count as running for ever.
    async fn run(self: Arc<Self>) {
        let reading = timeout(READING_TIMEOUT, fetch(&self.from));
        let read = match AssertUnwindSafe(reading).catch_unwind().await {
            Ok(Ok(Ok(bytes))) => KeySet::parse(&bytes),
            Ok(Ok(Err(problem))) => Err(problem),
            Ok(Err(_)) => Err(format!("it took longer than {READING_TIMEOUT:?}")),
            Err(_) => Err("reading it panicked".to_owned()),
        };
        let problem = match read {
            Ok(keys) => {
                let at = Instant::now();
                self.kept.store(Some(Arc::new(Kept { keys, at })));
                None
            }
            Err(problem) => Some(problem),
        };
        let mut flight = self.flight();
        flight.running = false;
        if flight.problem != problem {
            let from = &self.from;
            match &problem {
                Some(problem) => tracing::warn!(keys = ?from, problem, "keys of tokens cannot be read"),
                None => tracing::info!(keys = ?from, "keys of tokens can be read again"),
            }
            flight.problem = problem;
        }
        let number = flight.number;
        drop(flight);
        self.ended.send_replace(number);
    }

    fn usable(&self) -> Option<Arc<Kept>> {
        let kept = self.kept.load_full();
        kept.filter(|kept| kept.at.elapsed() < STALE_MAX)
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Nothing is done under the lock that could leave it half changed.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
