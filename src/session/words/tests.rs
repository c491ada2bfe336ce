//! Statements of every kind, whole and in pieces.

use proptest::prelude::*;

use super::*;

fn words(statement: &str) -> Words {
    Words::of(statement.as_bytes(), None)
}

fn names(statement: &str) -> Vec<String> {
    let mut scan = Scan::default();
    scan.feed(statement.as_bytes(), None);
    scan.finish(None);
    text_of(&scan.take_names())
}

fn text_of(names: &CustomNames) -> Vec<String> {
    names
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

fn tags(all: &[&str]) -> Tags {
    let mut tags = Tags::default();
    for tag in all {
        tags |= Tags::of(format!("{tag}\0").as_bytes());
    }
    tags
}

#[test]
fn a_comment_before_a_statement_ends_where_it_ends_for_postgres() {
    for end in ["\n", "\r", "\r\n"] {
        let text = format!("-- select{end}set search_path = evil");
        assert!(words(&text).has(Words::SET_SESSION), "{text:?}");
        assert_eq!(
            words(&format!("-- a{end}/* b */ -- c{end}lock_timeout")),
            Words::NONE
        );
    }
    assert!(!words("-- set x = 1").has(Words::SET_SESSION));
}

#[test]
fn the_common_path_asks_nothing() {
    for (statement, answered) in [
        (
            "SELECT * FROM t WHERE temp > 3 AND hold AND listen = 'set'",
            &["SELECT 1"][..],
        ),
        (
            "INSERT INTO sensors (temp, load) VALUES ($1, $2) RETURNING nextval('s')",
            &["INSERT 0 1"],
        ),
        ("UPDATE t SET x = 1, temp = 2", &["UPDATE 1"]),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET x = excluded.x",
            &["INSERT 0 1"],
        ),
        (
            "MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET x = 1",
            &["MERGE 1"],
        ),
        (
            "BEGIN; SET LOCAL app.tenant_id = 'set x'; UPDATE t SET x = 1; COMMIT",
            &["BEGIN", "SET", "UPDATE 1", "COMMIT"],
        ),
        (
            "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT",
            &["BEGIN", "SET", "COMMIT"],
        ),
        ("SET CONSTRAINTS ALL DEFERRED", &["SET CONSTRAINTS"]),
        ("SELECT set_config('app.tenant_id', $1, true)", &["SELECT 1"]),
        (
            "SELECT pg_catalog.set_config( 'a.b' , current_setting('x(,') || ')', true ), 1",
            &["SELECT 1"],
        ),
        (
            "SELECT set_config('a.b', '{\"k\": \"it''s\"}', is_local => true)",
            &["SELECT 1"],
        ),
        (
            "SELECT set_config('a.b', $1::text, 'true'::boolean)",
            &["SELECT 1"],
        ),
        ("CREATE TABLE t (temp int, role text)", &["CREATE TABLE"]),
        ("ALTER TABLE t ALTER x SET DEFAULT 1", &["ALTER TABLE"]),
        ("SELECT pg_advisory_xact_lock(1)", &["SELECT 1"]),
        ("SELECT name, setting FROM pg_settings", &["SELECT 300"]),
        ("/* route='/set' listen */ SELECT 1", &["SELECT 1"]),
        ("DECLARE c CURSOR FOR SELECT 1", &["DECLARE CURSOR"]),
        ("", &[]),
    ] {
        assert!(
            !may_have_changed(words(statement), tags(answered)),
            "{statement}: {:?}",
            words(statement)
        );
    }
}

