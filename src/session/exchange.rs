//! What passes between a client and the server session lent to it, message by message: the editor of both lanes.
//!
//! In session pooling everything passes as it is, and is only counted. In transaction pooling the names of prepared
//! statements change on the way (`up`, `down`), and what the turn did to its session is noted. It writes to no
//! stream and waits for nobody: where something must happen first that takes time, it says so by a [`Gate`].

mod bound;
mod commit;
mod down;
mod editors;
mod gates;
mod hearing;
mod parsed;
mod pooled;
mod put;
mod rate;
mod seen;
mod shapes;
mod up;

use bytes::Bytes;

use commit::LastText;
pub(super) use commit::Touched;
pub(super) use gates::Gate;
use hearing::Hearing;
use put::put;
pub(super) use rate::{Refusals, TransactionRate};

use super::{
    carried::Carried,
    expected::{Asker, Entry, Expected, Kind},
    lane::Lane,
    pins::PinLimit,
    profile::Profile,
    senders::Senders,
    statements::{Effect, Name, Statements, Texts, Unsettled},
    words::{CustomNames, FunctionWords, Scan, Tags, Words, dotted_names},
};
use crate::config;
use crate::ids::SessionId;
use crate::wire::reply::ErrorFields;
use std::sync::Arc;

/// As much of a body as is ever looked at where it passes as it is: command tags have at most 64 bytes
/// (COMPLETION_TAG_BUFSIZE), an ErrorResponse has its severity and SQLSTATE in its first fields.
const PREFIX_BYTES: usize = 96;

/// Both directions of a turn.
pub(super) struct Exchange<'a> {
    pub(super) expected: Expected,
    /// What transaction pooling needs; `None`: session pooling.
    pooled: Option<Pooled<'a>>,
    tell_touched: &'a (dyn Fn(Touched) + Sync),
    touched: Touched,
    commit_possible: bool,
    /// The last text, which may commit, too: that is looked at only where it matters. In session pooling alone: in transaction
    /// pooling all of a text is looked at in any case.
    last_text: Option<Box<LastText>>,
    /// A statement that may commit was prepared under a name: executing it shows no words.
    commit_prepared: bool,
    terminated: bool,
    /// The server was told to send its last answers to a client that says nothing more.
    is_flushed: bool,
    /// The server was sent what broke the framing: it is going to end the session.
    is_judging: bool,
    fatal: Option<Box<ErrorFields>>,
    /// Something of the client's has been sent since the relay began.
    used: bool,
    hearing: Hearing,
    queries: u64,
    /// How fast the client's transactions may come, and what of them is refused.
    rate: Option<(&'a mut TransactionRate, &'a Refusals)>,
}

/// What transaction pooling needs in a turn.
pub(super) struct Pooled<'a> {
    pub(super) statements: &'a mut Statements,
    /// What the server session has and remembers.
    pub(super) carried: &'a mut Carried,
    pub(super) texts: &'a Arc<Texts>,
    pub(super) senders: &'a Senders,
    /// Functions of the database that can change session state.
    pub(super) functions: Option<&'a FunctionWords>,
    /// The database has triggers and the like that can.
    pub(super) is_careful: bool,
    /// What the client carries at the beginning of the turn.
    pub(super) profile: &'a Arc<Profile>,
    pub(super) limits: &'a config::Pool,
    pub(super) pins: &'a PinLimit,
    /// The application_name that the client came with.
    pub(super) application: &'a Bytes,
    pub(super) facts: &'a mut Facts,
    /// For the errors that pgwake writes.
    pub(super) session: SessionId,
}

impl Pooled<'_> {
    /// The client's own application_name as the server tells it.
    fn own_application(&self) -> Bytes {
        self.carried.reported.application_of(self.application)
    }

    /// Whether the client still keeps its session, or its right to, is found out next.
    fn may_let_go(&mut self) {
        if self.facts.is_pinned || self.facts.pin.is_some() {
            self.facts.settling = Some(self.pins.settling());
        }
    }

    /// Whether another client's numbers may be what `lastval` tells.
    fn has_strange_sequences(&self) -> bool {
        let facts = &self.facts;
        let inserts =
            facts.tags.has(Tags::INSERT | Tags::MERGE | Tags::COPY) || facts.words.has(Words::NEXTVAL);
        self.carried.has_strange_sequences() && !inserts
    }
}

