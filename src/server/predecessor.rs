//! The pgwake whose place this one takes: what is asked of it and taken over, and what it says afterwards, for as long as
//! it has clients.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::reading::blocking;
use crate::audit::Event;
use crate::auth::WakeRight;
use crate::cancel::Elsewhere;
use crate::config::{Config, ListenAddress};
use crate::ids::EndpointName;
use crate::listener::{BindError, Bound, bind_or_inherit};
use crate::session::House;
use crate::store::{Store, StoreError};
use crate::succession::{Channel, PROTOCOL, Peer, Place, Word};
use crate::wake::LeaseSignal;
use crate::wire::startup::CancelKey;

/// How long it may take until the predecessor has come to a stillness and handed over what it has: longer than it gives
/// itself for that.
const ASKING_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a predecessor that has broken off may take to end.
const ENDING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one that cannot be reached any more may take to end: shorter than it would wait for its successor's locks.
const DYING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to say which computes are in use. Afterwards it may still say so.
const CEDING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a compute that is in use may take to be found.
const FINDING_TIMEOUT: Duration = Duration::from_secs(30);

/// How soon a compute that is in use and could not be kept awake is asked for again.
const KEEPING_RETRY: Duration = Duration::from_millis(200);

/// How long a cancel may take on its way: the predecessor gives it as long as this.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a pgwake that serves was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It cannot be reached.
    #[error("cannot reach the pgwake that is to be replaced: {0}")]
    Unreachable(io::Error),
    /// It says no.
    #[error("the pgwake that is to be replaced goes on serving: {0}")]
    Refused(String),
    /// It said nothing for too long.
    #[error("the pgwake that is to be replaced has not answered within {} s", ASKING_TIMEOUT.as_secs())]
    Silent,
    /// It has ended in the middle, or says what nobody understands.
    #[error("the pgwake that is to be replaced has broken off")]
    BrokenOff,
}

/// A predecessor that has handed everything over and waits for its successor to begin.
pub(super) struct Predecessor {
    channel: Channel,
    peer: Peer,
    offers: Vec<(Place, OwnedFd)>,
}

impl Predecessor {
    /// Asks the pgwake that serves this folder to hand over; `None`: there is none. Where it has ended in the middle, all is
    /// as after a crash of it, and there is none, too.
    ///
    /// # Errors
    /// It goes on serving.
    pub(super) async fn ask(state_dir: &Path) -> Result<Option<Self>, ReplaceError> {
        let channel = match Channel::connect(state_dir) {
            Ok(channel) => channel,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(ReplaceError::Unreachable(error)),
        };
        let asking = Self::converse(channel);
        timeout(ASKING_TIMEOUT, asking)
            .await
            .unwrap_or(Err(ReplaceError::Silent))
    }

