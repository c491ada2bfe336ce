//! The tags of CommandComplete (<https://www.postgresql.org/docs/current/protocol-message-formats.html>): what was
//! done, in Postgres' own words.

use std::ops::{BitOr, BitOrAssign};

/// The tags of one turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::session) struct Tags(u32);

impl Tags {
    /// SET, also SET LOCAL and SET TRANSACTION.
    pub(in crate::session) const SET: Self = Self(1);
    /// RESET.
    pub(in crate::session) const RESET: Self = Self(1 << 1);
    /// DISCARD ALL.
    pub(in crate::session) const DISCARD_ALL: Self = Self(1 << 2);
    /// DISCARD TEMP.
    pub(in crate::session) const DISCARD_TEMP: Self = Self(1 << 3);
    /// PREPARE, but not PREPARE TRANSACTION.
    pub(in crate::session) const PREPARE: Self = Self(1 << 4);
    /// DEALLOCATE of one statement.
    pub(in crate::session) const DEALLOCATE: Self = Self(1 << 5);
    /// DEALLOCATE ALL.
    pub(in crate::session) const DEALLOCATE_ALL: Self = Self(1 << 6);
    /// LISTEN.
    pub(in crate::session) const LISTEN: Self = Self(1 << 7);
    /// UNLISTEN.
    pub(in crate::session) const UNLISTEN: Self = Self(1 << 8);
    /// DECLARE CURSOR.
    pub(in crate::session) const DECLARE: Self = Self(1 << 9);
    /// CLOSE CURSOR and CLOSE CURSOR ALL.
    pub(in crate::session) const CLOSE: Self = Self(1 << 10);
    /// LOAD.
    pub(in crate::session) const LOAD: Self = Self(1 << 11);
    /// DO.
    pub(in crate::session) const DO: Self = Self(1 << 12);
    /// CALL.
    pub(in crate::session) const CALL: Self = Self(1 << 13);
    /// INSERT.
    pub(in crate::session) const INSERT: Self = Self(1 << 14);
    /// Anything that begins with CREATE.
    pub(in crate::session) const CREATE: Self = Self(1 << 15);
    /// Anything that begins with ALTER.
    pub(in crate::session) const ALTER: Self = Self(1 << 16);
    /// Anything that begins with DROP.
    pub(in crate::session) const DROP: Self = Self(1 << 17);
    /// A function, procedure, routine, aggregate, extension, trigger, event trigger or rule was made, altered or dropped.
    pub(in crate::session) const FUNCTION_DDL: Self = Self(1 << 18);
    /// A database was made, altered or dropped.
    pub(in crate::session) const DATABASE: Self = Self(1 << 19);
    /// A role was made, altered, dropped, granted to or revoked from; so was a right.
    pub(in crate::session) const ROLES: Self = Self(1 << 20);
    /// ALTER SYSTEM.
    pub(in crate::session) const ALTER_SYSTEM: Self = Self(1 << 21);
    /// MERGE, which may insert as INSERT does.
    pub(in crate::session) const MERGE: Self = Self(1 << 22);
    /// COPY, which may insert too.
    pub(in crate::session) const COPY: Self = Self(1 << 23);
    /// Something was made or altered that may call a function where no statement names it: a view, a table's default, a
    /// policy, a domain, an operator. Not every CREATE TABLE.
    pub(in crate::session) const CALLING_DDL: Self = Self(1 << 24);
    /// DISCARD PLANS.
    pub(in crate::session) const DISCARD_PLANS: Self = Self(1 << 25);

    /// Tags after which session state may be another, whatever the words were. DO and CALL hide what they ran.
    pub(super) const CHANGES: Self = Self(
        Self::RESET.0
            | Self::DISCARD_ALL.0
            | Self::DISCARD_TEMP.0
            | Self::PREPARE.0
            | Self::DEALLOCATE.0
            | Self::DEALLOCATE_ALL.0
            | Self::LISTEN.0
            | Self::UNLISTEN.0
            | Self::LOAD.0
            | Self::DO.0
            | Self::CALL.0,
    );

    /// The body of one CommandComplete, or the first bytes of it.
    pub(in crate::session) fn of(body: &[u8]) -> Self {
        match body {
            // The most frequent ones are none of these.
            [b'S', b'E', b'L', ..] | [b'U', b'P', ..] | [b'D', b'E', b'L', ..] => Self::default(),
            _ => Self::of_tag(body.split(|byte| *byte == 0).next().unwrap_or_default()),
        }
    }

    /// Whether there is none.
    pub(in crate::session) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `these` is among them.
    pub(in crate::session) fn has(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    /// Whether a text may mean something else behind them: its types and columns are found when it is parsed. What was
    /// made goes again where its transaction is rolled back; DO hides what it ran.
    pub(in crate::session) fn change_texts(self) -> bool {
        self.has(Self::CREATE | Self::DROP | Self::ALTER | Self::DO)
    }

    fn of_tag(tag: &[u8]) -> Self {
        let mut words = tag.splitn(2, |byte| *byte == b' ');
        let first = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        match first {
            b"SET" if rest.is_empty() => Self::SET,
            b"RESET" => Self::RESET,
            b"DISCARD" => match rest {
                b"ALL" => Self::DISCARD_ALL,
                b"TEMP" => Self::DISCARD_TEMP,
                b"PLANS" => Self::DISCARD_PLANS,
                _ => Self::default(),
            },
            b"PREPARE" if rest.is_empty() => Self::PREPARE,
            b"DEALLOCATE" if rest == b"ALL" => Self::DEALLOCATE_ALL,
            b"DEALLOCATE" => Self::DEALLOCATE,
            b"LISTEN" => Self::LISTEN,
            b"UNLISTEN" => Self::UNLISTEN,
            b"DECLARE" => Self::DECLARE,
            b"CLOSE" => Self::CLOSE,
            b"LOAD" => Self::LOAD,
            b"DO" => Self::DO,
            b"CALL" => Self::CALL,
            b"INSERT" => Self::INSERT,
            b"MERGE" => Self::MERGE,
            b"COPY" => Self::COPY,
            b"GRANT" | b"REVOKE" | b"REASSIGN" => Self::ROLES,
            b"CREATE" => Self::CREATE | Self::of_definition(rest),
            b"ALTER" if rest == b"SYSTEM" => Self::ALTER | Self::ALTER_SYSTEM,
            b"ALTER" if rest == b"TABLE" => Self::ALTER | Self::CALLING_DDL,
            b"ALTER" => Self::ALTER | Self::of_definition(rest),
            b"DROP" => Self::DROP | Self::of_definition(rest),
            _ => Self::default(),
        }
    }

    fn of_definition(kind: &[u8]) -> Self {
        match kind {
            b"FUNCTION" | b"PROCEDURE" | b"ROUTINE" | b"AGGREGATE" | b"EXTENSION" | b"TRIGGER"
            | b"EVENT TRIGGER" | b"RULE" => Self::FUNCTION_DDL,
            b"VIEW" | b"MATERIALIZED VIEW" | b"POLICY" | b"DOMAIN" | b"OPERATOR" | b"CAST" => {
                Self::CALLING_DDL
            }
            b"DATABASE" => Self::DATABASE,
            b"ROLE" | b"OWNED" => Self::ROLES,
            _ => Self::default(),
        }
    }
}

impl BitOr for Tags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Tags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
