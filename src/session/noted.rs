//! What a session tells those who count and watch: metrics, the journal, the list of who is here.
//!
//! Once at each step of a stay, never for a message. Nothing here waits or decides. What a server says at a session's
//! end may repeat a statement; only its code goes on. Called by `session`, `coming_in`, `audited` and `pooled`.

use std::time::{Duration, SystemTime};

use super::{
    House,
    entrance::{Entered, EntranceError},
    error::SessionError,
    record::{EndedBy, Outcome, SessionRecord},
    roster::Who,
};
use crate::config::{Endpoint, PoolMode};
use crate::journal::RefusalLine;
use crate::metrics::{Handshake, HoldResult, RefusalReason, Whose};
use crate::wake::{WakeError, Weight};

impl House {
    /// How a connection has begun, where it has come so far.
    pub(super) fn note_entered(&self, entered: &Result<Result<Entered, EntranceError>, SessionError>) {
        match entered {
            Ok(Ok(Entered::Client(entrance))) => self.metrics.handshake(entrance.handshake),
            Ok(Err(EntranceError::Tls(_))) => self.metrics.handshake(Handshake::Failed),
            Ok(_) | Err(_) => (),
        }
    }

    /// A client has proved who it is: it is listed from now on.
    pub(super) fn note_began(&self, record: &mut SessionRecord, endpoint: &Endpoint) {
        let pooling = record.pooling.unwrap_or(PoolMode::Session);
        let who = Who {
            id: record.id,
            peer: record.peer.to_string(),
            tenant: record.tenant.clone(),
            endpoint: endpoint.name.clone(),
            role: record.role.clone(),
            database: record.database.clone(),
            application: record.application.clone(),
            tls: record.tls,
            pooling,
            ignored: match record.weight {
                Weight::Counts => None,
                Weight::Ignored(by) => Some(by),
            },
            since: SystemTime::now(),
        };
        record.present = Some(self.roster.enter(who, record.bell.clone()));
        self.metrics.session_began(whose(record), pooling.as_str());
    }

    /// A client was held, or was not.
    pub(super) fn note_held(
        &self,
        was_cold: Result<bool, &WakeError>,
        waited: Duration,
        record: &SessionRecord,
    ) {
        let result = match was_cold {
            Ok(false) => return,
            Ok(true) => HoldResult::Ready,
            Err(_) => HoldResult::Refused,
        };
        self.metrics.held(result, waited);
        if let Some(listed) = record.listed() {
            self.journal.held(&listed.who.endpoint, record.id, waited);
        }
    }

    /// pgwake, or a server, has told a client an error of its own, whether its stay ends by it or not.
    pub(super) fn note_refused(&self, record: &SessionRecord, outcome: &Outcome) {
        let kind = match outcome.by {
            EndedBy::Client => return,
            EndedBy::Pgwake => RefusalReason::of(&outcome.sqlstate),
            EndedBy::Server => RefusalReason::Server,
        };
        self.metrics.refused(whose(record), kind, &outcome.sqlstate);
        let reason = match outcome.by {
            EndedBy::Server => "the server's own words".to_owned(),
            EndedBy::Client | EndedBy::Pgwake => outcome.what.clone(),
        };
        self.journal.refused(RefusalLine {
            session: record.id,
            at: SystemTime::now(),
            peer: record.peer.to_string(),
            tenant: record.tenant.to_string(),
            endpoint: whose(record).endpoint.to_owned(),
            role: record.role.to_string(),
            sqlstate: outcome.sqlstate.to_string(),
            kind: kind.as_str(),
            reason,
        });
    }

    /// A stay is over.
    pub(super) fn note_ended(&self, record: &SessionRecord, outcome: &Outcome) {
        self.note_refused(record, outcome);
        if let Some(listed) = record.listed() {
            listed.set_passed(record.passed);
            let passed = listed.newly_passed();
            let bytes = (passed.bytes_in, passed.bytes_out);
            self.metrics.passed(whose(record), bytes, passed.queries);
        }
    }
}

/// By its true names once it has logged in, before that by what it says.
fn whose(record: &SessionRecord) -> Whose<'_> {
    match record.listed() {
        Some(listed) => Whose {
            tenant: &listed.who.tenant,
            endpoint: listed.who.endpoint.as_str(),
        },
        None => Whose {
            tenant: &record.tenant,
            endpoint: &record.endpoint,
        },
    }
}
