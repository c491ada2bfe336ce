//! What is remembered of wakes that failed: the reason, and until when arrivals are refused with it.
//!
//! Plain data for `state`; chance comes in as a number. A success makes all of it forgotten.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// After the first failure: long enough that a client's immediate retry does not start the compute again.
const FIRST: Duration = Duration::from_millis(500);
/// After many: short enough that a repaired compute serves within a client's patience.
const LONGEST: Duration = Duration::from_secs(5);

/// Chance as an input: 0 to 1000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter(u16);

impl Jitter {
    /// From random bits.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self((bits % 1001) as u16)
    }
}

/// The last of some failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    reason: Arc<str>,
    until: Instant,
    in_a_row: u32,
}

impl Failure {
    /// A failure now, after `earlier` ones.
    pub(super) fn after(earlier: Option<&Self>, reason: Arc<str>, jitter: Jitter, now: Instant) -> Self {
        let in_a_row = earlier.map_or(0, |failure| failure.in_a_row).saturating_add(1);
        Self {
            reason,
            until: now + delay(in_a_row, jitter),
            in_a_row,
        }
    }

    /// The reason, however long ago.
    pub(super) fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// The reason, while arrivals are refused with it.
    pub(super) fn reason_at(&self, now: Instant) -> Option<&Arc<str>> {
        (now < self.until).then_some(&self.reason)
    }
}

/// Doubles with each failure; up to a quarter shorter by chance, so that many endpoints do not retry as one.
fn delay(in_a_row: u32, jitter: Jitter) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full - full / 4 * u32::from(jitter.0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_to_five_seconds_and_chance_only_shortens_it() {
        let full = |n| delay(n, Jitter::from_bits(0)).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 60].map(full), [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(delay(1, Jitter::from_bits(1000)), Duration::from_millis(375));
        assert_eq!(
            delay(u32::MAX, Jitter::from_bits(500)),
            Duration::from_millis(4375)
        );
    }
}
