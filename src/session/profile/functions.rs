//! Which functions of a database can change the state of a session: asked of Postgres once for each wake and database,
//! and after [`functions_may_have_changed`](crate::session::words::functions_may_have_changed).
//!
//! Their sources are looked at as statements are, for words; who calls whom is told by names in sources. Functions in
//! C show no source: the words know those that matter. A function that is called where no statement names it (by a
//! trigger, a view, a default, a policy, a domain, an operator) makes its database *careful*: each session is asked
//! before it goes to another client. One Query; no I/O here.

mod graph;

use std::time::Duration;

use bytes::Bytes;

use crate::session::words::{CustomNames, FunctionWords, Scan, Words};
use crate::wire::WireError;
use crate::wire::reply::data_row;
use graph::Graph;

/// Most functions that are looked at. The largest applications have some thousands.
const FUNCTIONS_MAX: usize = 20_000;
/// Most uses of functions that are looked at; extensions have some thousands.
const USES_MAX: usize = 100_000;

/// What is made when a database is has lower numbers than these (FirstNormalObjectId).
macro_rules! first_of_users {
    () => {
        "'16384'"
    };
}

/// Functions of users and extensions: not in C, or an aggregate, which calls some.
macro_rules! of_users {
    () => {
        concat!(
            " FROM pg_catalog.pg_proc p \
            JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
            WHERE p.oid OPERATOR(pg_catalog.>=) ",
            first_of_users!(),
            " AND ((l.lanname OPERATOR(pg_catalog.<>) 'internal' AND l.lanname OPERATOR(pg_catalog.<>) 'c') \
            OR p.prokind OPERATOR(pg_catalog.=) 'a') LIMIT 20001"
        )
    };
}

/// The Query. Bodies that are parsed already when the function is made have no source but their definition. What depends
/// on a function of a user or an extension: other functions by their OID, all else as NULL; of Postgres' own functions
/// nothing is known to depend, so definitions are looked through for those that change a session. An update of a view
/// on `pg_settings` is a SET, and one on `pg_prepared_statements` shows what the session has. It waits for locks (of a
/// view that is being altered) and for itself less long than an answer is waited for: who has not answered by then has
/// not told.
pub(in crate::session) const SQL: &str = concat!(
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;SET LOCAL statement_timeout = '7s';SET LOCAL lock_timeout = '2s';SET LOCAL jit = off;\
    SELECT 'own', reset_val FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'idle_in_transaction_session_timeout';\
    SELECT 'fun', p.oid, p.proname",
    of_users!(),
    ";SELECT 'src', oid, CASE WHEN pg_catalog.octet_length(source) OPERATOR(pg_catalog.<=) 65536 THEN source END, \
    arguments FROM (SELECT p.oid, CASE WHEN p.prosrc OPERATOR(pg_catalog.=) '' \
      AND p.prokind OPERATOR(pg_catalog.<>) 'a' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END AS source, \
    pg_catalog.array_to_string(p.proargnames, ' ') AS arguments",
    of_users!(),
    ") s;SELECT DISTINCT 'use', refobjid, \
    CASE WHEN classid OPERATOR(pg_catalog.=) '1255' THEN objid END FROM pg_catalog.pg_depend \
    WHERE refclassid OPERATOR(pg_catalog.=) '1255' LIMIT 100001;\
    WITH RECURSIVE views AS (SELECT shown, shown::pg_catalog.regclass::pg_catalog.oid AS view FROM \
      (VALUES ('pg_catalog.pg_settings'), ('pg_catalog.pg_prepared_statements')) roots (shown) UNION \
      SELECT views.shown, r.ev_class FROM views JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) '1259' \
      AND d.refobjid OPERATOR(pg_catalog.=) views.view AND d.classid OPERATOR(pg_catalog.=) '2618' \
      JOIN pg_catalog.pg_rewrite r ON r.oid OPERATOR(pg_catalog.=) d.objid) \
    SELECT 'view', c.relname, views.shown FROM views JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) views.view \
      WHERE c.oid OPERATOR(pg_catalog.>=) ",
    first_of_users!(),
    ";WITH f AS MATERIALIZED (SELECT ':funcid (' OPERATOR(pg_catalog.||) \
      pg_catalog.string_agg(oid::pg_catalog.text, '|') OPERATOR(pg_catalog.||) ') ' AS calls FROM pg_catalog.pg_proc \
      WHERE proname OPERATOR(pg_catalog.=) ANY (ARRAY['set_config', 'set_limit', 'setseed', 'query_to_xml', \
      'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'ts_stat', 'ts_rewrite', 'pg_advisory_lock', \
      'pg_advisory_lock_shared', 'pg_try_advisory_lock', 'pg_try_advisory_lock_shared', 'dblink_connect', \
      'dblink_connect_u', 'pg_replication_origin_session_setup']::pg_catalog.name[])) \
    SELECT 'unnamed', CASE kind WHEN 'rule' THEN pg_catalog.pg_get_ruledef(oid) \
      WHEN 'constraint' THEN pg_catalog.pg_get_constraintdef(oid) \
      WHEN 'trigger' THEN pg_catalog.pg_get_triggerdef(oid) \
      ELSE pg_catalog.pg_get_expr(tree::pg_catalog.pg_node_tree, relation) END FROM f, \
      (SELECT 'rule' AS kind, oid, ev_class AS relation, ev_action AS tree FROM pg_catalog.pg_rewrite \
        WHERE oid OPERATOR(pg_catalog.>=) ",
    first_of_users!(),
    " UNION ALL SELECT 'rule', oid, ev_class, ev_qual FROM pg_catalog.pg_rewrite \
        WHERE oid OPERATOR(pg_catalog.>=) ",
    first_of_users!(),
    " UNION ALL SELECT 'default', oid, adrelid, adbin FROM pg_catalog.pg_attrdef \
      UNION ALL SELECT 'constraint', oid, conrelid, conbin FROM pg_catalog.pg_constraint WHERE conbin IS NOT NULL \
      UNION ALL SELECT 'policy', oid, polrelid, polqual FROM pg_catalog.pg_policy \
      UNION ALL SELECT 'policy', oid, polrelid, polwithcheck FROM pg_catalog.pg_policy \
      UNION ALL SELECT 'trigger', oid, tgrelid, tgqual FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL) d \
      WHERE d.tree::pg_catalog.text OPERATOR(pg_catalog.~) f.calls LIMIT 1000",
);

