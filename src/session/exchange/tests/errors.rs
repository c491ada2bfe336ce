//! Errors in the middle: what the server ignores is undone, in the right order.

use super::talk::*;

#[test]
fn an_error_at_any_place_of_a_pipeline_leaves_what_was_answered_before_it() {
    let replies = ["1", "2", "C SELECT 1", "1", "2", "C SELECT 1"];
    for failing in 0..replies.len() {
        each(|mut stage| {
            let mut session = session();
            let mut talk = stage.turn(&mut session);
            let sent = talk.client(&[
                parse("a", "select 1"),
                bind("", "a"),
                execute(""),
                parse("b", "select 2"),
                bind("", "b"),
                execute(""),
            ]);
            assert_eq!(
                sent,
                ["P #1|select 1", "B |#1", "E ", "P #2|select 2", "B |#2", "E "]
            );
            assert_eq!(talk.says(&replies[..failing]), &replies[..failing]);
            assert_eq!(talk.says(&["E 42P01"]), ["E 42P01"]);
            // A simple Query is ignored, too.
            assert_eq!(talk.client(&[query("select 3")]), ["Q select 3"]);
            assert!(!talk.is_releasable());
            assert_eq!(talk.client(&[bare('S')]), ["S"]);
            assert_eq!(talk.says(&["Z I"]), ["Z I"]);
            assert!(talk.is_releasable());
            // A name that Postgres does not know is Postgres' to judge.
            let one = if failing > 0 { "B |#1" } else { "B |a" };
            let other = if failing > 3 { "B |#2" } else { "B |b" };
            assert_eq!(talk.client(&[run("a")]), [one, "E ", "S"]);
            talk.says(&["E 26000", "Z I"]);
            assert_eq!(talk.client(&[run("b")]), [other, "E ", "S"]);
        });
    }
}

#[test]
fn only_what_stands_before_the_sync_is_ignored() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("a", "selec"), bare('S'), parse("b", "select 2"), bare('S')]);
        assert_eq!(talk.says(&["E 42601", "Z I"]), ["E 42601", "Z I"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.says(&["1", "Z I"]), ["1", "Z I"]);
        assert!(talk.is_releasable());
        assert_eq!(talk.client(&[run("a")]), ["B |a", "E ", "S"]);
        talk.says(&["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("b")])[0], "B |#2");
    });
}

#[test]
fn an_error_in_a_simple_query_ignores_nothing() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("select 1/0"), parse("a", "select 1"), bare('S')]);
        assert_eq!(
            talk.says(&["E 22012", "Z I", "1", "Z I"]),
            ["E 22012", "Z I", "1", "Z I"]
        );
        assert!(talk.is_releasable());
        assert_eq!(talk.client(&[run("a")])[0], "B |#1");
    });
}

#[test]
fn an_error_at_sync_ignores_nothing() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("a", "insert"), bare('S'), parse("b", "select"), bare('S')]);
        // A constraint that is checked at the end.
        talk.says(&["1", "E 23505", "Z I", "1", "Z I"]);
        assert!(talk.is_releasable());
        assert_eq!(talk.client(&[run("a")])[0], "B |#1");
        talk.says(&["2", "C INSERT 0 1", "Z I"]);
        assert_eq!(talk.client(&[run("b")])[0], "B |#2");
    });
}

#[test]
fn what_is_ignored_is_undone_from_the_latest_on() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[
            parse("x", "selec"),
            close("Sa"),
            parse("a", "select 2"),
            close("Sa"),
            parse("a", "select 3"),
            bare('S'),
        ]);
        assert_eq!(
            sent,
            [
                "P #1|selec",
                "C Sa",
                "P #2|select 2",
                "C Sa",
                "P #3|select 3",
                "S"
            ]
        );
        assert_eq!(talk.says(&["E 42601", "Z I"]), ["E 42601", "Z I"]);
        // It means what it meant before.
        assert_eq!(talk.client(&[run("a")]), ["B |#4", "E ", "S"]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        assert_eq!(stage.client.statements.len(), 1);
    });
}

#[test]
fn an_error_inside_the_answers_of_a_batch_undoes_only_the_rest_of_it() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        talk.client(&[
            close("Sa"),
            parse("a", "select 2"),
            bind("", "nobody"),
            close("Sa"),
            bare('S'),
        ]);
        talk.says(&["3", "1", "E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("a")])[0], "B |#1");
        assert_eq!(stage.client.statements.len(), 1);
    });
}

#[test]
fn a_parse_of_what_is_there_already_is_answered_in_its_place() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        let sent = talk.client(&[parse("", "select 0"), parse("mine", "select 1"), run("mine")]);
        assert_eq!(sent, ["P |select 0", "B |#1", "E ", "S"]);
        assert_eq!(talk.says(&["N", "1"]), ["N", "1", "1"]);
        assert_eq!(talk.says(&["2", "C SELECT 1", "Z I"]), ["2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_parse_of_what_is_there_already_needs_no_word_of_the_servers() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        assert!(talk.client(&[parse("mine", "select 1"), bare('H')]).eq(&["H"]));
        assert_eq!(talk.says(&[]), ["1"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.client(&[bare('S')]), ["S"]);
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_parse_of_what_is_there_already_is_ignored_with_the_rest() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        talk.client(&[parse("x", "selec"), parse("mine", "select 1"), bare('S')]);
        assert_eq!(talk.says(&["E 42601", "Z I"]), ["E 42601", "Z I"]);
        assert_eq!(talk.client(&[run("mine")])[0], "B |mine");
        talk.says(&["E 26000", "Z I"]);
        // And where the error is known before it comes.
        talk.client(&[parse("x", "selec")]);
        talk.says(&["E 42601"]);
        talk.client(&[parse("mine", "select 1"), bare('S')]);
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert_eq!(talk.client(&[run("mine")])[0], "B |mine");
    });
}

#[test]
fn only_postgres_says_whether_a_parse_is_taken_in_a_transaction_that_may_have_failed() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        talk.client(&[query("begin; select 1/0")]);
        // Nobody knows how the Query ends.
        let sent = talk.client(&[parse("mine", "select 1"), bare('S')]);
        assert_eq!(sent, ["P #1|select 1", "S"]);
        talk.says(&["E 22012", "Z E"]);
        assert_eq!(talk.says(&["E 25P02", "Z E"]), ["E 25P02", "Z E"]);
        // It has failed.
        let sent = talk.client(&[parse("mine", "select 1"), bare('S')]);
        assert_eq!(sent, ["P #2|select 1", "S"]);
        assert_eq!(talk.says(&["E 25P02", "Z E"]), ["E 25P02", "Z E"]);
        talk.client(&[query("rollback")]);
        talk.says(&["C ROLLBACK", "Z I"]);
        // It is over: what is there is there.
        assert_eq!(talk.client(&[parse("mine", "select 1"), bare('S')]), ["S"]);
        assert_eq!(talk.says(&["Z I"]), ["1", "Z I"]);
    });
}

#[test]
fn a_fatal_error_passes_and_is_remembered() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[run("a")]);
        assert_eq!(talk.says(&["F 57P01"]), ["E 57P01"]);
        assert_eq!(talk.exchange.fatal().unwrap().sqlstate, "57P01");
    });
}
