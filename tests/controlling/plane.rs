//! The reference control plane: all of the API of config/CONTROL_PLANE.md, in front of real Postgres processes.
//!
//! It keeps its endpoints in memory and their data in folders. Tests can have it fail in every way that they think of, and
//! kill it: then its computes go on, and it can be started again on the same port.

mod owned;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::harness::{
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER},
    processes,
    wait::until,
};
use owned::Owned;

/// What pgwake has to show.
pub(super) const TOKEN: &str = "the-token-of-the-control-plane";

/// How it answers instead of as it should.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Never.
    Silence,
    /// With this status and body.
    Answer(u16, String),
    /// With the address of somebody else.
    Redirect(String),
}

/// It ends with this value, and so do its computes.
pub(super) struct Plane {
    all: Arc<All>,
    address: SocketAddr,
    serving: Mutex<Option<JoinHandle<()>>>,
}

struct All {
    endpoints: Mutex<BTreeMap<String, Owned>>,
    events: watch::Sender<Vec<Value>>,
    /// Events before this one are forgotten.
    first_event: Mutex<usize>,
    /// By a part of the path.
    faults: Mutex<Vec<(String, Fault)>>,
    asked: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The superuser's role with this password.
pub(super) fn role(password: &str) -> Value {
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    json!({ SUPERUSER: { "verifier": verifier, "server_password": PASSWORD } })
}

impl Plane {
    /// Begins to serve; it owns nothing.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let all = Arc::new(All {
            endpoints: Mutex::default(),
            events: watch::Sender::default(),
            first_event: Mutex::default(),
            faults: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = tokio::spawn(serve(listener, all.clone()));
        Self {
            all,
            address,
            serving: Mutex::new(Some(serving)),
        }
    }

    /// `[control_plane]`, with further lines of it.
    pub(super) fn toml(&self, keys: &str) -> String {
        format!(
            "[control_plane]\nurl = \"http://{}\"\ntoken = \"{TOKEN}\"\n{keys}\n",
            self.address
        )
    }

    /// An endpoint of tenant `acme` with data of its own; `settings` are further keys of its answer.
    pub(super) fn own(&self, setup: &Setup, name: &str, settings: Value) {
        let mut answer = json!({ "tenant": "acme", "roles": role(PASSWORD) });
        let more = settings.as_object().unwrap().clone();
        answer.as_object_mut().unwrap().extend(more);
        let owned = Owned {
            answer,
            version: 1,
            is_removed: false,
            data_dir: setup.make_data_dir(name),
            generation: 0,
            running: None,
        };
        lock(&self.all.endpoints).insert(name.to_owned(), owned);
    }

    /// Changes an answer, and tells so.
    pub(super) fn change(&self, name: &str, key: &str, value: Value) {
        if let Some(owned) = lock(&self.all.endpoints).get_mut(name) {
            owned.answer[key] = value;
            owned.version += 1;
        }
        self.tell(json!({ "kind": "changed", "endpoint": name }));
    }

    /// Owns it no more, and tells so.
    pub(super) fn remove(&self, name: &str) {
        if let Some(owned) = lock(&self.all.endpoints).get_mut(name) {
            owned.is_removed = true;
        }
        self.tell(json!({ "kind": "removed", "endpoint": name }));
    }

    /// Something has happened.
    pub(super) fn tell(&self, event: Value) {
        self.all.events.send_modify(|events| events.push(event));
    }

    /// Forgets all events that have been, as after a restart.
    pub(super) fn forget_events(&self) {
        *lock(&self.all.first_event) = self.all.events.borrow().len() + 1;
        self.all.events.send_modify(|events| events.push(json!({})));
    }

    /// Requests whose path has this part are answered so from now on.
    pub(super) fn fault(&self, part: &str, fault: Fault) {
        lock(&self.all.faults).push((part.to_owned(), fault));
    }

    /// All as it should be.
    pub(super) fn mend(&self) {
        lock(&self.all.faults).clear();
    }

    /// How often was asked for this: `GET /v1/endpoints/NAME`.
    pub(super) fn asked(&self, what: &str) -> usize {
        lock(&self.all.asked)
            .iter()
            .filter(|asked| *asked == what)
            .count()
    }

    /// Which start of its compute is the last.
    pub(super) fn generation(&self, name: &str) -> u64 {
        lock(&self.all.endpoints)[name].generation
    }

    /// Kills the compute as a machine that burns does.
    pub(super) fn kill_compute(&self, name: &str) {
        let running = lock(&self.all.endpoints)
            .get_mut(name)
            .and_then(|owned| owned.running.take());
        drop(running);
    }

    /// It is there no more, in the middle of whatever it was asked. Its computes stay.
    pub(super) async fn kill(&self) {
        let serving = lock(&self.serving).take();
        if let Some(serving) = serving {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// It is there again.
    pub(super) async fn revive(&self) {
        let mut listener = None;
        until("the port to be free again", async || {
            listener = TcpListener::bind(self.address).await.ok();
            listener.is_some()
        })
        .await;
        let serving = tokio::spawn(serve(listener.unwrap(), self.all.clone()));
        *lock(&self.serving) = Some(serving);
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(serving) = lock(&self.serving).take() {
            serving.abort();
        }
        lock(&self.all.endpoints).clear();
    }
}

async fn serve(listener: TcpListener, all: Arc<All>) {
    // Dropped with this task, and then there is no connection left.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let all = all.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let all = all.clone();
                async move { Ok::<_, Infallible>(all.answer(request).await) }
            });
            // Who asked may have left.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn say(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap()
}

