//! Transaction pooling under load: what holds for one client holds for thousands that share few server sessions,
//! while those sessions are ended, and the compute sleeps and crashes, beneath them.
//!
//! What is random comes from a seed that is printed; `PGWAKE_SEED=17` replays one, as far as threads and processes
//! let it. `PGWAKE_LOAD_SECONDS=600` lets the oracles run for longer.
#![expect(clippy::print_stdout, reason = "what a run was worth is told by its figures")]

mod benches;
mod chaos;
mod client;
mod course;
mod crowd;
mod fairness;
mod ledger;
mod parked;
mod pooled;
mod strangers;
mod turns;

use crate::harness::chance;
