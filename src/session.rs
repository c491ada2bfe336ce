//! One client's stay, from its socket to its access line: the whole path begins in [`serve`], and its first part, up to
//! where a client is let in, is `coming_in`.
//!
//! The only place where `wake`, `pool` and `cancel` meet for a client. One task owns the client and the server
//! session lent to it. `listener` calls; nothing here accepts, starts or configures anything.

mod audited;
mod beginning;
mod branching;
mod buffers;
mod carried;
mod checkout;
mod coming_in;
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
mod proved;
mod record;
mod relay;
mod reported;
pub mod roster;
mod senders;
mod sql_names;
mod sql_parts;
mod standing;
mod statements;
mod turn;
mod words;

use std::{io, mem, net::SocketAddr, sync::Arc, time::Duration};

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
use crate::config::{DefaultEndpoint, Limits, ListenTls, Network};
use crate::control_plane::Book;
use crate::error::ClientError;
use crate::ids::SessionId;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::shutdown::ShutdownWatch;
use crate::storm::Storms;
use crate::tenant::{directory::Directory, gate::Gate, quota::Quotas};
use crate::tls::{CertificateStore, SocketSettings, Stream};
use crate::wake::Wakes;
use crate::wire::refuse;
use branching::Using;
use coming_in::come_in;
use pooled::{Guest, Pooled};
use record::{Outcome, SessionRecord};
use roster::Roster;
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

impl Socket {
    /// Registers it with the present runtime, which is to poll it from now on.
    ///
    /// # Errors
    /// What the system says; the socket is closed.
    pub fn moved_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream, peer) => Self::Tcp(TcpStream::from_std(stream.into_std()?)?, peer),
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
        })
    }
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
    pub storms: Arc<Storms>,
    /// The end of everything.
    pub shutdown: ShutdownWatch,
}

/// Serves one client until it has been let in. Errors end here: told to the client, written to its access line.
pub async fn serve(arrived: Box<Arrived>, house: Arc<House>) -> Option<Staying> {
    // Boxed, as all that a client needs for a moment only, or that is handed from one to the other: thousands of them
    // wait for their next statement.
    let (record, come) = Box::pin(come_in(arrived, &house)).await?;
    match come {
        Ok(stay) => Some(Staying {
            thread: None,
            stay,
            record,
            house,
        }),
        Err(outcome) => {
            house.ended(record, &outcome).await;
            None
        }
    }
}

/// A client that has been let in. It is served in a task of its own, which has no room for what a login needs.
pub struct Staying {
    thread: Option<usize>,
    stay: Box<Stay>,
    record: Box<SessionRecord>,
    house: Arc<House>,
}

impl Staying {
    /// The index of the thread that is to serve it; `None`: the one that has.
    pub fn thread(&self) -> Option<usize> {
        self.thread
    }

    /// Serves it on the thread that this runs on, until it has left or goes on elsewhere.
    pub async fn go_on(mut self) -> Option<Self> {
        if self.thread.take().is_some() {
            match (*self.stay).moved_here() {
                Ok(stay) => *self.stay = stay,
                Err(error) => {
                    tracing::warn!(session = %self.record.id, %error, "client's socket could not be taken over");
                    let gone = Outcome::of(&error::SessionError::ClientGone);
                    self.house.ended(self.record, &gone).await;
                    return None;
                }
            }
        }
        match self.stay.serve(&self.house, &mut self.record).await {
            Departure::To(thread) => {
                self.thread = Some(thread);
                Some(self)
            }
            Departure::Over(outcome) => {
                // Closed before it is told.
                drop(self.stay);
                self.house.ended(self.record, &outcome).await;
                None
            }
        }
    }
}

/// Why a client is not served any more, here.
enum Departure {
    /// Its stay is over.
    Over(Outcome),
    /// It is at rest, and better served by the thread with this index.
    To(usize),
}

impl House {
    /// A client's stay is over.
    async fn ended(&self, record: Box<SessionRecord>, outcome: &Outcome) {
        self.note_ended(&record, outcome);
        if record.pooling.is_some() {
            self.tell(|| record.closed(outcome)).await;
        }
        record.close(outcome, &self.storms);
    }
}

/// Why clients may keep a server session of their own, as [`roster::Listed::pins`] says it.
pub fn pin_reasons() -> impl Iterator<Item = &'static str> {
    profile::Pins::all_names()
}

/// A client that has been let in.
struct Stay {
    stream: Stream,
    served: Served,
    _using: Using,
}

/// How it has server sessions.
enum Served {
    /// For each transaction the one that is there.
    Pooled(Box<Pooled>),
    /// One of its own.
    Alone(Option<Box<Guest>>),
}

impl Stay {
    /// Has the present runtime poll the client's socket.
    fn moved_here(self) -> io::Result<Self> {
        let stream = self.stream.moved_here()?;
        Ok(Self { stream, ..self })
    }

    /// Until it has left, or should be served by another thread.
    async fn serve(&mut self, house: &Arc<House>, record: &mut SessionRecord) -> Departure {
        match &mut self.served {
            Served::Pooled(pooled) => pooled.serve(&mut self.stream, record).await,
            Served::Alone(guest) => {
                let guest = guest.take().expect("it is served once, by one thread");
                Departure::Over(Box::pin(guest.take_turn(&mut self.stream, house, record)).await)
            }
        }
    }
}

impl Guest {
    async fn take_turn(
        self: Box<Self>,
        stream: &mut Stream,
        house: &Arc<House>,
        record: &mut SessionRecord,
    ) -> Outcome {
        let Self {
            who,
            parameters,
            secret_length,
            permit,
            mut standing,
        } = *self;
        let turn = Turn {
            house,
            who: &who,
            secret_length,
            permit: &permit,
        };
        turn.take(stream, parameters, (&mut standing, record)).await
    }
}

/// Tells a client that it is in, unless it has been told.
async fn let_in(stream: &mut Stream, welcome: &mut Vec<u8>) -> Result<(), Outcome> {
    let welcome = mem::take(welcome);
    if welcome.is_empty() || say_to(stream, &welcome).await {
        Ok(())
    } else {
        Err(Outcome::of(&error::SessionError::ClientGone))
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
    Box::pin(async move { end_with(stream, &message).await })
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