/// What can be known of a database's functions.
#[derive(Debug)]
pub(in crate::session) struct Functions {
    /// Trigger words.
    pub(in crate::session) words: FunctionWords,
    /// Whether each session must be asked before it goes to another client.
    pub(in crate::session) is_careful: bool,
    /// The custom settings that such functions name.
    pub(in crate::session) names: CustomNames,
    /// What `idle_in_transaction_session_timeout` is for a session that has only been started; `None`: no limit.
    pub(in crate::session) idle_in_transaction: Option<Duration>,
}

/// The rows so far.
#[derive(Debug, Default)]
struct Reading {
    graph: Graph,
    idle_in_transaction: Option<Duration>,
    functions: usize,
    uses: usize,
    is_careful: bool,
    /// Custom settings in definitions that no statement names.
    names: CustomNames,
}

impl Functions {
    /// Reads the rows of the answer.
    ///
    /// # Errors
    /// They are not what was asked for.
    pub(in crate::session) fn read(rows: &[Bytes]) -> Result<Self, WireError> {
        let mut reading = Reading::default();
        for row in rows {
            reading.row(row)?;
        }
        Ok(reading.finish())
    }

    /// Where Postgres does not tell: any statement may change anything.
    pub(in crate::session) fn unknown() -> Self {
        Self {
            words: FunctionWords::new([]),
            is_careful: true,
            names: CustomNames::default(),
            idle_in_transaction: None,
        }
    }
}

impl Reading {
    fn row(&mut self, body: &[u8]) -> Result<(), WireError> {
        let strange = || WireError::Violation("the server's row is not what was asked for");
        match data_row(body)?[..] {
            [Some(b"own"), Some(timeout)] => {
                let milliseconds = number(timeout).ok_or_else(strange)?;
                self.idle_in_transaction =
                    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()));
            }
            [Some(b"fun"), Some(oid), Some(name)] => {
                self.functions += 1;
                self.graph.add(number(oid).ok_or_else(strange)?, name);
            }
            [Some(b"src"), Some(oid), source, arguments] => {
                let oid = number(oid).ok_or_else(strange)?;
                self.graph.source(oid, source, arguments.unwrap_or_default());
            }
            [Some(b"use"), Some(used), by] => {
                self.uses += 1;
                let used = number(used).ok_or_else(strange)?;
                match by {
                    Some(by) => self.graph.called_by(used, number(by).ok_or_else(strange)?),
                    None => self.graph.called_unseen(used),
                }
            }
            [Some(b"view"), Some(name), Some(b"pg_catalog.pg_settings")] => {
                self.graph.view(name, Words::SET_CONFIG | Words::SETTINGS_VIEW);
            }
            [Some(b"view"), Some(name), Some(_)] => self.graph.view(name, Words::STATEMENTS_READ),
            [Some(b"unnamed"), definition] => {
                self.is_careful = true;
                let mut scan = Scan::default();
                scan.feed(definition.unwrap_or_default(), None);
                scan.finish(None);
                self.names.extend(&scan.take_names());
            }
            _ => return Err(strange()),
        }
        Ok(())
    }

    fn finish(mut self) -> Functions {
        let is_cut = self.functions > FUNCTIONS_MAX || self.uses > USES_MAX;
        let known = self.graph.resolve();
        self.names.extend(&known.names);
        Functions {
            words: FunctionWords::new(known.effects),
            is_careful: self.is_careful || known.is_careful || is_cut,
            names: self.names,
            idle_in_transaction: self.idle_in_transaction,
        }
    }
}

fn number(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.parse().ok()
}
