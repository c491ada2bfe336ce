//! Which functions of a database can change the state of a session: asked of Postgres once per wake.
//!
//! Their names become trigger words. Where one of them may be called without its name in a statement (by a trigger, a
//! view, a default), every turn on the database is looked after.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;

use crate::session::words::{CustomNames, Effect, FunctionWords, Scan, Words};
use crate::wire::WireError;
use crate::wire::reply::data_row;

/// Functions whose sources are read; a database with more of them is taken for one whose functions may do anything.
const FUNCTIONS_MAX: usize = 5000;
/// How often callers of callers are looked for.
const ROUNDS_MAX: usize = 10;

/// One row each: kind, name, source, whether it is called without being named. Functions of C and of Postgres itself
/// are known by their names.
pub(in crate::session) const SQL: &str = "SELECT 'timeout', '', setting, false FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'idle_in_transaction_session_timeout' UNION ALL \
    (SELECT 'function', p.proname::pg_catalog.text, \
    CASE WHEN p.prosrc OPERATOR(pg_catalog.=) '' THEN pg_catalog.pg_get_functiondef(p.oid) \
      WHEN pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.<=) 65536 THEN p.prosrc END, \
    p.prorettype OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.trigger'::pg_catalog.regtype::pg_catalog.oid, \
      'pg_catalog.event_trigger'::pg_catalog.regtype::pg_catalog.oid]) \
    OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid OPERATOR(pg_catalog.=) \
      'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) p.oid \
      AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_proc'::pg_catalog.regclass) \
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['internal', 'c']) AND p.prokind OPERATOR(pg_catalog.<>) 'a' \
    AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']) LIMIT 5001)";

/// What a function may do that nobody asks Postgres about: its client's own numbers, and no more.
const HARMLESS: Words = Words::SEQUENCES;

/// What is known of a database's functions.
#[derive(Debug)]
pub(in crate::session) struct Functions {
    pub(in crate::session) words: FunctionWords,
    /// The custom settings that their sources name.
    pub(in crate::session) names: CustomNames,
    /// One of them may be called without its name in a statement.
    pub(in crate::session) is_careful: bool,
    pub(in crate::session) idle_in_transaction: Option<Duration>,
}

/// One function.
struct Function {
    name: Box<[u8]>,
    source: Option<Box<[u8]>>,
    is_called_unnamed: bool,
}

impl Functions {
    /// Reads the rows of the answer.
    ///
    /// # Errors
    /// They are not what was asked for.
    pub(in crate::session) fn read(rows: &[Bytes]) -> Result<Self, WireError> {
        let mut functions = Vec::new();
        let mut idle_in_transaction = None;
        for row in rows {
            let values = data_row(row)?;
            let [Some(kind), Some(name), source, is_called_unnamed] = values[..] else {
                return Err(WireError::Violation("the server's row is not what was asked for"));
            };
            if kind == b"timeout" {
                let number = source.and_then(|text| str::from_utf8(text).ok()?.parse().ok());
                idle_in_transaction = number.filter(|ms| *ms > 0).map(Duration::from_millis);
            } else {
                functions.push(Function {
                    name: name.into(),
                    source: source.map(Into::into),
                    is_called_unnamed: is_called_unnamed == Some(b"t"),
                });
            }
        }
        let mut read = Self::of(&functions);
        read.idle_in_transaction = idle_in_transaction;
        Ok(read)
    }

    fn of(functions: &[Function]) -> Self {
        let mut known: HashMap<&[u8], Effect> = HashMap::new();
        let mut is_careful = functions.len() > FUNCTIONS_MAX;
        for round in 0..ROUNDS_MAX {
            let words = FunctionWords::new(
                known
                    .iter()
                    .map(|(name, effect)| ((*name).into(), effect.clone())),
            );
            let mut more = false;
            for function in functions {
                let effect = effect(function, &words);
                if effect.words != Words::NONE && known.get(&*function.name) != Some(&effect) {
                    let at = known.entry(&function.name).or_default();
                    let before = at.clone();
                    at.words |= effect.words;
                    at.names.extend(&effect.names);
                    more |= *at != before;
                }
            }
            if !more {
                break;
            }
            is_careful |= round == ROUNDS_MAX - 1;
        }
        is_careful |= functions.iter().any(|function| {
            let effect = known.get(&*function.name);
            let matters = effect.is_some_and(|effect| effect.words.has(Words::TRIGGER_FUNCTION));
            matters && (function.is_called_unnamed || !FunctionWords::can_be_found(&function.name))
        });
        let mut names = CustomNames::default();
        known.values().for_each(|effect| names.extend(&effect.names));
        let words = known.into_iter().map(|(name, effect)| (name.into(), effect));
        Self {
            names,
            words: FunctionWords::new(words),
            is_careful,
            idle_in_transaction: None,
        }
    }
}

/// What calling a function does, as far as its source and the functions that are `known` tell.
fn effect(function: &Function, known: &FunctionWords) -> Effect {
    let Some(source) = &function.source else {
        // Too long to be read.
        return Effect {
            words: Words::OBSCURE | Words::TRIGGER_FUNCTION,
            names: CustomNames::default(),
        };
    };
    let mut scan = Scan::default();
    scan.feed(source, Some(known));
    let words = scan.finish(Some(known));
    let names = scan.take_names();
    let changes = words.only(Words::CHANGES_IN_FUNCTION | Words::TRIGGER_FUNCTION | Words::NAMES);
    let matters = changes.only(Words::CHANGES_IN_FUNCTION | Words::TRIGGER_FUNCTION);
    if matters.without(HARMLESS) == Words::NONE {
        return Effect {
            words: changes,
            names,
        };
    }
    Effect {
        words: changes | Words::TRIGGER_FUNCTION,
        names,
    }
}
