//! What does not change about one compute but its settings, and what is needed before its server can be started.
//!
//! It changes nothing but the folder above the data directory, which it makes. Called by `process`.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    ComputeError, Places,
    account::{Account, we_are_root},
    creation::Contents,
    data_dir,
    programs::Programs,
    sockets::make_folders,
};
use crate::config::{Made, ServerSetting};
use crate::ids::EndpointName;

/// One endpoint's data directory and how it is served.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: EndpointName,
    /// As [`resolve`] gives it.
    pub(crate) data_dir: PathBuf,
    pub(crate) programs: Option<PathBuf>,
    pub(crate) run_as: Option<String>,
    pub(crate) contents: Contents,
    /// What the next server gets; a reload may change it.
    pub(crate) settings: ArcSwap<Vec<ServerSetting>>,
    pub(crate) made: Made,
    pub(crate) places: Places,
    pub(crate) stop_timeout: Duration,
}

/// What a start needs beside the data directory itself.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) account: Account,
    pub(crate) programs: Programs,
    /// Nothing is there yet: the data directory has to be made.
    pub(crate) first_use: bool,
}

impl Site {
    /// Who runs the server.
    ///
    /// # Errors
    /// It cannot be told, or nobody can.
    pub(crate) fn account(&self) -> Result<Account, ComputeError> {
        Account::for_data_dir(&self.data_dir, self.run_as.as_deref())
    }

    /// Looks for what a start needs, now: owners, programs and folders may have changed since the last.
    ///
    /// # Errors
    /// What is missing, with the fix.
    pub(crate) fn means(&self) -> Result<Means, ComputeError> {
        let account = self.account()?;
        account.check_enterable(parent(&self.data_dir))?;
        let version = data_dir::version(&self.data_dir)?;
        match version {
            Some(_) => data_dir::check_owner(&self.data_dir, &account)?,
            None => self.check_first_use()?,
        }
        let programs = Programs::find(self.programs.as_deref(), version.as_deref())?;
        account.check_enterable(programs.folder())?;
        Ok(Means {
            account,
            programs,
            first_use: version.is_none(),
        })
    }

    /// An empty database in the place of one that was there would look like lost data.
    fn check_first_use(&self) -> Result<(), ComputeError> {
        let is_known = match self.made {
            Made::WheneverMissing => false,
            Made::AsBranch => return Err(ComputeError::new("the branch's data directory is gone")),
            Made::OnFirstUse => {
                let known = self.places.store.data_dir(&self.endpoint);
                let unknown = |error| {
                    ComputeError::new("nobody can tell whether its data directory was in use before")
                        .with_detail(format!("{error}"))
                };
                known.map_err(unknown)?.as_deref() == Some(&self.data_dir)
            }
        };
        if !is_known {
            return Ok(());
        }
        Err(ComputeError::new("its data directory was in use and is gone").with_detail(format!(
            "there is nothing in {}: mount its disk, or restore it. To begin anew with an empty database, order \
             forget-server (POST /api/v1/endpoints/{}/forget-server); with compute.create = \"always\" every missing one is \
             made",
            self.data_dir.display(),
            self.endpoint
        )))
    }

    /// From now on the data directory is one that was in use. Blocking.
    pub(crate) fn remember(&self) {
        if self.made == Made::OnFirstUse
            && let Err(error) = self
                .places
                .store
                .remember_data_dir(&self.endpoint, &self.data_dir)
        {
            tracing::warn!(endpoint = %self.endpoint, %error, "that its data directory is in use is not remembered");
        }
    }
}

/// The data directory by its real path, so that two names of one are recognised; the folder above it is made.
///
/// # Errors
/// The path cannot be used.
pub(crate) fn resolve(data_dir: &Path) -> Result<PathBuf, ComputeError> {
    let failed = |error: io::Error| {
        ComputeError::new(format!(
            "cannot use the data directory {}: {error}",
            data_dir.display()
        ))
    };
    let path = std::path::absolute(data_dir).map_err(failed)?;
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::Error::other("it has no name")))?;
    if !we_are_root() {
        // Root can enter every folder; who runs Postgres then is looked at before a start.
        Account::ourselves().check_enterable(parent(&path))?;
    }
    if path.exists() {
        return path.canonicalize().map_err(failed);
    }
    // Root's must let Postgres' user pass through.
    let mode = if we_are_root() { 0o711 } else { 0o700 };
    make_folders(parent(&path), mode).map_err(failed)?;
    Ok(parent(&path).canonicalize().map_err(failed)?.join(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
