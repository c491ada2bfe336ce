//! The folder that a parent's branches are in, and the three names that one branch may have there.
//!
//! Only names change here, and each change is on the disk when it returns. Called by `branch` and the branch room.

use std::{
    ffi::OsString,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use super::{
    super::{account::we_are_root, folder::Folder},
    CopyError,
};

/// One branch's place: its data directory's name, and what that is called before and after it is whole.
#[derive(Debug)]
pub(crate) struct BranchPlace {
    folder: Folder,
    name: PathBuf,
    data_dir: PathBuf,
}

/// The folder for branches, made where it is missing. It has to be pgwake's own: whoever owns it can put anything there.
pub(super) fn make_folder(branches: &Path) -> io::Result<Folder> {
    let parent = branches.parent().unwrap_or(Path::new("/"));
    let parent = Folder::open(parent)?.ok_or(io::ErrorKind::NotFound)?;
    let name = Path::new(branches.file_name().unwrap_or_default());
    let folder = match parent.enter(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match parent.make(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => parent.enter(name)?,
            made => {
                let made = made?;
                // Root's must let Postgres' user pass through.
                made.set_mode(if we_are_root() { 0o711 } else { 0o700 })?;
                parent.sync()?;
                made
            }
        },
        entered => entered?,
    };
    if folder.meta().uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    Ok(folder)
}

impl BranchPlace {
    /// That of a branch whose data directory is to be here; the folder is made where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn make(data_dir: &Path) -> io::Result<Self> {
        let folder = make_folder(data_dir.parent().unwrap_or(Path::new("/")))?;
        Ok(Self::in_folder(folder, data_dir))
    }

    /// That of a branch that is or was here; `None` where there is not even the folder.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Option<Self>> {
        let folder = Folder::open(data_dir.parent().unwrap_or(Path::new("/")))?;
        Ok(folder.map(|folder| Self::in_folder(folder, data_dir)))
    }

    fn in_folder(folder: Folder, data_dir: &Path) -> Self {
        Self {
            folder,
            name: data_dir.file_name().map(PathBuf::from).unwrap_or_default(),
            data_dir: data_dir.to_owned(),
        }
    }

    fn named(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.name);
        name.push(suffix);
        name.into()
    }

    /// A new half-made folder; an earlier one is removed.
    pub(super) fn begin(&self) -> io::Result<Folder> {
        self.abandon()?;
        self.folder.make(&self.named(".copy"))
    }

    /// The one that was begun.
    pub(super) fn half_made(&self) -> io::Result<Folder> {
        self.folder.enter(&self.named(".copy"))
    }

    /// Removes what is half-made.
    pub(crate) fn abandon(&self) -> io::Result<()> {
        self.folder.remove_all(&self.named(".copy"))
    }

    /// Returns once all of the half-made folder is on the disk: the whole file system at once, because a database has
    /// a thousand small files, and many branches may be made at the same time.
    pub(super) fn sync(&self, half_made: &Folder) -> Result<(), CopyError> {
        half_made
            .sync_file_system()
            .map_err(|error| CopyError::of("write to the disk", &self.data_dir, &error))
    }

    /// The half-made one is whole: it gets its name.
    ///
    /// # Errors
    /// The system's; there may be another of that name.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.folder.rename(&self.named(".copy"), &self.name)?;
        self.folder.sync()
    }

    /// The half-made one is whole, and the present one is half-made from now on.
    pub(super) fn exchange(&self) -> io::Result<()> {
        self.folder.exchange(&self.named(".copy"), &self.name)?;
        self.folder.sync()
    }

    /// Removes all there is, the lock's file as well: renamed first, so that it is whole or gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let gone = self.named(".gone");
        self.folder.remove_all(&gone)?;
        match self.folder.rename(&self.name, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.folder.sync()?,
        }
        self.folder.remove_all(&gone)?;
        self.abandon()?;
        let lock = self.named(".lock");
        self.folder.remove(&lock.to_string_lossy())?;
        self.folder.sync()
    }
}
