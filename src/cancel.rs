//! The keys that clients were given, and whose statement runs where now.
//!
//! A CancelRequest is trusted by its key alone: it comes in plaintext and without a server name from most
//! clients (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>). It
//! wakes nothing, counts against no pool and is answered by closing. It never reaches another client's
//! statement: a key is looked up by process id *and* secret and dies with its client's stay, and a server session is
//! not lent on while a cancel is under way to it. A key that nobody has here may be another pgwake's, whose place this one
//! took. Who calls: `session` registers, waits and cancels; nothing here lends or closes a session.

mod key;
mod slot;
mod target;

use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use dashmap::mapref::entry::Entry;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{error::Elapsed, timeout},
};

use crate::compute::Impostor;
use crate::shutdown::Bell;
use crate::storm::Storms;
use crate::tls::{DialError, SocketSettings, dial};
use crate::wire::say;
use crate::wire::startup::CancelKey;
use key::Key;
pub use key::SecretLength;
pub use slot::{Cancelled, PooledRegistration, Registration};
use slot::{Slot, Slots};
use target::InFlight;
pub use target::{ServerTarget, Settled, Target};

/// Longest time that one cancel may take on its way to the server, until the server has closed it.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// All keys given out. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancels {
    slots: Arc<Slots>,
    sockets: SocketSettings,
    storms: Arc<Storms>,
    elsewhere: Arc<ArcSwapOption<Elsewhere>>,
}

/// Where keys are asked for that are not known here; whether somebody has it is the answer.
pub struct Elsewhere(pub Box<dyn Fn(CancelKey) -> BoxFuture<'static, bool> + Send + Sync>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

/// What those that do not arrive are counted as.
const UNDELIVERED: &str = "cancel";

/// Why a cancel did not get to its server, or is not known to have got there.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Impostor(#[from] Impostor),
    #[error("the server did not close the connection: {0}")]
    Unanswered(io::Error),
    #[error("the server did not close the connection in time")]
    TooLate(#[from] Elapsed),
}

impl Cancels {
    /// No keys yet; cancels reach servers through sockets with these settings. Where a server is gone every client's is in
    /// vain: that is told once and counted.
    pub fn new(sockets: SocketSettings, storms: Arc<Storms>) -> Self {
        Self {
            slots: Arc::default(),
            sockets,
            storms,
            elsewhere: Arc::default(),
        }
    }

    /// A new key with the server's own process id and a random secret, for a client that has this server session
    /// for its whole stay.
    pub fn register(&self, target: &Target, length: SecretLength) -> Registration {
        let slot = Slot::running(ServerTarget::new(target.clone()));
        // Two computes may have a server with the same process id.
        let key = self.add(&slot, || Key::of_process(target.server_key.pid, length));
        Registration::new(key, slot, self.slots.clone())
    }

    /// A new key with a random process id and a random secret, for a client that borrows a server session for each
    /// turn. It begins parked. Its session's bell rings when a wait of it is cancelled.
    pub fn register_pooled(&self, length: SecretLength, bell: Arc<Bell>) -> PooledRegistration {
        let slot = Slot::idle(bell);
        let key = self.add(&slot, || Key::virtual_one(length));
        PooledRegistration::new(key, slot, self.slots.clone())
    }

    /// Makes a key lead to `slot`; one that exists is drawn again.
    fn add(&self, slot: &Arc<Slot>, draw: impl Fn() -> Key) -> Key {
        loop {
            let key = draw();
            if let Entry::Vacant(free) = self.slots.entry(key.clone()) {
                free.insert(Arc::clone(slot));
                return key;
            }
        }
    }

    /// Ends the wait of the client that has this key, or passes its cancel on to the server that runs its statement
    /// and returns once the server has closed the connection. A key that nobody has does nothing, nor does one whose
    /// client is between two turns. Whether somebody has it is returned. Cancel safe, but a cancel that is given up half-way is [`Settled::Lost`].
    pub async fn cancel(&self, key: CancelKey) -> bool {
        let slot = self.slots.get(&Key(key.clone())).map(|slot| Arc::clone(&slot));
        let Some(slot) = slot else {
            if let Some(elsewhere) = self.elsewhere.load_full() {
                return elsewhere.0(key).await;
            }
            tracing::debug!("cancel request with an unknown key");
            return false;
        };
        match slot.cancel() {
            Some(in_flight) => self.send(in_flight).await,
            None => tracing::debug!("cancel request for a client that runs nothing"),
        }
        true
    }

    /// Keys that are not known here are asked for there from now on, or nowhere.
    pub fn set_elsewhere(&self, elsewhere: Option<Elsewhere>) {
        self.elsewhere.store(elsewhere.map(Arc::new));
    }

    /// Cancels what runs at `target`, for pgwake's own reasons: its client has left. Cancel safe.
    pub async fn deliver(&self, target: &Target) {
        self.deliver_to(&ServerTarget::new(target.clone())).await;
    }

    /// The same for a server session that may be lent on: counts as under way meanwhile, as a client's cancel does.
    pub async fn deliver_to(&self, target: &Arc<ServerTarget>) {
        self.send(InFlight::towards(target)).await;
    }

    async fn send(&self, mut in_flight: InFlight) {
        let sent = timeout(DELIVERY_TIMEOUT, self.try_send(&mut in_flight)).await;
        let endpoint = &in_flight.to.target.endpoint;
        match sent.map_err(Undelivered::from).flatten() {
            Ok(()) => tracing::debug!(%endpoint, "cancel delivered"),
            Err(error) if self.storms.is_first(endpoint.as_str(), UNDELIVERED) => {
                tracing::warn!(%endpoint, %error, "cancel could not be delivered");
            }
            Err(error) => tracing::debug!(%endpoint, %error, "cancel could not be delivered"),
        }
    }

    async fn try_send(&self, in_flight: &mut InFlight) -> Result<(), Undelivered> {
        let Target {
            address, server_key, ..
        } = in_flight.to.target.clone();
        let mut stream = dial(&address.server, &address.tls, &self.sockets).await?.stream;
        address.check_server(&stream)?;
        in_flight.sent();
        // A server that closes early does so without reading; that is seen below.
        let _ = stream.write_all(&say::cancel_request(&server_key)).await;
        let _ = stream.flush().await;
        // It closes without an answer, and only after it has passed the cancel on.
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes).await {
                Ok(1..) => (),
                Err(error) if !is_close(&error) => return Err(Undelivered::Unanswered(error)),
                Ok(0) | Err(_) => break,
            }
        }
        in_flight.arrived();
        Ok(())
    }

    /// How many keys are valid.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no key is valid.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// Whether the peer has closed, however rudely.
fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

#[cfg(test)]
mod tests;
