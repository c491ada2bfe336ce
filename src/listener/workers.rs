//! The threads that clients run on: one current-thread runtime each.
//!
//! Few threads batch system calls better, more give throughput: the first runtime is filled to
//! [`BUSY_ENOUGH`] before the next gets clients. A client stays on its thread, its server session with it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use crate::runtime::Own;
use crate::session::{Arrived, Door, House, Socket, serve};

/// A runtime that is busy for more than this share of the time gets no more clients while another has room.
const BUSY_ENOUGH: usize = 70;
/// One that has got this many clients since it was measured gets no more either: each costs a TLS handshake.
const NEWCOMERS_ENOUGH: usize = 32;
/// How often it is measured.
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
    /// Percent of the last measured interval, for each worker.
    busy: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
    /// Clients that came since that measurement, so that a burst does not all land here.
    newcomers: Arc<AtomicUsize>,
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
        worker.newcomers.fetch_add(1, Ordering::Relaxed);
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
        let room = |worker: &&Worker| {
            worker.busy.load(Ordering::Relaxed) < BUSY_ENOUGH
                && worker.newcomers.load(Ordering::Relaxed) < NEWCOMERS_ENOUGH
        };
        let load = |worker: &&Worker| {
            let newcomers = worker.newcomers.load(Ordering::Relaxed);
            (
                newcomers,
                worker.busy.load(Ordering::Relaxed),
                worker.clients.load(Ordering::Relaxed),
            )
        };
        self.workers.iter().find(room).unwrap_or_else(|| {
            self.workers
                .iter()
                .min_by_key(load)
                .expect("there is at least one worker")
        })
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Own::build(Builder::new_current_thread().thread_name(format!("clients-{index}")))?;
        let handle = runtime.handle().clone();
        let busy = Arc::new(AtomicUsize::new(0));
        let (stay, ended) = oneshot::channel();
        let newcomers = Arc::new(AtomicUsize::new(0));
        let measured = (busy.clone(), newcomers.clone());
        thread::Builder::new()
            .name(format!("clients-{index}"))
            .spawn(move || {
                seed_random_source();
                runtime.spawn(measure(measured.0, measured.1));
                // An error means that the sender was dropped, which is the signal.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            runtime: handle,
            busy,
            clients: Arc::default(),
            newcomers,
            _stay: stay,
        })
    }
}

/// The random source seeds itself at its first use on a thread, which takes about 25 ms: not the first client's.
fn seed_random_source() {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).expect("the system's random source does not fail");
}

/// Measures its own runtime. Ends with it.
async fn measure(busy: Arc<AtomicUsize>, newcomers: Arc<AtomicUsize>) {
    let metrics = Handle::current().metrics();
    let mut ticks = interval(MEASURE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut since, mut spent) = (Instant::now(), metrics.worker_total_busy_duration(0));
    loop {
        ticks.tick().await;
        let (now, spent_now) = (Instant::now(), metrics.worker_total_busy_duration(0));
        let share = (spent_now - spent).as_secs_f64() / (now - since).as_secs_f64().max(1e-6);
        // A share is between 0 and 1, give or take the clocks.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=100"
        )]
        busy.store((share * 100.0).clamp(0.0, 100.0) as usize, Ordering::Relaxed);
        newcomers.store(0, Ordering::Relaxed);
        (since, spent) = (now, spent_now);
    }
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
