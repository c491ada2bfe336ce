//! All integration tests, one binary: what each module proves stands at its head.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod branching;
mod cancelling;
mod coming_in;
mod command_line;
mod commanding;
mod controlling;
mod deploying;
mod ending;
mod harness;
mod operating;
mod pooling;
mod pooling_load;
mod quotas;
mod reloading;
mod replacing;
mod serving;
mod sleeping;
#[expect(dead_code, reason = "the long form belongs to the matrix")]
mod suites;
mod waking;
mod who_it_is;
