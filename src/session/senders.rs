//! Who has sent a notification: Postgres names its server process, and the client reads the number that the sender was
//! told when it came in. Applications leave out their own by it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::cancel::ServerTarget;

/// The server sessions of an endpoint's transaction pooling, by their process.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<HashMap<i32, Weak<ServerTarget>>>);

impl Senders {
    /// One more session. Those that are gone are forgotten.
    pub(super) fn add(&self, target: &Arc<ServerTarget>) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|_, target| target.strong_count() > 0);
        targets.insert(target.pid(), Arc::downgrade(target));
    }

    /// What the client was told that uses this process' session, or did last.
    pub(super) fn told(&self, pid: i32) -> Option<i32> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(&pid).and_then(Weak::upgrade)?.told()
    }

    /// Gives whole NotificationResponse messages
    /// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>) the numbers that their senders were told.
    pub(super) fn name_all(&self, mut notifications: &mut [u8]) {
        while let Some(([_, length @ .., _, _, _, _], _)) = notifications.split_first_chunk::<9>() {
            let behind = 1 + usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((one, rest)) = notifications.split_at_mut_checked(behind) else {
                return;
            };
            if let Some(pid) = one[5..].first_chunk_mut()
                && let Some(told) = self.told(i32::from_be_bytes(*pid))
            {
                *pid = told.to_be_bytes();
            }
            notifications = rest;
        }
    }
}
