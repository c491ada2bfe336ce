//! How many bytes of texts and settings clients may have remembered: those of an endpoint, and all of them together.
//!
//! An endpoint that has little always has room for it, whatever others have: its own limit and the common one are for what
//! is more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Most bytes of an endpoint, with the settings that its texts were prepared under. Those of applications are alike and come
/// to a few MiB; without an end one client could take all memory that others have, too.
const ENDPOINT_MAX: usize = 256 * 1024 * 1024;

/// Most bytes of all endpoints together, beyond what each has in any case.
const ALL_MAX: usize = 1024 * 1024 * 1024;

/// What an endpoint has room for in any case.
const ALWAYS: usize = 16 * 1024 * 1024;

/// What all endpoints have.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// The room for an endpoint's texts.
#[derive(Debug)]
pub(in crate::session) struct Room {
    bytes: AtomicUsize,
    bytes_max: usize,
    always: usize,
    all: &'static AtomicUsize,
    all_max: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            bytes_max: ENDPOINT_MAX,
            always: ALWAYS,
            all: &ALL,
            all_max: ALL_MAX,
        }
    }
}

impl Room {
    /// Of so many bytes at most.
    #[cfg(test)]
    pub(super) fn within(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    /// Whether so many bytes more may be remembered.
    pub(super) fn has(&self, bytes: usize) -> bool {
        let own = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let all = || self.all.load(Ordering::Relaxed).saturating_add(bytes);
        own <= self.bytes_max && (own <= self.always || all() <= self.all_max)
    }

    /// So many bytes are remembered, also where there is no room for them: whoever may do without has asked.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
        Held {
            room: self.clone(),
            bytes,
        }
    }
}

/// Bytes that count for as long as this is there.
#[derive(Debug)]
pub(in crate::session) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    /// So many more in the same room.
    pub(super) fn also(&self, bytes: usize) -> Self {
        self.room.hold(bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.room.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(all: &'static AtomicUsize) -> Arc<Room> {
        Arc::new(Room {
            bytes: AtomicUsize::new(0),
            bytes_max: 100,
            always: 20,
            all,
            all_max: 150,
        })
    }

    #[test]
    fn an_endpoint_that_has_little_has_room_whatever_others_have() {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let (greedy, other, modest) = (room(&ALL), room(&ALL), room(&ALL));
        let hundred = greedy.hold(100);
        assert!(!greedy.has(1), "its own limit");
        let fifty = other.hold(50);
        assert!(!other.has(1), "the limit of all");
        assert!(modest.has(20) && !modest.has(21));
        let twenty = modest.hold(20);
        drop((hundred, twenty));
        assert!(greedy.has(100) && !greedy.has(101) && other.has(50));
        drop(fifty);
        assert_eq!(ALL.load(Ordering::Relaxed), 0);
    }
}
