//! What runs a server and can be suspended: start, stop, address of one compute behind one small trait.
//!
//! A compute does not know clients, leases or when to sleep: `wake` decides, a compute does. One file per kind.

mod answer;
pub(crate) mod command;
pub(crate) mod controlled;
pub(crate) mod fixed;
pub(crate) mod process;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::config::{ServerAddress, ServerSetting, ServerTls};
use crate::tls::Stream;

pub use process::branch::Source;
pub(crate) use process::branch::{
    Backup, BranchPlace, CopyError, GiveUp, Measured, Room, remove as remove_branch, remove_half_made,
};

/// Where a running compute's server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// TCP host and port or a Unix socket.
    pub server: ServerAddress,
    /// TLS towards it.
    pub tls: ServerTls,
    /// The number of the operating system's user that the server must run as; `None`: whoever answers is right.
    pub server_uid: Option<u32>,
}

/// Somebody else than the address' own server answered. Nothing may be sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what listens on the server's socket runs as {}, not as the server's own user {expected}",
    found.map_or("nobody knows whom".to_owned(), |uid| format!("user {uid}")))]
pub struct Impostor {
    expected: u32,
    found: Option<u32>,
}

#[cfg(test)]
impl Impostor {
    /// One of them.
    pub(crate) fn example() -> Self {
        Self {
            expected: 105,
            found: None,
        }
    }
}

impl Address {
    /// Checks who answered, before anything is sent: whoever runs a tenant's Postgres owns the folder of its
    /// socket, and could put a link to another tenant's there, which lets pgwake in as superuser.
    ///
    /// # Errors
    /// [`Impostor`]
    pub(crate) fn check_server(&self, stream: &Stream) -> Result<(), Impostor> {
        let Some(expected) = self.server_uid else {
            return Ok(());
        };
        match stream.peer_uid() {
            Some(found) if found == expected => Ok(()),
            found => Err(Impostor { expected, found }),
        }
    }
}

/// A compute that takes logins.
pub struct Running {
    /// Where it is reached.
    pub address: Address,
    /// Whether it was found running rather than started by this call.
    pub adopted: bool,
    /// Resolves with the reason when it ends without having been stopped by [`Compute::stop`]; never otherwise.
    /// Dropping it stops watching.
    pub died: BoxFuture<'static, String>,
    /// Where the time of the start went, in order (for the log): name of the phase, how long.
    pub phases: Vec<(&'static str, Duration)>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why a compute could not be started, looked at or stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct ComputeError {
    /// One sentence for operator and client; no secrets, no environment.
    pub reason: String,
    /// The last lines of the server's own log, or the system's error: for the operator only.
    pub detail: Option<String>,
    /// When it may be tried again at the earliest, if whoever refused it has said so.
    pub retry_after: Option<Duration>,
}

impl ComputeError {
    /// An error with a reason alone.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: None,
            retry_after: None,
        }
    }

    /// Adds what only the operator should read.
    #[must_use]
    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// Looking reads a few small files, or asks a local program once.
const INSPECT_MAX: Duration = Duration::from_secs(10);

/// One compute. `wake` never calls two of these methods at the same time for one compute.
pub trait Compute: Send + Sync + 'static {
    /// Whether it can be stopped at all; a fixed server cannot, and is never suspended.
    fn can_suspend(&self) -> bool;

    /// Whether it can be started: only then is it worth looking at one that cannot be reached.
    fn can_start(&self) -> bool {
        self.can_suspend()
    }

    /// Whether it runs on this machine, where there is only so much room.
    fn is_local(&self) -> bool {
        false
    }

    /// How long [`Compute::inspect`] may take.
    fn inspect_max(&self) -> Duration {
        INSPECT_MAX
    }

    /// What branches of it are made of; `None`: it has no files here.
    fn source(&self) -> Option<Source> {
        None
    }

    /// What its server gets from the next start on; one that runs keeps what it has. Without a server of its own it has
    /// no settings.
    fn set_settings(&self, _settings: &[ServerSetting]) {}

    /// Whether one that could not be told to run or not is to be looked at again and again: it would run for nobody.
    fn looks_again(&self) -> bool {
        false
    }

    /// Looks, without starting anything: `Some` where it already runs (after a crash of pgwake).
    ///
    /// # Errors
    /// Where it cannot be told; the caller then treats it as not running.
    fn inspect(&self) -> BoxFuture<'_, Result<Option<Running>, ComputeError>>;

    /// Starts it and returns once it takes logins; one that already runs is adopted. Not cancel safe: run it in
    /// a task of its own; after a time-out call [`Compute::stop`].
    ///
    /// # Errors
    /// Where it cannot be started; nothing is left running then.
    fn start(&self) -> BoxFuture<'_, Result<Running, ComputeError>>;

    /// Stops it, cleanly if it can be, and returns once no process of it is left. Not cancel safe.
    ///
    /// # Errors
    /// Where something of it is still running afterwards.
    fn stop(&self) -> BoxFuture<'_, Result<(), ComputeError>>;

    /// Another pgwake is to have it: lets go of what keeps others away, and does nothing to it any more. Not while
    /// anything of it is under way.
    fn give_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// No other pgwake has it, after all: it is as it was before [`Compute::give_up`].
    ///
    /// # Errors
    /// Somebody else has it; it is neither started nor stopped from here.
    fn take_back(&self) -> BoxFuture<'_, Result<(), ComputeError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// How long each part of a start took.
struct Phases {
    since: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Phases {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            done: Vec::new(),
        }
    }

    fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.done.push((name, now - self.since));
        self.since = now;
    }
}
