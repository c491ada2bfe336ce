//! Waits until a postmaster takes logins, without disturbing it.
//!
//! Each connection costs a starting postmaster a fork, so none is made: Postgres writes `ready` into
//! `postmaster.pid` itself, and inotify tells when. Called by `process` after a launch, and for a server that was
//! found starting.

use std::{path::Path, time::Duration};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::{runtime::Handle, time::sleep};

use super::{
    folder::Folder,
    os_process::OsProcess,
    pid_file::{PidFile, Status},
};

/// Where no inotify instance can be had (128 per user is the usual limit) the file is read this often. One read
/// takes about 10 µs.
const UNWATCHED_POLL: Duration = Duration::from_millis(2);

/// Beside inotify the file is read this often all the same: some network and stacked file systems send no events.
const WATCHED_POLL: Duration = Duration::from_millis(50);

/// How a boot came out.
#[derive(Debug)]
pub(crate) enum Boot {
    /// It takes logins; what its pid file says now.
    Ready(PidFile),
    /// It has ended.
    Ended,
}

/// Watches one data directory. Made before the postmaster is, so that nothing is missed.
pub(crate) struct BootWatch {
    /// `None` where it cannot be had; what is launched there ends by itself.
    data_dir: Option<Folder>,
    events: Option<EventStream<[u8; 1024]>>,
}

impl BootWatch {
    /// Begins to watch, within a runtime. It blocks for a few file operations.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: Folder::open(data_dir).ok().flatten(),
            events: events(data_dir).ok(),
        }
    }

    /// Waits until `process` takes logins or has ended, as long as it takes: recovery may be long, the caller has
    /// the deadline. Cancel safe.
    pub(crate) async fn outcome(mut self, process: &OsProcess) -> Boot {
        let ended = process.ended();
        tokio::pin!(ended);
        loop {
            if let Some(Ok(Some(pid_file))) = self.data_dir.as_ref().map(PidFile::read)
                && pid_file.pid == process.pid()
                && pid_file.status == Status::Ready
            {
                return Boot::Ready(pid_file);
            }
            tokio::select! {
                () = &mut ended => return Boot::Ended,
                () = self.changed() => (),
            }
        }
    }

    /// The file may have changed.
    async fn changed(&mut self) {
        let Some(events) = &mut self.events else {
            return sleep(UNWATCHED_POLL).await;
        };
        let told = async {
            // Postgres writes other files, too; reading for each would be no harm, but is not needed.
            while let Some(Ok(event)) = events.next().await {
                if event.name.is_none_or(|name| name == super::pid_file::NAME) {
                    return true;
                }
            }
            false
        };
        let goes_on = tokio::select! {
            goes_on = told => goes_on,
            () = sleep(WATCHED_POLL) => true,
        };
        if !goes_on {
            self.events = None;
        }
    }
}

impl Drop for BootWatch {
    fn drop(&mut self) {
        // Closing an inotify instance waits until no processor is in the middle of telling an event: some 10 ms, in
        // which a client would wait and the thread do nothing.
        if let (Some(events), Ok(runtime)) = (self.events.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(events));
        }
    }
}

fn events(data_dir: &Path) -> std::io::Result<EventStream<[u8; 1024]>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(
        data_dir,
        WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO,
    )?;
    inotify.into_event_stream([0; 1024])
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use rustix::process::{Pid, Signal};

    use super::*;

    async fn outcome_when(unwatched: Option<()>, then: impl FnOnce(&Path, &OsProcess)) -> Boot {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = OsProcess::open(Pid::from_child(&child)).unwrap();
        fs::write(
            folder.path().join("postmaster.pid"),
            "1\n/\n1\n5432\n/\n\n1\nready\n",
        )
        .unwrap();
        let mut watch = BootWatch::new(folder.path());
        assert!(watch.events.is_some());
        if unwatched.is_some() {
            watch.events = None;
        }
        let outcome = watch.outcome(&process);
        tokio::pin!(outcome);
        let early = futures_util::poll!(&mut outcome);
        assert!(early.is_pending(), "another process's `ready` is not ours");
        then(folder.path(), &process);
        let boot = outcome.await;
        let _ = child.kill();
        let _ = child.wait();
        boot
    }

    fn write_ready(folder: &Path, process: &OsProcess) {
        let text = format!(
            "{}\n/\n1\n5432\n/run\n\n1\nready   \n",
            process.pid().as_raw_nonzero()
        );
        fs::write(folder.join("postmaster.pid"), text).unwrap();
    }

    #[tokio::test]
    async fn the_status_line_ends_the_wait_with_and_without_inotify() {
        assert!(matches!(outcome_when(None, write_ready).await, Boot::Ready(_)));
        assert!(matches!(
            outcome_when(Some(()), write_ready).await,
            Boot::Ready(_)
        ));
    }

    #[tokio::test]
    async fn the_end_of_the_process_ends_the_wait() {
        let boot = outcome_when(None, |_, process| process.signal(Signal::KILL)).await;
        assert!(matches!(boot, Boot::Ended));
    }
}
