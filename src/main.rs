//! The `pgwake` program.

use std::process::ExitCode;

/// Turns take and give back pieces that glibc's allocator is slow with, many at a time. Its background thread gives memory
/// back to the system when a storm of clients is over.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pgwake::cli::run()
}
