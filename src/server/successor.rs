//! The pgwake that takes this one's place: hears it, comes to a stillness, hands everything over, and takes everything
//! back where the successor does not begin.
//!
//! ```text
//!  serving ──replace──▶ still ──yours──▶ given up ──owned──▶ replaced: drains
//!     ▲                   │ not in time,     │ not in time,
//!     └───────────────────┴─ successor gone ─┘ successor gone
//! ```
//!
//! **Invariant:** between *given up* and *replaced* it is the lock of `state_dir` that decides: everything is taken back
//! only under it.

mod parting;
mod program;
mod taking_back;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Reloader, StartError, cannot, reading::blocking, supervision::Supervision};
use crate::admin::{Admin, Doors};
use crate::audit::Event;
use crate::ids::EndpointName;
use crate::listener::{Accepting, Bound};
use crate::session::House;
use crate::shutdown::Phase;
use crate::store::Store;
use crate::succession::{Channel, Door, PROTOCOL, Peer, Place, Word};
pub use program::Program;

/// How long starts and stops that are under way may take to end; afterwards all goes on as before.
const STILLNESS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the successor may take from having been given everything until it owns it: it opens a database and locks a
/// file for each compute.
const OWNING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long whoever knocks may take to say what it wants.
const WORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Most who are heard at the same time: one successor, and commands.
const HEARD_MAX: usize = 8;

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// Nobody has asked, or not yet.
    Serving,
    /// The last one who asked did not begin.
    Failed(String),
    /// This process has.
    Replaced(u32),
}

