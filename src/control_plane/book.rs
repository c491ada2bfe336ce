//! What is known of names: answers that are fresh, old or missing, and one question at a time for each name.
//!
//! ```text
//!   not asked ──▶ asking ──▶ known ──fresh_for──▶ asked again; used meanwhile, and for stale_max where nobody answers
//!                   │  └───▶ nobody's ──unknown_for──▶ not asked
//!                   └─fails─▶ taken for nobody's, for a moment
//! ```
//!
//! Strangers can ask for any name: what is kept of names that nobody has is bounded, and their questions have places of
//! their own, so that they are never in the way of those about names that are known.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::{
    sync::{Mutex as OneAtATime, Notify, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    client::{Answer, Client, Trouble},
    kept::{Awaited, Kept, Turn, Verdict},
    pace::Pace,
};
use crate::config::{ControlPlane, Defaults, Endpoint};
use crate::ids::EndpointName;
use crate::metrics::Metrics;
use crate::storm::Storms;
use crate::tls::TlsError;

/// How long the client of a known endpoint waits for a newer answer; then the old one is good enough.
const NEWER_MAX: Duration = Duration::from_secs(1);
/// One line for so long about all names that are not known.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// What has changed while it was asked for is asked for again after this time.
const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// Where that goes on, the pauses double up to this.
const ASKED_AGAIN_MAX: Duration = Duration::from_secs(5);
/// So long after all computes in use have been looked at, they may be again: each costs a question.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// Puts endpoints in force.
pub trait Serving: Send + Sync + 'static {
    /// What holds where an answer says nothing.
    fn defaults(&self) -> Defaults;

    /// The endpoint is so from now on. Not cancel safe.
    ///
    /// # Errors
    /// Why it cannot be, in one sentence.
    fn place(self: Arc<Self>, endpoint: Endpoint) -> BoxFuture<'static, Result<(), String>>;

    /// There is no such endpoint any more. Its sessions end between transactions. Not cancel safe.
    fn withdraw(self: Arc<Self>, endpoint: EndpointName) -> BoxFuture<'static, ()>;

    /// The first of these that nobody uses, and whose compute sleeps.
    fn first_idle(&self, endpoints: Vec<EndpointName>) -> Option<EndpointName>;
}

/// Whether an endpoint is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is.
    Endpoint,
    /// Nobody has the name.
    Nobody,
    /// The control plane has given no answer that could be used. To clients it is as if nobody had the name.
    Unasked,
}

/// The book.
pub struct Book {
    client: Arc<Client>,
    rules: Arc<ControlPlane>,
    kept: Mutex<Kept>,
    serving: OnceLock<Weak<dyn Serving>>,
    /// Places for questions about names that are not known.
    of_strangers: Semaphore,
    /// Places for questions about endpoints that are.
    of_known: Semaphore,
    /// Locked while an endpoint is put in force: no two take the same room.
    placing: OneAtATime<()>,
    pace: Pace,
    /// Computes may have moved; told again before anybody has looked, it is one thing still.
    may_have_moved: Notify,
    /// One more name could not be asked for.
    unasked: Notify,
    tasks: TaskTracker,
}

impl Book {
    /// Nothing is known yet; questions run in `tasks`, and whoever made `storms` tells what they count. Blocks on files.
    ///
    /// # Errors
    /// The roots that the control plane is trusted by cannot be used.
    pub fn new(
        rules: &Arc<ControlPlane>,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
        storms: Arc<Storms>,
    ) -> Result<Arc<Self>, TlsError> {
        let serving = OnceLock::new();
        Ok(Arc::new(Self {
            client: Client::new(rules, metrics, storms)?,
            kept: Mutex::default(),
            of_strangers: Semaphore::new(rules.questions_at_once),
            of_known: Semaphore::new(rules.questions_at_once),
            placing: OneAtATime::default(),
            rules: rules.clone(),
            serving,
            pace: Pace::default(),
            may_have_moved: Notify::new(),
            unasked: Notify::new(),
            tasks,
        }))
    }

