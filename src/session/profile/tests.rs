//! Clients that change server sessions, on real servers of the oldest and the newest Postgres at hand.

mod server;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::session::profile::apply::{Whose, has_literals};
use crate::session::profile::capture::Question;
use crate::session::profile::functions::Functions;
use crate::session::reported::Reported;
use crate::session::statements::SqlPrepared;
use crate::session::words::{CustomNames, Tags};
use server::{APP, Server, Session};

#[tokio::test]
async fn clients_keep_what_they_carry_on_the_systems_postgres() {
    let server = Server::start(None).await;
    everything(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn clients_keep_what_they_carry_on_postgres_18() {
    let server = Server::start(Some(18)).await;
    assert_eq!(server.major, 18);
    everything(&server).await;
    server.stop().await;
}

#[test]
fn settings_change_the_meaning_of_constants_and_of_no_parameter() {
    for text in [
        "select '1'",
        "select $$1$$",
        "select $a$1$a$, $1",
        "select $1, e'a'",
        "select a$",
    ] {
        assert!(has_literals(text.as_bytes()), "{text}");
    }
    for text in ["select 1", "select $1, $22 from a where b = $3", ""] {
        assert!(!has_literals(text.as_bytes()), "{text}");
    }
}

/// One server for all: each takes sessions and names of its own.
async fn everything(server: &Server) {
    Box::pin(a_fresh_client_costs_nothing(server)).await;
    Box::pin(settings_follow_their_client(server)).await;
    Box::pin(values_of_any_bytes_in_any_encoding_are_carried(server)).await;
    Box::pin(roles_follow_their_client(server)).await;
    Box::pin(a_role_that_was_revoked_fails_before_the_statement(server)).await;
    Box::pin(a_reset_returns_to_the_clients_own_startup_value(server)).await;
    Box::pin(custom_settings_of_the_startup_are_everybodys(server)).await;
    Box::pin(statements_follow_their_client(server)).await;
    Box::pin(statements_that_cannot_be_said_again_pin(server)).await;
    Box::pin(a_statement_without_its_table_is_only_missing(server)).await;
    Box::pin(each_pin_is_found_and_let_go(server)).await;
    Box::pin(what_pinned_one_client_is_undone_for_the_next(server)).await;
    Box::pin(names_of_custom_settings_are_known(server)).await;
    Box::pin(rolled_back_settings_are_not_carried(server)).await;
    Box::pin(a_hostile_search_path_changes_nothing(server)).await;
    Box::pin(odd_settings_change_nothing(server)).await;
    Box::pin(no_question_is_compiled(server)).await;
    Box::pin(what_postgres_does_not_tell_is_unknown(server)).await;
    Box::pin(settings_of_another_role_pin(server)).await;
    Box::pin(what_is_too_large_pins(server)).await;
    Box::pin(functions_that_change_state_are_found(server)).await;
    Box::pin(functions_that_no_statement_names_make_careful(server)).await;
}

/// Where a client had switched `enable_seqscan` off, each capture took most of a second.
async fn no_question_is_compiled(server: &Server) {
    let (mut lent, mut client) = (server.lent(APP, "x").await, server.client(APP, "x"));
    client.turn(&mut lent, "SET enable_seqscan = off").await;
    let mut session = server.session(APP, "").await;
    session.run("SET enable_seqscan = off").await;
    let can_compile = session.value("SELECT pg_catalog.pg_jit_available()").await == "t";

    for question in [&client.asked, functions::SQL] {
        assert!(!is_compiled(&mut session, question).await, "{question}");
        let unguarded = question.replace("SET LOCAL jit = off;", "");
        assert_eq!(
            is_compiled(&mut session, &unguarded).await,
            can_compile,
            "{question}"
        );
    }
}

/// Whether Postgres compiles one of the statements before it runs it.
async fn is_compiled(session: &mut Session, question: &str) -> bool {
    session.run("BEGIN").await;
    let mut is_compiled = false;
    for statement in question.split(';').map(str::trim_start) {
        if statement.starts_with("SET") {
            session.run(statement).await;
        } else {
            let plan = session.run(&format!("EXPLAIN (ANALYZE) {statement}")).await;
            is_compiled |= plan
                .concat()
                .into_iter()
                .flatten()
                .any(|line| line.starts_with("JIT"));
        }
    }
    session.run("ROLLBACK").await;
    is_compiled
}

async fn a_fresh_client_costs_nothing(server: &Server) {
    let mut lent = server.lent(APP, "one").await;
    let mut client = server.client(APP, "one");
    client.turn(&mut lent, "CREATE TABLE plain (x int)").await;
    let sql = "BEGIN; SET LOCAL search_path = a, public; UPDATE plain SET x = 1; COMMIT";
    let turn = client.turn(&mut lent, sql).await;
    assert!(turn.error.is_none() && !turn.applied && !turn.captured);
    let mut other = server.client(APP, "two");
    assert!(other.turn(&mut lent, "SELECT 1").await.applied);
    assert_eq!(
        other.turn(&mut lent, "SHOW application_name").await.value(),
        "two"
    );
}

/// Settings that are told apart from every default; what SHOW says of them.
const SETTINGS: &[(&str, &str, &str)] = &[
    (
        "search_path",
        "SET search_path = \"$user\", \"it's \"\"odd\"\", too\", public",
        "\"$user\", \"it's \"\"odd\"\", too\", public",
    ),
    ("datestyle", "SET DateStyle = 'SQL, DMY'", "SQL, DMY"),
    (
        "timezone",
        "SET TIME ZONE INTERVAL '-03:30' HOUR TO MINUTE",
        "<-03:30>+03:30",
    ),
    (
        "intervalstyle",
        "SET intervalstyle = sql_standard",
        "sql_standard",
    ),
    ("work_mem", "SET work_mem = '123MB'", "123MB"),
    ("statement_timeout", "SET statement_timeout = '61s'", "61s"),
    (
        "default_transaction_isolation",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "serializable",
    ),
    (
        "seq_page_cost",
        "SELECT set_config('seq_page_cost', '1.25', false)",
        "1.25",
    ),
    (
        "application_name",
        "SET application_name = 'mine''s \\ \"'",
        "mine's \\ \"",
    ),
    ("app.tenant", "SET app.tenant = 'a''b\\'", "a'b\\"),
    ("app.empty", "SET app.empty = ''", ""),
    (
        "standard_conforming_strings",
        "SET standard_conforming_strings = off",
        "off",
    ),
];

async fn settings_follow_their_client(server: &Server) {
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let (mut client, mut other) = (server.client(APP, "x"), server.client(APP, "x"));
    for (_, set, _) in SETTINGS {
        assert!(client.turn(&mut first, set).await.captured, "{set}");
    }
    let limit = ("transaction_timeout", "SET transaction_timeout = '62s'", "62s");
    let settings = SETTINGS.iter().chain((server.major >= 17).then_some(&limit));
    if server.major >= 17 {
        client.turn(&mut first, limit.1).await;
    }
    assert!(client.carried.pins.is_empty(), "{:?}", client.carried.pins);
    assert!(!client.turn(&mut first, "SELECT 1").await.applied);
    for lent in [&mut first, &mut second] {
        for (name, _, shown) in settings.clone() {
            assert_eq!(
                client.turn(lent, &format!("SHOW {name}")).await.value(),
                *shown,
                "{name}"
            );
        }
    }
    let fresh = server.lent(APP, "x").await.session.run("SHOW ALL").await;
    let changed = other.turn(&mut first, "SHOW ALL").await.rows;
    let differences: Vec<_> = fresh.iter().filter(|row| !changed.contains(row)).collect();
    assert!(differences.is_empty(), "{differences:?}");
    // The name stays: the pool lends this session to nobody who has not had it.
    assert_eq!(
        other
            .turn(&mut first, "SELECT current_setting('app.tenant', true)")
            .await
            .value(),
        ""
    );
    assert!(!first.carried.suits(&other.carried) && first.carried.suits(&client.carried));
}

async fn values_of_any_bytes_in_any_encoding_are_carried(server: &Server) {
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let (mut client, mut other) = (server.client(APP, "x"), server.client(APP, "x"));
    let set = "SET search_path = 'zoë', public; SET app.name = 'zoë'";
    client.turn(&mut first, set).await;
    client.turn(&mut first, "SET client_encoding = LATIN1").await;
    assert_eq!(
        client.carried.profile.setting(b"search_path"),
        Some(&b"\"zo\xeb\", public"[..])
    );
    client.turn(&mut second, "SET x.y = 1").await;
    let bytes = "SELECT convert_to(current_setting('search_path'), 'UTF8')";
    assert_eq!(
        client.turn(&mut second, bytes).await.value(),
        "\\x227a6fc3ab222c207075626c6963"
    );
    let bytes = "SELECT convert_to(current_setting('app.name'), 'UTF8')";
    assert_eq!(client.turn(&mut second, bytes).await.value(), "\\x7a6fc3ab");
    other.turn(&mut second, "SET client_encoding = UTF8").await;
    assert_eq!(
        other.turn(&mut second, "SHOW search_path").await.value(),
        "\"$user\", public"
    );
    assert_eq!(
        other.turn(&mut first, "SHOW client_encoding").await.value(),
        "UTF8"
    );
}

async fn roles_follow_their_client(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin
        .run("CREATE ROLE \"odd \"\"role\\\"; CREATE ROLE other; GRANT \"odd \"\"role\\\" TO app, other")
        .await;
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let (mut client, mut other) = (server.client(APP, "x"), server.client(APP, "x"));
    client.turn(&mut first, "SET ROLE \"odd \"\"role\\\"").await;
    client.turn(&mut second, "SET work_mem = '5MB'").await;
    let who = "SELECT session_user || ' ' || current_user";
    for lent in [&mut first, &mut second] {
        assert_eq!(other.turn(lent, who).await.value(), "app app");
        assert_eq!(client.turn(lent, who).await.value(), "app odd \"role\\");
    }
    assert!(client.turn(&mut first, "RESET ROLE").await.captured);
    assert_eq!(client.turn(&mut second, who).await.value(), "app app");

    let (mut first, mut second) = (
        server.lent("postgres", "x").await,
        server.lent("postgres", "x").await,
    );
    let (mut client, mut other) = (server.client("postgres", "x"), server.client("postgres", "x"));
    client
        .turn(
            &mut first,
            "SET SESSION AUTHORIZATION other; SET ROLE \"odd \"\"role\\\"",
        )
        .await;
    for lent in [&mut first, &mut second] {
        assert_eq!(client.turn(lent, who).await.value(), "other odd \"role\\");
        assert_eq!(other.turn(lent, who).await.value(), "postgres postgres");
    }
    client.turn(&mut first, "RESET ROLE").await;
    assert_eq!(client.turn(&mut second, who).await.value(), "other other");
    assert!(client.carried.pins.is_empty());
    assert_ne!(
        client.carried.profile.settings_fingerprint(),
        other.carried.profile.settings_fingerprint()
    );
}

async fn a_role_that_was_revoked_fails_before_the_statement(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin.run("CREATE ROLE limited; GRANT limited TO app").await;
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let mut client = server.client(APP, "x");
    client.turn(&mut first, "SET ROLE limited").await;
    admin.run("REVOKE limited FROM app").await;
    let error = client.bring(&mut second, Whose::Other).await.unwrap_err();
    // Postgres 15 says that the value is invalid, 18 that permission is denied.
    assert!(["42501", "22023"].contains(&&*error), "{error}");
}

async fn a_reset_returns_to_the_clients_own_startup_value(server: &Server) {
    // The server session was opened for somebody else.
    let mut lent = server.lent(APP, "theirs").await;
    for reset in [
        "RESET ALL",
        "RESET application_name",
        "DISCARD ALL",
        "SET application_name TO DEFAULT",
    ] {
        let mut client = server.client(APP, "ours");
        client
            .turn(
                &mut lent,
                "SET application_name = 'changed'; SET work_mem = '5MB'",
            )
            .await;
        client.turn(&mut lent, reset).await;
        assert_eq!(
            lent.carried.profile.setting(APPLICATION_NAME),
            Some(&b"theirs"[..])
        );
        let turn = client.next_turn(&mut lent, "SHOW application_name").await;
        assert!(turn.applied);
        assert_eq!(turn.value(), "ours", "{reset}");
        assert!(!client.next_turn(&mut lent, "SELECT 1").await.applied);
    }
}

async fn custom_settings_of_the_startup_are_everybodys(server: &Server) {
    let (mut first, mut second) = (
        server.lent_with("app.start", "7").await,
        server.lent_with("app.start", "7").await,
    );
    let (mut client, mut other) = (server.client(APP, "x"), server.client(APP, "x"));
    client.carried.names.insert(b"app.start");
    other.carried.names.insert(b"app.start");
    client.turn(&mut first, "SET app.start = '8'").await;
    client.turn(&mut first, "SET work_mem = '5MB'").await;
    for lent in [&mut second, &mut first] {
        assert_eq!(client.turn(lent, "SHOW app.start").await.value(), "8");
        assert!(lent.carried.suits(&other.carried));
        assert_eq!(other.turn(lent, "SHOW app.start").await.value(), "7");
    }
    client.turn(&mut first, "SET app.start = ''").await;
    assert_eq!(client.turn(&mut second, "SHOW app.start").await.value(), "");
    client.turn(&mut second, "RESET ALL").await;
    assert_eq!(client.turn(&mut first, "SHOW app.start").await.value(), "7");
}

async fn statements_follow_their_client(server: &Server) {
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let (mut client, mut other) = (server.client(APP, "x"), server.client(APP, "x"));
    client.turn(&mut first, "SET DateStyle = 'SQL, DMY'").await;
    client
        .turn(
            &mut first,
            "PREPARE \"a \"\"b\" (int) AS SELECT $1 + 1, '01/02/2024'::date;",
        )
        .await;
    other
        .turn(
            &mut first,
            "PREPARE p AS SELECT set_config('work_mem', '7MB', false)",
        )
        .await;
    for lent in [&mut second, &mut first] {
        let turn = client.turn(lent, "EXECUTE \"a \"\"b\"(1)").await;
        assert_eq!(
            turn.rows,
            [["2", "01/02/2024"].map(|value| Some(value.to_owned()))]
        );
        assert!(!turn.captured);
        assert!(other.turn(lent, "EXECUTE p").await.captured);
        assert_eq!(
            other.turn(lent, "EXECUTE \"a \"\"b\"(1)").await.error.as_deref(),
            Some("26000")
        );
    }
    assert_eq!(other.carried.profile.setting(b"work_mem"), Some(&b"7168"[..]));
    assert!(client.carried.pins.is_empty());
    client.turn(&mut second, "DEALLOCATE ALL").await;
    assert_eq!(
        client
            .turn(&mut first, "EXECUTE \"a \"\"b\"(1)")
            .await
            .error
            .as_deref(),
        Some("26000")
    );
}

async fn statements_that_cannot_be_said_again_pin(server: &Server) {
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    client
        .turn(&mut lent, "PREPARE p AS SELECT 1; PREPARE q AS SELECT 2")
        .await;
    assert!(client.carried.pins.is_empty());
    client.next_turn(&mut lent, "PREPARE r AS SELECT E'\\\\;'").await;
    assert_eq!(client.carried.pins, Pins::STATEMENT);
    client
        .next_turn(&mut lent, "DEALLOCATE p; DEALLOCATE q; DEALLOCATE r")
        .await;
    assert!(client.carried.pins.is_empty());
    // Its literals are of other settings than those of now.
    for sql in [
        "PREPARE p AS SELECT '01/02/2024'::date::text",
        "SET DateStyle = 'SQL, DMY'",
    ] {
        client.next_turn(&mut lent, sql).await;
    }
    assert!(client.carried.pins.is_empty());
    let mut second = server.lent(APP, "x").await;
    let stayed = client.turn(&mut lent, "EXECUTE p").await;
    assert_eq!(client.turn(&mut second, "EXECUTE p").await.rows, stayed.rows);
    assert!(!client.carried.pins.must_close());
    let mut other = server.client(APP, "x");
    assert_eq!(
        other
            .turn(&mut lent, "SELECT count(*) FROM pg_prepared_statements")
            .await
            .value(),
        "0"
    );
}

async fn a_statement_without_its_table_is_only_missing(server: &Server) {
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let mut client = server.client(APP, "x");
    client
        .turn(&mut first, "CREATE TABLE gone (); PREPARE never_mind AS SELECT 1")
        .await;
    client.turn(&mut first, "DEALLOCATE never_mind").await;
    client.turn(&mut first, "PREPARE p AS SELECT * FROM gone").await;
    client.turn(&mut first, "PREPARE q AS SELECT 2").await;
    client.turn(&mut first, "DROP TABLE gone").await;
    assert_eq!(client.turn(&mut second, "EXECUTE q").await.value(), "2");
    assert_eq!(
        client.turn(&mut second, "EXECUTE p").await.error.as_deref(),
        Some("26000")
    );
    let mut other = server.client(APP, "x");
    assert_eq!(other.turn(&mut second, "SELECT 1").await.value(), "1");
}

/// What pins, what is to be done, and what lets go.
const PINNING: &[(Pins, &str, &str)] = &[
    (Pins::TEMP, "CREATE TEMP TABLE t ()", "DROP TABLE t"),
    (Pins::TEMP, "SELECT 1 AS a INTO TEMP t", "DISCARD TEMP"),
    (
        Pins::TEMP,
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION pg_temp.f",
    ),
    (Pins::TEMP, "CREATE TEMP SEQUENCE s", "DISCARD ALL"),
    (Pins::HOLD, "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
    (
        Pins::HOLD,
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "CLOSE ALL",
    ),
    (Pins::LISTEN, "LISTEN x", "UNLISTEN x"),
    (
        Pins::LISTEN,
        "DO $$ BEGIN EXECUTE 'LISTEN ' || 'x'; END $$",
        "UNLISTEN *",
    ),
    (
        Pins::ADVISORY,
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_unlock(1)",
    ),
    (
        Pins::ADVISORY,
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "SELECT pg_advisory_unlock_all()",
    ),
];

/// What pins until the server session is closed.
const CLOSING: &[(Pins, &str)] = &[
    (Pins::LOAD, "LOAD 'plpgsql'"),
    (Pins::LOAD, "DO $$ BEGIN LOAD 'plpgsql'; END $$"),
    (Pins::SEED, "SELECT setseed(0.5)"),
    (Pins::SEED, "SET seed = 0.5"),
    (
        Pins::UNSEEN_SETTING,
        "SELECT set_config('app.' || 'x', '1', true)",
    ),
    (
        Pins::UNSEEN_SETTING,
        "DO $$ BEGIN EXECUTE format('SET %I = 1', 'app.x'); END $$",
    ),
    (Pins::HIDDEN_SETTING, "SET dynamic_library_path = 'x'"),
    (
        Pins::SLOT,
        "SELECT pg_create_physical_replication_slot('slot', false, true)",
    ),
];

async fn each_pin_is_found_and_let_go(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin
        .run(
            "CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM pg_advisory_lock(2); CREATE TEMP TABLE h (); EXECUTE 'LISTEN h'; END $$",
        )
        .await;
    for (pin, pinning, releasing) in PINNING {
        let mut lent = server.lent(APP, "x").await;
        let mut client = server.client(APP, "x");
        client.turn(&mut lent, pinning).await;
        assert_eq!(client.carried.pins, *pin, "{pinning}");
        assert!(!client.carried.pins.must_close());
        assert!(
            client.next_turn(&mut lent, releasing).await.error.is_none(),
            "{releasing}"
        );
        assert!(
            client.carried.pins.is_empty(),
            "{releasing}: {:?}",
            client.carried.pins
        );
    }
    for (pin, pinning) in CLOSING {
        let mut lent = server.lent("postgres", "x").await;
        let mut client = server.client("postgres", "x");
        assert!(client.turn(&mut lent, pinning).await.error.is_none(), "{pinning}");
        assert_eq!(client.carried.pins, *pin, "{pinning}");
        assert!(client.carried.pins.must_close());
        client.next_turn(&mut lent, "RESET ALL").await;
        assert_eq!(client.carried.pins, *pin, "{pinning}");
    }
    for harmless in [
        "BEGIN; CREATE TEMP TABLE t () ON COMMIT DROP; COMMIT",
        "BEGIN; SELECT pg_advisory_xact_lock(1); DECLARE c CURSOR FOR SELECT 1; COMMIT",
        "BEGIN; LISTEN x; CREATE TEMP TABLE t (); ROLLBACK",
    ] {
        let mut lent = server.lent(APP, "x").await;
        let mut client = server.client(APP, "x");
        client.turn(&mut lent, harmless).await;
        assert!(client.carried.pins.is_empty(), "{harmless}");
    }
    // What no word of the statement says.
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    client
        .turn(&mut lent, "DO $$ BEGIN PERFORM hidden(); END $$")
        .await;
    assert_eq!(client.carried.pins, Pins::ADVISORY | Pins::TEMP | Pins::LISTEN);
    client.next_turn(&mut lent, "DISCARD ALL").await;
    assert!(client.carried.pins.is_empty());
}

async fn what_pinned_one_client_is_undone_for_the_next(server: &Server) {
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    for sql in [
        "CREATE TEMP TABLE t ()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LISTEN x; SELECT pg_advisory_lock(1)",
        "PREPARE p AS SELECT E'\\\\;'",
        "SET ROLE \"odd \"\"role\\\"",
    ] {
        assert!(client.next_turn(&mut lent, sql).await.error.is_none(), "{sql}");
    }
    assert_eq!(client.carried.pins.names().count(), 5, "{}", client.carried.pins);
    let mut other = server.client(APP, "x");
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), \
        (SELECT count(*) FROM pg_cursors WHERE name = 'c'), (SELECT count(*) FROM pg_listening_channels()), \
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_prepared_statements)";
    assert_eq!(
        other.turn(&mut lent, left).await.rows,
        [vec![Some("0".to_owned()); 5]]
    );
    assert!(other.carried.pins.is_empty() && lent.carried.pins.is_empty());
}

async fn names_of_custom_settings_are_known(server: &Server) {
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    let local = "BEGIN; SET LOCAL app.one = '1'; SELECT set_config('App.Two', '2', true), t.x FROM (SELECT 1 AS x) t; COMMIT";
    assert!(client.turn(&mut lent, local).await.captured);
    assert!(!client.turn(&mut lent, local).await.captured);
    let names: Vec<_> = client.carried.names.iter().collect();
    assert_eq!(names, [b"app.one", b"app.two"]);
    // A session that never had them is given them, empty: so they are after their transaction.
    let mut bare = server.lent(APP, "x").await;
    let one = "SELECT current_setting('app.one')";
    assert_eq!(client.turn(&mut bare, one).await.value(), "");
    assert!(bare.carried.suits(&client.carried));
    // Another client of the same kind pays once, too.
    let mut other = server.client(APP, "x");
    assert!(!lent.carried.suits(&other.carried));
    assert!(other.turn(&mut lent, local).await.captured);
    assert!(!other.turn(&mut lent, local).await.captured);
    // A failed transaction gives no name.
    let mut third = server.client(APP, "x");
    let mut fresh = server.lent(APP, "x").await;
    third
        .turn(
            &mut fresh,
            "DO $$ BEGIN PERFORM 1/0; SET LOCAL app.three = 3; END $$",
        )
        .await;
    assert!(third.carried.names.is_empty() && fresh.carried.names.is_empty());
    // A rolled back one does.
    third.turn(&mut fresh, "BEGIN; SET app.three = 3; ROLLBACK").await;
    assert!(
        third.carried.names.contains(b"app.three")
            && third.carried.profile.setting(b"app.three") == Some(&b""[..])
    );
    // The setting of a library, in both ways that it can be there.
    third
        .turn(
            &mut fresh,
            "DO $$ BEGIN END $$; SET plpgsql.extra_warnings = 'all'",
        )
        .await;
    assert_eq!(
        third.carried.profile.setting(b"plpgsql.extra_warnings"),
        Some(&b"all"[..])
    );
    let mut without = server.lent(APP, "x").await;
    assert_eq!(
        third
            .turn(&mut without, "SHOW plpgsql.extra_warnings")
            .await
            .value(),
        "all"
    );
}

async fn rolled_back_settings_are_not_carried(server: &Server) {
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    let before = client.carried.profile.clone();
    client
        .turn(&mut lent, "BEGIN; SET work_mem = '5MB'; ROLLBACK")
        .await;
    assert!(Arc::ptr_eq(&before, &client.carried.profile));
    client
        .turn(
            &mut lent,
            "BEGIN; SET work_mem = '5MB'; SET LOCAL work_mem = '6MB'; COMMIT",
        )
        .await;
    assert_eq!(client.carried.profile.setting(b"work_mem"), Some(&b"5120"[..]));
}

async fn a_hostile_search_path_changes_nothing(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin
        .run(
            "CREATE SCHEMA evil; \
        CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
        CREATE FUNCTION evil.no(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no); \
        CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.no); \
        CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.no); \
        CREATE VIEW evil.pg_settings AS SELECT 'x' AS name, 'y' AS setting, 'z' AS source; \
        CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$; \
        CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$; \
        CREATE DOMAIN evil.text AS int; CREATE DOMAIN evil.bool AS int; \
        GRANT USAGE ON SCHEMA evil TO app",
        )
        .await;
    let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
    let mut client = server.client(APP, "x");
    client
        .turn(
            &mut first,
            "SET search_path = evil, pg_catalog; SET a.b = 'c'; SELECT pg_catalog.pg_advisory_lock(9)",
        )
        .await;
    assert_eq!(client.carried.profile.setting(b"a.b"), Some(&b"c"[..]));
    assert_eq!(client.carried.pins, Pins::ADVISORY);
    client
        .next_turn(
            &mut first,
            "CREATE TEMP TABLE pg_settings (); CREATE TEMP TABLE pg_locks ()",
        )
        .await;
    assert_eq!(client.carried.pins, Pins::ADVISORY | Pins::TEMP);
    client
        .next_turn(
            &mut first,
            "DISCARD TEMP; SELECT pg_catalog.pg_advisory_unlock(9)",
        )
        .await;
    assert!(client.carried.pins.is_empty());
    assert_eq!(
        client.turn(&mut second, "SHOW search_path").await.value(),
        "evil, pg_catalog"
    );
    assert_eq!(client.turn(&mut second, "SHOW a.b").await.value(), "c");
}