    /// The state, where another pgwake that has it may be on its way out of this world: what a dead one has locked is
    /// unlocked when the system has taken it apart.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) async fn open_after(state_dir: &Path) -> Result<Store, StoreError> {
        let state_dir = state_dir.to_owned();
        let open = move || match Store::open(&state_dir) {
            Err(StoreError::InUse { pid: Some(pid), .. })
                if Peer::of(pid).is_ok_and(|other| other.ends_within(ENDING_TIMEOUT)) =>
            {
                Store::open(&state_dir)
            }
            // One that has ended meanwhile is in nobody's way any more.
            Err(StoreError::InUse { pid: Some(pid), .. }) if Peer::of(pid).is_err() => {
                Store::open(&state_dir)
            }
            opened => opened,
        };
        blocking(open).await
    }

    async fn converse(channel: Channel) -> Result<Option<Self>, ReplaceError> {
        let mut offers = Vec::new();
        let peer = channel.peer().map_err(ReplaceError::Unreachable)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        // Where nobody hears it, nobody answers, either.
        let _ = channel.say(&Word::Replace(PROTOCOL, version)).await;
        loop {
            match channel.hear().await {
                Ok(Some((Word::Offer(place), Some(socket)))) => offers.push((place, socket)),
                Ok(Some((Word::Yours, _))) => {
                    return Ok(Some(Self {
                        channel,
                        peer,
                        offers,
                    }));
                }
                Ok(Some((Word::Refused(reason), _))) => return Err(ReplaceError::Refused(reason)),
                Ok(None) => {
                    // What it has locked is free only then.
                    blocking(move || peer.ends_within(ENDING_TIMEOUT)).await;
                    return Ok(None);
                }
                Ok(Some(_)) | Err(_) => return Err(ReplaceError::BrokenOff),
            }
        }
    }

    /// Its socket for this place, if it has one.
    pub(super) fn socket(&mut self, place: &Place) -> Option<OwnedFd> {
        let found = self.offers.iter().position(|(offered, _)| offered == place)?;
        Some(self.offers.remove(found).1)
    }

    /// This one owns everything from now on. Keeps awake what the predecessor's clients use, and passes their cancels on,
    /// for as long as it has any.
    ///
    /// # Errors
    /// It has taken everything back.
    pub(super) async fn take_over(self, house: &Arc<House>) -> Result<Elder, ReplaceError> {
        let Self {
            channel,
            peer,
            offers,
        } = self;
        if channel.say(&Word::Owned).await.is_err() {
            // One that is dead leaves everything to this one; one that lives takes it back.
            return match blocking(move || peer.ends_within(DYING_TIMEOUT)).await {
                true => Ok(Elder::default()),
                false => Err(ReplaceError::BrokenOff),
            };
        }
        offers.iter().for_each(|(place, _)| remove_unwanted(place));
        drop(offers);
        let bond = Arc::new(Bond {
            channel,
            asked: AtomicU64::new(0),
            answers: Mutex::default(),
        });
        let mut kept = Kept::default();
        let ceding = async {
            while let Some(word) = bond.hear().await {
                if word == Word::Ceded {
                    return;
                }
                kept.obey(word, &bond, house);
            }
        };
        if timeout(CEDING_TIMEOUT, ceding).await.is_err() {
            tracing::warn!("the pgwake that was replaced has not said yet which computes its clients use");
        }
        let computes = kept.0.len();
        tracing::info!(
            computes,
            "took the place of another pgwake, whose clients use so many computes"
        );
        let telling = house.clone();
        tokio::spawn(async move {
            let event = || Event::new("took_over").with("computes", computes);
            telling.tell(event).await;
        });
        let asked = bond.clone();
        let ask = move |key| -> BoxFuture<'static, bool> {
            let asked = asked.clone();
            Box::pin(async move { asked.cancel(key).await })
        };
        house.cancels.set_elsewhere(Some(Elsewhere(Box::new(ask))));
        Ok(Elder::follow(bond, kept, house.clone()))
    }
}

/// A Unix socket that nobody listens on any more is in nobody's way.
fn remove_unwanted(place: &Place) {
    if let Place::Clients(ListenAddress::Unix(path)) = place {
        let _ = std::fs::remove_file(path);
    }
}

/// The sockets of a configuration: the predecessor's where it has them.
pub(super) fn bound(config: &Config, predecessor: &mut Option<Predecessor>) -> Result<Vec<Bound>, BindError> {
    let listeners = config.listen.iter().map(|listen| {
        let place = Place::Clients(listen.address.clone());
        let inherited = predecessor.as_mut().and_then(|before| before.socket(&place));
        bind_or_inherit(listen, inherited)
    });
    listeners.collect()
}

/// What both say afterwards.
struct Bond {
    channel: Channel,
    asked: AtomicU64,
    answers: Mutex<HashMap<u64, oneshot::Sender<bool>>>,
}

impl Bond {
    /// `None`: it has ended.
    async fn hear(&self) -> Option<Word> {
        self.channel.hear().await.ok().flatten().map(|(word, _)| word)
    }

