//! A folder that is held open, so that what is done in it is done in no other.
//!
//! Data directories and socket folders belong to Postgres' user, and a tenant that is superuser of its own Postgres
//! can do there whatever that user can: put links, pipes and endless files in the place of what pgwake, often as
//! root, reads and changes, or put another folder in the folder's place. So no link is followed, neither on the way
//! nor at its end, only ordinary files are read, and none without a bound. It does not decide whose a folder has to
//! be. Used by everything in `process` that touches such folders.

mod removal;

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchmod, fchown, fstatvfs,
        mkdirat, openat, renameat, renameat_with, statat, syncfs, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

/// A folder, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Only a place (`O_PATH`): entering it needs the right to pass through, not to list.
    place: File,
    meta: Metadata,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, a pipe, a device.
    Other,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Folder {
    /// Opens the folder of an absolute path without links; `None` where there is none.
    ///
    /// # Errors
    /// The system's; a link on the way is an error.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut folder = Self::at(CWD, Path::new("/"))?;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => (),
                Component::Prefix(_) | Component::ParentDir => return Err(not_a_folder(path)),
                Component::Normal(name) => match folder.enter(Path::new(name)) {
                    Ok(inner) => folder = inner,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                        return Err(not_a_folder(path));
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(Some(folder))
    }

    /// The folder `name` in this one.
    ///
    /// # Errors
    /// The system's: `NotFound`, or `NotADirectory` for anything else than a folder.
    pub(crate) fn enter(&self, name: &Path) -> io::Result<Self> {
        Self::at(self.place.as_fd(), name)
    }

    /// Makes the folder `name`, open to its owner alone.
    ///
    /// # Errors
    /// The system's: `AlreadyExists` among them.
    pub(crate) fn make(&self, name: &Path) -> io::Result<Self> {
        mkdirat(&self.place, name, Mode::RWXU)?;
        let made = self.enter(name)?;
        if made.meta.uid() != geteuid().as_raw() {
            return Err(io::Error::other("somebody has put another folder in its place"));
        }
        Ok(made)
    }

    /// What the system knew of it when it was opened.
    pub(crate) fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// Whether nothing is in it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        for entry in Dir::new(self.opened()?)? {
            if ![".", ".."]
                .map(str::as_bytes)
                .contains(&entry?.file_name().to_bytes())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The text of the file `name`, at most so many bytes of it; `None` where there is none.
    ///
    /// # Errors
    /// The system's; anything else than an ordinary file is an error.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<String>> {
        let Some(file) = self.file(Path::new(name))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Puts a file in the place of `name`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn replace(&self, name: &str, text: &str, owner: Option<Owner>) -> io::Result<()> {
        let written = format!("{name}.pgwake");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.place, &written, flags, Mode::RUSR | Mode::WUSR)?);
        if let Some(Owner { uid, gid }) = owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        self.rename(Path::new(&written), Path::new(name))
    }

    /// Removes the file `name`, or the link itself; nothing happens where there is none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.place, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the folder `name` with all that is in it, however deep; nothing happens where there is none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn remove_all(&self, name: &Path) -> io::Result<()> {
        removal::remove_all(self, name)
    }

    /// Gives `from` the name `to`; an empty folder or a file of that name is replaced.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&self.place, from, &self.place, to)?)
    }

    /// Exchanges two names: at every moment there is something of each.
    ///
    /// # Errors
    /// The system's; not every file system can.
    pub(crate) fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(renameat_with(
            &self.place,
            one,
            &self.place,
            other,
            RenameFlags::EXCHANGE,
        )?)
    }

    /// All that is in it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn entries(&self) -> io::Result<Vec<(PathBuf, Kind)>> {
        let mut entries = Vec::new();
        for entry in Dir::new(self.opened()?)? {
            let entry = entry?;
            let name = PathBuf::from(OsStr::from_bytes(entry.file_name().to_bytes()));
            if [".", ".."].map(Path::new).contains(&&*name) {
                continue;
            }
            let kind = match entry.file_type() {
                // Not every file system says it here.
                FileType::Unknown => match statat(&self.place, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                kind => kind,
            };
            entries.push((name, Kind::of(kind)));
        }
        Ok(entries)
    }

    /// How long the file `name` is; nothing where there is none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn length(&self, name: &Path) -> io::Result<u64> {
        match statat(&self.place, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(u64::try_from(stat.st_size).unwrap_or_default()),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The file `name`, to be read; `None` where there is none.
    ///
    /// # Errors
    /// The system's; anything else than an ordinary file is an error.
    pub(crate) fn file(&self, name: &Path) -> io::Result<Option<File>> {
        // Without NONBLOCK opening a pipe waits for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.place, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(format!(
                "{} is not an ordinary file",
                name.display()
            )));
        }
        Ok(Some(file))
    }

    /// Makes the file `name`.
    ///
    /// # Errors
    /// The system's: `AlreadyExists` among them.
    pub(crate) fn new_file(&self, name: &Path, mode: u32, owner: Option<Owner>) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.place, name, flags, Mode::RUSR | Mode::WUSR)?);
        if let Some(Owner { uid, gid }) = owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // Whatever the umask is.
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file)
    }

    /// A file that has no name and is gone when it is closed.
    ///
    /// # Errors
    /// The system's; not every file system can.
    pub(crate) fn unnamed_file(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        Ok(File::from(openat(
            self.opened()?,
            ".",
            flags,
            Mode::RUSR | Mode::WUSR,
        )?))
    }

    /// Sets its own mode.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(fchmod(self.opened()?, Mode::from_raw_mode(mode))?)
    }

    /// How many bytes of its file system are free for those who are not root.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let figures = fstatvfs(self.opened()?)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    /// Returns once all of its file system is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(syncfs(self.opened()?)?)
    }

    /// Gives the folder itself away.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn give_to(&self, owner: Owner) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        Ok(chownat(
            &self.place,
            "",
            Some(uid),
            Some(gid),
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// Returns once the names in it are on the disk.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::from(self.opened()?).sync_all()
    }

    /// For what a place alone does not allow.
    fn opened(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.place, ".", flags, Mode::empty())?)
    }

    fn at(folder: impl AsFd, name: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = File::from(openat(folder, name, flags, Mode::empty())?);
        let meta = place.metadata()?;
        Ok(Self { place, meta })
    }
}

