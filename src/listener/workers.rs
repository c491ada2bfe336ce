//! The threads that clients run on: one current-thread runtime each.
//!
//! Few threads batch system calls better, more give throughput: the first runtime is filled to
//! [`BUSY_ENOUGH`] before the next gets clients. A client stays on its thread, its server session with it.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::runtime::Own;
use crate::session::{Arrived, Door, House, Socket, serve};

/// A runtime that is busy for more than this share of the time, in percent, gets no more clients while another has room.
const BUSY_ENOUGH: u32 = 70;
/// One that has got this many clients since it was measured gets no more either: each costs a TLS handshake.
const NEWCOMERS_ENOUGH: u32 = 32;
/// It is measured when a client comes, but not again within this time.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// All workers, and the clients they serve.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    sessions: TaskTracker,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    clients: Arc<AtomicUsize>,
    load: Mutex<Load>,
    /// Dropping it ends the thread.
    _stay: oneshot::Sender<()>,
}

impl Workers {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// What the system says where a thread cannot be made.
    pub fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self {
            workers,
            sessions: TaskTracker::new(),
        })
    }

    /// How many clients are being served.
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    /// What the threads run on, for whoever wants to know whether they still do.
    pub fn runtimes(&self) -> Vec<Handle> {
        self.workers.iter().map(|worker| worker.runtime.clone()).collect()
    }

    /// The thread that accepts.
    pub(super) fn accepting(&self) -> &Handle {
        &self.workers[0].runtime
    }

    /// Serves a client, which was accepted on the thread that does, in a task of its own.
    pub(super) fn serve(&self, socket: Socket, door: Arc<Door>, house: Arc<House>) {
        let at = Instant::now();
        let worker = self.roomiest();
        worker.load().newcomers += 1;
        let count = Counted::new(&worker.clients);
        let is_elsewhere = worker.runtime.id() != self.accepting().id();
        let session = async move {
            let _count = count;
            let socket = match is_elsewhere {
                true => socket.moved_here(),
                false => Ok(socket),
            };
            match socket {
                // Boxed: this task has a place for whatever it was once given.
                Ok(socket) => serve(Box::new(Arrived { socket, at, door }), house).await,
                Err(error) => tracing::warn!(%error, "client's socket could not be taken over"),
            }
        };
        self.sessions.spawn_on(session, &worker.runtime);
    }

    /// Waits until no client is served any more. Cancel safe.
    pub async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }

    fn roomiest(&self) -> &Worker {
        let has_room = |worker: &&Worker| worker.measured().has_room();
        let rank = |worker: &&Worker| {
            let Load { newcomers, busy, .. } = *worker.load();
            (newcomers, busy, worker.clients.load(Ordering::Relaxed))
        };
        let workers = self.workers.iter();
        let with_room = workers.clone().find(has_room);
        with_room
            .or_else(|| workers.min_by_key(rank))
            .expect("there is at least one worker")
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Own::build(Builder::new_current_thread().thread_name(format!("clients-{index}")))?;
        let handle = runtime.handle().clone();
        let (stay, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("clients-{index}"))
            .spawn(move || {
                seed_random_source();
                // An error means that the sender was dropped, which is the signal.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            runtime: handle,
            clients: Arc::default(),
            load: Mutex::new(Load::new(Instant::now())),
            _stay: stay,
        })
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its load as of now. Nothing ticks for it: a thread that nobody needs never wakes.
    fn measured(&self) -> MutexGuard<'_, Load> {
        let mut load = self.load();
        load.measure(Instant::now(), || {
            self.runtime.metrics().worker_total_busy_duration(0)
        });
        load
    }
}

/// How much a worker has to do, as far as it was measured.
#[derive(Debug)]
struct Load {
    /// When that was.
    at: Instant,
    /// How long it had been busy until then.
    spent: Duration,
    /// Percent of the time between that measurement and the one before.
    busy: u32,
    /// Clients that came since then, so that a burst does not all land on one.
    newcomers: u32,
}

impl Load {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            spent: Duration::ZERO,
            busy: 0,
            newcomers: 0,
        }
    }

    /// `spent`: how long it has been busy until now.
    fn measure(&mut self, now: Instant, spent: impl FnOnce() -> Duration) {
        let passed = now.saturating_duration_since(self.at);
        if passed < MEASURE_EVERY {
            return;
        }
        let spent = spent();
        let share = spent.saturating_sub(self.spent).as_nanos() * 100 / passed.as_nanos();
        *self = Self {
            at: now,
            spent,
            busy: u32::try_from(share).unwrap_or(u32::MAX),
            newcomers: 0,
        };
    }

    fn has_room(&self) -> bool {
        self.busy < BUSY_ENOUGH && self.newcomers < NEWCOMERS_ENOUGH
    }
}

/// The random source seeds itself at its first use on a thread, which takes about 25 ms: not the first client's.
fn seed_random_source() {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).expect("the system's random source does not fail");
}

/// One client, counted while this lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_has_much_to_do_has_no_room_until_it_is_measured_again() {
        let began = Instant::now();
        let mut load = Load::new(began);
        assert!(load.has_room());
        load.measure(began + 200 * MS, || 139 * MS);
        assert!(load.has_room(), "{load:?}");
        load.measure(began + 400 * MS, || 279 * MS);
        assert!(!load.has_room(), "{load:?}");
        load.measure(began + 499 * MS, || {
            unreachable!("measured again within {MEASURE_EVERY:?}")
        });
        assert!(!load.has_room());
        // By what it did since then, not since it began.
        load.measure(began + 500 * MS, || 300 * MS);
        assert!(load.has_room(), "{load:?}");
    }

    #[test]
    fn a_burst_does_not_all_land_on_one() {
        let began = Instant::now();
        let mut load = Load::new(began);
        load.newcomers = NEWCOMERS_ENOUGH;
        load.measure(began + 99 * MS, || Duration::ZERO);
        assert!(!load.has_room());
        load.measure(began + 100 * MS, || Duration::ZERO);
        assert!(load.has_room());
    }

    /// Nobody comes for an hour, and the thread had much to do at the end of it: the next one sees the hour, the one behind
    /// it what holds.
    #[test]
    fn what_was_not_measured_in_long_is_measured_twice() {
        let hour = Duration::from_secs(3600);
        let began = Instant::now();
        let mut load = Load::new(began);
        load.measure(began + hour, || 10_000 * MS);
        assert!(load.has_room());
        load.measure(began + hour + 100 * MS, || 10_100 * MS);
        assert!(!load.has_room());
    }
}
