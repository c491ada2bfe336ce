//! The configuration, read again and put in force while clients are served: all of it, or nothing.
//!
//! Everything that can fail is done first, on things that nobody uses yet; what follows cannot fail. Sessions keep the
//! rules that they came in with, but for limits, which hold at once, and for the right to be where they are. Who calls:
//! `server` for whoever asks, and `following` when files have changed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::{
    sync::{Mutex as Turn, Notify},
    time::{Instant, sleep_until},
};

use super::{
    Changes, StartError,
    branching::Gone,
    controlling::carry_over,
    endpoints::{Means, ask_clients, compute, policy},
    leaving::Leaving,
    reading::{Readings, blocking},
    standing::obey,
    wiring::Wiring,
};
use crate::admin::read_counted;
use crate::audit::Event;
use crate::auth::Proofs;
use crate::compute::Compute;
use crate::config::{Config, Endpoint, Loaded, Origins, Problems, load};
use crate::session::{House, Pooling};
use crate::shutdown::Phase;
use crate::store::{StandingOrders, Store};
use crate::supervisor::Supervisor;
use crate::tls::{CertificateStore, Prepared};

/// How long reading all files may take: a thousand of them on a slow disk take a second.
const READING_MAX: Duration = Duration::from_secs(30);

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// It is right, and cannot be put in force.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A disk does not answer.
    #[error("its files could not be read within {READING_MAX:?}")]
    Slow,
    /// It did not come from a file.
    #[error("this pgwake was not started from a file")]
    NoFile,
    /// pgwake is ending.
    #[error("pgwake is shutting down")]
    ShuttingDown,
}

/// Reads the configuration again.
pub struct Reloader {
    pub(super) house: Arc<House>,
    pub(super) wiring: Arc<Wiring>,
    pub(super) means: Arc<Means>,
    /// Has what operators have ordered of endpoints that come back.
    pub(super) store: Arc<Store>,
    file: Mutex<Option<PathBuf>>,
    /// All files that it was last read from, right or wrong.
    files: Mutex<Vec<PathBuf>>,
    readings: Readings,
    /// What the files say does not hold, because the last try has failed.
    has_failed: AtomicBool,
    leaving: Leaving,
    /// Tells whoever reads roles of endpoints that are new.
    pub(super) learning: Arc<Notify>,
    /// Is told when it begins and ends.
    supervisor: OnceLock<Arc<Supervisor>>,
    /// Locked while something is changed: reloads do not overtake.
    pub(super) turn: Turn<()>,
    /// What holds.
    pub(super) holds: Arc<ArcSwap<Config>>,
    /// Of whom more is remembered than is needed.
    pub(super) gone: Gone,
}

/// What is needed for a change, made and not used yet.
struct Ready {
    proofs: Proofs,
    certificates: Option<Prepared>,
    added: Vec<Added>,
}

/// An endpoint that comes, with its compute and what operators have ordered of it.
pub(super) type Added = (Arc<Endpoint>, Arc<dyn Compute>, StandingOrders);

impl Reloader {
    pub(super) fn new(
        house: Arc<House>,
        wiring: Arc<Wiring>,
        means: Means,
        store: Arc<Store>,
        config: Config,
    ) -> Arc<Self> {
        let reloader = Arc::new_cyclic(|reloader| Self {
            leaving: Leaving::new(reloader.clone()),
            store,
            house,
            wiring,
            means: Arc::new(means),
            file: Mutex::default(),
            files: Mutex::default(),
            readings: Readings::default(),
            has_failed: AtomicBool::new(false),
            learning: Arc::default(),
            supervisor: OnceLock::new(),
            turn: Turn::default(),
            holds: Arc::new(ArcSwap::from_pointee(config)),
            gone: Gone::default(),
        });
        let (branches, book) = (&reloader.house.branches, &reloader.house.control_plane);
        branches.connect(Arc::<Self>::downgrade(&reloader));
        if let Some(book) = book {
            book.connect(Arc::<Self>::downgrade(&reloader));
        }
        reloader
    }

    /// What holds, for whoever looks from outside.
    pub(super) fn config(&self) -> &Arc<ArcSwap<Config>> {
        &self.holds
    }

    /// Who is told when it begins and ends; the first one stays.
    pub(super) fn report_to(&self, supervisor: &Arc<Supervisor>) {
        let _ = self.supervisor.set(supervisor.clone());
    }

