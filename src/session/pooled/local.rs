//! What pgwake answers itself while a client has no server session: what needs none, a transaction that has not done
//! anything yet, and one that failed before it had a session.
//!
//! ```text
//!            BEGIN                       first statement: the server gets BEGIN and the statement
//!   None ───────────▶ Begun ──────────────────────────────────────────────▶ (a turn)
//!    ▲ ▲                │ no session can be had
//!    │ └── COMMIT,      ▼
//!    │     ROLLBACK  Failed: 25P02 for everything
//!    └──── COMMIT, ROLLBACK (answered ROLLBACK)
//! ```
//!
//! A transaction that failed here never becomes None by itself: the rest of a pipelined transaction would commit.
//! It sends nothing and waits for nobody; `pooled` does.

use bytes::BytesMut;
use tokio::time::Instant;

use super::words::{Simple, simple};
use crate::ids::SessionId;
use crate::session::lane::Lane;
use crate::session::profile::Profile;
use crate::session::statements::{Prepared, Seen, Statements, Texts};
use crate::session::{buffers::SMALL_BYTES, error::SessionError};
use crate::wire::extended::{self, Object};
use crate::wire::frame::{Front, HEADER_BYTES};
use crate::wire::{refuse, say};
use std::sync::Arc;

/// What is seen of a message here; a longer one is not for pgwake to answer.
const SEEN_MAX: usize = SMALL_BYTES - HEADER_BYTES;
/// A client with so many names gives no more of them here; as many as it may have elsewhere, unless configured.
const NAMES_MAX: usize = 1000;

/// A client without a server session.
#[derive(Debug)]
pub(super) struct Local {
    transaction: Transaction,
    /// After an error in an extended message: everything is ignored up to Sync.
    skipping: bool,
    /// The portal that the end of a failed transaction is bound to.
    end_portal: Option<Box<[u8]>>,
    session: SessionId,
    /// What its client asked here since that was last taken.
    queries: u32,
}

/// The transaction that the client believes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    /// None is open.
    None,
    /// It has had the answer to BEGIN, and no server knows of it.
    Begun(Instant),
    /// It had no server session for its first statement.
    Failed(Instant),
}

/// How far the client's messages could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// More must come.
    All,
    /// The message at the front is for a server.
    UpToServers,
    /// The client said Terminate.
    UpToTerminate,
}

impl Local {
    /// A client that has just been greeted.
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            transaction: Transaction::None,
            skipping: false,
            end_portal: None,
            session,
            queries: 0,
        }
    }

    /// Since when the client believes in a transaction that no server knows of.
    pub(super) fn in_transaction_since(&self) -> Option<Instant> {
        match self.transaction {
            Transaction::None => None,
            Transaction::Begun(since) | Transaction::Failed(since) => Some(since),
        }
    }

    /// Whether the server session is to begin with the BEGIN that was answered here, and since when the client believes in
    /// it. From then on the server knows.
    pub(super) fn take_begun(&mut self) -> Option<Instant> {
        let Transaction::Begun(since) = self.transaction else {
            return None;
        };
        self.transaction = Transaction::None;
        Some(since)
    }

    /// No server knows of it after all.
    pub(super) fn begun(&mut self, since: Instant) {
        self.transaction = Transaction::Begun(since);
    }

    /// How often its client has asked something here since the last call: see [`Passed`](crate::session::roster::Passed).
    pub(super) fn take_queries(&mut self) -> u64 {
        std::mem::take(&mut self.queries).into()
    }

    /// The transaction fails that the server was to begin.
    pub(super) fn fail_begun(&mut self) {
        self.end_portal = None;
        self.transaction = Transaction::Failed(Instant::now());
    }

    fn status(&self) -> u8 {
        match self.transaction {
            Transaction::None => b'I',
            Transaction::Begun(_) => b'T',
            Transaction::Failed(_) => b'E',
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.transaction, Transaction::Failed(_))
    }
}

/// The client's statements, and the texts of its endpoint.
pub(super) struct Known<'a> {
    pub(super) statements: &'a mut Statements,
    pub(super) texts: &'a Arc<Texts>,
    pub(super) profile: &'a Arc<Profile>,
}