/// Each before a setting whose value is then looked for.
async fn odd_settings_change_nothing(server: &Server) {
    for odd in [
        "SET standard_conforming_strings = off; SET backslash_quote = off",
        "SET client_encoding = SJIS",
        "SET client_encoding = SQL_ASCII",
        "SET row_security = off",
        "SET default_transaction_read_only = on; SET default_transaction_deferrable = on; \
         SET default_transaction_isolation = serializable",
        "SET client_min_messages = debug5",
        "SET bytea_output = escape; SET extra_float_digits = -15; SET DateStyle = German",
        "SET enable_seqscan = off; SET enable_sort = off; SET enable_material = off; SET jit = off",
        "SET quote_all_identifiers = on; SET transform_null_equals = on; SET array_nulls = off",
        "SET lock_timeout = 1; SET idle_in_transaction_session_timeout = 1000",
    ] {
        let (mut first, mut second) = (server.lent(APP, "x").await, server.lent(APP, "x").await);
        let mut client = server.client(APP, "x");
        client.turn(&mut first, odd).await;
        client
            .turn(&mut first, "SET odd.setting = 'x'; SET work_mem = '5MB'")
            .await;
        assert!(client.carried.pins.is_empty(), "{odd}: {:?}", client.carried.pins);
        assert_eq!(
            client.turn(&mut second, "SHOW odd.setting").await.value(),
            "x",
            "{odd}"
        );
        let all = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction%'";
        let moved = client.turn(&mut second, all).await.rows;
        let stayed = client.turn(&mut first, all).await.rows;
        assert_eq!(moved, stayed, "{odd}");
        // And nothing of it is left for another.
        let mut other = server.client(APP, "x");
        let left = other.turn(&mut second, all).await.rows;
        assert_eq!(left, server.lent(APP, "x").await.session.run(all).await, "{odd}");
    }
}

