//! Prepared statements of the protocol, over turns on other sessions than the one that prepared them.

use super::{
    line::Who,
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, tags, values},
};

#[tokio::test]
async fn a_name_is_there_from_parse_complete_on_and_not_before() {
    let played = Script::new("statements-names", 1)
        .say(0, prepare("s", "selec"))
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .say(0, prepare("s", "select 'now'"))
        .query(1, STRANGER)
        .say(0, prepare("s", "select 'twice'"))
        .say(0, execute("s", &[]))
        .query(1, STRANGER)
        .say(0, execute("unknown", &[]))
        .say(0, vec![Said::describe(Kind::Statement, "unknown"), Said::Sync])
        // Behind an error nothing is prepared.
        .say(
            0,
            [vec![Said::parse("", "selec")], prepare("later", "select 1")].concat(),
        )
        .query(1, STRANGER)
        .say(0, execute("later", &[]))
        // In a transaction that is rolled back it stays.
        .query(0, "begin")
        .say(0, prepare("kept", "select 'kept'"))
        .query(0, "rollback")
        .query(1, STRANGER)
        .say(0, execute("kept", &[]))
        .play()
        .await;
    assert_eq!(
        errors(&played.told(0)),
        ["42601", "26000", "42P05", "26000", "26000", "42601", "26000"]
    );
    assert!(values(&played.told(0)).contains(&"kept".to_owned()));
}

/// Names and lengths of everything stay where a name is replaced by a shorter or a longer one.
#[tokio::test]
async fn only_the_statements_name_is_replaced_in_a_bind() {
    let long = "n".repeat(300);
    let value = "v".repeat(70_000);
    let mut script = Script::new("statements-bind", 1);
    for name in ["s", &long, "with space", "\u{e9}"] {
        script = script
            .say(0, prepare(name, "select $1::text, $2::text"))
            .query(1, STRANGER)
            .query(0, "begin")
            .say(
                0,
                vec![
                    Said::bind(&format!("portal of {name}"), name, &[&value, ""]),
                    Said::Bind {
                        portal: "p".to_owned(),
                        statement: name.to_owned(),
                        values: vec![None, Some(vec![b'x'])],
                        results: vec![0, 1],
                    },
                    Said::describe(Kind::Portal, "p"),
                    Said::execute("p", 0),
                    Said::execute(&format!("portal of {name}"), 1),
                    Said::Sync,
                ],
            )
            .query(0, "commit");
    }
    script.play().await;
}

#[tokio::test]
async fn closing_a_portal_is_not_closing_a_statement() {
    let played = Script::new("statements-close", 1)
        .say(0, prepare("same", "select 'still there'"))
        .query(1, STRANGER)
        .say(0, vec![Said::close(Kind::Portal, "same"), Said::Sync])
        .say(0, execute("same", &[]))
        .query(1, STRANGER)
        .say(
            0,
            vec![
                Said::close(Kind::Statement, "same"),
                Said::close(Kind::Statement, "same"),
                Said::Sync,
            ],
        )
        .query(1, STRANGER)
        .say(0, execute("same", &[]))
        .say(0, prepare("same", "select 'another'"))
        .query(1, STRANGER)
        .say(0, execute("same", &[]))
        .play()
        .await;
    assert_eq!(values(&played.told(0)), ["still there", "another"]);
}

