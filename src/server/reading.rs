//! Files that are read again, on a disk that may not answer.
//!
//! What waits for a disk can be left, but not ended. So one reading at a time has a thread: whoever comes while it hangs
//! leaves as it did. It knows not what is read. Who calls: `reload`.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// Lets one reading begin when the one before has ended.
pub(super) struct Readings(Arc<Semaphore>);

impl Default for Readings {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Readings {
    /// What was read; `None`: not within that time, in which the one before may not have ended either. Cancel safe: a
    /// reading that has begun goes on, and what comes of it is nobody's.
    pub(super) async fn within<T: Send + 'static>(
        &self,
        time: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let reading = async {
            let turn = self.0.clone().acquire_owned().await.expect("nobody closes it");
            blocking(move || {
                let read = read();
                drop(turn);
                read
            })
            .await
        };
        timeout(time, reading).await.ok()
    }
}

/// Does what blocks on files where that holds up nobody. Not cancel safe: it goes on.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Whoever came later waited with the first one, for ever.
    #[tokio::test]
    async fn a_reading_that_hangs_is_left_and_begins_no_second() {
        let readings = Readings::default();
        let (answer, disk) = mpsc::channel();
        let hung = readings.within(Duration::from_millis(10), move || disk.recv());
        assert!(hung.await.is_none());
        let second = || unreachable!("the first one hangs");
        assert!(
            readings
                .within::<()>(Duration::from_millis(10), second)
                .await
                .is_none()
        );
        answer.send(()).unwrap();
        assert_eq!(readings.within(LONG, || 3).await, Some(3));
    }
}
