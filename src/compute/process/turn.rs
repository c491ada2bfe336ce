//! Who may look for, start or end processes of a data directory now, and what is known of them.
//!
//! A mutex with what it guards. Work on another thread takes the turn along, so that it still holds it when its
//! caller has been dropped. Called by `process`.

use std::{
    convert::Infallible,
    fs, future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::sleep,
};

use super::{
    ComputeError, blocking,
    census::nobody_in,
    folder::Folder,
    lock::DataDirLock,
    os_process::{Ending, OsProcess},
    postmaster::Postmaster,
    server_log,
    site::Site,
    survey::{Found, end_residents},
};

/// How often a running server's log is looked at: it costs less than what a server that runs does for itself.
const LOG_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Guarded by a mutex that is held while anything of it may change.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The server that was started or adopted last, until it is known to have ended.
    postmaster: Option<Arc<Postmaster>>,
    /// What may be left in the data directory of a server that has ended. Who starts Postgres there without pgwake
    /// leaves `postmaster.pid` behind if it dies; where one is found it is always looked anew.
    remains: Remains,
    lock: Lock,
}

/// Whose the data directory is.
#[derive(Debug)]
enum Lock {
    /// No other pgwake may do anything here.
    Ours(#[expect(dead_code, reason = "it is held, and dropped")] DataDirLock),
    /// Nobody's, as far as that is known: the system did not let it be locked.
    Sought,
    /// Another pgwake's: this one may do nothing here.
    GivenUp,
}

/// Processes of a dead server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    /// There are none, and nothing started since that was known.
    None,
    /// Not looked yet; what there is was there at this moment, when the data directory became this pgwake's.
    From(Instant),
    /// There may be some.
    Possible,
}

/// The turn.
pub(crate) type Held = OwnedMutexGuard<Turn>;

/// Waits for it. Cancel safe.
pub(crate) async fn held_by(turn: &Arc<Mutex<Turn>>) -> Held {
    turn.clone().lock_owned().await
}

impl Turn {
    /// Nothing is known yet; the data directory has just become this pgwake's, where it could be locked.
    pub(crate) fn begin(lock: Option<DataDirLock>) -> Self {
        Self {
            postmaster: None,
            remains: Remains::From(Instant::now()),
            lock: lock.map_or(Lock::Sought, Lock::Ours),
        }
    }

    /// Locks the data directory, where that was not possible before. It blocks for a few file operations then.
    ///
    /// # Errors
    /// It still is not, or another pgwake was faster.
    pub(crate) fn seek(&mut self, data_dir: &Path) -> Result<(), ComputeError> {
        if self.is_sought() {
            self.lock = Lock::Ours(DataDirLock::claim(data_dir)?);
            self.remains = Remains::From(Instant::now());
        }
        Ok(())
    }

    /// Whether it is still to be locked.
    pub(crate) fn is_sought(&self) -> bool {
        matches!(self.lock, Lock::Sought)
    }

    /// # Errors
    /// The data directory has become another pgwake's.
    pub(crate) fn check_ours(&self) -> Result<(), ComputeError> {
        match self.lock {
            Lock::Ours(_) => Ok(()),
            Lock::Sought => Err(ComputeError::new("its data directory could not be locked yet")),
            Lock::GivenUp => Err(ComputeError::new("another pgwake has taken it over")),
        }
    }

    /// The data directory is another pgwake's from now on: nothing there is started or ended from here.
    pub(crate) fn give_up(&mut self) {
        self.lock = Lock::GivenUp;
    }

    /// It is not, after all.
    ///
    /// # Errors
    /// Another process has the lock.
    pub(crate) fn take_back(&mut self, data_dir: &Path) -> Result<(), ComputeError> {
        if let Lock::GivenUp = self.lock {
            self.lock = Lock::Ours(DataDirLock::claim(data_dir)?);
            self.remains = Remains::Possible;
        }
        Ok(())
    }

    /// Remembers a server that was started or found; the known one where it is the same.
    pub(crate) fn take_up(&mut self, process: OsProcess) -> Arc<Postmaster> {
        self.remains = Remains::Possible;
        match &self.postmaster {
            Some(known) if known.process().pid() == process.pid() && !known.process().has_ended() => {
                known.clone()
            }
            _ => self.postmaster.insert(Arc::new(Postmaster::new(process))).clone(),
        }
    }

    /// After a survey: ends what is left where no server was found. Not cancel safe: some may be left, which the
    /// next call ends.
    ///
    /// # Errors
    /// Something does not end.
    pub(crate) async fn clear_after(&mut self, found: &Found, site: &Site) -> Result<(), ComputeError> {
        if let Found::Postmaster { .. } = found {
            return Ok(());
        }
        if let Some(postmaster) = &self.postmaster
            && !postmaster.process().has_ended()
        {
            // Its start was given up before it wrote its pid file.
            postmaster.end(&site.endpoint, site.stop_timeout).await?;
        }
        self.forget(site).await;
        if let Found::Dead { .. } = found {
            // Perhaps not that of the server that was known.
            self.remains = Remains::Possible;
        }
        self.sweep(site).await
    }

