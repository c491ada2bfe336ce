//! Asks Postgres what a session carries: one simple Query, one round trip, and a reader of its rows.
//!
//! The client may have set anything and may be any role, so every name is qualified, operators too. Works from
//! Postgres 13 on. What fails is not guessed at: its caller then takes the state for unknown.

use std::{io::Write as _, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::{APPLICATION_NAME, Carried, Pins, Profile, Setting, Statement, repeat::prepare_in};
use crate::session::words::{CustomNames, Tags, Words};
use crate::wire::WireError;
use crate::wire::reply::data_row;

/// Most statements that are remembered for a client.
const STATEMENTS_MAX: usize = 256;
/// Most bytes of a whole profile.
const PROFILE_BYTES_MAX: usize = 256 * 1024;
/// The first major version that lets roles be given the right to set.
const GRANTS_SETTINGS: u32 = 15;

/// What is known when Postgres is asked.
#[derive(Debug)]
pub(in crate::session) struct Question<'a> {
    /// The role that logged in.
    pub(in crate::session) login_role: &'a str,
    /// The client's own application_name, and the one that its server session was opened with.
    pub(in crate::session) application: (&'a Bytes, &'a Bytes),
    /// The server's major version.
    pub(in crate::session) server_major: u32,
    /// What the client carried before the turn.
    pub(in crate::session) before: &'a Arc<Profile>,
    /// What pinned it before.
    pub(in crate::session) pins: Pins,
    /// What the turn said.
    pub(in crate::session) turn: (Words, Tags),
    /// Names that may be custom settings.
    pub(in crate::session) candidates: CustomNames,
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
}

/// Of a statement.
type NameAndText = (Box<[u8]>, Box<[u8]>);

/// The rows, taken apart.
#[derive(Debug, Default)]
struct Found {
    settings: Vec<Setting>,
    session_authorization: Option<Box<[u8]>>,
    role: Option<Box<[u8]>>,
    statements: Vec<NameAndText>,
    pins: Pins,
    names: CustomNames,
}