/// Statements that may change a session, with the tags of their answers.
const MAY_CHANGE: &[(&str, &[&str])] = &[
    ("SET x = 1", &["SET"]),
    ("set search_path to a, b", &["SET"]),
    ("SeT\n\tSESSION x TO 1", &["SET"]),
    ("SET", &["SET"]),
    ("SET local.mark = 'x'", &["SET"]),
    ("SET \"local\".mark = 'x'", &["SET"]),
    ("SET \"transaction\".mark = 'x'", &["SET"]),
    ("SET transaction.mark TO 'x'", &["SET"]),
    ("SET /* local */ x = 1", &["SET"]),
    ("SET -- transaction\n x = 1", &["SET"]),
    ("SET/* constraints */x = 1", &["SET"]),
    ("SELECT U&\"set\\005fconfig\"('a.b', 'x', false)", &["SELECT 1"]),
    ("SET \"a\" = 1", &["SET"]),
    ("SET TIME ZONE 'UTC'", &["SET"]),
    ("SET ROLE x", &["SET"]),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", &["SET"]),
    ("-- note\n/* update */ SET x = 1", &["SET"]),
    ("/* a /* b */ c */ SET x = 1", &["SET"]),
    ("UPDATE t SET x = 1; SET y = 2", &["UPDATE 1", "SET"]),
    ("BEGIN; SET LOCAL x = 1; SET/**/y = 2; COMMIT", &["SET"]),
    ("RESET ALL", &["RESET"]),
    ("DISCARD ALL", &["DISCARD ALL"]),
    ("DISCARD TEMP", &["DISCARD TEMP"]),
    ("DO $$ BEGIN END $$", &["DO"]),
    ("CALL p()", &["CALL"]),
    ("PREPARE p AS SELECT 1", &["PREPARE"]),
    ("DEALLOCATE p", &["DEALLOCATE"]),
    ("DEALLOCATE ALL", &["DEALLOCATE ALL"]),
    ("LISTEN x", &["LISTEN"]),
    ("UNLISTEN *", &["UNLISTEN"]),
    ("LOAD 'x'", &["LOAD"]),
    ("SELECT set_config('a.b', 'x', false)", &["SELECT 1"]),
    ("SELECT \"set_config\"('a.b', 'x', $1)", &["SELECT 1"]),
    ("SELECT set_config('a.b', 'x', true OR false)", &["SELECT 1"]),
    ("SELECT set_config('a.b', 'x\\', true)', false)", &["SELECT 1"]),
    ("SELECT set_config('a.b', $$, true)$$, false)", &["SELECT 1"]),
    ("SELECT set_config('a.b', 'x', -- true)\n false)", &["SELECT 1"]),
    (
        "SELECT set_config('a.b', set_config('c.d', 'x', false), true)",
        &["SELECT 1"],
    ),
    (
        "SELECT set_config(is_local => false, setting_name => 'a.b', new_value => 'true')",
        &["SELECT 1"],
    ),
    ("SELECT set_config('a.b', 'x', tru", &["SELECT 1"]),
    ("SELECT $q$set_config$q$", &["SELECT 1"]),
    (
        "UPDATE pg_catalog.pg_settings SET setting = '1' WHERE name = 'x'",
        &["UPDATE 0"],
    ),
    ("CREATE TEMP TABLE t ()", &["CREATE TABLE"]),
    ("create or replace temporary view v as select 1", &["CREATE VIEW"]),
    ("CREATE /* a b */ LOCAL -- c\n TEMP TABLE t ()", &["CREATE TABLE"]),
    ("SELECT 1 INTO TEMP t", &["SELECT 1"]),
    ("CREATE TABLE pg_temp.t ()", &["CREATE TABLE"]),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &["DECLARE CURSOR"]),
    ("SELECT pg_try_advisory_lock(1)", &["SELECT 1"]),
    ("SELECT pg_advisory_unlock_all()", &["SELECT 1"]),
    ("SELECT setseed(0.5)", &["SELECT 1"]),
    ("SELECT dblink_connect_u('x')", &["SELECT 1"]),
    ("SELECT U&\"s\\0065t_config\"('a.b', 'x', false)", &["SELECT 1"]),
    ("SELECT query_to_xml($1, true, true, '')", &["SELECT 1"]),
    ("SELECT pg_backup_start('x')", &["SELECT 1"]),
    ("SELECT 1where set_config('a.b', 'x', false) > ''", &["SELECT 1"]),
];

#[test]
fn what_may_change_the_session_is_asked_for() {
    for (statement, answered) in MAY_CHANGE {
        assert!(
            may_have_changed(words(statement), tags(answered)),
            "{statement}: {:?}",
            words(statement)
        );
    }
}

