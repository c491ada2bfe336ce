//! Branches: a data directory that is a copy of another one, from a moment at which that one was consistent.
//!
//! **Where.** The branches of `/data/main` are in `/data/main.branches`, so that they share its file system and can be
//! clones (copy on write) where that knows how. One is made as `NAME.copy` and renamed to `NAME` when it is whole and on
//! the disk; one that goes is renamed to `NAME.gone` first. So nothing half-made is ever taken for a database, and what
//! a crash leaves behind is known by its name.
//!
//! **From what.** While nothing runs, the files are the database: they are copied while the parent's turn is held, which
//! every start and stop needs. Whoever wants that turn (a client that wakes the parent) gets it at once: the copy
//! is given up between two chunks, and made of the running parent instead. So a parent is never held up by its
//! branches. While it runs, its files are copied between `pg_backup_start` and `pg_backup_stop`, `pg_control` last, then
//! the WAL of that time, which a temporary slot keeps from being recycled; the backup's label makes the branch's first
//! start replay it (<https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP>).
//! The parent's clients notice a checkpoint and nothing else.
//!
//! **What not.** Pid and lock files, sockets, logs, replication slots, temporary files, and what Postgres makes anew at
//! each start. Tablespaces and other links are refused: what is behind them would be shared with the parent.
//!
//! It speaks to no server and keeps no list: the branch room above begins and ends backups and knows which branches there
//! are. Here are files alone.

mod copy;
mod place;

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Mutex;

use super::{
    ComputeError, blocking,
    folder::Folder,
    lock::beside,
    site::Site,
    survey::{Found, end_residents, survey},
    turn::{Turn, held_by},
};
use crate::ids::BranchName;
use copy::{Copier, Way};
pub(crate) use place::BranchPlace;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// Somebody wakes the parent, or stops it.
    #[error("the parent is wanted")]
    Wanted,
    /// It runs: its files alone are no database.
    #[error("the parent runs")]
    Awake,
    /// Who had ordered the copy does not want it any more.
    #[error("given up")]
    GivenUp,
    /// The disk, or a quota of it, is full.
    #[error("the disk is full")]
    NoRoom,
    /// It was never awake.
    #[error("the parent has no data yet")]
    Empty,
    /// This data directory cannot have branches.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] ComputeError),
}

impl CopyError {
    /// What the system says about what was tried.
    fn of(what: &str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom,
            _ => ComputeError::new(format!("cannot {what} {}: {error}", path.display())).into(),
        }
    }
}

/// Ends a copy that nobody wants any more, and knows how far it has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct GiveUp {
    ordered: Arc<AtomicBool>,
    copied: Arc<AtomicU64>,
}

impl GiveUp {
    /// The copy ends between two chunks.
    pub(crate) fn order(&self) {
        self.ordered.store(true, Ordering::Relaxed);
    }

    /// How many bytes have been copied, but for a chunk.
    pub(crate) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// So many have; whether it is to end.
    fn is_ordered(&self, copied: u64) -> bool {
        self.copied.store(copied, Ordering::Relaxed);
        self.ordered.load(Ordering::Relaxed)
    }
}

/// How many want a data directory's turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted(Arc<AtomicUsize>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Wanting(Wanted);

impl Wanted {
    /// One more, as long as it lives.
    pub(crate) fn want(&self) -> Wanting {
        self.0.fetch_add(1, Ordering::Relaxed);
        Wanting(self.clone())
    }

    fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a branch would take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// All that would be copied.
    pub(crate) bytes: u64,
    /// Whether the file system shares blocks between the two, so that the copy takes neither time nor room.
    pub(crate) is_clone: bool,
}

impl Measured {
    /// How many bytes a copy takes of the disk.
    pub(crate) fn takes(self) -> u64 {
        if self.is_clone { 0 } else { self.bytes }
    }
}

/// What is free for branches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// On which file system.
    pub(crate) file_system: u64,
    /// How many bytes.
    pub(crate) free: u64,
}

/// A data directory that branches are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) site: Arc<Site>,
    pub(super) turn: Arc<Mutex<Turn>>,
    pub(super) wanted: Wanted,
}

