//! Notices that certificate files have changed and has the store read them again.
//!
//! Folders are watched, not files: renewals replace files by rename, and Kubernetes swaps a link (`..data`)
//! beside them. What changed is not asked; the store compares contents. `server` starts it and keeps the guard, and
//! watches the configuration in the same way.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf, absolute},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::Notify,
    task,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{CertificateStore, TlsError};

/// A change is acted on when nothing more has happened for this long: certificate and key are two files.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that is never quiet does not hold up a reload for longer than this.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);
/// The files are looked at this often in any case: network file systems report nothing, and a folder that was
/// removed and made again has lost its watch.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// Dropping it stops watching.
#[derive(Debug)]
#[must_use = "dropping it stops watching"]
pub struct Watching {
    _task: AbortOnDropHandle<()>,
}

impl CertificateStore {
    /// Reloads whenever the files change, until the guard is dropped. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`TlsError::Watch`] where the system does not allow watching, or a folder is not there.
    pub fn watch(self: &Arc<Self>) -> Result<Watching, TlsError> {
        let changed = Arc::new(Notify::new());
        let mut folders = Folders::new(&changed).map_err(TlsError::Watch)?;
        folders.follow(&self.files()).map_err(TlsError::Watch)?;
        let task = tokio::spawn(reload_on_change(self.clone(), folders, changed));
        Ok(Watching {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn reload_on_change(store: Arc<CertificateStore>, mut folders: Folders, changed: Arc<Notify>) {
    loop {
        if timeout(LOOK_ANYWAY, changed.notified()).await.is_ok() {
            until_quiet(&changed).await;
        }
        let store = store.clone();
        let looked = task::spawn_blocking(move || {
            // First the folders, then the files: what changes in between is reported and read again.
            if let Err(error) = folders.follow(&store.files()) {
                tracing::debug!(%error, "a certificate's folder cannot be watched; its files are still looked at");
            }
            store.reload();
            folders
        });
        match looked.await {
            Ok(back) => folders = back,
            Err(_) => return, // the runtime is going down
        }
    }
}

/// Waits until nothing has changed for a moment, but not for long. Cancel safe.
pub(crate) async fn until_quiet(changed: &Notify) {
    let end = Instant::now() + QUIET_WAIT_MAX;
    while timeout_at(end.min(Instant::now() + QUIET), changed.notified())
        .await
        .is_ok()
    {}
}

/// The folders of all files, and those that the files' links lead to.
pub(crate) struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// The files themselves. Whatever else lies beside them may be written to all the time, such as a log.
    files: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    /// None yet; `changed` is told of what happens in them.
    pub(crate) fn new(changed: &Arc<Notify>) -> notify::Result<Self> {
        let (changed, files) = (changed.clone(), Arc::<Mutex<BTreeSet<PathBuf>>>::default());
        let followed = files.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| may_change(&event, &followed)) {
                changed.notify_one();
            }
        })?;
        Ok(Self {
            watcher,
            watched: BTreeSet::new(),
            files,
        })
    }

    /// Watches the folders as they are now. All of them are tried; the first error is returned.
    pub(crate) fn follow(&mut self, files: &[PathBuf]) -> notify::Result<()> {
        let places: BTreeSet<_> = files.iter().flat_map(|file| places_of(file)).collect();
        // As the system's reports call them.
        let named = places.iter().filter_map(|place| absolute(place).ok());
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = named.collect();
        let wanted: BTreeSet<_> = places.iter().filter_map(|place| folder_of(place)).collect();
        for gone in self.watched.difference(&wanted) {
            // Fails where the folder itself is gone, and its watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        let mut result = Ok(());
        for folder in &wanted {
            // Also those already watched: a folder that was made again needs a new watch.
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                result = result.and(Err(error));
            }
        }
        self.watched = wanted;
        result
    }
}

/// Where a file is, and where its links lead to.
fn places_of(file: &Path) -> BTreeSet<PathBuf> {
    [Some(file.to_owned()), file.canonicalize().ok()]
        .into_iter()
        .flatten()
        .collect()
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    let here = folder.as_os_str().is_empty();
    Some(if here { Path::new(".") } else { folder }.to_owned())
}

/// Whether the files may read otherwise than before. Any name may come, go, or be a link on the way to them.
fn may_change(event: &Event, files: &BTreeSet<PathBuf>) -> bool {
    match event.kind {
        // Of a name that is new it was reported before that it came.
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            event.paths.iter().any(|path| files.contains(path))
        }
        // Our own reading must not lead to more of it.
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
