//! From a startup packet to a client that has proved who it is: the names it gives, its proof, the deadline and
//! the end of pgwake on the way.
//!
//! `tenant` resolves and `auth` proves; here they meet for a client, and what it must know it is told.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use super::{
    Door, House,
    entrance::Entrance,
    error::SessionError,
    let_in,
    record::{Outcome, SessionRecord, shortened},
    say_goodbye,
};
use crate::auth::{AuthError, Authenticated, Claim, Proofs, TlsUse, authenticate};
use crate::cancel::SecretLength;
use crate::config::{Compute, Endpoint, PoolMode};
use crate::control_plane::{Book, Found};
use crate::error::ClientError;
use crate::ids::EndpointName;
use crate::shutdown::{Phase, ShutdownWatch};
use crate::storm::Storms;
use crate::tenant::{
    directory::{ResolveError, Resolved, Said},
    gate::{Attempt, Failure, TurnedAway, Unproved},
};
use crate::tls::Stream;
use crate::wire::options::{OwnWords, take_own_words};
use crate::wire::say;
use crate::wire::startup::Startup;

/// What is added to the reason of a login that has locked its role out.
const LOCKED_OUT: &str = " (once too often: locked out)";

/// A client that has not proved who it is.
pub(super) struct AtDoor<'a> {
    pub(super) entrance: Entrance,
    pub(super) door: &'a Door,
    /// Counts it as a stranger for as long as it is one.
    pub(super) unproved: Unproved,
}

/// A client that has proved who it is.
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) who: Authenticated,
    /// The branch that it names, where there is none of that name: then it is its parent that the client has logged in to.
    pub(super) branch: Option<String>,
    /// What the server gets as startup parameters.
    pub(super) parameters: Vec<(Bytes, Bytes)>,
    /// How long the secret of its cancel key is.
    pub(super) secret_length: SecretLength,
    /// When its server session is given back.
    pub(super) pool_mode: PoolMode,
}

/// How long pgwake waits for a client that has not proved who it is: until its deadline, and not beyond the
/// beginning of a drain.
pub(super) struct Patience {
    deadline: Instant,
    limit: Duration,
    shutdown: ShutdownWatch,
}

impl Patience {
    /// For a client that was accepted at `since`.
    pub(super) fn new(house: &House, since: Instant) -> Self {
        let limit = house.limits.load().login_timeout;
        Self {
            deadline: since + limit,
            limit,
            shutdown: house.shutdown.clone(),
        }
    }

    /// Waits for `work`. Not cancel safe where `work` is not.
    pub(super) async fn bound<F: Future>(&self, work: F) -> Result<F::Output, SessionError> {
        let mut shutdown = self.shutdown.clone();
        // Done is done: what has come in the same instant is not thrown away.
        tokio::select! { biased;
            done = timeout_at(self.deadline, work) => done.map_err(|_| SessionError::LoginTimeout(self.limit)),
            () = shutdown.reached(Phase::Draining) => Err(SessionError::ShuttingDownBefore),
        }
    }
}

/// Lets a client prove who it is. The error has been told to it. Not cancel safe: the stream is given up with it.
pub(super) async fn log_in(
    at_door: AtDoor<'_>,
    patience: &Patience,
    house: &Arc<House>,
    record: &mut SessionRecord,
) -> Result<LoggedIn, Outcome> {
    let Entrance {
        mut stream,
        startup,
        server_name,
        end_point,
        certificates,
        tls,
        cipher,
        handshake: _,
    } = at_door.entrance;
    (record.tls, record.cipher) = (tls, cipher);
    let application = startup.parameter("application_name").unwrap_or_default();
    record.note(startup.role(), startup.database(), application);
    let (parameters, own_words) = parameters_for_server(&startup);
    let said = Said {
        server_name: server_name.as_deref(),
        option: own_words.endpoint.as_deref(),
        database: startup.database(),
        default: at_door.door.default_endpoint.as_ref(),
    };
    let mut resolved = match resolve(house, &startup, said) {
        Ok(resolved) => resolved,
        Err(error) => return Err(refuse(&mut stream, &error, record).await),
    };
    record.endpoint = shortened(resolved.said.as_bytes());
    let knocked = knock(&mut stream, &mut resolved, &startup, (house, patience, record)).await?;
    house.tell(|| record.event("connect")).await;
    let claim = Claim {
        endpoint: knocked.endpoint.as_ref(),
        known_as: resolved.known_as(),
        role: startup.role(),
        end_point: end_point.as_deref(),
        certificates: &certificates,
        over_tls: tls_use(&stream),
    };
    let proofs = house.proofs.load_full();
    let proving = Box::pin(prove(&mut stream, &startup, claim, &proofs));
    let mut who = match patience.bound(proving).await {
        Ok(Ok(who)) => match knocked.attempt.proved() {
            Ok(()) => who,
            Err(turned_away) => return Err(refuse(&mut stream, &turned_away, record).await),
        },
        Ok(Err(error)) if error.has_left() => return Err(Outcome::left(&error)),
        Ok(Err(error)) => return Err(not_proved(&mut stream, error, knocked, (house, record)).await),
        Err(error) => {
            say_goodbye(&mut stream, &error, record.id).await;
            return Err(Outcome::of(&error));
        }
    };
    drop(at_door.unproved);
    // Only now: a refusal before the login would have libpq try again in plaintext.
    let of_name = resolved.pooling.unwrap_or(who.endpoint.pool.mode);
    let pool_mode = match pool_mode(&startup, own_words.pool.as_deref(), of_name) {
        Ok(pool_mode) => pool_mode,
        Err(error) => {
            return Err(match let_in(&mut stream, &mut who.welcome).await {
                Ok(()) => refuse(&mut stream, &error, record).await,
                Err(_gone) => Outcome::failed(&error),
            });
        }
    };
    Ok(LoggedIn {
        stream,
        who,
        branch: resolved.branch.clone(),
        parameters,
        secret_length: secret_length(&startup),
        pool_mode,
    })
}

