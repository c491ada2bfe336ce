//! How long a test that plays with chance goes on: for its time, and on a slow machine until enough has happened.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::chance::number;

/// Where nobody asks for more.
const SECONDS: u64 = 10;
/// By then a machine that is alive at all has done enough.
const OVERTIME: Duration = Duration::from_secs(90);

/// One test's.
pub(super) struct Course {
    end: Instant,
    work: Enough,
    blows: Enough,
}

/// What must happen so that it means something that nothing went wrong.
struct Enough {
    what: &'static str,
    min: usize,
    count: AtomicUsize,
}

impl Course {
    /// It begins now. At least so much work must succeed, and so many blows hit something.
    pub(super) fn new(work_min: usize, blows_min: usize) -> Self {
        Self::for_seconds(SECONDS, work_min, blows_min)
    }

    /// The same for another time where nobody asks for more.
    pub(super) fn for_seconds(seconds: u64, work_min: usize, blows_min: usize) -> Self {
        let seconds = number("PGWAKE_LOAD_SECONDS").unwrap_or(seconds);
        let enough = |what, min| Enough {
            what,
            min,
            count: AtomicUsize::new(0),
        };
        Self {
            end: Instant::now() + Duration::from_secs(seconds),
            work: enough("pieces of work", work_min),
            blows: enough("blows", blows_min),
        }
    }

    /// Whether to do one thing more.
    pub(super) fn goes_on(&self) -> bool {
        let now = Instant::now();
        let is_enough = self.work.is_there() && self.blows.is_there();
        now < self.end || (!is_enough && now < self.end + OVERTIME)
    }

    /// A piece of work has succeeded.
    pub(super) fn worked(&self) {
        self.work.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A blow has hit something.
    pub(super) fn struck(&self) {
        self.blows.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Panics where too little has happened.
    pub(super) fn check(&self) {
        for enough in [&self.work, &self.blows] {
            let Enough { what, min, count } = enough;
            assert!(
                enough.is_there(),
                "only {count:?} {what} of {min}: this proves little"
            );
        }
    }
}

impl Enough {
    fn is_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.min
    }
}
