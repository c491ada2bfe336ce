//! What a session tells the audit log: in the words of its record, which has no secret in it.
//!
//! What a server says at a session's end may repeat a statement; only its code goes on. Called by `session`,
//! `checkout` and `lend`.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use super::{
    House,
    entrance::EntranceError,
    error::SessionError,
    exchange::Refusals,
    record::{Outcome, Peer, SessionRecord},
    relay::End,
};
use crate::audit::Event;
use crate::config::Endpoint;
use crate::error::{ClientError, SqlState};
use crate::shutdown::Phase;
use crate::tenant::quota::OverLimit;
use crate::wake::WakeError;

impl House {
    /// Tells an event, if anybody listens. Where lines must be written it waits for room, but not beyond the end of
    /// pgwake. Cancel safe.
    pub async fn tell(&self, event: impl FnOnce() -> Event) {
        if self.audit.is_on() {
            let (event, mut shutdown) = (event(), self.shutdown.clone());
            // Boxed: each step of a client has a place for this.
            let telling = Box::pin(self.audit.tell(event));
            tokio::select! { biased;
                () = telling => (),
                () = shutdown.reached(Phase::Stopping) => (),
            }
        }
    }

    /// A client that has proved who it is needs a compute that sleeps, if it does, and if it wakes any.
    pub(super) async fn tell_wake_asked(&self, endpoint: &Endpoint, record: &SessionRecord) {
        if self.audit.is_on() && record.weight.counts() && self.wakes.awake(&endpoint.name).is_none() {
            self.tell(|| record.event("wake_asked")).await;
        }
    }

    /// A client was refused something because there is too much of it.
    pub(super) async fn tell_over(&self, over: &OverLimit, record: &SessionRecord) {
        let event = || {
            let event = record.event("quota").with("limit", over.limit());
            let reason = over.detail().unwrap_or_default();
            event.with("sqlstate", over.sqlstate().0).with("reason", reason)
        };
        self.tell(event).await;
    }

    /// A client was refused something while it is here.
    pub(super) async fn tell_refusals(&self, refusals: &Refusals, record: &SessionRecord) {
        if let Some(over) = refusals.due() {
            self.tell_over(&over, record).await;
        }
    }

    /// Runs a relay to its end, and tells meanwhile what the client is refused: it may go on for as long as the client is here.
    pub(super) async fn relayed(
        &self,
        mut relay: Pin<&mut impl Future<Output = End>>,
        refusals: &Refusals,
        record: &SessionRecord,
    ) -> End {
        loop {
            let next = poll_fn(|cx| match (relay.as_mut().poll(cx), refusals.due()) {
                (Poll::Pending, None) => Poll::Pending,
                (Poll::Pending, over) => Poll::Ready((None, over)),
                (Poll::Ready(end), over) => Poll::Ready((Some(end), over)),
            });
            let (end, over) = next.await;
            if let Some(over) = over {
                Box::pin(self.tell_over(&over, record)).await;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Nobody came in, because of how the connection was to be encrypted, or not.
    pub(super) async fn tell_turned_away(&self, error: &EntranceError, record: &SessionRecord) {
        let sqlstate = match error {
            EntranceError::Tls(_) | EntranceError::Smuggled => SqlState::PROTOCOL_VIOLATION,
            EntranceError::Refused {
                reason: reason @ SessionError::PlaintextRefused,
                ..
            } => reason.sqlstate(),
            EntranceError::Refused { .. } | EntranceError::Gone(_) => return,
        };
        let event = || {
            let event = record.event("tls_refused").with("sqlstate", sqlstate.0);
            event.with("reason", error.to_string())
        };
        self.tell(event).await;
    }

    /// What came of it.
    pub(super) async fn tell_woken(
        &self,
        was_cold: Result<bool, &WakeError>,
        waited: Duration,
        record: &SessionRecord,
    ) {
        // It asked for no wake, and was told at once.
        if matches!(was_cold, Err(WakeError::Ignored { .. })) {
            return;
        }
        self.note_held(was_cold, waited, record);
        match was_cold {
            Ok(false) => (),
            Ok(true) => self.tell(|| record.event("wake_ready")).await,
            Err(error) => {
                let event = || {
                    let event = record.event("wake_failed").with("reason", error.to_string());
                    event.with("detail", error.detail().unwrap_or_default())
                };
                self.tell(event).await;
            }
        }
    }
}

impl SessionRecord {
    /// An event with all that is known of the client.
    pub(super) fn event(&self, kind: &'static str) -> Event {
        let event = Event::new(kind);
        let event = match self.peer {
            Peer::Proxied { proxy, .. } => event.with("proxy", proxy.to_string()),
            Peer::Tcp(_) | Peer::Local => event,
        };
        event
            .with("session", self.id.to_string())
            .with("peer", self.peer.to_string())
            .with("tls", self.tls)
            .with("cipher", self.cipher)
            .with("tenant", &*self.tenant)
            .with("endpoint", &*self.endpoint)
            .with("role", &*self.role)
            .with("database", &*self.database)
            .with("application", &*self.application)
            .with("method", self.method)
    }

    /// It has not come in.
    pub(super) fn refused(&self, outcome: &Outcome) -> Event {
        self.event("auth_failed")
            .with("sqlstate", &*outcome.sqlstate)
            .with("reason", outcome.what.as_str())
    }

    /// It has left.
    pub(super) fn closed(&self, outcome: &Outcome) -> Event {
        let stay = u64::try_from(self.stay().as_millis()).unwrap_or(u64::MAX);
        self.event("session_closed")
            .with("sqlstate", &*outcome.sqlstate)
            .with("bytes_in", self.passed.bytes_in)
            .with("bytes_out", self.passed.bytes_out)
            .with("stay_ms", stay)
    }
}
