//! How long answers take: who has one from memory waits as long as somebody who has asked.
//!
//! Otherwise the time of an answer would tell a stranger which names are known here. Called by `book`.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// So many of the last answers are remembered.
const REMEMBERED: usize = 16;
/// Nobody waits for longer than this on account of others.
const LONGEST: Duration = Duration::from_millis(50);

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Vec<Duration>>);

impl Pace {
    /// One took so long.
    pub(super) fn note(&self, took: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == REMEMBERED {
            times.remove(0);
        }
        times.push(took.min(LONGEST));
    }

    /// As long as one of the last ones, by chance.
    pub(super) fn like_others(&self) -> Duration {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let chance = RandomState::new().hash_one(()) as usize;
        match times.len() {
            0 => Duration::ZERO,
            count => times[chance % count],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_ask_waits_like_one_who_did() {
        let pace = Pace::default();
        assert_eq!(pace.like_others(), Duration::ZERO);
        pace.note(Duration::from_secs(9));
        assert_eq!(pace.like_others(), LONGEST);
        for millis in 0..REMEMBERED as u64 {
            pace.note(Duration::from_millis(millis));
        }
        let seen: Vec<_> = (0..1000).map(|_| pace.like_others()).collect();
        assert!(seen.iter().all(|time| *time < Duration::from_millis(16)));
        assert!(seen.contains(&Duration::from_millis(3)));
    }
}
