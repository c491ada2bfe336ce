//! The one signal that ends everything: running, leaving, draining, stopping. And what ends a single session.
//!
//! It only tells; who accepts, relays or waits watches it and ends by itself. `server` raises it. A session, of which there
//! are thousands, has a [`Bell`] instead of a place in the line of those who wait: it is rung whenever there may be something
//! new, by whoever lists sessions, and looks for itself. So a session that begins to wait takes no lock, but its own behind a
//! ring.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::watch;

/// How far the end of this process has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Serving.
    Running,
    /// Serving as ever, but not for long: whoever sends clients here should send them elsewhere.
    Leaving,
    /// Nothing new is accepted; idle sessions end, transactions may finish.
    Draining,
    /// The time for draining is over: everything ends now.
    Stopping,
}

/// The right to raise the signal. Kept by `server`.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// Sees the signal. Cheap to clone; one per task.
#[derive(Clone, Debug)]
pub struct ShutdownWatch(watch::Receiver<Phase>);

/// What a session's task is woken by beside its own business, and whether the session is to end alone.
#[derive(Debug, Default)]
pub struct Bell {
    is_ended: AtomicBool,
    /// How often it was rung. Changed only under the lock of `task`: who sees the same number as when it began to listen is
    /// still listened for.
    rings: AtomicUsize,
    /// Who listens; nobody once it was rung.
    task: Mutex<Option<Waker>>,
}

/// That a task listens to a bell.
#[derive(Clone, Debug)]
struct Listening {
    /// Until it is rung once more.
    rings: usize,
    task: Waker,
}

/// Sees the signal, and the end of one session alone. Cheap to clone; only the session's own task waits.
#[derive(Clone, Debug)]
pub struct SessionWatch {
    all: watch::Receiver<Phase>,
    /// What `all` said when it was last asked.
    seen: Phase,
    bell: Arc<Bell>,
    listening: Option<Listening>,
}

impl Shutdown {
    /// A signal that says [`Phase::Running`].
    pub fn new() -> (Self, ShutdownWatch) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Self(sender), ShutdownWatch(receiver))
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Moves on to `phase`; going back is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = phase > *now;
            *now = (*now).max(phase);
            further
        });
    }
}