/// Answers of pgwake's own stand in the place of Postgres'.
#[tokio::test]
async fn answers_stand_in_the_order_of_what_was_asked() {
    let mixed = |last: &str| {
        vec![
            Said::close(Kind::Statement, "unknown"),
            Said::bind("", "s", &["1"]),
            Said::execute("", 0),
            Said::parse("t", "select 'of t'"),
            Said::close(Kind::Statement, "unknown"),
            Said::bind("", "t", &[]),
            Said::close(Kind::Portal, "unknown"),
            Said::execute("", 0),
            Said::close(Kind::Statement, "t"),
            Said::Flush,
            Said::describe(Kind::Statement, "s"),
            Said::parse("", last),
            Said::close(Kind::Statement, "s"),
            Said::Sync,
            Said::Sync,
            Said::close(Kind::Statement, "s"),
            Said::Sync,
        ]
    };
    let played = Script::new("statements-order", 1)
        .say(0, prepare("s", "select $1::int"))
        .query(1, STRANGER)
        .say(0, mixed("select 2"))
        .query(1, STRANGER)
        .say(0, prepare("s", "select $1::int"))
        .query(1, STRANGER)
        .say(0, mixed("selec"))
        .query(1, STRANGER)
        .say(0, execute("s", &["7"]))
        .play()
        .await;
    let told = tags(&played.told(0));
    assert!(told.starts_with("1tTZ32DC132") && told.contains("EZ"), "{told}");
}

/// Drivers Parse and Describe in one turn, Bind and Execute in the next.
#[tokio::test]
async fn the_unnamed_statement_lives_on_until_something_replaces_it() {
    let mut script = Script::new("statements-unnamed", 1)
        .before("drop table if exists told; create table told (what text)")
        .say(0, prepare("", "select $1::int * 2"))
        .query(1, STRANGER)
        .say(0, execute("", &["21"]))
        .query(1, STRANGER)
        .say(0, execute("", &["4"]))
        .say(1, prepare("", "select 'of the second'"))
        .say(0, execute("", &["5"]))
        .say(1, execute("", &[]));
    // Each of these takes it away, those that no server need see, too.
    let ends: [Vec<Said>; 7] = [
        vec![Said::query("select 1")],
        vec![Said::query("")],
        vec![Said::query("begin"), Said::query("commit")],
        vec![Said::query("selec")],
        vec![Said::parse("", "selec"), Said::Sync],
        vec![Said::close(Kind::Statement, ""), Said::Sync],
        vec![Said::query("discard all")],
    ];
    for end in ends {
        script = script
            .say(0, prepare("", "select $1::int * 2"))
            .query(1, STRANGER)
            .say(0, end)
            .query(1, STRANGER)
            .say(0, execute("", &["1"]));
    }
    let played = script.play().await;
    let gone = errors(&played.told(0));
    assert_eq!(gone.iter().filter(|code| *code == "26000").count(), 7, "{gone:?}");
}

/// DEALLOCATE ALL and DISCARD ALL are known by what Postgres says to them; other clients' statements live on.
#[tokio::test]
async fn what_takes_all_statements_takes_its_own_clients_alone() {
    let mut script = Script::new("statements-all", 1);
    let all = [
        vec![Said::query("deallocate all")],
        vec![Said::query("/* all */ DEALLOCATE PREPARE ALL")],
        vec![Said::query("discard all")],
        [Said::run("discard all", &[]).as_slice(), &[Said::Sync]].concat(),
        [Said::run("deallocate all", &[]).as_slice(), &[Said::Sync]].concat(),
        vec![Said::query("select 1; deallocate all; select 2")],
        vec![
            Said::query("begin"),
            Said::query("deallocate all"),
            Said::query("rollback"),
        ],
    ];
    for take in all {
        for client in [0, 1] {
            script = script.say(client, prepare("s", "select 'shared'"));
        }
        script = script
            .say(0, execute("s", &[]))
            .say(1, execute("s", &[]))
            .say(0, take)
            .say(0, execute("s", &[]))
            .say(1, execute("s", &[]))
            .say(1, vec![Said::close(Kind::Statement, "s"), Said::Sync])
            .say(0, prepare("s", "select 'again'"))
            .query(1, STRANGER)
            .say(0, execute("s", &[]))
            .say(0, vec![Said::close(Kind::Statement, "s"), Said::Sync]);
    }
    let played = script.play().await;
    assert_eq!(errors(&played.told(0)), ["26000"; 7]);
    assert!(errors(&played.told(1)).is_empty());
}

