//! Starts `postgres` on a data directory that is known to have no server.
//!
//! It does not wait: `boot` does. Everything here blocks for a few system calls and runs off the async threads.
//! Called by `process`.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::Pid;

use super::{
    ComputeError, Places,
    boot::BootWatch,
    folder::Folder,
    interrupted,
    os_process::OsProcess,
    pid_file,
    postmaster::Postmaster,
    server_log::ServerLog,
    site::{Means, Site},
    sockets::{PORT, SocketFolder},
    survey::is_hidden,
    turn::Turn,
};
use crate::config::Made;

/// What has come of the beginning of a start.
pub(crate) enum Begun {
    /// There is no data directory yet.
    Nothing(Means),
    /// A server boots.
    Boot(Box<Launched>),
}

/// A process that is becoming a server.
pub(crate) struct Launched {
    pub(crate) postmaster: Arc<Postmaster>,
    pub(crate) log: ServerLog,
    /// Where it will listen.
    pub(crate) socket: PathBuf,
    /// As whom it runs.
    pub(crate) uid: u32,
    /// Tells when it takes logins.
    pub(crate) watch: BootWatch,
}

/// Starts a server, if there is a data directory to start it on. Within a runtime.
///
/// # Errors
/// Programs or folders cannot be had or the program cannot be run; nothing runs then.
pub(crate) fn begin(site: &Site, turn: &mut Turn) -> Result<Begun, ComputeError> {
    let means = site.means()?;
    if means.first_use {
        return Ok(Begun::Nothing(means));
    }
    site.remember();
    interrupted::begin_again(site, &means);
    launch(site, &means, turn).map(|launched| Begun::Boot(Box::new(launched)))
}

fn launch(site: &Site, means: &Means, turn: &mut Turn) -> Result<Launched, ComputeError> {
    let watch = BootWatch::new(&site.data_dir);
    let Places {
        socket_base, log_dir, ..
    } = &site.places;
    let sockets = SocketFolder::prepare(socket_base, &site.endpoint, &means.account)?;
    let (log, file) = ServerLog::open(log_dir, site.endpoint.as_str())
        .map_err(|error| ComputeError::new(format!("cannot open a log in {}: {error}", log_dir.display())))?;
    let postgres = means.programs.postgres();
    let failed = |error: io::Error| ComputeError::new(format!("cannot run {}: {error}", postgres.display()));
    let mut command = command(site, means, &sockets);
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file);
    let mut child = command.spawn().map_err(failed)?;
    match OsProcess::open(Pid::from_child(&child)) {
        Ok(process) => {
            if is_hidden(&process) {
                tracing::warn!(
                    endpoint = %site.endpoint,
                    "pgwake is root without CAP_SYS_PTRACE, as in many containers: it cannot find what a dead \
                     postgres leaves behind; run it as the data directory's owner, or give it that capability"
                );
            }
            Ok(Launched {
                postmaster: turn.take_up(process),
                log,
                socket: sockets.socket(),
                uid: means.account.uid,
                watch,
            })
        }
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(error))
        }
    }
}

/// Removes a dead server's `postmaster.pid` whose number still means a process.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove_stale_pid_file(data_dir: &Path) -> Result<(), ComputeError> {
    let removed = match Folder::open(data_dir) {
        Ok(Some(folder)) => folder.remove(pid_file::NAME),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| {
        let path = data_dir.join(pid_file::NAME);
        ComputeError::new(format!("cannot remove the stale {}: {error}", path.display()))
    })
}

/// What a branch has of its parent and must not act on: it would archive its WAL among its parent's, wait for standbys
/// that know nothing of it, and take what its parent's subscriptions have coming.
const BRANCH_SETTINGS: [&str; 3] = [
    "archive_mode=off",
    "synchronous_standby_names=",
    "max_logical_replication_workers=0",
];

/// Arguments are no text for a shell: whatever a setting's value is, it stays that value.
fn command(site: &Site, means: &Means, sockets: &SocketFolder) -> Command {
    let mut folders = OsString::from("unix_socket_directories=");
    folders.push(list_item(sockets.path()));
    let mut command = Command::new(means.programs.postgres());
    means.account.dress(&mut command);
    // It goes there anyway; from its first moment it can be recognised as this directory's.
    command.current_dir(&site.data_dir).arg("-D").arg(&site.data_dir);
    // First: of two settings of one name the last holds.
    for setting in site.settings.load().iter() {
        command
            .arg("-c")
            .arg(format!("{}={}", setting.name, setting.value));
    }
    command
        .args(["-c", "listen_addresses="])
        .arg("-c")
        .arg(format!("port={PORT}"))
        .arg("-c")
        .arg(folders);
    if site.made == Made::AsBranch {
        command.args(BRANCH_SETTINGS.iter().flat_map(|setting| ["-c", setting]));
    }
    command
}

/// One folder of a list of folders: in double quotes, those inside doubled.
fn list_item(folder: &Path) -> OsString {
    let mut item = vec![b'"'];
    for byte in folder.as_os_str().as_bytes() {
        item.push(*byte);
        if *byte == b'"' {
            item.push(b'"');
        }
    }
    item.push(b'"');
    OsString::from_vec(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_commas_and_quotes_stays_one_folder() {
        assert_eq!(list_item(Path::new("/a, \"b\"")), "\"/a, \"\"b\"\"\"");
    }
}
