//! Tells the supervisor how pgwake is: how many it serves, that it ends, and that its threads still turn.
//!
//! A ping means that every thread of clients, and the one of everything else, has come to a task that it was given a
//! moment ago. Where one has not, there is no ping, and the supervisor does what it does with a program that hangs.
//! The operators' thread does not count: no client is ended because a page is slow.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::ending::STOPPING_TIMEOUT;
use crate::listener::Workers;
use crate::session::House;
use crate::shutdown::Phase;
use crate::supervisor::Supervisor;

/// How often what a person reads is looked at.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// A supervisor that is told, as long as this lives.
pub(super) struct Supervision {
    supervisor: Arc<Supervisor>,
    house: Arc<House>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Supervision {
    /// Says that clients may come, and goes on from there.
    pub(super) fn begin(supervisor: Arc<Supervisor>, house: &Arc<House>, workers: &Arc<Workers>) -> Self {
        let mut tasks = Vec::new();
        if supervisor.is_there() {
            supervisor.ready(&status(house, workers));
            let task = tokio::spawn(tell_status(supervisor.clone(), house.clone(), workers.clone()));
            tasks.push(AbortOnDropHandle::new(task));
        }
        if let Some(every) = supervisor.ping_every() {
            let task = tokio::spawn(ping(supervisor.clone(), every, workers.runtimes()));
            tasks.push(AbortOnDropHandle::new(task));
        }
        Self {
            supervisor,
            house: house.clone(),
            _tasks: tasks,
        }
    }

    /// The end has begun; sessions have until then, and computes a little longer.
    pub(super) fn ending(&self, sessions: Duration) {
        let endpoints = self.house.directory.endpoints();
        let stops = endpoints.map(|endpoint| endpoint.stop_takes_at_most()).max();
        let within = sessions + STOPPING_TIMEOUT * 3 + stops.unwrap_or_default();
        self.supervisor
            .stopping(within, "ending: clients may finish what they have begun");
    }
}

impl Supervision {
    /// Whether anybody hears it.
    pub(super) fn is_heard(&self) -> bool {
        self.supervisor.is_there()
    }

    /// Another process is to be looked after from now on; it speaks for itself.
    pub(super) fn replaced_by(self, pid: u32) {
        self.supervisor.replaced_by(pid);
    }
}

async fn tell_status(supervisor: Arc<Supervisor>, house: Arc<House>, workers: Arc<Workers>) {
    let mut ticks = interval(STATUS_EVERY);
    loop {
        ticks.tick().await;
        supervisor.status(&status(&house, &workers));
    }
}

/// How pgwake is, in a line.
fn status(house: &House, workers: &Workers) -> String {
    let clients = match workers.clients() {
        1 => "1 client".to_owned(),
        clients => format!("{clients} clients"),
    };
    match house.shutdown.phase() {
        Phase::Running => {
            let (mut all, mut awake) = (0_usize, 0_usize);
            for endpoint in house.directory.endpoints() {
                all += 1;
                awake += usize::from(house.wakes.awake(&endpoint.name).is_some());
            }
            format!("serving {clients}; {awake} of {all} endpoints awake")
        }
        Phase::Leaving => format!("not ready any more, still serving {clients}"),
        Phase::Draining => format!("draining: {clients} left"),
        Phase::Stopping => format!("stopping: {clients} left"),
    }
}

/// Pings for as long as everything turns.
async fn ping(supervisor: Arc<Supervisor>, every: Duration, runtimes: Vec<Handle>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One at a time, or they would pile up where a thread hangs.
    let mut pulse: Option<Pin<Box<dyn Future<Output = bool> + Send>>> = None;
    let mut was_silent = false;
    loop {
        ticks.tick().await;
        let mut taken = pulse.take().unwrap_or_else(|| take_pulse(&runtimes));
        let is_alive = match timeout(every, &mut taken).await {
            Ok(is_alive) => is_alive,
            Err(_) => {
                pulse = Some(taken);
                false
            }
        };
        if is_alive {
            supervisor.alive();
        } else if !was_silent {
            tracing::error!("a thread of clients does not come to its tasks: the supervisor is not pinged");
        }
        was_silent = !is_alive;
    }
}

/// Whether each runtime comes to a task. This one has, or nobody would ask.
fn take_pulse(runtimes: &[Handle]) -> BoxFuture<'static, bool> {
    let beats: Vec<_> = runtimes.iter().map(|runtime| runtime.spawn(async {})).collect();
    join_all(beats)
        .map(|beats| beats.iter().all(Result::is_ok))
        .boxed()
}

#[cfg(test)]
mod tests {
    use std::{
        os::{linux::net::SocketAddrExt, unix::net::SocketAddr, unix::net::UnixDatagram},
        sync::mpsc,
        thread,
    };

    use tokio::{runtime::Builder, sync::oneshot};

    use super::*;

    /// A current-thread runtime on a thread of its own, as clients have.
    fn runtime() -> (Handle, oneshot::Sender<()>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stay, ended) = oneshot::channel();
        thread::spawn(move || {
            let _ = runtime.block_on(ended);
        });
        (handle, stay)
    }

    struct Listener(UnixDatagram);

    impl Listener {
        /// Waits for a ping.
        fn ping(&self) {
            let mut bytes = [0; 64];
            let length = self.0.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"WATCHDOG=1");
        }

        /// How many came that nobody has waited for.
        fn pending(&self) -> usize {
            self.0.set_nonblocking(true).unwrap();
            let pending = std::iter::from_fn(|| self.0.recv(&mut [0; 64]).ok()).count();
            self.0.set_nonblocking(false).unwrap();
            pending
        }
    }

    fn supervised(name: &str, runtimes: Vec<Handle>) -> (Listener, AbortOnDropHandle<()>) {
        let name = format!("pgwake-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let every = Duration::from_millis(20);
        let supervisor = Supervisor::at(format!("@{name}").as_ref(), Some(every)).unwrap();
        let task = tokio::spawn(ping(Arc::new(supervisor), every, runtimes));
        (Listener(listener), AbortOnDropHandle::new(task))
    }

    /// The time that passes is measured by the pings of a supervisor of threads that turn.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_hangs_ends_the_pings_until_it_goes_on() {
        let (sound, _stay) = runtime();
        let (hanging, _stay_too) = runtime();
        let (clock, _clock_task) = supervised("clock", vec![sound.clone()]);
        let (watched, _watched_task) = supervised("watched", vec![sound, hanging.clone()]);
        watched.ping();
        watched.ping();

        let (go_on, wait) = mpsc::channel::<()>();
        let (hangs, hung) = mpsc::channel();
        hanging.spawn(async move {
            hangs.send(()).unwrap();
            let _ = wait.recv();
        });
        hung.recv().unwrap();
        // One may have been under way.
        clock.pending();
        (0..5).for_each(|_| clock.ping());
        watched.pending();
        (0..10).for_each(|_| clock.ping());

        assert_eq!(watched.pending(), 0, "a thread hangs");
        drop(go_on);
        watched.ping();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_has_ended_ends_the_pings() {
        let (handle, stay) = runtime();
        let runtimes = [handle];
        assert!(take_pulse(&runtimes).await);
        drop(stay);
        while take_pulse(&runtimes).await {
            tokio::task::yield_now().await;
        }
        assert!(!take_pulse(&runtimes).await);
    }
}