/// sqlx sends `EXPLAIN EXECUTE sqlx_s_1`.
#[tokio::test]
async fn sql_names_statements_of_the_protocol() {
    let played = Script::new("statements-sql", 1)
        .say(0, prepare("sqlx_s_1", "select $1::int + 1"))
        .query(1, STRANGER)
        .query(0, "execute sqlx_s_1(41)")
        .query(1, STRANGER)
        .query(0, "explain (costs off) execute sqlx_s_1(1)")
        .query(1, STRANGER)
        .query(0, "EXPLAIN (COSTS OFF, VERBOSE) EXECUTE \"sqlx_s_1\"(1)")
        .query(1, STRANGER)
        .query(0, "begin; /* by name */ execute sqlx_s_1(1); commit")
        .query(1, STRANGER)
        .say(0, execute("sqlx_s_1", &["9"]))
        .query(1, STRANGER)
        .query(0, "deallocate sqlx_s_1")
        .query(1, STRANGER)
        .say(0, execute("sqlx_s_1", &["9"]))
        .query(0, "deallocate sqlx_s_1")
        .query(0, "prepare sqlx_s_1 as select 'by sql'")
        .query(1, STRANGER)
        .say(0, execute("sqlx_s_1", &[]))
        .say(0, prepare("sqlx_s_1", "select 'twice'"))
        .query(1, "execute sqlx_s_1")
        .say(0, vec![Said::close(Kind::Statement, "sqlx_s_1"), Said::Sync])
        .query(1, STRANGER)
        .query(0, "execute sqlx_s_1")
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["26000", "26000", "42P05", "26000"]);
}

/// Postgres' own error comes through, and who prepares the same text again is served by a fresh statement.
#[tokio::test]
async fn a_statement_whose_columns_changed_fails_as_postgres_fails_and_can_be_prepared_again() {
    let played = Script::new("statements-changed", 2)
        .before("drop table if exists wide; create table wide as select 1 as one")
        .say(0, prepare("s", "select * from wide"))
        .say(0, execute("s", &[]))
        .query(1, "alter table wide add two int default 2")
        .say(0, execute("s", &[]))
        .say(0, vec![Said::close(Kind::Statement, "s"), Said::Sync])
        .say(0, prepare("s", "select * from wide"))
        .say(0, execute("s", &[]))
        .say(0, prepare("other", "select * from wide"))
        .say(0, execute("other", &[]))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["0A000"]);
    assert_eq!(values(&played.told(0)), ["1", "1", "2", "1", "2"]);
}

/// Types are found when a text is parsed: a client that prepares the text that another one prepared before must not get
/// the type that has gone since. SQLAlchemy's tests of domains found it.
#[tokio::test]
async fn who_prepares_a_text_after_its_types_have_changed_gets_the_new_ones() {
    let before = "drop domain if exists mood; create domain mood as text; drop table if exists shape; \
                  create table shape as select 1 as side";
    let (of_type, of_table) = ("select $1::mood", "select * from shape");
    let use_both = |script: Script, client: usize| {
        script
            // Not described: the type's number is another on each server.
            .say(client, vec![Said::parse("t", of_type), Said::Sync])
            .say(client, execute("t", &["7"]))
            .say(client, prepare("s", of_table))
            .say(client, execute("s", &[]))
    };
    let again = "drop domain mood; create domain mood as int; drop table shape; create table shape as select 'a' as corner";
    let hidden = format!("do $$begin {again}; end$$");
    let mut script = use_both(Script::new("statements-anew", 1).before(before), 0).query(1, again);
    script = use_both(script, 2).query(1, "begin").query(1, again);
    // Within the transaction, and behind it.
    script = use_both(script, 1).query(1, "commit");
    script = use_both(script, 3).query(1, &hidden);
    let played = use_both(script, 4).play().await;

    for client in 0..5 {
        assert!(errors(&played.told(client)).is_empty(), "client {client}");
    }
    for client in [2, 3, 4] {
        assert_eq!(values(&played.told(client)), ["7", "a"], "client {client}");
    }
}

