//! Making a branch, and making one anew from its parent.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{BranchError, BranchRecord, Branches, Serving, Who, Wish, backup::BackupOf, limits::Promise};
use crate::auth::WakeRight;
use crate::compute::{BranchPlace, CopyError, GiveUp, Measured, Source};
use crate::config::{Config, Endpoint};
use crate::error::ClientError;
use crate::ids::EndpointName;
use crate::shutdown::Phase;
use crate::store::BranchState;
use crate::wake::AwakeLease;

/// A parent that wakes and sleeps while it is being copied is tried so often.
const TRIES_MAX: usize = 4;

/// How long sessions of a branch that is reset get to end, and its compute to sleep; then it is stopped.
const EMPTYING_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether they have.
const EMPTYING_CHECK: Duration = Duration::from_millis(20);

/// What a copy is made for.
struct Job<'a> {
    name: &'a EndpointName,
    parent: Arc<Endpoint>,
    source: Source,
    data_dir: &'a Path,
    right: &'a WakeRight,
    deadline: Instant,
    since: Instant,
    within: Duration,
    /// Whether it takes no time worth speaking of, once that is known.
    is_clone: bool,
    give_up: GiveUp,
    /// Its room on the disk, once that is known.
    promise: Option<Arc<Promise>>,
}

impl Branches {
    /// Makes a branch, or finds the one that is there. It goes on where its caller has left. Cancel safe.
    ///
    /// # Errors
    /// [`BranchError`]: nothing is left of it.
    pub async fn create(self: &Arc<Self>, wish: Wish) -> Result<BranchRecord, BranchError> {
        let name = EndpointName::of_branch(&wish.parent, &wish.branch)?;
        // One that is whole and no endpoint yet is waited for.
        if let Some(found) = self.find(&name)
            && self.serving()?.config().endpoints.contains(&name)
        {
            return Ok(found);
        }
        let making = self.clone().make(name, wish);
        let made = self.tasks.spawn_on(making, &self.runtime).await;
        made.unwrap_or(Err(BranchError::ShuttingDown))
    }

    async fn make(self: Arc<Self>, name: EndpointName, wish: Wish) -> Result<BranchRecord, BranchError> {
        let since = Instant::now();
        let deadline = since + wish.within;
        let Ok(_turn) = timeout_at(deadline, self.turn(&name)).await else {
            return Err(timed_out(&name, since));
        };
        let before = self.records().get(&name).cloned();
        match before {
            Some(found) if found.state == BranchState::Ready => return Ok(found),
            Some(left) => self.take_away(&left).await?,
            None => (),
        }
        let serving = self.serving()?;
        let config = serving.config();
        let parent = config.endpoints.get(&wish.parent);
        let parent = parent
            .ok_or_else(|| BranchError::NoParent(wish.parent.clone()))?
            .clone();
        if wish.who == Who::Client && !parent.branches.on_connect {
            return Err(BranchError::None(name.to_string()));
        }
        if wish.who == Who::Client {
            self.wakes
                .check_admission(&parent.name)
                .map_err(BranchError::ParentRefuses)?;
        }
        let source = self.source(&parent)?;
        let data_dir = source.data_dir_of(&wish.branch);
        let mut job = Job {
            name: &name,
            parent,
            source,
            data_dir: &data_dir,
            right: &wish.right,
            deadline,
            since,
            within: wish.within,
            is_clone: false,
            give_up: GiveUp::default(),
            promise: None,
        };
        self.check_place(&name, &job.parent, &config)?;
        let bytes = self.check_job(&mut job, &config).await?;
        let now = SystemTime::now();
        let record = BranchRecord {
            name: name.clone(),
            data_dir: data_dir.clone(),
            state: BranchState::Making,
            made: now,
            used: now,
            ttl: match wish.who {
                Who::Operator => wish.ttl,
                Who::Client => job.parent.branches.ttl,
            },
            bytes,
        };
        self.take_place(record.clone(), &job.parent, &config)?;
        let made = self.make_files(&job, record, serving).await;
        if let Err(error) = &made {
            tracing::warn!(branch = %name, %error, detail = error.detail().as_deref(), "could not be made");
            let left = self.records().get(&name).cloned();
            if let Some(left) = left
                && let Err(error) = self.take_away(&left).await
            {
                tracing::warn!(branch = %name, %error, "what was made of it could not be removed");
            }
        }
        made
    }