#[test]
fn what_is_set_for_a_transaction_alone_may_matter_to_what_statements_mean() {
    for (statement, expected) in [
        ("SET LOCAL x = 1", Words::SET_LOCAL | Words::SET_LOCAL_MEANING),
        ("SET LOCAL app.x = 1", Words::SET_LOCAL),
        ("set local Lock_Timeout to '1s'", Words::SET_LOCAL),
        (
            "set local work_mem = '1MB'; set local enable_sort = off",
            Words::SET_LOCAL,
        ),
        (
            "SET LOCAL TIME ZONE 'UTC'",
            Words::SET_LOCAL | Words::SET_LOCAL_MEANING,
        ),
        (
            "SELECT set_config('app.x', $1, true), set_config('search_path', $2, true)",
            Words::SET_CONFIG_LOCAL | Words::SET_LOCAL_MEANING,
        ),
        (
            "SELECT set_config('statement_timeout', '1', true)",
            Words::SET_CONFIG_LOCAL,
        ),
    ] {
        assert_eq!(words(statement), expected, "{statement}");
    }
}

#[test]
fn words_are_told_apart() {
    for (statement, expected) in [
        ("SELECT set_config('a.b', $1, true)", Words::SET_CONFIG_LOCAL),
        (
            "SELECT set_config($1, $2, true)",
            Words::SET_CONFIG_LOCAL | Words::NAME_BOUND,
        ),
        (
            "SELECT set_config($1::text, $2, $3)",
            Words::SET_CONFIG | Words::NAME_BOUND,
        ),
        (
            "SELECT set_config('a.' || x, $2, true)",
            Words::SET_CONFIG_LOCAL | Words::NAME_UNSEEN,
        ),
        (
            "SELECT proname FROM pg_proc WHERE proname = 'set_config'",
            Words::SET_CONFIG,
        ),
        ("SELECT lastval()", Words::SEQUENCE_READ),
        ("TABLE pg_prepared_statements", Words::STATEMENTS_READ),
        ("SELECT pg_prepared_statement()", Words::STATEMENTS_READ),
        ("SELECT setval('s', nextval('t'))", Words::NEXTVAL),
        ("LISTEN x", Words::LISTEN),
        ("SELECT 1; UNLISTEN x", Words::UNLISTEN),
        ("SELECT listen, load, call FROM t", Words::NONE),
        ("EXPLAIN EXECUTE p", Words::EXECUTE),
        ("PREPARE p AS SELECT 1", Words::PREPARE),
        ("DROP DATABASE x", Words::DATABASE),
        ("ALTER DATABASE x RENAME TO y", Words::DATABASE),
        (
            "CREATE /* */ DATABASE x TEMPLATE y",
            Words::DATABASE | Words::CREATE,
        ),
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            Words::FUNCTION_DDL | Words::CREATE,
        ),
        (
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON x EXECUTE FUNCTION f()",
            Words::FUNCTION_DDL | Words::EXECUTE | Words::CREATE,
        ),
        ("CREATE EXTENSION x", Words::FUNCTION_DDL | Words::CREATE),
        ("DROP ROLE x", Words::ROLE_DDL),
        ("GRANT a TO b", Words::GRANT),
        ("ALTER SYSTEM SET x = 1", Words::ALTER_SYSTEM),
        (
            "CREATE TEMP TABLE t () ON COMMIT DROP",
            Words::TEMP | Words::ON_COMMIT_DROP | Words::CREATE,
        ),
        ("SET seed = 0.5", Words::SET_SESSION | Words::SEED),
        (
            "SET dynamic_library_path = 'x'",
            Words::SET_SESSION | Words::HIDDEN_SETTING,
        ),
        ("begin perform f(); load 'x'; end", Words::LOAD),
        ("execute format('listen %I', x)", Words::EXECUTE | Words::LISTEN),
    ] {
        let found = words(statement).without(Words::COMMIT);
        let found = if expected.has(Words::SET_STATEMENT) {
            found
        } else {
            found.without(Words::SET_STATEMENT)
        };
        assert_eq!(found, expected, "{statement}");
    }
}

