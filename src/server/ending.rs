//! The end of a pgwake: by a drain, at once, or because another has taken its place.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::Server;
use crate::shutdown::Phase;
use crate::storm::Repeated;

/// After `drain_timeout` every session is told to end; how long they may take for that.
pub(super) const STOPPING_TIMEOUT: Duration = Duration::from_secs(3);

impl Server {
    /// Ends without a client losing a transaction that ends in time: says that it is not ready any more and serves for
    /// `drain_delay` as ever, then accepts nobody, tells idle clients goodbye, lets transactions finish within
    /// `drain_timeout`, and stops the computes. Where another pgwake has taken its place, clients may come to that at once,
    /// and the computes are that one's. Returns when nothing is left.
    pub async fn drain(&self) {
        if !self.leave().await {
            return;
        }
        self.succession.forget_sockets();
        self.shutdown.advance(Phase::Draining);
        let drained = async {
            self.workers.drained().await;
            // Its clients use this one's computes.
            self.elder.gone().await;
        };
        if timeout(self.house.limits.load().drain_timeout, drained)
            .await
            .is_err()
        {
            tracing::warn!(
                clients = self.clients(),
                "drain_timeout is over: remaining sessions are ended"
            );
        }
        self.stop().await;
    }

    /// Still serves, for whoever sends clients here to notice that this ends; `false`: a [`Self::stop`] does not wait for
    /// it.
    async fn leave(&self) -> bool {
        // A change to another pgwake that is under way comes to its end first, and none begins.
        let is_replaced = self
            .succession
            .decided(|| self.shutdown.advance(Phase::Leaving))
            .await;
        if !is_replaced {
            let limits = self.house.limits.load_full();
            let (delay, clients) = (limits.drain_delay, self.clients());
            self.succession.ending(delay + limits.drain_timeout);
            if !delay.is_zero() {
                tracing::info!(
                    ?delay,
                    clients,
                    "not ready any more; clients may still come for a while"
                );
                let mut shutdown = self.house.shutdown.clone();
                tokio::select! {
                    () = sleep(delay) => (),
                    () = shutdown.reached(Phase::Draining) => return false,
                }
            }
        }
        let clients = self.clients();
        tracing::info!(
            clients,
            "draining: idle clients are ended, transactions may finish"
        );
        true
    }

    /// Ends every session at once, then stops the computes, unless they are another pgwake's. A drain that is under way
    /// comes to its end, too.
    pub async fn stop(&self) {
        let is_replaced = self
            .succession
            .decided(|| self.shutdown.advance(Phase::Stopping))
            .await;
        self.succession.forget_sockets();
        self.house.roles.close();
        if timeout(STOPPING_TIMEOUT, self.workers.drained()).await.is_err() {
            tracing::warn!(clients = self.clients(), "sessions did not end in time");
        }
        match is_replaced {
            true => self.house.wakes.let_go(),
            false => self.house.wakes.suspend_all().await,
        }
        // Those of computes that stay, too: nothing of pgwake's goes on looking after them.
        join_all(
            self.house
                .pooling
                .all()
                .iter()
                .map(|pooling| pooling.pool.close_idle()),
        )
        .await;
        self.succession.end();
        self.elder.leave();
        self.tasks.close();
        self.tasks.wait().await;
        self.reloader.wiring.woken().write().await;
        self.house.roles.drain().await;
        self.house.proofs.load_full().drain().await;
        self.house.storms.rest().iter().for_each(Repeated::tell);
        // Last: until here operators see how far the end has come.
        if let Some(admin) = &self.admin {
            admin.stop().await;
        }
        // A disk that takes nothing does not keep pgwake from its end.
        if timeout(STOPPING_TIMEOUT, self.house.audit.flush()).await.is_err() {
            let lines = self.house.audit.waiting();
            tracing::error!(lines, "audit lines could not be written before the end");
        }
    }
}