impl Local {
    /// Answers what it can of what has come.
    pub(super) fn answer(&mut self, up: &mut Lane, known: &mut Known<'_>, out: &mut BytesMut) -> Answered {
        loop {
            let Some(front) = up.front(|front| front.body_bytes.min(SEEN_MAX)) else {
                return Answered::All;
            };
            if front.tag == b'X' {
                return Answered::UpToTerminate;
            }
            if !self.answer_one(front, up.body(front), known, out) {
                return Answered::UpToServers;
            }
            self.skip(up, front);
        }
    }

    fn skip(&mut self, up: &mut Lane, front: Front) {
        let is_query = matches!(front.tag, b'Q' | b'E' | b'F');
        self.queries = self.queries.saturating_add(u32::from(is_query));
        up.skip(front);
    }

    fn answer_one(&mut self, front: Front, body: &[u8], known: &mut Known<'_>, out: &mut BytesMut) -> bool {
        if front.tag == b'S' {
            self.skipping = false;
        } else if self.skipping {
            return true;
        }
        match front.tag {
            b'S' | b'H' | b'C' if is_for_postgres(front, body) => return self.refuse_misshapen(front, out),
            b'S' => say::ready(self.status(), out),
            // Nothing is to be pushed out, and COPY data comes late: Postgres ignores it, too.
            b'H' | b'd' | b'c' | b'f' => (),
            b'C' => {
                match extended::object(body) {
                    // SQL has prepared it: the server has it.
                    Object::Statement(name)
                        if known.profile.has_statement(name) || known.statements.is_aliased(name) =>
                    {
                        return false;
                    }
                    Object::Statement(b"") => known.statements.drop_unnamed_for_good(),
                    Object::Statement(name) => drop(known.statements.unname(name)),
                    Object::Portal => (),
                }
                out.extend_from_slice(say::CLOSE_COMPLETE);
            }
            b'Q' => return self.query(front, body, known, out),
            _ if self.has_failed() => self.answer_failed(front, body, known, out),
            _ => return false,
        }
        true
    }

    /// A message that is not laid out as it should be. `false`: Postgres says so, where it knows of the transaction.
    fn refuse_misshapen(&mut self, front: Front, out: &mut BytesMut) -> bool {
        if self.has_failed() {
            self.refuse_front(front, &SessionError::BadMessage, out);
        }
        self.has_failed()
    }

    fn query(&mut self, front: Front, body: &[u8], known: &mut Known<'_>, out: &mut BytesMut) -> bool {
        let text = if body.len() == front.body_bytes {
            body
        } else {
            b"?"
        };
        let now = || Instant::now();
        let means = simple(text);
        if means == Simple::Other && !self.has_failed() {
            return false;
        }
        // Few texts are looked at so closely.
        if body.len() == front.body_bytes && !extended::is_well_formed(b'Q', body) {
            return self.refuse_misshapen(front, out);
        }
        match (means, self.transaction) {
            (Simple::Empty, _) => out.extend_from_slice(say::EMPTY_QUERY),
            (Simple::Begin(tag), Transaction::None) => {
                self.transaction = Transaction::Begun(now());
                say::command_complete(tag, out);
            }
            (Simple::Commit | Simple::Rollback, Transaction::Failed(_)) => {
                self.transaction = Transaction::None;
                say::command_complete("ROLLBACK", out);
            }
            (end @ (Simple::Commit | Simple::Rollback), Transaction::Begun(_)) => {
                self.transaction = Transaction::None;
                let tag = if end == Simple::Commit {
                    "COMMIT"
                } else {
                    "ROLLBACK"
                };
                say::command_complete(tag, out);
            }
            (_, Transaction::Failed(_)) => self.refuse_in_failed(out),
            _ => return false,
        }
        known.statements.drop_unnamed_for_good();
        say::ready(self.status(), out);
        true
    }

    /// Extended messages in a transaction that has failed: only its end is let through.
    fn answer_failed(&mut self, front: Front, body: &[u8], known: &mut Known<'_>, out: &mut BytesMut) {
        if body.len() == front.body_bytes && !extended::is_well_formed(front.tag, body) {
            return self.refuse_front(front, &SessionError::BadMessage, out);
        }
        let ends = match front.tag {
            b'P' => parse_end(body, known).then_some(say::PARSE_COMPLETE),
            b'B' => extended::bind_names(body)
                .ok()
                .filter(|names| is_end(names.statement, known))
                .map(|names| {
                    self.end_portal = Some(names.portal.into());
                    say::BIND_COMPLETE
                }),
            b'D' => match extended::object(body) {
                Object::Statement(name) if is_end(name, known) => {
                    out.extend_from_slice(say::NO_PARAMETERS);
                    Some(say::NO_DATA)
                }
                Object::Portal => Some(say::NO_DATA),
                Object::Statement(_) => None,
            },
            // Any other portal does not exist: what made it has failed.
            b'E' if self.end_portal.is_some()
                && self.end_portal.as_deref() == body.split(|byte| *byte == 0).next() =>
            {
                self.end_portal = None;
                self.transaction = Transaction::None;
                say::command_complete("ROLLBACK", out);
                Some(&b""[..])
            }
            _ => None,
        };
        match ends {
            Some(message) => out.extend_from_slice(message),
            None => self.refuse_front(front, &SessionError::InFailedTransaction, out),
        }
    }

