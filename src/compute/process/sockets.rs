//! Where the servers' Unix sockets are: one short folder per endpoint, open to Postgres' user (and root) alone.
//!
//! Whoever can enter the folder can talk to the server, so a folder that is not provably private is refused
//! rather than repaired. No TCP port exists beside it. [`choose_base`] is called by `server`, the rest by
//! `process` before a start.

use std::{
    env, fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::{
    fs::{Access, access},
    process::geteuid,
};

use super::{
    ComputeError,
    account::{Account, we_are_root},
    folder::Folder,
    pid_file::{BYTES_MAX, PidFile},
    survey::serves,
};
use crate::ids::EndpointName;

/// The port only names the socket file: no TCP port is opened.
pub(crate) const PORT: u16 = 5432;

/// `sun_path` of `sockaddr_un` has 108 bytes, the last one for NUL (<https://man7.org/linux/man-pages/man7/unix.7.html>).
const PATH_BYTES_MAX: usize = 107;

/// The folder that holds all endpoints' socket folders: as configured, else a short one that is this user's and
/// this `state_dir`'s alone, so that two pgwakes do not meet.
pub(crate) fn choose_base(configured: Option<&Path>, state_dir: &Path) -> PathBuf {
    if let Some(base) = configured {
        return base.to_owned();
    }
    let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let hash = digest(&SHA256, state_dir.as_os_str().as_bytes());
    let name: String = hash.as_ref()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let uid = geteuid().as_raw();
    let runtime_dir = if we_are_root() {
        Some(PathBuf::from("/run"))
    } else {
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
    };
    runtime_dir
        .filter(|folder| folder.is_absolute() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok())
        .map(|folder| folder.join("pgwake").join(&name))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/pgwake-{uid}-{name}")))
}

/// One endpoint's folder, made and checked.
#[derive(Debug)]
pub(crate) struct SocketFolder {
    path: PathBuf,
}

impl SocketFolder {
    /// Makes the folder of `endpoint`, or checks the one that is there, and removes what a dead server left.
    ///
    /// # Errors
    /// The path is too long, the folder is open to others or belongs to somebody else, or a server of another
    /// data directory uses it.
    pub(crate) fn prepare(
        base: &Path,
        endpoint: &EndpointName,
        account: &Account,
    ) -> Result<Self, ComputeError> {
        let folder = Self {
            path: base.join(endpoint.as_str()),
        };
        let length = folder.socket().as_os_str().len();
        if length > PATH_BYTES_MAX {
            return Err(ComputeError::new(format!(
                "the socket path {} has {length} bytes, but {PATH_BYTES_MAX} are the limit: set a shorter folder for sockets",
                folder.socket().display()
            )));
        }
        make_base(base)?;
        account.check_enterable(base)?;
        let made = folder.make_private(base, account)?;
        folder.clear(&made)?;
        Ok(folder)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket file that Postgres makes in it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(socket_name())
    }

    fn make_private(&self, base: &Path, account: &Account) -> Result<Folder, ComputeError> {
        let failed = |action, error: io::Error| failed(action, &self.path, &error);
        let refused = |why: String| {
            ComputeError::new(format!(
                "the socket folder {} {why}: remove it, or choose another folder for sockets",
                self.path.display()
            ))
        };
        // A link on the way to the base is the operator's; in the base nobody else can make any.
        let base = base.canonicalize().and_then(|base| Folder::open(&base));
        let base = base.and_then(|base| base.ok_or_else(|| io::ErrorKind::NotFound.into()));
        let base = base.map_err(|error| failed("look at", error))?;
        let name = Path::new(self.path.file_name().unwrap_or_default());
        let folder = match base.make(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => base.enter(name),
            made => made,
        };
        let folder = match folder {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(refused("is not a folder".to_owned()));
            }
            folder => folder.map_err(|error| failed("make", error))?,
        };
        match account.heir() {
            Some(heir) if folder.meta().uid() == 0 && !is_open_to_others(&folder) => {
                folder.give_to(heir).map_err(|error| failed("give away", error))?;
            }
            _ => check_private(&folder, account).map_err(refused)?,
        }
        Ok(folder)
    }

    /// Postgres takes a dead server's socket for a live one's if its pid has come to mean another process.
    fn clear(&self, folder: &Folder) -> Result<(), ComputeError> {
        let (socket, lock) = (socket_name(), format!("{}.lock", socket_name()));
        // The same first lines as postmaster.pid: pid and data directory. What cannot be read is no server's.
        let Some(text) = folder.read(&lock, BYTES_MAX).unwrap_or(Some(String::new())) else {
            return Ok(());
        };
        let holder = PidFile::parse(&text).zip(text.lines().nth(1));
        if let Some((file, data_dir)) = holder
            && serves(file.pid, Path::new(data_dir))
        {
            return Err(ComputeError::new(format!(
                "the socket folder {} is in use by the postgres with pid {} of {data_dir}",
                self.path.display(),
                file.pid.as_raw_nonzero()
            )));
        }
        for stale in [socket, lock] {
            folder
                .remove(&stale)
                .map_err(|error| failed("clear", &self.path, &error))?;
        }
        Ok(())
    }
}

