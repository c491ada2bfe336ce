//! Why a client's session cannot leave its server session.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::session::words::{Tags, Words};

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::session) struct Pins(u32);

/// Every reason with the name that logs use.
macro_rules! pins {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl Pins {
            $($(#[$doc])* pub(in crate::session) const $name: Self = Self(1 << $bit);)*
            const NAMED: &[(Self, &str)] = &[$((Self::$name, $text),)*];
        }
    };
}

pins! {
    /// Temporary tables and what else stands in the session's temporary schema.
    TEMP = 0, "temporary objects";
    /// A cursor that outlived its transaction.
    HOLD = 1, "cursor with hold";
    /// It listens.
    LISTEN = 2, "listen";
    /// It holds an advisory lock.
    ADVISORY = 3, "advisory lock";
    /// A library was loaded.
    LOAD = 4, "load";
    /// Its random numbers are no longer random.
    SEED = 5, "setseed";
    /// It may have connections of its own.
    DBLINK = 6, "dblink";
    /// A PREPARE that cannot be said again.
    STATEMENT = 7, "prepared statement";
    /// A custom setting whose name could not be seen.
    UNSEEN_SETTING = 8, "setting of unknown name";
    /// A setting that Postgres does not show to every role.
    HIDDEN_SETTING = 9, "hidden setting";
    /// A setting that the role which logged in may not set: another role did.
    PRIVILEGED_SETTING = 10, "privileged setting";
    /// More than is remembered.
    TOO_LARGE = 11, "too much state";
    /// Postgres did not tell.
    UNKNOWN = 12, "unknown state";
    /// An online backup that it must end.
    BACKUP = 13, "backup";
    /// A replication origin.
    ORIGIN = 14, "replication origin";
    /// A temporary replication slot.
    SLOT = 15, "temporary replication slot";
}

impl Pins {
    /// As it is kept in one number.
    pub(in crate::session) fn bits(self) -> u32 {
        self.0
    }

    /// From that number.
    pub(in crate::session) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Every reason's name.
    pub(in crate::session) fn all_names() -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().map(|(_, name)| *name)
    }

    /// Not pinned.
    pub(in crate::session) const NONE: Self = Self(0);
    /// What can be reset once the client has left; all else ends the server session with it.
    const CAN_BE_RESET: Self = Self(
        Self::TEMP.0
            | Self::HOLD.0
            | Self::LISTEN.0
            | Self::ADVISORY.0
            | Self::STATEMENT.0
            | Self::PRIVILEGED_SETTING.0,
    );
    /// What Postgres does not tell: it stays as the words of a turn said.
    const REMEMBERED: Self = Self(
        Self::LOAD.0
            | Self::SEED.0
            | Self::DBLINK.0
            | Self::UNSEEN_SETTING.0
            | Self::HIDDEN_SETTING.0
            | Self::BACKUP.0
            | Self::ORIGIN.0,
    );

    /// What a statement with these words would pin, as far as words say beforehand.
    pub(in crate::session) fn foreseen(words: Words) -> Self {
        let mut pins = Self::NONE;
        for (word, pin) in [
            (Words::HOLD, Self::HOLD),
            (Words::LISTEN, Self::LISTEN),
            (Words::ADVISORY, Self::ADVISORY),
            (Words::LOAD, Self::LOAD),
            (Words::SETSEED, Self::SEED),
            (Words::DBLINK, Self::DBLINK),
            (Words::BACKUP, Self::BACKUP),
            (Words::ORIGIN, Self::ORIGIN),
        ] {
            if words.has(word) {
                pins |= pin;
            }
        }
        if words.has(Words::TEMP) && !words.has(Words::ON_COMMIT_DROP) {
            pins |= Self::TEMP;
        }
        pins
    }

    /// What is pinned after a turn with these words and tags, of what Postgres does not tell; `self` is what was
    /// before it.
    pub(in crate::session) fn remembered(self, words: Words, tags: Tags) -> Self {
        let mut pins = self.only(Self::REMEMBERED);
        if words.has(Words::BACKUP_END) {
            pins = pins.without(Self::BACKUP);
        }
        let sets = words.has(Words::SET_CONFIG | Words::SET_CONFIG_LOCAL | Words::TRIGGER_FUNCTION)
            || tags.has(Tags::SET | Tags::DO | Tags::CALL);
        let hides = tags.has(Tags::DO | Tags::CALL) || words.has(Words::TRIGGER_FUNCTION);
        for (is_so, pin) in [
            (
                tags.has(Tags::LOAD) || (hides && words.has(Words::LOAD)),
                Self::LOAD,
            ),
            (
                words.has(Words::SETSEED) || (sets && words.has(Words::SEED)),
                Self::SEED,
            ),
            (words.has(Words::DBLINK), Self::DBLINK),
            (
                words.has(Words::NAME_UNSEEN) || (hides && words.has(Words::SET_UNSEEN)),
                Self::UNSEEN_SETTING,
            ),
            (sets && words.has(Words::HIDDEN_SETTING), Self::HIDDEN_SETTING),
            (words.has(Words::BACKUP), Self::BACKUP),
            (words.has(Words::ORIGIN), Self::ORIGIN),
        ] {
            if is_so {
                pins |= pin;
            }
        }
        pins
    }

    /// Whether a turn of a pinned client may have released it, though it did not change what else is asked for.
    pub(in crate::session) fn may_have_changed(self, tags: Tags) -> bool {
        // A transaction that is rolled back takes what it made with it, and a DROP's cascade reaches far.
        let temp = self.has(Self::TEMP) && tags.has(Tags::DROP | Tags::DISCARD_TEMP);
        let hold = self.has(Self::HOLD) && tags.has(Tags::CLOSE);
        let slot = self.has(Self::SLOT | Self::UNKNOWN);
        temp || hold || slot
    }

    /// Whether the server session must be closed when its client leaves: no reset undoes this.
    pub(in crate::session) fn must_close(self) -> bool {
        self.0 & !Self::CAN_BE_RESET.0 != 0
    }

    /// Whether there is none.
    pub(in crate::session) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `these` is among them.
    pub(in crate::session) fn has(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    fn only(self, these: Self) -> Self {
        Self(self.0 & these.0)
    }

    fn without(self, these: Self) -> Self {
        Self(self.0 & !these.0)
    }

    /// Their names, for logs and messages.
    pub(in crate::session) fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED
            .iter()
            .filter(move |(pin, _)| self.has(*pin))
            .map(|(_, name)| *name)
    }
}

impl BitOr for Pins {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Pins {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