async fn what_postgres_does_not_tell_is_unknown(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin
        .run("REVOKE SELECT ON pg_prepared_statements FROM PUBLIC")
        .await;
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    client.turn(&mut lent, "SET work_mem = '5MB'").await;
    assert_eq!(client.carried.pins, Pins::UNKNOWN);
    assert!(client.carried.pins.must_close());
    admin
        .run("GRANT SELECT ON pg_prepared_statements TO PUBLIC")
        .await;
    // Asked again after whatever comes next.
    client.next_turn(&mut lent, "SELECT 1").await;
    assert!(client.carried.pins.is_empty());
    assert_eq!(client.carried.profile.setting(b"work_mem"), Some(&b"5120"[..]));
}

async fn settings_of_another_role_pin(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    admin
        .run("CREATE ROLE operator SUPERUSER; GRANT operator TO app")
        .await;
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    client.turn(&mut lent, "SET ROLE operator").await;
    client.turn(&mut lent, "SET log_min_duration_statement = 0").await;
    assert_eq!(client.carried.pins, Pins::PRIVILEGED_SETTING);
    // What the role that logged in could not reset by its name is reset all the same.
    let mut other = server.client(APP, "x");
    assert_eq!(
        other
            .turn(&mut lent, "SHOW log_min_duration_statement")
            .await
            .value(),
        "-1"
    );
    if server.major >= 15 {
        admin
            .run("GRANT SET ON PARAMETER log_min_duration_statement TO app")
            .await;
        other.turn(&mut lent, "SET log_min_duration_statement = 0").await;
        assert!(other.carried.pins.is_empty());
        admin
            .run("REVOKE SET ON PARAMETER log_min_duration_statement FROM app")
            .await;
    }
    let mut lent = server.lent("postgres", "x").await;
    let mut client = server.client("postgres", "x");
    client.turn(&mut lent, "SET log_min_duration_statement = 0").await;
    assert!(client.carried.pins.is_empty());
    admin.run("REVOKE operator FROM app").await;
}

