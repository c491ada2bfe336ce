//! How pgwake's own process stands, as the system says (proc(5)).

use std::{fs, time::Duration};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::metrics::ProcessReading;

/// Everything; what cannot be read is zero.
pub(super) fn read() -> ProcessReading {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(cpu.tv_nsec).unwrap_or_default();
    ProcessReading {
        cpu: Duration::new(u64::try_from(cpu.tv_sec).unwrap_or_default(), nanoseconds),
        // In units of 1024 bytes.
        memory: number("VmRSS:").unwrap_or_default() * 1024,
        // One of them is the folder that is being read.
        files: fs::read_dir("/proc/self/fd").map_or(0, |files| (files.count() as u64).saturating_sub(1)),
        files_max: getrlimit(Resource::Nofile).current,
        threads: number("Threads:").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_threads() {
        let before = read();
        assert!(before.memory > 1024 * 1024, "{before:?}");
        assert!(before.threads >= 1 && before.files >= 3, "{before:?}");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(read().files >= before.files + 10, "{before:?}");
        drop(files);
    }
}
