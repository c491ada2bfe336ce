//! The program as it is typed: what it says, what it returns, what it does to a second one of itself.

mod checking;
mod demonstrating;
mod doctoring;
mod doctoring_files;
mod hashing;
mod importing;
mod limits;
mod logging;
mod serving;
mod waiting;

use crate::harness::programs::Program;

/// The program with these arguments.
fn pgwake(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgwake")).arguments(arguments)
}