#[test]
fn what_may_end_a_transaction_is_seen_wherever_it_stands() {
    for ends in [
        "COMMIT",
        "commit\0",
        "select 1; Commit",
        "END",
        "insert into t values (1);end",
        "/* set */ PREPARE TRANSACTION 'x'",
        "commit and chain",
    ] {
        assert!(words(ends).has(Words::MAY_COMMIT), "{ends:?}");
    }
    for other in [
        "",
        "select 1",
        "select commitment, ending from t",
        "rollback",
        "c\u{f}mmit",
    ] {
        assert!(!words(other).has(Words::MAY_COMMIT), "{other:?}");
    }
}

#[test]
fn names_of_custom_settings_are_found_where_they_are_set() {
    assert_eq!(names("SET app.tenant_id = 'x.y'"), ["app.tenant_id"]);
    assert_eq!(names("SET LOCAL App . \"Tenant\" TO 1"), ["app.tenant"]);
    assert_eq!(
        names("SET SESSION \"app.x\" = 1; RESET app.y"),
        ["app.x", "app.y"]
    );
    assert_eq!(names("SET session.user = 1"), ["session.user"]);
    assert_eq!(names("SET \"local\".mark = 1"), ["local.mark"]);
    assert_eq!(names("SET/* a */app.x/* b */= 1"), ["app.x"]);
    assert_eq!(names("SET -- a\n LOCAL /* b */ app . x TO 1"), ["app.x"]);
    assert_eq!(names("SET search_path = a, b; SELECT t.x FROM t"), [""; 0]);
    assert_eq!(
        names("SELECT set_config('app.a', t.x, true), set_config(E'app.b'::text, '', false)"),
        ["app.a", "app.b"]
    );
    assert_eq!(
        names("SELECT set_config(setting_name := 'app.a', new_value := '', is_local := true)"),
        ["app.a"]
    );
    assert_eq!(names("SELECT set_config('search_path', '', true)"), [""; 0]);
    assert_eq!(
        words("SELECT set_config('a.b-c', '', true)"),
        Words::SET_CONFIG_LOCAL | Words::NAME_UNSEEN
    );
    let long = "x".repeat(200);
    assert_eq!(
        words(&format!("SET LOCAL a.{long} = 1")),
        Words::SET_LOCAL | Words::NAME_UNSEEN
    );
    for data in ["SET x = 'set'", "INSERT INTO t VALUES ('a; set')"] {
        assert!(!words(data).has(Words::SET_UNSEEN | Words::NAME_UNSEEN), "{data}");
    }
    for statement in [
        "execute 'set ' || x",
        "execute format('set %I = 1', x)",
        "execute 'set app.' || x",
        "execute 'set app' || '.mark = 1'",
        "execute format('set app_%s = 1', x)",
        "spi_exec(\"SET $name = 1\")",
        "set /* a /* b */ c */ app.x = 1",
    ] {
        let unseen = Words::SET_UNSEEN | Words::NAME_UNSEEN;
        assert!(words(statement).has(unseen), "{statement}");
    }
}

#[test]
fn dotted_names_are_found_anywhere() {
    let found = |text: &'static str| -> Vec<&[u8]> { dotted_names(text.as_bytes()).collect() };
    assert_eq!(
        found("x := 'app.a' || t.x; 1.5; a..b; .c; d."),
        [&b"app.a"[..], b"t.x"]
    );
    assert_eq!(found("app.tenant_id"), [b"app.tenant_id"]);
    assert_eq!(found("app.1x a.b.c"), [b"a.b.c"]);
}

