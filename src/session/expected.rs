//! What the server still owes: one entry per request that it answers, in the order in which it was sent.
//!
//! From it the relay knows whose reply comes next, which replies to keep from the client because it did not ask
//! for them, when everything is answered, and what an error makes the server ignore
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). It sees tags, never SQL, and changes nothing:
//! what a request changes is its entry's [`Effect`], which comes out again where the server ignored it.

mod copying;
mod deciding;
mod entries;
mod queue;

use super::statements::{Effect, Name};
use queue::Queue;

/// Most requests without their answer; beyond, no more is read from the client until the server has caught up.
/// (A server answers a pipeline without Sync once its own buffer of 8 KiB is full: far fewer messages.)
const ENTRIES_MAX: usize = 65_536;

/// What was sent, by how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Query or FunctionCall: everything up to ReadyForQuery.
    Simple,
    /// ParseComplete.
    Parse,
    /// BindComplete.
    Bind,
    /// Two messages: ParameterDescription, then as for a portal.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// CopyDone or CopyFail: nothing of its own; it ends a COPY.
    CopyEnd,
    /// Was not sent: a ParseComplete that pgwake says itself when its turn has come.
    SayParsed,
    /// CloseComplete, for what does not exist: no ReadyForQuery that comes before it answers what was sent behind it.
    Fence,
}

impl Kind {
    /// Whether it asks the server to run something.
    pub(super) fn is_query(self) -> bool {
        matches!(self, Self::Simple | Self::Execute)
    }

    fn ends_with_ready(self) -> bool {
        matches!(self, Self::Simple | Self::Sync)
    }
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// The client gets the answer.
    Client,
    /// pgwake did, on the client's way; the answer is kept from the client.
    Pgwake,
}

/// A request without its answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) asker: Asker,
    pub(super) effect: Effect,
}

/// Everything that is owed, and where the exchange stands.
#[derive(Debug)]
pub(super) struct Expected {
    entries: Queue,
    /// `I`, `T` or `E`, as the last ReadyForQuery said.
    status: u8,
    /// Extended messages were sent after the last Sync: they may have opened a transaction that nothing announces.
    unsynced: bool,
    /// After an error: the server ignores everything up to the next Sync, which has not been sent yet.
    skipping: bool,
    /// Something has been sent that it ignores because of that.
    skipped: bool,
    /// The server reads COPY data, and ignores Sync and Flush until CopyDone or CopyFail.
    copying: bool,
    /// The request at the front has read COPY data before.
    copied: bool,
    /// What was sent into a COPY that could not take it.
    lost: Option<Box<Entry>>,
    /// The COPY of the request at the front ignores a Sync, if it lives to read it.
    copy_ignores: bool,
    /// A COPY failed, perhaps before it had read a Sync: then that one is answered after all.
    is_doubtful: bool,
}

/// What becomes of a message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// The client gets it.
    Forward,
    /// The client did not ask for it.
    Swallow,
}

impl Default for Expected {
    /// After the server's first ReadyForQuery.
    fn default() -> Self {
        Self {
            entries: Queue::default(),
            status: b'I',
            unsynced: false,
            skipping: false,
            skipped: false,
            copying: false,
            copied: false,
            lost: None,
            copy_ignores: false,
            is_doubtful: false,
        }
    }
}

impl Expected {
    /// `I`, `T` or `E`, as the last ReadyForQuery said.
    pub(super) fn status(&self) -> u8 {
        self.status
    }

    /// Whether a ReadyForQuery is on its way.
    pub(super) fn has_ready(&self) -> bool {
        self.entries.has_ready()
    }

    /// Whether the server has answered everything, and nothing was sent behind the last Sync.
    pub(super) fn is_answered(&self) -> bool {
        self.entries.is_empty() && !self.unsynced
    }

    /// The number of the next request; see [`Self::first`].
    pub(super) fn next(&self) -> u64 {
        self.entries.next()
    }

    /// The number of the first request behind the last one that ends with ReadyForQuery, whether that is answered or not.
    pub(super) fn since_ready(&self) -> u64 {
        self.entries.since_ready()
    }