/// What a turn did, as far as texts and tags show it.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) words: Words,
    pub(super) tags: Tags,
    /// Custom settings that it may have given a name.
    pub(super) names: CustomNames,
    /// Values that may have been such names.
    pub(super) values: CustomNames,
    /// What cannot be moved, and is not known to be gone before the session is.
    pub(super) unmovable: bool,
    /// After a reset the client was told its own application_name, which the session does not have.
    pub(super) is_told_own_application: bool,
    /// What ParameterStatus has told it of that in this turn.
    told_application: Option<Bytes>,
    /// The session has another application_name than its client after a reset: nothing more is said before that is
    /// put right.
    pub(super) is_reset: bool,
    /// The client keeps the session.
    pub(super) is_pinned: bool,
    /// The server has ended the session, after everything was answered.
    pub(super) is_lost: bool,
    /// The client's transaction begins with a BEGIN that it has had the answer to.
    pub(super) begins: bool,
    /// The right to pin that words asked for beforehand.
    pub(super) pin: Option<super::pins::PinPermit>,
    /// That BEGIN failed, with this error.
    pub(super) begin_failed: Option<Bytes>,
    /// Its last answer may have released the client that keeps its session.
    settling: Option<super::pins::Settling>,
    /// The message at the front has waited for others to be released.
    pub(super) pins_awaited: bool,
    gate: Option<Gate>,
    /// The message at the front has been through [`Gate::Databases`].
    pub(super) databases_closed: bool,
    /// A text that comes in pieces. Boxed: few do, and each turn has a place for it.
    scan: Option<(Box<Scan>, Scanned)>,
    /// How much of the message at the front must have come for what is looked at, where it is more than of most.
    seen_min: usize,
    bound: bound::Bound,
    /// Something has been executed.
    has_run: bool,
    /// Statements that were put on the session under settings that are not theirs.
    foreign: Vec<u64>,
    /// The message at the front waits for answers to what was sent before it.
    is_held: bool,
    /// The server has been told to send them.
    is_flushed: bool,
    asked: shapes::Asked,
    /// What was prepared under settings that nobody knows yet.
    pub(super) unsettled: Unsettled,
    /// Statements of SQL's PREPARE that the client has and the session lacks: they could not be prepared there.
    pub(super) lacking: Vec<Name>,
    /// Names that could not be put on the session for SQL.
    unaliased: Vec<Name>,
    /// What Postgres said of these, until it says the same of what calls them.
    unaliased_for: Vec<(Name, Bytes)>,
    /// The error that is the answer to the message at the front: something that must happen first was refused.
    pub(super) refused: Option<Bytes>,
}

impl Facts {
    /// Values that may be the name of a setting.
    fn note_values(&mut self, values: &[u8]) {
        dotted_names(values).for_each(|name| self.values.insert(name));
        self.words |= Words::of(values, None).only(Words::SEED | Words::HIDDEN_SETTING);
    }

    /// Whether nothing was said or done that could matter behind the turn: rows were read or changed, none inserted.
    pub(super) fn are_of_common_kind(&self) -> bool {
        self.words.only(Words::COMMIT) == self.words
            && self.tags.is_empty()
            && self.names.is_empty()
            && self.values.is_empty()
            && self.unsettled.is_empty()
            && self.pin.is_none()
            && !(self.unmovable || self.is_told_own_application || self.is_pinned)
    }

    /// Whether a text may mean something else than before the turn.
    fn change_texts(&self) -> bool {
        self.tags.change_texts() || self.words.has(Words::CREATE)
    }

    /// The server owes nothing, and its last ReadyForQuery said this.
    fn all_answered(&mut self, status: u8) {
        self.unaliased_for.clear();
        match status {
            // A transaction's portals end with it.
            b'I' => self.bound.ends.clear(),
            // Nothing that a failed transaction did survives it; whoever waits for its place need not wait for its end.
            b'E' => self.pin = None,
            _ => (),
        }
    }

    /// A name could not be put on the session for SQL, because of this error.
    pub(super) fn note_unaliased(&mut self, name: Name, error: Bytes) {
        self.unaliased.push(name.clone());
        self.unaliased_for.push((name, error));
    }

    /// The turn goes on although its last answer might have been the end of it: its client keeps the session. Gives the right
    /// to that, if it was asked for beforehand.
    pub(super) fn goes_on_pinned(&mut self) -> Option<super::pins::PinPermit> {
        (self.is_pinned, self.is_reset, self.settling) = (true, false, None);
        self.pin.take()
    }

    /// What the message at the front waits for.
    pub(super) fn take_gate(&mut self) -> Option<Gate> {
        self.gate.take()
    }
}

/// Whose text it is that comes in pieces.
#[derive(Debug, Clone, Copy)]
enum Scanned {
    Query,
    /// The unnamed statement with this serial.
    Unnamed(u64),
    /// The statement with a name that was sent last.
    Named,
}

/// What a lost server means for the client's last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing was on its way, or only work inside an open transaction, which is rolled back.
    RolledBack,
    /// A COMMIT or an autocommit statement was on its way.
    Unknown,
}

