//! What clients cost that are held on one endpoint: the memory of a pgwake in a process of its own.
//!
//! It prints the figure. `PGWAKE_HELD=9900 cargo test --test main waking::memory -- --nocapture` is what config/README.md
//! says; the bound that fails is far above it.

use std::fs;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::harness::{child::Pgwake, gate::Gate, gateway::Setup, processes, raw::Raw, wait::until};

const ENDPOINT: &str = "held-memory";
/// Kibibytes for each client.
const EACH_MAX: u64 = 160;
/// Who comes first, so that what exists once is there; and who is served in the end.
const FIRST: usize = 20;
/// So many log in at once, as long as it takes.
const AT_ONCE: usize = 16;

async fn held(pgwake: &Pgwake<'_>, count: usize) -> Vec<Raw> {
    let clients = stream::iter((0..count).map(|_| pgwake.raw_proved(ENDPOINT)));
    clients.buffer_unordered(AT_ONCE).collect().await
}

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn clients_that_are_held_cost_little_memory_and_leave_nothing_behind() {
    let count: usize = std::env::var("PGWAKE_HELD").map_or(300, |count| count.parse().unwrap());
    let setup = Setup::new().limit("clients_max = 100000");
    let mut gate = Gate::new(setup.path());
    gate.close();
    let setup = setup.gated(ENDPOINT, &gate, "hold_timeout = \"30m\"\nstart_timeout = \"30m\"");
    let pgwake = Pgwake::start(&setup).await;
    let pid = pgwake.running.pid();
    let mut first = held(&pgwake, FIRST).await;
    let (before, files) = (resident(pid), processes::open_files(pid));
    let began = Instant::now();

    let clients = held(&pgwake, count).await;

    let after = resident(pid);
    let each = after.saturating_sub(before) as f64 / count as f64;
    println!(
        "{count} clients held: {after} KiB in all, {each:.1} KiB each; they came in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    assert!(each <= EACH_MAX as f64, "{each} KiB each");
    drop(clients);
    until("those who left to be gone", async || {
        processes::open_files(pid) <= files
    })
    .await;
    let left = Instant::now();
    gate.open();
    for client in &mut first {
        client.until(b'Z').await;
    }
    println!(
        "the first {FIRST} served {:?} after the gate opened",
        left.elapsed()
    );
    drop(first);
    pgwake.signal(rustix::process::Signal::TERM);
    pgwake.end().await;
}
