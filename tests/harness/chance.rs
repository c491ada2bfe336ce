//! Where chance comes from, and how much of it a run is to have: `PGWAKE_SEED=17` replays a seed, as far as threads and
//! processes let it.
#![expect(clippy::print_stdout, reason = "a run is replayed by its seed")]

use std::{env, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A seed and all that is drawn from it.
pub(crate) struct Chance {
    seed: u64,
}

impl Chance {
    /// A fresh seed or the one that is asked for; printed.
    pub(crate) fn new() -> Self {
        let seed = number("PGWAKE_SEED").unwrap_or_else(|| rand::rng().random());
        println!("PGWAKE_SEED={seed}");
        Self { seed }
    }

    /// The numbers of one part of a test: the same for the same seed, whatever the other parts draw.
    pub(crate) fn of(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A time of up to `most` milliseconds.
pub(crate) fn up_to(random: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(random.random_range(0..=most))
}

/// The number in an environment variable.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}
