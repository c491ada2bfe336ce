//! A successor that this pgwake starts itself, when a command asks for it: a process of the same service, as systemd sees
//! it, which outlives this one.

use std::{ffi::OsString, fs, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::{Progress, Succession, locked, refuse};
use crate::succession::{Channel, Peer, Word};

/// How long it may take until it has taken over: it reads a configuration, waits for what is under way, and begins.
const SUCCEEDING_TIMEOUT: Duration = Duration::from_secs(60);

/// What this pgwake was started by, which is what a successor is started by: the file may be another by then.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// All arguments, with the one that has it take this one's place.
    pub arguments: Vec<OsString>,
}

impl Succession {
    /// Starts it, and tells what comes of it.
    pub(super) async fn start_successor(&self, channel: &Channel) {
        let program = locked(&self.program).clone();
        let Some(program) = program else {
            return refuse(
                channel,
                "it was not started by a command that could start another".to_owned(),
            )
            .await;
        };
        match self.succeed(&program).await {
            Ok(pid) => drop(channel.say(&Word::Done(pid)).await),
            Err(reason) => refuse(channel, reason).await,
        }
    }

    async fn succeed(&self, program: &Program) -> Result<u32, String> {
        let mut progress = self.progress.subscribe();
        progress.mark_unchanged();
        // The watchdog is for whichever process is the service's main one: without a number it is for the successor.
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.path.display()))?;
        outcome(child, progress, SUCCEEDING_TIMEOUT).await
    }

    /// A supervisor looks after processes of its own service alone: it would take the change for the end of the service.
    ///
    /// # Errors
    /// The successor is none of this pgwake's, and a supervisor would be told of it.
    pub(super) fn check_supervised(&self, peer: &Peer) -> Result<(), String> {
        let is_supervised = locked(&self.supervision)
            .as_ref()
            .is_some_and(super::Supervision::is_heard);
        if !is_supervised || parent_of(peer.pid()) == Some(std::process::id()) {
            return Ok(());
        }
        Err("a supervisor looks after it (NOTIFY_SOCKET), and would not after the other: use `pgwake replace`".to_owned())
    }
}

/// What comes of it within this time. One that has not taken over by then is ended: what was told to have failed does not
/// happen later.
async fn outcome(
    mut child: Child,
    mut progress: watch::Receiver<Progress>,
    patience: Duration,
) -> Result<u32, String> {
    let deciding = async {
        loop {
            tokio::select! { biased;
                changed = progress.changed() => {
                    changed.map_err(|_| "it ends".to_owned())?;
                    match &*progress.borrow_and_update() {
                        Progress::Replaced(pid) => return Ok(*pid),
                        Progress::Failed(reason) => return Err(reason.clone()),
                        Progress::Serving => (),
                    }
                }
                ended = child.wait() => return Err(match ended {
                    Ok(status) => format!("its successor did not begin ({status}); the log says why"),
                    Err(error) => error.to_string(),
                }),
            }
        }
    };
    if let Ok(decided) = timeout(patience, deciding).await {
        return decided;
    }
    let why = "its successor did not take over in time";
    match child.kill().await {
        Ok(()) => Err(format!("{why}, and was ended")),
        Err(error) => Err(format!("{why}, and cannot be ended: {error}")),
    }
}

/// The process that has started another (proc_pid_stat(5), field 4).
fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, and may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, test_kill_process};

    use super::*;

    #[tokio::test]
    async fn a_successor_that_is_not_waited_for_any_more_does_not_come_later() {
        let (_tell, progress) = watch::channel(Progress::Serving);
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let failed = outcome(child, progress, Duration::from_millis(50)).await;
        assert_eq!(
            failed.unwrap_err(),
            "its successor did not take over in time, and was ended"
        );
        assert!(test_kill_process(pid).is_err(), "it is there still");
    }
}