/// The value of a key of a query.
fn of_query<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

impl All {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        lock(&self.asked).push(format!("{} {path}", head.method));
        let fault = lock(&self.faults)
            .iter()
            .find(|(part, _)| path.contains(part.as_str()))
            .map(|(_, fault)| fault.clone());
        match fault {
            None => (),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Answer(status, body)) => {
                return Response::builder().status(status).body(Full::from(body)).unwrap();
            }
            Some(Fault::Redirect(to)) => {
                let answer = Response::builder().status(302).header("location", to);
                return answer.body(Full::default()).unwrap();
            }
        }
        let shown = head.headers.get("authorization");
        if shown.is_none_or(|shown| shown != &format!("Bearer {TOKEN}")) {
            return say(401, &json!({ "reason": "no such token" }));
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let known = head.headers.get("if-none-match").and_then(|it| it.to_str().ok());
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (&head.method, parts.as_slice()) {
            (&Method::GET, ["v1", "events"]) => self.events(head.uri.query().unwrap_or_default()).await,
            (&Method::GET, ["v1", "endpoints", name]) => self.resolve(name, known),
            (&Method::GET, ["v1", "endpoints", name, "state"]) => self.state(name),
            (&Method::POST, ["v1", "endpoints", name, "wake"]) => self.wake(name, &body).await,
            (&Method::POST, ["v1", "endpoints", name, "suspend"]) => self.suspend(name, &body).await,
            _ => say(404, &json!({ "reason": "no such path" })),
        }
    }

    fn resolve(&self, name: &str, known: Option<&str>) -> Response<Full<Bytes>> {
        let endpoints = lock(&self.endpoints);
        let owned = endpoints.get(name).filter(|owned| !owned.is_removed);
        let Some(owned) = owned else {
            return say(404, &json!({ "reason": "no such endpoint" }));
        };
        let version = format!("\"{}\"", owned.version);
        if known == Some(&version) {
            return Response::builder().status(304).body(Full::default()).unwrap();
        }
        let mut answer = say(200, &owned.answer);
        answer.headers_mut().insert("etag", version.parse().unwrap());
        answer
    }

    fn state(&self, name: &str) -> Response<Full<Bytes>> {
        match lock(&self.endpoints).get(name) {
            None => say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => match owned.place() {
                Some(mut place) => {
                    place["state"] = "running".into();
                    say(200, &place)
                }
                None if owned.running.is_some() => say(200, &json!({ "state": "starting" })),
                None => say(200, &json!({ "state": "suspended" })),
            },
        }
    }

    async fn wake(&self, name: &str, body: &Value) -> Response<Full<Bytes>> {
        match lock(&self.endpoints).get_mut(name) {
            None => return say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => owned.start(),
        }
        let wait = Duration::from_millis(body["wait_ms"].as_u64().unwrap_or(0));
        let ready = timeout(wait, async {
            loop {
                if let Some(place) = lock(&self.endpoints).get(name).and_then(Owned::place) {
                    return place;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        match ready.await {
            Ok(place) => say(200, &place),
            Err(_) => say(202, &json!({ "state": "starting", "retry_after_ms": 100 })),
        }
    }

    async fn suspend(&self, name: &str, body: &Value) -> Response<Full<Bytes>> {
        let running = match lock(&self.endpoints).get_mut(name) {
            None => return say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => {
                let asked = body["generation"].as_u64();
                if asked.is_some_and(|generation| generation != owned.generation) {
                    return say(409, &json!({ "reason": "another start by now" }));
                }
                owned.running.take()
            }
        };
        if let Some(mut running) = running {
            processes::signal(running.child.id().cast_signed(), Signal::INT);
            while running.child.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        say(200, &json!({ "state": "suspended" }))
    }

    async fn events(&self, query: &str) -> Response<Full<Bytes>> {
        let mut seen = self.events.subscribe();
        let Some(after) = of_query(query, "after") else {
            let cursor = seen.borrow().len().to_string();
            return say(200, &json!({ "cursor": cursor, "events": [] }));
        };
        let after: usize = after.parse().unwrap();
        if after < *lock(&self.first_event) {
            return say(410, &json!({ "reason": "these events are forgotten" }));
        }
        let wait = of_query(query, "wait_ms").and_then(|wait| wait.parse().ok());
        let more = seen.wait_for(|events| events.len() > after);
        let _ = timeout(Duration::from_millis(wait.unwrap_or(0)), more).await;
        let events = self.events.borrow();
        let news = &events[after.min(events.len())..];
        say(
            200,
            &json!({ "cursor": events.len().to_string(), "events": news }),
        )
    }
}