/// Removes the folder of `endpoint`, whose server has ended; nothing happens where there is none.
///
/// # Errors
/// The system's.
pub(crate) fn remove(base: &Path, endpoint: &EndpointName) -> io::Result<()> {
    // A link on the way to the base is the operator's.
    let base = match base.canonicalize() {
        Ok(base) => Folder::open(&base)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let name = Path::new(endpoint.as_str());
    base.map_or(Ok(()), |base| base.remove_all(name))
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// Checks that nobody but `account` (and root) can use or change what is in the folder.
///
/// # Errors
/// Says why somebody could, to be put behind the folder's name.
pub(crate) fn check_private(folder: &Folder, account: &Account) -> Result<(), String> {
    let meta = folder.meta();
    if is_open_to_others(folder) {
        let mode = meta.permissions().mode() & 0o7777;
        return Err(format!("is open to others (mode {mode:04o})"));
    }
    if meta.uid() != account.uid {
        return Err(format!(
            "belongs to the user with number {}, not to {account}",
            meta.uid()
        ));
    }
    Ok(())
}

/// Checks a socket that a server says it has: pgwake made neither it nor its folder.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_found(socket: &Path, account: &Account) -> Result<(), String> {
    let path = socket.parent().unwrap_or(Path::new("/"));
    let folder = path.canonicalize().and_then(|path| Folder::open(&path));
    match folder {
        Ok(Some(folder)) => {
            check_private(&folder, account)
                .map_err(|why| format!("its socket folder {} {why}", path.display()))?;
        }
        Ok(None) => return Err(format!("its socket folder {} is not there", path.display())),
        Err(error) => return Err(format!("its socket folder {}: {error}", path.display())),
    }
    if !socket.exists() {
        return Err(format!("its socket {} is not there", socket.display()));
    }
    Ok(())
}

fn is_open_to_others(folder: &Folder) -> bool {
    folder.meta().permissions().mode() & 0o077 != 0
}

/// Makes the base where it is missing; refuses one in which others could put folders of their own in place.
fn make_base(base: &Path) -> Result<(), ComputeError> {
    // Root's must let Postgres' user pass through, others' need not.
    let mode = if we_are_root() { 0o711 } else { 0o700 };
    make_folders(base, mode).map_err(|error| failed("make", base, &error))?;
    let meta = fs::symlink_metadata(base).map_err(|error| failed("look at", base, &error))?;
    let mode = meta.permissions().mode();
    let sticky = mode & 0o1000 != 0;
    let ours = [0, geteuid().as_raw()].contains(&meta.uid());
    if !meta.is_dir() || !ours || (mode & 0o022 != 0 && !sticky) {
        return Err(ComputeError::new(format!(
            "the folder for sockets {} (mode {:04o}, owner {}) is a link or could be changed by others: choose another",
            base.display(),
            mode & 0o7777,
            meta.uid()
        )));
    }
    Ok(())
}

/// Makes `folder` and what is missing above it, each with exactly `mode`, whatever the umask is.
pub(crate) fn make_folders(folder: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    for ancestor in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(mode).create(ancestor) {
            Ok(()) => fs::set_permissions(ancestor, fs::Permissions::from_mode(mode))?,
            // Somebody was faster, perhaps another compute of ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn failed(action: &str, path: &Path, error: &io::Error) -> ComputeError {
    ComputeError::new(format!(
        "cannot {action} the socket folder {}: {error}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn prepare(base: &Path) -> Result<SocketFolder, String> {
        let endpoint = EndpointName::parse("demo-main").unwrap();
        SocketFolder::prepare(base, &endpoint, &Account::ourselves()).map_err(|error| error.reason)
    }

    #[test]
    fn the_base_is_short_and_differs_by_state_dir() {
        let first = choose_base(None, Path::new("/var/lib/pgwake"));
        let second = choose_base(None, Path::new("/var/lib/other"));
        assert_ne!(first, second);
        assert_eq!(first, choose_base(None, Path::new("/var/lib/pgwake")));
        let longest = first.join("a".repeat(40)).join(".s.PGSQL.5432");
        assert!(
            longest.as_os_str().len() <= PATH_BYTES_MAX,
            "{}",
            longest.display()
        );
        assert_eq!(
            choose_base(Some(Path::new("/x")), Path::new("/y")),
            Path::new("/x")
        );
    }

    #[test]
    fn a_private_folder_is_made_and_taken_again() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("a/b");
        let folder = prepare(&base).unwrap();
        let mode = fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        prepare(&base).unwrap();
    }

    #[test]
    fn folders_that_others_could_use_or_change_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("demo-main");
        let other_place = tempfile::tempdir().unwrap();
        symlink(other_place.path(), &folder).unwrap();
        assert!(prepare(place.path()).unwrap_err().contains("not a folder"));
        fs::remove_file(&folder).unwrap();

        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            prepare(place.path())
                .unwrap_err()
                .contains("open to others (mode 0755)")
        );

        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            prepare(place.path())
                .unwrap_err()
                .contains("could be changed by others")
        );
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_before_anything_is_made() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("x".repeat(100));
        assert!(prepare(&base).unwrap_err().contains("107 are the limit"));
        assert!(!base.exists());
    }

    #[test]
    fn a_pipe_or_a_link_in_place_of_the_lock_is_removed_unread() {
        let place = tempfile::tempdir().unwrap();
        let folder = prepare(place.path()).unwrap();
        let lock = folder.path().join(".s.PGSQL.5432.lock");
        let made = std::process::Command::new("mkfifo").arg(&lock).status().unwrap();
        assert!(made.success());
        // Reading it would wait for ever.
        prepare(place.path()).unwrap();
        assert!(!lock.exists());

        let victim = place.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &lock).unwrap();
        prepare(place.path()).unwrap();
        assert!(fs::symlink_metadata(&lock).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn what_a_dead_server_left_is_removed_even_if_its_pid_lives_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = prepare(place.path()).unwrap();
        let lock = folder.path().join(".s.PGSQL.5432.lock");
        fs::write(folder.socket(), "").unwrap();
        fs::write(&lock, format!("{}\n/nonexistent\n1\n5432\n", std::process::id())).unwrap();
        prepare(place.path()).unwrap();
        assert!(!lock.exists());
        assert!(!folder.socket().exists());
    }
}
