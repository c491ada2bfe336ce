//! The threads that clients run on: one current-thread runtime each.
//!
//! Few threads batch system calls better, more give throughput: the first runtime is filled to
//! [`BUSY_ENOUGH`] before the next gets clients. Where a burst of them has spread over more threads than their work
//! needs, or their work has become too much for one, they go elsewhere later (`runtime::threads`).

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::runtime::{
    Own,
    threads::{self, Threads},
};
use crate::session::{Arrived, Door, House, Socket, Staying, serve};

/// The thread that accepts.
const ACCEPTING: usize = 0;
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
    threads: Arc<Threads>,
    sessions: TaskTracker,
}

#[derive(Debug)]
struct Worker {
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
        let begun: Vec<_> = (0..count.max(1))
            .map(Beginning::start)
            .collect::<io::Result<_>>()?;
        let thread = |begun: &Beginning| (begun.runtime.clone(), Arc::default(), begun.number);
        let threads = Threads::new(begun.iter().map(thread));
        let workers = begun.into_iter().map(|begun| {
            // One that has ended already has no use for it.
            let _ = begun.threads.send(threads.clone());
            Worker {
                load: Mutex::new(Load::new(Instant::now())),
                _stay: begun.stay,
            }
        });
        Ok(Self {
            workers: workers.collect(),
            threads,
            sessions: TaskTracker::new(),
        })
    }

    /// How many clients are being served.
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    /// What the threads run on, for whoever wants to know whether they still do.
    pub fn runtimes(&self) -> Vec<Handle> {
        let runtime = |index| self.threads.runtime(index).clone();
        (0..self.workers.len()).map(runtime).collect()
    }

    /// The thread that accepts.
    pub(super) fn accepting(&self) -> &Handle {
        self.threads.runtime(ACCEPTING)
    }

    /// Serves a client, which was accepted on the thread that does, in a task of its own.
    pub(super) fn serve(&self, socket: Socket, door: Arc<Door>, house: Arc<House>) {
        let at = Instant::now();
        let index = self.roomiest();
        self.workers[index].load().newcomers += 1;
        let is_elsewhere = index != ACCEPTING;
        let session = async move {
            let socket = match is_elsewhere {
                true => socket.moved_here(),
                false => Ok(socket),
            };
            match socket {
                // Boxed: this task has a place for whatever it was once given.
                Ok(socket) => serve(Box::new(Arrived { socket, at, door }), house).await,
                Err(error) => {
                    tracing::warn!(%error, "client's socket could not be taken over");
                    None
                }
            }
        };
        spawn(session, index, self.threads.clone(), &self.sessions);
    }

    /// Waits until no client is served any more. Cancel safe.
    pub async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }

    fn roomiest(&self) -> usize {
        let has_room = |index: &usize| self.measured(*index).has_room();
        let rank = |index: &usize| {
            let Load { newcomers, busy, .. } = *self.workers[*index].load();
            (
                newcomers,
                busy,
                self.threads.clients(*index).load(Ordering::Relaxed),
            )
        };
        let indexes = 0..self.workers.len();
        let with_room = indexes.clone().find(has_room);
        with_room
            .or_else(|| indexes.min_by_key(rank))
            .expect("there is at least one worker")
    }

    /// A worker's load as of now. Nothing ticks for it: a thread that nobody needs never wakes.
    fn measured(&self, index: usize) -> MutexGuard<'_, Load> {
        let mut load = self.workers[index].load();
        load.measure(Instant::now(), || {
            self.threads
                .runtime(index)
                .metrics()
                .worker_total_busy_duration(0)
        });
        load
    }
}

/// Serves a client on the thread with this index, and goes on in a task of its own, there or where it is served better.
fn spawn(
    session: impl Future<Output = Option<Staying>> + Send + 'static,
    index: usize,
    threads: Arc<Threads>,
    sessions: &TaskTracker,
) {
    let count = Counted::new(threads.clients(index));
    let (runtime, tracker) = (threads.runtime(index).clone(), sessions.clone());
    // No block around it: that would have a second place for all that a client needs.
    let session = session.map(move |staying| {
        drop(count);
        if let Some(staying) = staying {
            let index = staying.thread().unwrap_or(index);
            spawn(staying.go_on(), index, threads, &tracker);
        }
    });
    sessions.spawn_on(session, &runtime);
}

impl Worker {
    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that begins: its runtime, its number, and where it hears of the others.
struct Beginning {
    runtime: Handle,
    number: u32,
    threads: oneshot::Sender<Arc<Threads>>,
    stay: oneshot::Sender<()>,
}

impl Beginning {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Own::build(Builder::new_current_thread().thread_name(format!("clients-{index}")))?;
        let handle = runtime.handle().clone();
        let (stay, ended) = oneshot::channel();
        let (threads, all) = oneshot::channel::<Arc<Threads>>();
        let (number, said) = mpsc::channel();
        thread::Builder::new()
            .name(format!("clients-{index}"))
            .spawn(move || {
                let _ = number.send(threads::number_here());
                seed_random_source();
                // Errors mean that the senders were dropped, which is the signal.
                runtime.block_on(async {
                    if let Ok(all) = all.await {
                        all.are_seen_here(index);
                    }
                    let _ = ended.await;
                });
            })?;
        let number = said.recv().map_err(io::Error::other)?;
        Ok(Self {
            runtime: handle,
            number,
            threads,
            stay,
        })
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
