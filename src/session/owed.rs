//! What is still owed between a client and its server: which requests have had their ReadyForQuery, whether a
//! transaction is open, whether a COPY swallows Syncs.
//!
//! It is told what passes in each direction and never sees SQL but for the first words that may end a
//! transaction (<https://www.postgresql.org/docs/current/protocol-flow.html>). Who asks: the relay, to know
//! when a session is idle, and the turn, to say the truth when a server is lost.

use std::collections::VecDeque;

use crate::wire::reply::{ErrorFields, error_fields};
use crate::wire::scan::{Interest, Observer, PREFIX_BYTES};

/// Most requests and ends of COPYs without their answer; beyond, no more is read from the client until the server has caught up.
const MARKS_MAX: usize = 65_536;

/// A request that the server answers with ReadyForQuery, or what ends a COPY before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Query or FunctionCall.
    Simple,
    /// Sync.
    Sync,
    /// CopyDone or CopyFail.
    CopyEnd,
}

/// Whether what is on its way may end a transaction for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// No.
    No,
    /// The words say so, or cannot be seen.
    Possible,
}

/// The state of one exchange.
#[derive(Debug)]
pub(super) struct Owed {
    marks: VecDeque<Mark>,
    /// Those of them that are answered with ReadyForQuery.
    requests: usize,
    /// The request at the front has read COPY data.
    copied: bool,
    /// `I`, `T` or `E`, as the last ReadyForQuery said.
    status: u8,
    /// Extended messages were sent after the last Sync.
    unsynced: bool,
    /// The server reads COPY data and ignores Sync until CopyDone or CopyFail.
    copying: bool,
    commit: Commit,
    /// A statement that may commit was prepared under a name: executing it shows no words.
    commit_prepared: bool,
    terminated: bool,
    fatal: Option<ErrorFields>,
    roles_touched: bool,
}

/// What a lost server means for the client's last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing was on its way, or only work inside an open transaction, which is rolled back.
    RolledBack,
    /// A COMMIT or an autocommit statement was on its way.
    Unknown,
}

impl Default for Owed {
    /// After the server's first ReadyForQuery.
    fn default() -> Self {
        Self {
            marks: VecDeque::new(),
            requests: 0,
            copied: false,
            status: b'I',
            unsynced: false,
            copying: false,
            commit: Commit::No,
            commit_prepared: false,
            terminated: false,
            fatal: None,
            roles_touched: false,
        }
    }
}

impl Owed {
    /// Whether the server has answered everything and no transaction is open.
    pub(super) fn is_idle(&self) -> bool {
        self.status == b'I' && !self.is_running()
    }

    /// Whether the server is working on something.
    pub(super) fn is_running(&self) -> bool {
        self.unsynced || self.requests > 0
    }

    /// Whether so much is unanswered that no more should be read from the client.
    pub(super) fn is_full(&self) -> bool {
        self.marks.len() >= MARKS_MAX
    }

    /// Whether the client has said Terminate.
    pub(super) fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// The FATAL error that the server ended the session with.
    pub(super) fn fatal(&self) -> Option<&ErrorFields> {
        self.fatal.as_ref()
    }

    /// Whether statements that may change roles have been committed since the last call.
    fn take_roles_touched(&mut self) -> bool {
        self.status == b'I' && std::mem::take(&mut self.roles_touched)
    }

    /// What it means for the client if the server is lost now.
    pub(super) fn loss(&self) -> Loss {
        let autocommit = self.status == b'I';
        if self.is_running() && (autocommit || self.commit == Commit::Possible) {
            return Loss::Unknown;
        }
        Loss::RolledBack
    }

    fn request(&mut self, mark: Mark) {
        self.marks.push_back(mark);
        self.requests += 1;
    }

    fn ready(&mut self, status: u8) {
        // What ended COPYs before this Sync.
        while self.marks.front() == Some(&Mark::CopyEnd) {
            self.marks.pop_front();
        }
        if let Some(mark) = self.marks.pop_front() {
            self.requests -= 1;
            if mark == Mark::Simple && self.copied && self.marks.front() == Some(&Mark::CopyEnd) {
                self.marks.pop_front();
            }
        }
        self.copied = false;
        self.status = status;
        self.copying = false;
        if !self.is_running() {
            self.commit = Commit::No;
            self.marks.clear();
        }
    }