    fn refuse_front(&mut self, front: Front, error: &SessionError, out: &mut BytesMut) {
        refuse::error(error, self.session, out);
        self.go_on(front, out);
    }

    /// Behind an error: up to the next Sync everything is ignored, but where the message ends with ReadyForQuery itself.
    fn go_on(&mut self, front: Front, out: &mut BytesMut) {
        if matches!(front.tag, b'Q' | b'F' | b'S') {
            say::ready(self.status(), out);
        } else {
            self.skipping = true;
        }
    }

    fn refuse_in_failed(&self, out: &mut BytesMut) {
        refuse::error(&SessionError::InFailedTransaction, self.session, out);
    }

    /// The message at the front, which is for a server, cannot be answered: the client reads `error`. A transaction
    /// that it begins has failed.
    pub(super) fn refuse(&mut self, error: &[u8], up: &mut Lane, out: &mut BytesMut) {
        if matches!(self.transaction, Transaction::Begun(_)) {
            self.fail_begun();
        }
        let Some(front) = up.front(|_| 0) else {
            return;
        };
        out.extend_from_slice(error);
        self.go_on(front, out);
        self.skip(up, front);
    }

    /// The same for requests that a server has ignored, because the BEGIN in front of them failed: `simple` says for
    /// each in its order whether it ends with its own ReadyForQuery.
    pub(super) fn refuse_sent(
        &mut self,
        error: &[u8],
        requests: impl Iterator<Item = Sent>,
        out: &mut BytesMut,
    ) {
        self.fail_begun();
        let mut error = Some(error);
        for request in requests {
            if request == Sent::Sync {
                self.skipping = false;
                say::ready(self.status(), out);
            } else if !self.skipping {
                match error.take() {
                    Some(error) => out.extend_from_slice(error),
                    None => self.refuse_in_failed(out),
                }
                if request == Sent::Simple {
                    say::ready(self.status(), out);
                } else {
                    self.skipping = true;
                }
            }
        }
    }
}

/// A request that a server has ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Simple,
    Extended,
    Sync,
}

/// Whether Postgres has a word about it that pgwake does not know: a message that is not laid out as it should be, or a
/// name that may not be text in the client's encoding.
fn is_for_postgres(front: Front, body: &[u8]) -> bool {
    body.len() < front.body_bytes || !body.is_ascii() || !extended::is_well_formed(front.tag, body)
}

/// A Parse of a statement that ends a transaction: the name stands for it.
fn parse_end(body: &[u8], known: &mut Known<'_>) -> bool {
    let Some(parse) = extended::parse(body) else {
        return false;
    };
    if !ends_transaction(parse.query) {
        return false;
    }
    let is_new = known.statements.get(parse.name).is_none() && known.statements.len() < NAMES_MAX;
    if !parse.name.is_empty() && !is_new {
        return false;
    }
    if parse.name.is_empty() {
        known.statements.replace_unnamed(
            parse.behind_name,
            Seen::default(),
            known.profile,
            &mut Prepared::default(),
        );
    } else {
        let statement = known
            .texts
            .statement(parse.behind_name, known.profile, Seen::default());
        known.statements.name(parse.name, statement);
    }
    true
}

fn is_end(name: &[u8], known: &Known<'_>) -> bool {
    let behind_name = if name.is_empty() {
        known.statements.unnamed().map(|unnamed| &unnamed.behind_name[..])
    } else {
        known
            .statements
            .get(name)
            .map(|statement| &*statement.behind_name)
    };
    let text = behind_name.and_then(|behind_name| behind_name.split(|byte| *byte == 0).next());
    text.is_some_and(ends_transaction)
}

fn ends_transaction(text: &[u8]) -> bool {
    matches!(simple(text), Simple::Commit | Simple::Rollback)
}
