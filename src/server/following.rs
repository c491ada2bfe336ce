//! Notices that files of the configuration have changed, and has it read again.
//!
//! Folders are watched, not files, as for certificates: editors replace files by rename, and Kubernetes swaps a link.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use super::Reloader;
use crate::tls::{Folders, until_quiet};

/// A folder that could not be watched, or was made again, is watched after this time; what has failed is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Dropping it stops following.
pub(super) struct Following {
    _task: AbortOnDropHandle<()>,
}

impl Following {
    /// Follows the files that the reloader knows, and those that it gets to know.
    pub(super) fn begin(reloader: Arc<Reloader>) -> io::Result<Self> {
        let changed = Arc::new(Notify::new());
        let mut folders = Folders::new(&changed)?;
        // The others are followed all the same, and this one is tried again.
        if let Err(error) = folders.follow(&reloader.files()) {
            tracing::warn!(%error, "a folder of the configuration cannot be watched; SIGHUP has it read again");
        }
        // What has changed since pgwake began was not watched.
        if reloader.would_change() {
            changed.notify_one();
        }
        let task = tokio::spawn(follow(reloader, folders, changed));
        Ok(Self {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

async fn follow(reloader: Arc<Reloader>, mut folders: Folders, changed: Arc<Notify>) {
    loop {
        let has_changed = tokio::time::timeout(LOOK_AGAIN, changed.notified()).await.is_ok();
        if has_changed {
            until_quiet(&changed).await;
        }
        let files = reloader.files();
        let watched = spawn_blocking({
            let files = files.clone();
            move || {
                // Before the files are read: what changes in between is reported.
                if let Err(error) = folders.follow(&files) {
                    tracing::debug!(%error, "a folder of the configuration cannot be watched");
                }
                folders
            }
        });
        match watched.await {
            Ok(back) => folders = back,
            Err(_) => return, // the runtime is going down
        }
        if has_changed {
            // What came of it is logged there.
            let _ = reloader.reload().await;
            if reloader.files() != files {
                // One that is new was not followed while it was read: it may have been half written.
                changed.notify_one();
            }
        } else {
            reloader.retry().await;
        }
    }
}
