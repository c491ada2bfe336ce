//! Texts are read as Postgres reads them: where comments end, what names are, how long they are.

use super::{
    carrying::{LOOK, who},
    leaking,
    said::{STRANGER, Said, prepare},
    script::Script,
};

/// Postgres ends a line at either.
#[tokio::test]
async fn a_comment_that_ends_with_a_carriage_return_hides_no_statement() {
    let before = "do $do$begin create role limited; exception when duplicate_object then null; end$do$";
    let sets = [
        "-- set\rset app.mark = 'behind a comment'",
        "-- set\r\nset app.mark = 'behind a comment'",
        "-- set\rset search_path = 'pg_catalog'",
        "-- set\rset role limited",
    ];
    leaking::each("read-comments", before, &sets).await;
    // These stay on their session.
    for (number, pins) in [
        "-- lock\rselect pg_advisory_lock(5)",
        "-- make\rcreate temp table hidden (number int)",
        "-- listen\rlisten news",
    ]
    .into_iter()
    .enumerate()
    {
        Script::new(&format!("read-pins-{number}"), 2)
            .query(0, pins)
            .query(1, leaking::LOOK)
            .query(0, leaking::LOOK)
            .play()
            .await;
    }
}

/// What stands beside a PREPARE is run once, however often its statement is prepared again.
#[tokio::test]
async fn what_stands_beside_a_prepare_is_run_once() {
    let count = "select count(*) from counted";
    let mut script = Script::new("read-beside", 1)
        .before("drop table if exists counted; create table counted (number int)")
        .query(
            0,
            "prepare p as select 1 -- one\r; insert into counted values (1)",
        );
    for _ in 0..3 {
        script = script.query(1, STRANGER).query(0, count).query(0, "execute p");
    }
    script.play().await;
}

#[tokio::test]
async fn sql_finds_statements_by_names_as_it_writes_them() {
    let mut script = Script::new("read-names", 1)
        .say(0, prepare("q\"x", "select 'quoted'"))
        .say(0, prepare("plain", "select 'plain'"));
    for execute in [
        "execute \"q\"\"x\"",
        "execute /* /* */ */ plain",
        "execute -- x\rplain",
        "-- x\rexecute plain",
        "execute /* /* */ plain",
        "deallocate /* -- */ \"q\"\"x\"",
        "execute \"q\"\"x\"",
    ] {
        script = script.query(1, STRANGER).query(0, execute);
    }
    script.play().await;
}

/// Longer than what is seen of a Query before it passes.
#[tokio::test]
async fn long_texts_find_statements_too() {
    let long = "x".repeat(70_000);
    Script::new("read-long", 1)
        .say(0, prepare("measure", "select length($1::text)"))
        .say(1, prepare("measure", "select 'of another'"))
        .query(0, &format!("execute measure('{long}')"))
        .query(1, "execute measure")
        .query(
            0,
            &format!("select count(*) from pg_prepared_statements where name <> '{long}'"),
        )
        .query(0, &format!("deallocate measure /* {long} */"))
        .query(1, STRANGER)
        .query(0, "execute measure('')")
        .query(1, "execute measure")
        .say(0, [Said::parse("measure", "select 'new'"), Said::Sync])
        .play()
        .await;
}

/// Postgres cuts such names, and shows what is not printable in its own way.
#[tokio::test]
async fn applications_have_the_names_that_postgres_gives_them() {
    let long = format!("a caf\u{e9} {}", "with a long name ".repeat(6));
    for first in [&*long, "caf\u{e9}"] {
        let mut script = Script::new("read-applications", 1)
            .who(who("postgres").with("application_name", first))
            .who(who("postgres").with("application_name", "second"))
            .who(who("postgres").with("application_name", "t\u{fc}rd"));
        for client in 0..3 {
            script = script
                .query(client, LOOK)
                .query(client, "set application_name = 'other'")
                .query((client + 1) % 3, STRANGER)
                .query(client, "reset application_name")
                .query(client, LOOK);
        }
        script.play().await;
    }
}
