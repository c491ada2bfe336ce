//! One process of the operating system, held by a descriptor so that its number cannot come to mean another.
//!
//! It knows nothing of Postgres. Used for the postmaster, whether it is our child or was found, and for
//! processes that have to be ended.

use std::{fmt, io, os::fd::OwnedFd, sync::OnceLock, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

/// How often an end is looked for where the system has no room for another watch.
const UNWATCHED_POLL: Duration = Duration::from_millis(20);

/// A process that was alive when it was opened.
#[derive(Debug)]
pub(crate) struct OsProcess {
    pid: Pid,
    handle: OwnedFd,
    ending: OnceLock<Ending>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// Only its parent is told more.
    Untold,
}

impl OsProcess {
    /// Takes hold of the process that has this number now.
    ///
    /// # Errors
    /// There is none, or no descriptor is left.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self {
            pid,
            handle: pidfd_open(pid, PidfdFlags::empty())?,
            ending: OnceLock::new(),
        })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; nothing happens where it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Besides its end only a missing right can be in the way; whoever waits for the end sees that it stays.
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Whether it has ended (its parent may not have noticed yet).
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits for its end, but not longer than this. It blocks the thread.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        matches!(poll(&mut watched, patience.as_ref()), Ok(1..))
    }

    /// Waits for its end, as long as it takes. Cancel safe.
    pub(crate) async fn ended(&self) {
        // Watched anew each time: any runtime may wait, also when the one that started the process is gone.
        match self.handle.try_clone().and_then(watch) {
            Ok(watched) => {
                // An error means that the runtime is ending, and this task with it.
                let _ = watched.readable().await;
            }
            Err(_) => {
                while !self.has_ended() {
                    sleep(UNWATCHED_POLL).await;
                }
            }
        }
    }

    /// How it ended; call it after the end. If it was our child the system forgets it now.
    pub(crate) fn ending(&self) -> Ending {
        *self.ending.get_or_init(|| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.handle.as_fd()), options) {
                Ok(Some(status)) => Ending::of(&status),
                _ => Ending::Untold,
            }
        })
    }
}

#[expect(
    deprecated,
    reason = "its successor is an unsafe fn; what that asks for, one descriptor for the whole life, an OwnedFd gives"
)]
fn watch(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(handle, Interest::READABLE)
}

impl Ending {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Untold,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exit(code) => write!(f, "ended with exit status {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}{}", signal_name(signal)),
            Self::Untold => f.write_str("ended"),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn spawn(program: &str, argument: &str) -> (Child, OsProcess) {
        let child = Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        (child, OsProcess::open(pid).unwrap())
    }

    #[tokio::test]
    async fn a_killed_process_says_by_which_signal_also_when_asked_twice() {
        let (_child, process) = spawn("sleep", "1000");
        assert!(!process.has_ended());
        process.signal(Signal::KILL);
        process.ended().await;
        assert!(process.has_ended());
        assert_eq!(process.ending().to_string(), "was ended by signal 9 (SIGKILL)");
        assert_eq!(process.ending(), Ending::Signal(9));
        process.signal(Signal::KILL);
    }

    #[tokio::test]
    async fn an_exit_status_is_told() {
        let (_child, process) = spawn("false", "");
        process.ended().await;
        assert_eq!(process.ending().to_string(), "ended with exit status 1");
    }
}