    /// Endpoints are put in force there.
    pub fn connect(&self, serving: Weak<dyn Serving>) {
        let _ = self.serving.set(serving);
    }

    /// Asks about computes.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether there is an endpoint of this name; it is in force then. Whoever is answered from memory waits as long as
    /// others whose names have to be asked for. Bounded by what one question may take, and those before it; cancel safe:
    /// the question goes on.
    pub async fn ask(self: &Arc<Self>, name: &EndpointName) -> Found {
        let verdict = self.kept().verdict(name, Instant::now(), &self.rules);
        let asked = match verdict {
            Verdict::Known => {
                self.like_others().await;
                return Found::Endpoint;
            }
            Verdict::Nobody => {
                self.like_others().await;
                return Found::Nobody;
            }
            Verdict::Unasked => {
                self.like_others().await;
                return Found::Unasked;
            }
            Verdict::Old | Verdict::Ask => match self.question(name) {
                Some(asked) => asked,
                None => {
                    self.like_others().await;
                    return Found::Unasked;
                }
            },
        };
        match verdict {
            Verdict::Old => drop(timeout(NEWER_MAX, asked.answered()).await),
            _ => asked.answered().await,
        }
        self.kept().found(name, Instant::now(), &self.rules)
    }

    /// The end: what is not being asked yet is not asked any more.
    pub(super) fn close(&self) {
        self.of_strangers.close();
        self.of_known.close();
    }

    /// Computes may have moved.
    pub(super) fn look_again(&self) {
        self.may_have_moved.notify_one();
    }

    /// Looks where computes are whenever they may have moved: one round at a time, and one more where that was told during
    /// it, however often. Cancel safe.
    pub(super) async fn look_when_told(&self) {
        loop {
            self.may_have_moved.notified().await;
            self.client.look_again().await;
            sleep(LOOKS_APART).await;
        }
    }

    /// Tells once a minute how many names that are not known could not be asked for. Cancel safe.
    pub(super) async fn tell_unasked(&self) {
        loop {
            self.unasked.notified().await;
            sleep(TOLD_EVERY).await;
            let names = self.kept().take_unasked();
            if names > 1 {
                tracing::warn!(
                    names,
                    "so many unknown names could not be asked for in the last minute"
                );
            }
        }
    }

    /// The control plane is there: what could not be asked for before is.
    pub(super) fn settle_debts(&self) {
        if !self.client.owed.is_empty() {
            self.tasks.spawn(self.client.clone().suspend_owed());
        }
    }

    /// Waits as long as somebody who has asked: for those whose name needs no question.
    pub async fn like_others(&self) {
        sleep(self.pace.like_others()).await;
    }

    /// What `[defaults]` say has changed: everything is asked for anew, and answered in full.
    pub fn forget_versions(&self) {
        self.kept().forget_versions();
    }

    /// Something about this name is not as it was.
    pub(super) fn doubt(self: &Arc<Self>, name: &EndpointName) {
        let is_due = self.kept().doubt(name);
        if is_due {
            self.question(name);
        }
    }

    /// Anything may be not as it was.
    pub(super) fn doubt_all(self: &Arc<Self>) {
        let names = self.kept().doubt_all();
        for name in names {
            self.question(&name);
        }
    }

    /// Begins a question unless one is under way. `None`: there are too many.
    fn question(self: &Arc<Self>, name: &EndpointName) -> Option<Awaited> {
        let (awaited, turn) = self.kept().begin(name)?;
        if let Some(turn) = turn {
            let asking = Asking {
                book: self.clone(),
                name: name.clone(),
                turn,
            };
            self.tasks.spawn(asking.run());
        }
        Some(awaited)
    }