    /// The number of the first request that has not been answered: those of all before it are smaller.
    pub(super) fn first(&self) -> u64 {
        self.entries.first()
    }

    /// Whether everything is answered and no transaction is open.
    pub(super) fn is_idle(&self) -> bool {
        self.status == b'I' && self.is_answered()
    }

    /// Whether it is known that the transaction has not failed, or that the server will ignore what is sent now if it
    /// has.
    pub(super) fn is_certain(&self) -> bool {
        self.status != b'E' && !self.entries.has_ready()
    }

    /// Whether something that is on its way decides what a name stands for.
    pub(super) fn is_undecided(&self, name: &[u8]) -> bool {
        // A COPY takes any message that may come now for an error, whatever it says.
        !self.copying && self.entries.is_undecided(name)
    }

    /// Whether something that is on its way may decide what some name stands for.
    pub(super) fn is_any_undecided(&self) -> bool {
        !self.copying && self.entries.is_any_undecided()
    }

    /// Whether something that is on its way decides if a statement is on the session.
    pub(super) fn is_statement_undecided(&self, id: u64) -> bool {
        !self.copying && self.entries.is_statement_undecided(id)
    }

    /// Whether something that is on its way decides what the unnamed statement is.
    pub(super) fn is_unnamed_undecided(&self) -> bool {
        !self.copying && self.entries.is_unnamed_undecided()
    }

    /// pgwake's own BEGIN is on its way.
    pub(super) fn begins(&mut self) {
        self.status = b'T';
    }

    /// Whether a transaction has failed, and nothing is on its way that may end it.
    pub(super) fn has_failed(&self) -> bool {
        self.status == b'E' && self.entries.is_empty()
    }

    /// Whether the server ignores what is sent now, up to a Sync.
    pub(super) fn ignores(&self) -> bool {
        self.skipping || self.copying
    }

    /// pgwake asks something in front of a message that stands behind the last Sync, and waits for the answer.
    pub(super) fn asks(&mut self) {
        self.unsynced = true;
    }

    /// Whether something was sent behind the last Sync.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Whether there may be one ReadyForQuery too many, and a [`Kind::Fence`] may be sent that it cannot pass.
    pub(super) fn wants_fence(&self) -> bool {
        self.is_doubtful && !self.unsynced && !self.copying && !self.entries.may_skip()
    }

