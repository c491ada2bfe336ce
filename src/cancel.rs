//! The keys that clients were given, and whose statement runs where now.
//!
//! A CancelRequest is trusted by its key alone: it comes in plaintext and without a server name from most
//! clients (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>). It
//! wakes nothing, counts against no pool and is answered by closing. It never reaches another client's
//! statement: a key is looked up by process id *and* secret, and dies with its session.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dashmap::{DashMap, mapref::entry::Entry};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::compute::{Address, Impostor};
use crate::tls::{DialError, SocketSettings, dial};
use crate::wire::say;
use crate::wire::startup::CancelKey;

/// Longest time that one cancel may take on its way to the server, until the server has closed it.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the secret of a key is; the protocol version decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretLength {
    /// 4 bytes: protocol 3.0.
    Four,
    /// 32 bytes: from protocol 3.2 on.
    ThirtyTwo,
}

/// Where a session's statement runs.
#[derive(Debug, Clone)]
pub struct Target {
    /// The compute.
    pub address: Address,
    /// The key that the server itself gave.
    pub server_key: CancelKey,
}

/// All keys given out. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancels {
    targets: Arc<DashMap<Key, Target>>,
    sockets: SocketSettings,
}

/// A key that works as long as this lives.
#[derive(Debug)]
pub struct Registration {
    key: Key,
    targets: Arc<DashMap<Key, Target>>,
}

/// Why a cancel did not get to its server.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Impostor(#[from] Impostor),
}

/// Compared in constant time, so that the time of a wrong guess tells nothing. The map's hash is keyed at
/// random, so that which bucket a guess falls into tells nothing either.
#[derive(Clone, Debug)]
struct Key(CancelKey);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.pid == other.0.pid && bool::from(self.0.secret.ct_eq(&other.0.secret))
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.pid.hash(state);
        self.0.secret.hash(state);
    }
}

impl Cancels {
    /// No keys yet; cancels reach servers through sockets with these settings.
    pub fn new(sockets: SocketSettings) -> Self {
        Self {
            targets: Arc::default(),
            sockets,
        }
    }

    /// A new key with the server's own process id and a random secret.
    pub fn register(&self, target: &Target, length: SecretLength) -> Registration {
        loop {
            let secret = random_secret(length);
            let key = Key(CancelKey {
                pid: target.server_key.pid,
                secret,
            });
            // Two computes may have a server with the same process id: a key that exists is drawn again.
            if let Entry::Vacant(free) = self.targets.entry(key.clone()) {
                free.insert(target.clone());
                return Registration {
                    key,
                    targets: self.targets.clone(),
                };
            }
        }
    }

    /// Passes a client's cancel on to the server that runs its statement; a key that nobody has does nothing.
    /// Returns once the server has closed the connection. Cancel safe.
    pub async fn cancel(&self, key: CancelKey) {
        let Some(target) = self.targets.get(&Key(key)).map(|target| target.clone()) else {
            tracing::debug!("cancel request with an unknown key");
            return;
        };
        self.deliver(&target).await;
    }

    /// Cancels what runs at `target`, for pgwake's own reasons: its client has left. Cancel safe.
    pub async fn deliver(&self, target: &Target) {
        match tokio::time::timeout(DELIVERY_TIMEOUT, self.send(target)).await {
            Ok(Ok(())) => tracing::debug!("cancel delivered"),
            Ok(Err(error)) => tracing::warn!(%error, "cancel could not be delivered"),
            Err(_) => tracing::warn!("cancel could not be delivered in time"),
        }
    }

    async fn send(&self, target: &Target) -> Result<(), Undelivered> {
        let mut stream = dial(&target.address.server, &target.address.tls, &self.sockets)
            .await?
            .stream;
        target.address.check_server(&stream)?;
        // The server closes without an answer; whether it was in time is seen in the session itself.
        let _ = stream.write_all(&say::cancel_request(&target.server_key)).await;
        let _ = stream.flush().await;
        let _ = stream.read(&mut [0]).await;
        Ok(())
    }

    /// How many keys are valid.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether no key is valid.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

impl Registration {
    /// The key that the client gets.
    pub fn key(&self) -> &CancelKey {
        &self.key.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.targets.remove(&self.key);
    }
}

fn random_secret(length: SecretLength) -> Bytes {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).expect("the system's random source does not fail once it is seeded");
    match length {
        SecretLength::Four => Bytes::copy_from_slice(&secret[..4]),
        SecretLength::ThirtyTwo => Bytes::copy_from_slice(&secret),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::net::UnixListener;

    use super::*;
    use crate::config::{Limits, ServerAddress, ServerTls};

    /// What a listener of our own user is sent where a server of user `uid` is expected.
    async fn sent_where_expected(uid: impl FnOnce(u32) -> u32) -> Vec<u8> {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let ours = place.path().metadata().unwrap().uid();
        let target = Target {
            address: Address {
                server: ServerAddress::Unix(socket),
                tls: ServerTls::Disable,
                server_uid: Some(uid(ours)),
            },
            server_key: CancelKey {
                pid: 1,
                secret: Bytes::from_static(b"abcd"),
            },
        };
        let received = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 16];
            let length = stream.read(&mut bytes).await.unwrap();
            bytes.truncate(length);
            bytes
        };
        let cancels = Cancels::new(SocketSettings::from(&Limits::default()));
        tokio::join!(received, cancels.deliver(&target)).0
    }

    #[tokio::test]
    async fn a_key_is_sent_to_nobody_but_its_server() {
        assert_eq!(sent_where_expected(|ours| ours).await.len(), 16);
        assert!(sent_where_expected(|ours| ours + 1).await.is_empty());
    }
}
