//! The pgwake that commands speak to: by which `state_dir` it is found, and why it cannot be reached.
//!
//! What is said to it is the commands' own affair. Called by `branch` and `replace`.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::config::{Problems, load};

/// Where the examples of the guide have it.
const STATE_DIR_DEFAULT: &str = "/var/lib/pgwake";

/// Why nothing could be said to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// Nobody is there.
    #[error(
        "no pgwake serves {}: start it (`pgwake serve --config FILE`), or name its configuration with --config",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The folder is closed to this user.
    #[error("cannot reach the pgwake that serves {}: {error} (run this as pgwake's own user, or root)", path.display())]
    Closed {
        /// Its state_dir.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl Unreached {
    /// What the system said when its socket was asked for.
    pub(super) fn new(state_dir: &Path, error: io::Error) -> Self {
        let path = state_dir.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotRunning(path),
            _ => Self::Closed { path, error },
        }
    }
}

/// Its state_dir, by what the arguments name.
///
/// # Errors
/// The configuration is wrong.
pub(super) fn state_dir(config: Option<&PathBuf>, named: Option<&PathBuf>) -> Result<PathBuf, Problems> {
    Ok(match (config, named) {
        (Some(file), _) => load(file)?.config.state_dir,
        (None, Some(state_dir)) => state_dir.clone(),
        (None, None) => PathBuf::from(STATE_DIR_DEFAULT),
    })
}
