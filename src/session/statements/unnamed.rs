//! The client's unnamed statement: each Parse without a name replaces it, each simple Query drops it.

use std::{mem, sync::Arc};

use super::{
    Effect, Name, Prepared, Seen, Shape, Statement, Statements, Texts, UNKNOWN, Used,
    room::Held,
    texts::{UNCOUNTED_BYTES, next_serial},
};
use crate::session::profile::Profile;

/// The unnamed statement.
#[derive(Debug, Default)]
pub(in crate::session) struct Unnamed {
    /// Tells it from any other unnamed statement; never 0.
    pub(in crate::session) serial: u64,
    /// The Parse message behind the name.
    pub(in crate::session) behind_name: Vec<u8>,
    pub(in crate::session) seen: Seen,
    /// What it was prepared under, as far as that is known.
    pub(super) under: Option<Arc<Profile>>,
    /// The same as a statement with a name on sessions: the settings of one that it had to be brought to are others.
    pub(super) moved: Option<Arc<Statement>>,
    /// It is too long to be remembered: it is on the session that it was prepared on, and nowhere else.
    is_long: bool,
    held: Option<Held>,
}

impl Statements {
    /// The unnamed statement.
    pub(in crate::session) fn unnamed(&self) -> Option<&Unnamed> {
        self.unnamed.as_deref()
    }

    /// The unnamed statement is another, here and on the session.
    pub(in crate::session) fn replace_unnamed(
        &mut self,
        behind_name: &[u8],
        seen: Seen,
        under: &Arc<Profile>,
        session: &mut Prepared,
    ) -> Effect {
        let mut new = self.new_unnamed();
        new.seen = seen;
        new.under = Some(under.clone());
        new.behind_name.extend_from_slice(behind_name);
        let session_before = mem::replace(&mut session.unnamed, new.serial);
        Effect::UnnamedReplaced(self.unnamed.replace(new), session_before)
    }

    /// The text of the unnamed statement counts among those of its endpoint.
    pub(in crate::session) fn count_unnamed(&mut self, texts: &Texts) {
        if let Some(unnamed) = self.unnamed.as_deref_mut() {
            unnamed.held = texts.hold_unnamed(&unnamed.behind_name);
        }
    }

    /// The memory of one that has gone may serve the next; much of it is given back, as an idle client would hold it.
    pub(super) fn keep_spare(&mut self, gone: Option<Box<Unnamed>>) {
        self.spare = gone.filter(|gone| gone.behind_name.capacity() <= UNCOUNTED_BYTES);
    }

    /// The same of one that is too long to be remembered. What it shows is told by [`Self::see_long_unnamed`].
    pub(in crate::session) fn replace_unnamed_by_long(&mut self, session: &mut Prepared) -> Effect {
        let mut new = self.new_unnamed();
        new.is_long = true;
        let session_before = mem::replace(&mut session.unnamed, new.serial);
        Effect::UnnamedReplaced(self.unnamed.replace(new), session_before)
    }

    fn new_unnamed(&mut self) -> Box<Unnamed> {
        let mut new = self.spare.take().unwrap_or_default();
        new.behind_name.clear();
        *new = Unnamed {
            serial: next_serial(),
            behind_name: mem::take(&mut new.behind_name),
            ..Unnamed::default()
        };
        new
    }

    /// All of a long one has been looked at, if it is still there.
    pub(in crate::session) fn see_long_unnamed(&mut self, serial: u64, seen: Seen) {
        if let Some(unnamed) = self
            .unnamed
            .as_deref_mut()
            .filter(|unnamed| unnamed.serial == serial)
        {
            unnamed.seen = seen;
        }
    }

    /// Whether the unnamed statement is one that only its present session has.
    pub(in crate::session) fn has_long_unnamed(&self) -> bool {
        self.unnamed.as_deref().is_some_and(|unnamed| unnamed.is_long)
    }

    /// The unnamed statement as one that has a name on sessions, where it is not on this one, and these settings would
    /// make something else of it; `None` for `profile`: nobody knows them.
    pub(in crate::session) fn moved_unnamed(
        &mut self,
        texts: &Arc<Texts>,
        profile: Option<&Profile>,
        session: &Prepared,
    ) -> Option<Used> {
        let unnamed = self.unnamed.as_deref_mut()?;
        if unnamed.moved.is_none() && unnamed.serial != session.unnamed {
            let under = unnamed.under.as_ref()?;
            let text = unnamed.behind_name.as_slice().into();
            let statement = texts.own_statement(text, under, unnamed.seen.clone());
            unnamed.moved = (!profile.is_some_and(|profile| statement.suits(profile))).then_some(statement);
        }
        Some(Used {
            statement: unnamed.moved.clone()?,
            name: Name::default(),
            told: Shape::default(),
        })
    }

    /// A simple Query, or a Close, drops the unnamed statement. Also where there is none: something in front of it that
    /// has dropped one may be ignored. On the session a text that is none in the client's encoding drops nothing.
    pub(in crate::session) fn drop_unnamed(&mut self, session: &mut Prepared) -> Effect {
        let session_before = mem::replace(&mut session.unnamed, UNKNOWN);
        Effect::UnnamedReplaced(self.unnamed.take(), session_before)
    }

    /// The same where there is no session: nothing undoes it.
    pub(in crate::session) fn drop_unnamed_for_good(&mut self) {
        self.unnamed = None;
        self.spare = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that had sent a long text once held as much memory as it took, for as long as it was connected.
    #[test]
    fn only_little_memory_of_one_that_has_gone_is_kept() {
        let (mut client, mut session) = (Statements::default(), Prepared::default());
        let under = Profile::of_startup(b"UTC");
        let mut replace_by = |text: &[u8]| {
            let effect = client.replace_unnamed(text, Seen::default(), &under, &mut session);
            client.commit(effect);
            client.spare.as_ref().map(|spare| spare.behind_name.capacity())
        };
        assert_eq!(replace_by(b"select 1"), None);
        assert!(replace_by(&[b' '; UNCOUNTED_BYTES + 1]).is_some());
        assert_eq!(replace_by(b"select 2"), None);
        assert!(replace_by(b"select 3").is_some());
    }
}
