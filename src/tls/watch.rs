//! Notices that certificate files have changed and has the store read them again.
//!
//! Folders are watched, not files: renewals replace files by rename, and Kubernetes swaps a link (`..data`)
//! beside them. What changed is not asked; the store compares contents. `server` starts it and keeps the guard, and
//! watches the configuration in the same way.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
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
/// What is read at once of what the system tells.
const EVENTS_BYTES: usize = 4096;

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
    /// [`TlsError::Watch`] where the system does not allow watching, or a folder of theirs.
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
    watches: Watches,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    /// Whatever else lies beside the files may be written to all the time, such as a log.
    files: Arc<Mutex<Files>>,
    _told: AbortOnDropHandle<()>,
}

/// What is waited for.
#[derive(Default)]
struct Files {
    /// The files by the watch of their folder and their name in it, and so folders that are not there yet.
    named: HashSet<(WatchDescriptor, OsString)>,
    /// The files' folders: any name that comes or goes there may be a link on the way to them.
    folders: HashSet<WatchDescriptor>,
}

impl Folders {
    /// None yet; `changed` is told of what happens in them. Needs a running tokio runtime.
    ///
    /// # Errors
    /// What the system says: usually that this user has no inotify instance left (128 is the usual limit).
    pub(crate) fn new(changed: &Arc<Notify>) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let (watches, files) = (inotify.watches(), Arc::<Mutex<Files>>::default());
        let events = inotify.into_event_stream([0; EVENTS_BYTES])?;
        let told = tokio::spawn(tell(events, changed.clone(), files.clone()));
        Ok(Self {
            watches,
            watched: BTreeMap::new(),
            files,
            _told: AbortOnDropHandle::new(told),
        })
    }

    /// Watches the folders as they are now; of one that is not there yet, the nearest above it that is. All of them are
    /// tried; the first error is returned.
    ///
    /// # Errors
    /// A folder that may not be watched, or no watch is left; the text names it.
    pub(crate) fn follow(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let mut gone = mem::take(&mut self.watched);
        let (mut followed, mut result) = (Files::default(), Ok(()));
        for place in files.iter().flat_map(|file| places_of(file)) {
            if let Err(error) = self.watch(&place, &mut followed) {
                result = result.and(Err(error));
            }
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = followed;
        // Two names may be one folder, which has one watch.
        gone.retain(|_, watch| self.watched.values().all(|watched| watched != watch));
        for watch in gone.into_values() {
            // Fails where the folder itself is gone, and its watch with it.
            let _ = self.watches.remove(watch);
        }
        result
    }

    fn watch(&mut self, file: &Path, followed: &mut Files) -> io::Result<()> {
        let mut place = file.to_owned();
        while let (Some(folder), Some(name)) = (folder_of(&place), place.file_name()) {
            // Also those already watched: a folder that was made again needs a new watch.
            match self.watches.add(&folder, mask()) {
                Ok(watch) => {
                    followed.named.insert((watch.clone(), name.to_owned()));
                    if place == file {
                        followed.folders.insert(watch.clone());
                    }
                    self.watched.insert(folder, watch);
                    // It may have come in between; then its own folder is watched, too.
                    match place != file && place.exists() {
                        true => place = file.to_owned(),
                        false => return Ok(()),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => place = folder,
                Err(error) => {
                    let told = format!("{}: {error}", folder.display());
                    return Err(io::Error::new(error.kind(), told));
                }
            }
        }
        Ok(())
    }
}

/// What is told of in a folder. That a file is written to is told when it is closed: a log costs nothing.
fn mask() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
}

/// Tells of what happens in the folders.
async fn tell(mut events: EventStream<[u8; EVENTS_BYTES]>, changed: Arc<Notify>, files: Arc<Mutex<Files>>) {
    while let Some(Ok(event)) = events.next().await {
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        if may_change(event, &files) {
            changed.notify_one();
        }
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

/// Whether the files may read otherwise than before.
fn may_change(event: EventOwned, files: &Files) -> bool {
    // The end of a watch: we have ended it, or it was told before that its folder went.
    if event.mask.contains(EventMask::IGNORED) {
        return false;
    }
    // Of a name that is new it was told before that it came.
    let comes_or_goes = !event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::ATTRIB);
    if comes_or_goes && files.folders.contains(&event.wd) {
        return true;
    }
    // Without a name it is the folder itself.
    event
        .name
        .is_none_or(|name| files.named.contains(&(event.wd, name)))
}

#[cfg(test)]
mod tests;
