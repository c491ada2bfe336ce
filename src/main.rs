//! The `pgwake` program.

use std::process::ExitCode;

use tikv_jemalloc_ctl::{background_thread, max_background_threads};

/// Turns take and give back pieces that glibc's allocator is slow with, many at a time. Its background thread gives memory
/// back to the system when a storm of clients is over.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    begin_to_give_back();
    pgwake::cli::run()
}

/// By one thread, however many cores there are: while the system lets there be no more threads, jemalloc tries to begin a
/// second one without a pause, and writes a line of each try.
fn begin_to_give_back() {
    // Without the thread memory is given back by who allocates, a little later.
    let _ = max_background_threads::write(1).and_then(|()| background_thread::write(true));
}
