//! Which processes work in a data directory now: its postmaster, and what a dead one has left behind.
//!
//! It looks only at `/proc` and `postmaster.pid` and ends nothing but orphans, when told to. A process belongs to
//! a data directory if it stands in it *and* is the program `postgres`: a user's shell that merely stands in the
//! folder is never touched. Called by `process` before each start, after each end and when pgwake itself starts.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::time::timeout;

use super::{
    ComputeError,
    census::is_gone,
    folder::Folder,
    os_process::OsProcess,
    pid_file::{self, PidFile},
};

/// After SIGKILL only the kernel is left to wait for: freeing memory, or a disk that does not answer.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What is just ending frees its memory; that takes long only where there is very much of it.
const DYING_PATIENCE: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// No sign of a server.
    Nothing,
    /// A `postmaster.pid` that nothing is written in: its server has just begun, or was killed as it did.
    Unwritten,
    /// A dead server's `postmaster.pid`.
    Dead {
        /// Its number still means a process: another program, or the dead one while its parent has not noticed.
        /// Postgres would take that for a server and not start.
        pid_taken: bool,
    },
    /// A live postmaster.
    Postmaster {
        /// The process.
        process: OsProcess,
        /// What it says about itself.
        pid_file: PidFile,
    },
}

/// Looks for a server. It blocks for a few files.
///
/// # Errors
/// It cannot be told, or an administrator is at work with a single-user `postgres`.
pub(crate) fn survey(data_dir: &Path) -> Result<Found, ComputeError> {
    let shown = data_dir.display();
    let unreadable =
        |error: io::Error| ComputeError::new(format!("cannot see what runs in {shown}: {error}"));
    let Some(folder) = Folder::open(data_dir).map_err(unreadable)? else {
        return Ok(Found::Nothing);
    };
    let Some(text) = folder
        .read(pid_file::NAME, pid_file::BYTES_MAX)
        .map_err(unreadable)?
    else {
        return Ok(Found::Nothing);
    };
    let Some(pid_file) = PidFile::parse(&text) else {
        return Ok(Found::Unwritten);
    };
    let pid = pid_file.pid.as_raw_nonzero();
    match FolderId::of(folder.meta()).resident(pid_file.pid) {
        Resident::Postgres(_) if pid_file.single_user => Err(ComputeError::new(format!(
            "a single-user postgres with pid {pid} works in {shown}: it has to end first"
        ))),
        Resident::Postgres(process) => Ok(Found::Postmaster { process, pid_file }),
        Resident::Unknown(error) => Err(ComputeError::new(format!(
            "cannot see whether process {pid} serves {shown}: {error} \
             (root needs CAP_SYS_PTRACE for that; or run pgwake as the directory's owner)"
        ))),
        Resident::Another => Ok(Found::Dead { pid_taken: true }),
        Resident::Nobody => Ok(Found::Dead {
            pid_taken: proc(pid_file.pid).exists(),
        }),
    }
}

/// Removes a `postmaster.pid` that nothing is written in, unless somebody may be about to: Postgres takes it for a
/// start that is under way, and would not start for ever. It blocks for a few files, and a system call per process of
/// the machine.
///
/// # Errors
/// It cannot be told, or not be removed.
pub(crate) fn remove_unwritten(data_dir: &Path) -> Result<(), ComputeError> {
    let remove = || {
        let Some(folder) = Folder::open(data_dir)? else {
            return Ok(());
        };
        let text = folder.read(pid_file::NAME, pid_file::BYTES_MAX)?;
        let is_unwritten = text.is_some_and(|text| PidFile::parse(&text).is_none());
        if is_unwritten && FolderId::of(folder.meta()).residents()?.is_empty() {
            folder.remove(pid_file::NAME)?;
        }
        Ok(())
    };
    remove().map_err(|error: io::Error| {
        let path = data_dir.join(pid_file::NAME);
        ComputeError::new(format!("cannot remove the empty {}: {error}", path.display()))
    })
}

/// Whether `pid` is a `postgres` that stands in `data_dir`, by whatever path that is reached.
pub(crate) fn serves(pid: Pid, data_dir: &Path) -> bool {
    fs::metadata(data_dir).is_ok_and(|meta| {
        let resident = FolderId::of(&meta).resident(pid);
        matches!(resident, Resident::Postgres(_) | Resident::Unknown(_))
    })
}