/// Counts and tells that a client has not proved who it is.
async fn not_proved(
    stream: &mut Stream,
    error: AuthError,
    knocked: Knocked<'_>,
    (house, record): (&House, &SessionRecord),
) -> Outcome {
    let suspected = knocked.endpoint.clone().filter(|_| error.is_wrong_password());
    let error = match knocked.found {
        Found::Unasked => error.of_unasked_endpoint(),
        Found::Endpoint | Found::Nobody => error,
    };
    // Counted first: the next guess may come before this one has read what came of it.
    let why = match knocked.failed(&error, record, &house.storms) {
        Ok(why) => why,
        Err(turned_away) => return refuse(stream, &turned_away, record).await,
    };
    if why == LOCKED_OUT {
        house.tell(|| record.event("lockout")).await;
    }
    let mut outcome = refuse(stream, &error, record).await;
    outcome.what.push_str(why);
    // Behind the answer, or its time would tell that there is such an endpoint.
    if let Some(endpoint) = suspected {
        house.roles.suspect(&endpoint);
    }
    outcome
}

/// The console for operators' roles, the directory for everybody else.
fn resolve(house: &House, startup: &Startup, said: Said<'_>) -> Result<Resolved, ResolveError> {
    let console = house
        .console
        .as_ref()
        .and_then(|console| console.resolve(startup));
    console.map_or_else(|| house.directory.resolve(said), Ok)
}

fn secret_length(startup: &Startup) -> SecretLength {
    match startup.minor {
        2.. => SecretLength::ThirtyTwo,
        _ => SecretLength::Four,
    }
}

/// A client that the gate lets try.
struct Knocked<'a> {
    attempt: Attempt<'a>,
    /// The endpoint, where there is one and the client may come from where it is.
    endpoint: Option<Arc<Endpoint>>,
    is_hidden: bool,
    found: Found,
}

/// Asks the gate, then the control plane where no file has the name. To those who may not come from where they are, an
/// endpoint is a name that nobody has. The error has been told to the client.
async fn knock<'a>(
    stream: &mut Stream,
    resolved: &mut Resolved,
    startup: &Startup,
    (house, patience, record): (&'a House, &Patience, &mut SessionRecord),
) -> Result<Knocked<'a>, Outcome> {
    note(resolved, house, record);
    let from = record.peer.ip();
    // All branches of an endpoint have its passwords: to guess at each of them is to guess at it.
    let attempt = match house.gate.attempt(from, resolved.known_as(), startup.role()) {
        Ok(attempt) => attempt,
        Err(error) => return Err(refuse(stream, &error, record).await),
    };
    let mut found = Found::Nobody;
    if let Some(book) = &house.control_plane {
        let asking = Box::pin(ask_control_plane(resolved, house, book));
        match patience.bound(asking).await {
            Ok(told) => found = told,
            Err(error) => {
                say_goodbye(stream, &error, record.id).await;
                return Err(Outcome::of(&error));
            }
        }
        note(resolved, house, record);
    }
    if found != Found::Unasked {
        attempt.decided();
    }
    let allows = |endpoint: &&Arc<Endpoint>| from.is_none_or(|ip| endpoint.access.allows(ip));
    let endpoint = resolved.endpoint.as_ref().filter(allows).cloned();
    Ok(Knocked {
        attempt,
        is_hidden: endpoint.is_none() && resolved.endpoint.is_some(),
        endpoint,
        found,
    })
}

