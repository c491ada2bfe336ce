//! What a request changes as soon as it is sent, and how that is undone where the server ignores it.
//!
//! An error makes the server ignore everything up to the next Sync, but not what was sent behind that: what is undone is
//! what those later requests have found, not what they have made of it.

use std::{mem, sync::Arc};

use bytes::Bytes;

use super::super::sql_names::ALL;
use super::{Meaning, Name, On, Prepared, Statement, Statements, UNKNOWN, Unnamed, aliases::Alias};

/// What a request changes.
#[derive(Debug, Default)]
pub(in crate::session) enum Effect {
    #[default]
    Nothing,
    /// The client's name has a meaning.
    Named(Name),
    /// The client's name has none any more; what it meant, where it meant something.
    Closed(Name, Option<Meaning>),
    /// The same of a name that was on the session for SQL, too: there it is no longer.
    ClosedWithAlias(Alias, Option<Meaning>),
    /// It is to have one that only the session knows.
    LongPrepared(Name),
    /// The statement is on the session; where a client's own Parse put it there, with the name that it gave.
    Put(u64, Option<Name>),
    /// It is not any more.
    Evicted(u64),
    /// The client's and the session's unnamed statement are others now; these were there before.
    UnnamedReplaced(Option<Box<Unnamed>>, u64),
    /// The session's unnamed statement is the client's now, or none; this one was there before.
    UnnamedPut(u64),
    /// A name that a client gave is on the session.
    Aliased(Name),
    /// What stood in for a statement under this name is not any more.
    StandInClosed(Name),
    /// The names that SQL takes statements' meanings from, the last one first; none: any. With what it changes at once.
    Deallocates(Vec<Name>, Box<Self>),
    /// pgwake refuses it: the server refuses something else in its place, and the client reads this.
    Refused(Bytes),
    /// It uses this statement, which the client calls so.
    Uses(Arc<Statement>, Name),
    /// The same, and the answer tells what its rows and parameters are.
    Describes(Arc<Statement>, Name),
    /// A stranger's numbers are discarded.
    DiscardsSequences,
    /// pgwake's BEGIN is on the session.
    BeginPut,
    /// It is not any more.
    BeginClosed,
    /// pgwake's BEGIN is executed.
    Begins,
}

/// What a request decides.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) enum Subject<'e> {
    /// What a name stands for.
    Name(&'e Name),
    /// What any name does.
    AnyName,
    /// Whether a statement is on the session.
    Statement(u64),
}

/// What was there before what is undone.
#[derive(Debug, Default)]
struct Before {
    /// The unnamed statements.
    own: Option<Option<Box<Unnamed>>>,
    on_session: Option<u64>,
    /// Names that have their meanings again.
    names: Vec<Name>,
}

impl Before {
    /// Whether there is nothing left that a later request may find.
    fn is_found(&self) -> bool {
        self.own.is_none() && self.on_session.is_none() && self.names.is_empty()
    }
}

impl Effect {
    /// What it decides: of most nothing.
    pub(in crate::session) fn subjects<'e>(&'e self, mut each: impl FnMut(Subject<'e>)) {
        match self {
            Self::Named(name)
            | Self::LongPrepared(name)
            | Self::Aliased(name)
            | Self::StandInClosed(name)
            | Self::Closed(name, _)
            | Self::ClosedWithAlias(Alias { name, .. }, _) => each(Subject::Name(name)),
            Self::Put(id, name) => {
                each(Subject::Statement(*id));
                name.iter().for_each(|name| each(Subject::Name(name)));
            }
            Self::Evicted(id) => each(Subject::Statement(*id)),
            Self::Deallocates(names, _) if names.is_empty() => each(Subject::AnyName),
            Self::Deallocates(names, _) => {
                names.iter().for_each(|name| each(Subject::Name(name)));
                if names.iter().any(|name| **name == *ALL) {
                    each(Subject::AnyName);
                }
            }
            _ => (),
        }
    }

    /// Whether it decides what the unnamed statement is.
    pub(in crate::session) fn is_about_unnamed(&self) -> bool {
        match self {
            Self::UnnamedReplaced(..) | Self::UnnamedPut(_) => true,
            Self::Deallocates(_, at_once) => at_once.is_about_unnamed(),
            _ => false,
        }
    }

    /// The statement that it uses, with the client's name for it.
    pub(in crate::session) fn used(&self) -> Option<(&Arc<Statement>, &Name)> {
        match self {
            Self::Uses(statement, name) | Self::Describes(statement, name) => Some((statement, name)),
            _ => None,
        }
    }
}