    /// Where the configuration is read from. Blocks on files.
    pub fn set_file(&self, file: &Path) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.to_owned());
        if let Ok(loaded) = load(file) {
            self.note_files(&loaded.origins, file);
        }
    }

    /// Remembers whose changes count: those of all files, and of folders where a pattern has found none yet.
    fn note_files(&self, origins: &Origins, file: &Path) {
        let folder = file.parent().unwrap_or(Path::new(""));
        let patterns = origins
            .includes_unmatched
            .iter()
            .map(|pattern| folder.join(pattern));
        let files = origins.files.iter().cloned().chain(patterns).collect();
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// The files whose changes count.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.extend(self.file.lock().unwrap_or_else(PoisonError::into_inner).clone());
        files
    }

    /// Whether the files say something else than what holds, or nothing that can be read. Blocks on files.
    pub(super) fn would_change(&self) -> bool {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Ok(Loaded { mut config, .. })) = file.map(|file| load(&file)) else {
            return true;
        };
        self.house.branches.extend(&mut config);
        let (holds, overtaken) = carry_over(self.holds.load_full(), &mut config);
        !overtaken.is_empty() || !Changes::between(&holds, config).0.is_empty()
    }

    /// Tries again what has failed, once the files can be read and nothing in them is wrong: what was in the way may have been
    /// a file beside them, or a want of open files. Cancel safe as [`Reloader::reload`].
    pub async fn retry(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(file) = file.filter(|_| self.has_failed.load(Ordering::Relaxed))
            && matches!(
                self.readings.within(READING_MAX, move || load(&file)).await,
                Some(Ok(_))
            )
        {
            // What came of it is logged there.
            let _ = self.reload().await;
        }
    }

    /// Reads the configuration and the certificates again and puts them in force. What came of it is logged, and told to the
    /// audit log. Cancel safe: either all of the configuration has changed, or nothing.
    ///
    /// # Errors
    /// [`ReloadError`]: everything is as it was.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let result = self.read_and_apply().await;
        self.has_failed.store(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(changes) if changes.is_empty() => {
                tracing::info!("configuration read again: nothing has changed")
            }
            Ok(changes) => {
                tracing::info!(%changes, "configuration reloaded");
                for key in &changes.needs_restart {
                    tracing::warn!(key, "changed in the configuration; it holds only after a restart");
                }
            }
            // Its files may have changed just before.
            Err(error @ ReloadError::ShuttingDown) => tracing::info!(%error, "configuration not reloaded"),
            Err(error) => tracing::error!(%error, "configuration not reloaded; what held before still holds"),
        }
        let event = || match &result {
            Ok(changes) => Event::new("reload")
                .with("outcome", "ok")
                .with("changes", changes.to_string()),
            Err(error) => Event::new("reload")
                .with("outcome", "failed")
                .with("reason", error.to_string()),
        };
        if !matches!(&result, Ok(changes) if changes.is_empty()) {
            self.house.tell(event).await;
        }
        result
    }

    async fn read_and_apply(&self) -> Result<Changes, ReloadError> {
        let _turn = self.turn.lock().await;
        let holds = self.holds.load_full();
        if self.house.shutdown.phase() != Phase::Running {
            return Err(ReloadError::ShuttingDown);
        }
        let _reloading = self.supervisor.get().map(|supervisor| supervisor.reloading());
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = file.ok_or(ReloadError::NoFile)?;
        let (path, certificates) = (file.clone(), self.house.certificates.clone());
        let read = move || {
            certificates.reload();
            load(&path)
        };
        let read = self.readings.within(READING_MAX, read).await;
        let Loaded { mut config, origins } = read.ok_or(ReloadError::Slow)??;
        self.note_files(&origins, &file);
        self.house.branches.extend(&mut config);
        let (holds, overtaken) = carry_over(holds, &mut config);
        let late = self.leaving.put_off(&holds, &mut config);
        let (mut changes, config) = Changes::between(&holds, config);
        changes.late = late;
        if !changes.is_empty() {
            let ready = self.prepare(&holds, &config, &changes).await?;
            overtaken.iter().for_each(|endpoint| self.take_away(endpoint));
            self.apply(&holds, &config, &changes, ready);
        }
        // Also where nothing has changed: what `[defaults]` say may be for endpoints that come later.
        self.holds.store(Arc::new(config));
        if let Some(book) = &self.house.control_plane {
            book.forget_versions();
        }
        Ok(changes)
    }

    /// All that can fail.
    async fn prepare(&self, old: &Config, config: &Config, changes: &Changes) -> Result<Ready, StartError> {
        let (house, config, changes) = (self.house.clone(), config.clone(), changes.clone());
        let asks = (ask_clients(old), ask_clients(&config));
        let (store, means) = (self.store.clone(), self.means.clone());
        let others = old.certificates != config.certificates || asks.0 != asks.1;
        let prepare = move || {
            let prepared = others.then(|| CertificateStore::prepare(&config.certificates, asks.1));
            let orders = store.orders()?;
            let added = changes.added.iter().filter_map(|name| config.endpoints.get(name));
            let added = added.map(|endpoint| {
                house.roles.remember(&endpoint.name)?;
                let orders = orders.get(endpoint.name.as_str()).copied().unwrap_or_default();
                Ok((endpoint.clone(), compute(endpoint, &means)?, orders))
            });
            Ok(Ready {
                added: added.collect::<Result<_, StartError>>()?,
                proofs: house.proofs.load().renewed(&config)?,
                certificates: prepared.transpose()?,
            })
        };
        blocking(prepare).await
    }

    /// Nothing here can fail. New endpoints are there before anybody can name them, old ones until nobody can.
    fn apply(&self, old: &Config, config: &Config, changes: &Changes, ready: Ready) {
        let house = &self.house;
        house.quotas.set_rules(config);
        house.gate.set_rules(config.gate.clone());
        house.limits.store(Arc::new(config.limits.clone()));
        house.wakes.set_limits(&config.limits);
        if let Some(certificates) = ready.certificates {
            house.certificates.replace(certificates);
        }
        let proofs = Arc::new(ready.proofs);
        house.proofs.store(proofs.clone());
        proofs.begin();
        self.wiring.replace(config.endpoints.clone());
        ready.added.into_iter().for_each(|added| self.begin(added));
        for endpoint in config.endpoints.values() {
            match old.endpoints.get(&endpoint.name) {
                Some(before) if !Arc::ptr_eq(before, endpoint) => self.change(before, endpoint),
                _ => (),
            }
        }
        house.directory.replace(config);
        house.changes.send_modify(|number| *number += 1);
        for name in &changes.removed {
            if let Some(endpoint) = old.endpoints.get(name) {
                self.remove(endpoint.clone(), config);
            }
        }
        self.learn_roles();
    }

    /// The endpoint can be woken and pooled from now on, as soon as somebody can name it.
    pub(super) fn begin(&self, (endpoint, compute, orders): Added) {
        let (house, name) = (&self.house, endpoint.name.clone());
        let budget = house.quotas.wake_budget(&endpoint);
        house
            .wakes
            .add_within(name.clone(), policy(&endpoint), compute, budget);
        let pooling = Pooling::new(&endpoint.pool, self.means.tasks.clone());
        house.pooling.insert(name.clone(), Arc::new(pooling));
        obey(&name, orders, &house.wakes, &house.pooling);
    }

    /// Has the roles read of all endpoints that nobody has read yet: these may be among them.
    pub(super) fn learn_roles(&self) {
        self.learning.notify_one();
    }

    pub(super) fn change(&self, before: &Endpoint, endpoint: &Endpoint) {
        if policy(before) != policy(endpoint) {
            self.house.wakes.set_policy(&endpoint.name, policy(endpoint));
        }
        if before.compute != endpoint.compute
            && let Some(compute) = self.house.wakes.compute(&endpoint.name)
        {
            // Other differences wait for a restart.
            compute.set_settings(endpoint.compute.settings());
        }
        if before.expected_server != endpoint.expected_server {
            self.house.roles.changed(endpoint);
        }
        if before.pool != endpoint.pool
            && let Some(pooling) = self.house.pooling.get(&endpoint.name)
        {
            pooling.set_rules(&endpoint.pool);
        }
    }

    /// Its sessions have been told to end; who is in a transaction has as long as for a drain.
    pub(super) fn remove(&self, endpoint: Arc<Endpoint>, config: &Config) {
        let name = endpoint.name.clone();
        let parting = self.house.metrics.parting(name.as_str());
        let pooling = self.house.pooling.remove(&name);
        let Some(leaving) = self.house.wakes.remove(&name) else {
            return;
        };
        let place = self.leaving.enter(endpoint.clone());
        let deadline = Instant::now() + config.limits.drain_timeout;
        let (house, mut shutdown) = (self.house.clone(), self.house.shutdown.clone());
        let (holds, gone) = (self.holds.clone(), self.gone.clone());
        self.means.tasks.spawn(async move {
            tokio::select! {
                () = leaving.unused() => (),
                () = sleep_until(deadline) => (),
                () = shutdown.reached(Phase::Stopping) => (),
            }
            join_all(pooling.iter().map(|pooling| pooling.pool.close_idle())).await;
            leaving.stop().await;
            let last = read_counted(&endpoint, Some(leaving.figures()), pooling.as_deref());
            house.metrics.parted(parting, &last);
            drop(leaving);
            if house.directory.endpoint(&name).is_none() {
                house.roles.forget(&name);
            }
            gone.one_more(&house, &holds.load());
            tracing::info!(endpoint = %name, "removed");
            place.left();
        });
    }
}