impl<'a> Exchange<'a> {
    /// Between a client and a server that have nothing to say to each other yet. `tell_touched` is called when
    /// statements that may change roles or functions were committed, before the client can know: whoever it then lets
    /// log in finds them.
    pub(super) fn new(tell_touched: &'a (dyn Fn(Touched) + Sync), mut pooled: Option<Pooled<'a>>) -> Self {
        if let Some(pooled) = &mut pooled {
            pooled.facts.unsettled.counts_anew();
        }
        // A gate may have stood in the middle of a transaction that changed some.
        let tags = Tags::ROLES | Tags::DO | Tags::CALL;
        let touched = Touched {
            roles: pooled.as_ref().is_some_and(|pooled| pooled.facts.tags.has(tags)),
            tags: Tags::default(),
        };
        let last_text = pooled.is_none().then(Box::default);
        Self {
            expected: Expected::default(),
            pooled,
            tell_touched,
            touched,
            commit_possible: false,
            last_text,
            commit_prepared: false,
            terminated: false,
            is_flushed: false,
            is_judging: false,
            fatal: None,
            used: false,
            hearing: Hearing::Begun,
            queries: 0,
            rate: None,
        }
    }

    /// A relay begins: it ends no sooner than the client has said something.
    pub(super) fn relay_begins(&mut self) {
        self.used = false;
    }

    /// Whether this is transaction pooling.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.is_some()
    }

    /// How often the client has asked something: see [`Passed`](super::roster::Passed).
    pub(super) fn queries(&self) -> u64 {
        self.queries
    }

    /// Whether the client has said Terminate.
    pub(super) fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// Whether the client has said Terminate, and nothing is on its way that it has not left behind.
    pub(super) fn is_over(&self) -> bool {
        self.terminated && (self.expected.front().is_none() || self.expected.is_copying())
    }

    /// Whether the message at the front waits for something: no more is read from the client.
    pub(super) fn is_held(&self) -> bool {
        self.pooled.as_ref().is_some_and(|pooled| pooled.facts.is_held)
    }

    /// Whether answers are to come that wait for nothing from the client.
    pub(super) fn is_answering(&self) -> bool {
        self.is_judging || (self.expected.front().is_some() && !self.expected.is_copying())
    }

    /// No more comes from the client: the server is told to send what it has to say to what it has. Where it reads COPY data,
    /// it fails on what broke the framing, and says how.
    fn flush_the_last(&mut self, lane: &mut Lane) {
        if lane.is_broken() && self.expected.is_copying() && !self.is_judging {
            self.is_judging = true;
            lane.pass_broken();
        }
        if lane.is_broken() && self.expected.is_unsynced() && self.is_answering() && !self.is_flushed {
            self.is_flushed = true;
            put(lane, b'H', &[]);
        }
    }

    /// Whether the server session may be given to another client as far as messages tell.
    pub(super) fn is_releasable(&self) -> bool {
        self.used && self.fatal.is_none() && self.expected.is_idle() && !self.expected.is_doubtful()
    }

    /// Whether pgwake's BEGIN has failed: the server ignores what came behind it.
    pub(super) fn has_begin_failed(&self) -> bool {
        self.pooled
            .as_ref()
            .is_some_and(|pooled| pooled.facts.begin_failed.is_some())
    }

    /// What the message at the front waits for; only once nothing else is owed.
    pub(super) fn gate(&self) -> Option<&Gate> {
        let pooled = self.pooled.as_ref()?;
        let expected = &self.expected;
        // One that has come to stand in a failed transaction is looked at again.
        let may_pass = expected.is_answered() && !expected.is_doubtful() && expected.status() != b'E';
        pooled.facts.gate.as_ref().filter(|_| may_pass)
    }

    /// The FATAL error that the server ended the session with.
    pub(super) fn fatal(&self) -> Option<&ErrorFields> {
        self.fatal.as_deref()
    }

    /// What it means for the client if the server is lost now.
    pub(super) fn loss(&self) -> Loss {
        let autocommit = self.expected.status() == b'I';
        let last_may_commit = || self.last_text.as_ref().is_some_and(|text| text.may_commit());
        let may_commit = || self.commit_possible || last_may_commit();
        if !self.expected.is_answered() && (autocommit || may_commit()) {
            return Loss::Unknown;
        }
        Loss::RolledBack
    }

    /// Notes a request; where the server ignores it, what it would have changed is undone.
    fn send(&mut self, kind: Kind, asker: Asker, effect: Effect) {
        let entry = Entry { kind, asker, effect };
        self.queries += u64::from(asker == Asker::Client && kind.is_query());
        if let Some(ignored) = self.expected.sent(entry) {
            self.undo(ignored);
        }
    }

    fn undo(&mut self, entry: Entry) {
        if let Some(pooled) = &mut self.pooled {
            pooled.statements.undo(entry.effect, &mut pooled.carried.prepared);
        }
    }
}

#[cfg(test)]
mod tests;