    async fn make_files(
        &self,
        job: &Job<'_>,
        mut record: BranchRecord,
        serving: Arc<dyn Serving>,
    ) -> Result<BranchRecord, BranchError> {
        self.put(record.clone()).await?;
        self.copy(job).await?;
        place(job.name, job.data_dir, BranchPlace::finish).await?;
        self.inherit_roles(&job.parent.name, job.name).await?;
        record.state = BranchState::Ready;
        record.used = SystemTime::now();
        self.put(record.clone()).await?;
        if let Err(reason) = serving.serve(record.clone()).await {
            record.state = BranchState::Making;
            self.put(record).await?;
            return Err(BranchError::failed(job.name, reason));
        }
        let took_ms = u64::try_from(job.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(branch = %job.name, bytes = record.bytes, took_ms, "branch made");
        Ok(record)
    }

    /// Makes a branch anew, as its parent is now: its sessions are ended once the copy is whole. Cancel safe: it goes on.
    ///
    /// # Errors
    /// [`BranchError`]: it is as it was.
    pub async fn reset(
        self: &Arc<Self>,
        name: &EndpointName,
        within: Duration,
        right: WakeRight,
    ) -> Result<BranchRecord, BranchError> {
        let (branches, name) = (self.clone(), name.clone());
        let resetting = async move { branches.reset_now(name, within, right).await };
        let reset = self.tasks.spawn_on(resetting, &self.runtime).await;
        reset.unwrap_or(Err(BranchError::ShuttingDown))
    }

    async fn reset_now(
        self: Arc<Self>,
        name: EndpointName,
        within: Duration,
        right: WakeRight,
    ) -> Result<BranchRecord, BranchError> {
        let since = Instant::now();
        let deadline = since + within;
        let Ok(_turn) = timeout_at(deadline, self.turn(&name)).await else {
            return Err(timed_out(&name, since));
        };
        let none = || BranchError::None(name.to_string());
        let mut record = self.find(&name).ok_or_else(none)?;
        let (parent, _) = name.branch().ok_or_else(none)?;
        let serving = self.serving()?;
        let config = serving.config();
        let found = config.endpoints.get(&parent);
        let parent = found
            .ok_or_else(|| BranchError::NoParent(parent.clone()))?
            .clone();
        let mut job = Job {
            name: &name,
            source: self.source(&parent)?,
            parent,
            data_dir: &record.data_dir.clone(),
            right: &right,
            deadline,
            since,
            within,
            is_clone: false,
            give_up: GiveUp::default(),
            promise: None,
        };
        record.bytes = self.check_job(&mut job, &config).await?;
        let bytes_before = self.resize_place(&record, &job.parent, &config)?;
        let done = self.exchange(&job, &serving).await;
        if done.is_err() {
            self.restore_place(&name, bytes_before);
        }
        let cleared = place(&name, job.data_dir, BranchPlace::abandon).await;
        done?;
        self.inherit_roles(&job.parent.name, &name).await?;
        let (forgetting, branch) = (serving.clone(), name.clone());
        let _ = spawn_blocking(move || forgetting.forget_roles(&branch)).await;
        (record.made, record.used) = (SystemTime::now(), SystemTime::now());
        self.put(record.clone()).await?;
        cleared?;
        tracing::info!(branch = %name, bytes = record.bytes, "branch reset to its parent");
        Ok(record)
    }

    /// Copies the parent beside the branch, and exchanges the two.
    async fn exchange(&self, job: &Job<'_>, serving: &Arc<dyn Serving>) -> Result<(), BranchError> {
        self.copy(job).await?;
        let branch = self.wakes.compute(job.name).and_then(|compute| compute.source());
        let branch = branch.ok_or_else(|| BranchError::None(job.name.to_string()))?;
        let until = Instant::now() + EMPTYING_MAX;
        while self.wakes.awake(job.name).is_some() && Instant::now() < until {
            serving.end_sessions(job.name);
            self.wakes.suspend(job.name);
            sleep(EMPTYING_CHECK).await;
        }
        let place = made_place(job.name, job.data_dir).await?;
        let replaced = branch.replace(place).await;
        if let Some((_, generation)) = self.wakes.awake(job.name) {
            // It was stopped under somebody who would not leave.
            self.wakes.unreachable(job.name, generation);
        }
        replaced.map_err(|error| BranchError::of_copy(job.name, error))
    }

    /// How many bytes it has, if there is room and time for it.
    async fn check_job(&self, job: &mut Job<'_>, config: &Config) -> Result<u64, BranchError> {
        let measured = self.measure(job).await?;
        let (copy, free_min) = ((&job.source, &job.give_up), config.limits.disk_free_min);
        let promise = self.promise_room(job.name, copy, measured.takes(), free_min);
        job.promise = Some(promise.await?);
        let left = job.deadline.saturating_duration_since(Instant::now());
        self.check_time(measured, &job.parent, (left, job.within))?;
        job.is_clone = measured.is_clone;
        Ok(measured.bytes)
    }

    /// What there is to copy. A parent that nobody has used yet is made for it, as its own first client would have it made.
    async fn measure(&self, job: &Job<'_>) -> Result<Measured, BranchError> {
        let mut measured = job.source.measure().await;
        if matches!(measured, Err(CopyError::Empty)) {
            drop(self.lease_parent(job).await?);
            measured = job.source.measure().await;
        }
        measured.map_err(|error| BranchError::of_copy(job.name, error))
    }

    async fn lease_parent(&self, job: &Job<'_>) -> Result<AwakeLease, BranchError> {
        let lease = self.wakes.lease(&job.parent.name, job.right, job.deadline).await;
        lease.map_err(BranchError::of_wake)
    }

    fn source(&self, parent: &Endpoint) -> Result<Source, BranchError> {
        let compute = self.wakes.compute(&parent.name);
        let source = compute.and_then(|compute| compute.source());
        let is_branch = parent.name.branch().is_some();
        source
            .filter(|_| !is_branch)
            .ok_or_else(|| BranchError::NoSource {
                parent: parent.name.clone(),
                reason: match is_branch {
                    true => "it is a branch itself".to_owned(),
                    false => {
                        "only computes with kind = \"process\" have data that pgwake can copy".to_owned()
                    }
                },
            })
    }

    /// Fills the half-made folder, in time or not at all.
    async fn copy(&self, job: &Job<'_>) -> Result<(), BranchError> {
        let give_up = &job.give_up;
        let Ok(permit) = timeout_at(job.deadline, self.copies.acquire()).await else {
            return Err(timed_out(job.name, job.since));
        };
        let began = Instant::now();
        let mut shutdown = self.shutdown.clone();
        let copied = {
            let mut filling = std::pin::pin!(self.fill(job, give_up));
            // Never dropped before it ends: its files would go on being made while they are removed.
            tokio::select! {
                filled = &mut filling => filled,
                () = sleep_until(job.deadline) => {
                    give_up.order();
                    let _ = filling.await;
                    Err(timed_out(job.name, job.since))
                }
                () = shutdown.reached(Phase::Draining) => {
                    give_up.order();
                    let _ = filling.await;
                    Err(BranchError::ShuttingDown)
                }
            }
        };
        drop(permit);
        let bytes = copied?;
        if !job.is_clone {
            self.learn_speed(bytes, began.elapsed());
        }
        Ok(())
    }

    async fn fill(&self, job: &Job<'_>, give_up: &GiveUp) -> Result<u64, BranchError> {
        for _ in 0..TRIES_MAX {
            if self.wakes.awake(&job.parent.name).is_none() {
                let place = made_place(job.name, job.data_dir).await?;
                match job.source.copy_asleep(place, give_up).await {
                    Err(CopyError::Awake | CopyError::Wanted) => (),
                    copied => return copied.map_err(|error| BranchError::of_copy(job.name, error)),
                }
            }
            // It runs, or is about to: somebody else has woken it.
            let lease = self.lease_parent(job).await?;
            let places = (
                made_place(job.name, job.data_dir).await?,
                made_place(job.name, job.data_dir).await?,
            );
            let backup = BackupOf {
                name: job.name,
                parent: &job.parent,
                source: &job.source,
                deadline: job.deadline,
                give_up,
            };
            let copied = self.copy_running(&backup, lease.address(), places).await;
            // It may have ended in the middle; then its files are as good as those of one that sleeps.
            if copied.is_ok() || self.wakes.awake(&job.parent.name).is_some() {
                return copied;
            }
        }
        Err(BranchError::failed(
            job.name,
            "its parent wakes and sleeps all the time",
        ))
    }

    /// A branch begins with its parent's roles, as far as those were read.
    async fn inherit_roles(&self, parent: &EndpointName, name: &EndpointName) -> Result<(), BranchError> {
        let (store, parent, own) = (self.store.clone(), parent.clone(), name.clone());
        let inherited = spawn_blocking(move || match store.remembered_roles(&parent)? {
            Some(remembered) => store.remember_roles(&own, &remembered.roles, None),
            None => Ok(()),
        });
        let inherited = inherited.await.map_err(|_| BranchError::ShuttingDown)?;
        inherited.map_err(|error| BranchError::of_store(name, &error))
    }
}

fn timed_out(name: &EndpointName, since: Instant) -> BranchError {
    BranchError::TimedOut {
        name: name.clone(),
        waited: since.elapsed(),
    }
}

/// The place of a branch, its folder made.
async fn made_place(name: &EndpointName, data_dir: &Path) -> Result<BranchPlace, BranchError> {
    let data_dir = data_dir.to_owned();
    let made = spawn_blocking(move || BranchPlace::make(&data_dir)).await;
    let made = made.map_err(|_| BranchError::ShuttingDown)?;
    made.map_err(|error| BranchError::failed(name, error))
}

/// Changes a name in it.
pub(super) async fn place(
    name: &EndpointName,
    data_dir: &Path,
    change: fn(&BranchPlace) -> std::io::Result<()>,
) -> Result<(), BranchError> {
    let place = made_place(name, data_dir).await?;
    let changed = spawn_blocking(move || change(&place)).await;
    let changed = changed.map_err(|_| BranchError::ShuttingDown)?;
    changed.map_err(|error| BranchError::failed(name, error))
}