/// Whether the system hides from pgwake where a process of its own stands: then orphans cannot be found either.
pub(crate) fn is_hidden(process: &OsProcess) -> bool {
    let seen = fs::metadata(proc(process.pid()).join("cwd"));
    seen.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Ends every `postgres` that stands in `folder` and returns how many there were, once they are gone. It costs a
/// system call per process of the machine. Not cancel safe: some may be left.
///
/// # Errors
/// Names those that did not end.
pub(crate) async fn end_residents(folder: &Path) -> Result<usize, ComputeError> {
    /// A process may be born of one that is just being ended; more rounds than this nobody needs.
    const ROUNDS_MAX: usize = 8;
    let mut ended = 0;
    for _ in 0..ROUNDS_MAX {
        let path = folder.to_owned();
        let residents = tokio::task::spawn_blocking(move || match Folder::open(&path)? {
            Some(folder) => FolderId::of(folder.meta()).residents(),
            None => Ok(Vec::new()),
        });
        let residents = residents
            .await
            .map_err(io::Error::other)
            .and_then(|residents| residents)
            .map_err(|error| ComputeError::new(format!("cannot look for processes: {error}")))?;
        if residents.is_empty() {
            return Ok(ended);
        }
        ended += residents.len();
        end_all(&residents, folder).await?;
    }
    Err(ComputeError::new(format!(
        "new processes keep appearing in {}",
        folder.display()
    )))
}

async fn end_all(processes: &[OsProcess], folder: &Path) -> Result<(), ComputeError> {
    processes.iter().for_each(|process| process.signal(Signal::KILL));
    for process in processes {
        if timeout(KILL_PATIENCE, process.ended()).await.is_err() {
            return Err(ComputeError::new(format!(
                "process {} in {} does not end",
                process.pid().as_raw_nonzero(),
                folder.display()
            )));
        }
        // Where pgwake is the first process of a container they have become its children.
        process.ending();
    }
    Ok(())
}

/// What a process number means for one folder.
enum Resident {
    /// A `postgres` that stands in the folder.
    Postgres(OsProcess),
    /// Another program, or a `postgres` of another folder.
    Another,
    /// No such process.
    Nobody,
    /// Perhaps a `postgres` of the folder, but the system does not say.
    Unknown(io::Error),
}

impl Resident {
    /// What an error means that is no refusal.
    fn without(error: io::Error) -> Self {
        if is_gone(&error) {
            Self::Nobody
        } else {
            Self::Unknown(error)
        }
    }
}

/// A folder, by whatever path it is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FolderId {
    device: u64,
    inode: u64,
    owner: u32,
}

impl FolderId {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            owner: meta.uid(),
        }
    }

    fn residents(self) -> io::Result<Vec<OsProcess>> {
        let mut residents = Vec::new();
        for pid in pids()? {
            match self.resident(pid) {
                Resident::Postgres(process) => residents.push(process),
                // Perhaps another folder's; the launch has warned that such cannot be told apart.
                Resident::Unknown(error) if error.kind() == io::ErrorKind::PermissionDenied => (),
                Resident::Unknown(error) => return Err(error),
                Resident::Another | Resident::Nobody => (),
            }
        }
        Ok(residents)
    }

    fn resident(self, pid: Pid) -> Resident {
        let proc = proc(pid);
        // Looked at before a descriptor is spent on it: nearly all processes stand elsewhere.
        match self.stands_here(&proc) {
            Ok(true) => (),
            Ok(false) => return Resident::Another,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return if self.may_be_postgres_of_owner(&proc) {
                    Resident::Unknown(error)
                } else {
                    Resident::Another
                };
            }
            Err(error) => return Resident::without(error),
        }
        let process = match OsProcess::open(pid) {
            Ok(process) => process,
            Err(error) => return Resident::without(error),
        };
        // Once more: only now is it sure that the number has not changed hands since.
        let here = self.stands_here(&proc).unwrap_or(false);
        match program(&proc) {
            _ if process.has_ended() => Resident::Nobody,
            Ok(name) if here && is_ours(&name) => Resident::Postgres(process),
            Ok(_) => Resident::Another,
            // Whatever is just ending has given up its program before its folder.
            Err(_) if process.ends_within(DYING_PATIENCE) => Resident::Nobody,
            Err(error) => Resident::Unknown(error),
        }
    }

    fn stands_here(self, proc: &Path) -> io::Result<bool> {
        let meta = fs::metadata(proc.join("cwd"))?;
        Ok(meta.dev() == self.device && meta.ino() == self.inode)
    }

    /// For a process whose folder we may not see; names and owners everybody may see.
    fn may_be_postgres_of_owner(self, proc: &Path) -> bool {
        let name = fs::read(proc.join("comm")).unwrap_or_default();
        let owner = fs::metadata(proc).map(|meta| meta.uid());
        name.trim_ascii_end() == b"postgres" && owner.is_ok_and(|owner| owner == self.owner)
    }
}

