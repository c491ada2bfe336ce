//! What a relay tells others of its session. Whether the lease has to hear when it is idle, turns ask for.

use tokio::time::Instant;

use super::Relay;
use crate::config::Endpoint;
use crate::session::roster::{Doing, Passed};
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

impl Relay<'_, '_> {
    pub(super) fn report(&mut self, lease: &AwakeLease, idle: bool) {
        if let Some(reported) = &mut self.reported_idle
            && *reported != idle
        {
            *reported = idle;
            if idle {
                lease.set_idle()
            } else {
                lease.set_active()
            }
        }
    }

    pub(super) fn tell(&mut self, idle: bool) {
        if let Some((listed, before)) = self.listed
            && self.told_idle != Some(idle)
        {
            self.told_idle = Some(idle);
            let doing = if idle { Doing::Idle } else { Doing::Active };
            listed.does(doing, Instant::now());
            listed.set_passed(Passed {
                // Its lane is the client's, over all turns.
                bytes_in: self.up.bytes(),
                bytes_out: before.bytes_out + self.down.bytes(),
                queries: before.queries + self.exchange.queries(),
            });
        }
    }
}
