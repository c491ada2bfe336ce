//! Copies a data directory, file by file: as clones that share their blocks where the file system can, else in chunks.
//!
//! It knows which files a copy must not have, follows no link, and asks between two chunks whether it is still wanted.
//! That the files belong together is its caller's affair. Called by `branch`.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::fs::ioctl_ficlone;

use super::{
    super::folder::{Folder, Kind, Owner},
    CopyError,
};

/// What is copied before it is asked again whether the copy is wanted: some 10 ms on a slow disk.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// Folders in folders: a tablespace inside a data directory has four, and each has files open while it is copied.
const LEVELS_MAX: usize = 12;

/// Of one server, or of one moment: not its data.
const FILES_LEFT_OUT: [&str; 5] = [
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "backup_manifest",
    "backup_label.old",
];

/// What Postgres makes anew when it starts, slots that would keep WAL for nobody, and logs
/// (<https://www.postgresql.org/docs/current/protocol-replication.html>, BASE_BACKUP).
const FOLDERS_EMPTIED: [&str; 11] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal/archive_status",
    "pg_wal/summaries",
    "log",
    "pg_log",
];

/// Whether the files change meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No server runs.
    Asleep,
    /// One does, and is in a backup: what goes away meanwhile is not missed, and WAL comes later.
    Running,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Both files share their blocks until one of them is written to.
    Clone,
    /// Byte by byte.
    Plain,
}

impl Way {
    /// Tries whether files of one folder can be cloned into another.
    pub(super) fn find(from: &Folder, to: &Folder) -> Self {
        let try_it = || -> io::Result<()> {
            let file = from.file("PG_VERSION".as_ref())?.ok_or(io::ErrorKind::NotFound)?;
            Ok(ioctl_ficlone(to.unnamed_file()?, file)?)
        };
        match try_it() {
            Ok(()) => Self::Clone,
            Err(_) => Self::Plain,
        }
    }
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Copy,
    /// The folder without what is in it.
    Empty,
    LeaveOut,
    /// Once everything else is there.
    Last,
}

/// `path` is relative to the data directory.
fn treatment(path: &Path, state: State) -> Result<Treatment, CopyError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let levels = path.components().count();
    let is_at_top = levels == 1;
    if levels > LEVELS_MAX {
        let top = path.iter().next().unwrap_or_default().display();
        let why = format!("in its {top} are folders in more than {LEVELS_MAX} levels, which no server makes");
        return Err(CopyError::Refused(why));
    }
    if is_at_top && ["standby.signal", "recovery.signal"].contains(&&*name) {
        let why = format!("its parent is a standby, or is being recovered: it has {name}");
        return Err(CopyError::Refused(why));
    }
    let is_left_out = name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || is_at_top && (FILES_LEFT_OUT.contains(&&*name) || name.ends_with(".pgwake") || name.starts_with(".s.PGSQL"))
        // A running server has no use for one that it finds; one that sleeps may need it at its next start.
        || is_at_top && state == State::Running && ["backup_label", "tablespace_map"].contains(&&*name);
    let is_emptied = FOLDERS_EMPTIED.iter().any(|folder| path == Path::new(folder))
        || state == State::Running && path == Path::new("pg_wal");
    Ok(match () {
        () if is_left_out => Treatment::LeaveOut,
        () if is_emptied => Treatment::Empty,
        () if path == Path::new("global/pg_control") => Treatment::Last,
        () => Treatment::Copy,
    })
}

/// How many bytes a copy of all of it would have.
///
/// # Errors
/// It cannot be copied.
pub(super) fn bytes(from: &Folder, data_dir: &Path) -> Result<u64, CopyError> {
    // What a running server has besides is little.
    bytes_in(from, Path::new(""), data_dir)
}

