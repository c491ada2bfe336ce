//! What was given up is taken back from a successor that did not begin.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Succession, blocking};
use crate::succession::Peer;

/// How long a successor that is gone, or was killed, may hold the lock: the system is still taking it apart.
const UNLOCKING_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the lock is tried meanwhile.
const UNLOCKING_CHECK: Duration = Duration::from_millis(20);

impl Succession {
    /// The lock decides. A successor that is gone has let go of it; one that hangs is ended.
    pub(super) async fn take_back(&self, peer: &Peer) -> Result<(), String> {
        if timeout(UNLOCKING_TIMEOUT, self.lock_again()).await.is_err() {
            tracing::error!(
                pid = peer.pid(),
                "the successor hangs with the state: it is killed"
            );
            peer.kill().map_err(|error| error.to_string())?;
            let unlocked = timeout(UNLOCKING_TIMEOUT, self.lock_again()).await;
            unlocked.map_err(|_| "it is still locked".to_owned())?;
        }
        let store = self.store.clone();
        if let Err(error) = blocking(move || store.open_again()).await {
            tracing::error!(%error, "the state cannot be opened again: nothing is kept until a restart");
        }
        self.house.wakes.take_computes_back().await;
        self.go_on();
        Ok(())
    }

    async fn lock_again(&self) {
        loop {
            let store = self.store.clone();
            if blocking(move || store.lock_again()).await.is_ok() {
                return;
            }
            sleep(UNLOCKING_CHECK).await;
        }
    }
}
