//! Asks Postgres what a session carries: one simple Query, one round trip, and a reader of its rows.
//!
//! The client may have set anything and may be any role, so every name is qualified, operators too. Works from
//! Postgres 13 on. What fails is not guessed at: its caller then takes the state for unknown.

use std::{collections::BTreeSet, io::Write as _, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    APPLICATION_NAME, Carried, Pins, Profile, Setting, Statement, apply::has_literals, repeat::prepare_in,
};
use crate::session::reported::Reported;
use crate::session::statements::{Name, SqlPrepared};
use crate::session::words::{CustomNames, Tags, Words};
use crate::wire::WireError;
use crate::wire::reply::data_row;

/// Most statements that are remembered for a client.
const STATEMENTS_MAX: usize = 256;
/// Most bytes of a whole profile.
const PROFILE_BYTES_MAX: usize = 256 * 1024;
/// The first major version that lets roles be given the right to set.
const GRANTS_SETTINGS: u32 = 15;

/// A serializable transaction could wait for others, or be refused on a standby.
const ISOLATION: &[u8] = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;";

/// Each statement of a Query has its own limit; this one is short.
const LIFTS_LIMIT: &[u8] =
    b"SELECT 'limit', 'statement_timeout', pg_catalog.current_setting('statement_timeout'), true;\
    SET LOCAL statement_timeout = 0;";

/// With `enable_seqscan` off every table that has no index for a question seems so expensive that the question is
/// compiled, for most of a second. Behind the settings: it would be one of them.
const NO_JIT: &[u8] = b"SET LOCAL jit = off;";

/// Everything but settings.
const REST: &[u8] = b"SELECT 'role', pg_catalog.current_setting('role'), session_user::pg_catalog.text, \
    EXISTS (SELECT FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) c \
    WHERE pg_catalog.starts_with(c, 'role=')) \
    UNION ALL (SELECT 'sql', name, \
    CASE WHEN pg_catalog.octet_length(statement) OPERATOR(pg_catalog.<=) 262144 THEN statement END, true \
    FROM pg_catalog.pg_prepared_statements WHERE from_sql LIMIT 257) \
    UNION ALL SELECT 'hold', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
    UNION ALL SELECT 'listen', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
    UNION ALL SELECT 'advisory', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
    WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
    UNION ALL SELECT 'temp', '', '', true WHERE \
    EXISTS (SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) '2615' \
    AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
    UNION ALL SELECT 'temp schema', '', '', true WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) '0'";

/// Asked only where one may have been made: few databases have any.
const SLOTS: &[u8] =
    b" UNION ALL SELECT 'slot', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_replication_slots \
    WHERE temporary AND active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())";

/// Asked only where a function or the like may have taken the protocol's statements away.
const PROTOCOL: &[u8] = b" UNION ALL SELECT 'protocol', '', '', true WHERE EXISTS (SELECT FROM \
    pg_catalog.pg_prepared_statements WHERE NOT from_sql)";

/// Custom settings, of which none is in the view unless the library that they belong to is loaded.
const CUSTOM: &[u8] = b" UNION ALL SELECT 'custom', n, \
    CASE WHEN pg_catalog.octet_length(pg_catalog.current_setting(n, true)) OPERATOR(pg_catalog.<=) 262144 \
    THEN pg_catalog.current_setting(n, true) END, \
    EXISTS (SELECT FROM s WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) n) FROM (VALUES (";

