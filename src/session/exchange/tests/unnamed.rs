//! The unnamed statement: it is its client's, on whichever session.

use std::sync::Arc;

use super::talk::*;
use crate::session::{
    reported::Reported,
    statements::{Texts, UNKNOWN},
    words::Words,
};

#[test]
fn it_survives_a_sync_and_follows_its_client() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        let mut talk = stage.turn(&mut one);
        let sent = talk.client(&[parse("", "select 1"), describe("S"), bare('S')]);
        assert_eq!(sent, ["P |select 1", "D S", "S"]);
        assert_eq!(talk.says(&["1", "t", "T", "Z I"]), ["1", "t", "T", "Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        let mut talk = stage.turn(&mut other);
        assert_eq!(talk.client(&[run("")]), ["P |select 1", "B |", "E ", "S"]);
        let read = talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        // Both sessions have it now.
        let mut talk = stage.turn(&mut one);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
    });
}

#[test]
fn a_strangers_is_never_run() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "select secret"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        let mut stranger = Client::default();
        let mut talk = stage.turn_of(&mut stranger, &mut session);
        assert_eq!(talk.client(&[describe("S"), bare('S')]), ["C S", "D S", "S"]);
        assert_eq!(talk.says(&["3", "E 26000", "Z I"]), ["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[run("")])[0], "P |select secret");
    });
}

#[test]
fn a_strangers_is_not_run_either_where_closing_it_was_ignored() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "select secret"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        let mut stranger = Client::default();
        let mut talk = stage.turn_of(&mut stranger, &mut session);
        talk.client(&[bind("", "nobody"), bind("", ""), bare('S')]);
        talk.says(&["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("")])[..2], ["C S", "B |"]);
        talk.says(&["3", "E 26000", "Z I"]);
        // Nor where a Query that would have dropped it was ignored.
        drop(talk);
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "select secret"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        for ignored in ["select 2", "deallocate a", "create temp table t ()"] {
            let mut stranger = Client::default();
            let named = stage
                .endpoint
                .texts
                .statement(b"x", &stranger.profile, Default::default());
            stranger.statements.name(b"a", named);
            stage.endpoint.limits.statements_max = 100;
            session.prepared.aliases.put_statement(b"a"[..].into());
            // Nobody may pin.
            let _permit = stage.endpoint.pins.permit();
            let mut talk = stage.turn_of(&mut stranger, &mut session);
            talk.client(&[bind("", "nobody"), query(ignored), bare('S')]);
            talk.says(&["E 26000", "Z I"]);
            assert_eq!(talk.client(&[run("")])[..2], ["C S", "B |"], "{ignored}");
            talk.says(&["3", "E 26000", "Z I"]);
            drop(talk);
            let mut talk = stage.turn(&mut session);
            talk.client(&[run("")]);
            talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        }
    });
}

#[test]
fn a_query_drops_it() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        let mut talk = stage.turn(&mut one);
        talk.client(&[parse("", "select 1"), bare('S'), query("select 2")]);
        talk.says(&["1", "Z I", "C SELECT 1", "Z I"]);
        // Where the text was none in the client's encoding, something is still there.
        assert_eq!(talk.client(&[run("")]), ["C S", "B |", "E ", "S"]);
        assert_eq!(talk.says(&["3", "E 26000", "Z I"]), ["E 26000", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut other);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
    });
}

#[test]
fn a_close_drops_it() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "select 1"), close("S"), bare('S')]);
        assert_eq!(talk.says(&["1", "3", "Z I"]), ["1", "3", "Z I"]);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
    });
}

#[test]
fn one_that_was_ignored_leaves_the_one_before() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        let mut talk = stage.turn(&mut one);
        talk.client(&[parse("", "select 1"), bare('S')]);
        talk.says(&["1", "Z I"]);
        talk.client(&[
            bind("", "nobody"),
            parse("", "select 2"),
            query("select 3"),
            parse("", "select 4"),
            close("S"),
            bare('S'),
        ]);
        talk.says(&["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut other);
        assert_eq!(talk.client(&[run("")])[0], "P |select 1");
    });
}

#[test]
fn one_that_fails_leaves_none() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        let mut talk = stage.turn(&mut one);
        talk.client(&[parse("", "select 1"), bare('S')]);
        talk.says(&["1", "Z I"]);
        talk.client(&[parse("", "selec"), bare('S')]);
        talk.says(&["E 42601", "Z I"]);
        // The same.
        assert_eq!(talk.client(&[run("")]), ["C S", "B |", "E ", "S"]);
        assert_eq!(talk.says(&["3", "E 26000", "Z I"]), ["E 26000", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut other);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
    });
}

#[test]
fn one_that_fails_on_another_session_is_brought_again() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        let mut talk = stage.turn(&mut one);
        talk.client(&[parse("", "select 1"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut other);
        talk.client(&[run("")]);
        assert_eq!(talk.says(&["E 57014", "Z I"]), ["E 57014", "Z I"]);
        assert_eq!(talk.client(&[run("")])[0], "P |select 1");
    });
}

