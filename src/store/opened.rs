//! The folder's lock and the database behind it, which a pgwake gives up while it still runs when another takes its place.
//!
//! **Invariant:** the database is open only while the lock is held, and is closed before the lock is let go.
//!
//! redb does nothing more with a file once the system has refused it anything, until it is opened anew: a disk that was
//! full for a moment is no reason to keep nothing from then on.

use std::{
    fs::File,
    io,
    sync::{
        PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Store, StoreError, folder,
    tables::{self, Failure},
};

/// What is open.
#[derive(Default)]
struct Parts {
    database: Option<redb::Database>,
    lock: Option<File>,
}

impl Parts {
    fn close(&mut self) {
        self.database = None;
        if let Some(lock) = self.lock.take() {
            // Closing alone is not enough: a child between fork and exec still has the file open for a moment.
            let _ = lock.unlock();
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.close();
    }
}

/// It, for whoever asks at the same time.
pub(super) struct Opened {
    parts: RwLock<Parts>,
    /// The system has refused something: the database is to be opened anew.
    has_failed: AtomicBool,
}

impl Opened {
    pub(super) fn new(lock: File, database: redb::Database) -> Self {
        Self {
            parts: RwLock::new(Parts {
                database: Some(database),
                lock: Some(lock),
            }),
            has_failed: AtomicBool::new(false),
        }
    }

    fn change(&self) -> RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Reads from the database, while it is open.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let opened = self.opened.parts.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &opened.database else {
            let path = self.path.clone();
            return Err(match opened.lock {
                Some(_) => StoreError::Io {
                    path,
                    source: io::Error::other("it could not be opened again after an error"),
                },
                None => StoreError::Ceded(path),
            });
        };
        let done = work(database).map_err(|failure| failure.at(&self.path));
        if matches!(done, Err(StoreError::Io { .. })) {
            self.opened.has_failed.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Writes to the database, which is opened anew where the system has refused anything before.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        if self.opened.has_failed.load(Ordering::Relaxed) {
            let mut opened = self.opened.change();
            // Somebody else may have done it meanwhile.
            if self.opened.has_failed.load(Ordering::Relaxed) {
                opened.database = None;
                self.open_in(&mut opened)?;
                self.opened.has_failed.store(false, Ordering::Relaxed);
            }
        }
        self.read(work)
    }

    /// Lets another pgwake have the folder: nothing can be read or kept from now on. Blocking.
    pub fn close(&self) {
        self.opened.change().close();
    }

    /// Takes the folder again after [`Store::close`]: from then on it is this pgwake's. Blocking.
    ///
    /// # Errors
    /// Another pgwake has it.
    pub fn lock_again(&self) -> Result<(), StoreError> {
        let mut opened = self.opened.change();
        if opened.lock.is_none() {
            opened.lock = Some(folder::lock(&self.state_dir)?);
        }
        Ok(())
    }

    /// Opens the database again, where the folder is this pgwake's. Blocking.
    ///
    /// # Errors
    /// It cannot be opened; nothing can be read or kept then.
    pub fn open_again(&self) -> Result<(), StoreError> {
        self.open_in(&mut self.opened.change())
    }

    fn open_in(&self, opened: &mut Parts) -> Result<(), StoreError> {
        if opened.lock.is_some() && opened.database.is_none() {
            let database = tables::open(&self.path)?;
            tables::prepare(&database).map_err(|failure| failure.at(&self.path))?;
            opened.database = Some(database);
        }
        Ok(())
    }
}