impl Source {
    /// Where the branch of this name is.
    pub(crate) fn data_dir_of(&self, branch: &BranchName) -> PathBuf {
        beside(&self.site.data_dir, ".branches").join(branch.as_str())
    }

    /// Looks how much is free where branches are made. Makes the folder for them.
    ///
    /// # Errors
    /// It cannot be told.
    pub(crate) async fn room(&self) -> Result<Room, CopyError> {
        let site = self.site.clone();
        blocking(move || {
            let (branches, folder) = folder(&site)?;
            let free = folder
                .free_bytes()
                .map_err(|error| CopyError::of("look at", &branches, &error))?;
            Ok(Room {
                file_system: folder.meta().dev(),
                free,
            })
        })
        .await?
    }

    /// Looks how much there is to copy, and how. Makes the folder for branches.
    ///
    /// # Errors
    /// There is nothing to copy, or it cannot be copied.
    pub(crate) async fn measure(&self) -> Result<Measured, CopyError> {
        let site = self.site.clone();
        blocking(move || {
            let data = data(&site.data_dir)?;
            let (_, folder) = folder(&site)?;
            Ok(Measured {
                bytes: copy::bytes(&data, &site.data_dir)?,
                is_clone: Way::find(&data, &folder) == Way::Clone,
            })
        })
        .await?
    }

    /// Copies the files while nothing runs. They are in `place`'s half-made folder afterwards, and on the disk. Not
    /// cancel safe: it goes on until `give_up` is ordered.
    ///
    /// # Errors
    /// [`CopyError::Awake`] and [`CopyError::Wanted`] where it has to be made of the running parent.
    pub(crate) async fn copy_asleep(&self, place: BranchPlace, give_up: &GiveUp) -> Result<u64, CopyError> {
        let turn = held_by(&self.turn).await;
        let site = self.site.clone();
        let (mut turn, found) = blocking(move || (turn, survey(&site.data_dir))).await?;
        let found = found?;
        if let Found::Postmaster { .. } = found {
            return Err(CopyError::Awake);
        }
        turn.clear_after(&found, &self.site).await?;
        let (site, wanted, give_up) = (self.site.clone(), self.wanted.clone(), give_up.clone());
        let copied = blocking(move || {
            let stop = |copied| match (give_up.is_ordered(copied), wanted.is_wanted()) {
                (true, _) => Some(CopyError::GivenUp),
                (false, true) => Some(CopyError::Wanted),
                (false, false) => None,
            };
            let (bytes, folder) = copy_data(&site, &place, copy::State::Asleep, &stop)?;
            // What it writes to the disk may take longer than anybody who wakes the parent should wait.
            drop(turn);
            place.sync(&folder)?;
            Ok(bytes)
        });
        copied.await?
    }

    /// Copies the files of the running parent, but its WAL: a backup has begun. Not cancel safe: it goes on until
    /// `give_up` is ordered.
    ///
    /// # Errors
    /// [`CopyError`]
    pub(crate) async fn copy_running(&self, place: BranchPlace, give_up: &GiveUp) -> Result<u64, CopyError> {
        let (site, give_up) = (self.site.clone(), give_up.clone());
        let copied = blocking(move || {
            let stop = |copied| give_up.is_ordered(copied).then_some(CopyError::GivenUp);
            let (bytes, _) = copy_data(&site, &place, copy::State::Running, &stop)?;
            Ok(bytes)
        });
        copied.await?
    }

    /// Adds what makes the copy of a running parent whole, once its backup has ended. Returns how many bytes that were;
    /// all is on the disk then.
    ///
    /// # Errors
    /// The WAL is not all there any more, or it cannot be copied.
    pub(crate) async fn complete(&self, place: BranchPlace, backup: Backup) -> Result<u64, CopyError> {
        let site = self.site.clone();
        let completed = blocking(move || {
            let account = site.account()?;
            let data = data(&site.data_dir)?;
            let failed = |error: io::Error| CopyError::of("complete", &site.data_dir, &error);
            let folder = place.half_made().map_err(failed)?;
            let never = |_| None;
            let way = Way::find(&data, &folder);
            let mut copier = Copier::new(account.heir(), way, copy::State::Running, &never);
            let bytes = copier.wal(&data, &folder, (&backup.first_wal, &backup.last_wal))?;
            folder
                .replace("backup_label", &backup.label, account.heir())
                .map_err(failed)?;
            place.sync(&folder)?;
            Ok(bytes)
        });
        completed.await?
    }

