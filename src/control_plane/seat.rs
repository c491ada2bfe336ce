//! Who speaks for a compute: has it woken, suspended and looked at, and hears when it is gone.
//!
//! An endpoint can be taken away and come back before the compute of the first one has been suspended. Then two speak for
//! one compute, and the elder must not have suspended what the younger was told is there: it asks for nothing any more as
//! soon as the younger has spoken, and they speak in turn. What the network delivers late is numbered, so that the
//! control plane can tell. `compute` sits here.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex as Turn, MutexGuard as TurnGuard},
    time::{Instant, sleep_until},
};

use super::{
    client::{Client, Contact, ORDER_WAIT, Trouble, object, trouble},
    counting::{Counting, LATE_MAX, Standing},
    http::{Question, Reply},
    owed::Suspend,
    said::{self, Place, Woken},
};
use crate::ids::EndpointName;
use crate::metrics::Asked;

/// A start that is under way is not asked after more often, however short the answers take.
const AGAIN_MIN: Duration = Duration::from_millis(100);
/// Nor less often.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Where the answer was an old one.
const LATE_AGAIN: Duration = Duration::from_millis(500);

/// The last order's number.
static ORDERS: AtomicU64 = AtomicU64::new(0);

/// A number that is higher than all before, those of an earlier pgwake included where the clock is right.
fn next_order() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
    let next = |last: u64| Some(now.max(last + 1));
    let (Ok(last) | Err(last)) = ORDERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    now.max(last + 1)
}

/// Where the compute was said to be.
#[derive(Debug, Clone)]
struct Heard {
    place: Place,
    at: Instant,
}

/// Speaks for the compute of an endpoint.
pub(crate) struct Seat {
    client: Arc<Client>,
    endpoint: EndpointName,
    /// All who speak for computes of this endpoint do so in turn.
    turn: Arc<Turn<()>>,
    /// It has asked for a wake, or where the compute is.
    has_spoken: AtomicBool,
    /// The last answer that was believed.
    heard: Mutex<Option<Heard>>,
    counting: Counting,
}

impl Seat {
    /// Speaks for an endpoint from now on, in place of whoever did before.
    pub(crate) fn take(client: Arc<Client>, endpoint: &EndpointName) -> Arc<Self> {
        let mut place = client.seats.entry(endpoint.clone()).or_default();
        let elder = place.upgrade();
        let seat = Arc::new(Self {
            turn: elder.as_ref().map(|elder| elder.turn.clone()).unwrap_or_default(),
            client: client.clone(),
            endpoint: endpoint.clone(),
            has_spoken: AtomicBool::new(false),
            heard: Mutex::default(),
            counting: Counting::default(),
        });
        *place = Arc::downgrade(&seat);
        drop(place);
        // Perhaps the last one to know of it: its drop looks at the map.
        drop(elder);
        seat
    }

