//! Local computes: real Postgres processes that pgwake starts, adopts, watches and stops.
//!
//! One data directory, one server, reached through a Unix socket alone. It does not know clients or when to
//! sleep, and it never connects to the server: that it is ready is read from a file. `server` builds it, `wake`
//! calls it.
//!
//! **Invariant:** a server is launched only while the turn is held, after a survey under the same turn found none.

mod account;
mod boot;
pub(crate) mod branch;
mod census;
mod creation;
mod data_dir;
mod folder;
mod full_disk;
mod interrupted;
mod launch;
mod lock;
pub(super) mod os_process;
mod pid_file;
mod postmaster;
mod programs;
pub(super) mod server_log;
mod site;
pub(crate) mod sockets;
mod survey;
mod turn;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

pub(crate) use self::creation::Creation;
use self::{
    boot::{Boot, BootWatch},
    branch::{Source, Wanted},
    creation::Contents,
    launch::{Begun, Launched, remove_stale_pid_file},
    lock::{DataDirLock, Unclaimed},
    pid_file::{PidFile, Status},
    postmaster::Postmaster,
    site::{Site, resolve},
    survey::{Found, end_residents, remove_unwritten, survey},
    turn::{Held, Turn, died, held_by},
};
use super::{Address, Compute, ComputeError, Phases, Running};
use crate::config::{self, ServerAddress, ServerSetting, ServerTls};
use crate::ids::EndpointName;
use crate::store::Store;

/// How long looking for a server waits for one that is just starting.
const INSPECT_PATIENCE: Duration = Duration::from_secs(10);

/// Where a compute keeps what is not data.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The folder of all endpoints' socket folders; see [`sockets::choose_base`].
    pub(crate) socket_base: PathBuf,
    /// The folder of the servers' logs, one `<endpoint>.log` each.
    pub(crate) log_dir: PathBuf,
    /// Knows which data directories have been in use.
    pub(crate) store: Arc<Store>,
}

/// A local Postgres on a data directory that this pgwake alone serves: as long as this value lives, or until it is given up.
pub(crate) struct ProcessCompute {
    site: Arc<Site>,
    turn: Arc<Mutex<Turn>>,
    /// How many want the turn.
    wanted: Wanted,
}

impl ProcessCompute {
    /// Locks the data directory for this pgwake (the folder above it is made where it is missing); nothing is
    /// started or created yet. It blocks for a few file operations.
    ///
    /// Where the system does not let it be locked, as on a broken disk, that is tried again whenever something is to be
    /// done with it.
    ///
    /// # Errors
    /// Another pgwake serves the data directory (its pid is named), or its folder cannot be had.
    pub(crate) fn new(
        endpoint: EndpointName,
        config: &config::ProcessCompute,
        creation: Creation,
        places: Places,
        stop_timeout: Duration,
    ) -> Result<Self, ComputeError> {
        let data_dir = resolve(&config.data_dir)?;
        let lock = match DataDirLock::claim(&data_dir) {
            Ok(lock) => Some(lock),
            Err(Unclaimed::Failed(_)) => None,
            Err(Unclaimed::Taken(error)) => return Err(error),
        };
        let contents = Contents {
            creation,
            database: config.database.clone(),
            owner: config.owner.clone(),
            bootstrap: config.bootstrap.clone(),
        };
        let site = Site {
            endpoint,
            data_dir,
            programs: config.programs.clone(),
            run_as: config.run_as.clone(),
            contents,
            settings: ArcSwap::from_pointee(config.settings.clone()),
            made: config.made,
            places,
            stop_timeout,
        };
        Ok(Self {
            site: Arc::new(site),
            turn: Arc::new(Mutex::new(Turn::begin(lock))),
            wanted: Wanted::default(),
        })
    }

    /// Checks what a start would need: a user to run as who can enter the folders, and the programs. It blocks for
    /// a few file operations and changes nothing.
    ///
    /// # Errors
    /// What is missing, with the fix.
    pub(crate) fn check(&self) -> Result<(), ComputeError> {
        if let Ok(mut turn) = self.turn.try_lock() {
            turn.seek(&self.site.data_dir)?;
        }
        self.site.means().map(drop)
    }

