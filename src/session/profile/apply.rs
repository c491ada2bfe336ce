//! Makes a server session carry what a client carries: one flight of messages.
//!
//! Where it is known what the session carries, only what differs is reset and set; where it is not, everything is. Values
//! are bound, never quoted. Statements at protocol level stay, so it is never DISCARD ALL.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{Carried, Pins, Profile, Setting, Statement};
use crate::wire::say;

/// Messages that are sent at once.
#[derive(Debug, Default)]
pub(in crate::session) struct Flight {
    pub(in crate::session) bytes: BytesMut,
    /// How many ReadyForQuery answer them.
    pub(in crate::session) readies: usize,
    /// Which ReadyForQuery, counted from 0, end a PREPARE, and the place of its statement in the profile: one that
    /// Postgres refuses is only missing.
    pub(in crate::session) prepares: Vec<(usize, usize)>,
    /// Another one that an error may come before.
    may_fail: Option<usize>,
}

/// Whose server session it is that a client's profile is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Whose {
    /// Its own: what nobody sees is the client's, and what pins it stays.
    Own,
    /// Nobody's or another's.
    Other,
}

/// The one setting that says how the others are to be read.
const CLIENT_ENCODING: &[u8] = b"client_encoding";

/// What nobody knows is reset without being looked at.
const RESET_ALL: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION AUTHORIZATION DEFAULT; \
    RESET ROLE; RESET ALL; UNLISTEN *; CLOSE ALL; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Who has made its transactions serializable and deferrable would have its resets wait for those of others.
const ISOLATION: &[u8] = b"default_transaction_isolation";
const READ_COMMITTED: &[u8] = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; ";

/// How long a statement that may not be needed at all waits for a table.
const PREPARE_QUICKLY: &str = "SET lock_timeout = '100ms'";
const LOCK_TIMEOUT: &[u8] = b"lock_timeout";

/// Sets one setting to a bound value.
const SET: &[u8] = b"SELECT pg_catalog.set_config($1, $2, false)\0\0\x02\0\0\0\x19\0\0\0\x19";

impl Flight {
    /// A simple Query.
    pub(in crate::session) fn query(&mut self, sql: &str) {
        say::query(sql, &mut self.bytes);
        self.readies += 1;
    }

    /// A simple Query of bytes.
    fn query_bytes(&mut self, sql: &[u8]) {
        self.bytes.put_u8(b'Q');
        self.bytes
            .put_u32(u32::try_from(sql.len() + 5).expect("what a client carries is bounded"));
        self.bytes.put_slice(sql);
        self.bytes.put_u8(0);
        self.readies += 1;
    }

    /// Sync, behind extended messages.
    pub(in crate::session) fn sync(&mut self) {
        self.bytes.put_slice(say::SYNC);
        self.readies += 1;
    }

    /// The same, where one of these may be refused without harm.
    pub(in crate::session) fn sync_that_may_fail(&mut self) {
        self.may_fail = Some(self.readies);
        self.sync();
    }

    /// Which ReadyForQuery, counted from 0, an error may come before.
    pub(in crate::session) fn may_fail(&self) -> Vec<usize> {
        let prepares = self.prepares.iter().map(|(ready, _)| *ready);
        prepares.chain(self.may_fail).collect()
    }

