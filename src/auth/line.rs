//! The line for checks of passwords: a few at a time, and the tenants take turns.
//!
//! Hashing is slow by design, and strangers can ask for it: whoever guesses passwords of one tenant waits behind
//! its own guesses, and another tenant's client passes them. All names that nobody has share one lane. What is
//! checked is not known here. Who calls: `auth`, for passwords that come in clear.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::ids::TenantName;

/// Checks at the same time, in the whole process: strangers must not take more than this many cores.
const CHECKS_MAX: usize = 2;

/// Clients that wait in one lane; one more is refused. With 4096 rounds they are a third of a second of work.
const WAITING_MAX: usize = 128;

/// Whose lane: a tenant's; `None`: that of all names that nobody has.
pub(super) type Lane = Option<TenantName>;

/// The lanes. There are never more of them than tenants, and one.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<Mutex<Lanes>>);

#[derive(Debug, Default)]
struct Lanes {
    running: usize,
    /// Those in which somebody waits; the first is served next, and then stands last.
    waiting: VecDeque<(Lane, VecDeque<Waiter>)>,
    numbers: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    call: oneshot::Sender<Turn>,
}

/// The right to check one password now. Dropping it calls the next.
#[derive(Debug)]
pub(super) struct Turn(Line);

/// Too many wait in this lane already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneFull;

impl Line {
    /// Waits for a turn; the caller bounds it. Cancel safe: who leaves makes room.
    pub(super) async fn turn(&self, lane: Lane) -> Result<Turn, LaneFull> {
        let (call, called) = oneshot::channel();
        let number = {
            let mut lanes = self.lanes();
            if lanes.running < CHECKS_MAX {
                lanes.running += 1;
                return Ok(Turn(self.clone()));
            }
            lanes.line_up(&lane, call)?
        };
        let _place = Place {
            line: self,
            lane,
            number,
        };
        Ok(called.await.expect("nobody is forgotten while the line is there"))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Nothing is done under the lock that could leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn line_up(&mut self, lane: &Lane, call: oneshot::Sender<Turn>) -> Result<u64, LaneFull> {
        self.numbers += 1;
        let number = self.numbers;
        let waiter = Waiter { number, call };
        match self.waiting.iter_mut().find(|(owner, _)| owner == lane) {
            Some((_, waiting)) if waiting.len() >= WAITING_MAX => return Err(LaneFull),
            Some((_, waiting)) => waiting.push_back(waiter),
            None => self.waiting.push_back((lane.clone(), VecDeque::from([waiter]))),
        }
        Ok(number)
    }

    /// The first of the lane whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let (lane, mut waiting) = self.waiting.pop_front()?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.waiting.push_back((lane, waiting));
        }
        next
    }

    fn leave(&mut self, lane: &Lane, number: u64) {
        if let Some(at) = self.waiting.iter().position(|(owner, _)| owner == lane) {
            let waiting = &mut self.waiting[at].1;
            waiting.retain(|waiter| waiter.number != number);
            if waiting.is_empty() {
                self.waiting.remove(at);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut lanes = self.0.lanes();
            let next = lanes.next();
            lanes.running -= usize::from(next.is_none());
            next
        };
        if let Some(waiter) = next {
            // Not sent to one who has just left: the new turn is dropped, and calls the one behind.
            drop(waiter.call.send(Self(self.0.clone())));
        }
    }
}

/// A place in a lane, given up when its client leaves.
struct Place<'l> {
    line: &'l Line,
    lane: Lane,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lanes().leave(&self.lane, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Lane {
        Some(TenantName::parse(name).unwrap())
    }

    fn full(line: &Line) -> Vec<Turn> {
        let turns = (0..CHECKS_MAX).map(|_| line.turn(None).now_or_never().unwrap().unwrap());
        turns.collect()
    }

    #[tokio::test]
    async fn a_tenant_under_attack_waits_behind_its_own_guesses_alone() {
        let line = Line::default();
        let mut turns = full(&line);
        let mut guesses: Vec<_> = (0..100).map(|_| Box::pin(line.turn(tenant("acme")))).collect();
        for guess in &mut guesses {
            assert!(guess.now_or_never().is_none());
        }
        let mut other = Box::pin(line.turn(tenant("zoo")));
        assert!((&mut other).now_or_never().is_none());
        turns.pop();
        assert!((&mut guesses[0]).now_or_never().is_some());
        assert!(other.now_or_never().is_some(), "it passes the other 99");
    }

    #[tokio::test]
    async fn a_lane_that_is_full_takes_nobody_and_leaves_the_others_alone() {
        let line = Line::default();
        let turns = full(&line);
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(line.turn(None))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        let one_more = line.turn(None).now_or_never();
        assert!(matches!(one_more, Some(Err(LaneFull))));
        assert!(line.turn(tenant("acme")).now_or_never().is_none());
        waiting.pop();
        assert!(line.turn(None).now_or_never().is_none(), "who leaves makes room");
        drop((turns, waiting));
    }

    proptest! {
        /// Whoever comes, leaves and ends, all turns come back and nobody is forgotten.
        #[test]
        fn turns_are_never_lost(steps in prop::collection::vec((0..3_usize, 0..3_usize), 0..200)) {
            let line = Line::default();
            let lanes = [None, tenant("a"), tenant("b")];
            let (mut waiting, mut held) = (VecDeque::new(), VecDeque::new());
            for (step, lane) in steps {
                match step {
                    0 => waiting.push_back(Box::pin(line.turn(lanes[lane].clone()))),
                    1 => drop(held.pop_front()),
                    _ => drop(waiting.remove(lane)),
                }
                let mut still = VecDeque::new();
                for mut one in waiting.drain(..) {
                    match (&mut one).now_or_never() {
                        Some(turn) => held.push_back(turn.unwrap()),
                        None => still.push_back(one),
                    }
                }
                waiting = still;
                prop_assert!(held.len() <= CHECKS_MAX);
                prop_assert!(waiting.is_empty() || held.len() == CHECKS_MAX);
            }
            drop((waiting, held));
            let lanes = line.lanes();
            prop_assert_eq!((lanes.running, lanes.waiting.len()), (0, 0));
        }
    }
}
