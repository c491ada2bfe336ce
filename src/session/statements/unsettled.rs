//! Statements that were prepared while nobody knew under which settings: behind a SET of the same turn.
//!
//! Postgres says what the settings that literals depend on most have become, in front of ReadyForQuery; the others it
//! tells behind the turn, when it is asked. What a statement was prepared under is put together of both then. It
//! knows no session: `exchange` notes, and `pooled` settles.

use std::{ops::Range, sync::Arc};

use super::{Name, Statements};
use crate::session::profile::Profile;
use crate::session::reported::Reported;
use crate::session::words::Words;

/// What a turn has prepared so.
#[derive(Debug, Default)]
pub(in crate::session) struct Unsettled {
    statements: Vec<One>,
    /// What was reported behind each PREPARE of SQL, as far as it differs.
    sql: Vec<Reported>,
    /// One has been answered since the last ReadyForQuery.
    has_prepared: bool,
    /// One came in a text that may set something, too, or between the same Syncs.
    is_mixed: bool,
    /// The last request that may be such a PREPARE, or bind one.
    sql_bound: Option<u64>,
    /// The same of what sets something.
    set: Option<u64>,
    /// The same of what sets something for a transaction alone.
    set_locally: Option<u64>,
    /// The first request that the last ReadyForQuery has left without its answer.
    first: u64,
}

#[derive(Debug)]
struct One {
    name: Name,
    /// The statement's, or the unnamed one's serial.
    id: u64,
    then: Then,
    /// What holds where none of what ran in front of it set something, unseen.
    or: Option<Then>,
}

/// What was reported when a statement was prepared.
#[derive(Debug)]
enum Then {
    /// This.
    Reported(Reported),
    /// What the first ReadyForQuery behind the answer to this request will find.
    Behind(u64),
    /// Nobody was told: it was set, and set again or undone, before the next ReadyForQuery.
    Unknown,
}

/// Where a statement is prepared.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Place {
    /// The request that does.
    pub(in crate::session) request: u64,
    /// The first one behind the last that ends with ReadyForQuery.
    pub(in crate::session) since: u64,
    /// What has run before in the turn may have set something, unseen.
    pub(in crate::session) is_careful: bool,
}

/// What a turn's statements of SQL's PREPARE were prepared under.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::session) enum SqlPrepared {
    /// What is set behind the turn.
    #[default]
    AsNow,
    /// While this was reported.
    Then(Reported),
    /// Nobody knows.
    Unknown,
}

