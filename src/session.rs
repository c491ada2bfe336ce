//! One client's stay, from its socket to its access line: the whole path, top to bottom, in [`serve`].
//!
//! The only place where `wake`, `pool` and `cancel` meet for a client. One task owns the client and the server
//! session lent to it. `listener` calls; nothing here accepts, starts or configures anything.

mod audited;
mod branching;
mod buffers;
mod carried;
mod checkout;
mod console;
mod entrance;
mod error;
mod exchange;
mod expected;
mod hold;
mod idling;
mod lane;
mod login;
mod noted;
mod pacing;
mod pins;
mod pooled;
mod pooling;
mod poolings;
mod profile;
mod record;
mod relay;
mod reported;
pub mod roster;
mod sql_names;
mod standing;
mod statements;
mod turn;
mod words;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::{Instant, timeout},
};

use crate::audit::Audit;
use crate::auth::{Proofs, RoleBook};
use crate::branches::Branches;
use crate::cancel::Cancels;
use crate::config::{DefaultEndpoint, Limits, ListenTls, Network, PoolMode};
use crate::control_plane::Book;
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::SessionId;
use crate::journal::Journal;
use crate::metrics::{CancelResult, Metrics};
use crate::shutdown::ShutdownWatch;
use crate::storm::Storms;
use crate::tenant::{directory::Directory, gate::Gate, quota::Quotas};
use crate::tls::{CertificateStore, SocketSettings, Stream};
use crate::wake::Wakes;
use crate::wire::{refuse, startup::CancelKey};
use branching::Using;
use entrance::{Entered, EntranceError};
use error::SessionError;
use login::{AtDoor, LoggedIn, Patience};
use pooled::{Guest, Pooled};
use record::{EndedBy, Outcome, SessionRecord, Step};
use roster::Roster;
use standing::Standing;
use turn::Turn;

pub use carried::Carried;
pub use console::{Console, Visit};
pub use pooling::Pooling;
pub use poolings::Poolings;

/// How long a client may take to take a greeting or the last words.
const SAYING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client that was told goodbye may take to close.
const LINGER_TIMEOUT: Duration = Duration::from_millis(250);
/// What is read from it meanwhile, at most.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// A client's socket, just accepted.
pub struct Arrived {
    /// The connection.
    pub socket: Socket,
    /// When it was accepted: the login deadline starts here.
    pub at: Instant,
    /// The listener's rules.
    pub door: Arc<Door>,
}

/// A client's connection.
pub enum Socket {
    /// TCP, and where from.
    Tcp(TcpStream, SocketAddr),
    /// A Unix socket.
    Unix(UnixStream),
}

/// What a listener asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Whether TCP clients must speak TLS.
    pub tls: ListenTls,
    /// The endpoint of clients that name none.
    pub default_endpoint: Option<DefaultEndpoint>,
    /// Whose PROXY headers are believed, and expected.
    pub proxies: Vec<Network>,
}

/// The parts that a stay needs, built and wired by `server`.
pub struct House {
    /// Who owns which endpoint.
    pub directory: Directory,
    /// What strangers may try.
    pub gate: Arc<Gate>,
    /// How much those may have who have logged in.
    pub quotas: Quotas,
    /// Our certificates.
    pub certificates: Arc<CertificateStore>,
    /// Takes events.
    pub audit: Audit,
    /// What is known of roles.
    pub roles: Arc<RoleBook>,
    /// What clients' proofs are checked against.
    pub proofs: ArcSwap<Proofs>,
    /// Which branches there are.
    pub branches: Arc<Branches>,
    /// Asks for names that no file has, if there is somebody to ask.
    pub control_plane: Option<Arc<Book>>,
    /// Computes.
    pub wakes: Wakes,
    /// What pools each endpoint's server sessions.
    pub pooling: Arc<Poolings>,
    /// Keys given to clients.
    pub cancels: Cancels,
    /// What is set on sockets.
    pub sockets: SocketSettings,
    /// Limits of the process.
    pub limits: ArcSwap<Limits>,
    /// How often the configuration has changed: sessions look then whether they may go on.
    pub changes: watch::Sender<u64>,
    /// Where operators' clients are handed over, if there are any.
    pub console: Option<Console>,
    /// Who is here.
    pub roster: Roster,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What has happened lately.
    pub journal: Arc<Journal>,
    /// Errors that are told once and counted.
    pub storms: Storms,
    /// The end of everything.
    pub shutdown: ShutdownWatch,
}