    /// Puts a finished copy in the place of the branch's data directory; nothing runs in that before or after. `self` is
    /// the branch itself. Returns once the old one is out of the way, not yet removed.
    ///
    /// # Errors
    /// Something still runs in it, or the file system cannot exchange two names.
    pub(crate) async fn replace(&self, place: BranchPlace) -> Result<(), CopyError> {
        let _wanting = self.wanted.want();
        let mut turn = held_by(&self.turn).await;
        turn.end(&self.site).await?;
        let site = self.site.clone();
        let (mut turn, found) = blocking(move || (turn, survey(&site.data_dir))).await?;
        let found = found?;
        if let Found::Postmaster { .. } = found {
            end_residents(&self.site.data_dir).await?;
        }
        turn.clear(&self.site).await?;
        let data_dir = self.site.data_dir.clone();
        blocking(move || {
            let exchanged = place.exchange();
            drop(turn);
            exchanged.map_err(|error| CopyError::of("exchange", &data_dir, &error))
        })
        .await?
    }
}

/// What Postgres says when a backup ends.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    /// The text of `backup_label`.
    pub(crate) label: String,
    /// The first segment that is needed.
    pub(crate) first_wal: String,
    /// The last one.
    pub(crate) last_wal: String,
}

/// Removes a branch's files, whatever state they are in; ends what still runs there. Not cancel safe: the next call goes
/// on.
///
/// # Errors
/// They cannot be removed.
pub(crate) async fn remove(data_dir: &Path) -> Result<(), CopyError> {
    end_residents(data_dir).await?;
    let path = data_dir.to_owned();
    let removed = blocking(move || match BranchPlace::open(&path) {
        Ok(Some(place)) => place.remove(),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    });
    removed
        .await?
        .map_err(|error| CopyError::of("remove", data_dir, &error))
}

/// Removes what was left half-made beside a branch.
///
/// # Errors
/// It cannot be removed.
pub(crate) async fn remove_half_made(data_dir: &Path) -> Result<(), CopyError> {
    let path = data_dir.to_owned();
    let removed = blocking(move || match BranchPlace::open(&path) {
        Ok(Some(place)) => place.abandon(),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    });
    removed
        .await?
        .map_err(|error| CopyError::of("remove", data_dir, &error))
}

/// The folder for branches, which is made where there is none.
fn folder(site: &Site) -> Result<(PathBuf, Folder), CopyError> {
    let branches = beside(&site.data_dir, ".branches");
    let folder = place::make_folder(&branches)
        .map_err(|error| CopyError::of("make the folder for branches", &branches, &error))?;
    Ok((branches, folder))
}

/// The data directory itself.
fn data(data_dir: &Path) -> Result<Folder, CopyError> {
    let failed = |error: io::Error| CopyError::of("look at", data_dir, &error);
    let folder = Folder::open(data_dir).map_err(failed)?.ok_or(CopyError::Empty)?;
    match folder.read("PG_VERSION", 32).map_err(failed)? {
        Some(_) => Ok(folder),
        None => Err(CopyError::Empty),
    }
}

/// Begins the half-made folder and fills it.
fn copy_data(
    site: &Site,
    place: &BranchPlace,
    state: copy::State,
    stop: &dyn Fn(u64) -> Option<CopyError>,
) -> Result<(u64, Folder), CopyError> {
    let account = site.account()?;
    let from = data(&site.data_dir)?;
    let to = place
        .begin()
        .map_err(|error| CopyError::of("begin a branch of", &site.data_dir, &error))?;
    let way = Way::find(&from, &to);
    let mut copier = Copier::new(account.heir(), way, state, stop);
    let bytes = copier.data(&from, &to, &site.data_dir)?;
    Ok((bytes, to))
}

#[cfg(test)]
mod tests;