#[test]
fn functions_that_change_state_are_words_too() {
    let effect = |words, names: &[&str]| {
        let mut effect = Effect {
            words,
            names: CustomNames::default(),
        };
        names.iter().for_each(|name| effect.names.insert(name.as_bytes()));
        effect
    };
    let long = "f".repeat(63);
    let functions = FunctionWords::new([
        (
            b"Login"[..].into(),
            effect(Words::TRIGGER_FUNCTION | Words::SET_CONFIG, &["app.user"]),
        ),
        (
            b"lock_it"[..].into(),
            effect(Words::TRIGGER_FUNCTION | Words::ADVISORY, &[]),
        ),
        (long.as_bytes().into(), effect(Words::TRIGGER_FUNCTION, &[])),
        ("für".as_bytes().into(), effect(Words::TRIGGER_FUNCTION, &[])),
    ]);
    assert_eq!(functions.names().count(), 3);
    let of = |statement: &str| Words::of(statement.as_bytes(), Some(&functions));
    assert!(may_have_changed(of("SELECT app.LOGIN('x')"), tags(&["SELECT 1"])));
    assert_eq!(of("SELECT lock_it()"), Words::TRIGGER_FUNCTION | Words::ADVISORY);
    // It may be a table's name, and a pin that is only found afterwards is refused nobody beforehand.
    assert_eq!(of("LOCK TABLE lock_it"), Words::TRIGGER_FUNCTION);
    assert_eq!(of("LOCK TABLE lock_it IN SHARE MODE"), Words::TRIGGER_FUNCTION);
    assert_eq!(of("SELECT logins FROM login_"), Words::NONE);
    assert_eq!(of(&format!("SELECT {long}_is_cut()")), Words::TRIGGER_FUNCTION);
    let mut scan = Scan::default();
    scan.feed(b"SELECT login()", Some(&functions));
    scan.finish(Some(&functions));
    assert_eq!(text_of(&scan.take_names()), ["app.user"]);
}

#[test]
fn a_set_in_a_source_is_told_from_prose() {
    for statement in [
        "begin set x = 1; end",
        "begin set session x to 1; end",
        "begin set role y; end",
        "begin set time zone 'UTC'; end",
        "execute 'set x = ' || y",
        "execute 'set ' || x",
        "execute format('set %I = %L', x, y)",
        "begin set /* here */ x = 1",
        "for r in update t set x = 1 returning * loop set y = 2; end loop",
    ] {
        assert!(words(statement).has(Words::SET_STATEMENT), "{statement}");
    }
    for statement in [
        "begin reset x; end",
        "begin reset all; end",
        "execute 'reset x'",
        "execute format('reset %I', x)",
    ] {
        assert!(words(statement).has(Words::RESET), "{statement}");
    }
    for prose in [
        "begin -- set the value to 3\n x := 1; end",
        "begin /* the result set, and the data set. Then */ return; end",
        "begin -- reset the counter\n end",
        "begin x := 1; -- set the value; load it\n /* listen */ end",
        "begin set local x = 1; end",
        "begin update t set x = 1; end",
    ] {
        let source = words(prose);
        assert!(
            !source.has(Words::SET_STATEMENT | Words::RESET | Words::SET_UNSEEN),
            "{prose}: {source:?}"
        );
        assert_eq!(
            source.in_function().without(Words::SET_LOCAL_MEANING),
            Words::NONE
        );
    }
}

#[test]
fn every_way_back_to_what_a_session_was_opened_with_is_seen() {
    for statement in [
        "RESET application_name",
        "RESET ALL",
        "DISCARD ALL",
        "SET application_name TO DEFAULT",
        "SET application_name=DEFAULT",
        "SET LOCAL application_name = default",
        "SELECT set_config('application_name', NULL, false)",
        "SELECT set_config('Application_Name', $1, true)",
        "SELECT set_config('application_name', new_value => null, is_local => false)",
    ] {
        assert!(words(statement).may_reset(), "{statement}");
        let function = format!("begin perform 1; {statement}; end");
        assert!(words(&function).in_function().may_reset(), "{function}");
    }
    for statement in [
        "SET application_name TO 'default_'",
        "CREATE TABLE t (a int DEFAULT 1)",
        "SELECT set_config('application_name', 'x', false)",
        "SELECT set_config('application_name', new_value => E'x', is_local => false)",
        "SELECT set_config('app.tenant', $1, true)",
    ] {
        assert!(!words(statement).may_reset(), "{statement}");
        assert!(!words(statement).in_function().may_reset(), "{statement}");
    }
}

