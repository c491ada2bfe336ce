//! Accepts clients and hands each to a worker, one task per client. The first worker's thread accepts: most clients
//! stay there.
//!
//! It reads nothing from a client and knows nothing of what follows. An error of `accept` (usually: no file
//! descriptors left) is waited out; it never ends the process.

mod bind;
mod workers;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::session::House;
use crate::shutdown::{Phase, ShutdownWatch};

pub use bind::{BindError, Bound, bind, bind_or_inherit};
pub use workers::Workers;

/// First pause after an error of `accept`; doubled with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause after an error of `accept`.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often closed clients are told of.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// Where a listener can be reached, as bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundAddress {
    /// With the port that the system chose.
    Tcp(SocketAddr),
    /// The socket's path.
    Unix(PathBuf),
}

impl BoundAddress {
    /// The address, over TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

/// Whether clients are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepting {
    /// As they come.
    Yes,
    /// They wait in the system's queue.
    Paused,
    /// By another pgwake, on the same sockets.
    Elsewhere,
}

/// What tells a listener that its time is over, or that it should pause.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The end of pgwake.
    pub shutdown: ShutdownWatch,
    /// Whether it takes clients in.
    pub accepting: watch::Receiver<Accepting>,
}

/// Accepts on one listener, in a task of `tasks`, until pgwake drains or another accepts there.
///
/// # Errors
/// What the system says where the thread that is to accept cannot.
pub fn accept_all(
    mut bound: Bound,
    house: Arc<House>,
    (workers, tasks): (Arc<Workers>, &TaskTracker),
    signals: Signals,
) -> io::Result<()> {
    let runtime = workers.accepting().clone();
    {
        let _here = runtime.enter();
        bound.move_here()?;
    }
    tasks.spawn_on(accept(bound, house, workers, signals), &runtime);
    Ok(())
}

/// Cancel safe.
async fn accept(bound: Bound, house: Arc<House>, workers: Arc<Workers>, signals: Signals) {
    let Signals {
        mut shutdown,
        mut accepting,
    } = signals;
    let mut changes = accepting.clone();
    let door = bound.door().clone();
    if let Err(error) = bound.settle(&house.sockets) {
        tracing::warn!(%error, "clients' sockets cannot be set up: one that is silent is not found out");
    }
    let mut pause = PAUSE_MIN;
    let mut refusals = Refusals::default();
    loop {
        let now = accepting.borrow_and_update().to_owned();
        if now == Accepting::Elsewhere {
            return bound.leave();
        }
        let accepted = tokio::select! { biased;
            () = shutdown.reached(Phase::Draining) => {
                return match *accepting.borrow() {
                    Accepting::Elsewhere => bound.leave(),
                    Accepting::Yes | Accepting::Paused => (),
                };
            }
            changed = changes.wait_for(|next| *next != now) => match changed {
                Ok(_) => continue,
                Err(_) => return,
            },
            accepted = bound.accept(), if now == Accepting::Yes => accepted,
        };
        match accepted {
            Ok(socket) => {
                pause = PAUSE_MIN;
                let clients_max = house.limits.load().clients_max;
                if workers.clients() < clients_max {
                    workers.serve(socket, door.clone(), house.clone());
                } else {
                    // Closed without a word: a word would cost what the limit saves.
                    refusals.count(clients_max);
                }
            }
            Err(error) if is_about_one_client(&error) => (),
            Err(error) => {
                tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept clients; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Clients that were closed because there are too many, told once in a while.
#[derive(Default)]
struct Refusals {
    untold: u64,
    told_at: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, clients_max: usize) {
        self.untold += 1;
        if self
            .told_at
            .is_none_or(|told_at| told_at.elapsed() >= REFUSALS_TOLD_EVERY)
        {
            tracing::warn!(
                clients_max,
                closed = self.untold,
                "too many clients: connections are closed"
            );
            *self = Self {
                untold: 0,
                told_at: Some(Instant::now()),
            };
        }
    }
}

/// Errors that a client which left early leaves behind (accept(2)).
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
