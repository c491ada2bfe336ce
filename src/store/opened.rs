//! The folder's lock and the database behind it, which a pgwake gives up while it still runs when another takes its place.
//!
//! **Invariant:** the database is open only while the lock is held, and is closed before the lock is let go.

use std::{
    fs::File,
    sync::{PoisonError, RwLock, RwLockWriteGuard},
};

use super::{
    Store, StoreError, folder,
    tables::{self, Failure},
};

/// What is open. In the order in which it is to be dropped.
#[derive(Default)]
struct Parts {
    database: Option<redb::Database>,
    lock: Option<File>,
}

/// It, for whoever asks at the same time.
pub(super) struct Opened(RwLock<Parts>);

impl Opened {
    pub(super) fn new(lock: File, database: redb::Database) -> Self {
        Self(RwLock::new(Parts {
            database: Some(database),
            lock: Some(lock),
        }))
    }

    fn change(&self) -> RwLockWriteGuard<'_, Parts> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Does this with the database, while it is open.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&redb::Database) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let opened = self.opened.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &opened.database else {
            return Err(StoreError::Ceded(self.path.clone()));
        };
        work(database).map_err(|failure| failure.at(&self.path))
    }

    /// Lets another pgwake have the folder: nothing can be read or kept from now on. Blocking.
    pub fn close(&self) {
        let mut opened = self.opened.change();
        opened.database = None;
        if let Some(lock) = opened.lock.take() {
            // Closing alone is not enough: a child between fork and exec still has the file open for a moment.
            let _ = lock.unlock();
        }
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
        let mut opened = self.opened.change();
        if opened.lock.is_some() && opened.database.is_none() {
            let database = tables::open(&self.path)?;
            tables::prepare(&database).map_err(|failure| failure.at(&self.path))?;
            opened.database = Some(database);
        }
        Ok(())
    }
}