/// What is prepared while a type is about to go has the one that others still see.
#[tokio::test]
async fn who_prepares_a_text_again_after_others_have_committed_gets_their_types() {
    let text = |name: &'static str| vec![Said::parse(name, "select $1::mood"), Said::Sync];
    let played = Script::new("statements-committed", 2)
        .before("drop domain if exists mood; create domain mood as text")
        .query(0, "begin")
        .query(0, "drop domain mood; create domain mood as int")
        .say(1, text("before"))
        .say(1, execute("before", &["7"]))
        .query(0, "commit")
        .say(1, text("behind"))
        .say(1, execute("behind", &["7"]))
        .play()
        .await;
    assert!(errors(&played.told(1)).is_empty());
}

/// What a transaction has made is gone without another word where it is rolled back, to a savepoint or as a whole.
#[tokio::test]
async fn who_prepares_a_text_again_after_a_rollback_gets_what_is_there_then() {
    let text = |name: &'static str| vec![Said::parse(name, "select * from shape"), Said::Sync];
    let mut script = Script::new("statements-rolled-back", 1)
        .before("drop table if exists shape")
        .query(0, "begin; create table shape as select 1 as side")
        .say(0, text("first"))
        .say(0, execute("first", &[]))
        .query(0, "rollback")
        .query(
            0,
            "begin; savepoint here; create table shape as select 'a' as corner",
        )
        .say(0, text("second"))
        .say(0, execute("second", &[]))
        .query(0, "rollback to here; create table shape as select 2.5 as edge")
        .say(0, text("third"))
        .say(0, execute("third", &[]))
        .query(0, "rollback")
        .query(1, "create table shape as select true as round");
    for client in [0, 2] {
        script = script.say(client, text("last")).say(client, execute("last", &[]));
    }
    let played = script.play().await;
    assert_eq!(values(&played.told(0)), ["1", "a", "2.5", "t"]);
    assert_eq!(values(&played.told(2)), ["t"]);
}

/// The same where only an error says so: a pipeline is a transaction that nobody has begun.
#[tokio::test]
async fn who_prepares_a_text_again_after_a_pipeline_failed_gets_what_was_there_before() {
    let text = |name: &'static str| vec![Said::parse(name, "select $1::mood")];
    let (drop, create) = ("drop domain mood", "create domain mood as int");
    let begins = [&Said::run(drop, &[])[..], &Said::run(create, &[]), &[Said::Flush]];
    let fails = [
        text("inside"),
        Said::run("select 1 / 0", &[]).to_vec(),
        vec![Said::Sync],
    ];
    let played = Script::new("statements-failed-pipeline", 1)
        .before("drop domain if exists mood; create domain mood as text")
        .say(0, begins.concat())
        .say(0, fails.concat())
        .say(1, [text("behind"), vec![Said::Sync]].concat())
        .say(1, execute("behind", &["7"]))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["22012"]);
    assert!(errors(&played.told(1)).is_empty());
}

/// A statement that cannot be prepared on the session at hand: that is the answer to the message that needed it.
#[tokio::test]
async fn a_statement_that_can_no_longer_be_prepared_fails_where_it_is_used() {
    let played = Script::new("statements-lost", 1)
        .before("drop table if exists gone; create table gone as select 1 as one")
        .say(0, prepare("s", "select * from gone"))
        .query(1, "drop table gone")
        .say(
            0,
            [execute("s", &[]), vec![Said::query("select 'behind'")]].concat(),
        )
        .query(1, STRANGER)
        .say(
            0,
            [Said::run("select 'before'", &[]).to_vec(), execute("s", &[])].concat(),
        )
        .query(1, "create table gone as select 2 as one")
        .say(0, execute("s", &[]))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["42P01", "42P01"]);
    assert_eq!(values(&played.told(0)), ["behind", "before", "2"]);
}

