//! Whose act is next: a foreign client takes the session between any two turns, and nobody waits for a session that
//! only a client gives back which is not asked.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::pooling::act::{Act, Step};

/// How a client stands to the server sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// It is in the middle of something.
    pub(crate) holds: bool,
    /// Its session cannot be anybody else's.
    pub(crate) is_pinned: bool,
}

/// How the next client is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// One after another.
    RoundRobin,
    Random,
}

/// What all clients have to do, and how many of them may hold a session.
#[derive(Debug)]
pub(crate) struct Schedule {
    acts: Vec<VecDeque<Act>>,
    sessions: usize,
    pinned_max: usize,
    random: StdRng,
    choice: Choice,
    last: usize,
}

impl Schedule {
    pub(crate) fn new(acts: Vec<Vec<Act>>, sessions: usize, pinned_max: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let choice = if random.random_bool(0.5) {
            Choice::RoundRobin
        } else {
            Choice::Random
        };
        Self {
            acts: acts.into_iter().map(VecDeque::from).collect(),
            sessions,
            pinned_max,
            random,
            choice,
            last: 0,
        }
    }

    pub(crate) fn next(&mut self, stands: &[Stand]) -> Option<Step> {
        let mut able: Vec<usize> = (0..self.acts.len())
            .filter(|client| self.may(*client, stands))
            .collect();
        if able.is_empty() {
            // Whoever is in the middle of something wants to sleep: in vain.
            let dozes = |client: &usize| self.acts[*client].front() == Some(&Act::Doze);
            able = (0..self.acts.len()).filter(dozes).collect();
        }
        if able.is_empty() {
            assert!(
                self.acts.iter().all(VecDeque::is_empty),
                "nobody may go on: {stands:?}"
            );
            return None;
        }
        let next = match self.choice {
            Choice::RoundRobin => able
                .iter()
                .find(|client| **client > self.last)
                .unwrap_or(&able[0]),
            Choice::Random => &able[self.random.random_range(0..able.len())],
        };
        self.last = *next;
        let act = self.acts[*next].pop_front()?;
        Some(Step { client: *next, act })
    }

    fn may(&self, client: usize, stands: &[Stand]) -> bool {
        let Some(act) = self.acts[client].front() else {
            return false;
        };
        let busy = |stand: &Stand| stand.holds || stand.is_pinned;
        let me = &stands[client];
        match act {
            Act::Doze => return !stands.iter().any(busy),
            Act::Say(batch) if batch.or_refused => return true,
            _ => (),
        }
        let pinned = stands.iter().filter(|stand| stand.is_pinned).count();
        let pins = matches!(act, Act::Say(batch) if batch.pins) && !me.is_pinned;
        if pins && pinned >= self.pinned_max {
            return false;
        }
        // Coming in may need a session, too: a client that visits has its own one besides.
        let visits = matches!(act, Act::Visit { .. });
        let taken = stands.iter().filter(|stand| busy(stand)).count();
        (busy(me) && !visits) || taken < self.sessions
    }
}
