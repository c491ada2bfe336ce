//! Storms of equal errors: the first is told at once, the rest of its minute is counted and told in one line.
//!
//! Equal is what happens at one endpoint with one code. It is for the log's warnings alone: the access line of each
//! session, the audit log and the metrics have every single one. Bounded: beyond so many different errors within a
//! minute, all others count as one. Who calls: `session` asks before it warns, `server` tells what was counted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One line for so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Most different errors that are told apart. Names are at most 128 bytes long, codes five: some 300 KiB.
const KINDS_MAX: usize = 1024;

/// What counts as one beyond that.
const OTHERS: &str = "other";

/// Errors that were told within the last minute.
#[derive(Debug, Default)]
pub struct Storms(Mutex<HashMap<Kind, Counted>>);

/// Equal errors.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Kind {
    endpoint: String,
    code: String,
}

#[derive(Debug)]
struct Counted {
    /// When one was told, or what was counted.
    since: Instant,
    /// So many have not been told.
    more: u64,
}

/// What a minute has brought beyond what was told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// Where.
    pub endpoint: String,
    /// What: an SQLSTATE, or another word.
    pub code: String,
    /// How often.
    pub more: u64,
}

impl Storms {
    /// Whether this error is to be told now; otherwise it has been counted.
    pub fn is_first(&self, endpoint: &str, code: &str) -> bool {
        let mut kinds = self.lock();
        let mut kind = Kind::new(endpoint, code);
        if !kinds.contains_key(&kind) && kinds.len() >= KINDS_MAX {
            kind = Kind::new(OTHERS, OTHERS);
        }
        match kinds.get_mut(&kind) {
            Some(counted) => {
                counted.more += 1;
                false
            }
            None => {
                let since = Instant::now();
                kinds.insert(kind, Counted { since, more: 0 });
                true
            }
        }
    }

    /// What is to be told now because its minute is over. Where a storm goes on, the next minute has begun.
    pub fn over(&self) -> Vec<Repeated> {
        self.take(|since| since.elapsed() >= TOLD_EVERY)
    }

    /// All that was counted and not told, at the end of everything.
    pub fn rest(&self) -> Vec<Repeated> {
        self.take(|_| true)
    }

    fn take(&self, is_over: impl Fn(Instant) -> bool) -> Vec<Repeated> {
        let mut over = Vec::new();
        self.lock().retain(|kind, counted| {
            if !is_over(counted.since) {
                return true;
            }
            let more = std::mem::take(&mut counted.more);
            if more == 0 {
                return false;
            }
            counted.since = Instant::now();
            over.push(Repeated {
                endpoint: kind.endpoint.clone(),
                code: kind.code.clone(),
                more,
            });
            true
        });
        over
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Counted>> {
        // Nothing is done under the lock that could leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn new(endpoint: &str, code: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            code: code.to_owned(),
        }
    }
}

impl Repeated {
    /// Tells it to the log.
    pub fn tell(&self) {
        let Self { endpoint, code, more } = self;
        tracing::warn!(
            endpoint,
            sqlstate = code,
            more,
            "the same again, since it was last told"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(repeated: &[Repeated]) -> Vec<(&str, &str, u64)> {
        let mut told: Vec<_> = repeated
            .iter()
            .map(|line| (&*line.endpoint, &*line.code, line.more))
            .collect();
        told.sort_unstable();
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_a_line_at_once_and_one_for_each_minute() {
        let storms = Storms::default();
        let firsts = (0..1000).filter(|_| storms.is_first("one", "57P03")).count();
        assert_eq!(firsts, 1);
        assert!(storms.is_first("one", "53300"), "another error is told");
        assert!(storms.is_first("two", "57P03"), "another endpoint's is, too");
        tokio::time::advance(TOLD_EVERY - Duration::from_secs(1)).await;
        assert_eq!(storms.over(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(told(&storms.over()), [("one", "57P03", 999)]);

        assert!(!storms.is_first("one", "57P03"), "it goes on");
        assert!(storms.is_first("two", "57P03"), "that was over");
        tokio::time::advance(TOLD_EVERY).await;
        assert_eq!(told(&storms.over()), [("one", "57P03", 1)]);
        tokio::time::advance(TOLD_EVERY).await;
        assert_eq!(storms.over(), []);
        assert!(storms.is_first("one", "57P03"), "a quiet minute ends a storm");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_leaves_nothing_untold() {
        let storms = Storms::default();
        for _ in 0..3 {
            storms.is_first("one", "08006");
        }
        assert_eq!(told(&storms.rest()), [("one", "08006", 2)]);
        assert_eq!(storms.rest(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_kinds_are_one() {
        let storms = Storms::default();
        let told = (0..2 * KINDS_MAX)
            .filter(|number| storms.is_first(&format!("endpoint-{number}"), "57P03"))
            .count();
        // Those that are told apart, and the first of all others.
        assert_eq!(told, KINDS_MAX + 1);
        assert!(storms.lock().len() <= KINDS_MAX + 1);
        tokio::time::advance(TOLD_EVERY).await;
        let over = storms.over();
        assert_eq!(over.len(), 1);
        assert_eq!((&*over[0].endpoint, over[0].more), (OTHERS, KINDS_MAX as u64 - 1));
        storms.over();
        tokio::time::advance(TOLD_EVERY).await;
        storms.over();
        assert!(storms.lock().is_empty());
    }
}