/// A session that would make something else of its text has it under a name, which a DISCARD ALL takes away, too.
#[test]
fn one_that_had_to_be_brought_under_a_name_waits_for_what_takes_all_names_away() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("d", "discard all", &mut other);
        let mut talk = stage.turn(&mut one);
        talk.client(&[parse("", "select '1'"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        let mut german = Reported::default();
        german.note(b"DateStyle\0German\0");
        stage.client.profile = stage.client.profile.as_reported(&Reported::default(), &german);
        let mut talk = stage.turn(&mut other);
        let sent = talk.client(&[bind("p", "d"), execute("p"), bind("q", ""), bare('S')]);
        assert_eq!(sent, ["B p|#1", "E p", "H"]);
        talk.says(&["2", "C DISCARD ALL"]);
        assert_eq!(talk.again(), ["P #2|select '1'", "B q|#2", "S"]);
        talk.says(&["1", "2", "Z I"]);
        assert_eq!(talk.client(&[bind("q", "")]), ["B q|#2"]);
    });
}

#[test]
fn one_that_is_too_long_to_be_remembered_keeps_its_session_until_it_is_another() {
    each(|mut stage| {
        stage.endpoint.limits.statement_bytes_max = 1000;
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let long = format!("select '{}'; set datestyle = 'German'", "x".repeat(2000));
        let sent = talk.client(&[parse("", &long), run("")]);
        assert_eq!(sent[1..], ["B |", "E ", "S"]);
        talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(talk.client(&[run("")]), ["B |", "E ", "S"]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        drop(talk);
        let client = &stage.client;
        assert!(client.statements.has_long_unnamed() && !client.facts.unmovable);
        assert!(client.facts.words.has(Words::SET_SESSION), "it was looked at");
        let mut talk = stage.turn(&mut session);
        // The settings are not asked for meanwhile.
        let sent = talk.client(&[
            parse("a", "select '1'"),
            bare('S'),
            parse("", "select 1"),
            bare('S'),
        ]);
        assert!(sent[0].ends_with("|select '1'"), "{sent:?}");
        assert_eq!(sent[1..], ["S", "P |select 1", "S"]);
        drop(talk);
        assert!(!stage.client.statements.has_long_unnamed());
    });
}

/// One client's pipeline of 1,600 texts of a MB took 1.5 GiB: each is remembered until the next one is known to be there.
#[test]
fn beyond_what_all_clients_may_have_together_it_keeps_its_session_too() {
    each(|mut stage| {
        stage.endpoint.texts = Arc::new(Texts::within(15_000));
        let mut session = session();
        let long = |letter: &str| parse("", &format!("select '{}'", letter.repeat(5_000)));
        let has_long = |talk: &mut Talk<'_>| talk.exchange.pooled().statements.has_long_unnamed();
        let mut talk = stage.turn(&mut session);
        talk.client(&[long("a"), long("b"), bare('S')]);
        assert!(!has_long(&mut talk));
        talk.client(&[parse("", "select 1"), bare('S')]);
        assert!(!has_long(&mut talk), "a short one does not count");
        talk.client(&[long("c"), bare('S')]);
        assert!(has_long(&mut talk));
        talk.says(&["1", "1", "Z I", "1", "Z I", "1", "Z I"]);
        talk.client(&[long("d"), bare('S')]);
        assert!(!has_long(&mut talk), "there is room again");
    });
}

#[test]
fn a_long_one_that_is_not_there_any_more_is_refused_by_postgres() {
    each(|mut stage| {
        stage.endpoint.limits.statement_bytes_max = 1000;
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let long = format!("select '{}'", "x".repeat(2000));
        talk.client(&[parse("", &long), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        session.prepared.unnamed = UNKNOWN;
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[run("")]), ["C S", "B |", "E ", "S"]);
        assert_eq!(talk.says(&["3", "E 26000", "Z I"]), ["E 26000", "Z I"]);
    });
}

#[test]
fn a_name_that_is_too_long_or_one_too_many_keeps_its_session() {
    each(|mut stage| {
        stage.endpoint.limits.statements_max = 1;
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        assert!(!stage.client.facts.unmovable);
        let mut talk = stage.turn(&mut session);
        assert_eq!(
            talk.client(&[parse("b", "select 2"), run("b")]),
            ["P b|select 2", "B |b", "E ", "S"]
        );
        assert_eq!(
            talk.says(&["1", "2", "C SELECT 1", "Z I"]),
            ["1", "2", "C SELECT 1", "Z I"]
        );
        drop(talk);
        assert!(stage.client.statements.has_long_named());
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[close("Sb"), bare('S')]), ["C Sb", "S"]);
        assert_eq!(talk.says(&["3", "Z I"]), ["3", "Z I"]);
        drop(talk);
        assert!(!stage.client.statements.has_long_named());
    });
}
