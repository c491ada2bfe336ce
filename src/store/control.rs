//! The socket in `state_dir` by which commands speak to the pgwake that serves it.
//!
//! The folder lets nobody in but its owner and root, so whoever reaches the socket may order everything. What is spoken there
//! is `admin`'s affair. Called by `server` and `cli`.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

const NAME: &str = "control";

/// Listens; whoever has the folder's lock may. One that a dead pgwake has left is removed.
///
/// # Errors
/// The system's.
pub fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    let (_folder, path) = free(state_dir, NAME)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Reaches the pgwake that serves this folder.
///
/// # Errors
/// The system's: `NotFound` and `ConnectionRefused` where none does.
pub fn connect(state_dir: &Path) -> io::Result<UnixStream> {
    let (_folder, path) = short(state_dir, NAME)?;
    UnixStream::connect(path)
}

/// Where a socket of this name may be made; one that a dead pgwake has left is removed.
///
/// # Errors
/// The system's.
pub fn free(state_dir: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let (folder, path) = short(state_dir, name)?;
    match fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(&path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    Ok((folder, path))
}

/// A path by way of the open folder, as long as that lives: one of a socket has at most 107 bytes, and that of a folder may
/// have more.
///
/// # Errors
/// The system's.
pub fn short(state_dir: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let folder = File::open(state_dir)?;
    let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_length_has_a_socket_that_outlives_no_pgwake() {
        let place = tempfile::tempdir().unwrap();
        let long = place.path().join("long-".repeat(30));
        fs::create_dir(&long).unwrap();
        let refused = connect(&long).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        let listener = listen(&long).unwrap();
        connect(&long).unwrap();
        let mode = fs::metadata(long.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert_eq!(
            connect(&long).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let _listener = listen(&long).unwrap();
        connect(&long).unwrap();
    }

    #[test]
    fn a_file_in_the_sockets_place_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(NAME), "precious").unwrap();
        listen(place.path()).unwrap_err();
        assert_eq!(fs::read_to_string(place.path().join(NAME)).unwrap(), "precious");
    }
}