    /// The server begins to read COPY data: it ignores every Sync up to CopyDone or CopyFail, also one that is
    /// already on its way (libpq sends one right behind Execute). Only the marks of the request at the front are
    /// looked at, each once.
    fn copy_begins(&mut self) {
        let at = usize::from(self.marks.front() == Some(&Mark::Simple));
        // A request may hold several COPYs: the end of the one before is past.
        if self.copied && self.marks.get(at) == Some(&Mark::CopyEnd) {
            self.marks.remove(at);
        }
        self.copied = true;
        while self.marks.get(at) == Some(&Mark::Sync) {
            self.marks.remove(at);
            self.requests -= 1;
        }
        self.copying = self.marks.get(at) != Some(&Mark::CopyEnd);
        // An Execute whose Sync was just ignored is still without its answer.
        self.unsynced |= self.requests == 0;
    }
}

/// Sees what the client sends.
pub(super) struct FromClient<'a>(pub(super) &'a mut Owed);

impl Observer for FromClient<'_> {
    fn begins(&mut self, tag: u8) -> Interest {
        let owed = &mut *self.0;
        match tag {
            b'Q' => {
                owed.request(Mark::Simple);
                return Interest::Prefix;
            }
            b'F' => owed.request(Mark::Simple),
            b'S' if !owed.copying => {
                owed.request(Mark::Sync);
                owed.unsynced = false;
            }
            b'c' | b'f' if owed.is_running() => {
                owed.marks.push_back(Mark::CopyEnd);
                owed.copying = false;
            }
            b'P' => {
                owed.unsynced = true;
                return Interest::Prefix;
            }
            b'E' => {
                owed.unsynced = true;
                if owed.commit_prepared {
                    owed.commit = Commit::Possible;
                }
            }
            b'B' | b'C' | b'D' | b'H' => owed.unsynced = true,
            b'X' => owed.terminated = true,
            _ => (),
        }
        Interest::Pass
    }

    fn prefix(&mut self, tag: u8, prefix: &[u8]) {
        if !may_commit(prefix) {
            return;
        }
        self.0.commit = Commit::Possible;
        let is_named = prefix.first().is_some_and(|byte| *byte != 0);
        self.0.commit_prepared |= tag == b'P' && is_named;
    }

    fn allows(&self, tag: u8) -> bool {
        b"QPBEDSCHFXdcf".contains(&tag)
    }
}

/// Sees what the server sends.
pub(super) struct FromServer<'a> {
    pub(super) owed: &'a mut Owed,
    /// Called when statements that may change roles were committed, before the client can know: whoever it then
    /// lets log in finds them.
    pub(super) roles_touched: &'a (dyn Fn() + Sync),
}

impl Observer for FromServer<'_> {
    fn begins(&mut self, tag: u8) -> Interest {
        match tag {
            b'Z' | b'C' | b'E' => return Interest::Prefix,
            b'G' | b'W' => self.owed.copy_begins(),
            _ => (),
        }
        Interest::Pass
    }

    fn prefix(&mut self, tag: u8, prefix: &[u8]) {
        match tag {
            b'Z' => {
                self.owed.ready(prefix.first().copied().unwrap_or(b'E'));
                if self.owed.take_roles_touched() {
                    (self.roles_touched)();
                }
            }
            b'C' => self.owed.roles_touched |= touches_roles(prefix),
            _ => {
                self.owed.copying = false;
                let fields = error_fields(prefix);
                if fields.ends_session {
                    self.owed.fatal = Some(fields);
                }
            }
        }
    }

    fn allows(&self, tag: u8) -> bool {
        // A server's message of a kind that is not known yet is passed on: the client asked for it.
        tag.is_ascii_graphic()
    }
}

/// Whether a statement's first bytes hold a word that ends a transaction for good, or the statement is too long
/// to see all of it. (A false alarm costs a client no more than the caution that 08007 asks for.)
fn may_commit(prefix: &[u8]) -> bool {
    let has = |word: &[u8]| {
        prefix
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word))
    };
    prefix.len() == PREFIX_BYTES || has(b"commit") || has(b"end") || has(b"prepare transaction")
}

/// Whether a command tag may stand for a change of roles. DO and CALL hide what they run.
fn touches_roles(tag: &[u8]) -> bool {
    let tags: [&[u8]; 5] = [b"CREATE ROLE", b"ALTER ROLE", b"DROP ROLE", b"DO\0", b"CALL"];
    tags.iter().any(|known| tag.starts_with(known))
}

#[cfg(test)]
mod tests;