fn bytes_in(from: &Folder, at: &Path, data_dir: &Path) -> Result<u64, CopyError> {
    let failed = |path: &Path, error: &io::Error| CopyError::of("look at", &data_dir.join(path), error);
    let mut bytes = 0;
    for (name, kind) in from.entries().map_err(|error| failed(at, &error))? {
        let path = at.join(&name);
        if !matches!(
            treatment(&path, State::Asleep)?,
            Treatment::Copy | Treatment::Last
        ) {
            continue;
        }
        match kind {
            Kind::Folder => match from.enter(&name) {
                Ok(folder) => bytes += bytes_in(&folder, &path, data_dir)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(failed(&path, &error)),
            },
            Kind::File => bytes += from.length(&name).map_err(|error| failed(&path, &error))?,
            Kind::Link => return Err(refused_link(&path)),
            Kind::Other => (),
        }
    }
    Ok(bytes)
}

fn refused_link(path: &Path) -> CopyError {
    let what = match path.starts_with("pg_tblspc") {
        true => "it has a tablespace outside of its data directory",
        false => "a link leads out of its data directory",
    };
    CopyError::Refused(format!(
        "{what} ({}), which a branch would share with it",
        path.display()
    ))
}

/// One copy.
pub(super) struct Copier<'a> {
    owner: Option<Owner>,
    way: Way,
    state: State,
    /// Why it is not wanted any more, so many bytes of it having been copied.
    stop: &'a dyn Fn(u64) -> Option<CopyError>,
    bytes: u64,
}

impl<'a> Copier<'a> {
    /// What it makes is given to `owner`.
    pub(super) fn new(
        owner: Option<Owner>,
        way: Way,
        state: State,
        stop: &'a dyn Fn(u64) -> Option<CopyError>,
    ) -> Self {
        Self {
            owner,
            way,
            state,
            stop,
            bytes: 0,
        }
    }

    /// Copies a data directory into an empty folder, which gets its mode and owner last. How many bytes that were.
    ///
    /// # Errors
    /// [`CopyError`]
    pub(super) fn data(&mut self, from: &Folder, to: &Folder, data_dir: &Path) -> Result<u64, CopyError> {
        self.folder(from, to, Path::new(""))
            .map_err(|error| error.at(data_dir))?;
        let control = Path::new("global");
        let last = from
            .enter(control)
            .and_then(|from| Ok((from, to.enter(control)?)));
        let (from_global, to_global) = last.map_err(|error| CopyError::of("look at", data_dir, &error))?;
        self.file(&from_global, &to_global, Path::new("pg_control"))
            .map_err(|error| error.at(data_dir))?;
        self.finish(from, to).map_err(|error| error.at(data_dir))?;
        Ok(self.bytes)
    }

    /// Copies the WAL from one segment to another, which all have to be there.
    ///
    /// # Errors
    /// [`CopyError`]
    pub(super) fn wal(
        &mut self,
        from: &Folder,
        to: &Folder,
        (first, last): (&str, &str),
    ) -> Result<u64, CopyError> {
        let copied = self.wal_files(from, to, (first, last));
        copied.map_err(|stopped| stopped.at(Path::new("pg_wal")))
    }

    fn wal_files(&mut self, from: &Folder, to: &Folder, (first, last): (&str, &str)) -> Result<u64, Stopped> {
        let wal = Path::new("pg_wal");
        let (from, to) = (from.enter(wal)?, to.enter(wal)?);
        let (mut has_first, mut has_last) = (false, false);
        for (name, kind) in from.entries()? {
            let text = name.to_string_lossy();
            let is_segment = text.len() == first.len() && (first..=last).contains(&&*text);
            if kind == Kind::File && (is_segment || text.ends_with(".history")) {
                self.file(&from, &to, &name)?;
                has_first |= text == first;
                has_last |= text == last;
            }
        }
        match has_first && has_last {
            true => Ok(self.bytes),
            false => Err(io::Error::other("the WAL of the time of the copy is not there any more").into()),
        }
    }

