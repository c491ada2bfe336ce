//! What stands behind something else of the same pipeline that has no answer yet, or behind a transaction that has failed.

use super::{
    line::{Way, Who},
    pooled::Pooled,
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::SUPERUSER;

const ENDPOINT: &str = "behind";

fn run(sql: &str) -> Vec<Said> {
    Said::run(sql, &[]).to_vec()
}

fn synced(parts: &[Vec<Said>]) -> Vec<Said> {
    [parts.concat(), vec![Said::Sync]].concat()
}

async fn drawn() -> Pooled {
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut other = pooled.line(ENDPOINT).await;
    other.query("create table numbered (id serial)").await;
    other.query("insert into numbered default values").await;
    other
        .ask(&synced(&[prepare("s", "select 'a secret'")]), Way::Whole)
        .await;
    pooled
}

const ASKING: [&str; 2] = [
    "select lastval()",
    "select statement from pg_prepared_statements where statement like '%secret%' and statement not like '%pg_prep%'",
];

#[tokio::test]
async fn nothing_of_strangers_is_read_behind_messages_without_sync() {
    let pooled = drawn().await;
    for sql in ASKING {
        let mut line = pooled.line(ENDPOINT).await;
        let told = line.ask(&synced(&[run("select 1"), run(sql)]), Way::Whole).await;
        assert_eq!(values(&told), ["1"], "{sql}");
        let mut line = pooled.line(ENDPOINT).await;
        let told = line
            .ask(&[run("select 1"), vec![Said::query(sql)]].concat(), Way::Whole)
            .await;
        assert_eq!(values(&told), ["1"], "{sql}");
    }
}

#[tokio::test]
async fn nothing_of_strangers_is_read_behind_the_end_of_a_failed_transaction() {
    let pooled = drawn().await;
    for sql in ASKING {
        let mut line = pooled.line(ENDPOINT).await;
        line.query("begin").await;
        assert_eq!(errors(&line.query("select 1 / 0").await), ["22012"]);
        let told = line.query(&format!("rollback; {sql}")).await;

        assert_eq!(values(&told), [""; 0], "{sql}");
    }
}

const PREPARES: &str = "prepare q as select '01/02/2024'::date";

/// Between two Syncs Postgres tells only what was set last: what was set before, and what is left of it behind an error,
/// nobody is told.
#[tokio::test]
async fn what_sql_prepares_is_what_it_was_whatever_is_set_behind_it() {
    for said in [
        synced(&[run(PREPARES), run("set datestyle = 'German'")]),
        [run(PREPARES), vec![Said::query("set datestyle = 'German'")]].concat(),
        synced(&[
            run("set datestyle = 'German'"),
            run(PREPARES),
            run("select 1 / 0"),
        ]),
        vec![
            Said::query("begin; set datestyle = 'German'"),
            Said::query(format!("{PREPARES}; select 1 / 0")),
            Said::query("rollback"),
        ],
    ] {
        moved()
            .say(0, said)
            .query(1, STRANGER)
            .query(2, STRANGER)
            .query(0, "execute q")
            .play()
            .await;
    }
}

/// Of two sessions the first client loses its own to the third one, if it does not keep it.
fn moved() -> Script {
    Script::new(ENDPOINT, 2)
}

#[tokio::test]
async fn sql_finds_what_is_prepared_behind_a_close() {
    Script::new(ENDPOINT, 1)
        .say(0, prepare("s", "select 'first'"))
        .query(0, "begin; execute s")
        .say(
            0,
            synced(&[
                vec![
                    Said::close(Kind::Statement, "s"),
                    Said::parse("s", "select 'second'"),
                ],
                run("execute s"),
            ]),
        )
        .query(0, "commit")
        .play()
        .await;
}

#[tokio::test]
async fn sql_deallocates_the_names_that_it_speaks_of() {
    moved()
        .query(0, "prepare q as select 1")
        .say(0, prepare("s", "select 'first'"))
        .query(0, "deallocate q; select 1 / 0; deallocate s")
        .query(1, STRANGER)
        .query(2, STRANGER)
        .query(1, "execute s")
        .query(2, "execute s")
        .say(0, execute("s", &[]))
        .play()
        .await;
}

#[tokio::test]
async fn what_may_take_all_names_away_is_waited_for() {
    let long = format!("select length('{}'); deallocate all", "x".repeat(100_000));
    for takes_away in ["deallocate s; deallocate all", &long] {
        let again = vec![
            Said::query(takes_away),
            Said::parse("t", "select 'second'"),
            Said::Sync,
        ];
        moved()
            .say(0, prepare("s", "select 'first'"))
            .say(0, prepare("t", "select 'first'"))
            .say(0, again)
            .say(0, execute("t", &[]))
            .play()
            .await;
    }
}

#[tokio::test]
async fn a_cursor_of_a_portals_name_is_not_its_statement() {
    Script::new(ENDPOINT, 1)
        .say(0, synced(&[vec![Said::parse("s", "select 1 as one")]]))
        .query(0, "begin")
        .say(
            0,
            synced(&[vec![
                Said::bind("p", "s", &[]),
                Said::execute("p", 0),
                Said::close(Kind::Portal, "p"),
            ]]),
        )
        .query(0, "declare p cursor for select 'another' as other")
        .say(0, synced(&[vec![Said::describe(Kind::Portal, "p")]]))
        .query(0, "commit")
        .query(1, STRANGER)
        .query(1, "discard all")
        .say(0, execute("s", &[]))
        .play()
        .await;
}

/// The session was opened with another application's name: nothing is said behind a reset before that is put right, but
/// the data of a COPY.
#[tokio::test]
async fn a_copy_behind_a_reset_gets_its_data() {
    let copy = "copy rows from stdin";
    let data = || vec![Said::data("1\n"), Said::CopyDone];
    Script::new(ENDPOINT, 1)
        .before("create table if not exists rows (id int)")
        .who(Who::new(SUPERUSER, "postgres").with("application_name", "first"))
        .who(Who::new(SUPERUSER, "postgres").with("application_name", "second"))
        .query(0, STRANGER)
        .queries(1, &["begin", "reset all", copy])
        .say(1, data())
        .query(1, "commit")
        .query(0, STRANGER)
        .say(
            1,
            [
                vec![Said::query("begin"), Said::query("reset all"), Said::query(copy)],
                data(),
                vec![Said::query("commit")],
            ]
            .concat(),
        )
        .play()
        .await;
}
