//! The `pgwake` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgwake::cli::run()
}