impl ShutdownWatch {
    /// The same for a session that this bell belongs to.
    pub fn of_session(&self, bell: &Arc<Bell>) -> SessionWatch {
        let mut all = self.0.clone();
        let seen = *all.borrow_and_update();
        SessionWatch {
            all,
            seen,
            bell: bell.clone(),
            listening: None,
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` (or a later one) is reached; also when the sender is gone. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that `server` is gone: that is the end, too.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }

    /// Waits until there is another phase than before; `None` when the sender is gone. Cancel safe.
    pub async fn changed(&mut self) -> Option<Phase> {
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}

impl Bell {
    /// Has the session's task look whether anything concerns it.
    pub fn ring(&self) {
        let mut task = self.task();
        self.rings.fetch_add(1, Ordering::Release);
        let woken = task.take();
        drop(task);
        if let Some(woken) = woken {
            woken.wake();
        }
    }

    /// Has this task woken by the next ring. Answers how often it was rung before.
    fn wake_next(&self, waker: &Waker) -> usize {
        let mut task = self.task();
        let before = task.replace(waker.clone());
        let rings = self.rings.load(Ordering::Relaxed);
        drop(task);
        // It may be the end of a task, which is none of this lock's business.
        drop(before);
        rings
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing is done under the lock that could leave it half changed.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session, and nobody else.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether it was ended alone.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }
}

impl SessionWatch {
    /// The session's task is woken by the next ring. To be said before it looks, so that none is missed. In most turns it
    /// still is: that costs no more than a look.
    fn listen(&mut self, cx: &Context<'_>) {
        let rings = self.bell.rings.load(Ordering::Acquire);
        let is_still =
            |listening: &Listening| listening.rings == rings && listening.task.will_wake(cx.waker());
        if self.listening.as_ref().is_some_and(is_still) {
            return;
        }
        let rings = self.bell.wake_next(cx.waker());
        let task = cx.waker().clone();
        self.listening = Some(Listening { rings, task });
    }

    /// The present phase, for this session.
    pub fn phase(&mut self) -> Phase {
        if self.bell.is_ended() {
            return Phase::Stopping;
        }
        // This takes a lock only where there is something new.
        match self.all.has_changed() {
            Ok(false) => (),
            Ok(true) => self.seen = *self.all.borrow_and_update(),
            // `server` is gone: that is the end, too.
            Err(_) => self.seen = Phase::Stopping,
        }
        self.seen
    }

    /// Whether it is ended alone, and not with all.
    pub fn is_alone(&self) -> bool {
        *self.all.borrow() < Phase::Draining
    }

    /// `Ready` when `phase` (or a later one) is reached.
    pub fn poll_reached(&mut self, cx: &Context<'_>, phase: Phase) -> Poll<()> {
        self.listen(cx);
        match self.phase() >= phase {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Waits until `phase` (or a later one) is reached. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        poll_fn(|cx| self.poll_reached(cx, phase)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        task::Wake,
        time::{Duration, Instant},
    };

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn either_signal_ends_a_session_and_its_own_ends_nobody_else() {
        let (all, watch) = Shutdown::new();
        let (one, other) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (mut ended, mut stays) = (watch.of_session(&one), watch.of_session(&other));
        one.end();
        assert!(ended.reached(Phase::Stopping).now_or_never().is_some());
        assert_eq!(
            (ended.phase(), stays.phase(), watch.phase()),
            (Phase::Stopping, Phase::Running, Phase::Running)
        );
        assert!(ended.is_alone());

        all.advance(Phase::Draining);
        assert!(stays.reached(Phase::Draining).now_or_never().is_some());
        assert!(stays.reached(Phase::Stopping).now_or_never().is_none());
        assert!(!stays.is_alone());
        drop(all);
        assert!(stays.reached(Phase::Stopping).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_session_that_waits_looks_when_its_bell_rings() {
        let (all, watch) = Shutdown::new();
        let bell = Arc::new(Bell::default());
        let mut session = watch.of_session(&bell);
        let waiting = tokio::spawn(async move { session.reached(Phase::Draining).await });
        tokio::task::yield_now().await;
        bell.ring();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "nothing has ended");
        all.advance(Phase::Draining);
        bell.ring();
        tokio::task::yield_now().await;
        assert!(waiting.is_finished());
    }

    /// Wakes a thread that sleeps.
    struct Sleeper(std::thread::Thread);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// A session that happened to look for another reason while its bell was being rung took that ring for one that it was
    /// still to hear, did not listen again behind it, and slept through the next one.
    #[test]
    fn who_looks_while_it_rings_hears_the_next_ring_too() {
        const RINGS: usize = 50_000;
        const PATIENCE: Duration = Duration::from_secs(5);
        let (_all, watch) = Shutdown::new();
        let bell = Arc::new(Bell::default());
        let session = watch.of_session(&bell);
        let [said, heard, slept] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let listener = std::thread::spawn({
            let (said, heard, slept) = (said.clone(), heard.clone(), slept.clone());
            move || {
                let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
                let (mut session, cx) = (session, Context::from_waker(&waker));
                while heard.load(Ordering::SeqCst) < RINGS {
                    // It has something else to do as well.
                    for _ in 0..100 {
                        assert!(session.poll_reached(&cx, Phase::Draining).is_pending());
                    }
                    let last = said.load(Ordering::SeqCst);
                    if heard.swap(last, Ordering::SeqCst) == last {
                        slept.store(last, Ordering::SeqCst);
                        let began = Instant::now();
                        std::thread::park_timeout(PATIENCE);
                        assert!(began.elapsed() < PATIENCE, "nobody woke it");
                    }
                }
            }
        });
        let until = |count: &AtomicUsize, ring: usize| {
            while count.load(Ordering::SeqCst) < ring && !listener.is_finished() {
                std::hint::spin_loop();
            }
        };
        for ring in 1..=RINGS {
            said.store(ring, Ordering::SeqCst);
            bell.ring();
            until(&heard, ring);
            // The next one meets it awake, the one behind that asleep.
            if ring % 2 == 0 {
                until(&slept, ring);
            }
        }
        listener.join().expect("it hears every ring");
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_ring_wakes_the_task_that_asked_last() {
        let (_all, watch) = Shutdown::new();
        let bell = Arc::new(Bell::default());
        let mut session = watch.of_session(&bell);
        let (first, second) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let woken = || [&first, &second].map(|task| task.0.load(Ordering::Relaxed));
        let mut asks = |task: &Arc<Task>| {
            let waker = Waker::from(task.clone());
            let asked = session.poll_reached(&Context::from_waker(&waker), Phase::Draining);
            assert!(asked.is_pending());
        };
        asks(&first);
        asks(&first);
        bell.ring();
        bell.ring();
        assert_eq!(woken(), [1, 0]);
        asks(&first);
        bell.ring();
        assert_eq!(woken(), [2, 0]);
        asks(&first);
        // It goes on as another task.
        asks(&second);
        bell.ring();
        assert_eq!(woken(), [2, 1]);
    }
}
