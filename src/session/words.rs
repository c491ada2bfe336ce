//! Trigger words: what a statement's text, and the tags that answered it, say about the state of its session.
//!
//! [`Scan`] looks at every byte once and understands no SQL; where it is in doubt, a word counts. A word that is
//! only data costs one question to Postgres too many, a word that is missed would leak one client's state to the
//! next. What the state *is* only Postgres says (`profile`). The turn calls, for every Query and Parse.

mod arguments;
mod classes;
mod functions;
mod keyword;
mod names;
mod naming;
mod scan;
mod tags;

use std::ops::{BitOr, BitOrAssign};

pub(super) use functions::{Effect, FunctionWords};
pub(super) use names::{CustomNames, dotted_names, names_of_startup};
pub(super) use scan::Scan;
pub(super) use tags::Tags;

/// The trigger words of one statement, or of all statements of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Words(u64);

/// Every word with its name.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $bit:literal,)*) => {
        impl Words {
            $($(#[$doc])* pub(super) const $name: Self = Self(1 << $bit);)*
            const NAMED: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)*];
        }
    };
}

words! {
    /// `SET`, but not `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS` nor the `SET` of an UPDATE.
    SET_SESSION = 0,
    /// `SET LOCAL`.
    SET_LOCAL = 1,
    /// `RESET`.
    RESET = 2,
    /// `set_config` whose third argument is not a literal true, an update of `pg_settings`, and what does the same.
    SET_CONFIG = 3,
    /// `set_config` with a literal true.
    SET_CONFIG_LOCAL = 4,
    /// `set_config` whose first argument is a parameter: the setting's name comes with Bind.
    NAME_BOUND = 5,
    /// `set_config` whose first argument is neither a literal nor a parameter.
    NAME_UNSEEN = 6,
    /// `CREATE TEMP`, `INTO TEMPORARY` and their like.
    TEMP = 7,
    /// The schema of temporary objects.
    PG_TEMP = 8,
    /// `ON COMMIT DROP`.
    ON_COMMIT_DROP = 9,
    /// `WITH HOLD`.
    HOLD = 10,
    /// `LISTEN` as a statement.
    LISTEN = 11,
    /// `UNLISTEN` as a statement.
    UNLISTEN = 12,
    /// A function that takes an advisory lock for the session.
    ADVISORY = 13,
    /// A function that gives one back.
    ADVISORY_UNLOCK = 14,
    /// `lastval`, `currval`.
    SEQUENCE_READ = 15,
    /// `nextval`, `setval`.
    NEXTVAL = 16,
    /// `setseed`.
    SETSEED = 17,
    /// The word `seed`: with SET the same as `setseed`.
    SEED = 18,
    /// `dblink_connect`.
    DBLINK = 19,
    /// `LOAD` as a statement.
    LOAD = 20,
    /// `PREPARE`.
    PREPARE = 21,
    /// `EXECUTE`: the words of what it executes count too, and only who knows that statement can add them.
    EXECUTE = 22,
    /// `DEALLOCATE`.
    DEALLOCATE = 23,
    /// `DISCARD`.
    DISCARD = 24,
    /// `DO`.
    DO = 25,
    /// `CALL`.
    CALL = 26,
    /// `CREATE`, `ALTER` or `DROP DATABASE`.
    DATABASE = 27,
    /// `CREATE`, `ALTER` or `DROP` of a function, procedure, routine, aggregate, extension, trigger or rule.
    FUNCTION_DDL = 28,
    /// `CREATE`, `ALTER` or `DROP` of a role, user or group.
    ROLE_DDL = 29,
    /// `GRANT`, `REVOKE`, `REASSIGN`.
    GRANT = 30,
    /// `ALTER SYSTEM`.
    ALTER_SYSTEM = 31,
    /// A function of this database that can change session state ([`FunctionWords`]).
    TRIGGER_FUNCTION = 32,
    /// What runs statements that cannot be seen: `query_to_xml`, identifiers in Unicode escapes.
    OBSCURE = 33,
    /// The start of an online backup, which its session must end.
    BACKUP = 34,
    /// The end of one.
    BACKUP_END = 35,
    /// A replication origin set up for the session.
    ORIGIN = 36,
    /// A replication slot is made: it may be a temporary one.
    SLOT = 37,
    /// A setting that `pg_settings` does not show to every role.
    HIDDEN_SETTING = 38,
    /// `SET` or `RESET` and no name behind it: a function makes one up, or it is too long.
    SET_UNSEEN = 39,
    /// `SET` for the session that reads like a statement, wherever it is: not prose in a comment.
    SET_STATEMENT = 40,
    /// The view over settings, or one that stands for it.
    SETTINGS_VIEW = 41,
    /// Set for a transaction: one of Postgres' own settings, on which the meaning of a statement may depend.
    SET_LOCAL_MEANING = 42,
    /// `DEFAULT`; `set_config` of `application_name` to what may be null.
    DEFAULT = 43,
    /// `pg_prepared_statements`: it shows what the server session has.
    STATEMENTS_READ = 44,
    /// `CREATE`. Postgres' tag of CREATE TABLE AS is that of a SELECT.
    CREATE = 45,
    /// `COMMIT` or `END`, which is part of a CASE more often.
    COMMIT = 46,
}