    /// Whether one of its clients has this key; what that runs has been cancelled then.
    async fn cancel(&self, key: CancelKey) -> bool {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.answers().insert(number, sender);
        let asking = async {
            self.channel.say(&Word::Cancel(number, key)).await.ok()?;
            answer.await.ok()
        };
        let is_known = timeout(CANCEL_TIMEOUT, asking).await.ok().flatten();
        self.answers().remove(&number);
        is_known.unwrap_or(false)
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<bool>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes that the predecessor's clients use, each with a task that holds its lease.
#[derive(Default)]
struct Kept(HashMap<EndpointName, AbortOnDropHandle<()>>);

impl Kept {
    fn obey(&mut self, word: Word, bond: &Bond, house: &Arc<House>) {
        match word {
            Word::InUse(names) => {
                for name in names {
                    let lease = keep_awake(name.clone(), house.clone());
                    self.0.insert(name, lease);
                }
            }
            Word::Released(name) => {
                self.0.remove(&name);
                // What its clients changed there was for it to notice.
                if let Some(endpoint) = house.directory.endpoint(&name) {
                    house.roles.changed(&endpoint);
                }
            }
            Word::Cancelled(number, is_known) => {
                if let Some(answer) = bond.answers().remove(&number) {
                    // Whoever asked may have left.
                    let _ = answer.send(is_known);
                }
            }
            _ => (),
        }
    }
}

/// Holds a lease as long as what is returned lives. It is asked for before this returns, and again wherever it cannot be had
/// or is lost: who uses the compute cannot say so here.
fn keep_awake(name: EndpointName, house: Arc<House>) -> AbortOnDropHandle<()> {
    let right = WakeRight::for_predecessor();
    let ask = {
        let (house, name) = (house.clone(), name.clone());
        move || {
            house
                .wakes
                .take_over(&name, &right, Instant::now() + FINDING_TIMEOUT)
        }
    };
    let is_known = house.directory.endpoint(&name).is_some();
    let mut asked = is_known.then(&ask);
    let mut is_told = false;
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let waiting = match (asked.take(), &house.control_plane) {
                (Some(waiting), _) => waiting,
                (None, Some(book)) if house.directory.endpoint(&name).is_none() => {
                    // Nobody here has named it yet.
                    book.ask(&name).await;
                    ask()
                }
                (None, _) => ask(),
            };
            match waiting.await {
                Ok(lease) => {
                    lease.arrived();
                    let mut signal = lease.signal();
                    // An error is the end of it, too.
                    let _ = signal.wait_for(LeaseSignal::is_over).await;
                    if lease.told() == LeaseSignal::Suspended {
                        // By order: whoever used it knows.
                        return;
                    }
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(endpoint = %name, %error,
                        "in use by the pgwake that was replaced, and cannot be kept awake; trying again");
                }
                Err(_) => (),
            }
            sleep(KEEPING_RETRY).await;
        }
    }))
}

/// A predecessor that has clients, or had.
pub(super) struct Elder {
    gone: watch::Receiver<bool>,
    leave: watch::Sender<bool>,
}

impl Default for Elder {
    /// There was none.
    fn default() -> Self {
        Self {
            gone: watch::channel(true).1,
            leave: watch::channel(false).0,
        }
    }
}

impl Elder {
    fn follow(bond: Arc<Bond>, mut kept: Kept, house: Arc<House>) -> Self {
        let (tell_gone, gone) = watch::channel(false);
        let (leave, mut left) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let word = tokio::select! {
                    word = bond.hear() => word,
                    // An error is the end, too.
                    _ = left.wait_for(|leave| *leave) => None,
                };
                let Some(word) = word else { break };
                kept.obey(word, &bond, &house);
            }
            house.cancels.set_elsewhere(None);
            drop(kept);
            tracing::info!("the pgwake that was replaced has no clients any more");
            tell_gone.send_replace(true);
        });
        Self { gone, leave }
    }

    /// Returns once it has no clients. Cancel safe.
    pub(super) async fn gone(&self) {
        // An error means that nobody follows it any more.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// It is not listened to any more.
    pub(super) fn leave(&self) {
        self.leave.send_replace(true);
    }
}