fn note(resolved: &Resolved, house: &House, record: &mut SessionRecord) {
    if let Some(endpoint) = &resolved.endpoint {
        record.tenant = endpoint.tenant.shared();
    }
    record.method = house.proofs.load().method(resolved.endpoint.as_ref());
}

/// A name that no file has is asked for; all others take as long.
async fn ask_control_plane(resolved: &mut Resolved, house: &House, book: &Arc<Book>) -> Found {
    let is_asked = |endpoint: &Arc<Endpoint>| matches!(endpoint.compute, Compute::Controlled(_));
    let is_open = resolved.endpoint.as_ref().is_none_or(is_asked) && resolved.branch.is_none();
    match EndpointName::parse(&resolved.said) {
        Ok(name) if is_open => {
            let found = book.ask(&name).await;
            resolved.endpoint = match found {
                Found::Endpoint => house.directory.endpoint(&name),
                Found::Nobody | Found::Unasked => None,
            };
            found
        }
        _ => {
            book.like_others().await;
            Found::Nobody
        }
    }
}

impl Knocked<'_> {
    /// The client has not proved who it is: the gate is told, and so is the operator. What is to be added to the
    /// reason is returned, or why it is not to hear the reason.
    fn failed(
        self,
        error: &AuthError,
        record: &SessionRecord,
        storms: &Storms,
    ) -> Result<&'static str, TurnedAway> {
        let (failure, why) = match self.found {
            Found::Unasked => (
                Failure::Undecided,
                "the control plane could not be asked for the endpoint too often",
            ),
            Found::Endpoint | Found::Nobody => (Failure::Wrong, "the password was wrong too often"),
        };
        let is_locked_out = error.is_wrong_password() && self.attempt.failed(failure)?;
        // A storm of guesses locks out many networks; the audit log has each.
        if is_locked_out && storms.is_first(&record.endpoint, "lockout") {
            tracing::warn!(session = %record.id, peer = %record.peer, endpoint = &*record.endpoint, role = &*record.role,
                "{why}: the role is locked out from that network for a while");
        }
        Ok(match (self.is_hidden, is_locked_out) {
            (true, _) => " (its address is not allowed here)",
            (false, true) => LOCKED_OUT,
            (false, false) => "",
        })
    }
}

/// What `options` ask for goes first, then `of_name`: what the name asks for, or the endpoint's own mode. Replication
/// has no transactions to give a session back between.
fn pool_mode(startup: &Startup, asked: Option<&str>, of_name: PoolMode) -> Result<PoolMode, SessionError> {
    let mode = match asked {
        None => of_name,
        Some(asked) => PoolMode::ALL
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(asked))
            .ok_or_else(|| SessionError::UnknownPooling(shortened(asked.as_bytes()).to_string()))?,
    };
    Ok(match startup.asks_for_replication() {
        true => PoolMode::Session,
        false => mode,
    })
}

async fn refuse(stream: &mut Stream, error: &(impl ClientError + Sync), record: &SessionRecord) -> Outcome {
    say_goodbye(stream, error, record.id).await;
    Outcome::failed(error)
}

fn tls_use(stream: &Stream) -> TlsUse {
    match stream {
        Stream::TlsFromClient(_) => TlsUse::Tls,
        Stream::Unix(_) => TlsUse::UnixSocket,
        Stream::Tcp(_) | Stream::TlsToServer(_) => TlsUse::Plaintext,
    }
}

/// Says what is not supported, then lets the client prove who it is.
async fn prove(
    stream: &mut Stream,
    startup: &Startup,
    claim: Claim<'_>,
    proofs: &Proofs,
) -> Result<Authenticated, AuthError> {
    let mut negotiation = BytesMut::new();
    say::negotiation(startup, &mut negotiation);
    if !negotiation.is_empty() {
        stream.write_all(&negotiation).await.map_err(AuthError::Left)?;
    }
    authenticate(stream, claim, proofs).await
}

/// Everything that the client asked for but pgwake's own words in `options`, and protocol options. Also what those
/// words say.
fn parameters_for_server(startup: &Startup) -> (Vec<(Bytes, Bytes)>, OwnWords) {
    let mut own_words = OwnWords::default();
    let mut parameters = Vec::with_capacity(startup.parameters.len());
    for (name, value) in &startup.parameters {
        if name.starts_with(b"_pq_.") {
            continue;
        }
        if &name[..] != b"options" {
            parameters.push((name.clone(), value.clone()));
            continue;
        }
        let options = take_own_words(value);
        if options.own.is_empty() || !options.rest.is_empty() {
            parameters.push((name.clone(), options.rest.into()));
        }
        own_words.add(options.own);
    }
    (parameters, own_words)
}
