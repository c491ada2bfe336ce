//! A pool, and servers that do what a test says.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::task::TaskTracker;

use crate::ids::Generation;
use crate::pool::{
    CloseReason, EndpointPool, Fresh, KeyFigures, Lent, PoolKey, PoolRules, ServerSession, Slot,
};
use crate::tls::Stream;
use crate::wire::say;
use crate::wire::startup::CancelKey;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const FIRST: Generation = Generation(1);

/// ParameterStatus of `TimeZone`.
pub(super) const STATUS: &[u8] = b"S\0\0\0\x12TimeZone\0Asia\0";
/// ErrorResponse of an administrator's command.
pub(super) const FATAL: &[u8] = b"E\0\0\0\x16SFATAL\0C57P01\0Mx\0\0";

pub(super) fn rules(size: usize) -> PoolRules {
    PoolRules {
        size,
        connects_at_once: 4,
        lifetime: 3600 * SECOND,
        idle_time: 600 * SECOND,
        startup_variants_max: 32,
    }
}

pub(super) fn key(database: &'static str) -> PoolKey {
    key_with(database, "")
}

/// A key of sessions that were started with this setting.
pub(super) fn key_with(database: &'static str, setting: &'static str) -> PoolKey {
    let startup = vec![(
        Bytes::from_static(b"options"),
        Bytes::from_static(setting.as_bytes()),
    )];
    PoolKey::new(Bytes::from_static(database.as_bytes()), "app".into(), 7, startup)
}

/// A pool; what is attached to its sessions is a number that the test chooses.
pub(super) struct House {
    pub(super) pool: EndpointPool<u32>,
    pub(super) tasks: TaskTracker,
}

/// The runtime has looked at its sockets, as it has before it hears of a client's request.
pub(super) async fn heard() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl House {
    pub(super) fn new(size: usize) -> Self {
        Self::with(rules(size))
    }

    pub(super) fn with(rules: PoolRules) -> Self {
        let tasks = TaskTracker::new();
        Self {
            pool: EndpointPool::new(rules, tasks.clone()),
            tasks,
        }
    }

    /// A new session that carries `carried`; there is room for it.
    pub(super) fn open(&self, key: &PoolKey, carried: u32) -> (Lent<u32>, Server) {
        let slot = self.pool.try_slot().expect("there is a slot");
        self.open_in(slot, key, carried)
    }

    pub(super) fn open_in(&self, slot: Slot, key: &PoolKey, carried: u32) -> (Lent<u32>, Server) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = ServerSession {
            stream: Stream::Unix(ours),
            greeting: Bytes::new(),
            key: Some(CancelKey {
                pid: i32::try_from(carried).unwrap(),
                secret: Bytes::from_static(b"abcd"),
            }),
            early: Bytes::new(),
        };
        let fresh = Fresh {
            server,
            carried,
            generation: FIRST,
        };
        (self.pool.adopt(key, slot, fresh), Server(theirs))
    }

    /// A resting session whose server leaves when it is told to.
    pub(super) fn open_resting(&self, key: &PoolKey, carried: u32) {
        let (lent, server) = self.open(key, carried);
        server.leave_when_told();
        self.pool.rest(lent);
    }

    /// What the one resting session that anybody may have carries; it stays lent.
    pub(super) fn take_any(&self, key: &PoolKey) -> Option<Lent<u32>> {
        self.pool.take_resting(key, FIRST, |_| true)
    }

    /// What sessions with this key carry, the last used first.
    pub(super) fn resting(&self, key: &PoolKey) -> Vec<u32> {
        let lent: Vec<_> = std::iter::from_fn(|| self.take_any(key)).collect();
        let carried = lent.iter().map(|lent| lent.carried).collect();
        lent.into_iter().rev().for_each(|lent| self.pool.rest(lent));
        carried
    }

    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.pool.figures().counts.closed(reason)
    }

    /// Lent, kept and resting sessions.
    pub(super) fn places(&self) -> (usize, usize, usize) {
        let figures = self.pool.figures();
        let sum = |of: fn(&KeyFigures) -> usize| figures.keys.iter().map(of).sum();
        (
            sum(|figures| figures.lent),
            sum(|figures| figures.kept),
            sum(|figures| figures.resting),
        )
    }
}

/// The other end of a session.
#[derive(Debug)]
pub(super) struct Server(UnixStream);

impl Server {
    /// Everything that it was told up to the end.
    pub(super) async fn told(&mut self) -> Vec<u8> {
        let mut told = Vec::new();
        self.0.read_to_end(&mut told).await.unwrap();
        told
    }

    pub(super) async fn says(&mut self, what: &[u8]) {
        self.0.write_all(what).await.unwrap();
    }

    /// So many bytes, or fewer at the end.
    pub(super) async fn hears(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        let limit = u64::try_from(count).unwrap();
        (&mut self.0).take(limit).read_to_end(&mut heard).await.unwrap();
        heard
    }

    /// For another runtime, which takes it up with [`attached`](Detached::attached).
    pub(super) fn detached(self) -> Detached {
        Detached(self.0.into_std().unwrap())
    }

    /// Waits for the client's end, then closes, and says what it was told.
    pub(super) fn leave_when_told(mut self) -> tokio::task::JoinHandle<Vec<u8>> {
        tokio::spawn(async move { self.told().await })
    }
}

/// A server that belongs to no runtime.
pub(super) struct Detached(std::os::unix::net::UnixStream);

impl Detached {
    pub(super) fn attached(self) -> Server {
        Server(UnixStream::from_std(self.0).unwrap())
    }
}

/// A Terminate and no more.
pub(super) fn assert_terminated(told: impl AsRef<[u8]> + Debug) {
    assert_eq!(told.as_ref(), say::TERMINATE);
}
