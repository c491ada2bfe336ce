//! What the wake machine hears and what it says.
//!
//! Events are in the past tense, or orders from the rest of the house; answers carry the generation (or round)
//! of what they answer, so that a late one is recognised.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::super::{
    backoff::{Backoff, Jitter},
    idle::{Holding, Weight},
    lease::LeaseSignal,
    waiting::Ticket,
};
use crate::config::IgnoredBy;
use crate::ids::Generation;

/// Something happened.
#[derive(Clone, Debug)]
pub(in crate::wake) enum Event {
    /// Somebody with the right to it wants a lease.
    Asked {
        ticket: Ticket,
        weight: Weight,
        deadline: Instant,
    },
    /// One who waits left.
    Left { ticket: Ticket },
    /// One who waits left, and wants it to be woken all the same, if he counts: until then.
    Detached { ticket: Ticket, until: Instant },
    /// Answer to [`Action::LineUp`]: its turn to be started has come.
    Called { generation: Generation },
    /// One who was held has logged in, or will not.
    Arrived { generation: Generation },
    /// An active lease has nothing open any more.
    Rested { generation: Generation, weight: Weight },
    /// A resting lease has something open again.
    Resumed { generation: Generation, weight: Weight },
    /// A lease was given back.
    Returned {
        generation: Generation,
        weight: Weight,
        holding: Holding,
    },
    /// Look whether it already runs.
    InspectOrdered,
    /// Look whether it runs after all: the last look could not tell.
    LookAgainOrdered,
    /// Answer to [`Action::Inspect`]: it runs, and is adopted.
    FoundRunning { generation: Generation },
    /// Answer to [`Action::Inspect`]: it does not run, or it cannot be told.
    FoundAsleep { generation: Generation },
    /// Answer to [`Action::Start`]: it takes logins.
    Started { generation: Generation },
    /// Answer to [`Action::Start`]: it could not be started; nothing is left running.
    StartFailed {
        generation: Generation,
        reason: Arc<str>,
        jitter: Jitter,
        /// It may not be tried again before.
        retry_after: Option<Duration>,
    },
    /// It ended by itself.
    Died {
        generation: Generation,
        reason: Arc<str>,
        jitter: Jitter,
    },
    /// A leaseholder could not connect.
    Unreachable { generation: Generation },
    /// Answer to [`Action::Settle`]: what had to be done before the suspend is done.
    Settled { round: u64 },
    /// Answer to [`Action::Settle`] where it asks: it is to stay awake, or nobody knows whether it may be suspended.
    Vetoed { round: u64, reason: Arc<str> },
    /// Answer to [`Action::Stop`].
    Stopped { generation: Generation },
    /// Answer to [`Action::Stop`]: something of it may still run.
    StopFailed { generation: Generation },
    /// `Machine::due` has come.
    TimePassed { jitter: Jitter },
    /// An operator wants it to be suspended, if nobody works.
    SuspendOrdered,
    /// Others need its room: it is to be suspended before its time, if nobody needs it.
    RoomWanted,
    /// pgwake ends: no leases from now on.
    Closed,
    /// pgwake ends: whatever runs is to be stopped.
    StopOrdered,
    /// Another pgwake wants to take it over: nothing is begun from now on.
    Frozen,
    /// It does not, after all: what has waited goes on.
    Thawed,
    /// It has: nothing is begun any more. Leases are granted as long as it stays awake.
    Ceded,
    /// No leases any more either: it may be suspended at any moment.
    LetGo,
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::wake) enum Action {
    /// This one has its lease now.
    Grant { ticket: Ticket },
    /// This one gets none.
    Refuse { ticket: Ticket, refusal: Refusal },
    /// Look whether it runs.
    Inspect { generation: Generation },
    /// Have it wait for its turn to be started.
    LineUp { generation: Generation },
    /// It does not wait for its turn any more.
    LeaveLine,
    /// Start it.
    Start { generation: Generation },
    /// End the start where one is under way, then stop it.
    Stop { generation: Generation },
    /// Do what has to be done before a suspend, and ask whether it may be where that `asks`.
    Settle { round: u64, asks: bool },
    /// Tell the rest of the house that it is awake.
    Announce,
    /// Tell all leases of the present generation.
    Signal(LeaseSignal),
}

/// Why somebody gets no lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::wake) enum Refusal {
    /// The deadline came first.
    TimedOut(Stage),
    /// The wake failed, now or a moment ago.
    Failed(Arc<str>, Backoff),
    /// It is not awake, nobody has it woken who counts, and this one does not.
    Ignored(IgnoredBy),
    /// An operator has disabled the endpoint.
    Disabled,
    /// pgwake is shutting down.
    Closed,
}

/// What one who is held waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::wake) enum Stage {
    /// Others are started before it.
    InLine,
    /// It is started, looked at, or stopped.
    Starting,
    /// Others log in before.
    LoggingIn,
}
