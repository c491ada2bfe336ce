//! What takes time for one endpoint: looking, starting, settling, stopping, watching and the timer, each a
//! tracked task that ends in an event. And what the log says about them, one line each.

use std::{
    fmt::Write,
    future::Future,
    mem,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    super::{
        backoff::Jitter,
        error::WakeId,
        figures::{Veto, WakeEvent},
        lease::{Awake, LeaseSignal},
        line::COST_MAX,
        state::Event,
    },
    Driver, Start,
    inner::{Arrival, Ends, random_bits},
};
use crate::compute::{ComputeError, Running};
use crate::ids::Generation;

/// What may be done before a suspend: reading roles takes milliseconds, closing sessions a round trip.
const BEFORE_SUSPEND_MAX: Duration = Duration::from_secs(2);

/// What an answer may take before it is none: a login and a query, on a server that has nothing else to do.
const VETO_MAX: Duration = Duration::from_secs(5);

/// A start that takes longer waits for something that other starts do not make slower. It goes on, and the next compute
/// is started beside it: computes that hang keep nobody else's waiting for more than this.
const TURN_MAX: Duration = COST_MAX;

impl Driver {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.wiring.tracker.spawn_on(task, &self.wiring.runtime)
    }

    pub(super) fn look(self: &Arc<Self>, generation: Generation) {
        let driver = self.clone();
        self.spawn(async move {
            let began = Instant::now();
            let look = unpanicked(driver.compute.inspect());
            let found = timeout(driver.compute.inspect_max(), look).await;
            match found.unwrap_or_else(|_| Err(ComputeError::new("looking took too long"))) {
                Ok(Some(running)) => {
                    driver.is_in_doubt.store(false, Ordering::Release);
                    let came = Came {
                        running,
                        wake: None,
                        took: began.elapsed(),
                    };
                    driver.came_up(generation, came, Event::FoundRunning { generation });
                }
                Ok(None) => {
                    driver.is_in_doubt.store(false, Ordering::Release);
                    driver.apply(Event::FoundAsleep { generation });
                }
                Err(error) => {
                    driver.doubt(&error);
                    driver.apply(Event::FoundAsleep { generation });
                }
            }
        });
    }

    /// Told once, however often it is looked at again.
    fn doubt(&self, error: &ComputeError) {
        let looks_again = self.compute.looks_again();
        if self.is_in_doubt.swap(looks_again, Ordering::AcqRel) {
            return;
        }
        warn!(endpoint = %self.name, reason = error.reason, detail = error.detail,
            "cannot tell whether it runs; taken for asleep");
        if looks_again {
            self.wiring.doubted.notify_one();
        }
    }

    pub(super) fn start(self: &Arc<Self>, generation: Generation, wake: WakeId, turn: Option<Start>) {
        info!(endpoint = %self.name, %wake, "woken");
        self.tell(WakeEvent::Woken { wake });
        let driver = self.clone();
        let task = self.spawn(async move {
            let began = Instant::now();
            let started = within_turn(unpanicked(driver.compute.start()), turn).await;
            driver.lock().last_start = began.elapsed();
            match started {
                Ok(running) => {
                    driver.is_in_doubt.store(false, Ordering::Release);
                    let came = Came { running, wake: Some(wake), took: began.elapsed() };
                    driver.came_up(generation, came, Event::Started { generation });
                }
                Err(error) => {
                    warn!(endpoint = %driver.name, %wake, took_ms = millis(began.elapsed()), reason = error.reason,
                        detail = error.detail, "could not be started");
                    let (took, reason) = (began.elapsed(), error.reason.clone());
                    driver.tell(WakeEvent::Failed { wake, took, reason });
                    driver.apply(Event::StartFailed {
                        generation,
                        reason: error.reason.into(),
                        jitter: Jitter::from_bits(random_bits()),
                        retry_after: error.retry_after,
                    });
                }
            }
        });
        self.lock().starting = Some(task);
    }

    fn came_up(self: &Arc<Self>, generation: Generation, came: Came, event: Event) {
        let mut awake = Some(Arc::new(Awake::new(came.running.address, generation)));
        let mut arrival = Some(Arrival {
            died: came.running.died,
            adopted: came.running.adopted,
            wake: came.wake,
            took: came.took,
            phases: came.running.phases,
        });
        let mut inner = self.lock();
        // Otherwise it is the late answer of a wake that was given up, and nobody may reach it by this.
        if inner.machine.expects(generation) {
            mem::swap(&mut inner.awake, &mut awake);
            mem::swap(&mut inner.arrival, &mut arrival);
            inner.own.clear();
        }
        inner.step(event);
        self.finish(inner);
    }

    pub(super) fn announce(self: &Arc<Self>, awake: &Awake, arrival: Arrival) {
        let wake = arrival.wake.map(tracing::field::display);
        let took_ms = millis(arrival.took);
        if arrival.adopted {
            info!(endpoint = %self.name, wake, took_ms, "found running");
        } else {
            info!(endpoint = %self.name, wake, took_ms, phases = phases_text(&arrival.phases), "ready");
        }
        if let Some(wake) = arrival.wake {
            let (took, phases) = (arrival.took, arrival.phases);
            self.tell(WakeEvent::Ready { wake, took, phases });
        }
        if self.compute.can_start() {
            self.watch_death(awake, arrival.died);
        }
        self.wiring
            .watcher
            .ready(&self.name, &awake.address, awake.generation);
    }

    fn watch_death(self: &Arc<Self>, awake: &Awake, died: BoxFuture<'static, String>) {
        let driver = self.clone();
        let generation = awake.generation;
        let mut signal = awake.signal();
        self.spawn(async move {
            let reason = tokio::select! {
                // First, because a stop that pgwake ordered is no death.
                biased;
                _ = signal.wait_for(LeaseSignal::is_over) => return,
                reason = died => reason,
            };
            warn!(endpoint = %driver.name, reason, "died");
            driver.tell(WakeEvent::Died {
                reason: reason.clone(),
            });
            driver.apply(Event::Died {
                generation,
                reason: reason.into(),
                jitter: Jitter::from_bits(random_bits()),
            });
        });
    }

    pub(super) fn settle(self: &Arc<Self>, round: u64, awake: Arc<Awake>, asks: bool) {
        let driver = self.clone();
        self.spawn(async move {
            let watcher = &driver.wiring.watcher;
            let hook = async { watcher.before_suspend(&driver.name, &awake.address).await };
            let hook = AssertUnwindSafe(hook).catch_unwind();
            if !matches!(timeout(BEFORE_SUSPEND_MAX, hook).await, Ok(Ok(()))) {
                warn!(endpoint = %driver.name, "not everything could be done before the suspend");
            }
            let veto = match asks {
                true => driver.ask_veto(&awake).await,
                false => None,
            };
            match veto {
                None => driver.apply(Event::Settled { round }),
                Some(veto) => driver.vetoed(round, veto),
            }
        });
    }

    /// Whoever is asked and does not answer has not said that it may be suspended.
    async fn ask_veto(&self, awake: &Awake) -> Option<Veto> {
        let own = self.lock().own.iter().copied().collect();
        let watcher = &self.wiring.watcher;
        let answer = async { watcher.veto(&self.name, &awake.address, own).await };
        let answer = timeout(VETO_MAX, AssertUnwindSafe(answer).catch_unwind()).await;
        answer
            .unwrap_or(Ok(Some(Veto::unanswered())))
            .unwrap_or_else(|_| Some(Veto::unanswered()))
    }

    fn vetoed(self: &Arc<Self>, round: u64, veto: Veto) {
        let mut inner = self.lock();
        let was_known = inner.machine.was_vetoed_by(&veto.reason);
        let reason = veto.reason.clone();
        inner.step(Event::Vetoed { round, reason });
        // Otherwise somebody has come meanwhile, or an order.
        let holds = inner.machine.veto(Instant::now()).is_some();
        if holds {
            inner.vetoes.count(&veto);
        }
        self.finish(inner);
        if holds && !was_known {
            info!(endpoint = %self.name, veto = &*veto.reason, "stays awake");
        }
    }

    pub(super) fn stop_compute(self: &Arc<Self>, generation: Generation, ends: Ends) {
        let starting = self.lock().starting.take();
        let driver = self.clone();
        self.spawn(async move {
            if let Some(starting) = starting {
                starting.abort();
                // Ended by this, or long since: either way no start is under way afterwards.
                let _ = starting.await;
            }
            let began = Instant::now();
            let stopped = match driver.compute.can_start() {
                true => unpanicked(driver.compute.stop()).await,
                false => Ok(()),
            };
            let took_ms = millis(began.elapsed());
            driver.lock().left = stopped.as_ref().err().map(|error| error.reason.as_str().into());
            match stopped {
                Ok(()) => {
                    driver.tell_stopped(&ends, began, took_ms);
                    driver.apply(Event::Stopped { generation });
                }
                Err(error) => {
                    warn!(endpoint = %driver.name, took_ms, reason = error.reason, detail = error.detail,
                        "could not be stopped");
                    match ends {
                        Ends::Awake(_) => driver.tell(WakeEvent::NotSuspended {
                            took: began.elapsed(),
                            reason: error.reason,
                        }),
                        // Its start has come to its end all the same, and nobody else would tell of it.
                        Ends::StartLate | Ends::StartUnneeded => {
                            driver.tell_given_up(driver.why_given_up(&ends))
                        }
                    }
                    driver.apply(Event::StopFailed { generation });
                }
            }
        });
    }

    fn tell_stopped(&self, ends: &Ends, began: Instant, took_ms: u64) {
        let awake = match ends {
            Ends::Awake(awake) => awake,
            Ends::StartLate => {
                let reason = self.why_given_up(ends);
                warn!(endpoint = %self.name, took_ms, "{reason}; stopped");
                return self.tell_given_up(reason);
            }
            Ends::StartUnneeded => {
                let reason = self.why_given_up(ends);
                info!(endpoint = %self.name, took_ms, "{reason}; stopped");
                return self.tell_given_up(reason);
            }
        };
        let (took, awake_for) = (began.elapsed(), began - awake.since);
        self.tell(WakeEvent::Suspended {
            took,
            awake: awake_for,
        });
        let awake_s = (began - awake.since).as_secs();
        info!(endpoint = %self.name, took_ms, awake_s, "suspended");
    }

    fn why_given_up(&self, ends: &Ends) -> &'static str {
        match ends {
            Ends::StartUnneeded if self.is_removed.load(Ordering::Acquire) => {
                "was removed while it was starting"
            }
            Ends::StartUnneeded => "was starting when pgwake was ended",
            Ends::StartLate | Ends::Awake(_) => "was not ready in time",
        }
    }

    fn tell_given_up(&self, reason: &str) {
        let inner = self.lock();
        let (wake, took) = (inner.wake, inner.wake_began.elapsed());
        drop(inner);
        if let Some(wake) = wake {
            let reason = reason.to_owned();
            self.tell(WakeEvent::GivenUp { wake, took, reason });
        }
    }

    /// Lives while something is due; at rest there is no task.
    pub(super) fn run_timer(self: &Arc<Self>) {
        let driver = self.clone();
        self.spawn(async move {
            while let Some(at) = driver.ring() {
                tokio::select! {
                    () = sleep_until(at) => (),
                    () = driver.rearmed.notified() => (),
                }
            }
        });
    }

    /// Tells the machine that time passed where that is due, and returns when to look next.
    fn ring(self: &Arc<Self>) -> Option<Instant> {
        let mut inner = self.lock();
        if inner.machine.due().is_some_and(|due| due <= Instant::now()) {
            let jitter = Jitter::from_bits(random_bits());
            inner.step(Event::TimePassed { jitter });
        }
        inner.timer = inner.machine.due();
        let next = inner.timer;
        self.finish(inner);
        next
    }
}

/// A compute that was found or started.
struct Came {
    running: Running,
    wake: Option<WakeId>,
    took: Duration,
}

/// Holds the turn for as long as the start takes, but no longer than [`TURN_MAX`]; an aborted start gives it back by being
/// dropped.
async fn within_turn<T>(start: impl Future<Output = T>, turn: Option<Start>) -> T {
    let mut start = std::pin::pin!(start);
    let started = timeout(TURN_MAX, &mut start).await;
    drop(turn);
    match started {
        Ok(started) => started,
        Err(_) => start.await,
    }
}

/// A compute's answer; a panic in its code is an error like others, so that its endpoint does not wait for ever.
async fn unpanicked<T>(work: BoxFuture<'_, Result<T, ComputeError>>) -> Result<T, ComputeError> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(ComputeError::new("an error in pgwake itself; its log says where")))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// `launch 3 ms, boot 41 ms`.
fn phases_text(phases: &[(&'static str, Duration)]) -> String {
    let mut text = String::new();
    for (name, took) in phases {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{name} {} ms", took.as_millis());
    }
    text
}