fn not_a_folder(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("{} is not a folder, or a link leads to it", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{FileType, mknodat};

    use super::*;

    pub(super) fn place() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().canonicalize().unwrap();
        let folder = Folder::open(&path).unwrap().unwrap();
        (place, folder)
    }

    #[test]
    fn links_are_followed_neither_on_the_way_nor_at_its_end() {
        let (place, folder) = place();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        symlink(place.path().join("a"), place.path().join("link")).unwrap();
        let path = place.path().canonicalize().unwrap();
        assert!(Folder::open(&path.join("a/b")).unwrap().is_some());
        assert!(Folder::open(&path.join("a/c")).unwrap().is_none());
        for linked in ["link", "link/b", "a/../a"] {
            let error = Folder::open(&path.join(linked)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{linked}");
        }
        folder.remove_all(Path::new("link")).unwrap();
        assert!(place.path().join("a/b").exists(), "only the link is removed");
    }

    #[test]
    fn only_ordinary_files_are_read_and_never_more_than_the_bound() {
        let (place, folder) = place();
        fs::write(place.path().join("file"), "precious").unwrap();
        assert_eq!(folder.read("file", 100).unwrap().as_deref(), Some("precious"));
        assert_eq!(folder.read("file", 4).unwrap().as_deref(), Some("prec"));
        assert_eq!(folder.read("missing", 4).unwrap(), None);
        symlink(place.path().join("file"), place.path().join("link")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        mknodat(&folder.place, "pipe", FileType::Fifo, mode, 0).unwrap();
        for name in ["link", "pipe"] {
            // A pipe that is waited for would never end this test.
            folder.read(name, 4).unwrap_err();
        }
    }

    #[test]
    fn a_folder_stays_the_same_when_its_name_means_another() {
        let (place, outer) = place();
        let folder = outer.make(Path::new("data")).unwrap();
        fs::create_dir(place.path().join("victim")).unwrap();
        fs::write(place.path().join("victim/file"), "precious").unwrap();
        fs::create_dir(place.path().join("data/new")).unwrap();
        fs::create_dir(place.path().join("victim/new")).unwrap();
        fs::rename(place.path().join("data"), place.path().join("moved")).unwrap();
        symlink("victim", place.path().join("data")).unwrap();

        folder.replace("file", "new", None).unwrap();
        folder.remove_all(Path::new("new")).unwrap();
        assert_eq!(folder.read("file", 100).unwrap().as_deref(), Some("new"));
        folder.remove("file").unwrap();
        assert!(folder.is_empty().unwrap());
        let text = fs::read_to_string(place.path().join("victim/file")).unwrap();
        assert_eq!(text, "precious");
        assert!(place.path().join("victim/new").exists());
    }

    #[test]
    fn a_file_is_replaced_without_following_a_link() {
        let (place, folder) = place();
        let victim = place.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, place.path().join("pg_hba.conf")).unwrap();
        folder.replace("pg_hba.conf", "new", None).unwrap();
        assert_eq!(folder.read("pg_hba.conf", 100).unwrap().as_deref(), Some("new"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