    /// Asks, and puts in force what comes of it.
    async fn resolve(&self, name: &EndpointName, version: Option<&str>) {
        let Some(serving) = self.serving.get().and_then(Weak::upgrade) else {
            return;
        };
        let (began, defaults) = (Instant::now(), serving.defaults());
        let read = |answer: &Map<String, Value>| self.rules.endpoint(name, answer, &defaults);
        let answered = self.client.resolve(name, version, read).await;
        if answered.is_ok() {
            self.pace.note(began.elapsed());
        }
        self.take(name, answered, serving).await;
    }

    async fn take(&self, name: &EndpointName, answered: Result<Answer, Trouble>, serving: Arc<dyn Serving>) {
        let trouble = match answered {
            Ok(Answer::Known { version, endpoint }) => {
                let _turn = self.placing.lock().await;
                match self.place(name, *endpoint, &serving).await {
                    Ok(()) => return self.kept().note_known(name, version, Instant::now()),
                    Err(trouble) => trouble,
                }
            }
            Ok(Answer::Unchanged) => return self.kept().note_unchanged(name, Instant::now()),
            Ok(Answer::Unknown) => {
                let was_known = self
                    .kept()
                    .note_unknown(name, Instant::now() + self.rules.unknown_for);
                if was_known {
                    tracing::info!(endpoint = %name, "its control plane has it no more");
                    serving.withdraw(name.clone()).await;
                }
                return;
            }
            Err(trouble) => trouble,
        };
        let is_known = self.kept().note_failed(name, Instant::now());
        if !is_known {
            self.unasked.notify_one();
        }
        // Strangers choose names: what is told of those that are not known is told once for all.
        let whose = if is_known { name.as_str() } else { "" };
        if self.client.storms.is_first(whose, "control_plane") {
            tracing::warn!(endpoint = %name, is_known, reason = %trouble, "an endpoint cannot be asked for");
        }
    }

    async fn place(
        &self,
        name: &EndpointName,
        endpoint: Endpoint,
        serving: &Arc<dyn Serving>,
    ) -> Result<(), Trouble> {
        self.make_room(name, serving).await?;
        serving.clone().place(endpoint).await.map_err(Trouble::wrong)
    }

    /// One more endpoint may be known: of those that nobody uses, the one goes that was used least recently.
    async fn make_room(&self, name: &EndpointName, serving: &Arc<dyn Serving>) -> Result<(), Trouble> {
        let candidates = {
            let kept = self.kept();
            if !kept.lacks_room(name, self.rules.endpoints_max) {
                return Ok(());
            }
            kept.least_used()
        };
        let idle = serving.first_idle(candidates);
        let idle = idle.ok_or_else(|| {
            Trouble::wrong("control_plane.endpoints_max are known, and all of them are in use")
        })?;
        self.kept().remove(&idle);
        serving.clone().withdraw(idle).await;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing is done under the lock that could leave it half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

/// Asks about a name until nothing has changed during the question. Its drop tells all who still wait.
struct Asking {
    book: Arc<Book>,
    name: EndpointName,
    turn: Turn,
}

impl Asking {
    async fn run(mut self) {
        let mut pause = ASKED_AGAIN;
        while let Some(number) = self.ask_once().await {
            // Whoever has come meanwhile needs it now; otherwise it is for those who will, and what changes all the time
            // is not asked for all the time.
            let _ = timeout(pause, self.turn.wanted.wait_for(|wanted| *wanted > number)).await;
            pause = (pause * 2).min(ASKED_AGAIN_MAX);
        }
    }

    /// The number of the question, where it is to be asked again.
    async fn ask_once(&self) -> Option<u64> {
        let (book, name) = (&self.book, &self.name);
        let lane = match book.kept().awaited(name, &self.turn)? {
            true => &book.of_known,
            false => &book.of_strangers,
        };
        let _place = lane.acquire().await.ok()?;
        // It may have been a long wait.
        let before = book.kept().before(name, &self.turn)?;
        book.resolve(name, before.version.as_deref()).await;
        let is_outdated = book.kept().is_outdated(name, &before, &self.turn);
        is_outdated.then_some(before.number)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.book.kept().end(&self.name, &self.turn);
    }
}
