//! What a pooled server session carries: attached to it by this room, opaque to `pool`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::exchange::Facts;
use super::profile;
use super::reported::Reported;
use super::statements::Prepared;
use super::words::{CustomNames, Tags, Words};
use crate::cancel::ServerTarget;
use crate::tenant::quota::Permit;

/// What one server session has and remembers.
#[derive(Debug)]
pub struct Carried {
    /// Settings, role and the like, as Postgres told them last; `None`: nobody knows.
    pub(super) state: Option<profile::Carried>,
    /// Prepared statements.
    pub(super) prepared: Prepared,
    /// Custom settings that it has had; no reset removes their names.
    pub(super) names: CustomNames,
    /// It has a schema for temporary objects, as Postgres said last.
    has_temp_schema: bool,
    /// ParameterStatus, as the server said it last.
    pub(super) reported: Reported,
    /// The application_name it was opened with: what a reset returns to.
    pub(super) opened_as: Bytes,
    /// The client that used it last.
    pub(super) owner: u64,
    /// Another client than the present one may have left numbers for `lastval` and `currval`.
    pub(super) strange_sequences: bool,
    /// The present one may have.
    own_sequences: bool,
    /// Until then it stays with its client.
    grace_until: Option<Instant>,
    /// Where cancels of its statements go.
    pub(super) target: Option<Arc<ServerTarget>>,
    /// It counts as a server session for as long as it is there.
    pub(super) counted: Option<Permit>,
}

impl Carried {
    /// By a session that a client has just opened.
    pub(super) fn opened_by(owner: u64, application: Bytes, state: profile::Carried) -> Self {
        Self {
            state: Some(state),
            prepared: Prepared::default(),
            names: CustomNames::default(),
            has_temp_schema: false,
            reported: Reported::default(),
            opened_as: application,
            owner,
            strange_sequences: false,
            own_sequences: false,
            grace_until: None,
            target: None,
            counted: None,
        }
    }

    /// A client uses it from now on.
    pub(super) fn change_hands(&mut self, to: u64) {
        if self.owner != to {
            self.owner = to;
            self.strange_sequences |= std::mem::take(&mut self.own_sequences);
            self.grace_until = None;
        }
    }

    /// Its schema for temporary objects is first in every search path: Postgres reads whatever was prepared before it was
    /// made anew.
    pub(super) fn note_temp_schema(&mut self, has_one: bool) {
        if has_one && !self.has_temp_schema {
            self.prepared.outdate();
        }
        self.has_temp_schema = has_one;
    }

    /// DISCARD SEQUENCES was said.
    pub(super) fn sequences_discarded(&mut self) {
        (self.strange_sequences, self.own_sequences) = (false, false);
    }

    /// Takes in what a turn did to its sequences; `grace` where its client is to keep it for a while.
    pub(super) fn note_sequences(&mut self, facts: &Facts, grace: Option<Duration>) {
        let inserts = facts
            .tags
            .has(Tags::INSERT | Tags::MERGE | Tags::COPY | Tags::DO | Tags::CALL);
        if inserts || facts.words.has(Words::NEXTVAL | Words::TRIGGER_FUNCTION) {
            self.own_sequences = true;
            self.grace_until = grace.map(|grace| Instant::now() + grace);
        }
    }

    /// Whether `lastval` may tell another client's number: not once its own client has drawn one.
    pub(super) fn has_strange_sequences(&self) -> bool {
        self.strange_sequences && !self.own_sequences
    }

    /// Until when its client has a claim on it.
    pub(super) fn grace_until(&self) -> Option<Instant> {
        self.grace_until
    }

    /// Whether another client may take it.
    pub(super) fn may_be_taken(&self, now: Instant) -> bool {
        self.grace_until.is_none_or(|until| until <= now)
    }
}
