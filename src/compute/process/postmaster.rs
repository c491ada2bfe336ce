//! The process that all of a server's other processes are born of: its end, wanted or not.
//!
//! It ends the postmaster alone; what may be left behind is `survey`'s. Called by `process`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::timeout;

use super::{ComputeError, os_process::OsProcess};
use crate::ids::EndpointName;

/// After SIGQUIT; Postgres itself kills its processes after five seconds
/// (<https://www.postgresql.org/docs/current/server-shutdown.html>).
const QUIT_PATIENCE: Duration = Duration::from_secs(5);

/// After SIGKILL only the kernel is left to wait for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A server's first process, started or found.
#[derive(Debug)]
pub(crate) struct Postmaster {
    process: OsProcess,
    end_wanted: AtomicBool,
}

impl Postmaster {
    /// Takes over the process.
    pub(crate) fn new(process: OsProcess) -> Self {
        Self {
            process,
            end_wanted: AtomicBool::new(false),
        }
    }

    /// The process.
    pub(crate) fn process(&self) -> &OsProcess {
        &self.process
    }

    /// Whether pgwake has asked it to end.
    pub(crate) fn is_end_wanted(&self) -> bool {
        self.end_wanted.load(Ordering::Acquire)
    }

    /// Ends it: SIGINT (sessions are ended, everything is written), after `stop_timeout` SIGQUIT, then SIGKILL.
    /// Not cancel safe: it may then still be ending.
    ///
    /// # Errors
    /// It did not end.
    pub(crate) async fn end(
        &self,
        endpoint: &EndpointName,
        stop_timeout: Duration,
    ) -> Result<(), ComputeError> {
        // First of all: whoever watches for its death is not to take this for one.
        self.end_wanted.store(true, Ordering::Release);
        let pid = self.process.pid().as_raw_nonzero();
        let steps = [
            (Signal::INT, stop_timeout),
            (Signal::QUIT, QUIT_PATIENCE),
            (Signal::KILL, KILL_PATIENCE),
        ];
        for (signal, patience) in steps {
            self.process.signal(signal);
            if timeout(patience, self.process.ended()).await.is_ok() {
                self.process.ending();
                return Ok(());
            }
            tracing::warn!(%endpoint, pid, ?signal, ?patience, "postgres has not ended in time");
        }
        Err(ComputeError::new(format!("postgres with pid {pid} does not end")))
    }
}
