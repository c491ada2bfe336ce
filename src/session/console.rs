//! An operator's client on its way to the console: who it is is proved here, like any client's; what it says is
//! somebody else's business (`admin`), to whom one end of a socket is handed over.
//!
//! A client that asks for the database `pgwake` (or `pgbouncer`) as a configured operator's role is meant, by whatever name it comes.

use std::{collections::BTreeMap, io, os::unix::net::UnixStream as StdUnixStream, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::UnixStream,
    sync::mpsc,
    time::Instant,
};

use super::{
    House, SAYING_TIMEOUT,
    error::SessionError,
    record::{Outcome, SessionRecord},
    roster::Doing,
    say_goodbye,
};
use crate::config::{Admin, Endpoint, OperatorRight, PoolMode};
use crate::shutdown::Phase;
use crate::tenant::directory::Resolved;
use crate::tls::Stream;
use crate::wire::say;
use crate::wire::startup::Startup;

/// The databases that stand for the console: its own name, and the one that programs for PgBouncer ask for.
const DATABASES: [&[u8]; 2] = [b"pgwake", b"pgbouncer"];
/// Operators who wait until the console takes them in.
const VISITS_MAX: usize = 16;
/// AuthenticationOk: a tag, a length and a zero. The client has had it.
const AUTHENTICATION_OK_BYTES: usize = 9;

/// An operator's client.
#[derive(Debug)]
pub struct Visit {
    /// Its bytes, from its StartupMessage on.
    pub socket: StdUnixStream,
    /// As whom it has proved itself.
    pub role: String,
    /// What it may do.
    pub right: OperatorRight,
    /// Where it comes from.
    pub peer: String,
}

/// Where operators' clients are handed over.
#[derive(Debug)]
pub struct Console {
    /// What they log in to: no endpoint of any tenant, and no compute.
    endpoint: Arc<Endpoint>,
    rights: BTreeMap<String, OperatorRight>,
    visits: mpsc::Sender<Visit>,
}

impl Console {
    /// For the configured roles, and where their clients come out; `None`: there are no such roles.
    pub fn new(admin: &Admin) -> Option<(Self, mpsc::Receiver<Visit>)> {
        let endpoint = admin.console()?;
        let rights = admin.roles.iter().map(|(name, role)| (name.clone(), role.right));
        let (visits, visiting) = mpsc::channel(VISITS_MAX);
        let console = Self {
            endpoint,
            rights: rights.collect(),
            visits,
        };
        Some((console, visiting))
    }

    /// What a client's names mean, if it is the console that it asks for.
    pub(super) fn resolve(&self, startup: &Startup) -> Option<Resolved> {
        let role = str::from_utf8(startup.role()).ok()?;
        let asks = DATABASES.contains(&startup.database()) && self.rights.contains_key(role);
        asks.then(|| Resolved {
            said: self.endpoint.name.to_string(),
            endpoint: Some(self.endpoint.clone()),
            branch: None,
            pooling: Some(PoolMode::Session),
        })
    }

    /// Whether a client has logged in to it.
    pub(super) fn is(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }

    /// Lets an operator speak until it has enough, or pgwake ends. Not cancel safe.
    pub(super) async fn converse(
        &self,
        client: &mut Stream,
        role: &str,
        house: &House,
        record: &mut SessionRecord,
    ) -> Outcome {
        let mut console = match self.open(role, record).await {
            Ok(console) => console,
            Err(error) => {
                tracing::warn!(session = %record.id, %error, "an operator's console could not be opened");
                say_goodbye(client, &SessionError::ConsoleFull, record.id).await;
                return Outcome::of(&SessionError::ConsoleFull);
            }
        };
        record.came_in(&house.metrics);
        if let Some(listed) = record.listed() {
            listed.does(Doing::Idle, Instant::now());
        }
        let mut shutdown = record.shutdown(house);
        let copied = tokio::select! { biased;
            copied = copy_bidirectional(client, &mut console) => Some(copied),
            () = shutdown.reached(Phase::Draining) => None,
        };
        match copied {
            Some(copied) => {
                (record.passed.bytes_in, record.passed.bytes_out) = copied.unwrap_or_default();
                Outcome::ended()
            }
            None => {
                let ending = record.ending();
                say_goodbye(client, &ending, record.id).await;
                Outcome::of(&ending)
            }
        }
    }

    /// Our end of a console that has been told who comes.
    async fn open(&self, role: &str, record: &SessionRecord) -> io::Result<UnixStream> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut ours = UnixStream::from_std(ours)?;
        let visit = Visit {
            socket: theirs,
            role: role.to_owned(),
            right: self.rights.get(role).copied().unwrap_or(OperatorRight::Read),
            peer: record.peer.to_string(),
        };
        self.visits.try_send(visit).map_err(io::Error::other)?;
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters = [
            (text("user"), text(role)),
            (text("database"), text("pgwake")),
            (text("application_name"), text(&record.application)),
        ];
        let mut startup = BytesMut::new();
        say::startup(&parameters, &mut startup);
        let greeted = async {
            ours.write_all(&startup).await?;
            ours.read_exact(&mut [0; AUTHENTICATION_OK_BYTES]).await
        };
        tokio::time::timeout(SAYING_TIMEOUT, greeted).await??;
        Ok(ours)
    }
}
