//! Which command runs for an endpoint, written down: so that a pgwake which comes after one that was killed finds it,
//! and does not run a second beside it.
//!
//! A file in `state_dir/commands`, there before the command is and removed after it. It says which process leads the
//! command; one that says nothing was left by a pgwake that was killed between the two. Called by `run`, and by
//! `command` before the first look.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{io::Errno, process::Pid};

use super::super::process::os_process::OsProcess;
use crate::ids::EndpointName;

/// Where an endpoint's command is written down.
#[derive(Debug, Clone)]
pub(super) struct Record {
    path: PathBuf,
}

/// What an earlier pgwake has left behind.
#[derive(Debug)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// A command that still runs, led by this process.
    Running(OsProcess),
    /// A command that may run; it is not known which process it is.
    Unknown,
}

impl Record {
    /// Of an endpoint, below a folder that belongs to one pgwake.
    pub(super) fn new(folder: &Path, endpoint: &EndpointName) -> Self {
        let path = folder.join(endpoint.as_str());
        Self { path }
    }

    /// A command is about to be run. It blocks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        fs::write(&self.path, "")
    }

    /// It runs, led by this process. It blocks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn is_led_by(&self, pid: Pid) -> io::Result<()> {
        let mut text = pid.as_raw_nonzero().to_string();
        // No file that is written in part can be taken for a whole one: the last line is needed.
        let _ = write!(text, "\n{}\n{}\nend\n", began(pid)?, boot()?);
        fs::write(&self.path, text)
    }

    /// It has ended. It blocks.
    pub(super) fn end(&self) {
        // What stays says of a process that is gone, and of none that comes.
        let _ = fs::remove_file(&self.path);
    }

    /// What was left behind, and how long ago it was begun. It blocks.
    ///
    /// # Errors
    /// It cannot be told.
    pub(super) fn left(&self) -> io::Result<(Left, Duration)> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Left::Nothing, Duration::ZERO));
            }
            Err(error) => return Err(error),
        };
        let age = fs::metadata(&self.path)?.modified()?;
        let age = SystemTime::now().duration_since(age).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let [pid, began_then, boot_then, "end"] = lines[..] else {
            return Ok((Left::Unknown, age));
        };
        let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else {
            return Ok((Left::Unknown, age));
        };
        let process = match OsProcess::open(pid) {
            Ok(process) => process,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return Ok((Left::Nothing, age));
            }
            Err(error) => return Err(error),
        };
        // Held now, so that what is read is of this process. Its number may mean another by now.
        let is_it = began(process.pid()).is_ok_and(|began| began == began_then) && boot()? == boot_then;
        let left = match is_it && !process.has_ended() {
            true => Left::Running(process),
            false => Left::Nothing,
        };
        Ok((left, age))
    }
}

/// When a process began, in ticks since the machine did
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>, field 22).
fn began(pid: Pid) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The second field is a name in parentheses, and may contain anything.
    let behind_name = text.rsplit_once(')').map(|(_, rest)| rest);
    let field = behind_name.and_then(|rest| rest.split_whitespace().nth(19));
    field
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("/proc does not tell when a process began"))
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn record(folder: &Path) -> Record {
        Record::new(
            &folder.join("commands"),
            &EndpointName::parse("demo-main").unwrap(),
        )
    }

    fn sleeping() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn a_command_is_found_while_it_runs_and_not_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        let left = || record.left().unwrap().0;
        assert!(matches!(left(), Left::Nothing));
        record.begin().unwrap();
        assert!(matches!(left(), Left::Unknown));
        let (mut child, pid) = sleeping();
        record.is_led_by(pid).unwrap();
        assert!(matches!(left(), Left::Running(process) if process.pid() == pid));
        let process = OsProcess::open(pid).unwrap();
        child.kill().unwrap();
        assert!(process.ends_within(Duration::from_secs(60)));
        assert!(matches!(left(), Left::Nothing), "not reaped yet");
        child.wait().unwrap();
        assert!(matches!(left(), Left::Nothing));
        record.end();
        assert!(matches!(left(), Left::Nothing));
    }

    #[test]
    fn a_number_that_means_another_process_or_a_file_that_ends_early_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        record.begin().unwrap();
        let (mut child, pid) = sleeping();
        record.is_led_by(pid).unwrap();
        let whole = fs::read_to_string(&record.path).unwrap();
        let mine = whole.replace(&pid.as_raw_nonzero().to_string(), &std::process::id().to_string());
        fs::write(&record.path, mine).unwrap();
        assert!(matches!(record.left().unwrap().0, Left::Nothing));
        for length in 0..whole.len() - 1 {
            fs::write(&record.path, &whole[..length]).unwrap();
            assert!(matches!(record.left().unwrap().0, Left::Unknown), "{length}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