async fn what_is_too_large_pins(server: &Server) {
    let mut lent = server.lent(APP, "x").await;
    let mut client = server.client(APP, "x");
    client
        .turn(
            &mut lent,
            "SET app.large = '1'; SELECT set_config('app.large', repeat('x', 200000), false)",
        )
        .await;
    assert!(client.carried.pins.is_empty());
    client
        .turn(
            &mut lent,
            "SELECT set_config('app.large', repeat('x', 262145), false)",
        )
        .await;
    assert_eq!(client.carried.pins, Pins::TOO_LARGE);
    client.next_turn(&mut lent, "RESET app.large").await;
    assert!(client.carried.pins.is_empty());
    client
        .next_turn(
            &mut lent,
            "DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE 'PREPARE p' || i || ' AS SELECT 1'; END LOOP; END $$",
        )
        .await;
    assert_eq!(client.carried.pins, Pins::TOO_LARGE);
    client.next_turn(&mut lent, "DEALLOCATE ALL").await;
    assert!(client.carried.pins.is_empty());
    // A statement keeps what it was prepared under.
    for letter in ["x", "y"] {
        let set = format!("SELECT set_config('app.large', repeat('{letter}', 100000), false)");
        client.next_turn(&mut lent, &set).await;
        client
            .next_turn(&mut lent, &format!("PREPARE {letter} AS SELECT 1"))
            .await;
    }
    assert_eq!(client.carried.pins, Pins::TOO_LARGE);
    client.next_turn(&mut lent, "DEALLOCATE y; RESET app.large").await;
    assert!(client.carried.pins.is_empty());
    // What is the same for many is there once.
    let set = "SELECT set_config('app.large', repeat('x', 100000), false)";
    client.next_turn(&mut lent, set).await;
    for number in 0..3 {
        client
            .next_turn(&mut lent, &format!("PREPARE p{number} AS SELECT 1"))
            .await;
    }
    assert!(client.carried.pins.is_empty());
    client.next_turn(&mut lent, "DEALLOCATE ALL").await;
    for number in 0..70 {
        client
            .next_turn(&mut lent, &format!("SET app.n{number} = 1"))
            .await;
    }
    assert_eq!(client.carried.pins, Pins::TOO_LARGE);
    assert!(client.carried.pins.must_close());
}

