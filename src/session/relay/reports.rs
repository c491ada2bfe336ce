//! Whether a session under a lease has to say when it is idle. It says so itself, in the relay; turns ask for it.

use crate::config::Endpoint;
use crate::wake::AwakeLease;

/// Whether the lease is told when the session becomes idle or active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum IdleReports {
    /// The compute sleeps only when its last session has ended: nobody needs to know.
    No,
    /// Idle sessions are ended for a suspend.
    Yes,
}

impl IdleReports {
    /// Of a session under this lease. Where it does not count, nobody waits for its end.
    pub(in crate::session) fn of(endpoint: &Endpoint, lease: &AwakeLease) -> Self {
        match endpoint.suspend_idle_sessions || !lease.weight().counts() {
            true => Self::Yes,
            false => Self::No,
        }
    }
}
