//! Which starts of a compute are gone: their generations rise, until the control plane counts anew.
//!
//! ```text
//!   counting ──told gone up to N──▶ counting, N gone ──answers with more──▶ as it was
//!                                         └──answers with N or less──▶ late at first; after LATE_MAX it counts anew
//! ```
//!
//! A control plane that was restored from a backup begins at a lower number than before. Whether it has is not told by the
//! number: an answer may have been overtaken by the event that the compute is gone. So an answer is believed against what
//! was told before only if its question was asked long after that. Time comes in as a number. Called by `seat`.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// An answer to a question that was asked so long after something was told knows of it.
pub(super) const LATE_MAX: Duration = Duration::from_secs(5);

/// What became of all starts when the counting began anew.
const COUNTED_ANEW: &str = "its control plane counts its starts anew";

/// What is told of an answer by its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not known to be gone.
    Current,
    /// It is gone, as far as can be told.
    Late,
    /// It is there, though this generation was gone: a new count has begun.
    Anew(u64),
}

/// Starts that are gone.
#[derive(Debug, Clone, Copy)]
struct Gone {
    up_to: u64,
    why: &'static str,
    told_at: Instant,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// How often it has begun anew.
    begun: u64,
    gone: Option<Gone>,
}

/// What is known of the count of one compute's starts.
#[derive(Debug, Default)]
pub(super) struct Counting(watch::Sender<Count>);

impl Counting {
    /// How an answer with this generation stands whose question was asked then.
    pub(super) fn stands(&self, generation: u64, asked_at: Instant) -> Standing {
        match self.0.borrow().gone {
            Some(gone) if generation <= gone.up_to => match asked_at < gone.told_at + LATE_MAX {
                true => Standing::Late,
                false => Standing::Anew(gone.up_to),
            },
            _ => Standing::Current,
        }
    }

    /// It is gone up to this generation.
    pub(super) fn note_gone(&self, up_to: u64, why: &'static str) {
        let told_at = Instant::now();
        // Events may be late: what is gone does not come back.
        self.0.send_if_modified(|count| {
            let is_news = count.gone.is_none_or(|gone| gone.up_to < up_to);
            if is_news {
                count.gone = Some(Gone { up_to, why, told_at });
            }
            is_news
        });
    }

    /// Nothing that was said of generations holds any more, and nothing that was started before is there.
    pub(super) fn begin_anew(&self) {
        self.0.send_modify(|count| {
            *count = Count {
                begun: count.begun + 1,
                gone: None,
            };
        });
    }

    /// Waits until this generation of the present count is gone, and says why. Cancel safe.
    pub(super) fn until_gone(&self, generation: u64) -> impl Future<Output = String> + Send + use<> {
        let mut counts = self.0.subscribe();
        let begun = counts.borrow().begun;
        async move {
            let why = |count: &Count| match count.gone {
                _ if count.begun != begun => Some(COUNTED_ANEW),
                Some(gone) if gone.up_to >= generation => Some(gone.why),
                _ => None,
            };
            let ended = counts.wait_for(|count| why(count).is_some()).await;
            match ended.ok().and_then(|count| why(&count)) {
                Some(why) => why.to_owned(),
                // Nobody tells any more.
                None => std::future::pending().await,
            }
        }
    }

    /// Whether somebody would hear of it.
    pub(super) fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gone(counting: &Counting, generation: u64) -> Option<String> {
        counting.until_gone(generation).now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_overtaken_is_late_and_a_later_one_begins_a_count() {
        let (counting, start) = (Counting::default(), Instant::now());
        assert_eq!(counting.stands(4, start), Standing::Current);
        tokio::time::advance(SECOND).await;
        counting.note_gone(4, "moved");
        let told = Instant::now();
        for (generation, asked_at, stands) in [
            (4, start, Standing::Late),
            (1, told, Standing::Late),
            (1, told + LATE_MAX - SECOND, Standing::Late),
            (1, told + LATE_MAX, Standing::Anew(4)),
            (4, told + LATE_MAX, Standing::Anew(4)),
            (5, start, Standing::Current),
        ] {
            assert_eq!(counting.stands(generation, asked_at), stands, "{generation}");
        }
        // What is told once more does not make it younger.
        tokio::time::advance(LATE_MAX).await;
        counting.note_gone(4, "again");
        counting.note_gone(3, "late");
        assert_eq!(counting.stands(2, Instant::now()), Standing::Anew(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_count_ends_what_was_there_and_begins_with_nothing_gone() {
        let counting = Counting::default();
        let of_before = counting.until_gone(9);
        counting.note_gone(4, "died");
        assert_eq!(gone(&counting, 4).as_deref(), Some("died"));
        counting.begin_anew();
        assert_eq!(of_before.now_or_never().as_deref(), Some(COUNTED_ANEW));
        assert_eq!(gone(&counting, 1), None);
        assert_eq!(counting.stands(1, Instant::now()), Standing::Current);
        counting.note_gone(1, "died");
        assert_eq!(gone(&counting, 1).as_deref(), Some("died"));
    }
}