const FUNCTIONS: &[&str] = &[
    "CREATE FUNCTION log_in(who text) RETURNS void LANGUAGE plpgsql AS \
     $$ BEGIN -- set the user\n PERFORM set_config('app.user', who, false); END $$",
    "CREATE FUNCTION via(who text) RETURNS text LANGUAGE sql AS 'SELECT log_in($1); SELECT $1'",
    "CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '5MB'; END $$",
    "CREATE FUNCTION run(statement text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; END $$",
    "CREATE FUNCTION local(who text) RETURNS void LANGUAGE sql AS $$ SELECT set_config('app.local', who, true) $$",
    "CREATE FUNCTION harmless() RETURNS int LANGUAGE plpgsql SET work_mem = '4MB' AS \
     $$ BEGIN UPDATE plain SET x = 1; RETURN 1; END $$",
];

async fn functions_that_change_state_are_found(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    // What other tests have made is in it, too.
    admin.run("DROP FUNCTION hidden; DROP SCHEMA evil CASCADE").await;
    let mut lent = server.lent("postgres", "x").await;
    let mut client = server.client("postgres", "x");
    let none = client.read_functions(&mut lent).await;
    assert_eq!(
        (
            none.words.names().count(),
            none.is_careful,
            none.idle_in_transaction
        ),
        (0, false, None)
    );
    for function in FUNCTIONS {
        admin.run(function).await;
    }
    admin
        .run("ALTER ROLE postgres SET idle_in_transaction_session_timeout = '90s'")
        .await;
    let mut lent = server.lent("postgres", "x").await;
    let found = client.read_functions(&mut lent).await;
    let mut names: Vec<_> = found.words.names().collect();
    names.sort();
    assert_eq!(names, [&b"local"[..], b"log_in", b"proc", b"run", b"via"]);
    assert!(!found.is_careful && found.names.contains(b"app.user"));
    assert_eq!(
        found.idle_in_transaction,
        Some(std::time::Duration::from_secs(90))
    );
    admin.run("ALTER ROLE postgres RESET ALL").await;

    client.functions = Some(found.words);
    client.turn(&mut lent, "SELECT via('me')").await;
    assert_eq!(client.carried.profile.setting(b"app.user"), Some(&b"me"[..]));
    assert!(
        client
            .turn(&mut lent, "SELECT run('SET app.user = 3')")
            .await
            .captured
    );
    assert!(!client.turn(&mut lent, "SELECT harmless()").await.captured);
    assert!(client.turn(&mut lent, "SELECT local('x')").await.captured);
    assert!(client.carried.names.contains(b"app.local"));
    assert!(!client.turn(&mut lent, "SELECT local('x')").await.captured);

    if server.major >= 14 {
        let body =
            "CREATE FUNCTION parsed() RETURNS text BEGIN ATOMIC SELECT set_config('a.b', 'c', false); END";
        admin.run(body).await;
        let found = client.read_functions(&mut lent).await;
        assert!(found.words.names().any(|name| name == b"parsed"));
    }
}

