//! What the system knows of a process: its CPU time and its memory.
//!
//! CPU time is the least noisy figure that a shared machine gives: others make a process wait, not work.

use std::{collections::HashMap, fs, time::Duration};

use serde::{Deserialize, Serialize};

/// Ticks of `/proc/…/stat` per second (`USER_HZ`, the same on all of Linux).
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct CpuTime {
    /// Nanoseconds of each thread.
    threads: HashMap<String, u64>,
    /// All of it, of ended threads too, in ticks.
    ticks: u64,
}

impl CpuTime {
    /// Reads it; `None` where the process has gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may have blanks in it; user and system time are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let mut threads = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let Some(time) = text.split(' ').next().and_then(|time| time.parse().ok()) {
                threads.insert(thread.file_name().to_string_lossy().into_owned(), time);
            }
        }
        Some(Self { threads, ticks })
    }

    /// What was used since. Threads are counted to the nanosecond; what threads used that have ended meanwhile is
    /// known in ticks alone, and only counted where it is more than their rounding.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used = |(thread, time): (&String, &u64)| {
            time.saturating_sub(before.threads.get(thread).copied().unwrap_or(0))
        };
        let exact = Duration::from_nanos(self.threads.iter().map(used).sum());
        let ticks = u32::try_from(self.ticks.saturating_sub(before.ticks)).unwrap_or(u32::MAX);
        let coarse = TICK.saturating_mul(ticks);
        if coarse > exact + TICK * 3 { coarse } else { exact }
    }
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
}

impl Memory {
    /// Reads it; `None` where the process has gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self { resident })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process, time::Instant};

    #[test]
    fn work_is_counted_and_rest_is_not() {
        let before = CpuTime::of(process::id()).unwrap();
        let worked = std::thread::spawn(|| {
            let until = Instant::now() + Duration::from_millis(200);
            let mut rounds = 0_u64;
            while Instant::now() < until {
                rounds += 1;
            }
            rounds
        });
        assert!(worked.join().unwrap() > 0);
        let used = CpuTime::of(process::id()).unwrap().since(&before);
        // Others may have had the processor; what an ended thread used is known to a tick.
        assert!(used > Duration::from_millis(20), "{used:?}");
        assert!(Memory::of(process::id()).unwrap().resident > 1000.0);
        assert!(CpuTime::of(u32::MAX).is_none());
    }
}
