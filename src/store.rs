//! What must survive a restart, in `state_dir`: the secret behind mock logins, the roles read
//! from Postgres and which server that was, what operators have ordered until further notice, which branches there are,
//! which data directories have been in use, and which computes elsewhere are awake.
//!
//! One small embedded database (`state.redb`) and one lock file, so that a folder belongs to one pgwake at a
//! time. It decides nothing: what a role may do is `auth`'s work. It is synchronous and writes to disk: on a
//! runtime, call it through `spawn_blocking`. Who calls: `server` opens it, `auth` remembers roles in it,
//! `admin` orders, `branches` branches, `compute` data directories.

mod awake;
mod branches;
pub mod control;
mod data_dirs;
mod folder;
mod opened;
mod tables;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use self::opened::Opened;
use crate::ids::{EndpointName, Secret, SystemIdentifier};

/// Version of the tables in `state.redb`. A file with a higher one is refused.
const VERSION: u32 = 1;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder is not a folder, or cannot be made, read or written.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What was being opened, read or written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Others than the owner may enter the folder.
    #[error(
        "state_dir {} can be entered by others (mode {mode:04o}), and holds secrets: if it is for pgwake alone, run \
         `chmod 700 {}`; otherwise name another folder",
        path.display(),
        path.display()
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The folder is another user's, who may change what is in it.
    #[error(
        "state_dir {} belongs to the user with number {owner}, and pgwake runs as {ourselves}: \
         run it as that user, or `chown -R {ourselves} {}`",
        path.display(),
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who this is.
        ourselves: u32,
    },
    /// Another pgwake has the folder.
    #[error(
        "state_dir {} belongs to a pgwake that is running{}: stop it, or give this one a state_dir of its own",
        path.display(),
        pid.map(|pid| format!(" with pid {pid}")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other one's process id, once it has written it down.
        pid: Option<u32>,
    },
    /// Another pgwake takes this one's place, or has.
    #[error("{} is the pgwake's that takes this one's place", .0.display())]
    Ceded(PathBuf),
    /// A later pgwake wrote the file.
    #[error(
        "{} was written by a newer pgwake (version {found}, this one knows {VERSION}): \
         run that one, or move the file away to start anew",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is not what pgwake wrote.
    #[error(
        "{} is damaged ({reason}): restore it from a backup, or move it away to start anew; \
         roles are then read from Postgres again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database says.
        reason: String,
    },
}

/// 32 random bytes that mock salts are derived from. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MockSecret([u8; 32]);

impl MockSecret {
    /// The bytes; the caller keeps them out of logs and errors.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MockSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A role as a server's `pg_authid` has it
/// (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRole {
    /// `rolname`.
    pub name: String,
    /// `rolpassword` as it is stored; `None` where the role has no password.
    pub verifier: Option<Secret>,
    /// `rolcanlogin`.
    pub can_login: bool,
    /// `rolvaliduntil` in seconds since 1970; `None` where it is not set or `infinity`.
    pub valid_until: Option<i64>,
}

/// What was last read from an endpoint's Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// All roles, ordered by name; may be empty.
    pub roles: Vec<ReadRole>,
    /// Which server they were read from, if it has told that.
    pub server: Option<SystemIdentifier>,
}

/// What an operator has ordered of an endpoint until further notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StandingOrders {
    /// Its clients get no compute.
    pub is_disabled: bool,
    /// Transaction pooling lends no server session.
    pub is_paused: bool,
}

/// How far a branch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchState {
    /// It is being made: after a crash there may be half of it.
    Making,
    /// It is whole.
    Ready,
    /// It is being removed.
    Leaving,
}

/// A branch of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRecord {
    /// Its endpoint's name, `PARENT--NAME`.
    pub name: EndpointName,
    /// Its data directory, in full.
    pub data_dir: PathBuf,
    /// How far it has come.
    pub state: BranchState,
    /// When it was made, or last reset; to the millisecond.
    pub made: SystemTime,
    /// When it was last used, as far as that was noted.
    pub used: SystemTime,
    /// It is removed when nobody has used it for so long; whole milliseconds.
    pub ttl: Option<Duration>,
    /// What a plain copy of it would have taken when it was made.
    pub bytes: u64,
}

