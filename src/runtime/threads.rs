//! The threads that clients run on, as a client sees them from one of them: how much each of them does, and whether this
//! client were better off on another.
//!
//! Clients that share server sessions belong together: a session that goes from one thread to another costs two
//! `epoll_ctl` and wakes the other thread, for each transaction. So they go together where one thread can do it, whatever
//! the burst was that they came in, and apart where it can not. It counts what a thread *uses* of a processor: on a machine whose
//! processors are short, one that waits for its turn would not be served better by two. Nothing ticks: clients ask as
//! they come to rest, and nobody asks of threads that do nothing. Who calls: `listener` has the threads, `session` asks.

use std::{
    cell::{Cell, OnceCell},
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

/// One in so many times that a client comes to rest, it is asked.
const ASKED_EVERY: u32 = 16;
/// Nothing is measured again within this time.
const MEASURED_EVERY: Duration = Duration::from_millis(100);
/// What was measured over more than this says nothing of the present.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);
/// A thread takes clients of others up to this use of a processor, in percent.
const ROOM: u32 = 70;
/// One that uses more than this lets clients go, in percent. The distance keeps them from going to and fro.
const FULL: u32 = 90;

thread_local! {
    static HERE: OnceCell<Here> = const { OnceCell::new() };
    static MARK: Mark = Mark(NEXT_MARK.fetch_add(1, Ordering::Relaxed));
}

static NEXT_MARK: AtomicU64 = AtomicU64::new(0);

/// Tells a thread from all others of this process, for as long as that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of the thread that asks. Asked in each turn: it costs a look at one number.
    pub fn here() -> Self {
        MARK.with(|mark| *mark)
    }
}

/// All threads of clients.
#[derive(Debug)]
pub struct Threads {
    threads: Vec<Thread>,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    clients: Arc<AtomicUsize>,
    /// Where Linux says how long it has run: <https://docs.kernel.org/scheduler/sched-stats.html>.
    schedstat: PathBuf,
}

/// What the threads do, as far as it was measured.
#[derive(Debug)]
struct Measured {
    at: Instant,
    spent: Vec<Duration>,
    /// Percent of a processor; empty: not known.
    shares: Vec<u32>,
}

/// A thread's place among them.
struct Here {
    threads: Arc<Threads>,
    index: usize,
    asked: Cell<u32>,
}

impl Threads {
    /// `threads`: each one's runtime, how many clients it has, and its number, as [`number_here`] says it.
    pub fn new(threads: impl IntoIterator<Item = (Handle, Arc<AtomicUsize>, u32)>) -> Arc<Self> {
        let thread = |(runtime, clients, number)| Thread {
            runtime,
            clients,
            schedstat: format!("/proc/self/task/{number}/schedstat").into(),
        };
        Arc::new(Self {
            threads: threads.into_iter().map(thread).collect(),
            measured: Mutex::new(Measured {
                at: Instant::now(),
                spent: Vec::new(),
                shares: Vec::new(),
            }),
        })
    }

    /// The thread that runs this is the one with this index, as long as it lives.
    pub fn are_seen_here(self: &Arc<Self>, index: usize) {
        HERE.with(|here| {
            let _ = here.set(Here {
                threads: self.clone(),
                index,
                asked: Cell::new(0),
            });
        });
    }

    /// Its runtime.
    pub fn runtime(&self, index: usize) -> &Handle {
        &self.threads[index].runtime
    }

    /// How many clients it has.
    pub fn clients(&self, index: usize) -> &Arc<AtomicUsize> {
        &self.threads[index].clients
    }