    /// Ends the server that is known, if there is one. Not cancel safe: it may still be ending.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) async fn end(&mut self, site: &Site) -> Result<(), ComputeError> {
        match &self.postmaster {
            Some(postmaster) => postmaster.end(&site.endpoint, site.stop_timeout).await,
            None => Ok(()),
        }
    }

    /// Ends what the known server, which has ended, left behind. Not cancel safe: some may be left, which the next
    /// call ends.
    ///
    /// # Errors
    /// Something does not end.
    pub(crate) async fn clear(&mut self, site: &Site) -> Result<(), ComputeError> {
        self.forget(site).await;
        self.sweep(site).await
    }

    /// The system may forget the known server, which has ended.
    async fn forget(&mut self, site: &Site) {
        let Some(postmaster) = self.postmaster.take() else {
            return;
        };
        // It says so only after all others have ended, except the one that writes its log, where there is one. And
        // none was left of earlier servers when it was launched; of one that was found, how it ended is not told.
        if postmaster.process().ending() == Ending::Exit(0) && !collects_logs(&site.data_dir) {
            self.remains = Remains::None;
        }
        if self.check_ours().is_ok() {
            bound_log(site, ()).await;
        }
    }

    async fn sweep(&mut self, site: &Site) -> Result<(), ComputeError> {
        let nobody = match self.remains {
            Remains::None => true,
            Remains::From(since) => {
                let data_dir = site.data_dir.clone();
                blocking(move || is_empty(&data_dir, since)).await?
            }
            Remains::Possible => false,
        };
        if nobody {
            self.remains = Remains::None;
            return Ok(());
        }
        let processes = end_residents(&site.data_dir).await?;
        if processes > 0 {
            tracing::warn!(endpoint = %site.endpoint, processes, "ended what a dead postgres had left behind");
        }
        self.remains = Remains::None;
        Ok(())
    }
}

/// Looks at the log now and then, under the turn, as long as the data directory is this pgwake's. Cancel safe.
async fn keep_log_bounded(site: &Site, turn: &Arc<Mutex<Turn>>) -> Infallible {
    loop {
        sleep(LOG_LOOK_EVERY).await;
        // Whoever starts or stops the server just now does not wait for this, and this not for them.
        if let Ok(held) = turn.clone().try_lock_owned()
            && held.check_ours().is_ok()
        {
            bound_log(site, held).await;
        }
    }
}

/// Keeps the server's log small. What is `held` is held until that is done, also where the caller is dropped.
async fn bound_log(site: &Site, held: impl Send + 'static) {
    let (folder, name) = (site.places.log_dir.clone(), site.endpoint.clone());
    let bounded = blocking(move || {
        let bounded = server_log::bound(&folder, name.as_str());
        drop(held);
        bounded
    });
    if let Ok(Err(error)) = bounded.await {
        tracing::warn!(endpoint = %site.endpoint, %error, "the server's log is large, and its end could not be kept");
    }
}

/// Whether the server had a process of its own for its log
/// (<https://www.postgresql.org/docs/current/runtime-config-logging.html>): it is the last to end.
fn collects_logs(data_dir: &Path) -> bool {
    fs::symlink_metadata(data_dir.join("current_logfiles")).is_ok()
}

/// Whether it is known that nobody stood in the data directory since then.
fn is_empty(data_dir: &Path, since: Instant) -> bool {
    match Folder::open(data_dir) {
        Ok(Some(folder)) => nobody_in(&folder, since).unwrap_or(false),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Resolves when the server ends without pgwake's asking, after what it left behind has ended too, so that its
/// clients' sockets close. Meanwhile the server's log is kept small. Cancel safe.
pub(crate) async fn died(site: Arc<Site>, turn: Arc<Mutex<Turn>>, postmaster: Arc<Postmaster>) -> String {
    let bounding = keep_log_bounded(&site, &turn);
    tokio::select! {
        () = postmaster.process().ended() => (),
        never = bounding => match never {},
    }
    let mut turn = turn.lock().await;
    if postmaster.is_end_wanted() {
        drop(turn);
        return future::pending().await;
    }
    let known = turn.postmaster.as_ref();
    // Otherwise a later start has cleared up, and what runs now is alive.
    if known.is_some_and(|known| Arc::ptr_eq(known, &postmaster))
        && turn.check_ours().is_ok()
        && let Err(error) = turn.clear(&site).await
    {
        tracing::warn!(endpoint = %site.endpoint, %error, "a dead postgres has left processes behind");
    }
    format!("postgres {}", postmaster.process().ending())
}
