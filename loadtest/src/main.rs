//! `pgwake-loadtest`: what a Postgres proxy costs, and what a wake feels like, at any targets side by side.
//!
//! In reading order: the protocol (`wire`, `scram`, `connection`, `workload`), clients and their counts (`crew`,
//! `tally`, `rounds`, `process`), the scenarios, what becomes of the counts (`results`, `figures`, `report`,
//! `compare`), and `bench`, which sets everything up by itself.

mod bench;
mod cli;
mod compare;
mod connection;
mod crew;
mod failure;
mod figures;
mod machine;
mod process;
mod progress;
mod report;
mod results;
mod rounds;
mod scenario;
mod scram;
mod tally;
mod target;
mod value;
mod wire;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
