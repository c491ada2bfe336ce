//! A server session on loan.
//!
//! Who has it uses it like his own; dropping it closes it, since nobody knows then in the middle of what it is. Giving
//! it back is [`keep`](super::EndpointPool::keep), [`rest`](super::EndpointPool::rest) or
//! [`close`](super::EndpointPool::close).

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    closing::Goodbye, endpoint_pool::Shared, figures::CloseReason, register::Pooled, session::PooledSession,
};
use crate::runtime::threads::Mark;

/// A server session that nobody else uses. Dropping it closes the connection; its slot comes free with the socket.
#[must_use = "dropping it closes the session"]
pub struct Lent<C: Send + 'static> {
    /// `None` once it was given back.
    pooled: Option<Pooled<C>>,
    shared: Arc<Shared<C>>,
}

impl<C: Send + 'static> Lent<C> {
    pub(super) fn new(pooled: Pooled<C>, shared: &Arc<Shared<C>>) -> Self {
        Self {
            pooled: Some(pooled),
            shared: shared.clone(),
        }
    }

    /// Ends the loan without closing.
    pub(super) fn into_pooled(mut self) -> Option<Pooled<C>> {
        self.pooled.take()
    }

    /// Whether it is the present runtime that polls the socket.
    pub(super) fn is_polled_here(&self) -> bool {
        self.facts.thread == Mark::here()
    }

    /// Lets the present runtime poll the socket. `None`: the system refused, and the connection is closed.
    pub(super) fn moved_here(mut self) -> Option<Self> {
        let mut pooled = self.pooled.take()?;
        let session = pooled.take_out()?;
        let (key, generation) = (session.key().clone(), session.generation());
        match session.moved_here() {
            Ok(session) => {
                pooled.put(Box::new(session));
                self.pooled = Some(pooled);
                Some(self)
            }
            Err(error) => {
                tracing::warn!(%error, "server session's socket could not be taken over");
                drop(pooled);
                self.shared.lock().strike(&key, generation, CloseReason::Gone);
                None
            }
        }
    }
}

impl<C: Send + 'static> Deref for Lent<C> {
    type Target = PooledSession<C>;

    fn deref(&self) -> &PooledSession<C> {
        self.pooled.as_ref().expect("it was not given back").session()
    }
}

impl<C: Send + 'static> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut PooledSession<C> {
        self.pooled.as_mut().expect("it was not given back").session_mut()
    }
}

impl<C: Send + 'static> Drop for Lent<C> {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.shared.close(pooled, CloseReason::Dropped, Goodbye::Silent);
        }
    }
}

impl<C: Send + 'static> fmt::Debug for Lent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}
