//! The one signal that ends everything: running, leaving, draining, stopping. And one like it for a single session.
//!
//! It only tells; who accepts, relays or waits watches it and ends by itself. `server` raises it, and an operator
//! who ends one session.

use tokio::sync::watch;

/// How far the end of this process has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Serving.
    Running,
    /// Serving as ever, but not for long: whoever sends clients here should send them elsewhere.
    Leaving,
    /// Nothing new is accepted; idle sessions end, transactions may finish.
    Draining,
    /// The time for draining is over: everything ends now.
    Stopping,
}

/// The right to raise the signal. Kept by `server`; of a single session, by whoever lists sessions.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<Phase>);

/// Sees the signal. Cheap to clone; one per task.
#[derive(Clone, Debug)]
pub struct ShutdownWatch {
    all: watch::Receiver<Phase>,
    /// Of one session alone.
    own: Option<watch::Receiver<Phase>>,
}

impl Shutdown {
    /// A signal that says [`Phase::Running`].
    pub fn new() -> (Self, ShutdownWatch) {
        let (sender, receiver) = watch::channel(Phase::Running);
        let watch = ShutdownWatch {
            all: receiver,
            own: None,
        };
        (Self(sender), watch)
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
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
    /// The same, which a signal of its own ends as well.
    #[must_use]
    pub fn joined_by(&self, own: &Shutdown) -> Self {
        Self {
            all: self.all.clone(),
            own: Some(own.0.subscribe()),
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        let own = self.own.as_ref().map_or(Phase::Running, |own| *own.borrow());
        own.max(*self.all.borrow())
    }

    /// Whether it is its own signal that ends it, and not the one for all.
    pub fn is_alone(&self) -> bool {
        *self.all.borrow() < Phase::Draining
    }

    /// Waits until `phase` (or a later one) is reached; also when the sender is gone. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that `server` is gone: that is the end, too.
        let Some(own) = &mut self.own else {
            let _ = self.all.wait_for(|now| *now >= phase).await;
            return;
        };
        tokio::select! {
            _ = self.all.wait_for(|now| *now >= phase) => (),
            _ = own.wait_for(|now| *now >= phase) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn either_signal_ends_a_session_and_its_own_ends_nobody_else() {
        let (all, watch) = Shutdown::new();
        let (own, _) = Shutdown::new();
        let mut joined = watch.joined_by(&own);
        own.advance(Phase::Stopping);
        joined.reached(Phase::Stopping).await;
        assert_eq!((joined.phase(), watch.phase()), (Phase::Stopping, Phase::Running));
        assert!(joined.is_alone());
        let (own, _) = Shutdown::new();
        let mut joined = watch.joined_by(&own);
        all.advance(Phase::Draining);
        joined.reached(Phase::Draining).await;
        assert!(!joined.is_alone());
        drop(own);
    }
}
