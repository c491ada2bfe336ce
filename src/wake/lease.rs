//! What a session holds: a place in the waiting room, then a promise that the compute stays awake.
//!
//! Both give back what they hold by being dropped. Neither decides anything: they tell the endpoint's `driver`.
//! Who calls: `session`.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    driver::{Driver, Dropped},
    error::WakeError,
    idle::{Holding, Weight},
    waiting::Ticket,
};
use crate::compute::Address;
use crate::ids::Generation;

/// What the holders of leases are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseSignal {
    /// Nothing to do.
    Steady,
    /// The compute is about to be suspended: whoever has nothing open should end its session and drop the lease.
    /// Going on with a statement (`set_active`) is fine, too, and keeps the compute awake.
    EndIfIdle,
    /// The compute is gone, with the reason. The lease is worthless; drop it.
    Lost(Arc<str>),
    /// The same, because it is suspended.
    Suspended,
}

impl LeaseSignal {
    /// Whether the lease is worthless.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Suspended)
    }
}

/// One generation of a compute that takes logins.
#[derive(Debug)]
pub(super) struct Awake {
    pub(super) address: Address,
    pub(super) generation: Generation,
    pub(super) since: Instant,
    signal: watch::Sender<LeaseSignal>,
    /// How often that has changed, as far as bells have been rung for it.
    signals: AtomicUsize,
    /// How many there are who hold a lease.
    leases: AtomicUsize,
}

impl Awake {
    /// It has just become awake.
    pub(super) fn new(address: Address, generation: Generation) -> Self {
        Self {
            address,
            generation,
            since: Instant::now(),
            signal: watch::Sender::new(LeaseSignal::Steady),
            signals: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
        }
    }

    /// Tells those who hold leases. Says whether the bells are to be rung: it is news, and somebody holds one.
    pub(super) fn tell(&self, signal: LeaseSignal) -> bool {
        let is_news = self
            .signal
            .send_if_modified(|present| mem::replace(present, signal.clone()) != signal);
        // Whoever is not counted yet has not looked either: both do so in one order for all.
        is_news && {
            self.signals.fetch_add(1, Ordering::SeqCst);
            self.leases.load(Ordering::SeqCst) > 0
        }
    }

    /// What leases are told, for somebody who holds none.
    pub(super) fn signal(&self) -> watch::Receiver<LeaseSignal> {
        self.signal.subscribe()
    }
}

/// A held promise that a compute stays awake. Dropping it gives it back.
pub struct AwakeLease {
    driver: Arc<Driver>,
    awake: Arc<Awake>,
    weight: Weight,
    resting: AtomicBool,
    /// It was waited for, and its holder has not logged in yet.
    arriving: AtomicBool,
    /// The server's process that its holder works at; 0: not known.
    server_process: AtomicI32,
    was_cold: bool,
}

impl AwakeLease {
    /// For somebody who found it awake.
    pub(super) fn warm(driver: Arc<Driver>, awake: Arc<Awake>, weight: Weight) -> Self {
        awake.leases.fetch_add(1, Ordering::SeqCst);
        Self {
            driver,
            awake,
            weight,
            resting: AtomicBool::new(false),
            arriving: AtomicBool::new(false),
            server_process: AtomicI32::new(0),
            was_cold: false,
        }
    }

    /// For somebody who was held.
    pub(super) fn cold(driver: Arc<Driver>, awake: Arc<Awake>, weight: Weight) -> Self {
        let mut lease = Self::warm(driver, awake, weight);
        lease.was_cold = true;
        lease.arriving = AtomicBool::new(true);
        lease
    }

    /// Where the server is reached.
    pub fn address(&self) -> &Address {
        &self.awake.address
    }

    /// Server sessions of another generation are worthless under this lease.
    pub fn generation(&self) -> Generation {
        self.awake.generation
    }

    /// Whether the compute was not awake when the lease was asked for.
    pub fn was_cold(&self) -> bool {
        self.was_cold
    }

    /// Whether its address is one that has been good, of a compute that a wake may find somewhere else.
    pub fn may_be_stale(&self) -> bool {
        !self.was_cold && self.driver.can_be_woken()
    }

    /// Its holder has logged in, or needs no login: the next one who is held may. Without this call it is said by the
    /// first rest, or the end, of the lease.
    pub fn arrived(&self) {
        if self.arriving.load(Ordering::Relaxed) {
            self.driver.note_arrival(self);
        }
    }

    /// Whether it keeps the compute awake: one that does not is waited for at a suspend, for a while.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Whether its holder has to stop in the middle of what he has open: it was waited for, and the compute is suspended.
    pub fn is_cut_off(&self) -> bool {
        !self.weight.counts() && *self.awake.signal.borrow() == LeaseSignal::Suspended
    }

    /// Nothing is open any more. Without `suspend_idle_sessions` the lease keeps the compute awake all the same.
    pub fn set_idle(&self) {
        self.driver.change_holding(self, Holding::Resting);
    }

