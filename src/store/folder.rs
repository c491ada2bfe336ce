//! The folder itself: private, and ours alone.
//!
//! It does not know what the files in it mean. Called by [`super::Store::open`].

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::geteuid;

use super::StoreError;

/// Longest decimal process id, with room for the line's end.
const PID_BYTES_MAX: u64 = 16;
/// Milliseconds since 1970: nineteen digits, and the line's end.
const MILLIS_BYTES_MAX: u64 = 20;
/// Has them.
const RAN_UNTIL: &str = "ran-until";

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

/// A file that only its owner may read and write; made where it does not exist.
pub(super) fn private_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_at(path))
}

/// Makes the folder with mode 0700, its parents as the umask says.
pub(super) fn make_private(folder: &Path) -> Result<(), StoreError> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(io_at(parent))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_at(folder)(error)),
        _ => check_private(folder),
    }
}

/// That it is a folder, that nobody else may enter it, and that it is ours: whoever has it may change in it what he likes,
/// whatever its mode says.
pub(super) fn check_private(folder: &Path) -> Result<(), StoreError> {
    let found = fs::metadata(folder).map_err(io_at(folder))?;
    if !found.is_dir() {
        return Err(io_at(folder)(io::ErrorKind::NotADirectory.into()));
    }
    let (path, mode) = (folder.to_owned(), found.permissions().mode() & 0o7777);
    if mode & 0o077 != 0 {
        return Err(StoreError::Open { path, mode });
    }
    let (owner, ourselves) = (found.uid(), geteuid().as_raw());
    if owner != ourselves {
        return Err(StoreError::Foreign {
            path,
            owner,
            ourselves,
        });
    }
    Ok(())
}

/// Locks the folder for as long as the returned file lives, and writes our process id into it.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let mut file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            let path = folder.to_owned();
            let pid = written_pid(file);
            return Err(StoreError::InUse { path, pid });
        }
        Err(TryLockError::Error(error)) => return Err(io_at(&path)(error)),
    }
    write_pid(&mut file).map_err(io_at(&path))?;
    Ok(file)
}

/// When a pgwake that had the folder ran last; `None`: that was not written down.
pub(super) fn ran_until(folder: &Path) -> Option<SystemTime> {
    let mut text = String::new();
    let file = File::open(folder.join(RAN_UNTIL)).ok()?;
    file.take(MILLIS_BYTES_MAX).read_to_string(&mut text).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(text.trim().parse().ok()?))
}

/// It runs now. Written over what was there, which needs no room on the disk; after a crash of the machine it may be an
/// earlier time.
pub(super) fn note_running(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(RAN_UNTIL);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut file = private_file(&path)?;
    writeln!(file, "{:019}", now.as_millis()).map_err(io_at(&path))
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn written_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
