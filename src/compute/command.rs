//! Computes that commands start, stop and look at: units of systemd, containers, machines of a cloud.
//!
//! What runs there is the commands' affair; pgwake knows where it listens and what `status` says. It never takes
//! "nobody knows" for "it does not run": nothing is started then. `server` builds it, `wake` calls it.
//!
//! **Invariant:** one command at a time runs for an endpoint (the turn), also after this process was killed and came
//! again (the record); `start` runs only after `status` has said, under no other's turn, that the compute does not run.

mod address;
mod output;
mod places;
mod record;
mod run;

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::run::Commands;
use self::{
    address::address_of,
    record::{Left, Record},
    run::{Claim, Ended, Order, Purpose, Whose, end_group, is_there},
};
use super::{
    Address, Compute, ComputeError, Phases, Running,
    answer::answered,
    process::{blocking, os_process::Ending},
};
use crate::config::{self, CommandLine, Endpoint};

/// What systemctl says of units that are not active, and the LSB's init scripts before it
/// (<https://www.freedesktop.org/software/systemd/man/latest/systemctl.html#Exit%20status>).
const NOT_RUNNING: i32 = 3;
/// How long one that could not be reached has to answer where `status` says that it runs.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether a stop has come to its end.
const STOPPED_LOOK: Duration = Duration::from_millis(500);
/// Of an inspection beside its commands: what waits for a place, and what dies slowly.
const INSPECT_SLACK: Duration = Duration::from_secs(20);

/// A compute of commands.
pub(crate) struct CommandCompute {
    site: Arc<Site>,
}

/// What the parts of a compute share.
struct Site {
    whose: Arc<Whose>,
    commands: Commands,
    config: config::CommandCompute,
    start_limit: Duration,
    stop_limit: Duration,
    /// Who may run a command.
    turn: Arc<Mutex<()>>,
    /// What an earlier pgwake left has been looked at.
    is_settled: AtomicBool,
    /// It was reached, or should have been, in this pgwake's life.
    was_running: AtomicBool,
    _claim: Claim,
}

/// What `status` says.
enum Status {
    Running(Ended),
    NotRunning,
}

impl CommandCompute {
    /// A compute of which nothing is known yet.
    ///
    /// # Errors
    /// An earlier compute of this endpoint is still being stopped.
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &config::CommandCompute,
        commands: Commands,
    ) -> Result<Self, ComputeError> {
        let claim = commands.claim(&endpoint.name).ok_or_else(|| {
            ComputeError::new("the compute that it had before is still being stopped: try again in a moment")
        })?;
        let whose = Whose {
            endpoint: endpoint.name.clone(),
            tenant: endpoint.tenant.clone(),
            environment: config.environment.clone(),
            record: Record::new(&commands.folder, &endpoint.name),
        };
        let site = Site {
            whose: Arc::new(whose),
            commands,
            start_limit: config.start_timeout.unwrap_or(endpoint.start_timeout),
            stop_limit: config.stop_timeout.unwrap_or(endpoint.stop_timeout),
            config: config.clone(),
            turn: Arc::default(),
            is_settled: AtomicBool::new(false),
            was_running: AtomicBool::new(false),
            _claim: claim,
        };
        Ok(Self { site: Arc::new(site) })
    }

    /// Whether its programs are there. It blocks for a few looks, and changes nothing.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn check(&self) -> Result<(), ComputeError> {
        let config = &self.site.config;
        let lines = [&config.status, &config.start].into_iter().chain(&config.stop);
        for CommandLine { program, .. } in lines {
            if !is_there(program, &config.environment) {
                return Err(ComputeError::new(format!("there is no program {program} to run")));
            }
        }
        Ok(())
    }
}

impl Compute for CommandCompute {
    fn can_suspend(&self) -> bool {
        self.site.config.stop.is_some()
    }

    fn can_start(&self) -> bool {
        true
    }

