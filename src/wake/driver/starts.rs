//! The line of all endpoints' computes, the right to start one of them now, and the room that those on this machine
//! share.
//!
//! `line` decides whose turn it is; here it has a lock, and whoever makes room calls the next. The lock is held for a
//! step of the line alone, and never together with an endpoint's. Where room is lacking, those computes that nobody has
//! needed for longest are suspended before their time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::{
    super::{
        line::{Lane, Line, Place, Takes},
        state::{Event, State},
    },
    Driver,
};
use crate::compute::Compute;
use crate::ids::Generation;

/// While room is lacking: how often one looks for a compute that nobody needs any more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who is called: an endpoint, in the generation that waits.
type Waiting = (Arc<Driver>, Generation);

/// What all endpoints share of it. Cheap to clone.
#[derive(Clone)]
pub(in crate::wake) struct Starts(Arc<Shared>);

struct Shared {
    books: Mutex<Books>,
    /// Somebody is at work on making room.
    makes_room: AtomicBool,
    runtime: Handle,
    tracker: TaskTracker,
}

struct Books {
    line: Line<Waiting>,
    rooms: u64,
    /// Whose computes run on this machine.
    local: BTreeMap<u64, Weak<Driver>>,
}

/// The right to start one compute now; dropping it calls the next.
pub(in crate::wake) struct Start(Starts);

/// A compute runs on this machine, or is about to; dropping it calls the next. Not under an endpoint's lock.
pub(in crate::wake) struct Room {
    starts: Starts,
    number: u64,
}

/// How much a compute that runs on this machine is needed.
enum Need {
    /// It is on its way to sleep.
    Leaving,
    /// Nobody, since then.
    Nobody(Instant),
    /// Somebody works, or it is to stay awake.
    Somebody,
}

impl Starts {
    /// Nobody waits, nothing is limited. Room is made on `runtime`, tracked by `tracker`.
    pub(in crate::wake) fn new(runtime: Handle, tracker: TaskTracker) -> Self {
        let books = Books {
            line: Line::new(),
            rooms: 0,
            local: BTreeMap::new(),
        };
        Self(Arc::new(Shared {
            books: Mutex::new(books),
            makes_room: AtomicBool::new(false),
            runtime,
            tracker,
        }))
    }

    /// So many at once from now on.
    pub(in crate::wake) fn set_at_once_max(&self, max: usize) {
        self.books().line.set_at_once_max(max);
        self.call();
    }

    /// So many may run on this machine from now on.
    pub(in crate::wake) fn set_awake_max(&self, max: usize) {
        self.books().line.set_awake_max(max);
        self.call();
    }

    /// What those who wait wait for: a key of the configuration, and its value.
    pub(super) fn limit(&self) -> (&'static str, usize) {
        let books = self.books();
        match books.line.full_at() {
            Some(max) => ("limits.awake_processes_max", max),
            None => ("limits.wakes_at_once_max", books.line.at_once_max()),
        }
    }

    /// How many may run on this machine, where somebody waits because so many do.
    pub(super) fn full_at(&self) -> Option<usize> {
        self.books().line.full_at()
    }

    /// How many wait.
    pub(in crate::wake) fn waiting(&self) -> usize {
        self.books().line.waiting()
    }

    /// How many run on this machine, or are about to.
    pub(in crate::wake) fn awake(&self) -> usize {
        self.books().line.awake()
    }

    /// Lines up; [`Starts::call`] is to follow once the place is noted.
    pub(super) fn enter(&self, lane: Lane, cost: Duration, takes: Takes, waiting: Waiting) -> Place {
        self.books().line.enter(lane, cost, takes, waiting)
    }

    /// Does not wait any more.
    pub(super) fn leave(&self, place: &Place) {
        self.books().line.leave(place);
    }

    /// One runs on this machine that was not started from here.
    pub(super) fn found(&self, driver: &Arc<Driver>) -> Room {
        let mut books = self.books();
        books.line.came();
        let number = books.register(driver);
        drop(books);
        self.room(number)
    }

    /// Calls those whose turn it is, and makes room for those who lack it.
    pub(super) fn call(&self) {
        loop {
            let mut books = self.books();
            let Some(((driver, generation), takes)) = books.line.call() else {
                break;
            };
            let number = (takes == Takes::Room).then(|| books.register(&driver));
            drop(books);
            let room = number.map(|number| self.room(number));
            driver.called(generation, Start(self.clone()), room);
        }
        self.make_room();
    }

    fn room(&self, number: u64) -> Room {
        let starts = self.clone();
        Room { starts, number }
    }

    fn make_room(&self) {
        if self.books().line.lacking() == 0 || self.0.makes_room.swap(true, Ordering::AcqRel) {
            return;
        }
        let starts = self.clone();
        let work = async move {
            while starts.lacks_room() {
                starts.suspend_least_needed();
                sleep(LOOK_EVERY).await;
            }
        };
        self.0.tracker.spawn_on(work, &self.0.runtime);
    }

    /// Decided under the lock: who begins to wait afterwards finds nobody at work.
    fn lacks_room(&self) -> bool {
        let books = self.books();
        let lacks = books.line.lacking() > 0;
        self.0.makes_room.store(lacks, Ordering::Release);
        lacks
    }

    fn suspend_least_needed(&self) {
        let books = self.books();
        let lacking = books.line.lacking();
        let local: Vec<_> = books.local.values().filter_map(Weak::upgrade).collect();
        drop(books);
        let mut leaving = 0;
        let mut unneeded = Vec::new();
        for driver in local {
            match driver.need() {
                Need::Leaving => leaving += 1,
                Need::Nobody(since) => unneeded.push((since, driver)),
                Need::Somebody => (),
            }
        }
        unneeded.sort_by_key(|(since, _)| *since);
        let going = unneeded.iter().take(lacking.saturating_sub(leaving));
        going.for_each(|(_, driver)| driver.make_room());
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn register(&mut self, driver: &Arc<Driver>) -> u64 {
        self.rooms += 1;
        self.local.insert(self.rooms, Arc::downgrade(driver));
        self.rooms
    }
}

impl Driver {
    /// How much it is needed, where others need its room.
    fn need(&self) -> Need {
        let inner = self.lock();
        match inner.machine.state() {
            State::Emptying { .. } | State::Settling { .. } | State::Suspending => Need::Leaving,
            _ => {
                let since = inner.machine.unneeded_since(Instant::now());
                since.map_or(Need::Somebody, Need::Nobody)
            }
        }
    }

    /// Others need its room: it is suspended if nobody needs it.
    fn make_room(self: &Arc<Self>) {
        self.apply(Event::RoomWanted);
    }

    /// It runs on this machine, and was not started from here.
    pub(super) fn take_room(self: &Arc<Self>) {
        let mut room = Some(self.wiring.starts.found(self));
        let mut inner = self.lock();
        // It has one where its state has changed twice before this.
        if inner.room.is_none() && !inner.machine.is_at_rest() {
            inner.room = room.take();
        }
        drop(inner);
        drop(room);
    }
}

/// What a start of it takes.
pub(super) fn takes(compute: &dyn Compute) -> Takes {
    if compute.is_local() {
        Takes::Room
    } else {
        Takes::Nothing
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.0.books().line.ended();
        self.0.call();
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut books = self.starts.books();
        books.local.remove(&self.number);
        books.line.gone();
        drop(books);
        self.starts.call();
    }
}