impl Statements {
    /// The server has answered: the effect stays.
    pub(in crate::session) fn commit(&mut self, effect: Effect) {
        match effect {
            Effect::UnnamedReplaced(before @ Some(_), _) => self.keep_spare(before),
            Effect::Deallocates(_, at_once) => self.commit(*at_once),
            Effect::LongPrepared(name) => self.long.prepared(&name),
            Effect::Closed(name, _) | Effect::ClosedWithAlias(Alias { name, .. }, _) => self.long.gone(&name),
            _ => (),
        }
    }

    /// The server has ignored it, and nothing is on its way behind it.
    pub(in crate::session) fn undo(&mut self, effect: Effect, session: &mut Prepared) {
        self.undo_all([effect], Effect::Nothing, session, std::iter::empty());
    }

    /// The server has tried `failed`, and ignored what was sent behind it, of which the latest comes first here. What is
    /// left of what is on its way comes in its order.
    pub(in crate::session) fn undo_all<'e>(
        &mut self,
        ignored: impl IntoIterator<Item = Effect>,
        failed: Effect,
        session: &mut Prepared,
        left: impl Iterator<Item = &'e mut Effect>,
    ) {
        let mut before = Before::default();
        for effect in ignored {
            self.undo_one(effect, session, &mut before);
        }
        let failed = match failed {
            Effect::Deallocates(_, at_once) => *at_once,
            failed => failed,
        };
        match failed {
            // The one before was dropped first, unless the text was none in the client's encoding.
            Effect::UnnamedReplaced(..) => (before.own, before.on_session) = (Some(None), Some(UNKNOWN)),
            Effect::UnnamedPut(_) => before.on_session = Some(UNKNOWN),
            failed => self.undo_one(failed, session, &mut before),
        }
        // Mostly what comes next finds it all; much more may be on its way.
        for effect in left {
            if before.is_found() {
                break;
            }
            self.found(effect, &mut before);
        }
        if let Some(own) = before.own {
            let gone = mem::replace(&mut self.unnamed, own);
            self.keep_spare(gone);
        }
        if let Some(on_session) = before.on_session {
            session.unnamed = on_session;
        }
    }

    fn undo_one(&mut self, effect: Effect, session: &mut Prepared, before: &mut Before) {
        match effect {
            Effect::Named(name) => drop(self.named.remove(&name)),
            Effect::Closed(name, Some(meaning)) => {
                before.names.push(name.clone());
                self.named.insert(name, meaning);
            }
            Effect::ClosedWithAlias(alias, meaning) => {
                let name = alias.name.clone();
                session.aliases.put(alias);
                self.undo_one(Effect::Closed(name, meaning), session, before);
            }
            Effect::Put(id, name) => {
                session.on.remove(&id);
                if let Some(name) = name {
                    self.named.remove(&name);
                }
            }
            Effect::Evicted(id) => drop(session.on.insert(id, On::default())),
            Effect::UnnamedReplaced(own, on_session) => {
                (before.own, before.on_session) = (Some(own), Some(on_session));
            }
            Effect::UnnamedPut(on_session) => before.on_session = Some(on_session),
            Effect::LongPrepared(name) => self.long.not_prepared(&name),
            Effect::Aliased(name) => _ = session.aliases.remove(&name),
            Effect::StandInClosed(name) => session.aliases.put_stand_in(name),
            Effect::Deallocates(_, at_once) => self.undo_one(*at_once, session, before),
            Effect::BeginPut => session.begin = false,
            Effect::BeginClosed => session.begin = true,
            Effect::Nothing
            | Effect::Closed(_, None)
            | Effect::Refused(_)
            | Effect::Uses(..)
            | Effect::Describes(..)
            | Effect::DiscardsSequences
            | Effect::Begins => (),
        }
    }

    /// A request that the server will read finds what was there before those that it has ignored.
    fn found(&mut self, effect: &mut Effect, before: &mut Before) {
        match effect {
            // It closes what has come back; a meaning that a later request has given the name is not its matter.
            Effect::Closed(name, closed @ None)
            | Effect::ClosedWithAlias(Alias { name, .. }, closed @ None)
                if before.names.contains(name) =>
            {
                *closed = self.named.remove(name);
                before.names.retain(|found| found != name);
            }
            Effect::Deallocates(_, at_once) => self.found(at_once, before),
            Effect::UnnamedReplaced(own, on_session) => {
                if let Some(found) = before.own.take() {
                    *own = found;
                }
                if let Some(found) = before.on_session.take() {
                    *on_session = found;
                }
            }
            Effect::UnnamedPut(on_session) => {
                if let Some(found) = before.on_session.take() {
                    *on_session = found;
                }
            }
            _ => (),
        }
    }
}
