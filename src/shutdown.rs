//! The one signal that ends everything: running, draining, stopping.
//!
//! It only tells; who accepts, relays or waits watches it and ends by itself. `server` raises it.

use tokio::sync::watch;

/// How far the end of this process has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Serving.
    Running,
    /// Nothing new is accepted; idle sessions end, transactions may finish.
    Draining,
    /// The time for draining is over: everything ends now.
    Stopping,
}

/// The right to raise the signal. Kept by `server`.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// Sees the signal. Cheap to clone; one per task.
#[derive(Clone, Debug)]
pub struct ShutdownWatch(watch::Receiver<Phase>);

impl Shutdown {
    /// A signal that says [`Phase::Running`].
    pub fn new() -> (Self, ShutdownWatch) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Self(sender), ShutdownWatch(receiver))
    }

    /// Moves on to `phase`; going back is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = phase > *now;
            *now = (*now).max(phase);
            further
        });
    }
}

impl ShutdownWatch {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` (or a later one) is reached; also when the sender is gone. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that `server` is gone: that is the end, too.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
