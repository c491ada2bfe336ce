//! The texts that clients of an endpoint have prepared: equal ones are one statement.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Seen,
    room::{Held, Room},
};
use crate::session::profile::{Profile, apply::has_literals};

/// What the names of statements on server sessions begin with.
const PREFIX: &[u8] = b"pgwake_";
/// The longest such name: the prefix and a number.
const NAME_BYTES: usize = PREFIX.len() + 20;

/// What takes no more is not counted where a client has one of it: its settings, which its statements share, and the text
/// of its unnamed statement.
pub(super) const UNCOUNTED_BYTES: usize = 4 * 1024;

/// Numbers for statements; unnamed ones have them, too.
pub(in crate::session) fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Numbers that nobody can guess: a session finds what others have prepared there, too, by a name with such a number.
fn next_id() -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one(next_serial())
}

/// What pgwake's own statements are called on server sessions. Nobody can guess these names either: a client that had
/// a statement or a cursor of the same name would find pgwake's instead, or pgwake its.
pub(in crate::session) struct OwnNames {
    pub(in crate::session) begin: Box<[u8]>,
    /// Of a portal, too.
    pub(in crate::session) discard: Box<[u8]>,
}

pub(in crate::session) static OWN_NAMES: LazyLock<OwnNames> = LazyLock::new(|| {
    let own = |what| format!("pgwake_{what}_{}", next_id()).into_bytes().into();
    OwnNames {
        begin: own("begin"),
        discard: own("discard"),
    }
});

/// A text with its parameter types, prepared under certain settings. Literals and types are fixed at Parse: one
/// that was prepared under other settings is another statement.
pub(in crate::session) struct Statement {
    pub(in crate::session) id: u64,
    server_name: ServerName,
    /// The Parse message behind the name.
    pub(in crate::session) behind_name: Arc<[u8]>,
    pub(in crate::session) seen: Seen,
    /// What it was prepared under.
    pub(in crate::session) under: Arc<Profile>,
    /// Fingerprint of what of that matters to the text.
    settings: u64,
    has_literals: bool,
    held: Held,
    texts: Weak<Texts>,
}

impl Statement {
    /// Whether it means the same where it is prepared under these settings. Postgres reads what has no constants anew where
    /// it is used under another path or role.
    pub(in crate::session) fn suits(&self, profile: &Profile) -> bool {
        !self.has_literals || self.settings == profile.settings_fingerprint()
    }

    /// Whether its text has constants, which are read when it is prepared.
    pub(super) fn has_literals(&self) -> bool {
        self.has_literals
    }

    /// The same statement, which was prepared under these settings.
    pub(super) fn settled(self: &Arc<Self>, under: Arc<Profile>) -> Arc<Self> {
        let settings = settings_of(self.has_literals, &under);
        if self.settings == settings {
            return self.clone();
        }
        Arc::new(Self {
            held: self.held.also(bytes_of(&self.behind_name, &under)),
            id: self.id,
            server_name: self.server_name.clone(),
            behind_name: self.behind_name.clone(),
            seen: self.seen.clone(),
            under,
            settings,
            has_literals: self.has_literals,
            texts: self.texts.clone(),
        })
    }

    /// Its text.
    pub(in crate::session) fn text(&self) -> &[u8] {
        text_of(&self.behind_name)
    }

