//! Who may know better than the clock is asked before a suspend: with a veto, or without an answer, it stays awake, and
//! is asked about again after a while.
//!
//! What is asked, and whom, is the watcher's business. An order asks nobody, nor does the end of the process.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Door, Machine, State};

/// A veto is asked about again after `suspend_after`, as if the compute had been in use; but within these bounds: what
/// vetoes is mostly gone after a minute, and a question is a login.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Whether the suspend that is under way asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::wake) enum Asking {
    /// Where the rules say so.
    AsConfigured,
    /// Somebody who decides wants it: nobody is asked.
    Nobody,
}

/// What follows a settling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::wake) enum Next {
    /// Those who rest, and those who do not count, are told to end, unless they have left: nobody is ended for a suspend
    /// that does not come.
    Empty,
    /// The compute is stopped.
    Stop,
}

/// A veto that was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    reason: Arc<str>,
    /// When it is asked about again, at the earliest.
    pub(super) until: Instant,
}

impl Machine {
    pub(super) fn vetoed(&mut self, round: u64, reason: Arc<str>, now: Instant) {
        let State::Settling {
            leases,
            round: current,
            ..
        } = self.state
        else {
            return;
        };
        if current != round {
            return;
        }
        // Ordered meanwhile: then it is known, and does not count.
        if !self.asks() {
            return self.settled(round, now);
        }
        let after = self.rules.idle.suspend_after().unwrap_or(AGAIN_MAX);
        let until = now + after.clamp(AGAIN_MIN, AGAIN_MAX);
        self.veto = Some(Standing { reason, until });
        self.stay_ready(leases);
    }

    /// Whether somebody is to be asked whether it may be suspended.
    pub(super) fn asks(&self) -> bool {
        self.rules.asks_veto && self.asking == Asking::AsConfigured && self.door != Door::StopOrdered
    }

    /// What keeps it awake although nobody uses it.
    pub(in crate::wake) fn veto(&self, now: Instant) -> Option<Arc<str>> {
        let veto = self.last_veto().filter(|veto| veto.until > now);
        veto.map(|veto| veto.reason.clone())
    }

    /// Whether the last question was answered with this.
    pub(in crate::wake) fn was_vetoed_by(&self, reason: &str) -> bool {
        self.last_veto().is_some_and(|veto| *veto.reason == *reason)
    }

    fn last_veto(&self) -> Option<&Standing> {
        self.leases().and(self.veto.as_ref())
    }
}
