//! A compute that does what a test says, and a watcher that notes what it is told.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::oneshot, time::sleep};

use super::super::*;
use crate::compute::{ComputeError, Running};
use crate::config::{ServerAddress, ServerTls, SuspendVeto};

/// How one start goes.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Takes(Duration),
    Fails(&'static str),
    Hangs,
    Panics,
}

/// Starts take [`START`] unless scripted otherwise.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) starts: Mutex<VecDeque<Start>>,
    pub(super) stop_fails: AtomicBool,
    pub(super) started: AtomicU64,
    pub(super) stopped: AtomicU64,
    pub(super) runs: AtomicBool,
    is_fixed: bool,
    stop_takes: Duration,
    busy: AtomicBool,
    death: Mutex<Option<oneshot::Sender<String>>>,
}

pub(super) const START: Duration = Duration::from_millis(50);
pub(super) const STOP: Duration = Duration::from_millis(20);

/// One of inspect, start and stop at a time.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    fn enter(flag: &'a AtomicBool) -> Self {
        assert!(!flag.swap(true, SeqCst), "two things at once for one compute");
        Self(flag)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

impl Scripted {
    /// One that is suspended in [`STOP`].
    pub(super) fn new() -> Self {
        Self {
            stop_takes: STOP,
            ..Self::default()
        }
    }

    /// A server that is always there.
    pub(super) fn fixed() -> Self {
        Self {
            is_fixed: true,
            ..Self::default()
        }
    }

    /// One that hardly takes any time.
    pub(super) fn quick(starts: usize) -> Self {
        let quick = Self {
            stop_takes: Duration::from_millis(1),
            ..Self::default()
        };
        quick.script((0..starts).map(|_| Start::Takes(Duration::from_millis(1))));
        quick
    }

    pub(super) fn script(&self, starts: impl IntoIterator<Item = Start>) {
        self.starts.lock().unwrap().extend(starts);
    }

    pub(super) fn die(&self, reason: &str) {
        self.runs.store(false, SeqCst);
        let death = self.death.lock().unwrap().take().unwrap();
        death.send(reason.into()).unwrap();
    }

    fn running(&self, adopted: bool) -> Running {
        let (death, died) = oneshot::channel();
        *self.death.lock().unwrap() = Some(death);
        let died = async {
            match died.await {
                Ok(reason) => reason,
                Err(_) => pending().await,
            }
        };
        Running {
            address: address(),
            adopted,
            died: died.boxed(),
            phases: vec![
                ("spawn", Duration::from_millis(3)),
                ("recovery", Duration::from_millis(47)),
            ],
        }
    }
}

pub(super) fn address() -> Address {
    Address {
        server: ServerAddress::Unix("/tmp/scripted/.s.PGSQL.5432".into()),
        tls: ServerTls::Disable,
        server_uid: None,
    }
}

impl Compute for Scripted {
    fn can_suspend(&self) -> bool {
        !self.is_fixed
    }

    fn is_local(&self) -> bool {
        !self.is_fixed
    }

    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>> {
        async {
            let _busy = Busy::enter(&self.busy);
            sleep(Duration::from_millis(1)).await;
            Ok(self.runs.load(SeqCst).then(|| self.running(true)))
        }
        .boxed()
    }

    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>> {
        async {
            let _busy = Busy::enter(&self.busy);
            self.started.fetch_add(1, SeqCst);
            let script = self.starts.lock().unwrap().pop_front();
            match script.unwrap_or(Start::Takes(START)) {
                Start::Takes(time) => sleep(time).await,
                Start::Fails(reason) => {
                    sleep(START).await;
                    return Err(ComputeError::new(reason));
                }
                Start::Hangs => pending().await,
                Start::Panics => panic!("scripted"),
            }
            let adopted = self.runs.swap(true, SeqCst);
            Ok(self.running(adopted))
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        async {
            let _busy = Busy::enter(&self.busy);
            assert!(!self.is_fixed);
            sleep(self.stop_takes).await;
            self.stopped.fetch_add(1, SeqCst);
            if self.stop_fails.swap(false, SeqCst) {
                return Err(ComputeError::new("a backend does not end"));
            }
            self.runs.store(false, SeqCst);
            Ok(())
        }
        .boxed()
    }
}

/// What is said to a question.
pub(super) enum Answer {
    Vetoed(&'static str),
    Never,
    Panics,
}

/// Notes what happened, in order.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) heard: Mutex<Vec<String>>,
    /// How often whoever holds a lease was told to look.
    pub(super) signalled: AtomicUsize,
    pub(super) hook_takes: Mutex<Duration>,
    /// What is said to each question, in turn; nothing speaks against it afterwards.
    pub(super) answers: Mutex<VecDeque<Answer>>,
}

impl Notes {
    fn note(&self, text: String) {
        self.heard.lock().unwrap().push(text);
    }
}

/// The watcher that a test hands in.
pub(super) struct Watching(pub(super) Arc<Notes>);

impl WakeWatcher for Watching {
    fn signalled(&self, _: &EndpointName) {
        self.0.signalled.fetch_add(1, SeqCst);
    }

    fn ready(&self, _: &EndpointName, _: &Address, generation: Generation) {
        self.0.note(format!("ready {generation}"));
    }

    fn happened(&self, _: &EndpointName, event: WakeEvent) {
        match event {
            WakeEvent::GivenUp { reason, .. } => self.0.note(format!("given up: {reason}")),
            WakeEvent::NotSuspended { reason, .. } => self.0.note(format!("not suspended: {reason}")),
            _ => (),
        }
    }

    fn before_suspend(&self, _: &EndpointName, _: &Address) -> BoxFuture<'static, ()> {
        self.0.note("before suspend".into());
        let takes = *self.0.hook_takes.lock().unwrap();
        sleep(takes).boxed()
    }

    fn veto(&self, _: &EndpointName, _: &Address, own: Vec<i32>) -> BoxFuture<'static, Option<Veto>> {
        self.0.note(format!("asked, {own:?} are own"));
        let kind = Some(SuspendVeto::Clients);
        let answer = self.0.answers.lock().unwrap().pop_front();
        match answer {
            None => async { None }.boxed(),
            Some(Answer::Vetoed(reason)) => {
                let reason = reason.into();
                async move { Some(Veto { kind, reason }) }.boxed()
            }
            Some(Answer::Never) => pending().boxed(),
            Some(Answer::Panics) => panic!("scripted"),
        }
    }
}