impl Question<'_> {
    /// Appends the Query to `out`.
    pub(in crate::session) fn put(&self, out: &mut BytesMut) {
        let mut sql = Vec::with_capacity(2048);
        self.put_settings(&mut sql);
        sql.extend_from_slice(
            b" UNION ALL SELECT 'role', pg_catalog.current_setting('role'), session_user::pg_catalog.text, true \
              UNION ALL SELECT 'sql', name, statement, true FROM pg_catalog.pg_prepared_statements WHERE from_sql \
              UNION ALL SELECT 'hold', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
              UNION ALL SELECT 'listen', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) \
              UNION ALL SELECT 'advisory', '', '', true WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
                WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
                AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
              UNION ALL SELECT 'temp', '', '', true WHERE \
                EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
                OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
                OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
        );
        let mut separator: &[u8] =
            b" UNION ALL SELECT 'custom', n, pg_catalog.current_setting(n, true), true FROM (VALUES (";
        for name in self.candidates.iter() {
            sql.extend_from_slice(separator);
            put_literal(name, &mut sql);
            separator = b"), (";
        }
        if self.candidates.iter().len() > 0 {
            sql.extend_from_slice(
                b")) v (n) WHERE pg_catalog.current_setting(n, true) IS NOT NULL AND NOT EXISTS (SELECT FROM s \
                  WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) n)",
            );
        }
        out.put_u8(b'Q');
        out.put_u32(u32::try_from(sql.len() + 5).expect("names are bounded, and so is the question"));
        out.put_slice(&sql);
        out.put_u8(0);
    }

    fn put_settings(&self, sql: &mut Vec<u8>) {
        sql.extend_from_slice(
            b"WITH s AS MATERIALIZED (SELECT name, setting, source, context FROM pg_catalog.pg_settings) \
              SELECT 'set', name, setting, context OPERATOR(pg_catalog.<>) 'superuser' OR ",
        );
        if self.server_major >= GRANTS_SETTINGS {
            sql.extend_from_slice(b"pg_catalog.has_parameter_privilege(");
            put_literal(self.login_role.as_bytes(), sql);
            sql.extend_from_slice(b", name, 'SET')");
        } else {
            sql.extend_from_slice(
                b"(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) ",
            );
            put_literal(self.login_role.as_bytes(), sql);
            sql.push(b')');
        }
        sql.extend_from_slice(
            b" FROM s WHERE source OPERATOR(pg_catalog.=) 'session' \
              AND pg_catalog.left(name, 12) OPERATOR(pg_catalog.<>) 'transaction_'",
        );
    }

    /// Reads the rows of the answer.
    ///
    /// # Errors
    /// They are not what was asked for.
    pub(in crate::session) fn read(&self, rows: &[Bytes]) -> Result<Captured, WireError> {
        let mut found = Found {
            pins: self.pins.remembered(self.turn.0, self.turn.1),
            ..Found::default()
        };
        for row in rows {
            let values = data_row(row)?;
            let [Some(kind), Some(name), value, settable] = values[..] else {
                return Err(WireError::Violation("the server's row is not what was asked for"));
            };
            self.take(
                &mut found,
                (kind, name),
                value.unwrap_or_default(),
                settable == Some(b"t"),
            );
        }
        Ok(self.captured(found))
    }

    fn take(&self, found: &mut Found, (kind, name): (&[u8], &[u8]), value: &[u8], is_settable: bool) {
        match kind {
            b"set" => {
                found.settings.push(Setting::new(name, value));
                if !is_settable {
                    found.pins |= Pins::PRIVILEGED_SETTING;
                }
            }
            // One that was only there for a transaction is '' now, as after a reset.
            b"custom" => {
                found.names.insert(name);
                if !value.is_empty() {
                    found.settings.push(Setting::new(name, value));
                }
            }
            b"role" => {
                found.role = (name != b"none").then(|| name.into());
                found.session_authorization = (value != self.login_role.as_bytes()).then(|| value.into());
            }
            b"sql" => found.statements.push((name.into(), value.into())),
            b"hold" => found.pins |= Pins::HOLD,
            b"listen" => found.pins |= Pins::LISTEN,
            b"advisory" => found.pins |= Pins::ADVISORY,
            b"temp" => found.pins |= Pins::TEMP,
            _ => (),
        }
    }

    fn captured(&self, mut found: Found) -> Captured {
        let has_application = found
            .settings
            .iter()
            .any(|setting| *setting.name == *APPLICATION_NAME);
        if !has_application {
            found
                .settings
                .push(Setting::new(APPLICATION_NAME, self.application.1));
        }
        let session = Profile::new(found.settings, found.session_authorization, found.role);
        let under = Arc::new(session.settings_only());
        let statements: Vec<_> = found
            .statements
            .into_iter()
            .map(|(name, text)| self.statement(name, &text, &under))
            .collect();
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
            },
            profile,
            names: found.names,
        }
    }

    /// A statement that was there before keeps the settings that it was prepared under.
    fn statement(&self, name: Box<[u8]>, text: &[u8], under: &Arc<Profile>) -> Statement {
        let text: Option<Box<[u8]>> = prepare_in(text, &name).map(Into::into);
        let known = self.before.statements.iter().find(|known| known.name == name);
        let known = known.filter(|known| known.text == text);
        Statement {
            under: known.map_or(under, |known| &known.under).clone(),
            text,
            name,
        }
    }
}

/// A text as SQL writes it, whatever standard_conforming_strings is.
fn put_literal(text: &[u8], sql: &mut Vec<u8>) {
    let _ = sql.write_all(if text.contains(&b'\\') { b" E'" } else { b"'" });
    for byte in text {
        if matches!(byte, b'\'' | b'\\') {
            sql.push(*byte);
        }
        sql.push(*byte);
    }
    sql.push(b'\'');
}