/// The opened state. Dropping it gives the folder up; see also [`Store::close`].
pub struct Store {
    path: PathBuf,
    state_dir: PathBuf,
    opened: Opened,
    mock_secret: MockSecret,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the state in `state_dir`, which is made (0700) where it does not exist, and locks it. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] names the folder or file and what to do about it.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        folder::make_private(state_dir)?;
        let lock = folder::lock(state_dir)?;
        let path = state_dir.join("state.redb");
        let database = tables::open(&path)?;
        let mock_secret = tables::prepare(&database).map_err(|failure| failure.at(&path))?;
        Ok(Self {
            path,
            state_dir: state_dir.to_owned(),
            opened: Opened::new(lock, database),
            mock_secret,
        })
    }

    /// Whether the folder, if there is one, is private and of the user who asks. Blocking.
    ///
    /// # Errors
    /// What is to be done about it.
    pub fn check_folder(state_dir: &Path) -> Result<(), StoreError> {
        match state_dir.exists() {
            true => folder::check_private(state_dir),
            false => Ok(()),
        }
    }

    /// The secret behind mock logins: made once, the same for as long as the file lives.
    pub fn mock_secret(&self) -> MockSecret {
        self.mock_secret.clone()
    }

    /// What was last read of this endpoint's roles; `None`: it was never read. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn remembered_roles(&self, endpoint: &EndpointName) -> Result<Option<Remembered>, StoreError> {
        self.read(|database| tables::remembered_roles(database, endpoint.as_str()))
    }

    /// What operators have ordered of endpoints, by name; those without an order are left out. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn orders(&self) -> Result<BTreeMap<String, StandingOrders>, StoreError> {
        self.read(tables::orders)
    }

    /// Changes what is ordered of an endpoint; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was ordered before stands there.
    pub fn change_orders(
        &self,
        endpoint: &EndpointName,
        change: impl FnOnce(&mut StandingOrders),
    ) -> Result<(), StoreError> {
        self.write(|database| tables::change_orders(database, endpoint.as_str(), change))
    }

    /// All branches, by name. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn branches(&self) -> Result<Vec<BranchRecord>, StoreError> {
        self.read(branches::all)
    }

    /// Puts a branch in the place of what was known of it; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn put_branch(&self, branch: &BranchRecord) -> Result<(), StoreError> {
        self.write(|database| branches::put(database, branch))
    }

    /// When branches were used last; on disk when it returns. Of those that are not known any more nothing is kept. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn note_branch_uses(&self, uses: &[(EndpointName, SystemTime)]) -> Result<(), StoreError> {
        self.write(|database| branches::note_uses(database, uses))
    }

    /// Computes elsewhere that were awake when that was last noted. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn awake(&self) -> Result<Vec<EndpointName>, StoreError> {
        self.read(awake::all)
    }

    /// Those with `true` are awake from now on, the others are not; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn note_awake(&self, news: &[(EndpointName, bool)]) -> Result<(), StoreError> {
        self.write(|database| awake::note(database, news))
    }

    /// When a pgwake that had this folder ran last, as far as it has said so by [`Store::note_running`]. Blocking.
    pub fn ran_until(&self) -> Option<SystemTime> {
        folder::ran_until(&self.state_dir)
    }

    /// It runs now. Blocking.
    ///
    /// # Errors
    /// It cannot be written down, or the folder is another pgwake's.
    pub fn note_running(&self) -> Result<(), StoreError> {
        self.read(|_| Ok(()))?;
        folder::note_running(&self.state_dir)
    }

    /// Forgets a branch, its roles and what was ordered of it; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn forget_branch(&self, name: &EndpointName) -> Result<(), StoreError> {
        self.write(|database| branches::forget(database, name.as_str()))
    }

    /// The data directory that this endpoint's Postgres was last started in; `None`: it never was. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn data_dir(&self, endpoint: &EndpointName) -> Result<Option<PathBuf>, StoreError> {
        self.read(|database| data_dirs::of(database, endpoint.as_str()))
    }

    /// This endpoint's Postgres is started in that data directory; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn remember_data_dir(&self, endpoint: &EndpointName, data_dir: &Path) -> Result<(), StoreError> {
        self.write(|database| data_dirs::put(database, endpoint.as_str(), data_dir))
    }

    /// The endpoint begins anew: its data directory may be made where it is missing; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was known before stands.
    pub fn forget_data_dir(&self, endpoint: &EndpointName) -> Result<(), StoreError> {
        self.write(|database| data_dirs::forget(database, endpoint.as_str()))
    }

    /// Replaces what is remembered of this endpoint's roles, and from which server they are; on disk when it returns.
    /// Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was remembered before stands.
    pub fn remember_roles(
        &self,
        endpoint: &EndpointName,
        roles: &[ReadRole],
        server: Option<SystemIdentifier>,
    ) -> Result<(), StoreError> {
        self.write(|database| tables::remember_roles(database, endpoint.as_str(), (roles, server)))
    }

    /// Forgets which server an endpoint has, and no role; on disk when it returns. Blocking.
    ///
    /// # Errors
    /// Where the file cannot be written; what was remembered before stands.
    pub fn forget_server(&self, endpoint: &EndpointName) -> Result<(), StoreError> {
        self.write(|database| tables::forget_server(database, endpoint.as_str()))
    }
}

#[cfg(test)]
mod tests;