/// What is known when Postgres is asked.
#[derive(Debug)]
pub(in crate::session) struct Question<'a> {
    /// The role that logged in.
    pub(in crate::session) login_role: &'a str,
    /// The client's own application_name, and the one that its server session was opened with.
    pub(in crate::session) application: (&'a Bytes, &'a Bytes),
    /// The session has the other one after a reset, and the client was told its own: behind SET LOCAL Postgres says that
    /// it was set.
    pub(in crate::session) is_told_own_application: bool,
    /// The server's major version.
    pub(in crate::session) server_major: u32,
    /// What the client carried before the turn.
    pub(in crate::session) before: &'a Arc<Profile>,
    /// What the server session carried before the turn, as far as that is known.
    pub(in crate::session) session: Option<&'a Carried>,
    /// A role may have been set when the session was started.
    pub(in crate::session) starts_with_role: bool,
    /// What the turn said.
    pub(in crate::session) turn: (Words, Tags),
    /// Names that may be custom settings: of the client and its session, of the database's functions, and of others that once
    /// looked like some.
    pub(in crate::session) candidates: [&'a CustomNames; 3],
    /// There are more of them than are remembered.
    pub(in crate::session) has_more_names: bool,
    /// The client's statements that SQL has prepared and the server session lacks.
    pub(in crate::session) lacking: &'a [Name],
    /// What the turn's PREPAREs of SQL were prepared under, and what is reported now.
    pub(in crate::session) prepared: (SqlPrepared, &'a Reported),
    /// The client's own statement_timeout is too short for the answer, and is lifted for it.
    pub(in crate::session) lifts_limit: bool,
}

/// What Postgres said.
#[derive(Debug)]
pub(in crate::session) struct Captured {
    /// What the client carries now.
    pub(in crate::session) profile: Arc<Profile>,
    /// What the server session carries: another application_name, where the client has reset its own.
    pub(in crate::session) carried: Carried,
    /// The custom settings that exist: both the client and the server session have had them.
    pub(in crate::session) names: CustomNames,
    /// The server session has a schema for temporary objects, whether there are any or not.
    pub(in crate::session) has_temp_schema: bool,
    /// It has no statement of the protocol's any more.
    pub(in crate::session) has_no_statement: bool,
}

/// Of a statement.
type NameAndText = (Box<[u8]>, Option<Box<[u8]>>);

/// The rows, taken apart.
#[derive(Debug, Default)]
struct Found {
    settings: Vec<Setting>,
    session_authorization: Option<Box<[u8]>>,
    role: Option<Box<[u8]>>,
    statements: Vec<NameAndText>,
    pins: Pins,
    names: CustomNames,
    has_temp_schema: bool,
    has_statement: bool,
}

impl Found {
    fn set(&mut self, name: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.settings.push(Setting::new(name, value)),
            None => self.pins |= Pins::TOO_LARGE,
        }
    }
}