    async fn start_or_adopt(&self) -> Result<Running, ComputeError> {
        let site = &*self.site;
        let mut phases = Phases::begin();
        let mut turn = self.hold().await?;
        let found = loop {
            let (back, found) = self.look(turn).await?;
            turn = back;
            let Found::Postmaster { process, pid_file } = found else {
                break found;
            };
            let postmaster = turn.take_up(process);
            if pid_file.status == Status::Stopping || postmaster.is_end_wanted() {
                turn.end(site).await?;
            } else if let Some(mut running) = self.adopt(postmaster).await? {
                phases.end("adopt");
                running.phases = phases.done;
                return Ok(running);
            }
        };
        turn.clear_after(&found, site).await?;
        match found {
            Found::Dead { pid_taken: true } => remove_stale_pid_file(&site.data_dir)?,
            Found::Unwritten => {
                let data_dir = site.data_dir.clone();
                blocking(move || remove_unwritten(&data_dir)).await??;
            }
            Found::Nothing | Found::Dead { .. } | Found::Postmaster { .. } => (),
        }
        phases.end("look");
        self.launch(turn, phases).await
    }

    /// Starts a server where none is and waits until it takes logins.
    async fn launch(&self, turn: Held, mut phases: Phases) -> Result<Running, ComputeError> {
        let (mut turn, mut begun) = self.begin(turn).await?;
        if let Begun::Nothing(means) = begun {
            data_dir::create(&self.site, &means).await?;
            phases.end("create");
            (turn, begun) = self.begin(turn).await?;
        }
        let Begun::Boot(launched) = begun else {
            return Err(ComputeError::new(
                "its data directory was gone as soon as it was made",
            ));
        };
        let Launched {
            postmaster,
            log,
            socket,
            uid,
            watch,
        } = *launched;
        phases.end("launch");
        if let Boot::Ready(_) = watch.outcome(postmaster.process()).await {
            phases.end("boot");
            return Ok(self.running(postmaster, socket, uid, phases.done));
        }
        // Before the log is looked after.
        let tail = blocking(move || log.tail()).await?;
        turn.clear(&self.site).await?;
        let ending = postmaster.process().ending();
        let error = ComputeError::new(format!("postgres {ending} before it took logins"));
        let data_dir = self.site.data_dir.clone();
        Err(blocking(move || full_disk::told(error, tail, &data_dir)).await?)
    }

    /// In one go: on each way to another thread and back a client waits.
    async fn begin(&self, mut turn: Held) -> Result<(Held, Begun), ComputeError> {
        let site = self.site.clone();
        let begin = move || launch::begin(&site, &mut turn).map(|begun| (turn, begun));
        blocking(begin).await?
    }

    async fn inspect_now(&self) -> Result<Option<Running>, ComputeError> {
        let (mut turn, found) = self.look(self.hold().await?).await?;
        turn.clear_after(&found, &self.site).await?;
        match found {
            Found::Postmaster { process, pid_file } if pid_file.status != Status::Stopping => {
                let adopted = self.adopt(turn.take_up(process));
                timeout(INSPECT_PATIENCE, adopted)
                    .await
                    .map_err(|_| ComputeError::new("a postgres that was found starting is still not ready"))?
            }
            _ => Ok(None),
        }
    }

    async fn stop_now(&self) -> Result<(), ComputeError> {
        let site = &*self.site;
        let mut turn = self.hold().await?;
        // The known one first: it may be so young that no survey finds it.
        turn.end(site).await?;
        let (mut turn, found) = self.look(turn).await?;
        if let Found::Postmaster { process, .. } = found {
            turn.take_up(process);
            turn.end(site).await?;
            turn.clear(site).await?;
        } else {
            turn.clear_after(&found, site).await?;
        }
        end_residents(&data_dir::unfinished(&site.data_dir))
            .await
            .map(drop)
    }

