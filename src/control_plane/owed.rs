//! Suspends that could not be asked for: they are once the control plane is there again, or its computes would run for
//! nobody until somebody comes.
//!
//! Called by `seat`, which knows what has become of a compute, and by `events`, which hears that somebody answers again.

use std::sync::Arc;

use dashmap::DashMap;
use futures_util::{StreamExt, stream};
use tokio::sync::Mutex as Turn;

use super::client::{Client, Trouble};
use crate::ids::EndpointName;

/// Most that are remembered: as many as there can be endpoints.
const REMEMBERED_MAX: usize = 20_000;
/// So many are asked for at once.
const AT_ONCE: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspend {
    pub(super) generation: Option<u64>,
    pub(super) order: u64,
}

/// Those that are owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    suspends: DashMap<EndpointName, Suspend>,
    /// Locked while they are asked for.
    turn: Turn<()>,
}

impl Owed {
    /// This one could not be asked for.
    pub(super) fn note(&self, endpoint: &EndpointName, suspend: Suspend) {
        if self.suspends.len() < REMEMBERED_MAX {
            self.suspends.insert(endpoint.clone(), suspend);
        }
    }

    /// It is wanted again, or is being asked for; whether it was owed.
    pub(super) fn take(&self, endpoint: &EndpointName) -> Option<Suspend> {
        self.suspends.remove(endpoint).map(|(_, suspend)| suspend)
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.suspends.is_empty()
    }
}

impl Client {
    /// Asks for all that are owed, unless somebody does. Not cancel safe: those that are being asked for are forgotten.
    pub(super) async fn suspend_owed(self: Arc<Self>) {
        let Ok(_turn) = self.owed.turn.try_lock() else {
            return;
        };
        let names: Vec<_> = self.owed.suspends.iter().map(|one| one.key().clone()).collect();
        let ask = async |name: EndpointName| {
            if let Err(trouble) = self.suspend_one(&name).await {
                tracing::warn!(endpoint = %name, reason = %trouble, "could still not be suspended");
            }
        };
        stream::iter(names).for_each_concurrent(AT_ONCE, ask).await;
    }

    async fn suspend_one(&self, name: &EndpointName) -> Result<(), Trouble> {
        let seat = self.seat(name);
        let _turn = match &seat {
            Some(seat) => Some(seat.turn().await),
            None => None,
        };
        // Whoever spoke for it meanwhile has taken it away.
        match self.owed.take(name) {
            Some(suspend) => self.suspend(name, suspend).await,
            None => Ok(()),
        }
    }
}