/// On the functions of [`FUNCTIONS`].
async fn functions_that_no_statement_names_make_careful(server: &Server) {
    let mut admin = server.session("postgres", "").await;
    let mut lent = server.lent("postgres", "x").await;
    let mut client = server.client("postgres", "x");
    for (define, drop) in CALLED_UNSEEN {
        admin.run(define).await;
        assert!(client.read_functions(&mut lent).await.is_careful, "{define}");
        admin.run(drop).await;
    }
    admin.run("CREATE VIEW seen AS SELECT harmless()").await;
    assert!(!client.read_functions(&mut lent).await.is_careful);
}

/// What calls a function that no statement names, and what takes it away.
const CALLED_UNSEEN: &[(&str, &str)] = &[
    (
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM via('x'); RETURN NEW; END $$; \
         CREATE TRIGGER t BEFORE UPDATE ON plain EXECUTE FUNCTION fire()",
        "DROP FUNCTION fire CASCADE",
    ),
    ("CREATE VIEW seen AS SELECT via('x')", "DROP VIEW seen"),
    ("CREATE TABLE d (x text DEFAULT via('x'))", "DROP TABLE d"),
    (
        "CREATE DOMAIN dom AS text CHECK (via(VALUE) = '')",
        "DROP DOMAIN dom",
    ),
    (
        "CREATE OPERATOR ### (RIGHTARG = text, FUNCTION = via)",
        "DROP OPERATOR ### (NONE, text)",
    ),
    (
        "CREATE POLICY p ON plain USING (via('x') = '')",
        "DROP POLICY p ON plain",
    ),
    (
        "CREATE RULE r AS ON DELETE TO plain DO ALSO SELECT via('x')",
        "DROP RULE r ON plain",
    ),
    (
        "CREATE FUNCTION fire() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM via('x'); END $$; \
         CREATE EVENT TRIGGER e ON ddl_command_start WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION fire()",
        "DROP EVENT TRIGGER e; DROP FUNCTION fire",
    ),
];

