//! The line of all endpoints' computes, and the right to start one of them now.
//!
//! `line` decides whose turn it is; here it has a lock, and whoever makes room calls the next. The lock is held for a
//! step of the line alone, and never together with an endpoint's.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    super::line::{Lane, Line, Place},
    Driver,
};
use crate::ids::Generation;

/// Who is called: an endpoint, in the generation that waits.
type Waiting = (Arc<Driver>, Generation);

/// What all endpoints share of it. Cheap to clone.
#[derive(Clone)]
pub(in crate::wake) struct Starts(Arc<Mutex<Line<Waiting>>>);

/// The right to start one compute now; dropping it calls the next.
pub(in crate::wake) struct Start(Starts);

impl Starts {
    /// Nobody waits, nothing is limited.
    pub(in crate::wake) fn new() -> Self {
        Self(Arc::new(Mutex::new(Line::new())))
    }

    /// So many at once from now on.
    pub(in crate::wake) fn set_at_once_max(&self, max: usize) {
        self.line().set_at_once_max(max);
        self.call();
    }

    /// How many may be started at once.
    pub(super) fn at_once_max(&self) -> usize {
        self.line().at_once_max()
    }

    /// How many wait.
    pub(in crate::wake) fn waiting(&self) -> usize {
        self.line().waiting()
    }

    /// Lines up; [`Starts::call`] is to follow once the place is noted.
    pub(super) fn enter(&self, lane: Lane, cost: Duration, waiting: Waiting) -> Place {
        self.line().enter(lane, cost, waiting)
    }

    /// Does not wait any more.
    pub(super) fn leave(&self, place: &Place) {
        self.line().leave(place);
    }

    /// Calls those whose turn it is.
    pub(super) fn call(&self) {
        loop {
            let Some((driver, generation)) = self.line().call() else {
                return;
            };
            driver.called(generation, Start(self.clone()));
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.0.line().ended();
        self.0.call();
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}
