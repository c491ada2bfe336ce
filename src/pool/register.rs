//! The server sessions of one key, in a bb8 pool: its register of them, and where they rest.
//!
//! bb8 never connects here, never waits and never closes by time. Sessions are handed in; one is taken out only
//! where one rests, under the endpoint's lock, so that bb8 answers at once. A session is dirty until it is
//! put to rest, so one that is dropped leaves the register. Who calls: `state`.

use std::{collections::VecDeque, marker::PhantomData};

use bb8::{ManageConnection, Pool, PooledConnection, QueueStrategy};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::session::{Age, PooledSession};
use crate::ids::Generation;
use crate::runtime::threads::Mark;

/// A session's place in the register, wherever the session is.
pub(super) type Pooled<C> = PooledConnection<'static, HandedIn<C>>;

/// What bb8 holds.
pub(super) struct Entry<C> {
    /// `None` once the session is on its way out.
    session: Option<Box<PooledSession<C>>>,
    /// Whether bb8 may take it back.
    clean: bool,
}

impl<C> Entry<C> {
    pub(super) fn session(&self) -> &PooledSession<C> {
        self.session
            .as_ref()
            .expect("it is in the register until it is taken out")
    }

    pub(super) fn session_mut(&mut self) -> &mut PooledSession<C> {
        self.session
            .as_mut()
            .expect("it is in the register until it is taken out")
    }

    /// Takes the session out for good: what is left is broken to bb8.
    pub(super) fn take_out(&mut self) -> Option<Box<PooledSession<C>>> {
        self.session.take()
    }

    /// Puts it back after a change that needed it whole.
    pub(super) fn put(&mut self, session: Box<PooledSession<C>>) {
        self.session = Some(session);
    }
}

/// Tells bb8 that sessions are handed in, and never connected by it.
pub(super) struct HandedIn<C>(PhantomData<fn() -> C>);

/// The only answer to bb8 where it wants to connect.
#[derive(Debug)]
pub(super) struct NotByBb8;

impl<C: Send + 'static> ManageConnection for HandedIn<C> {
    type Connection = Entry<C>;
    type Error = NotByBb8;

    async fn connect(&self) -> Result<Entry<C>, NotByBb8> {
        Err(NotByBb8)
    }

    /// Never asked: there is no test at checkout.
    async fn is_valid(&self, _: &mut Entry<C>) -> Result<(), NotByBb8> {
        Ok(())
    }

    fn has_broken(&self, entry: &mut Entry<C>) -> bool {
        entry.session.is_none() || !entry.clean
    }
}

/// An idle session, seen from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// Later ones have higher numbers.
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) age: Age,
    /// Its client has a claim on it until then.
    pub(super) spared_until: Option<Instant>,
    /// Who polled its socket last.
    pub(super) thread: Mark,
}

/// All sessions of one key.
pub(super) struct Register<C: Send + 'static> {
    pool: Pool<HandedIn<C>>,
    /// What bb8 has, in its order: the latest first.
    resting: VecDeque<Idle>,
    /// How many sessions there are, of each generation.
    generations: Vec<(Generation, usize)>,
}

impl<C: Send + 'static> Register<C> {
    /// With no session. Inside a runtime.
    pub(super) fn new() -> Self {
        let pool = Pool::builder()
            // The endpoint's slots are the limit, and they can change.
            .max_size(u32::MAX)
            .min_idle(None)
            .max_lifetime(None)
            .idle_timeout(None)
            .retry_connection(false)
            .test_on_check_out(false)
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(HandedIn(PhantomData));
        Self {
            pool,
            resting: VecDeque::new(),
            generations: Vec::new(),
        }
    }

    /// Enters a session and lends it.
    pub(super) fn hand_in(&mut self, session: Box<PooledSession<C>>) -> Pooled<C> {
        let generation = session.generation();
        match self
            .generations
            .iter_mut()
            .find(|(other, _)| *other == generation)
        {
            Some((_, count)) => *count += 1,
            None => self.generations.push((generation, 1)),
        }
        let entry = Entry {
            session: Some(session),
            clean: true,
        };
        let added = self.pool.add(entry);
        assert!(added.is_ok(), "bb8 takes a clean entry, up to u32::MAX of them");
        // What came last comes first.
        self.get().expect("bb8 has what it was given")
    }

    /// Puts a lent session where the next taker finds it first.
    pub(super) fn put_to_rest(&mut self, mut pooled: Pooled<C>, idle: Idle) {
        pooled.clean = true;
        drop(pooled);
        self.resting.push_front(idle);
    }

    /// Lends one that suits, of this many that were put to rest last: rather a better one, then the latest.
    pub(super) fn take_latest_of(
        &mut self,
        most: usize,
        suits: impl Fn(&C) -> bool,
        is_better: impl Fn(&Idle) -> bool,
    ) -> Option<Pooled<C>> {
        let has_better = self.resting.iter().take(most).any(&is_better);
        let (mut found, mut suitable) = (None, None);
        let mut others = Vec::new();
        while found.is_none() && others.len() < most {
            let Some((idle, pooled)) = self.take_latest() else {
                break;
            };
            match suits(&pooled.session().carried) {
                true if is_better(&idle) || !has_better => found = Some(pooled),
                does_suit => {
                    suitable = suitable.or(does_suit.then_some(others.len()));
                    others.push((idle, pooled));
                }
            }
        }
        if found.is_none() {
            found = suitable.map(|at| others.remove(at).1);
        }
        for (idle, pooled) in others.into_iter().rev() {
            self.put_to_rest(pooled, idle);
        }
        found
    }

    /// Lends the session that was put to rest last.
    fn take_latest(&mut self) -> Option<(Idle, Pooled<C>)> {
        let idle = self.resting.pop_front()?;
        Some((idle, self.get()?))
    }

    /// Lends all resting sessions that are picked, the latest first.
    pub(super) fn take_where(&mut self, pick: impl Fn(&Idle) -> bool) -> Vec<Pooled<C>> {
        // The usual sweep finds nothing; and bb8 gives in its own order alone.
        if !self.resting.iter().any(&pick) {
            return Vec::new();
        }
        let mut picked = Vec::new();
        let mut others = Vec::new();
        while let Some((idle, pooled)) = self.take_latest() {
            if pick(&idle) {
                picked.push(pooled);
            } else {
                others.push((idle, pooled));
            }
        }
        for (idle, pooled) in others.into_iter().rev() {
            self.put_to_rest(pooled, idle);
        }
        picked
    }

    /// Notes that a lent session is gone from the register.
    pub(super) fn left(&mut self, generation: Generation) {
        if let Some(at) = self
            .generations
            .iter()
            .position(|(other, _)| *other == generation)
        {
            self.generations[at].1 -= 1;
            if self.generations[at].1 == 0 {
                self.generations.swap_remove(at);
            }
        }
    }

    /// Resting sessions, the latest first.
    pub(super) fn resting(&self) -> &VecDeque<Idle> {
        &self.resting
    }

    pub(super) fn total(&self) -> usize {
        self.generations.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn has(&self, generation: Generation) -> bool {
        self.generations.iter().any(|(other, _)| *other == generation)
    }

    /// Asks bb8 only where it has one, and nobody else asks at the same time: then its answer is there at once.
    fn get(&self) -> Option<Pooled<C>> {
        if self.pool.state().idle_connections == 0 {
            return None;
        }
        let mut pooled = self.pool.get_owned().now_or_never()?.ok()?;
        pooled.clean = false;
        Some(pooled)
    }
}