    fn folder(&mut self, from: &Folder, to: &Folder, at: &Path) -> Result<(), Stopped> {
        for (name, kind) in from.entries()? {
            let path = at.join(&name);
            let treatment = treatment(&path, self.state)?;
            match (kind, treatment) {
                (_, Treatment::LeaveOut | Treatment::Last) | (Kind::Other, _) => (),
                (Kind::Link, _) => return Err(refused_link(&path).into()),
                (Kind::File, Treatment::Copy) => self.file(from, to, &name)?,
                (Kind::Folder, Treatment::Empty) => self.emptied(from, to, &name)?,
                (Kind::Folder, Treatment::Copy) => {
                    let inner = match from.enter(&name) {
                        Ok(inner) => inner,
                        // A database or a temporary folder that was just dropped.
                        Err(error) if self.is_gone(&error) => continue,
                        Err(error) => return Err(error.into()),
                    };
                    let made = to.make(&name)?;
                    self.folder(&inner, &made, &path)?;
                    self.finish(&inner, &made)?;
                }
                (Kind::File, Treatment::Empty) => (),
            }
        }
        Ok(())
    }

    /// A folder of this name with nothing in it; what else it needs Postgres makes itself.
    fn emptied(&self, from: &Folder, to: &Folder, name: &Path) -> Result<(), Stopped> {
        match from.enter(name) {
            Ok(inner) => self.finish(&inner, &to.make(name)?),
            Err(error) if self.is_gone(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Mode and owner: last, so that nobody else has anything to say about a folder that is being filled.
    fn finish(&self, from: &Folder, to: &Folder) -> Result<(), Stopped> {
        to.set_mode(from.meta().permissions().mode() & 0o777)?;
        if let Some(owner) = self.owner {
            to.give_to(owner)?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Folder, to: &Folder, name: &Path) -> Result<(), Stopped> {
        if let Some(why) = (self.stop)(self.bytes) {
            return Err(why.into());
        }
        let file = match from.file(name) {
            Ok(Some(file)) => file,
            Ok(None) if self.state == State::Running => return Ok(()),
            Ok(None) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        let made = to.new_file(name, meta.mode() & 0o777, self.owner)?;
        match self.way {
            Way::Clone => {
                ioctl_ficlone(&made, &file).map_err(io::Error::from)?;
                self.bytes += meta.len();
            }
            Way::Plain => self.chunks(file, made, meta.len())?,
        }
        Ok(())
    }

    /// As much as the file had when it was opened: what is added to it meanwhile is in the WAL.
    fn chunks(&mut self, mut file: File, mut made: File, length: u64) -> Result<(), Stopped> {
        let mut left = length;
        while left > 0 {
            if let Some(why) = (self.stop)(self.bytes) {
                return Err(why.into());
            }
            // By the system itself, without a way through this process where it can.
            let copied = io::copy(&mut (&mut file).take(left.min(CHUNK_BYTES)), &mut made)?;
            if copied == 0 {
                // It has become shorter meanwhile.
                break;
            }
            (left, self.bytes) = (left.saturating_sub(copied), self.bytes + copied);
        }
        Ok(())
    }

    fn is_gone(&self, error: &io::Error) -> bool {
        self.state == State::Running && error.kind() == io::ErrorKind::NotFound
    }
}

/// Why a copy ended before it was whole: without the name of what was being copied, or with its own words.
enum Stopped {
    System(io::Error),
    Why(CopyError),
}

impl Stopped {
    fn at(self, path: &Path) -> CopyError {
        match self {
            Self::System(error) => CopyError::of("copy", path, &error),
            Self::Why(why) => why,
        }
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<CopyError> for Stopped {
    fn from(why: CopyError) -> Self {
        Self::Why(why)
    }
}

/// The names that a copy of a data directory has, for whoever wants to look at all of it.
#[cfg(test)]
pub(super) fn treated(path: &str, state: State) -> Option<bool> {
    match treatment(Path::new(path), state) {
        Ok(Treatment::Copy | Treatment::Last) => Some(true),
        Ok(Treatment::Empty | Treatment::LeaveOut) => Some(false),
        Err(_) => None,
    }
}
