//! The lock that makes one pgwake own a data directory.
//!
//! A file beside the directory, locked as long as its [`DataDirLock`] lives; the file itself stays, because
//! removing it would let two processes lock two files of one name. Postgres' own lock file is not touched: it
//! lives only while the server does. Taken by `process` when a compute is built.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::ComputeError;

/// More than a pid: who can write into the folder may have put anything there.
const TEXT_BYTES_MAX: u64 = 32;

/// Holding it means that no other pgwake serves the data directory.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    file: File,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    /// Another process holds it; its pid is named.
    Taken(ComputeError),
    /// The system does not let it be made, as on a disk that is full or broken.
    Failed(ComputeError),
}

impl From<Unclaimed> for ComputeError {
    fn from(unclaimed: Unclaimed) -> Self {
        let (Unclaimed::Taken(error) | Unclaimed::Failed(error)) = unclaimed;
        error
    }
}

impl DataDirLock {
    /// Locks `<data_dir>.lock`.
    ///
    /// # Errors
    /// [`Unclaimed`].
    pub(crate) fn claim(data_dir: &Path) -> Result<Self, Unclaimed> {
        let path = beside(data_dir, ".lock");
        let failed = |error: io::Error| {
            Unclaimed::Failed(ComputeError::new(format!(
                "cannot lock {}: {error}",
                path.display()
            )))
        };
        // Root may work in a folder of somebody else: follow no link, and change no file that has other names.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(open(&path, flags, mode).map_err(|error| failed(error.into()))?);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(failed(io::Error::other("it is not an ordinary file of one name")));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Unclaimed::Taken(taken(&mut file, data_dir))),
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for DataDirLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child between fork and exec still has the file open for a moment.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// The path with `suffix` behind its last part.
pub(crate) fn beside(data_dir: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(data_dir);
    path.push(suffix);
    PathBuf::from(path)
}

fn taken(file: &mut File, data_dir: &Path) -> ComputeError {
    let mut text = String::new();
    let pid = file
        .take(TEXT_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse::<u32>().ok());
    let holder = pid.map_or_else(
        || "another pgwake".to_owned(),
        |pid| format!("pgwake with pid {pid}"),
    );
    ComputeError::new(format!(
        "data directory {} is already served by {holder}",
        data_dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_first_ones_pid_and_a_released_one_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("demo");
        let first = DataDirLock::claim(&data_dir).unwrap();
        let refused = ComputeError::from(DataDirLock::claim(&data_dir).unwrap_err()).reason;
        let pid = std::process::id();
        assert!(
            refused.ends_with(&format!("demo is already served by pgwake with pid {pid}")),
            "{refused}"
        );
        drop(first);
        DataDirLock::claim(&data_dir).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("soft.lock")).unwrap();
        std::fs::hard_link(&victim, folder.path().join("hard.lock")).unwrap();
        for name in ["soft", "hard"] {
            DataDirLock::claim(&folder.path().join(name)).unwrap_err();
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }
}
