//! Runtimes that always have a thread for work that blocks: on files, on look-ups of names, on passwords.
//!
//! tokio takes one when there is such work, lets it go when there was none for a while, and panics where the system then has
//! no more of them (`pids.max`, `TasksMax`): a reload ended pgwake. So the first is taken while pgwake begins, and it stays;
//! while no further ones can be had, work waits for it. Who calls: whoever begins a runtime that serves others.

pub mod threads;

use std::{io, ops::Deref, thread, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// Longer than any pgwake runs.
const ALWAYS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A runtime that may be dropped wherever that is, also where another one runs. What blocks then is left to itself.
#[derive(Debug)]
pub struct Own(Option<Runtime>);

impl Own {
    /// As the builder has it, with everything enabled.
    ///
    /// # Errors
    /// What the system says: usually that there may be no more threads or files.
    pub fn build(builder: &mut Builder) -> io::Result<Self> {
        let runtime = Self(Some(builder.enable_all().thread_keep_alive(ALWAYS).build()?));
        // What tokio would panic for is an error here.
        let room = thread::Builder::new().spawn(|| ())?;
        // It does nothing.
        let _ = room.join();
        runtime.spawn_blocking(|| ());
        Ok(runtime)
    }

    /// Ends it; what blocks may go on for so long.
    pub fn end(mut self, within: Duration) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(within);
        }
    }
}

impl Deref for Own {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_is_dropped_where_another_runs() {
        let own = Own::build(&mut Builder::new_current_thread()).unwrap();
        assert_eq!(own.spawn_blocking(|| 1).await.unwrap(), 1);
    }
}