impl Question<'_> {
    /// Appends the Query to `out`.
    pub(in crate::session) fn put(&self, out: &mut BytesMut) {
        let mut sql = Vec::with_capacity(4096);
        sql.extend_from_slice(ISOLATION);
        if self.lifts_limit {
            sql.extend_from_slice(LIFTS_LIMIT);
        }
        self.put_settings(&mut sql);
        self.put_custom(&mut sql);
        sql.push(b';');
        sql.extend_from_slice(NO_JIT);
        sql.extend_from_slice(REST);
        if self.turn.0.has(Words::SLOT) || self.pins().has(Pins::SLOT) {
            sql.extend_from_slice(SLOTS);
        }
        if self.may_have_forgotten() {
            sql.extend_from_slice(PROTOCOL);
        }
        out.put_u8(b'Q');
        out.put_u32(u32::try_from(sql.len() + 5).expect("names are bounded, and so is the question"));
        out.put_slice(&sql);
        out.put_u8(0);
    }

    fn put_settings(&self, sql: &mut Vec<u8>) {
        sql.extend_from_slice(
            b"WITH s AS MATERIALIZED (SELECT name, setting, source, context FROM pg_catalog.pg_settings) \
              SELECT 'set', name, \
              CASE WHEN pg_catalog.octet_length(setting) OPERATOR(pg_catalog.<=) 262144 THEN setting END, \
              context OPERATOR(pg_catalog.<>) 'superuser' OR ",
        );
        if self.server_major >= GRANTS_SETTINGS {
            sql.extend_from_slice(b"pg_catalog.has_parameter_privilege(");
            put_server_literal(self.login_role.as_bytes(), sql);
            sql.extend_from_slice(b", name, 'SET')");
        } else {
            sql.extend_from_slice(
                b"(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) ",
            );
            put_server_literal(self.login_role.as_bytes(), sql);
            sql.push(b')');
        }
        sql.extend_from_slice(
            b" FROM s WHERE source OPERATOR(pg_catalog.=) 'session' \
              AND name OPERATOR(pg_catalog.<>) 'transaction_isolation' \
              AND name OPERATOR(pg_catalog.<>) 'transaction_read_only' \
              AND name OPERATOR(pg_catalog.<>) 'transaction_deferrable'",
        );
    }

    fn put_custom(&self, sql: &mut Vec<u8>) {
        let candidates: BTreeSet<&[u8]> = self.candidates.into_iter().flat_map(CustomNames::iter).collect();
        let mut separator: &[u8] = CUSTOM;
        for name in &candidates {
            sql.extend_from_slice(separator);
            put_literal(name, sql);
            separator = b"), (";
        }
        if !candidates.is_empty() {
            sql.extend_from_slice(b")) v (n) WHERE pg_catalog.current_setting(n, true) IS NOT NULL");
        }
    }

    /// Reads the rows of the answer.
    ///
    /// # Errors
    /// They are not what was asked for.
    pub(in crate::session) fn read(&self, rows: &[Bytes]) -> Result<Captured, WireError> {
        let mut found = Found {
            pins: self.pins().remembered(self.turn.0, self.turn.1),
            ..Found::default()
        };
        for row in rows {
            let values = data_row(row)?;
            let [Some(kind), Some(name), value, settable] = values[..] else {
                return Err(WireError::Violation("the server's row is not what was asked for"));
            };
            self.take(&mut found, (kind, name), (value, settable == Some(b"t")));
        }
        if self.has_more_names {
            found.pins |= Pins::TOO_LARGE;
        }
        Ok(self.captured(found))
    }

    fn may_have_forgotten(&self) -> bool {
        self.turn.0.has(Words::DEALLOCATE) || hides(self.turn)
    }

    fn pins(&self) -> Pins {
        self.session.map_or(Pins::UNKNOWN, |session| session.pins)
    }

    /// A row's kind, its name, its value (`None`: too long), and what else it says.
    fn take(&self, found: &mut Found, (kind, name): (&[u8], &[u8]), (value, flag): (Option<&[u8]>, bool)) {
        match kind {
            b"limit" => found.set(name, value),
            b"set" if self.lifts_limit && name == b"statement_timeout" => (),
            b"set" => {
                found.set(name, value);
                if !flag {
                    found.pins |= Pins::PRIVILEGED_SETTING;
                }
            }
            // Also one that is '', as after a reset: the session may have been started with another value.
            b"custom" => {
                found.names.insert(name);
                // Where a library has defined it, it is among the settings.
                if !flag {
                    found.set(name, value);
                }
            }
            b"role" => {
                let value = value.unwrap_or_default();
                let is_of_startup = name == b"none" && !flag && !self.starts_with_role;
                found.role = (!is_of_startup).then(|| name.into());
                found.session_authorization = (value != self.login_role.as_bytes()).then(|| value.into());
            }
            b"sql" => found.statements.push((name.into(), value.map(Into::into))),
            b"slot" => found.pins |= Pins::SLOT,
            b"hold" => found.pins |= Pins::HOLD,
            b"listen" => found.pins |= Pins::LISTEN,
            b"advisory" => found.pins |= Pins::ADVISORY,
            b"temp" => found.pins |= Pins::TEMP,
            b"temp schema" => found.has_temp_schema = true,
            b"protocol" => found.has_statement = true,
            _ => (),
        }
    }

    fn captured(&self, mut found: Found) -> Captured {
        let mut settings = found.settings.iter();
        let application = settings.find(|setting| *setting.name == *APPLICATION_NAME);
        let is_reset = |set: &Setting| self.is_told_own_application && *set.value == **self.application.1;
        let has_application = application.is_some_and(|set| !is_reset(set));
        if application.is_none() {
            found
                .settings
                .push(Setting::new(APPLICATION_NAME, self.application.1));
        }
        let session = Profile::new(found.settings, found.session_authorization, found.role);
        let now = Arc::new(session.settings_only());
        let (prepared, reported) = &self.prepared;
        let under = match prepared {
            SqlPrepared::AsNow => Some(now),
            SqlPrepared::Then(then) => Some(now.as_reported(then, reported)),
            SqlPrepared::Unknown => None,
        };
        let is_known = under.is_some();
        let under = self.shared(under.unwrap_or_else(|| Arc::new(self.before.settings_only())));
        let statement = |(name, text): (Box<[u8]>, Option<Box<[u8]>>)| {
            let text = text.and_then(|text| prepare_in(&text, &name).map(Box::from));
            self.statement(name, text, (&under, is_known))
        };
        let statements: Vec<_> = found.statements.into_iter().map(statement).collect();
        if statements.iter().any(|statement| statement.text.is_none()) {
            found.pins |= Pins::STATEMENT;
        }
        let session = session.with_statements(statements);
        if session.bytes() > PROFILE_BYTES_MAX || session.statements.len() > STATEMENTS_MAX {
            found.pins |= Pins::TOO_LARGE;
        }
        found.names.extend(&session.names());
        let session = Arc::new(session);
        let profile = if has_application {
            session.clone()
        } else {
            Arc::new(session.with_setting(APPLICATION_NAME, self.application.0))
        };
        let profile = profile.with_statements_of(self.before, self.lacking);
        let profile = if profile.is_same(self.before) {
            self.before.clone()
        } else {
            profile
        };
        Captured {
            carried: Carried {
                profile: if session.is_same(&profile) {
                    profile.clone()
                } else {
                    session
                },
                pins: found.pins,
                hides: self.session.is_some_and(|session| session.hides) || hides(self.turn),
            },
            profile,
            names: found.names,
            has_temp_schema: found.has_temp_schema,
            has_no_statement: self.may_have_forgotten() && !found.has_statement,
        }
    }

    /// A statement that was there before keeps the settings that it was prepared under. Of another one they are
    /// `under`, if they are known; else it cannot be moved where they matter.
    fn statement(
        &self,
        name: Box<[u8]>,
        text: Option<Box<[u8]>>,
        (under, is_known): (&Arc<Profile>, bool),
    ) -> Statement {
        let is_same = |known: &&Statement| known.name == name && known.text == text;
        let known = self.before.statements.iter().find(is_same);
        Statement {
            under: known.map_or(under, |known| &known.under).clone(),
            text: text.filter(|text| known.is_some() || is_known || !has_literals(text)),
            name,
        }
    }

    /// The same settings as those that another statement has, where it has the same: they may be long, and many.
    fn shared(&self, settings: Arc<Profile>) -> Arc<Profile> {
        let mut others = self.before.statements.iter().map(|statement| &statement.under);
        let is_same = |other: &&Arc<Profile>| other.is_same(&settings);
        others.find(is_same).cloned().unwrap_or(settings)
    }
}

/// Whether a turn may have set what neither its text nor Postgres shows.
fn hides((words, tags): (Words, Tags)) -> bool {
    words.has(Words::OBSCURE) || tags.has(Tags::DO | Tags::CALL)
}

/// A literal that means the same whatever `standard_conforming_strings` is. Bytes beyond ASCII are in the client's
/// encoding.
fn put_literal(text: &[u8], sql: &mut Vec<u8>) {
    sql.extend_from_slice(b"E'");
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | 0x80.. => sql.push(*byte),
            _ => put_escaped(*byte, sql),
        }
    }
    sql.push(b'\'');
}

/// The same of bytes that are in the server's encoding, as the startup packet's are.
fn put_server_literal(text: &[u8], sql: &mut Vec<u8>) {
    sql.extend_from_slice(b"E'");
    text.iter().for_each(|byte| put_escaped(*byte, sql));
    sql.push(b'\'');
}

fn put_escaped(byte: u8, sql: &mut Vec<u8>) {
    write!(sql, "\\{byte:03o}").expect("a Vec takes what is written");
}
