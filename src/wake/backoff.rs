//! What is remembered of wakes that failed: the reason, and until when arrivals are refused with it.
//!
//! Plain data for `state`; chance comes in as a number. A success makes all of it forgotten. Starts that succeed and whose
//! compute ends at once, again and again, are failures as well.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

/// After the first failure: long enough that a client's immediate retry does not start the compute again.
const FIRST: Duration = Duration::from_millis(500);
/// After many: short enough that a repaired compute serves within a client's patience.
const LONGEST: Duration = Duration::from_secs(5);

/// Nobody's word keeps an endpoint from being started for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A compute that lived for less was hardly there.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// So many short lives in a row are a failure. One or two may be anybody's `kill`.
const SHORT_LIVES_MAX: u32 = 3;

/// Chance as an input: 0 to 1000.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter(u16);

impl Jitter {
    /// From random bits.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self((bits % 1001) as u16)
    }
}

/// For how long an endpoint is not started, and after what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// How many starts in a row have failed.
    pub in_a_row: u32,
    /// When the next one may be tried.
    pub again_in: Duration,
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

    /// Whoever refused it has said when it may be tried again.
    pub(super) fn not_before(mut self, retry_after: Option<Duration>, now: Instant) -> Self {
        let said = retry_after.map(|after| now + after.min(RETRY_AFTER_MAX));
        self.until = said.map_or(self.until, |said| said.max(self.until));
        self
    }

    /// The reason, however long ago.
    pub(super) fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    /// Whether arrivals are still refused with it.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        now < self.until
    }

    /// How it stands.
    pub(super) fn backoff(&self, now: Instant) -> Backoff {
        Backoff {
            in_a_row: self.in_a_row,
            again_in: self.until.saturating_duration_since(now),
        }
    }
}

/// How computes of an endpoint ended that had taken logins.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    began: Option<Instant>,
    short_in_a_row: u32,
    /// The failures before the present life, which count on where it turns out to be a short one as well.
    before: Option<Failure>,
}

impl Lives {
    /// One takes logins, after `failure`.
    pub(super) fn begin(&mut self, failure: Option<Failure>, now: Instant) {
        self.began = Some(now);
        self.before = failure.filter(|_| self.short_in_a_row >= SHORT_LIVES_MAX);
    }

    /// It has ended by itself: a failure where such ends are all that happens.
    pub(super) fn end(&mut self, reason: &Arc<str>, jitter: Jitter, now: Instant) -> Option<Failure> {
        let began = self.began.take()?;
        if now.saturating_duration_since(began) >= SHORT_LIFE {
            self.short_in_a_row = 0;
            return None;
        }
        self.short_in_a_row = self.short_in_a_row.saturating_add(1);
        if self.short_in_a_row < SHORT_LIVES_MAX {
            return None;
        }
        let reason = format!(
            "it ended soon after its last {} starts: {reason}",
            self.short_in_a_row
        );
        Some(Failure::after(self.before.as_ref(), reason.into(), jitter, now))
    }

    /// It was stopped, as computes are.
    pub(super) fn stopped(&mut self) {
        *self = Self::default();
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
    fn whoever_refuses_may_say_for_how_long_but_not_for_ever() {
        let now = Instant::now();
        let failure = |said: Option<u64>| {
            let failure = Failure::after(None, "full".into(), Jitter(0), now);
            let failure = failure.not_before(said.map(Duration::from_secs), now);
            failure.backoff(now).again_in
        };
        assert_eq!(failure(None), FIRST);
        assert_eq!(failure(Some(0)), FIRST, "never shorter than pgwake's own");
        assert_eq!(failure(Some(60)), Duration::from_secs(60));
        assert_eq!(failure(Some(1_000_000)), RETRY_AFTER_MAX);
    }

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

    #[test]
    fn short_lives_are_failures_from_the_third_on_and_a_long_one_forgets_them() {
        let jitter = Jitter::from_bits(0);
        let reason: Arc<str> = "signal 9".into();
        let mut now = Instant::now();
        let mut lives = Lives::default();
        let mut failure = None;
        let mut live = |lives: &mut Lives, failure: &mut Option<Failure>, seconds| {
            lives.begin(failure.take(), now);
            now += Duration::from_secs(seconds);
            *failure = lives.end(&reason, jitter, now);
            failure.as_ref().map(|failure| failure.backoff(now))
        };
        let mut backoffs = [1, 4, 1, 1, 1]
            .map(|seconds| live(&mut lives, &mut failure, seconds))
            .into_iter();
        let mut next = || {
            backoffs
                .next()
                .unwrap()
                .map(|backoff| (backoff.in_a_row, backoff.again_in.as_millis()))
        };
        assert_eq!(
            [next(), next(), next(), next(), next()],
            [None, None, Some((1, 500)), Some((2, 1000)), Some((3, 2000))]
        );
        assert!(
            failure
                .as_ref()
                .unwrap()
                .reason()
                .contains("its last 5 starts: signal 9")
        );
        assert_eq!(live(&mut lives, &mut failure, 5), None);
        assert_eq!(live(&mut lives, &mut failure, 1), None);
        lives.begin(None, now);
        lives.stopped();
        assert!(lives.end(&reason, jitter, now).is_none(), "it does not run");
    }
}