    /// The session carries what `to` says afterwards; `from` is what it carries now, where that is known. It has had
    /// custom settings of these `names` then, too.
    pub(in crate::session) fn carry<'n>(
        &mut self,
        (from, whose): (Option<&Carried>, Whose),
        to: &Profile,
        names: impl Iterator<Item = &'n [u8]>,
    ) {
        let nothing = Carried::fresh(Arc::new(Profile::new(Vec::new(), None, None)));
        match from {
            None => {
                self.query(RESET_ALL);
                self.change(&nothing, to, names);
            }
            Some(from) => {
                let resets = resets((from, whose), to);
                if !resets.is_empty() {
                    self.query_bytes(&resets);
                }
                let has_settings = whose == Whose::Own || !must_reset_all(from);
                self.change(if has_settings { from } else { &nothing }, to, names);
            }
        }
        let from = from.map_or(&nothing.profile, |from| &from.profile);
        self.prepare_missing(from, to);
    }

    /// The statements of `to` that `from` has not. To prepare them takes locks of tables that what comes may have nothing to
    /// do with: one whose table is locked is missing for now.
    fn prepare_missing(&mut self, from: &Profile, to: &Profile) {
        let missing = |(_, statement): &(usize, &Statement)| !from.statements.contains(statement);
        let missing = to.statements.iter().enumerate().filter(missing);
        let mut missing = missing
            .filter_map(|(place, statement)| Some((place, statement, statement.text.as_ref()?)))
            .peekable();
        if missing.peek().is_none() {
            return;
        }
        self.query(PREPARE_QUICKLY);
        for (place, statement, text) in missing {
            if is_same_under(text, &statement.under, to) {
                self.prepare(place, text);
            } else {
                // Its literals have the values that they had then.
                self.switch(to, &statement.under);
                self.prepare(place, text);
                self.switch(&statement.under, to);
                self.query(PREPARE_QUICKLY);
            }
        }
        match to.setting(LOCK_TIMEOUT) {
            None => self.query("RESET lock_timeout"),
            Some(limit) => {
                say::parse(b"", SET, &mut self.bytes);
                self.execute(LOCK_TIMEOUT, limit);
                self.sync();
            }
        }
    }

    fn prepare(&mut self, place: usize, text: &[u8]) {
        self.prepares.push((self.readies, place));
        prepare(text, &mut self.bytes);
        self.sync();
    }

    /// Other settings, for a while; statements stay.
    pub(in crate::session) fn switch(&mut self, from: &Profile, to: &Profile) {
        let from = Carried::fresh(Arc::new(from.settings_only()));
        let to = to.settings_only();
        let resets = resets((&from, Whose::Own), &to);
        if !resets.is_empty() {
            self.query_bytes(&resets);
        }
        self.change(&from, &to, std::iter::empty());
    }

    /// Sets what `to` has and `from` has not.
    fn change<'n>(&mut self, from: &Carried, to: &Profile, names: impl Iterator<Item = &'n [u8]>) {
        let keeps_identity = is_same_role(&from.profile, to) && !resets_identity(from, to);
        let own = (!keeps_identity).then_some(to);
        let from = &from.profile;
        let is_set = |setting: &&Setting| from.setting(&setting.name) == Some(&*setting.value);
        let mut settings: Vec<_> = to.settings.iter().filter(|setting| !is_set(setting)).collect();
        // The other values are in this encoding; and time limits would count for the flight.
        settings.sort_by_key(|setting| {
            (
                *setting.name != *CLIENT_ENCODING,
                setting.name.ends_with(b"_timeout"),
            )
        });
        let authorization = own.and_then(|to| to.session_authorization.as_deref());
        let role = own.and_then(|to| to.role.as_deref());
        let identity = [
            (&b"session_authorization"[..], authorization),
            (&b"role"[..], role),
        ];
        // As after a reset. One that has a value gets it below.
        let names = names
            .filter(|name| to.setting(name).is_none())
            .map(|name| (name, &b""[..]));
        let settings = settings
            .into_iter()
            .map(|setting| (&*setting.name, &*setting.value));
        let identity = identity
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut is_empty = true;
        for (name, value) in settings.chain(names).chain(identity) {
            if std::mem::take(&mut is_empty) {
                say::parse(b"", SET, &mut self.bytes);
            }
            self.execute(name, value);
        }
        if !is_empty {
            self.sync();
        }
    }

    fn execute(&mut self, name: &[u8], value: &[u8]) {
        let length = |text: &[u8]| u32::try_from(text.len()).expect("what a client carries is bounded");
        self.bytes.put_u8(b'B');
        self.bytes
            .put_u32(4 + 2 + 2 + 2 + 4 + length(name) + 4 + length(value) + 2);
        self.bytes.put_slice(&[0, 0, 0, 0, 0, 2]);
        for text in [name, value] {
            self.bytes.put_u32(length(text));
            self.bytes.put_slice(text);
        }
        self.bytes.put_u16(0);
        self.bytes.put_slice(say::EXECUTE_UNNAMED);
    }
}