    /// Whether nobody knows if there is one ReadyForQuery too many.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Whether the server reads COPY data.
    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }

    /// Whether so much is unanswered that no more should be read from the client.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// The request whose answer comes next.
    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Notes a request that is sent now. Gives it back where the server ignores it: then its effect is to be undone.
    pub(super) fn sent(&mut self, entry: Entry) -> Option<Entry> {
        let kind = entry.kind;
        if self.copying && entry.asker == Asker::Client {
            return self.sent_into_copy(entry);
        }
        match kind {
            Kind::Sync => {
                self.unsynced = false;
                self.skipping = false;
            }
            Kind::CopyEnd if self.entries.is_empty() => return None,
            // It ends what was begun without a Sync, as a Sync does, but where it is ignored.
            Kind::Simple => self.unsynced &= self.skipping,
            Kind::CopyEnd => (),
            Kind::Fence => self.is_doubtful = false,
            // What pgwake adds stands in front of a message of the client's, which says how it is.
            _ => self.unsynced |= entry.asker == Asker::Client,
        }
        if self.skipping {
            self.skipped = true;
            return Some(entry);
        }
        self.entries.push(entry);
        None
    }

    /// What was sent last, a Query that came in pieces, turns out to take the meaning of any name.
    pub(super) fn takes_any_name(&mut self) {
        if !self.skipping {
            self.entries.takes_any_name();
        }
    }

    /// Whether pgwake itself has something to say now.
    pub(super) fn is_to_say(&self) -> bool {
        self.front().is_some_and(|entry| entry.kind == Kind::SayParsed)
    }

    /// What pgwake itself has to say now, before anything that comes from the server.
    pub(super) fn take_said(&mut self) -> Option<Entry> {
        let is_ours = self.front()?.kind == Kind::SayParsed;
        if is_ours { self.pop() } else { None }
    }

    /// What a COPY has swallowed since the last call: its effect is to be undone.
    pub(super) fn take_lost(&mut self) -> Option<Box<Entry>> {
        self.lost.take()
    }

    /// A message has come that may end the front's answer. Gives the entry that is answered by it.
    pub(super) fn received(&mut self, tag: u8) -> (Passing, Option<Entry>) {
        if matches!(tag, b'N' | b'S' | b'A') {
            return (Passing::Forward, None);
        }
        let Some(front) = self.front() else {
            return (Passing::Forward, None);
        };
        let passing = match front.asker {
            Asker::Client => Passing::Forward,
            // Of requests that the server has not ignored after all.
            Asker::Pgwake if front.kind == Kind::Fence && tag != b'3' => Passing::Forward,
            Asker::Pgwake => Passing::Swallow,
        };
        let ends = match (front.kind, tag) {
            (Kind::Parse, b'1') | (Kind::Bind, b'2') => true,
            (Kind::Close | Kind::Fence, b'3') => true,
            (Kind::DescribePortal | Kind::DescribeStatement, b'T' | b'n') => true,
            (Kind::Execute, b'C' | b'I' | b's') => true,
            (Kind::Simple | Kind::Execute, b'G' | b'W') => {
                self.copy_begins();
                false
            }
            _ => false,
        };
        let answered = if ends { self.pop() } else { None };
        // Nothing else is done in a failed transaction, and no ReadyForQuery says so before the next Sync.
        if tag == b'C'
            && self.status == b'E'
            && matches!(&answered, Some(entry) if entry.kind == Kind::Execute)
        {
            self.status = b'I';
        }
        (passing, answered)
    }

    /// ReadyForQuery has come.
    pub(super) fn ready(&mut self, status: u8) -> Passing {
        self.status = status;
        self.copying = false;
        // Of a Sync that a COPY did not read.
        if self.skipping && self.is_doubtful {
            (self.skipping, self.unsynced) = (false, self.skipped);
        }
        if self.front().is_some_and(|entry| entry.kind == Kind::Fence) {
            return Passing::Forward;
        }
        let mut passing = Passing::Forward;
        while let Some(entry) = self.pop() {
            if entry.kind.ends_with_ready() {
                if entry.asker == Asker::Pgwake {
                    passing = Passing::Swallow;
                }
                break;
            }
        }
        passing
    }

    /// An ErrorResponse has come. Gives what the server ignores because of it, the latest first, the request that
    /// failed at the end: their effects are to be undone.
    pub(super) fn failed(&mut self) -> Vec<Entry> {
        self.copying = false;
        self.is_doubtful |= std::mem::take(&mut self.copy_ignores);
        let Some(front) = self.front() else {
            return Vec::new();
        };
        if front.kind.ends_with_ready() {
            return Vec::new();
        }
        let (mut ignored, has_sync) = self.entries.take_to_sync();
        self.skipping = !has_sync;
        (self.skipped, self.copied, self.unsynced) = (false, false, self.unsynced || self.skipping);
        ignored.reverse();
        ignored
    }

    /// The request at the front has taken the meaning of the next name that it speaks of.
    pub(super) fn take_deallocated(&mut self) -> Option<Name> {
        self.entries.take_deallocated()
    }

    /// What is on its way, in order.
    pub(super) fn effects(&mut self) -> impl Iterator<Item = &mut Effect> {
        self.entries.effects()
    }

    /// Everything that is owed, in order: the relay is over.
    pub(super) fn take_owed(&mut self) -> Vec<(Asker, Kind)> {
        self.entries.take_owed()
    }

    /// A transaction was open when the last relay ended.
    pub(super) fn resume(&mut self, status: u8) {
        self.status = status;
    }

    /// What all that is owed would change, the latest first: the server ignores it.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        self.entries.take_effects()
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop()?;
        (self.copied, self.copy_ignores) = (false, false);
        while self.entries.is(0, Kind::CopyEnd) {
            self.entries.pop();
        }
        Some(entry)
    }
}