proptest! {
    #[test]
    fn arbitrary_rows_never_panic(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
        let before = Profile::of_startup(b"");
        let nothing = Bytes::new();
        let no_names = CustomNames::default();
        let question = Question {
            login_role: "app",
            application: (&nothing, &nothing),
            is_told_own_application: false,
            server_major: 15,
            before: &before,
            session: None,
            starts_with_role: false,
            turn: (Words::NONE, Tags::default()),
            candidates: [&no_names; 3],
            has_more_names: false,
            lacking: &[],
            prepared: (SqlPrepared::AsNow, &Reported::default()),
            lifts_limit: false,
        };
        let rows: Vec<_> = bodies.into_iter().map(Bytes::from).collect();
        let _ = question.read(&rows);
        let _ = Functions::read(&rows);
    }
}

#[test]
fn equal_profiles_are_the_same_whoever_made_them() {
    let made = || {
        let settings = vec![Setting::new(b"b", b"2"), Setting::new(b"a", b"1")];
        Arc::new(Profile::new(settings, None, Some(b"role"[..].into())))
    };
    let (one, other) = (made(), made());
    assert!(one.is_same(&other));
    assert_eq!(one.settings_fingerprint(), other.settings_fingerprint());
    let changed = Arc::new(one.with_setting(b"b", b"3"));
    assert!(!one.is_same(&changed));
    assert_ne!(one.settings_fingerprint(), changed.settings_fingerprint());
    let named = Arc::new(one.with_setting(APPLICATION_NAME, b"x"));
    assert!(!one.is_same(&named));
    assert_eq!(one.settings_fingerprint(), named.settings_fingerprint());
}

#[test]
fn pins_are_foreseen_where_words_tell() {
    let foreseen = |sql: &str| Pins::foreseen(Words::of(sql.as_bytes(), None)).to_string();
    assert_eq!(foreseen("CREATE TEMP TABLE t ()"), "temporary objects");
    assert_eq!(foreseen("CREATE TEMP TABLE t () ON COMMIT DROP"), "");
    assert_eq!(
        foreseen("DECLARE c CURSOR WITH HOLD FOR SELECT pg_advisory_lock(1)"),
        "cursor with hold, advisory lock"
    );
    assert_eq!(foreseen("LISTEN x"), "listen");
    assert_eq!(foreseen("SELECT temp, listen FROM pg_temp_sensors"), "");
}
