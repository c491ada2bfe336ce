//! What Postgres tells about itself in `postmaster.pid`.
//!
//! Its lines are: pid (negative for a single-user process), data directory, start time, port, first socket
//! folder, first TCP address, shared memory key, status
//! (<https://www.postgresql.org/docs/current/storage-file-layout.html>). Reading it costs the server nothing,
//! unlike a connection. Whether the pid still means that server is asked in `survey`.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use super::folder::Folder;

/// Its name inside the data directory.
pub(crate) const NAME: &str = "postmaster.pid";

/// More than Postgres ever writes: two paths and some numbers.
pub(crate) const BYTES_MAX: u64 = 16 * 1024;

/// The parts of the file that pgwake uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// Who wrote it.
    pub(crate) pid: Pid,
    /// A `postgres --single`, which serves nobody.
    pub(crate) single_user: bool,
    /// The socket file, once the server has made one.
    pub(crate) socket: Option<PathBuf>,
    /// How far it is.
    pub(crate) status: Status,
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing said yet, or `starting`.
    Starting,
    /// `ready`, or `standby`, which takes logins too.
    Ready,
    /// `stopping`.
    Stopping,
}

impl PidFile {
    /// Reads the file of a data directory; `None` where there is none or nothing is in it yet.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub(crate) fn read(data_dir: &Folder) -> io::Result<Option<Self>> {
        let text = data_dir.read(NAME, BYTES_MAX)?;
        Ok(text.as_deref().and_then(Self::parse))
    }

    /// Takes the text apart; also that of a socket's lock file, which begins with the same lines.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let number: i32 = lines.first()?.parse().ok()?;
        let port: Option<u16> = lines.get(3).and_then(|port| port.parse().ok());
        let folder = lines.get(4).filter(|folder| folder.starts_with('/'));
        Some(Self {
            pid: Pid::from_raw(number.checked_abs()?)?,
            single_user: number < 0,
            socket: folder
                .zip(port)
                .map(|(folder, port)| Path::new(folder).join(format!(".s.PGSQL.{port}"))),
            status: match lines.get(7) {
                Some(&"ready" | &"standby") => Status::Ready,
                Some(&"stopping") => Status::Stopping,
                _ => Status::Starting,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/data/demo\n1700000000\n5432\n/run/pgwake/demo\n\n  5432001 7\nready   \n";

    #[test]
    fn a_ready_server_tells_its_pid_and_socket() {
        let file = PidFile::parse(READY).unwrap();
        assert_eq!(file.pid.as_raw_nonzero().get(), 4711);
        assert_eq!(
            file.socket.as_deref(),
            Some(Path::new("/run/pgwake/demo/.s.PGSQL.5432"))
        );
        assert_eq!(file.status, Status::Ready);
        assert!(!file.single_user);
    }

    #[test]
    fn a_file_in_the_making_is_not_ready_however_it_is_cut() {
        let whole = PidFile::parse(READY);
        let complete = READY.trim_end().len();
        for end in 0..complete {
            let part = PidFile::parse(&READY[..end]);
            assert!(
                part.is_none_or(|file| file.status == Status::Starting),
                "cut at {end}"
            );
        }
        assert_eq!(PidFile::parse(&READY[..complete]), whole);
    }

    #[test]
    fn other_states_and_single_user_processes_are_told_apart() {
        let status = |word: &str| PidFile::parse(&READY.replace("ready   ", word)).unwrap().status;
        assert_eq!(status("standby "), Status::Ready);
        assert_eq!(status("stopping"), Status::Stopping);
        assert_eq!(status("starting"), Status::Starting);
        assert!(PidFile::parse("-4711\n/data\n").unwrap().single_user);
        assert_eq!(PidFile::parse("0\n"), None);
        assert_eq!(PidFile::parse("-2147483648\n"), None);
        assert_eq!(PidFile::parse("no number\n"), None);
    }

    #[test]
    fn a_missing_file_is_no_server_and_a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap().unwrap();
        assert_eq!(PidFile::read(&folder).unwrap(), None);
        std::os::unix::fs::symlink("/etc/passwd", place.path().join(NAME)).unwrap();
        PidFile::read(&folder).unwrap_err();
    }
}