/// Nobody's statement is anybody else's: not of another role, not of another database, not of another client.
#[tokio::test]
async fn names_are_their_clients_own() {
    let roles = "do $$begin create role reader login; exception when duplicate_object then null; end$$";
    let played = Script::new("statements-own", 1)
        .before(roles)
        .who(Who::new("postgres", "postgres"))
        .who(Who::new("postgres", "template1"))
        .say(0, prepare("s", "select current_database(), current_user"))
        .say(1, execute("s", &[]))
        .say(1, prepare("s", "select current_database(), current_user"))
        .say(0, execute("s", &[]))
        .say(1, execute("s", &[]))
        .say(2, execute("s", &[]))
        .say(2, prepare("s", "select 'of the third'"))
        .say(0, execute("s", &[]))
        .say(2, execute("s", &[]))
        .play()
        .await;
    assert_eq!(values(&played.told(1)), ["template1", "postgres"]);
    assert_eq!(errors(&played.told(2)), ["26000"]);
}

/// What an error makes the server ignore, in one write with what comes behind it: the name is free.
#[tokio::test]
async fn a_name_that_was_ignored_twice_is_free() {
    Script::new("statements-ignored", 1)
        .before("drop table if exists things; create table things (id int, word text)")
        .say(
            0,
            [
                Said::query("commit"),
                Said::parse("", "select word from nowhere"),
                Said::bind("", "", &[]),
                Said::describe(Kind::Portal, ""),
                Said::execute("", 2),
                Said::execute("", 0),
                Said::parse("", "select '01/02/2024'::date"),
                Said::Sync,
            ],
        )
        .say(
            0,
            [
                Said::describe(Kind::Statement, "s0"),
                Said::close(Kind::Portal, ""),
                Said::parse("", "begin"),
                Said::bind("", "", &[]),
                Said::describe(Kind::Portal, ""),
                Said::execute("", 2),
                Said::close(Kind::Statement, "s3"),
                Said::execute("p0", 1),
                Said::parse("s3", "update things set word = $1 where id = $2::int"),
                Said::Sync,
            ],
        )
        .say(0, [Said::parse("s3", "select $1::int * 2"), Said::Sync])
        .play()
        .await;
}

/// Postgres finds the name taken by what was prepared first, whatever is set since; so does SQL.
#[tokio::test]
async fn a_taken_name_means_what_it_was_prepared_with() {
    let played = Script::new("statements-taken", 1)
        .say(0, prepare("s2", "select '01/02/2024'::date"))
        .query(1, STRANGER)
        .query(0, "set datestyle = 'German'")
        .query(1, STRANGER)
        .say(0, [Said::parse("s2", "select 'by name'"), Said::Sync])
        .query(0, "execute s2")
        .query(1, STRANGER)
        .query(0, "execute s2")
        .play()
        .await;
    assert_eq!(values(&played.told(0)), ["02.01.2024", "02.01.2024"]);
}

/// SQL runs a statement that the protocol has prepared: what it sets shows in neither text nor turn of its own.
#[tokio::test]
async fn what_sql_runs_by_a_name_of_the_protocol_reaches_nobody_else() {
    const LOOK: &str = "select current_setting('datestyle'), current_setting('app.run', true)";
    let mut script = Script::new("statements-run", 1)
        .say(0, prepare("style", "set datestyle = 'German'"))
        .say(0, prepare("mark", "set app.run = 'mine'"))
        .say(0, prepare("once", "set local datestyle = 'SQL'"));
    for run in [
        "execute style",
        "execute mark",
        "begin; execute once; commit",
        "reset all",
    ] {
        script = script.query(0, run).query(1, LOOK).query(0, LOOK);
    }
    script.play().await;
}