    fn inspect_max(&self) -> Duration {
        let site = &self.site;
        // A start or a stop that a killed pgwake has left behind is waited for.
        site.config.status_timeout + site.start_limit.max(site.stop_limit) + INSPECT_SLACK
    }

    /// Cancel safe: the command is ended.
    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>> {
        self.site.inspect().boxed()
    }

    /// It waits until the server answers, however long that takes. Cancel safe as far as the command is ended; what
    /// it had done by then may stay.
    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>> {
        self.site.start().boxed()
    }

    /// Without a command for it: only waits until no other command runs. Cancel safe: the command is ended.
    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        self.site.stop().boxed()
    }
}

impl fmt::Debug for CommandCompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandCompute")
            .field("endpoint", &self.site.whose.endpoint)
            .finish_non_exhaustive()
    }
}

impl Site {
    async fn inspect(self: &Arc<Self>) -> Result<Option<Running>, ComputeError> {
        let Status::Running(ended) = self.status().await? else {
            return Ok(None);
        };
        let address = self.address(ended)?;
        if self.was_running.load(Ordering::Relaxed)
            && timeout(ANSWER_PATIENCE, answered(&address)).await.is_err()
        {
            let reason = "its status command says that it runs, and nothing answers at its address";
            return Err(ComputeError::new(reason));
        }
        Ok(Some(self.running(address, Vec::new(), true)))
    }

    async fn start(self: &Arc<Self>) -> Result<Running, ComputeError> {
        let mut phases = Phases::begin();
        let found = self.status().await?;
        phases.end("status");
        if let Status::Running(ended) = found {
            let address = self.address(ended)?;
            answered(&address).await;
            return Ok(self.running(address, phases.done, true));
        }
        let started = match self.start_now(&mut phases).await {
            Ok(address) => address,
            Err(error) => {
                self.clear_after_failure().await;
                return Err(error);
            }
        };
        answered(&started).await;
        phases.end("answer");
        Ok(self.running(started, phases.done, false))
    }

    async fn start_now(&self, phases: &mut Phases) -> Result<Address, ComputeError> {
        let ended = self.run(Purpose::Start).await?;
        let ended = succeeded(ended, Purpose::Start)?;
        phases.end("start");
        let is_silent = ended.line.as_deref() == Some("");
        if self.config.address.is_some() || !is_silent {
            return self.address(ended);
        }
        match self.status().await? {
            Status::Running(ended) => self.address(ended),
            Status::NotRunning => Err(ComputeError::new(
                "its start command succeeded, and its status command says that it does not run",
            )),
        }
    }

    /// Nothing is left half started.
    async fn clear_after_failure(&self) {
        if let Err(error) = self.stop_now().await {
            tracing::warn!(endpoint = %self.whose.endpoint, reason = error.reason, detail = error.detail,
                "what a failed start may have left could not be stopped");
        }
    }

    async fn stop(&self) -> Result<(), ComputeError> {
        self.settle().await?;
        self.stop_now().await
    }