    fn better(&self, here: usize) -> Option<usize> {
        // Whoever measures does it for all; nobody waits for it.
        let mut measured = match self.measured.try_lock() {
            Ok(measured) => measured,
            Err(TryLockError::Poisoned(measured)) => measured.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        measured.measure(Instant::now(), || {
            let spent = self.threads.iter().map(|thread| spent(&thread.schedstat));
            spent.collect::<io::Result<_>>().unwrap_or_default()
        });
        let clients = self.threads[here].clients.load(Ordering::Relaxed);
        measured.move_one(here, clients)
    }
}

impl Measured {
    fn measure(&mut self, now: Instant, spent: impl FnOnce() -> Vec<Duration>) {
        let passed = now.saturating_duration_since(self.at);
        if passed < MEASURED_EVERY {
            return;
        }
        let spent = spent();
        let percent = |(now, before): (&Duration, &Duration)| {
            let share = now.saturating_sub(*before).as_nanos() * 100 / passed.as_nanos();
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        self.shares.clear();
        if passed <= MEASURED_WITHIN && spent.len() == self.spent.len() {
            self.shares.extend(spent.iter().zip(&self.spent).map(percent));
        }
        (self.at, self.spent) = (now, spent);
    }

    /// Where one of the thread's clients were better off; it counts as moved.
    fn move_one(&mut self, here: usize, clients: usize) -> Option<usize> {
        let used = *self.shares.get(here)?;
        let part = used / u32::try_from(clients.max(1)).unwrap_or(u32::MAX) + 1;
        let has_room = |(_, share): &(usize, &u32)| **share + part <= ROOM;
        let mut others = self.shares.iter().enumerate();
        let found = if used > FULL {
            let others = others.filter(|(index, _)| *index != here);
            others.filter(has_room).min_by_key(|(_, share)| **share)
        } else {
            // The first of them that can do it, as the first gets clients first.
            others.find(|other| other.0 < here && has_room(other))
        };
        let (index, _) = found?;
        self.shares[index] += part;
        self.shares[here] = used.saturating_sub(part);
        Some(index)
    }
}

/// A client comes to rest on this thread: the index of the one where it were better off, if there is one.
pub fn better() -> Option<usize> {
    HERE.with(|here| {
        let here = here.get()?;
        let asked = here.asked.get() + 1;
        here.asked.set(asked % ASKED_EVERY);
        if asked < ASKED_EVERY {
            return None;
        }
        here.threads.better(here.index)
    })
}

/// This thread's number, as the system knows it.
pub fn number_here() -> u32 {
    rustix::thread::gettid().as_raw_pid().unsigned_abs()
}

/// How long a thread has run.
fn spent(schedstat: &PathBuf) -> io::Result<Duration> {
    let text = fs::read_to_string(schedstat)?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn measured(shares: &[u32]) -> Measured {
        Measured {
            at: Instant::now(),
            spent: Vec::new(),
            shares: shares.to_vec(),
        }
    }

    /// Which threads this many clients of `here` go to, asked until nobody goes.
    fn moved(shares: &[u32], here: usize, clients: usize) -> Vec<usize> {
        let mut measured = measured(shares);
        let mut gone = Vec::new();
        while let Some(to) = measured.move_one(here, clients - gone.len()) {
            gone.push(to);
            assert!(gone.len() < clients, "{shares:?}: all of {here} go: {gone:?}");
        }
        gone
    }

    #[test]
    fn clients_go_together_where_one_thread_can_do_it() {
        let mut halves = measured(&[30, 30]);
        for clients in (1..=32).rev() {
            assert_eq!(halves.move_one(1, clients), Some(0), "{halves:?}, {clients}");
        }
        assert_eq!(
            measured(&[30, 30]).move_one(0, 32),
            None,
            "the first keeps its own"
        );
        assert_eq!(measured(&[80, 0, 30]).move_one(2, 32), Some(1));
    }

    #[test]
    fn no_more_go_than_there_is_room_for() {
        let gone = moved(&[50, 60], 1, 32);
        assert!((4..=10).contains(&gone.len()), "{gone:?}");
        assert_eq!(moved(&[75, 60], 1, 32), [0; 0]);
        // One that does a great deal alone stays where it is.
        assert_eq!(moved(&[30, 60], 1, 1), [0; 0]);
    }

    #[test]
    fn clients_go_apart_where_a_thread_cannot_do_it() {
        let gone = moved(&[99, 10, 5], 0, 50);
        assert!((3..=9).contains(&gone.len()), "{gone:?}");
        assert!(gone.iter().all(|to| *to == 2 || *to == 1), "{gone:?}");
        assert_eq!(gone[0], 2, "to the one that does least");
        assert_eq!(moved(&[89, 0], 0, 50), [0; 0]);
        assert_eq!(moved(&[99, 80], 0, 50), [0; 0], "nobody has room");
        // Who has gone does not come back.
        assert_eq!(moved(&[89, 12], 1, 6), [0; 0]);
    }

    #[test]
    fn what_was_not_measured_moves_nobody() {
        let began = Instant::now();
        let mut threads = measured(&[]);
        threads.at = began;
        assert_eq!(threads.move_one(1, 5), None);
        threads.measure(began + 100 * MS, || vec![5 * MS, 5 * MS]);
        assert_eq!(threads.shares, [0; 0], "there is nothing to compare with");
        threads.measure(began + 199 * MS, || unreachable!("within {MEASURED_EVERY:?}"));
        threads.measure(began + 200 * MS, || vec![55 * MS, 5 * MS]);
        assert_eq!(threads.shares, [50, 0]);
        threads.measure(began + 10_000 * MS, || vec![9000 * MS, 5 * MS]);
        assert_eq!(threads.shares, [0; 0], "that was long ago");
        threads.measure(began + 10_100 * MS, Vec::new);
        assert_eq!(threads.shares, [0; 0], "the system does not say");
    }

    #[test]
    fn linux_says_how_long_a_thread_has_run() {
        let path = format!("/proc/self/task/{}/schedstat", number_here());
        let before = spent(&path.clone().into()).unwrap();
        let began = Instant::now();
        while began.elapsed() < 20 * MS {}
        assert!(spent(&path.into()).unwrap() > before);
    }
}