    /// What a server session calls it.
    pub(in crate::session) fn server_name(&self) -> &ServerName {
        &self.server_name
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if let Some(texts) = self.texts.upgrade() {
            texts.forget(self);
        }
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A statement's name on server sessions.
#[derive(Clone)]
pub(in crate::session) struct ServerName {
    bytes: [u8; NAME_BYTES],
    begin: usize,
}

impl ServerName {
    /// Of the statement with this number.
    pub(in crate::session) fn of(id: u64) -> Self {
        let mut bytes = [0; NAME_BYTES];
        let mut begin = NAME_BYTES;
        let mut rest = id;
        loop {
            begin -= 1;
            bytes[begin] = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        begin -= PREFIX.len();
        bytes[begin..begin + PREFIX.len()].copy_from_slice(PREFIX);
        Self { bytes, begin }
    }

    /// Without a NUL.
    pub(in crate::session) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

/// Which tables a text means depends on the search_path, whatever the text.
fn settings_of(has_literals: bool, under: &Profile) -> u64 {
    if has_literals {
        under.settings_fingerprint()
    } else {
        under.parser_fingerprint()
    }
}

/// What a statement takes, as far as it may be much.
fn bytes_of(behind_name: &[u8], under: &Profile) -> usize {
    let settings = under.bytes();
    behind_name.len() + if settings > UNCOUNTED_BYTES { settings } else { 0 }
}

fn has_literals_in(behind_name: &[u8]) -> bool {
    has_literals(text_of(behind_name))
}

fn text_of(behind_name: &[u8]) -> &[u8] {
    behind_name.split(|byte| *byte == 0).next().unwrap_or_default()
}

type Key = (u64, Arc<[u8]>);

/// All statements of an endpoint that a client has a name for. Bounded by what its clients may have, and by the room that
/// there is: who prepares one more asks [`Texts::has_room`] or [`Texts::knows`] first.
#[derive(Debug, Default)]
pub(in crate::session) struct Texts {
    known: Mutex<HashMap<Key, Weak<Statement>>>,
    room: Arc<Room>,
}

impl Texts {
    /// Of so many bytes at most.
    #[cfg(test)]
    pub(in crate::session) fn within(bytes_max: usize) -> Self {
        Self {
            known: Mutex::default(),
            room: Arc::new(Room::within(bytes_max)),
        }
    }

    /// Whether one more may be remembered.
    pub(in crate::session) fn has_room(&self, behind_name: &[u8], under: &Profile) -> bool {
        self.room.has(bytes_of(behind_name, under))
    }

    /// The same for a client's unnamed statement, of which it has but one.
    pub(in crate::session) fn has_room_unnamed(&self, behind_name: &[u8]) -> bool {
        behind_name.len() <= UNCOUNTED_BYTES || self.room.has(behind_name.len())
    }

    /// The same for what a client's session carries. `None`: there is no room.
    pub(in crate::session) fn hold_profile(&self, profile: &Profile) -> Option<Held> {
        match profile.bytes() {
            ..=UNCOUNTED_BYTES => Some(self.room.hold(0)),
            bytes => self.room.has(bytes).then(|| self.room.hold(bytes)),
        }
    }

    /// A client's unnamed statement has such a text; `None`: it does not count.
    pub(super) fn hold_unnamed(&self, behind_name: &[u8]) -> Option<Held> {
        (behind_name.len() > UNCOUNTED_BYTES).then(|| self.room.hold(behind_name.len()))
    }

    /// Whether [`Self::statement`] would be one that is there already.
    pub(in crate::session) fn knows(&self, behind_name: &[u8], under: &Profile) -> bool {
        let settings = settings_of(has_literals_in(behind_name), under);
        self.lock().contains_key(&(settings, Arc::from(behind_name)))
    }

    /// The statement for a text: the one that somebody prepared before under equal settings, or a new one.
    pub(in crate::session) fn statement(
        self: &Arc<Self>,
        behind_name: &[u8],
        under: &Arc<Profile>,
        seen: Seen,
    ) -> Arc<Statement> {
        let settings = settings_of(has_literals_in(behind_name), under);
        let key = (settings, Arc::from(behind_name));
        let mut known = self.lock();
        if let Some(statement) = known.get(&key).and_then(Weak::upgrade) {
            return statement;
        }
        let statement = self.own_statement(key.1.clone(), under, seen);
        known.insert(key, Arc::downgrade(&statement));
        statement
    }

    /// Whoever prepares this text from now on gets another statement: the plan of this one does not fit its tables
    /// any more.
    pub(in crate::session) fn retire(&self, statement: &Statement) {
        self.forget(statement);
    }

    /// The same for every text: what types and columns mean has changed, and a client that prepares one now is told what
    /// they mean now. Those who have prepared theirs keep it, as on a session of their own.
    pub(in crate::session) fn renew(&self) {
        self.lock().clear();
    }

    /// A statement that is nobody else's.
    pub(in crate::session) fn own_statement(
        self: &Arc<Self>,
        behind_name: Arc<[u8]>,
        under: &Arc<Profile>,
        seen: Seen,
    ) -> Arc<Statement> {
        let has_literals = has_literals_in(&behind_name);
        let id = next_id();
        Arc::new(Statement {
            held: self.room.hold(bytes_of(&behind_name, under)),
            id,
            server_name: ServerName::of(id),
            settings: settings_of(has_literals, under),
            has_literals,
            under: under.clone(),
            behind_name,
            seen,
            texts: Arc::downgrade(self),
        })
    }

    /// Only its own entry: it may have been retired, and its text be another statement's.
    fn forget(&self, statement: &Statement) {
        let key = (statement.settings, statement.behind_name.clone());
        let mut known = self.lock();
        let is_own = |weak: &Weak<Statement>| std::ptr::eq(weak.as_ptr(), statement);
        if known.get(&key).is_some_and(is_own) {
            known.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Statement>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
