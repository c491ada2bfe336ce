//! Whether a client may still be where it is, asked again whenever the configuration has changed.
//!
//! What it was promised when it came in stays as it was, but not the right to be here: its address may have been taken
//! off its endpoint's list, or the endpoint may be gone. The session's bell rings for it: whoever waits has listened to that
//! ([`SessionWatch::poll_reached`](crate::shutdown::SessionWatch::poll_reached)) before it looks here.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::watch;

use super::{House, Pooling, error::SessionError, record::SessionRecord};
use crate::config::Endpoint;
use crate::ids::EndpointName;

/// One client's right to be here.
pub(super) struct Standing {
    house: Arc<House>,
    endpoint: Arc<Endpoint>,
    /// Made with its endpoint and gone with it: an endpoint that comes back under its name is another one.
    pooling: Option<Arc<Pooling>>,
    from: Option<IpAddr>,
    changes: watch::Receiver<u64>,
}

/// Why it may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dismissal {
    /// Its address is not allowed any more: it ends at once.
    Address,
    /// There is no such endpoint any more: it ends between transactions.
    Endpoint,
    /// It is lent a session with a server that is not the endpoint's own: it ends at once.
    Server,
}

impl Dismissal {
    /// What the client is told.
    pub(super) fn error(self, endpoint: &EndpointName) -> SessionError {
        match self {
            Self::Address => SessionError::AddressBarred,
            Self::Endpoint => SessionError::EndpointRemoved(endpoint.clone()),
            Self::Server => SessionError::ServerReplaced(endpoint.clone()),
        }
    }
}

impl Standing {
    /// Of a client that has proved who it is.
    pub(super) fn new(house: &Arc<House>, endpoint: &Arc<Endpoint>, record: &SessionRecord) -> Self {
        let mut changes = house.changes.subscribe();
        // What has changed since it was let in is looked at first.
        changes.mark_changed();
        Self {
            house: house.clone(),
            endpoint: endpoint.clone(),
            pooling: house.pooling.get(&endpoint.name),
            from: record.peer.ip(),
            changes,
        }
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &EndpointName {
        &self.endpoint.name
    }

    fn look(&self) -> Option<Dismissal> {
        let Some(endpoint) = self.present() else {
            return Some(Dismissal::Endpoint);
        };
        let is_allowed = self.from.is_none_or(|ip| endpoint.access.allows(ip));
        (!is_allowed).then_some(Dismissal::Address)
    }

    /// The endpoint as it is now, if it is still the one that the client came to.
    fn present(&self) -> Option<Arc<Endpoint>> {
        let name = &self.endpoint.name;
        let endpoint = self.house.directory.endpoint(name)?;
        let pooling = self.house.pooling.get(name);
        let is_same = pooling.as_ref().map(Arc::as_ptr) == self.pooling.as_ref().map(Arc::as_ptr);
        (is_same && endpoint.differs_in_rules_alone(&self.endpoint)).then_some(endpoint)
    }

    /// Whether a client that is lent a server session may not go on.
    pub(super) fn lost(&mut self) -> Option<Dismissal> {
        self.look_again(|standing| {
            let other = standing.house.roles.other_server(&standing.endpoint.name);
            standing.look().or(other.map(|_| Dismissal::Server))
        })
    }

    /// Whether one that is lent none may not stay.
    pub(super) fn lost_at_rest(&mut self) -> Option<Dismissal> {
        self.look_again(Self::look)
    }

    fn look_again(&mut self, look: impl Fn(&Self) -> Option<Dismissal>) -> Option<Dismissal> {
        // An error means that the house is gone, and it says so itself.
        if !self.changes.has_changed().unwrap_or(false) {
            return None;
        }
        self.changes.mark_unchanged();
        let dismissal = look(self)?;
        // Whoever asks again hears it again.
        self.changes.mark_changed();
        Some(dismissal)
    }
}
