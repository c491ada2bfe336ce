//! Orders that hold until they are taken back, over restarts, too: what is disabled, what is paused.
//!
//! They are kept in `state_dir`, one after another, so that what is kept is what holds. `server` puts them in force
//! again when it starts. Who calls: `order`.

use std::sync::Arc;

use tokio::{sync::Mutex, task::spawn_blocking};

use crate::ids::EndpointName;
use crate::store::{StandingOrders, Store};

/// Where they are kept.
#[derive(Debug)]
pub struct Standing {
    store: Arc<Store>,
    /// Locked from the order's being carried out until it is kept.
    turn: Mutex<()>,
}

impl Standing {
    /// In this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            turn: Mutex::default(),
        }
    }

    /// Carries an order out, and keeps it. Says what came of it, and whether it will survive a restart: an order is not
    /// refused because a disk is full. Not cancel safe: it may be carried out and not kept.
    pub(super) async fn give<T>(
        &self,
        endpoint: &EndpointName,
        carry_out: impl FnOnce() -> T,
        change: fn(&mut StandingOrders),
    ) -> (T, bool) {
        let _turn = self.turn.lock().await;
        let done = carry_out();
        let (store, name) = (self.store.clone(), endpoint.clone());
        let kept = spawn_blocking(move || store.change_orders(&name, change)).await;
        let is_kept = match kept {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%endpoint, %error, "an operator's order holds, but a restart will have forgotten it");
                false
            }
            // The runtime is going down.
            Err(_) => false,
        };
        (done, is_kept)
    }

    /// Whichever server an endpoint has next is its own, also one on a data directory that is made anew. Not kept where
    /// it cannot be written down: a missing data directory is not made then.
    pub(super) async fn begin_anew(&self, endpoint: &EndpointName) -> bool {
        let (store, name) = (self.store.clone(), endpoint.clone());
        let forgotten = spawn_blocking(move || store.forget_data_dir(&name)).await;
        match forgotten {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%endpoint, %error, "a missing data directory will not be made");
                false
            }
            // The runtime is going down.
            Err(_) => false,
        }
    }
}
