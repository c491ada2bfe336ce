//! The reference control plane: all of the API of config/CONTROL_PLANE.md, in front of real Postgres processes.
//!
//! It keeps its endpoints in memory and their data in folders. Tests can have it fail in every way that they think of, and
//! kill it: then its computes go on, and it can be started again on the same port.

mod answering;
mod owned;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::harness::{
    account::Account,
    certificates::{Authority, ServerCertificate},
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER},
    wait::until,
};
use answering::serve;
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
    /// With one byte of a body now and then, for ever.
    Drip,
    /// As it should, but the connection ends before the answer has been sent.
    Cut,
    /// With this body once it is there.
    Later(watch::Receiver<Option<String>>),
    /// As it should, after so long.
    Late(Duration),
    /// Whoever asks for what came behind a cursor has missed something; a new cursor is to be had.
    Gaps,
}

/// It ends with this value, and so do its computes.
pub(super) struct Plane {
    all: Arc<All>,
    address: SocketAddr,
    /// Its certificate, where it speaks TLS.
    tls: Option<TlsAcceptor>,
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
    /// Connections on which no TLS came about.
    distrusted: AtomicUsize,
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
        Self::serving(None).await
    }

    /// The same over TLS, as `localhost`.
    pub(super) async fn start_tls(authority: &Authority) -> Self {
        let config = authority.certify(&["localhost"]).server_config();
        Self::serving(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serving(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let all = Arc::new(All {
            endpoints: Mutex::default(),
            events: watch::Sender::default(),
            first_event: Mutex::default(),
            faults: Mutex::default(),
            asked: Mutex::default(),
            distrusted: AtomicUsize::new(0),
        });
        let serving = tokio::spawn(serve(listener, tls.clone(), all.clone()));
        Self {
            all,
            address,
            tls,
            serving: Mutex::new(Some(serving)),
        }
    }

    /// `[control_plane]`, with further lines of it.
    pub(super) fn toml(&self, keys: &str) -> String {
        let url = match &self.tls {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        };
        format!("[control_plane]\nurl = \"{url}\"\ntoken = \"{TOKEN}\"\n{keys}\n")
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
            woken_by: 0,
            tls: None,
            running: None,
        };
        lock(&self.all.endpoints).insert(name.to_owned(), owned);
    }

    /// Its Postgres shows this certificate, at `localhost`.
    pub(super) fn certify(&self, name: &str, certificate: &ServerCertificate) {
        let mut endpoints = lock(&self.all.endpoints);
        let owned = endpoints.get_mut(name).unwrap();
        let paths = certificate.write(&owned.data_dir, "server");
        if let Some(account) = Account::for_postgres() {
            account.own(&paths.certificate);
            account.own(&paths.key);
        }
        owned.tls = Some(paths);
    }

    /// Owns it again, and tells so.
    pub(super) fn restore(&self, name: &str) {
        if let Some(owned) = lock(&self.all.endpoints).get_mut(name) {
            owned.is_removed = false;
        }
        self.tell(json!({ "kind": "changed", "endpoint": name }));
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

    /// How many have hung up during the handshake of TLS.
    pub(super) fn distrusted(&self) -> usize {
        self.all.distrusted.load(Ordering::SeqCst)
    }

    /// Which start of its compute is the last.
    pub(super) fn generation(&self, name: &str) -> u64 {
        lock(&self.all.endpoints)[name].generation
    }

    /// Counts its starts from there, as after it was restored from a backup.
    pub(super) fn count_from(&self, name: &str, generation: u64) {
        lock(&self.all.endpoints).get_mut(name).unwrap().generation = generation;
    }

    /// Where its compute runs.
    pub(super) fn place(&self, name: &str) -> Value {
        lock(&self.all.endpoints)[name].place().unwrap()
    }

    /// Says that it has started again, as after a move, and tells nobody.
    pub(super) fn move_compute(&self, name: &str) {
        lock(&self.all.endpoints).get_mut(name).unwrap().generation += 1;
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
        let serving = tokio::spawn(serve(listener.unwrap(), self.tls.clone(), self.all.clone()));
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
