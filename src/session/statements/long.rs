//! Statements with names that are not remembered, because they are too long or too many: they are on one server session
//! alone, under the names that their client gave them, and keep that session with it until they are gone.
//!
//! Which of them are there is known from Postgres' answers alone: what is on its way changes nothing yet.

use super::{Name, Seen};

/// With more of them a client keeps its session for good.
const LONG_MAX: usize = 1000;

/// A client's long statements.
#[derive(Debug, Default)]
pub(super) struct Long(Vec<One>);

#[derive(Debug)]
struct One {
    name: Name,
    /// What its text shows, as soon as all of it has been looked at.
    seen: Seen,
    /// Postgres has said that it is there.
    is_there: bool,
}

impl Long {
    /// Whether one has this name, or may be about to have it.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|one| *one.name == *name)
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One is being prepared. Says whether there is room for it.
    pub(super) fn prepares(&mut self, name: Name) -> bool {
        let has_room = self.0.len() < LONG_MAX;
        if has_room {
            self.0.push(One {
                name,
                seen: Seen::default(),
                is_there: false,
            });
        }
        has_room
    }

    /// All of the one that was sent last has been looked at.
    pub(super) fn see_last(&mut self, seen: Seen) {
        if let Some(last) = self.0.last_mut().filter(|last| !last.is_there) {
            last.seen = seen;
        }
    }

    /// What those of this name show; of any name, where there is none.
    pub(super) fn seen(&self, name: Option<&[u8]>) -> Seen {
        let mut all = Seen::default();
        let meant = |one: &&One| name.is_none_or(|name| *one.name == *name);
        for One { seen, .. } in self.0.iter().filter(meant) {
            all.words |= seen.words;
            all.names.extend(&seen.names);
        }
        all
    }

    /// Postgres has prepared the first that was sent of this name.
    pub(super) fn prepared(&mut self, name: &[u8]) {
        let mut sent = self.0.iter_mut();
        if let Some(one) = sent.find(|one| !one.is_there && *one.name == *name) {
            one.is_there = true;
        }
    }

    /// Postgres has refused or ignored the last that was sent of this name.
    pub(super) fn not_prepared(&mut self, name: &[u8]) {
        let last = self.0.iter().rposition(|one| !one.is_there && *one.name == *name);
        last.map(|at| self.0.remove(at));
    }

    /// Postgres has taken away what has this name.
    pub(super) fn gone(&mut self, name: &[u8]) {
        self.0.retain(|one| !one.is_there || *one.name != *name);
    }

    /// Postgres has taken all of them away.
    pub(super) fn all_gone(&mut self) {
        self.0.retain(|one| !one.is_there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Close that was sent ahead of a Parse took away what that Parse had made.
    #[test]
    fn an_answer_is_about_what_was_there_when_it_was_given() {
        let mut long = Long::default();
        let send = |long: &mut Long| assert!(long.prepares((*b"a").into()));
        send(&mut long);
        long.prepared(b"a");
        send(&mut long);
        long.gone(b"a");
        assert!(long.has(b"a"), "it is on its way");
        long.prepared(b"a");
        send(&mut long);
        long.not_prepared(b"a");
        assert!(long.has(b"a"), "another of its name is there");
        long.all_gone();
        assert!(long.is_empty());
    }
}
