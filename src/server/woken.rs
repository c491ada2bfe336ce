//! Computes of the control plane that were woken: they are noted in `state_dir`, so that the pgwake that comes next asks
//! about them, also after a crash. Otherwise they would run for nobody until somebody names them.
//!
//! What is noted is written behind the backs of clients, many at a time. `wiring` hears of wakes and suspends, `server` has
//! it written for the last time at its end, and before a successor reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::{Mutex as OneAtATime, Notify},
    time::{sleep, timeout},
};

use super::reading::blocking;
use crate::control_plane::{Book, Found};
use crate::ids::EndpointName;
use crate::session::House;
use crate::shutdown::{Phase, ShutdownWatch};
use crate::store::{Store, StoreError};

/// So long after news were written others are.
const WRITE_APART: Duration = Duration::from_secs(1);
/// What nobody knows is asked again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// The pauses double up to this.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// So many names are asked for at once.
const NAMES_AT_ONCE: usize = 8;

/// What is noted.
pub(super) struct Woken {
    store: Arc<Store>,
    noted: Mutex<Noted>,
    told: Notify,
    /// Locked while news are written: what was taken to be written is, before a successor reads.
    writing: OneAtATime<()>,
}

#[derive(Default)]
struct Noted {
    awake: BTreeSet<EndpointName>,
    /// Not written yet.
    news: BTreeMap<EndpointName, bool>,
}

impl Woken {
    /// Begins with what the pgwake before has noted. Blocks on files.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(super) fn load(store: &Arc<Store>) -> Result<Arc<Self>, StoreError> {
        let noted = Noted {
            awake: store.awake()?.into_iter().collect(),
            news: BTreeMap::new(),
        };
        Ok(Arc::new(Self {
            store: store.clone(),
            noted: Mutex::new(noted),
            told: Notify::new(),
            writing: OneAtATime::default(),
        }))
    }

    /// It is awake, or about to be.
    pub(super) fn awake(&self, name: &EndpointName) {
        let mut noted = self.noted();
        if noted.awake.insert(name.clone()) {
            noted.news.insert(name.clone(), true);
            self.told.notify_one();
        }
    }

    /// It is not.
    pub(super) fn asleep(&self, name: &EndpointName) {
        let mut noted = self.noted();
        if noted.awake.remove(name) {
            noted.news.insert(name.clone(), false);
            self.told.notify_one();
        }
    }

    /// Writes what there is to write. Not cancel safe: that is forgotten.
    pub(super) async fn write(&self) {
        let _turn = self.writing.lock().await;
        let news = mem::take(&mut self.noted().news);
        if news.is_empty() {
            return;
        }
        let (store, list) = (self.store.clone(), news.clone().into_iter().collect::<Vec<_>>());
        let Err(error) = blocking(move || store.note_awake(&list)).await else {
            return;
        };
        // Where it is another pgwake's affair by now, that knows what it does.
        if !matches!(error, StoreError::Ceded(_)) {
            tracing::warn!(%error, "cannot note which computes are awake");
        }
        let mut noted = self.noted();
        for (name, is_awake) in news {
            noted.news.entry(name).or_insert(is_awake);
        }
    }

    /// Writes news until pgwake stops. What comes after that is written by whoever stops it.
    pub(super) async fn keep(self: Arc<Self>, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                () = self.told.notified() => (),
                () = shutdown.reached(Phase::Stopping) => return,
            }
            self.write().await;
            let _ = timeout(WRITE_APART, shutdown.reached(Phase::Stopping)).await;
        }
    }

    /// Asks what computes do of which nobody here knows it: those that were awake before this pgwake began, and those whose
    /// control plane could not tell. What is found running is suspended by the usual rules. Until pgwake stops.
    pub(super) async fn look_after(self: Arc<Self>, house: Arc<House>, book: Arc<Book>) {
        let mut shutdown = house.shutdown.clone();
        tokio::select! {
            () = self.look(&house, &book) => (),
            () = shutdown.reached(Phase::Stopping) => (),
        }
    }

    async fn look(&self, house: &House, book: &Arc<Book>) {
        let mut names: Vec<EndpointName> = self.noted().awake.iter().cloned().collect();
        let mut pause = AGAIN;
        loop {
            let asked = stream::iter(names).map(|name| self.find(name, house, book));
            names = asked
                .buffer_unordered(NAMES_AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
            house.wakes.look_again().await;
            if names.is_empty() && !house.wakes.is_any_in_doubt() {
                house.wakes.doubted().await;
                pause = AGAIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// Has it looked at. It is returned where it is to be asked for again.
    async fn find(&self, name: EndpointName, house: &House, book: &Arc<Book>) -> Option<EndpointName> {
        match book.ask(&name).await {
            Found::Endpoint => house.wakes.inspect(&name).await,
            Found::Nobody => self.asleep(&name),
            Found::Unasked => return Some(name),
        }
        None
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
