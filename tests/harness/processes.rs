//! A look at the process table: who works in a directory, how many files a process has open, is it gone.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use super::wait::until;

/// One process as `/proc` shows it.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: i32,
    /// Its command line; Postgres tells there what a backend does.
    pub(crate) command: String,
}

/// All processes whose working directory is `directory`: of a data directory, its postmaster and all backends,
/// orphans too. Processes that end while this looks are left out.
pub(crate) fn in_directory(directory: &Path) -> Vec<Process> {
    let directory = &directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    // After its removal a directory is shown with a suffix; its processes are still its own.
    let removed = format!("{} (deleted)", directory.display());
    let works_there = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd"))
            .is_ok_and(|cwd| cwd == *directory || cwd.as_os_str() == removed.as_str())
    };
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(works_there)
        .map(|pid| Process {
            pid,
            command: command(pid),
        })
        .collect()
}

/// The number of the first process of the server on a data directory, as its pid file says.
pub(crate) fn postmaster(data_dir: &Path) -> i32 {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// The process in `directory` whose command line contains `part`; panics where there is not exactly one.
pub(crate) fn the(directory: &Path, part: &str) -> i32 {
    let all = in_directory(directory);
    let mut found = all.iter().filter(|process| process.command.contains(part));
    match (found.next(), found.next()) {
        (Some(process), None) => process.pid,
        _ => panic!("not one {part:?} in {all:?}"),
    }
}

/// The first processes of servers in a data directory: all others of a server have a title in place of arguments.
pub(crate) fn postmasters(data_dir: &Path) -> Vec<i32> {
    let all = in_directory(data_dir).into_iter();
    all.filter(|process| process.command.contains("/postgres -D "))
        .map(|process| process.pid)
        .collect()
}

fn command(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// How many files, sockets and pipes a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Sends a signal; that the process is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let sent = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
    assert!(
        matches!(sent, Some(Ok(()) | Err(rustix::io::Errno::SRCH))),
        "signal to {pid}: {sent:?}"
    );
}

/// Waits until nobody works in `directory`: of a data directory, until its compute is suspended.
pub(crate) async fn none_in(directory: &Path) {
    until("the compute to be suspended", async || {
        in_directory(directory).is_empty()
    })
    .await;
}

/// Waits without a runtime until a process has ended (a child may still have to be reaped); says whether it did.
pub(crate) fn ended_within(pid: i32, limit: Duration) -> bool {
    let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Ends by force whatever works in `directory`, and waits until it is gone. For `Drop`, so it does not panic.
pub(crate) fn kill_all_in(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let left = in_directory(directory);
        if left.is_empty() {
            return;
        }
        for process in left {
            signal(process.pid, Signal::KILL);
            ended_within(process.pid, Duration::from_secs(1));
        }
    }
}