/// What is needed to be replaced.
pub(super) struct Succession {
    house: Arc<House>,
    reloader: Arc<Reloader>,
    store: Arc<Store>,
    /// All sockets that listen, until they are another's alone.
    sockets: Mutex<Vec<(Place, OwnedFd)>>,
    accepting: watch::Sender<Accepting>,
    progress: watch::Sender<Progress>,
    /// Locked while it is being decided whose the computes are.
    deciding: Turn<()>,
    supervision: Mutex<Option<Supervision>>,
    admin: Mutex<Option<Arc<Admin>>>,
    program: Mutex<Option<Program>>,
    attending: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What all listeners listen on.
pub(super) fn sockets_of(bound: &[Bound], doors: &Doors) -> Result<Vec<(Place, OwnedFd)>, StartError> {
    let copy = || {
        let mut sockets = Vec::new();
        for bound in bound {
            sockets.push((Place::Clients(bound.written().clone()), bound.socket()?));
        }
        if let Some((address, http)) = &doors.http {
            sockets.push((Place::Operators(*address), http.as_fd().try_clone_to_owned()?));
        }
        if let Some(control) = &doors.control {
            sockets.push((Place::Commands, control.as_fd().try_clone_to_owned()?));
        }
        Ok(sockets)
    };
    copy().map_err(cannot("keep a listening socket for a successor"))
}

impl Succession {
    pub(super) fn new(
        (house, reloader, store): (Arc<House>, Arc<Reloader>, Arc<Store>),
        sockets: Vec<(Place, OwnedFd)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            house,
            reloader,
            store,
            sockets: Mutex::new(sockets),
            accepting: watch::Sender::new(Accepting::Yes),
            progress: watch::Sender::new(Progress::Serving),
            deciding: Turn::default(),
            supervision: Mutex::default(),
            admin: Mutex::default(),
            program: Mutex::default(),
            attending: Mutex::default(),
        })
    }

    /// Hears successors and commands from now on. pgwake serves its clients without, too.
    pub(super) fn attend(self: &Arc<Self>, admin: Option<Arc<Admin>>) {
        *locked(&self.admin) = admin;
        match Door::open(&self.reloader.config().load().state_dir) {
            Ok(door) => {
                let attending = tokio::spawn(hear_all(Arc::downgrade(self), door));
                *locked(&self.attending) = Some(AbortOnDropHandle::new(attending));
            }
            Err(error) => tracing::warn!(%error, "no socket for a successor in state_dir"),
        }
    }

    /// Nobody is heard any more.
    pub(super) fn end(&self) {
        locked(&self.attending).take();
    }

    /// Whether clients are taken in.
    pub(super) fn accepting(&self) -> watch::Receiver<Accepting> {
        self.accepting.subscribe()
    }

    /// Who tells the supervisor how this pgwake is.
    pub(super) fn supervised(&self, supervision: Supervision) {
        *locked(&self.supervision) = Some(supervision);
    }

    /// The end has begun; sessions have so long.
    pub(super) fn ending(&self, sessions: Duration) {
        if let Some(supervision) = &*locked(&self.supervision) {
            supervision.ending(sessions);
        }
    }

    /// How a successor is started.
    pub(super) fn set_program(&self, program: Program) {
        *locked(&self.program) = Some(program);
    }

    /// Nobody can be given the listening sockets any more: they close with their listeners.
    pub(super) fn forget_sockets(&self) {
        locked(&self.sockets).clear();
    }

    /// Waits until it has been decided who owns the computes, where that is under way, and does this before anybody could
    /// ask again. Whether another pgwake owns them is returned.
    pub(super) async fn decided(&self, and_then: impl FnOnce()) -> bool {
        let _deciding = self.deciding.lock().await;
        and_then();
        matches!(*self.progress.borrow(), Progress::Replaced(_))
    }

    /// Waits until another pgwake has taken over. Cancel safe.
    pub(super) async fn replaced(&self) -> u32 {
        let mut progress = self.progress.subscribe();
        loop {
            if let Progress::Replaced(pid) = *progress.borrow_and_update() {
                return pid;
            }
            if progress.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn hear(self: Arc<Self>, channel: Channel) {
        let first = timeout(WORD_TIMEOUT, channel.hear()).await;
        match first {
            Ok(Ok(Some((Word::Replace(PROTOCOL, version), _)))) => self.be_replaced(channel, version).await,
            Ok(Ok(Some((Word::Replace(protocol, version), _)))) => {
                let reason = format!(
                    "it is version {} and knows the words of protocol {PROTOCOL}, not those of {protocol} (version \
                     {version}): stop it, and start the other",
                    env!("CARGO_PKG_VERSION")
                );
                refuse(&channel, reason).await;
            }
            Ok(Ok(Some((Word::Start, _)))) => self.start_successor(&channel).await,
            _ => tracing::debug!("somebody knocked and said nothing that a successor says"),
        }
    }

    async fn be_replaced(&self, channel: Channel, version: String) {
        let Ok(deciding) = self.deciding.try_lock() else {
            return refuse(&channel, "it is being replaced, or ends, just now".to_owned()).await;
        };
        if self.house.shutdown.phase() != Phase::Running || *self.accepting.borrow() != Accepting::Yes {
            return refuse(&channel, "it ends".to_owned()).await;
        }
        let Ok(peer) = channel.peer() else { return };
        if let Err(reason) = self.check_supervised(&peer) {
            return refuse(&channel, reason).await;
        }
        tracing::info!(
            pid = peer.pid(),
            version,
            "another pgwake is to take this one's place"
        );
        // Held until this pgwake's end, where it is replaced: nothing is reloaded, and no branch is made, any more.
        let still = tokio::select! {
            still = timeout(STILLNESS_TIMEOUT, self.become_still()) => still.map_err(|_| self.restless()),
            () = closed(&channel) => Err("it has ended before it got anything".to_owned()),
        };
        let result = match &still {
            Ok(_) => self.hand_over(&channel, &peer).await,
            Err(reason) => {
                self.go_on();
                Err(reason.clone())
            }
        };
        match result {
            Ok(lent) => {
                tracing::info!(pid = peer.pid(), "replaced: another pgwake serves from now on");
                self.progress.send_replace(Progress::Replaced(peer.pid()));
                drop(deciding);
                let told = self.house.tell(|| Event::new("replaced").with("pid", peer.pid()));
                tokio::join!(self.part(channel, lent), told);
                drop(still);
            }
            Err(reason) => {
                tracing::warn!(pid = peer.pid(), reason, "was not replaced, and goes on serving");
                let told = || {
                    Event::new("replaced")
                        .with("outcome", "failed")
                        .with("reason", reason.clone())
                };
                self.house.tell(told).await;
                self.progress.send_replace(Progress::Failed(reason.clone()));
                drop(deciding);
                refuse(&channel, reason).await;
            }
        }
    }

    /// Begins nothing any more, and waits for the end of what is under way. Where this is dropped, [`Self::go_on`] is to
    /// follow.
    async fn become_still(&self) -> (crate::branches::Still, tokio::sync::MutexGuard<'_, ()>) {
        let branches = self.house.branches.still().await;
        let reloads = self.reloader.turn.lock().await;
        self.accepting.send_replace(Accepting::Paused);
        self.house.wakes.freeze();
        self.house.wakes.still().await;
        (branches, reloads)
    }

    /// Serves as before.
    fn go_on(&self) {
        self.house.wakes.thaw();
        self.accepting.send_replace(Accepting::Yes);
    }

    fn restless(&self) -> String {
        let restless = self.house.wakes.restless();
        let names: Vec<&str> = restless.iter().take(10).map(EndpointName::as_str).collect();
        match names.is_empty() {
            true => {
                "a branch is being made, or its configuration is being read: try again in a moment".to_owned()
            }
            false => format!(
                "computes are being started or stopped ({}): try again in a moment",
                names.join(", ")
            ),
        }
    }

    /// Gives the state and the computes up, and waits for the successor to own them. Those that take logins are returned;
    /// an error says why this pgwake owns them again.
    async fn hand_over(&self, channel: &Channel, peer: &Peer) -> Result<Vec<EndpointName>, String> {
        self.house.wakes.give_up_computes().await;
        self.reloader.wiring.woken().write().await;
        let store = self.store.clone();
        blocking(move || store.close()).await;
        let owned = timeout(OWNING_TIMEOUT, self.offer_all(channel)).await;
        match owned.unwrap_or_else(|_| Err("it did not begin in time".to_owned())) {
            Ok(()) => Ok(self.cede(peer)),
            Err(reason) => match self.take_back(peer).await {
                Ok(()) => Err(reason),
                Err(error) => {
                    tracing::error!(
                        reason,
                        error,
                        "the state cannot be taken back: another pgwake has it"
                    );
                    Ok(self.cede(peer))
                }
            },
        }
    }

    async fn offer_all(&self, channel: &Channel) -> Result<(), String> {
        let lost = |error: std::io::Error| format!("it has ended: {error}");
        let sockets: Vec<(Place, OwnedFd)> = {
            let sockets = locked(&self.sockets);
            let copies = sockets
                .iter()
                .map(|(place, socket)| Ok((place.clone(), socket.try_clone()?)));
            copies
                .collect::<Result<_, std::io::Error>>()
                .map_err(|error| error.to_string())?
        };
        for (place, socket) in sockets {
            channel
                .say_with(&Word::Offer(place), Some(socket.as_fd()))
                .await
                .map_err(lost)?;
        }
        channel.say(&Word::Yours).await.map_err(lost)?;
        match channel.hear().await.map_err(lost)? {
            Some((Word::Owned, _)) => Ok(()),
            Some((word, _)) => Err(format!("it said {word:?} before it owned anything")),
            None => Err("it has ended before it owned anything; its own log says why".to_owned()),
        }
    }

    /// From here on there is no way back.
    fn cede(&self, peer: &Peer) -> Vec<EndpointName> {
        if let Some(supervision) = locked(&self.supervision).take() {
            supervision.replaced_by(peer.pid());
        }
        let lent = self.house.wakes.cede();
        self.accepting.send_replace(Accepting::Elsewhere);
        self.forget_sockets();
        if let Some(admin) = &*locked(&self.admin) {
            admin.close_doors();
        }
        lent
    }
}

/// Until the other end is closed, or says what is not expected now.
async fn closed(channel: &Channel) {
    let _ = channel.hear().await;
}

async fn refuse(channel: &Channel, reason: String) {
    // Whoever asked may be gone.
    let _ = channel.say(&Word::Refused(reason)).await;
}

async fn hear_all(succession: std::sync::Weak<Succession>, door: Door) {
    let mut heard = JoinSet::new();
    loop {
        if heard.len() >= HEARD_MAX {
            heard.join_next().await;
        }
        match door.next().await {
            Ok(channel) => {
                let Some(succession) = succession.upgrade() else {
                    return;
                };
                heard.spawn(succession.hear(channel));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot hear a successor; trying again");
                sleep(Duration::from_secs(1)).await;
            }
        }
        while heard.try_join_next().is_some() {}
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