    /// Something is open again: a suspend that was about to begin is called off. Where it has already begun the
    /// signal says that it is over.
    pub fn set_active(&self) {
        self.driver.change_holding(self, Holding::Active);
    }

    /// What its holder should know; the present value counts as seen.
    pub fn signal(&self) -> watch::Receiver<LeaseSignal> {
        self.awake.signal()
    }

    /// How often there has been something new in [`signal`](Self::signal), as far as the session's bell was rung for it. Asked
    /// in each turn: it costs a look at one number.
    pub fn signals(&self) -> usize {
        self.awake.signals.load(Ordering::SeqCst)
    }

    /// What its holder should know now.
    pub fn told(&self) -> LeaseSignal {
        match self.signals() {
            0 => LeaseSignal::Steady,
            _ => self.awake.signal.borrow().clone(),
        }
    }

    /// Its holder works at this process of the server from now on. While the lease rests, or does not count, that is nobody
    /// who keeps the compute awake.
    pub fn works_at(&self, process: i32) {
        self.server_process.store(process, Ordering::Relaxed);
        if !self.weight.counts() {
            self.driver.note_process(self);
        }
    }

    pub(super) fn server_process(&self) -> i32 {
        self.server_process.load(Ordering::Relaxed)
    }

    /// Whether this is the moment of its arrival. Only under the driver's lock.
    pub(super) fn take_arrival(&self) -> bool {
        self.arriving.swap(false, Ordering::Relaxed)
    }

    /// Notes how it is held and tells how it was held before. Only under the driver's lock, so that the machine
    /// hears of changes in the order in which they are noted.
    pub(super) fn replace_holding(&self, holding: Holding) -> Holding {
        let resting = self.resting.swap(holding == Holding::Resting, Ordering::Relaxed);
        if resting {
            Holding::Resting
        } else {
            Holding::Active
        }
    }
}

impl Drop for AwakeLease {
    fn drop(&mut self) {
        self.awake.leases.fetch_sub(1, Ordering::Relaxed);
        let holding = if *self.resting.get_mut() {
            Holding::Resting
        } else {
            Holding::Active
        };
        let was_arriving = *self.arriving.get_mut();
        let dropped = Dropped {
            weight: self.weight,
            holding,
            was_arriving,
            server_process: *self.server_process.get_mut(),
        };
        self.driver.take_back(self.awake.generation, dropped);
    }
}

impl fmt::Debug for AwakeLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwakeLease")
            .field("awake", &self.awake)
            .finish_non_exhaustive()
    }
}

/// A place in the waiting room: resolves to the lease, or to why there is none, by its deadline. Dropping it
/// leaves, also after the lease was granted; the wake goes on. Do not poll it again after it was ready.
#[must_use = "dropping it leaves the waiting room"]
pub struct Waiting {
    driver: Option<Arc<Driver>>,
    place: Place,
}

/// What a held waiter will receive.
pub(super) type Answer = Result<AwakeLease, WakeError>;

enum Place {
    Answered(Option<Answer>),
    Held {
        ticket: Ticket,
        answer: oneshot::Receiver<Answer>,
    },
}

impl Waiting {
    /// Answered on arrival.
    pub(super) fn answered(driver: Arc<Driver>, answer: Answer) -> Self {
        let (driver, place) = (Some(driver), Place::Answered(Some(answer)));
        Self { driver, place }
    }

    /// Leaves, and has the compute woken all the same, if its turn comes in this time. An error is what there was to be
    /// told at once.
    pub(super) fn detach(mut self, until: Instant) -> Result<(), WakeError> {
        match &mut self.place {
            Place::Answered(answer) => answer.take().map_or(Ok(()), |answer| answer.map(drop)),
            Place::Held { ticket, .. } => {
                let ticket = *ticket;
                if let Some(driver) = self.driver.take() {
                    driver.detach(ticket, until);
                }
                Ok(())
            }
        }
    }

    /// There is no such endpoint any more.
    pub(super) fn nowhere(error: WakeError) -> Self {
        let (driver, place) = (None, Place::Answered(Some(Err(error))));
        Self { driver, place }
    }

    /// To be answered later.
    pub(super) fn held(driver: Arc<Driver>, ticket: Ticket, answer: oneshot::Receiver<Answer>) -> Self {
        let (driver, place) = (Some(driver), Place::Held { ticket, answer });
        Self { driver, place }
    }
}

impl Future for Waiting {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let answer = match &mut self.place {
            Place::Answered(answer) => {
                return Poll::Ready(answer.take().expect("not polled after it was ready"));
            }
            Place::Held { answer, .. } => std::task::ready!(Pin::new(answer).poll(context)),
        };
        self.place = Place::Answered(None);
        // The driver answers everyone whom it holds; it is gone only when pgwake is.
        Poll::Ready(answer.unwrap_or(Err(WakeError::ShuttingDown)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let (Place::Held { ticket, .. }, Some(driver)) = (&self.place, &self.driver) {
            driver.leave(*ticket);
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