/// Serves one client. Errors end here: told to the client, written to its access line.
pub async fn serve(arrived: Arrived, house: Arc<House>) {
    let mut id = [0; 8];
    aws_lc_rs::rand::fill(&mut id).expect("the system's random source does not fail once it is seeded");
    let patience = Patience::new(&house, arrived.at);
    let door = arrived.door.clone();
    let mut socket = arrived.socket;
    let peer = match patience.bound(entrance::introduce(&mut socket, &door)).await {
        Ok(Ok(peer)) => peer,
        // Whoever is not introduced as he should be is nobody that could be told anything.
        Ok(Err(error)) => return tracing::debug!(%error, "connection without a PROXY header closed"),
        Err(_) => return,
    };
    let Some(unproved) = house.gate.enter(peer.ip()) else {
        return tracing::debug!(%peer, "too many connections that have not logged in: one more is closed");
    };
    let mut record = SessionRecord::new(SessionId::from_random(u64::from_ne_bytes(id)), peer, arrived.at);
    let entering = Box::pin(entrance::enter(socket, &door, &house.certificates));
    let entered = patience.bound(entering).await;
    house.note_entered(&entered);
    let outcome = match entered {
        Ok(Ok(Entered::Client(entrance))) => {
            let at_door = AtDoor {
                entrance: *entrance,
                door: &door,
                unproved,
            };
            stay(at_door, &patience, &house, &mut record).await
        }
        Ok(Ok(Entered::Cancel { key, client })) => return pass_on(key, *client, &record, &house).await,
        Ok(Ok(Entered::Probe)) => return,
        Ok(Err(error)) => {
            house.tell_turned_away(&error, &record).await;
            turned_away(error, &record).await
        }
        Err(error) => Outcome::of(&error),
    };
    house.note_ended(&record, &outcome);
    if record.pooling.is_some() {
        house.tell(|| record.closed(&outcome)).await;
    }
    record.close(&outcome, &house.storms);
}

/// A cancel request is answered by the end of its connection, whatever comes of it.
async fn pass_on(key: CancelKey, mut client: Stream, record: &SessionRecord, house: &House) {
    let peer = record.peer;
    if house.gate.may_cancel(peer.ip()) {
        house.tell(|| record.event("cancel")).await;
        let result = match house.cancels.cancel(key).await {
            true => CancelResult::Hit,
            false => CancelResult::Missed,
        };
        house.metrics.cancel(result);
        if result == CancelResult::Hit {
            house.gate.cancel_hit(peer.ip());
        }
    } else {
        house.metrics.cancel(CancelResult::Limited);
        tracing::debug!(%peer, "too many cancel requests: one more is not looked at");
    }
    // Only now: clients wait for this end, and take it to mean that their next statement is safe. Over TLS it must be
    // said: libpq takes an end that is not for an error.
    let _ = timeout(SAYING_TIMEOUT, client.shutdown()).await;
}

/// Why clients may keep a server session of their own, as [`roster::Listed::pins`] says it.
pub fn pin_reasons() -> impl Iterator<Item = &'static str> {
    profile::Pins::all_names()
}