    /// Waits until a server that was found takes logins; `None` where it ended instead. Cancel safe.
    async fn adopt(&self, postmaster: Arc<Postmaster>) -> Result<Option<Running>, ComputeError> {
        let watch = BootWatch::new(&self.site.data_dir);
        let Boot::Ready(PidFile { socket, pid, .. }) = watch.outcome(postmaster.process()).await else {
            return Ok(None);
        };
        let account = self.site.account()?;
        let reached = match socket {
            Some(socket) => sockets::check_found(&socket, &account).map(|()| socket),
            None => Err("it has no Unix socket".to_owned()),
        };
        let socket = reached.map_err(|why| {
            ComputeError::new(format!(
                "the postgres with pid {} already serves {shown}, but cannot be taken over, because {why}: stop it (`pg_ctl stop -D {shown}`)",
                pid.as_raw_nonzero(),
                shown = self.site.data_dir.display()
            ))
        })?;
        let mut running = self.running(postmaster, socket, account.uid, Vec::new());
        running.adopted = true;
        Ok(Some(running))
    }

    fn running(
        &self,
        postmaster: Arc<Postmaster>,
        socket: PathBuf,
        server_uid: u32,
        phases: Vec<(&'static str, Duration)>,
    ) -> Running {
        Running {
            address: Address {
                server: ServerAddress::Unix(socket),
                tls: ServerTls::Disable,
                server_uid: Some(server_uid),
            },
            adopted: false,
            died: died(self.site.clone(), self.turn.clone(), postmaster).boxed(),
            phases,
        }
    }

    /// A copy for a branch that has the turn gives it back at once. Cancel safe.
    async fn hold(&self) -> Result<Held, ComputeError> {
        let _wanting = self.wanted.want();
        let mut turn = held_by(&self.turn).await;
        if turn.is_sought() {
            let site = self.site.clone();
            let seeking = blocking(move || {
                let sought = turn.seek(&site.data_dir);
                (turn, sought)
            });
            let (back, sought) = seeking.await?;
            sought?;
            turn = back;
        }
        turn.check_ours()?;
        Ok(turn)
    }

    /// What runs now.
    async fn look(&self, turn: Held) -> Result<(Held, Found), ComputeError> {
        let site = self.site.clone();
        let (turn, found) = blocking(move || (turn, survey(&site.data_dir))).await?;
        Ok((turn, found?))
    }
}

impl Compute for ProcessCompute {
    fn can_suspend(&self) -> bool {
        true
    }

    fn is_local(&self) -> bool {
        true
    }

    fn source(&self) -> Option<Source> {
        Some(Source {
            site: self.site.clone(),
            turn: self.turn.clone(),
            wanted: self.wanted.clone(),
        })
    }

    fn set_settings(&self, settings: &[ServerSetting]) {
        self.site.settings.store(Arc::new(settings.to_vec()));
    }

    /// Also ends what a dead server has left behind. Cancel safe.
    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>> {
        self.inspect_now().boxed()
    }

    /// Makes the data directory on first use. It has no deadline of its own: recovery may take long.
    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>> {
        self.start_or_adopt().boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        self.stop_now().boxed()
    }

    fn give_up(&self) -> BoxFuture<'_, ()> {
        async { held_by(&self.turn).await.give_up() }.boxed()
    }

    fn take_back(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        async { held_by(&self.turn).await.take_back(&self.site.data_dir) }.boxed()
    }
}

impl fmt::Debug for ProcessCompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessCompute")
            .field("endpoint", &self.site.endpoint)
            .finish_non_exhaustive()
    }
}

/// Removes what the endpoint of a branch has beside its data, once that is gone for good: the folder of its socket, and
/// its logs. It blocks for a few file operations.
///
/// # Errors
/// The system's.
pub(crate) fn clear_away(places: &Places, endpoint: &EndpointName) -> io::Result<()> {
    sockets::remove(&places.socket_base, endpoint)?;
    server_log::remove(&places.log_dir, endpoint.as_str())
}

/// Work that blocks, on a thread that may.
///
/// # Errors
/// It did not come to its end.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComputeError> {
    spawn_blocking(work)
        .await
        .map_err(|error| ComputeError::new(format!("an unfinished step: {error}")))
}

#[cfg(test)]
mod tests;