impl Unsettled {
    /// Whether nothing was prepared so.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.sql.is_empty()
    }

    /// A name stands for a statement that is being prepared; this was reported last.
    pub(in crate::session) fn note(&mut self, name: Name, id: u64, place: Place, now: &Reported) {
        self.statements.retain(|one| one.name != name);
        let is_set = self.set.is_some_and(|set| set >= place.since);
        let before = match place.since {
            since if self.first >= since => Then::Reported(now.clone()),
            since => Then::Behind(since - 1),
        };
        let (then, or) = match (is_set, place.is_careful) {
            (true, _) => (Then::Behind(place.request), None),
            (false, true) => (Then::Behind(place.request), Some(before)),
            (false, false) => (before, None),
        };
        self.statements.push(One { name, id, then, or });
    }

    /// No name stands for this statement any more. There may be many such in one long transaction.
    pub(in crate::session) fn gone(&mut self, id: u64) {
        self.statements.retain(|one| one.id != id);
    }

    /// No name stands for anything any more.
    pub(in crate::session) fn forget_named(&mut self) {
        self.statements.retain(|one| one.name.is_empty());
    }

    /// The server has answered a PREPARE of SQL.
    pub(in crate::session) fn prepared(&mut self) {
        self.has_prepared = true;
    }

    /// A PREPARE of SQL comes in a text that may set something, too.
    pub(in crate::session) fn mixes(&mut self) {
        self.is_mixed = true;
    }

    /// Requests are counted from 0 again; none has no answer.
    pub(in crate::session) fn counts_anew(&mut self) {
        (self.first, self.sql_bound, self.set, self.set_locally) = (0, None, None, None);
    }

    /// This request is going to run a PREPARE of SQL.
    pub(in crate::session) fn prepares(&mut self, request: u64) {
        self.sql_bound = Some(request);
    }

    /// This request is going to set something, behind those from `since` on without a ReadyForQuery between them.
    pub(in crate::session) fn sets(&mut self, request: u64, since: u64) {
        self.set = Some(request);
        self.is_mixed |= self.sql_bound.is_some_and(|request| request >= since);
        self.is_lost(since..request);
    }

    /// The same until its transaction ends.
    pub(in crate::session) fn sets_locally(&mut self, request: u64) {
        self.set_locally = Some(request);
    }

    /// What was set behind the last ReadyForQuery is undone in front of this request.
    pub(in crate::session) fn undone(&mut self, request: u64) {
        if self.set.is_some_and(|set| set >= self.first) {
            self.is_mixed |= self.has_prepared;
            self.is_lost(self.first..request);
        }
    }

    /// Nobody is told what was set when these requests were answered.
    fn is_lost(&mut self, requests: Range<u64>) {
        for one in &mut self.statements {
            if matches!(one.then, Then::Behind(request) if requests.contains(&request)) {
                one.then = one.or.take().unwrap_or(Then::Unknown);
            }
        }
    }

    /// An error is the answer to this request. It undoes what was set since the last ReadyForQuery, which nobody was told;
    /// where nothing was, this is what was set then.
    pub(in crate::session) fn failed(&mut self, then: &Reported, request: u64) {
        if self.set.is_none_or(|set| set < self.first) {
            return self.tell(then, request);
        }
        self.undone(request);
    }

    /// ReadyForQuery: this is reported, and `first` is the first request that has not been answered; whether a transaction is
    /// open.
    pub(in crate::session) fn ready(&mut self, now: &Reported, first: u64, status: u8) {
        if status == b'I'
            && self
                .set_locally
                .is_some_and(|set| (self.first..first).contains(&set))
        {
            self.undone(first);
        }
        self.first = first;
        for request in [&mut self.sql_bound, &mut self.set, &mut self.set_locally] {
            *request = request.filter(|request| *request >= first);
        }
        self.tell(now, first);
    }

    /// All requests before this one were answered while this was set.
    fn tell(&mut self, now: &Reported, first: u64) {
        let statements = self.statements.iter_mut();
        for then in
            statements.flat_map(|One { then, or, .. }| [Some(then), or.as_mut()].into_iter().flatten())
        {
            if matches!(then, Then::Behind(request) if *request < first) {
                *then = Then::Reported(now.clone());
            }
        }
        if std::mem::take(&mut self.has_prepared) && !self.sql.iter().any(|then| then.means_the_same(now)) {
            self.sql.push(now.clone());
        }
    }

    /// What the PREPAREs of SQL were prepared under.
    pub(in crate::session) fn sql(&self) -> SqlPrepared {
        match &self.sql[..] {
            _ if self.is_mixed => SqlPrepared::Unknown,
            [] => SqlPrepared::AsNow,
            [then] => SqlPrepared::Then(then.clone()),
            _ => SqlPrepared::Unknown,
        }
    }

    /// Behind the turn the client carries `profile`, while this is reported. Says whether nobody knows what a statement
    /// was prepared under.
    pub(in crate::session) fn settle(
        self,
        statements: &mut Statements,
        profile: &Arc<Profile>,
        now: &Reported,
    ) -> bool {
        let mut is_unknown = false;
        for one in self.statements {
            let then = match &one.then {
                Then::Reported(then) => then,
                Then::Behind(_) => now,
                Then::Unknown => {
                    is_unknown |= statements.is_fixed(&one.name, one.id);
                    now
                }
            };
            statements.settle(&one.name, one.id, profile.as_reported(then, now));
        }
        is_unknown
    }
}

impl Statements {
    /// Whether what a name stands for is this statement, and was fixed when it was prepared. What sets something is not, and
    /// the unnamed one does not last.
    fn is_fixed(&self, name: &[u8], id: u64) -> bool {
        let statement = self.get(name).filter(|statement| statement.id == id);
        statement.is_some_and(|statement| {
            statement.has_literals()
                && !statement.seen.words.has(Words::SETTINGS)
                && !is_set(statement.text())
        })
    }

    /// A statement was prepared under these settings, as is now known.
    fn settle(&mut self, name: &[u8], id: u64, under: Arc<Profile>) {
        if let Some(unnamed) = self.unnamed.as_deref_mut().filter(|_| name.is_empty()) {
            if unnamed.serial == id {
                unnamed.under = Some(under);
            }
        } else if let Some(meaning) = self.named.get_mut(name)
            && meaning.statement.id == id
        {
            meaning.statement = meaning.statement.settled(under);
        }
    }
}

/// Whether a text is a SET, if only for a transaction: its values are read when it runs.
fn is_set(text: &[u8]) -> bool {
    let mut words = text.trim_ascii_start().split(u8::is_ascii_whitespace);
    words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"set"))
}