/// The numbers of all processes.
///
/// # Errors
/// The system's.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = Pid>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    }))
}

fn proc(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()))
}

fn program(proc: &Path) -> io::Result<Vec<u8>> {
    let path = fs::read_link(proc.join("exe"))?;
    Ok(path
        .file_name()
        .map_or(Vec::new(), |name| name.as_bytes().to_vec()))
}

fn is_ours(program: &[u8]) -> bool {
    // So the kernel shows a program whose file was replaced, as by a package upgrade.
    let name = program.strip_suffix(b" (deleted)").unwrap_or(program);
    // An initdb whose pgwake died would go on to work in a folder that is being made anew.
    name == b"postgres" || name == b"initdb"
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A program of any name that does nothing in `folder`.
    fn idle(folder: &Path, name: &str) -> (tempfile::TempDir, Child) {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join(name);
        // Not copied by this process: another test's child could have the file open for writing when it is run.
        assert!(
            Command::new("cp")
                .arg("/bin/sleep")
                .arg(&program)
                .status()
                .unwrap()
                .success()
        );
        let child = Command::new(program)
            .arg("1000")
            .current_dir(folder)
            .spawn()
            .unwrap();
        (place, child)
    }

    fn residents(folder: &Path) -> Vec<u32> {
        let folder = FolderId::of(&fs::metadata(folder).unwrap());
        let residents = folder.residents().unwrap();
        residents
            .iter()
            .map(|process| process.pid().as_raw_nonzero().get() as u32)
            .collect()
    }

    #[tokio::test]
    async fn only_postgres_that_stands_in_the_folder_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (_bash, mut shell) = idle(folder.path(), "bash");
        let (_elsewhere, mut stranger) = idle(elsewhere.path(), "postgres");
        let (_here, mut orphan) = idle(folder.path(), "postgres");
        let (place, mut upgraded) = idle(folder.path(), "postgres");
        drop(place);

        let mut found = residents(folder.path());
        found.sort_unstable();
        let mut expected = [orphan.id(), upgraded.id()];
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(end_residents(folder.path()).await.unwrap(), 2);
        assert!(residents(folder.path()).is_empty());
        assert!(
            shell.try_wait().unwrap().is_none(),
            "a shell in the folder lives on"
        );
        assert!(
            stranger.try_wait().unwrap().is_none(),
            "another folder's postgres lives on"
        );
        for child in [&mut shell, &mut stranger, &mut orphan, &mut upgraded] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    #[test]
    fn a_pid_file_means_a_server_only_while_that_process_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let claim =
            |number: i64| fs::write(folder.path().join("postmaster.pid"), format!("{number}\n")).unwrap();
        let (_place, mut server) = idle(folder.path(), "postgres");

        claim(i64::from(server.id()));
        assert!(matches!(survey(folder.path()), Ok(Found::Postmaster { .. })));
        claim(-i64::from(server.id()));
        assert!(survey(folder.path()).unwrap_err().reason.contains("single-user"));
        claim(i64::from(std::process::id()));
        assert!(matches!(
            survey(folder.path()),
            Ok(Found::Dead { pid_taken: true })
        ));
        claim(i64::from(server.id()));
        server.kill().unwrap();
        let dead = OsProcess::open(Pid::from_child(&server)).unwrap();
        while !dead.has_ended() {}
        // Its parent has not asked for it yet, so it still has its number.
        assert!(matches!(
            survey(folder.path()),
            Ok(Found::Dead { pid_taken: true })
        ));
        server.wait().unwrap();
        assert!(matches!(
            survey(folder.path()),
            Ok(Found::Dead { pid_taken: false })
        ));
    }

    #[test]
    fn an_empty_pid_file_stands_in_nobodys_way_once_who_made_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postmaster.pid");
        fs::write(&file, "").unwrap();
        let (_place, mut beginner) = idle(folder.path(), "postgres");
        assert!(matches!(survey(folder.path()), Ok(Found::Unwritten)));
        remove_unwritten(folder.path()).unwrap();
        assert!(file.exists(), "it may be about to be written");
        beginner.kill().unwrap();
        beginner.wait().unwrap();
        fs::write(&file, "1\n").unwrap();
        remove_unwritten(folder.path()).unwrap();
        assert!(file.exists(), "it says something");
        fs::write(&file, "").unwrap();
        remove_unwritten(folder.path()).unwrap();
        assert!(matches!(survey(folder.path()), Ok(Found::Nothing)));
        remove_unwritten(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_does_not_exist_has_no_server() {
        assert!(matches!(
            survey(Path::new("/nonexistent/data")),
            Ok(Found::Nothing)
        ));
    }
}
