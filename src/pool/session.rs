//! A server session as the pool knows it: its connection, what the session room attached to it, and the facts that
//! decide whether it may be lent on.
//!
//! It is always in one place: lent, kept, resting, or on its way out. Who calls: everything in this room; the
//! session room sees it through [`Lent`](super::Lent).

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{PoolKey, ServerSession, rights::Slot};
use crate::ids::Generation;
use crate::runtime::threads::Mark;
use crate::tls::Stream;
use crate::wire::startup::CancelKey;

/// A lifetime is shortened by up to this many thousandths of itself, so that sessions opened together do not end
/// together.
const JITTER_PERMILLE: u32 = 100;

/// Later than any deadline: a duration that is too long to be added to a time means "never".
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A server session that has just been opened.
#[derive(Debug)]
pub struct Fresh<C> {
    /// The connection, logged in.
    pub server: ServerSession,
    /// What the session room attaches to it.
    pub carried: C,
    /// The compute's generation that it was opened under.
    pub generation: Generation,
}

/// A server session of a pool.
#[derive(Debug)]
pub struct PooledSession<C> {
    /// The connection.
    pub stream: Stream,
    /// What the session room attached to it.
    pub carried: C,
    /// What the server has sent already, ahead of its answer to anything that is asked now: right after `adopt`
    /// what came behind its greeting, later whole ParameterStatus messages that came while it was idle.
    pub pending: Bytes,
    pub(super) facts: Facts,
}

/// What does not change, but for the thread.
#[derive(Debug)]
pub(super) struct Facts {
    /// Of all sessions of its endpoint, this one.
    pub(super) id: u64,
    pub(super) key: PoolKey,
    pub(super) server_key: Option<CancelKey>,
    pub(super) generation: Generation,
    pub(super) age: Age,
    /// Who polls its socket: the runtime of this thread, which has but one.
    pub(super) thread: Mark,
    pub(super) slot: Slot,
    pub(super) spared_until: Option<Instant>,
}

/// When a session came, and how long it may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    pub(super) born: Instant,
    /// Of the lifetime that the rules give.
    share_permille: u32,
}

impl Age {
    /// Of a session that comes now.
    pub(super) fn new(born: Instant) -> Self {
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random)
            .expect("the system's random source does not fail once it is seeded");
        Self {
            born,
            share_permille: 1000 - u32::from_ne_bytes(random) % (JITTER_PERMILLE + 1),
        }
    }

    /// When it has lived its time.
    pub(super) fn end(&self, lifetime: Duration) -> Instant {
        later(self.born, lifetime / 1000 * self.share_permille)
    }
}

/// `time` and so much more, without overflow.
pub(super) fn later(time: Instant, more: Duration) -> Instant {
    time + more.min(NEVER)
}

impl<C> PooledSession<C> {
    /// Takes a fresh session in; the present runtime polls it.
    pub(super) fn new(id: u64, key: &PoolKey, slot: Slot, fresh: Fresh<C>) -> Self {
        Self {
            stream: fresh.server.stream,
            carried: fresh.carried,
            pending: fresh.server.early,
            facts: Facts {
                id,
                key: key.clone(),
                server_key: fresh.server.key,
                generation: fresh.generation,
                age: Age::new(Instant::now()),
                thread: Mark::here(),
                slot,
                spared_until: None,
            },
        }
    }

    /// Which sessions may stand in for it.
    pub fn key(&self) -> &PoolKey {
        &self.facts.key
    }

    /// The key that cancels its statement; `None` where the server gave none.
    pub fn server_key(&self) -> Option<&CancelKey> {
        self.facts.server_key.as_ref()
    }

    /// The server's process id of it, where it told one.
    pub fn pid(&self) -> Option<i32> {
        self.server_key().map(|key| key.pid)
    }

    /// The compute's generation that it was opened under.
    pub fn generation(&self) -> Generation {
        self.facts.generation
    }

    /// When it was opened.
    pub fn born(&self) -> Instant {
        self.facts.age.born
    }

    /// Until then it is the last one to be closed for others while it is kept for its client.
    pub fn spare_until(&mut self, until: Option<Instant>) {
        self.facts.spared_until = until;
    }

    /// Lets the present runtime poll it from now on.
    ///
    /// # Errors
    /// What the system says; the connection is closed then.
    pub(super) fn moved_here(mut self) -> io::Result<Self> {
        self.facts.thread = Mark::here();
        let stream = self.stream.moved_here()?;
        Ok(Self { stream, ..self })
    }
}
