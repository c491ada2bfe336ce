//! Statements by their names where these are on the session: which ones SQL finds there, and whose.

use super::{
    line::Way,
    pooled::Pooled,
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, tags, values},
};

/// A session to which its client has come lacked what an EXECUTE runs where that was only described: 26000, or no rows
/// where something stood in for it.
#[tokio::test]
async fn an_execute_is_described_on_another_session() {
    let describe = |name| [Said::describe(Kind::Statement, name), Said::Sync];
    let unnamed = || vec![Said::parse("", "execute word"), Said::Sync];
    Script::new("named-described", 1)
        .say(0, [Said::parse("word", "select 2 as word"), Said::Sync])
        .say(0, [Said::parse("runs", "execute word"), Said::Sync])
        .query(1, STRANGER)
        .say(0, describe("runs"))
        .say(0, unnamed())
        .query(1, STRANGER)
        .say(0, describe(""))
        .say(0, [Said::parse("ends", "deallocate word"), Said::Sync])
        .query(1, STRANGER)
        .say(0, [Said::parse("again", "deallocate word"), Said::Sync])
        .say(0, describe("runs"))
        .play()
        .await;
}

/// What SQL said of another name was taken for its own: it was put on the session again, where it was (42P05).
#[tokio::test]
async fn an_execute_of_what_is_not_there_can_be_tried_again() {
    let describe = || [Said::describe(Kind::Statement, "runs"), Said::Sync];
    Script::new("named-missing", 1)
        .say(0, [Said::parse("gone", "select 1"), Said::Sync])
        .say(0, [Said::parse("runs", "execute gone"), Said::Sync])
        .say(0, [Said::close(Kind::Statement, "gone"), Said::Sync])
        .say(0, execute("runs", &[]))
        .say(0, execute("runs", &[]))
        .say(0, describe())
        .say(0, describe())
        .query(1, STRANGER)
        .say(0, describe())
        .say(0, [Said::parse("gone", "select 2 as word"), Said::Sync])
        .say(0, execute("runs", &[]))
        .play()
        .await;
}

/// The names of statements on a session were numbers in order, and whoever tried some ran what others had prepared there.
#[tokio::test]
async fn nobody_finds_what_others_have_prepared_on_the_session() {
    let pooled = Pooled::start("named-guessed", 1).await;
    let (mut owner, mut other) = (
        pooled.line("named-guessed").await,
        pooled.line("named-guessed").await,
    );
    owner
        .ask(&prepare("s", "select 'the owner''s'"), Way::Whole)
        .await;
    other
        .ask(&prepare("s", "select 'the other''s'"), Way::Whole)
        .await;
    let own = values(&other.query("select name from pg_prepared_statements").await).remove(0);
    owner.ask(&execute("s", &[]), Way::Whole).await;
    let number: u64 = own.trim_start_matches("pgwake_").parse().unwrap();
    let guesses = number.saturating_sub(20)..number.saturating_add(20);
    for guess in guesses.filter(|guess| *guess != number) {
        let told = other.query(&format!("execute pgwake_{guess}")).await;
        assert!(
            !values(&told).contains(&"the owner's".to_owned()),
            "{guess} is found"
        );
        let told = other
            .ask(&execute(&format!("pgwake_{guess}"), &[]), Way::Whole)
            .await;
        assert_eq!(errors(&told), ["26000"], "{guess}");
    }
}

/// What stood in for it could not be prepared, the server ignored the Query behind that, and its client waited for ever.
#[tokio::test]
async fn a_query_is_answered_whatever_a_function_has_prepared_under_its_name() {
    let pooled = Pooled::start("named-unseen", 1).await;
    let mut line = pooled.line("named-unseen").await;
    line.ask(&prepare("s", "select 1"), Way::Whole).await;
    line.query("begin").await;
    line.query("do $$begin execute 'pre' || 'pare ' || 'S as select 2'; end$$")
        .await;
    assert_eq!(tags(&line.query("deallocate s").await), "CZ");
    line.query("rollback").await;
    assert_eq!(errors(&line.query("execute s").await), ["26000"]);
}

/// Postgres reads a text anew where it is used under another search_path, and keeps to that. A session that lacked the
/// statement had it as it was prepared first, and read it anew under whatever was set by then.
#[tokio::test]
async fn a_statement_means_what_it_meant_where_it_was_used_first_under_a_search_path() {
    let mut script = Script::new("meant-path", 1).say(0, prepare("s", "select '01/02/2024'::date"));
    for sql in [
        "select 'first'",
        "set search_path = pg_catalog",
        "set datestyle = 'SQL, DMY'",
        "set timezone = 'UTC'",
        "set search_path = public",
    ] {
        // The session lacks all statements.
        script = script.query(0, sql).query(1, "deallocate all");
        script = script.say(0, execute("s", &[])).query(1, "deallocate all");
    }
    let told = values(&script.play().await.told(0));
    let read: Vec<_> = told.iter().filter(|value| *value != "first").collect();
    let expected = [
        "2024-01-02",
        "2024-01-02",
        "02/01/2024",
        "02/01/2024",
        "01/02/2024",
    ];
    assert_eq!(read, expected);
}