    async fn stop_now(&self) -> Result<(), ComputeError> {
        if self.config.stop.is_none() {
            // Whatever is still being ended has come to its end afterwards.
            drop(self.turn.lock().await);
            return Ok(());
        }
        let deadline = Instant::now() + self.stop_limit;
        let ended = self.run(Purpose::Stop).await?;
        succeeded(ended, Purpose::Stop)?;
        // Some commands end before what they stop.
        while let Status::Running(_) = self.status().await? {
            if Instant::now() >= deadline {
                let reason = "its stop command succeeded, and its status command says that it still runs";
                return Err(ComputeError::new(reason));
            }
            sleep(STOPPED_LOOK).await;
        }
        self.was_running.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// Nobody knows: neither of the two may be assumed.
    async fn status(&self) -> Result<Status, ComputeError> {
        self.settle().await?;
        let ended = self.run(Purpose::Status).await?;
        match ended.ending {
            Ending::Exit(0) => Ok(Status::Running(ended)),
            Ending::Exit(NOT_RUNNING) => Ok(Status::NotRunning),
            other => Err(failure(
                format!("its status command {other}: neither 0 (it runs) nor {NOT_RUNNING} (it does not)"),
                ended.tail,
            )),
        }
    }

    async fn run(&self, purpose: Purpose) -> Result<Ended, ComputeError> {
        let config = &self.config;
        let (line, limit) = match purpose {
            Purpose::Start => (Some(&config.start), self.start_limit),
            Purpose::Stop => (config.stop.as_ref(), self.stop_limit),
            Purpose::Status => (Some(&config.status), config.status_timeout),
        };
        let line = line.ok_or_else(|| ComputeError::new("it has no stop command"))?;
        let order = Order {
            whose: self.whose.clone(),
            purpose,
            line: line.clone(),
            limit,
        };
        let turn = self.turn.clone().lock_owned().await;
        self.commands.run(order, turn).await
    }

    /// Waits for a command that an earlier pgwake has left running, and ends it where it takes too long. Once.
    async fn settle(&self) -> Result<(), ComputeError> {
        if self.is_settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let turn = self.turn.lock().await;
        if self.is_settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let record = self.whose.record.clone();
        let (left, age) = blocking(move || record.left()).await?.map_err(|error| {
            let reason = "nobody knows whether a command of an earlier pgwake still runs for it";
            ComputeError::new(reason).with_detail(error.to_string())
        })?;
        let patience = self.start_limit.max(self.stop_limit).saturating_sub(age);
        let endpoint = &self.whose.endpoint;
        match left {
            Left::Nothing => (),
            Left::Unknown => {
                tracing::warn!(%endpoint, ?patience, "a killed pgwake may have left a command running; waiting for it");
                sleep(patience).await;
            }
            Left::Running(process) => {
                tracing::warn!(%endpoint, ?patience, "a killed pgwake has left a command running; waiting for it");
                if timeout(patience, process.ended()).await.is_err() {
                    end_group(&process).await;
                }
            }
        }
        let record = self.whose.record.clone();
        blocking(move || record.end()).await?;
        self.is_settled.store(true, Ordering::Release);
        drop(turn);
        Ok(())
    }

    /// Where it is, by the configuration or by what a command said.
    fn address(&self, ended: Ended) -> Result<Address, ComputeError> {
        let place = address_of(&self.config, ended.line.as_deref());
        place.map_err(|reason| failure(reason.to_owned(), ended.tail))
    }

    fn running(
        self: &Arc<Self>,
        address: Address,
        phases: Vec<(&'static str, Duration)>,
        adopted: bool,
    ) -> Running {
        self.was_running.store(true, Ordering::Relaxed);
        Running {
            address,
            adopted,
            died: self.clone().died().boxed(),
            phases,
        }
    }

    /// Looks now and then, and resolves once `status` says that it does not run. Cancel safe.
    async fn died(self: Arc<Self>) -> String {
        let Some(every) = self.config.status_every else {
            return pending().await;
        };
        let mut was_known = true;
        loop {
            sleep(every).await;
            match self.status().await {
                Ok(Status::NotRunning) => return "its status command says that it does not run".to_owned(),
                Ok(Status::Running(_)) => was_known = true,
                Err(error) => {
                    if was_known {
                        tracing::warn!(endpoint = %self.whose.endpoint, reason = error.reason, detail = error.detail,
                            "nobody knows whether it still runs; it is taken for awake");
                    }
                    was_known = false;
                }
            }
        }
    }
}

/// # Errors
/// It ended otherwise.
fn succeeded(ended: Ended, purpose: Purpose) -> Result<Ended, ComputeError> {
    match ended.ending {
        Ending::Exit(0) => Ok(ended),
        other => Err(failure(
            format!("its {} command {other}", purpose.as_str()),
            ended.tail,
        )),
    }
}

fn failure(reason: String, tail: Option<String>) -> ComputeError {
    let error = ComputeError::new(reason);
    match tail {
        Some(tail) => error.with_detail(tail),
        None => error,
    }
}

#[cfg(test)]
mod tests;