impl Words {
    /// No word.
    pub(super) const NONE: Self = Self(0);
    /// Always ask Postgres after these.
    const CHANGES: Self = Self(
        Self::SET_CONFIG.0
            | Self::TEMP.0
            | Self::PG_TEMP.0
            | Self::HOLD.0
            | Self::ADVISORY.0
            | Self::ADVISORY_UNLOCK.0
            | Self::SETSEED.0
            | Self::DBLINK.0
            | Self::TRIGGER_FUNCTION.0
            | Self::OBSCURE.0
            | Self::BACKUP.0
            | Self::BACKUP_END.0
            | Self::ORIGIN.0
            | Self::SLOT.0
            | Self::NAME_UNSEEN.0,
    );
    /// A function is called that changes something, or seems to be.
    const CALLS: Self =
        Self(Self::CHANGES.0 & !(Self::TEMP.0 | Self::PG_TEMP.0 | Self::HOLD.0) | Self::SET_CONFIG_LOCAL.0);
    /// It speaks of prepared statements.
    pub(super) const OF_STATEMENTS: Self =
        Self(Self::EXECUTE.0 | Self::DEALLOCATE.0 | Self::PREPARE.0 | Self::STATEMENTS_READ.0);
    /// Its statements may have other settings behind it.
    pub(super) const SETTINGS: Self = Self(
        Self::SET_SESSION.0
            | Self::RESET.0
            | Self::SET_CONFIG.0
            | Self::HIDDEN_SETTING.0
            | Self::DISCARD.0
            | Self::EXECUTE.0
            | Self::DO.0
            | Self::CALL.0
            | Self::TRIGGER_FUNCTION.0
            | Self::OBSCURE.0,
    );
    /// What a function does to its session where its source has these words: no tag tells of them.
    const CHANGES_IN_FUNCTION: Self = Self(
        Self::CHANGES.0
            | Self::SET_STATEMENT.0
            | Self::RESET.0
            | Self::LISTEN.0
            | Self::UNLISTEN.0
            | Self::LOAD.0
            | Self::PREPARE.0
            | Self::DEALLOCATE.0
            | Self::DISCARD.0,
    );
    /// What of a function's source matters to the statement that calls it, beside changes.
    const OF_FUNCTION: Self = Self(
        Self::CHANGES_IN_FUNCTION.0
            | Self::SET_CONFIG_LOCAL.0
            | Self::SET_LOCAL_MEANING.0
            | Self::NAME_BOUND.0
            | Self::SET_UNSEEN.0
            | Self::NEXTVAL.0
            | Self::SEQUENCE_READ.0
            | Self::STATEMENTS_READ.0,
    );
    /// What pins, and Postgres tells of behind the turn.
    const TOLD_AFTERWARDS: Self = Self(Self::TEMP.0 | Self::HOLD.0 | Self::LISTEN.0 | Self::ADVISORY.0);
    /// A transaction may end for good. (A false alarm costs a client no more than the caution that 08007 asks for.)
    pub(super) const MAY_COMMIT: Self = Self(Self::COMMIT.0 | Self::PREPARE.0);
    /// A setting is set, if only for a transaction.
    const SETS: Self = Self(Self::SET_STATEMENT.0 | Self::SET_CONFIG.0 | Self::SET_CONFIG_LOCAL.0);

    /// The words of a whole statement.
    pub(super) fn of(statement: &[u8], functions: Option<&FunctionWords>) -> Self {
        let mut scan = Scan::default();
        scan.feed(statement, functions);
        scan.finish(functions)
    }

    /// What calling a function does that has these words in its source.
    pub(super) fn in_function(self) -> Self {
        let mut effect = self.only(Self::OF_FUNCTION);
        if self.has(Self::SETS) {
            effect |= self.only(Self::SEED | Self::HIDDEN_SETTING);
        }
        if self.may_reset() {
            effect |= Self::RESET;
        }
        if self.has(Self::CHANGES_IN_FUNCTION) {
            effect |= Self::TRIGGER_FUNCTION;
        }
        effect
    }

    /// Whether any of `these` is among them.
    pub(super) fn has(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    /// Whether a setting may return to what the session was opened with.
    pub(super) fn may_reset(self) -> bool {
        const SETS: Words = Words(
            Words::SET_SESSION.0 | Words::SET_LOCAL.0 | Words::SET_CONFIG.0 | Words::SET_CONFIG_LOCAL.0,
        );
        self.has(Self::RESET | Self::DISCARD) || (self.has(Self::DEFAULT) && self.has(SETS))
    }

    /// Those that are not among `these`.
    pub(super) fn without(self, these: Self) -> Self {
        Self(self.0 & !these.0)
    }

    /// Those that are among `these` too.
    pub(super) fn only(self, these: Self) -> Self {
        Self(self.0 & these.0)
    }
}

impl BitOr for Words {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Words {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Self::NAMED.iter().filter(|(word, _)| self.has(*word));
        f.debug_set().entries(names.map(|(_, name)| name)).finish()
    }
}

/// Whether a turn with these words and tags may have changed what its session carries: then Postgres is asked.
/// Reads, writes and definitions of the common kind, SET LOCAL and `set_config(…, true)` have not.
pub(super) fn may_have_changed(words: Words, tags: Tags) -> bool {
    // DO and CALL may have committed before they failed, and then have no tag.
    words.has(Words::CHANGES | Words::DO | Words::CALL)
        || tags.has(Tags::CHANGES)
        || (tags.has(Tags::SET) && words.has(Words::SET_SESSION))
}

/// Whether the functions of the database must be read anew.
pub(super) fn functions_may_have_changed(words: Words, tags: Tags) -> bool {
    // A view, a default or a trigger on a function that changes state has its name in its definition.
    tags.has(Tags::FUNCTION_DDL)
        || words.has(Words::FUNCTION_DDL)
        || (tags.has(Tags::CREATE | Tags::ALTER)
            && words.has(Words::CALLS | Words::SETTINGS_VIEW | Words::STATEMENTS_READ))
}

#[cfg(test)]
mod tests;
