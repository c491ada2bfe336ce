//! What a COPY from the client does to what is owed: it swallows Syncs, and anything else that it cannot take.

use super::{Entry, Expected, Kind};

impl Expected {
    /// See [`Expected::sent`].
    pub(super) fn sent_into_copy(&mut self, entry: Entry) -> Option<Entry> {
        if entry.kind == Kind::Sync {
            self.copy_ignores = true;
            return Some(entry);
        }
        // CopyDone and CopyFail end it; anything else is taken for an error by the server, and is lost with it.
        self.copying = false;
        if entry.kind == Kind::CopyEnd {
            self.entries.push(entry);
            return None;
        }
        Some(entry)
    }

    /// The server begins to read COPY data: it ignores every Sync up to CopyDone or CopyFail, also one that is
    /// already on its way (libpq sends one right behind Execute). Any other message it takes for an error.
    pub(super) fn copy_begins(&mut self) {
        // A simple Query may hold several COPYs: the end of the one before is past.
        if self.copied && self.entries.is(1, Kind::CopyEnd) {
            self.entries.take_second();
        }
        (self.copied, self.copy_ignores) = (true, false);
        while self.entries.is(1, Kind::Sync) {
            self.entries.take_second();
            self.copy_ignores = true;
        }
        self.copying = self.entries.len() == 1;
        if !self.copying && !self.entries.is(1, Kind::CopyEnd) {
            self.lost = self.entries.take_second().map(Box::new);
        }
        if self.entries.is(0, Kind::Execute) && !self.entries.has_ready() {
            self.unsynced = true;
        }
    }
}
