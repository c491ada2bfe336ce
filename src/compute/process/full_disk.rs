//! Whether a program of Postgres has failed for want of room on a disk: what it said last tells, or the disk itself.
//!
//! It frees nothing and foresees nothing: a server may start where little is left. Called by `process` and `data_dir`
//! after a failure, so that clients read what only somebody with a shell can change.

use std::path::Path;

use rustix::fs::statvfs;

use super::ComputeError;

/// Less than a page of Postgres: its first file, `postmaster.pid`, finds no room.
const PAGE_BYTES: u64 = 8 * 1024;

/// The system's words for ENOSPC and EDQUOT, as Postgres passes them on under every locale that speaks English, and its
/// own where a write fell short without an error.
const WORDS: [&str; 3] = [
    "No space left on device",
    "Disk quota exceeded",
    "Check free disk space",
];

/// What runs out with the same words and is no disk.
const NO_DISK: [&str; 2] = ["shared memory", "semaphore"];

/// `error`, whose reason begins with the disk where one was full; the program's last lines become its detail. It blocks
/// for two system calls.
pub(crate) fn told(mut error: ComputeError, said: Option<String>, data_dir: &Path) -> ComputeError {
    let is_said = said.as_deref().is_some_and(says);
    if is_said || is_full(data_dir) || is_full(&data_dir.join("pg_wal")) {
        error.reason = format!("the disk is full: {}", error.reason);
    }
    match said {
        Some(said) => error.with_detail(said),
        None => error,
    }
}

fn says(text: &str) -> bool {
    text.lines().any(|line| {
        WORDS.iter().any(|word| line.contains(word)) && !NO_DISK.iter().any(|word| line.contains(word))
    })
}

/// Its log may be on the same disk, or elsewhere, or speak another language. A file system without a number of files has
/// no end of them.
fn is_full(place: &Path) -> bool {
    statvfs(place).is_ok_and(|figures| {
        figures.f_bavail.saturating_mul(figures.f_frsize) < PAGE_BYTES
            || (figures.f_files > 0 && figures.f_favail == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_a_full_disk_are_known_and_those_for_other_shortages_are_not() {
        let pid_file = "FATAL:  could not write lock file \"postmaster.pid\": No space left on device";
        let quota = "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": Disk quota exceeded";
        let memory =
            "FATAL:  could not resize shared memory segment \"/PostgreSQL.7\": No space left on device";
        let semaphores = "FATAL:  could not create semaphores: No space left on device";
        assert!(says(pid_file) && says(quota));
        assert!(says(&format!("{memory}\n{pid_file}")));
        assert!(!says(memory) && !says(semaphores) && !says("FATAL:  could not map: Out of memory"));
    }

    #[test]
    fn a_reason_begins_with_the_disk_only_where_it_was_full() {
        let place = tempfile::tempdir().unwrap();
        let told = |said: Option<&str>, place: &Path| {
            let error = ComputeError::new("postgres ended");
            told(error, said.map(str::to_owned), place)
        };
        let full = told(Some("No space left on device"), place.path());
        assert_eq!(full.reason, "the disk is full: postgres ended");
        assert_eq!(full.detail.as_deref(), Some("No space left on device"));
        assert_eq!(told(Some("bad setting"), place.path()).reason, "postgres ended");
        let nowhere = told(None, &place.path().join("missing"));
        assert_eq!((&*nowhere.reason, nowhere.detail), ("postgres ended", None));
    }
}
