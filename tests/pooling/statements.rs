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