/// A client at the door, until it has left.
async fn stay(
    at_door: AtDoor<'_>,
    patience: &Patience,
    house: &Arc<House>,
    record: &mut SessionRecord,
) -> Outcome {
    record.step_ended(Step::Tls);
    let logging_in = Box::pin(login::log_in(at_door, patience, house, record));
    let LoggedIn {
        mut stream,
        mut who,
        branch,
        parameters,
        secret_length,
        pool_mode,
    } = match logging_in.await {
        Ok(logged_in) => logged_in,
        Err(outcome) => {
            house.tell(|| record.refused(&outcome)).await;
            return outcome;
        }
    };
    record.step_ended(Step::Auth);
    record.tenant = who.endpoint.tenant.to_string();
    if let Some(branch) = branch {
        let reaching = Box::pin(branching::reach(&mut stream, &mut who, &branch, house, record));
        if let Err(outcome) = reaching.await {
            house.tell(|| record.refused(&outcome)).await;
            return outcome;
        }
        record.step_ended(Step::Hold);
    }
    record.pooling = Some(pool_mode);
    let _using = Using::begin(house, &who.endpoint);
    house.note_began(record, &who.endpoint);
    house.tell(|| record.event("auth_ok")).await;
    if let Some(console) = house.console.as_ref().filter(|console| console.is(&who.endpoint)) {
        return Box::pin(console.converse(&mut stream, &who.role, house, record)).await;
    }
    let permit = match house.quotas.admit(&who.endpoint, &who.role) {
        Ok(permit) => permit,
        Err(over) => {
            house.tell_over(&over, record).await;
            say_goodbye(&mut stream, &over, record.id).await;
            return Outcome::failed(&over);
        }
    };
    let mut standing = Standing::new(house, &who.endpoint.name, record);
    if pool_mode == PoolMode::Transaction
        && let Some(pooling) = house.pooling.get(&who.endpoint.name)
    {
        let guest = Guest {
            who,
            parameters,
            secret_length,
            permit,
            standing,
        };
        let pooled = Pooled::new(guest, pooling, house, record).expect("it is listed since its login");
        return Box::new(pooled).serve(&mut stream, record).await;
    }
    let turn = Turn {
        house,
        who: &who,
        secret_length,
        permit: &permit,
    };
    // Boxed, as all that a parked client does not need: thousands of them are parked.
    Box::pin(turn.take(&mut stream, parameters, (&mut standing, record))).await
}

/// Nobody came in: what can be told is told.
async fn turned_away(error: EntranceError, record: &SessionRecord) -> Outcome {
    let text = error.to_string();
    match error {
        EntranceError::Refused { mut stream, reason } => {
            say_goodbye(&mut stream, &reason, record.id).await;
            Outcome::of(&reason)
        }
        EntranceError::Gone(_) => Outcome::of(&SessionError::ClientGone),
        EntranceError::Tls(_) | EntranceError::Smuggled => Outcome {
            sqlstate: SqlState::PROTOCOL_VIOLATION.0.into(),
            what: text,
            fault: Some(Fault::Client),
            by: EndedBy::Pgwake,
        },
    }
}

/// Writes to a client that may not be reading. `false`: it does not take it, and is given up.
async fn say_to(stream: &mut Stream, bytes: &[u8]) -> bool {
    let saying = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    matches!(timeout(SAYING_TIMEOUT, saying).await, Ok(Ok(())))
}

/// Tells the client why its stay ends, and closes. A client that does not take it is left.
fn say_goodbye<'s>(
    stream: &'s mut Stream,
    error: &dyn ClientError,
    session: SessionId,
) -> impl Future<Output = ()> + Send + use<'s> {
    let mut message = BytesMut::new();
    refuse::fatal(error, session, &mut message);
    async move { end_with(stream, &message).await }
}

/// The same with an ErrorResponse that is written already.
async fn end_with(stream: &mut Stream, message: &[u8]) {
    let goodbye = async { say_to(stream, message).await && stream.shutdown().await.is_ok() };
    if let Ok(true) = timeout(SAYING_TIMEOUT, goodbye).await {
        linger(stream).await;
    }
}

/// Reads on until the client closes, for a moment: a socket that is closed with unread bytes in it resets the
/// connection, and the client might never read why.
async fn linger(stream: &mut Stream) {
    let mut bytes = [0; 1024];
    let reading = async {
        let mut left = LINGER_BYTES_MAX;
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, reading).await;
}