/// Says a PREPARE of SQL's again; Postgres itself refuses more than one statement here.
pub(in crate::session) fn prepare(text: &[u8], out: &mut BytesMut) {
    say::parse(b"", &[text, b"\0\0\0"].concat(), out);
    out.put_slice(say::BIND_UNNAMED);
    out.put_slice(say::EXECUTE_UNNAMED);
}

/// Whether a PREPARE makes the same of its text under either settings.
pub(in crate::session) fn is_same_under(text: &[u8], one: &Profile, other: &Profile) -> bool {
    one.settings_fingerprint == other.settings_fingerprint || !has_literals(text)
}

/// Whether a text has string constants, whose meaning may depend on settings. A number behind `$` is a parameter's.
pub(in crate::session) fn has_literals(text: &[u8]) -> bool {
    let mut behind = text.iter().skip(1).chain([&0]);
    let mut pairs = text.iter().zip(&mut behind);
    pairs.any(|(byte, next)| *byte == b'\'' || (*byte == b'$' && !next.is_ascii_digit()))
}

fn is_same_role(from: &Profile, to: &Profile) -> bool {
    from.session_authorization == to.session_authorization && from.role == to.role
}

/// Whether another client's settings are not all known, or not all for the role that logged in to reset: RESET of a
/// setting asks who resets it, RESET ALL does not.
fn must_reset_all(from: &Carried) -> bool {
    from.hides
        || from
            .pins
            .has(Pins::PRIVILEGED_SETTING | Pins::UNKNOWN | Pins::TOO_LARGE)
}

/// Whether roles are reset, because whatever is to be changed, the role that logged in may change it.
fn resets_identity(from: &Carried, to: &Profile) -> bool {
    let profile = &*from.profile;
    let is_other = profile.session_authorization.is_some() || profile.role.is_some();
    let changes = to.settings != profile.settings || to.statements != profile.statements;
    is_other && (changes || from.hides || !from.pins.is_empty() || !is_same_role(profile, to))
}

/// Statements that take away what `from` has and `to` has not.
fn resets((from, whose): (&Carried, Whose), to: &Profile) -> Vec<u8> {
    let mut sql = Vec::new();
    let mut add = |parts: &[&[u8]]| {
        if !sql.is_empty() {
            sql.extend_from_slice(b"; ");
        }
        parts.iter().for_each(|part| sql.extend_from_slice(part));
    };
    let profile = &*from.profile;
    if resets_identity(from, to) {
        add(&[b"SET SESSION AUTHORIZATION DEFAULT; RESET ROLE"]);
    }
    if whose == Whose::Other && must_reset_all(from) {
        add(&[b"RESET ALL"]);
    } else {
        let gone = profile.settings.iter();
        for setting in gone.filter(|setting| to.setting(&setting.name).is_none()) {
            add(&[b"RESET ", &quoted(&setting.name)]);
        }
    }
    for (pin, reset) in [
        (Pins::LISTEN, &b"UNLISTEN *"[..]),
        (Pins::HOLD, b"CLOSE ALL"),
        (Pins::ADVISORY, b"SELECT pg_catalog.pg_advisory_unlock_all()"),
        (Pins::TEMP, b"DISCARD TEMP"),
    ] {
        if whose == Whose::Other && from.pins.has(pin) {
            add(&[reset]);
        }
    }
    for statement in &profile.statements {
        if !to.statements.contains(statement) {
            add(&[b"DEALLOCATE ", &quoted_whole(&statement.name)]);
        }
    }
    if !sql.is_empty() && (profile.setting(ISOLATION).is_some() || must_reset_all(from)) {
        return [READ_COMMITTED, &sql].concat();
    }
    sql
}

/// A setting's name; the dot of a custom one stands between two identifiers.
fn quoted(name: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = name.split(|byte| *byte == b'.').map(quoted_whole).collect();
    parts.join(&b'.')
}

fn quoted_whole(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in name {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}