    /// Has it started, and waits a while for that. Cancel safe: the start goes on there.
    pub(crate) async fn wake(&self) -> Result<Woken, Trouble> {
        let _turn = self.speak().await;
        let wait = u64::try_from(ORDER_WAIT.as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "wait_ms": wait, "order": next_order() });
        let asked_at = Instant::now();
        let read = |reply: Reply| match reply.status {
            StatusCode::OK => {
                let place = said::place(&object(&reply)?).map_err(Trouble::wrong)?;
                Ok(Woken::Ready(place))
            }
            StatusCode::ACCEPTED | StatusCode::GATEWAY_TIMEOUT => {
                let answer = said::object(&reply.body).unwrap_or_default();
                let again = said::retry_after(&answer).unwrap_or(AGAIN_MIN);
                Ok(Woken::Starting(again.clamp(AGAIN_MIN, AGAIN_MAX)))
            }
            _ => Err(trouble(&reply)),
        };
        let answered = self.ask(Asked::Wake, Some(body), read).await;
        // What has been asked for may be under way, whatever came of the answer.
        if !matches!(&answered, Err(trouble) if trouble.contact == Contact::Unreached) {
            self.take_over();
        }
        Ok(match answered? {
            Woken::Ready(place) => {
                let believed = self.believed(place, asked_at);
                believed.map_or(Woken::Starting(LATE_AGAIN), Woken::Ready)
            }
            starting @ Woken::Starting(_) => starting,
        })
    }

    /// Has the last generation suspended that was heard of, unless somebody else speaks for it by now. Cancel safe: it goes
    /// on there.
    pub(crate) async fn suspend(&self) -> Result<(), Trouble> {
        let _turn = self.turn().await;
        let younger = self.younger();
        if younger.is_some_and(|younger| younger.has_spoken.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let suspend = Suspend {
            generation: self.heard().as_ref().map(|heard| heard.place.generation),
            order: next_order(),
        };
        self.client.suspend(&self.endpoint, suspend).await
    }

    /// Where it runs, if it does. Cancel safe.
    pub(crate) async fn state(&self) -> Result<Option<Place>, Trouble> {
        let _turn = self.speak().await;
        let asked_at = Instant::now();
        let place = self.place().await?;
        self.take_over();
        Ok(place.and_then(|place| self.believed(place, asked_at)))
    }

    async fn place(&self) -> Result<Option<Place>, Trouble> {
        let read = |reply: Reply| match reply.status {
            StatusCode::OK => said::state(&object(&reply)?).map_err(Trouble::wrong),
            _ => Err(trouble(&reply)),
        };
        self.ask(Asked::State, None, read).await
    }

    /// Whether the compute that is in use is still the one that there is: a later one would not hear what is written to it.
    /// That it does not run is not believed here. Whoever is connected to it knows better.
    pub(super) async fn look_again(&self) {
        if let Some(doubtful_until) = self.look().await {
            sleep_until(doubtful_until).await;
            self.look().await;
        }
    }

    /// The same once; when to look again where the answer may be an old one.
    async fn look(&self) -> Option<Instant> {
        let _turn = self.turn().await;
        let heard = self.heard().clone()?;
        if !self.counting.is_watched() {
            return None;
        }
        let (asked_at, settled_at) = (Instant::now(), heard.at + LATE_MAX);
        let place = self.place().await.ok().flatten()?;
        match place.generation.cmp(&heard.place.generation) {
            Less if place.server == heard.place.server => (),
            Less if asked_at < settled_at => return Some(settled_at),
            Less => self.begin_anew(place.generation, heard.place.generation),
            Equal => (),
            Greater => self.note_gone(place.generation - 1, "its control plane has moved it"),
        }
        None
    }

    /// Waits until this generation is gone, and says why. Cancel safe.
    pub(crate) fn until_gone(&self, generation: u64) -> impl Future<Output = String> + Send + use<> {
        self.counting.until_gone(generation)
    }

    /// It is gone up to this generation.
    pub(super) fn note_gone(&self, generation: u64, why: &'static str) {
        self.counting.note_gone(generation, why);
    }

    /// The right to ask something of this compute.
    pub(super) async fn turn(&self) -> TurnGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The same, for who is about to use it.
    async fn speak(&self) -> TurnGuard<'_, ()> {
        let turn = self.turn().await;
        self.has_spoken.store(true, Ordering::Relaxed);
        turn
    }

    /// It is this one's affair now: nobody has it suspended any more for those who were here before.
    fn take_over(&self) {
        self.client.owed.take(&self.endpoint);
    }

    /// Whoever took the seat after this one.
    fn younger(&self) -> Option<Arc<Self>> {
        let last = self.client.seat(&self.endpoint);
        last.filter(|last| !std::ptr::eq(Arc::as_ptr(last), self))
    }

    /// The answer to a question that was asked then, unless it tells of a start that is gone.
    fn believed(&self, place: Place, asked_at: Instant) -> Option<Place> {
        match self.counting.stands(place.generation, asked_at) {
            Standing::Current => (),
            Standing::Late => return None,
            Standing::Anew(before) => self.begin_anew(place.generation, before),
        }
        let heard = Heard {
            place: place.clone(),
            at: Instant::now(),
        };
        *self.heard() = Some(heard);
        Some(place)
    }

    fn begin_anew(&self, generation: u64, before: u64) {
        self.counting.begin_anew();
        // Most often it is so for all of its endpoints.
        if self.client.storms.is_first("", "generations") {
            tracing::warn!(
                endpoint = %self.endpoint,
                generation,
                before,
                "the control plane's generations have gone back: it is taken to have lost what it knew, and counts anew"
            );
        }
    }

    fn heard(&self) -> MutexGuard<'_, Option<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(
        &self,
        what: Asked,
        body: Option<Value>,
        read: impl FnOnce(Reply) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let (method, wait) = match body {
            Some(_) => (Method::POST, ORDER_WAIT),
            None => (Method::GET, Duration::ZERO),
        };
        let question = Question {
            what,
            method,
            path: format!("/v1/endpoints/{}/{}", self.endpoint, what.as_str()),
            body: body.map(|body| body.to_string()),
            version: None,
        };
        self.client.ask(question, wait, read).await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let is_empty = |seat: &Weak<Self>| seat.strong_count() == 0;
        self.client
            .seats
            .remove_if(&self.endpoint, |_, seat| is_empty(seat));
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;

    use super::*;
    use crate::config::ControlPlane;
    use crate::metrics::{Labels, Metrics, Per};

    /// Asks nobody: nothing listens there.
    fn client() -> Arc<Client> {
        let labels = Labels {
            per: Per::Process,
            named: BTreeSet::new(),
        };
        let rules = ControlPlane::of_nobody();
        Client::new(&rules, Arc::new(Metrics::new(labels)), Arc::default()).unwrap()
    }

    #[test]
    fn orders_rise() {
        let orders: Vec<_> = (0..1000).map(|_| next_order()).collect();
        assert!(orders.is_sorted_by(|before, after| before < after));
    }

    #[tokio::test]
    async fn what_is_gone_stays_gone_and_concerns_no_later_generation_and_no_later_seat() {
        let (client, shop) = (client(), EndpointName::parse("shop").unwrap());
        let elder = Seat::take(client.clone(), &shop);
        client.note_gone(&shop, 4, "moved");
        client.note_gone(&shop, 3, "late");
        assert_eq!(elder.until_gone(3).now_or_never().as_deref(), Some("moved"));
        assert_eq!(elder.until_gone(4).now_or_never().as_deref(), Some("moved"));
        assert_eq!(elder.until_gone(5).now_or_never(), None);

        let younger = Seat::take(client.clone(), &shop);
        assert_eq!(younger.until_gone(1).now_or_never(), None);
        drop(elder);
        client.note_gone(&shop, 1, "died");
        assert_eq!(younger.until_gone(1).now_or_never().as_deref(), Some("died"));
        drop(younger);
        assert!(client.seats.is_empty());
    }

    #[tokio::test]
    async fn a_suspend_that_nobody_hears_is_owed_and_the_elder_is_silent_once_the_younger_has_spoken() {
        let (client, shop) = (client(), EndpointName::parse("shop").unwrap());
        let elder = Seat::take(client.clone(), &shop);
        elder.suspend().await.unwrap_err();
        assert!(!client.owed.is_empty());
        client.clone().suspend_owed().await;
        assert!(!client.owed.is_empty(), "still nobody");

        // It has not been heard either.
        elder.wake().await.unwrap_err();
        assert!(!client.owed.is_empty());

        elder.take_over();
        let younger = Seat::take(client.clone(), &shop);
        elder.suspend().await.unwrap_err();
        younger.wake().await.unwrap_err();
        client.owed.take(&shop);
        elder.suspend().await.expect("it is the younger's");
        assert!(client.owed.is_empty());
    }
}
