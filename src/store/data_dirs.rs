//! The table of data directories that have been in use. A pgwake that knows nothing of it leaves it alone.
//!
//! Every write is one transaction. Called by [`super::Store`].

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase, TableDefinition};

use super::tables::Failure;

/// The one that each endpoint's Postgres was started in last.
pub(super) const DATA_DIRS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("data_dirs");

pub(super) fn of(database: &Database, endpoint: &str) -> Result<Option<PathBuf>, Failure> {
    let row = database.begin_read()?.open_table(DATA_DIRS)?.get(endpoint)?;
    Ok(row.map(|row| OsString::from_vec(row.value().to_vec()).into()))
}

/// Writes only what is news.
pub(super) fn put(database: &Database, endpoint: &str, data_dir: &Path) -> Result<(), Failure> {
    if of(database, endpoint)?.as_deref() == Some(data_dir) {
        return Ok(());
    }
    let change = database.begin_write()?;
    let path = data_dir.as_os_str().as_bytes();
    change.open_table(DATA_DIRS)?.insert(endpoint, path)?;
    change.commit()?;
    Ok(())
}

pub(super) fn forget(database: &Database, endpoint: &str) -> Result<(), Failure> {
    let change = database.begin_write()?;
    change.open_table(DATA_DIRS)?.remove(endpoint)?;
    change.commit()?;
    Ok(())
}
