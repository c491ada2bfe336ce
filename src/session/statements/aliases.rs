//! Names that a client gave, on its server session: SQL finds statements under these alone.
//!
//! Where SQL runs a statement, that statement has to be there under its name. Where the name has only to be taken, or is
//! taken away, an empty text stands in: it can be prepared whatever has become of tables, and in any transaction.

use super::Name;

/// What a session has under names that a client gave.
#[derive(Debug, Default)]
pub(in crate::session) struct Aliases(Vec<Alias>);

/// A name, and what it stands for on the session.
#[derive(Debug, Clone)]
pub(in crate::session) struct Alias {
    pub(super) name: Name,
    stands_in: bool,
}

impl Aliases {
    /// Whether there is anything of this name.
    pub(in crate::session) fn has(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// Whether the statement is there that its client calls so.
    pub(in crate::session) fn has_statement(&self, name: &[u8]) -> bool {
        self.find(name).is_some_and(|at| !self.0[at].stands_in)
    }

    /// Whether something stands in for it.
    pub(in crate::session) fn has_stand_in(&self, name: &[u8]) -> bool {
        self.find(name).is_some_and(|at| self.0[at].stands_in)
    }

    /// The statement is there now.
    pub(in crate::session) fn put_statement(&mut self, name: Name) {
        let stands_in = false;
        self.put(Alias { name, stands_in });
    }

    /// Something stands in for it now.
    pub(in crate::session) fn put_stand_in(&mut self, name: Name) {
        let stands_in = true;
        self.put(Alias { name, stands_in });
    }

    /// It is there now.
    pub(super) fn put(&mut self, alias: Alias) {
        self.remove(&alias.name);
        self.0.push(alias);
    }

    /// Nothing has this name any more; what had.
    pub(in crate::session) fn remove(&mut self, name: &[u8]) -> Option<Alias> {
        self.find(name).map(|at| self.0.swap_remove(at))
    }

    /// Takes out all names.
    pub(in crate::session) fn take(&mut self) -> impl Iterator<Item = Name> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|alias| alias.name)
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|alias| *alias.name == *name)
    }
}
