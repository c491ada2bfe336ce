//! From a client's first byte until it has been let in: where a stranger's stay ends, and what a client brings to its own.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    Arrived, House, SAYING_TIMEOUT, Served, Stay,
    branching::{self, Using},
    entrance::{self, Entered, EntranceError},
    error::SessionError,
    let_in, linger,
    login::{self, AtDoor, LoggedIn, Patience},
    pooled::{Guest, Pooled},
    record::{EndedBy, Outcome, SessionRecord, Step},
    say_goodbye,
    standing::Standing,
};
use crate::auth::Authenticated;
use crate::config::PoolMode;
use crate::error::{Fault, SqlState};
use crate::ids::SessionId;
use crate::metrics::{CancelResult, TurnedAway};
use crate::tenant::quota::OverLimit;
use crate::tls::Stream;
use crate::wake::Weight;
use crate::wire::{proxy_header::ProxyHeaderError, startup::CancelKey};

impl House {
    /// Closes a connection before a word of its was answered; the log has a line a minute of it.
    fn turn_away(&self, reason: TurnedAway, about: &dyn fmt::Display) {
        self.metrics.turned_away(reason);
        if !self.storms.is_first("", reason.as_str()) {
            return;
        }
        match reason {
            TurnedAway::Gate => tracing::warn!(peer = %about,
                "connection closed: too many have not logged in ([gate] unproved_max, unproved_per_network_max)"),
            TurnedAway::ProxyHeader => tracing::warn!(error = %about,
                "connection closed: one of the listener's `proxies` sent no PROXY header, which it has to"),
        }
    }
}

/// A client from its first byte until it has been let in, or was told why not. `None`: it was nobody's stay.
pub(super) async fn come_in(
    arrived: Box<Arrived>,
    house: &Arc<House>,
) -> Option<(Box<SessionRecord>, Result<Box<Stay>, Outcome>)> {
    let mut id = [0; 8];
    aws_lc_rs::rand::fill(&mut id).expect("the system's random source does not fail once it is seeded");
    let Arrived { mut socket, at, door } = *arrived;
    let patience = Patience::new(house, at);
    let peer = match patience.bound(entrance::introduce(&mut socket, &door)).await {
        Ok(Ok(peer)) => peer,
        // Whoever is not introduced as he should be is nobody that could be told anything.
        Ok(Err(error)) => {
            // Who only connects, and leaves, is a probe.
            if matches!(error, ProxyHeaderError::Bad(_)) {
                house.turn_away(TurnedAway::ProxyHeader, &error);
            }
            return None;
        }
        Err(_) => return None,
    };
    let Some(unproved) = house.gate.enter(peer.ip()) else {
        house.turn_away(TurnedAway::Gate, &peer);
        return None;
    };
    let id = SessionId::from_random(u64::from_ne_bytes(id));
    let mut record = Box::new(SessionRecord::new(id, peer, at));
    let entering = Box::pin(entrance::enter(socket, &door, &house.certificates));
    let entered = patience.bound(entering).await;
    house.note_entered(&entered);
    let come = match entered {
        Ok(Ok(Entered::Client(entrance))) => {
            let at_door = AtDoor {
                entrance: *entrance,
                door: &door,
                unproved,
            };
            let admitting = admit(at_door, &patience, house, &mut record);
            Box::pin(admitting).await
        }
        Ok(Ok(Entered::Cancel { key, client })) => {
            pass_on(key, *client, &record, house).await;
            return None;
        }
        Ok(Ok(Entered::Probe)) => return None,
        Ok(Err(error)) => {
            house.tell_turned_away(&error, &record).await;
            Err(turned_away(error, &record).await)
        }
        Err(error) => Err(Outcome::of(&error)),
    };
    Some((record, come))
}

/// A client at the door, until it may stay. The error is how its stay ended, of which it has been told.
async fn admit(
    at_door: AtDoor<'_>,
    patience: &Patience,
    house: &Arc<House>,
    record: &mut SessionRecord,
) -> Result<Box<Stay>, Outcome> {
    record.step_ended(Step::Tls);
    let logging_in = login::log_in(at_door, patience, house, record);
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
            record.step_ended(Step::Auth);
            house.tell(|| record.refused(&outcome)).await;
            return Err(outcome);
        }
    };
    record.step_ended(Step::Auth);
    record.tenant = who.endpoint.tenant.shared();
    record.weight = weight(&who, &parameters);
    // Who shares sessions is mostly greeted at once: it hears both in one write.
    if branch.is_some() || pool_mode == PoolMode::Session {
        let_in(&mut stream, &mut who.welcome).await?;
    }
    if let Some(branch) = branch {
        let reaching = branching::reach(&mut stream, &mut who, &branch, house, record);
        if let Err(outcome) = reaching.await {
            house.tell(|| record.refused(&outcome)).await;
            return Err(outcome);
        }
        record.step_ended(Step::Hold);
    }
    record.pooling = Some(pool_mode);
    let using = Using::begin(house.clone(), &who.endpoint);
    house.note_began(record, &who.endpoint);
    house.tell(|| record.event("auth_ok")).await;
    if let Some(console) = house.console.as_ref().filter(|console| console.is(&who.endpoint)) {
        let_in(&mut stream, &mut who.welcome).await?;
        return Err(console.converse(&mut stream, &who.role, house, record).await);
    }
    let permit = match house.quotas.admit(&who.endpoint, &who.role) {
        Ok(permit) => permit,
        Err(over) => return Err(too_many(&mut stream, &mut who, &over, (house, record)).await),
    };
    let pooling = match pool_mode {
        PoolMode::Transaction => house.pooling.get(&who.endpoint.name),
        PoolMode::Session => None,
    };
    let guest = Guest {
        standing: Standing::new(house, &who.endpoint, record),
        who,
        parameters,
        secret_length,
        permit,
    };
    let served = match pooling {
        Some(pooling) => {
            let pooled = Pooled::new(guest, pooling, house, record).expect("it is listed since its login");
            Served::Pooled(Box::new(pooled))
        }
        None => Served::Alone(Some(Box::new(guest))),
    };
    Ok(Box::new(Stay {
        stream,
        served,
        _using: using,
    }))
}

/// The client has no place: its tenant, its role or its endpoint has too many clients.
async fn too_many(
    stream: &mut Stream,
    who: &mut Authenticated,
    over: &OverLimit,
    (house, record): (&House, &SessionRecord),
) -> Outcome {
    house.tell_over(over, record).await;
    if let_in(stream, &mut who.welcome).await.is_ok() {
        say_goodbye(stream, over, record.id).await;
    }
    Outcome::failed(over)
}

/// Whether it matters to its compute's sleep what a client does: by what it has proved, and by what it has said as it came. What
/// it calls itself later changes nothing.
fn weight(who: &Authenticated, parameters: &[(Bytes, Bytes)]) -> Weight {
    let mut names = parameters.iter().filter(|(name, _)| name == "application_name");
    let name = names.next_back().map_or(&b""[..], |(_, value)| value);
    let ignored = who.endpoint.idle_ignore.ignores(&who.role, name);
    ignored.map_or(Weight::Counts, Weight::Ignored)
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
    // said: libpq takes an end that is not for an error. Who says its own end first is in nobody's way.
    if let Ok(Ok(())) = timeout(SAYING_TIMEOUT, client.shutdown()).await {
        linger(&mut client).await;
    }
}