#[test]
fn definitions_that_hide_a_call_have_functions_read_anew() {
    let function = |words, answered: &[&str]| functions_may_have_changed(words, tags(answered));
    assert!(function(words("CREATE FUNCTION f()"), &["CREATE FUNCTION"]));
    assert!(function(Words::NONE, &["ALTER EXTENSION"]));
    assert!(function(
        words("DO $$ BEGIN EXECUTE 'DROP TRIGGER x ON y'; END $$"),
        &["DO"]
    ));
    assert!(function(Words::TRIGGER_FUNCTION, &["CREATE VIEW"]));
    assert!(!function(Words::TRIGGER_FUNCTION, &["SELECT 1"]));
    assert!(!function(words("CREATE TABLE t ()"), &["CREATE TABLE"]));
}

#[test]
fn names_are_a_bounded_set() {
    let mut some = CustomNames::default();
    some.insert(b"App.B");
    some.insert(b"app.a");
    some.insert(b"no_dot");
    assert_eq!(text_of(&some), ["app.a", "app.b"]);
    let mut more = some.clone();
    more.insert(b"app.c");
    assert!(more.has_all(&some) && !some.has_all(&more));
    some.extend(&more);
    assert_eq!(some, more);
    let mut long = CustomNames::default();
    long.insert(format!("app.{}", "n".repeat(70)).as_bytes());
    assert!(long.contains(format!("app.{}", "n".repeat(63)).as_bytes()) && long.iter().len() == 2);
    (0..100).for_each(|number| some.insert(format!("app.x{number}").as_bytes()));
    assert!(some.has_overflowed());
    assert_eq!(some.iter().len(), 64);
}

/// Text that looks like SQL often enough to reach every corner.
fn pieces_of_sql() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "set",
        "SET",
        "local",
        "session",
        "reset",
        "set_config",
        "(",
        ")",
        "'",
        "\"",
        ",",
        "true",
        "$1",
        "$$",
        "--",
        "/*",
        "*/",
        "\n",
        " ",
        " ",
        ";",
        "app",
        ".",
        "tenant",
        "temp",
        "create",
        "into",
        "update",
        "listen",
        "::text",
        "=>",
        "setting_name",
        "is_local",
        "\\",
        "e",
        "u",
        "&",
        "pg_advisory_lock",
        "login",
        "é",
        "9",
        "a_very_long_word_that_is_longer_than_any_name_in_postgres_may_be_and_goes_on",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_do_not_matter(text in pieces_of_sql(), cuts in proptest::collection::vec(1..9_usize, 0..40)) {
        let effect = Effect { words: Words::TRIGGER_FUNCTION, names: CustomNames::default() };
        let functions = FunctionWords::new([(b"login"[..].into(), effect)]);
        let (mut whole, mut parts) = (Scan::default(), Scan::default());
        whole.feed(text.as_bytes(), Some(&functions));
        let mut rest = text.as_bytes();
        for cut in cuts.into_iter().chain(std::iter::repeat(1)) {
            if rest.is_empty() { break; }
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            parts.feed(head, Some(&functions));
            rest = tail;
        }
        prop_assert_eq!(whole.finish(Some(&functions)), parts.finish(Some(&functions)));
        prop_assert_eq!(whole.take_names(), parts.take_names());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Words::of(&bytes, None);
        let _ = dotted_names(&bytes).count();
        let _ = Tags::of(&bytes);
    }

    /// Whatever stands before and behind it, as long as it is not one word with it nor the statement's own comment.
    #[test]
    fn a_call_for_the_session_is_never_missed(before in pieces_of_sql(), behind in pieces_of_sql()) {
        prop_assume!(!before.trim_start().starts_with("--") && !before.trim_start().starts_with("/*"));
        let text = format!("x {before} set_config('a.b', 'c', false){behind}");
        prop_assert!(words(&text).has(Words::SET_CONFIG), "{}", text);
    }
}
