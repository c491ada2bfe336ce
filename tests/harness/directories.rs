//! Short temporary directories (a Unix socket's path has 107 bytes) and the one that test runs share.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::account::Account;

/// A directory like `/tmp/pgw-1a2b3c` that every user may enter; removed with all it holds.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    /// Owned by the user of the tests.
    pub(crate) fn new() -> Self {
        let open = fs::Permissions::from_mode(0o755);
        let made = tempfile::Builder::new()
            .prefix("pgw-")
            .permissions(open)
            .tempdir_in("/tmp");
        Self(made.unwrap())
    }

    /// Owned by the user that Postgres runs as.
    pub(crate) fn for_postgres() -> Self {
        let made = Self::new();
        if let Some(account) = Account::for_postgres() {
            account.own(made.path());
        }
        made
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// What costs time to make and is the same for every run, kept until `make clean`. It is not in cargo's target
/// directory because that may lie under a home that the user of Postgres cannot enter.
pub(crate) fn shared() -> PathBuf {
    let me = rustix::process::geteuid().as_raw();
    let path = PathBuf::from(format!("/tmp/pgwake-tests-{me}"));
    if let Err(error) = fs::create_dir(&path) {
        assert!(path.exists(), "{}: {error}", path.display());
    }
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(
        found.is_dir() && found.uid() == me,
        "{} is somebody else's",
        path.display()
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
