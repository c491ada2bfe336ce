//! Prepared statements of the protocol whose tables and types change beneath them.

use super::{
    line::Who,
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::SUPERUSER;

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

/// Migrations go past transaction pooling, in a session of their own.
#[tokio::test]
async fn who_prepares_a_text_after_a_session_has_changed_its_types_gets_the_new_ones() {
    let text = |name: &'static str| vec![Said::parse(name, "select $1::mood"), Said::Sync];
    let session = Who::new(SUPERUSER, "postgres").with("options", "-c pgwake.pool=session");
    let mut script = Script::new("statements-migrated", 1)
        .before("drop domain if exists mood; create domain mood as text")
        .who(Who::new(SUPERUSER, "postgres"))
        .who(session)
        .say(0, text("before"))
        .say(0, execute("before", &["7"]));
    for (name, change) in [
        ("changed", "drop domain mood; create domain mood as int"),
        (
            "hidden",
            "do $$begin drop domain mood; create domain mood as float; end$$",
        ),
    ] {
        script = script
            .query(1, change)
            .say(0, text(name))
            .say(0, execute(name, &["7"]));
    }
    assert!(errors(&script.play().await.told(0)).is_empty());
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
