//! Where all processes of the machine stand, looked at once for many data directories.
//!
//! Looking costs a system call per process. When pgwake starts, every data directory has to be looked at, and all
//! of them can be answered from one look. It only says where nobody is; who is somewhere, and what to do about it,
//! is `survey`'s. Called by `turn`.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rustix::io::Errno;

use super::{folder::Folder, survey::pids};

/// The last look. One for the whole program, as there is one `/proc`.
static LAST: Mutex<Option<Census>> = Mutex::new(None);

struct Census {
    /// When it began.
    began: Instant,
    /// Device and inode.
    folders: HashSet<(u64, u64)>,
}

/// Whether at some moment after `since` no process stood in `folder`, as far as pgwake may see processes. It looks
/// only where the last look was earlier, and lets others wait for its answer meanwhile. It blocks.
///
/// # Errors
/// It cannot be told.
pub(crate) fn nobody_in(folder: &Folder, since: Instant) -> io::Result<bool> {
    let meta = folder.meta();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let census = match last.take().filter(|census| census.began > since) {
        Some(census) => census,
        None => Census::take()?,
    };
    Ok(!last.insert(census).folders.contains(&(meta.dev(), meta.ino())))
}

impl Census {
    fn take() -> io::Result<Self> {
        let began = Instant::now();
        let mut folders = HashSet::new();
        for pid in pids()? {
            match fs::metadata(format!("/proc/{}/cwd", pid.as_raw_nonzero())) {
                Ok(meta) => {
                    folders.insert((meta.dev(), meta.ino()));
                }
                // One that is ending has given up its files before its folder. Those of other users may stand
                // anywhere; a launch warns of that.
                Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => (),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { began, folders })
    }
}

/// Whether an error of `/proc` means that the process has ended, also one that its parent has not forgotten yet.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_look_counts_only_for_those_who_asked_before_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap().unwrap();
        let before = Instant::now();
        assert!(nobody_in(&folder, before).unwrap());

        let mut child = Command::new("sleep")
            .arg("1000")
            .current_dir(place.path())
            .spawn()
            .unwrap();
        let after = Instant::now();
        assert!(!nobody_in(&folder, after).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(nobody_in(&folder, Instant::now()).unwrap());
    }

    #[test]
    fn one_look_answers_for_many_folders() {
        let places: Vec<_> = (0..50).map(|_| tempfile::tempdir().unwrap()).collect();
        let since = Instant::now();
        let mut looks = HashSet::new();
        for place in &places {
            let folder = Folder::open(place.path()).unwrap().unwrap();
            assert!(nobody_in(&folder, since).unwrap());
            looks.insert(LAST.lock().unwrap().as_ref().unwrap().began);
        }
        // Other tests may look, too.
        assert!(looks.len() < places.len() / 2, "{}", looks.len());
    }
}
