//! The file that takes what Postgres writes to stdout and stderr, and the end of it when a start fails.
//!
//! A server holds the file open itself, also when pgwake has ended: so of a large one the end is copied, and the file is
//! emptied; what is written in between, some milliseconds, is lost. That is done before a start, after an end and each
//! second between them, because whoever may run SQL can write hundreds of megabytes in one. Where the server's own
//! configuration collects logs elsewhere, this file has only what comes before. Called by `process`, under the turn of a
//! data directory that is this pgwake's: of two that did it at once, one would keep what the other has emptied.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{lock::beside, sockets::make_folders};

/// Of a log larger than this so much of its end becomes `.1`, and the former `.1` goes: so a server takes about 20 MB and
/// what it writes between two looks.
const ROTATE_BYTES: u64 = 10 * 1000 * 1000;

/// What of the end is told: enough for a refused setting or a failed recovery with its context.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 8 * 1024;

/// One start's part of an endpoint's log.
#[derive(Debug)]
pub(crate) struct ServerLog {
    path: PathBuf,
    begin: u64,
}

impl ServerLog {
    /// Opens `<folder>/<name>.log` for appending, after setting its end aside if it is large.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(folder: &Path, name: &str) -> io::Result<(Self, File)> {
        Self::open_rotating(folder, name, ROTATE_BYTES)
    }

    fn open_rotating(folder: &Path, name: &str, rotate_bytes: u64) -> io::Result<(Self, File)> {
        make_folders(folder, 0o700)?;
        let path = log_path(folder, name);
        // Nobody is kept from starting because nothing of an earlier server's log could be kept.
        let _ = bound_rotating(&path, rotate_bytes);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        let begin = file.metadata()?.len();
        Ok((Self { path, begin }, file))
    }

    /// The last lines since this start; `None` where there are none.
    pub(crate) fn tail(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(self.begin.max(length.saturating_sub(TAIL_BYTES))))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
        last_lines(&String::from_utf8_lossy(&bytes))
    }
}

/// Keeps a log small, also that of a running server. It blocks: for one look, or for copying some megabytes.
///
/// # Errors
/// The end of the log could not be kept, as on a full disk, or the log could not be emptied.
pub(crate) fn bound(folder: &Path, name: &str) -> io::Result<()> {
    bound_rotating(&log_path(folder, name), ROTATE_BYTES)
}

fn bound_rotating(path: &Path, rotate_bytes: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > rotate_bytes => (),
        _ => return Ok(()),
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let kept = keep_end(&mut file, &beside(path, ".1"), rotate_bytes);
    // Also where nothing could be kept: a full disk is what this is against. The server appends, so it goes on at
    // the new end.
    file.set_len(0)?;
    kept
}

fn keep_end(file: &mut File, aside: &Path, bytes_max: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(aside)?;
    // More may come meanwhile, but not for ever.
    io::copy(&mut file.take(2 * bytes_max), &mut copy).map(drop)
}

/// Removes a log and what was set aside of it; nothing happens where there is none.
///
/// # Errors
/// The system's.
pub(crate) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    let path = log_path(folder, name);
    for path in [beside(&path, ".1"), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
    }
    Ok(())
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// The last lines of what a program wrote; `None` where it wrote nothing.
pub(crate) fn last_lines(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    (!tail.is_empty()).then_some(tail)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_this_starts_last_lines_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut before) = ServerLog::open(folder.path(), "demo").unwrap();
        writeln!(before, "of an earlier start").unwrap();
        let (log, mut file) = ServerLog::open(folder.path(), "demo").unwrap();
        assert_eq!(log.tail(), None);
        for line in 0..30 {
            writeln!(file, "line {line}\n").unwrap();
        }
        let tail = log.tail().unwrap();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert_eq!(tail.lines().last(), Some("line 29"));
    }

    #[test]
    fn only_the_end_of_a_large_log_is_set_aside_at_a_start() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["first", "the second", "third"] {
            let (_, mut file) = ServerLog::open_rotating(folder.path(), "demo", 4).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("demo.log"), "third");
        assert_eq!(read("demo.log.1"), "cond");
    }

    #[test]
    fn a_server_starts_although_nothing_of_its_large_log_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("demo.log"), "12345678").unwrap();
        fs::create_dir(folder.path().join("demo.log.1")).unwrap();
        ServerLog::open_rotating(folder.path(), "demo", 4).unwrap();
        assert_eq!(fs::read(folder.path().join("demo.log")).unwrap(), b"");
    }

    #[test]
    fn the_log_of_a_running_server_is_bounded_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = log_path(folder.path(), "demo");
        let (_, mut file) = ServerLog::open(folder.path(), "demo").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        file.write_all(b"1234").unwrap();
        bound_rotating(&path, 4).unwrap();
        assert_eq!(read(&path), "1234");
        file.write_all(b"5678").unwrap();
        bound_rotating(&path, 4).unwrap();
        assert_eq!(read(&path), "");
        assert_eq!(read(&beside(&path, ".1")), "5678");
        file.write_all(b"9").unwrap();
        assert_eq!(read(&path), "9", "no hole before it");
    }

    #[test]
    fn a_log_whose_end_cannot_be_kept_is_emptied_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = log_path(folder.path(), "demo");
        fs::write(&path, "12345678").unwrap();
        fs::create_dir(beside(&path, ".1")).unwrap();
        bound_rotating(&path, 4).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"");
        bound_rotating(&folder.path().join("missing.log"), 4).unwrap();
    }
}
