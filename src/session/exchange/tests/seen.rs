//! What a turn shows of what it does: words, tags, names, parameters, and its end.

use super::super::Loss;
use super::talk::*;
use crate::session::words::{Tags, Words};

#[test]
fn a_query_that_is_longer_than_any_buffer_is_looked_at_to_its_end() {
    for length in [0, 16_000, 16_378, 16_379, 16_380, 40_000, 300_000] {
        each(|mut stage| {
            if stage.at_once < 7 && length > 20_000 {
                return;
            }
            let mut session = session();
            let mut talk = stage.turn(&mut session);
            let text = format!(
                "select '{}', set_config('app.tenant', '1', false)",
                "x".repeat(length)
            );
            let sent = talk.client(&[query(&text), query("select 1")]);
            assert!(sent == [format!("Q {text}"), "Q select 1".into()]);
            drop(talk);
            let facts = &stage.client.facts;
            assert!(facts.words.has(Words::SET_CONFIG), "{length}");
            assert!(facts.names.contains(b"app.tenant"));
        });
    }
}

#[test]
fn a_long_query_waits_at_its_gate_and_is_then_looked_at_like_any_other() {
    let mut stage = Stage {
        at_once: 1000,
        ..Stage::default()
    };
    let mut session = session();
    session.strange_sequences = true;
    let text = format!("select '{}'; listen c", "x".repeat(50_000));
    let mut talk = stage.turn(&mut session);
    let message = query(&text);
    // No more is read while it waits.
    let (first, rest) = message.split_at(20_000);
    assert_eq!(talk.client(&[first.to_vec()]), [""; 0]);
    assert!(talk.exchange.gate().is_some());
    let up = std::mem::replace(
        &mut talk.up,
        crate::session::lane::Lane::new(crate::wire::frame::Sender::Client),
    );
    drop(talk);
    session.strange_sequences = false;
    let mut talk = stage.turn(&mut session);
    talk.up = up;
    assert!(talk.client(&[rest.to_vec()]) == [format!("Q {text}")]);
    drop(talk);
    assert!(stage.client.facts.words.has(Words::LISTEN));
}

#[test]
fn words_of_a_statement_count_when_it_is_bound() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select set_config('app.x', $1, false)", &mut one);
        assert!(!stage.client.facts.words.has(Words::SET_CONFIG));
        let mut talk = stage.turn(&mut other);
        talk.client(&[run("a")]);
        drop(talk);
        assert!(stage.client.facts.words.has(Words::SET_CONFIG));
        assert!(stage.client.facts.names.contains(b"app.x"));
    });
}

#[test]
fn words_of_the_unnamed_statement_count_in_a_later_turn_too() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "select pg_advisory_lock(1)"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        stage.client.facts = Default::default();
        let mut talk = stage.turn(&mut session);
        talk.client(&[run("")]);
        drop(talk);
        assert!(stage.client.facts.words.has(Words::ADVISORY));
    });
}

#[test]
fn names_that_come_with_a_bind_are_seen_however_long_it_is() {
    for (length, in_front) in [(0, true), (1000, false), (60_000, false), (200_000, true)] {
        each(|mut stage| {
            if stage.at_once < 7 && length > 1000 {
                return;
            }
            let mut session = session();
            stage.prepared("a", "select set_config($1, $2, false)", &mut session);
            let mut talk = stage.turn(&mut session);
            let long = vec![b'-'; length];
            let values = if in_front {
                [b"app.tenant", &long[..]]
            } else {
                [&long[..], b"app.tenant"]
            };
            let body = [&b"\0a\0\0\0\0\0"[..], &values.concat(), b"\0\0"].concat();
            talk.client(&[message(b'B', &body), bare('S')]);
            drop(talk);
            let facts = &stage.client.facts;
            assert!(facts.values.contains(b"app.tenant"));
            // Of one that is not looked at to its end nobody knows.
            assert_eq!(facts.words.has(Words::NAME_UNSEEN), length == 200_000);
        });
    }
}

#[test]
fn a_function_that_is_called_by_its_number_may_do_anything() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[message(b'F', b"\0\0\x08\x1d\0\0\0\0\0\0")]);
        drop(talk);
        assert!(stage.client.facts.words.has(Words::OBSCURE));
    });
}

#[test]
fn tags_are_the_clients_own() {
    each(|mut stage| {
        let mut session = session();
        stage.client.facts.begins = true;
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("set a.b = 1; create role r")]);
        talk.says(&["1", "2", "C BEGIN", "C SET", "C CREATE ROLE", "Z T"]);
        drop(talk);
        let tags = stage.client.facts.tags;
        assert!(tags.has(Tags::SET) && tags.has(Tags::ROLES));
    });
}

#[test]
fn after_a_reset_a_client_reads_its_own_application_name() {
    for reset in [
        "reset application_name",
        "reset all",
        "discard all",
        "set application_name to default",
        "select set_config('application_name', null, false)",
    ] {
        each(|mut stage| {
            let mut session = opened_as("stranger");
            let mut talk = stage.turn(&mut session);
            talk.client(&[query("set application_name = 'x'"), query(reset)]);
            let read = talk.says(&["S application_name=x", "C SET", "Z I"]);
            assert_eq!(read[0], "S application_name=x");
            let read = talk.says(&["S application_name=stranger", "S TimeZone=UTC", "C RESET", "Z I"]);
            assert_eq!(
                read,
                ["S application_name=own", "S TimeZone=UTC", "C RESET", "Z I"]
            );
            assert!(talk.is_releasable());
            drop(talk);
            assert_eq!(session.reported.get(b"TimeZone").unwrap(), "UTC");
        });
    }
}

#[test]
fn without_a_reset_an_application_name_is_what_the_server_says() {
    each(|mut stage| {
        let mut session = opened_as("stranger");
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("set application_name = 'stranger'")]);
        assert_eq!(
            talk.says(&["S application_name=stranger"]),
            ["S application_name=stranger"]
        );
    });
    each(|mut stage| {
        // The one who opened it is the client itself.
        let mut session = opened_as("own");
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("reset all")]);
        assert_eq!(talk.says(&["S application_name=own"]), ["S application_name=own"]);
    });
}

#[test]
fn a_prepared_commit_makes_a_loss_unknown_in_a_later_turn_too() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("c", "COMMIT", &mut one);
        let mut talk = stage.turn(&mut other);
        talk.client(&[query("begin")]);
        talk.says(&["C BEGIN", "Z T"]);
        talk.client(&[query("select 1")]);
        assert_eq!(talk.exchange.loss(), Loss::RolledBack);
        talk.says(&["C SELECT 1", "Z T"]);
        talk.client(&[run("c")]);
        assert_eq!(talk.exchange.loss(), Loss::Unknown);
    });
}

#[test]
fn a_loss_is_unknown_where_a_text_may_commit_wherever_it_says_so_and_only_there() {
    let long = "x".repeat(200);
    for (text, loss) in [
        (format!("select '{long}'"), Loss::RolledBack),
        (format!("select '{long}'; commit"), Loss::Unknown),
        (format!("insert into t values ('{long}'); END"), Loss::Unknown),
        (format!("/*{long}*/ prepare transaction 'x'"), Loss::Unknown),
    ] {
        each(|mut stage| {
            let mut session = session();
            let mut talk = stage.turn(&mut session);
            talk.client(&[query("begin")]);
            talk.says(&["C BEGIN", "Z T"]);
            talk.client(&[parse("", &text), bind("", ""), execute(""), bare('S')]);
            assert_eq!(talk.exchange.loss(), loss, "{text}");
            talk.says(&["1", "2", "C SELECT 1", "Z T"]);
            talk.client(&[query(&text)]);
            assert_eq!(talk.exchange.loss(), loss, "{text}");
        });
    }
    // One that is too long to be looked at may say anything.
    let mut stage = Stage::default();
    stage.endpoint.limits.statement_bytes_max = 100;
    let mut session = session();
    let mut talk = stage.turn(&mut session);
    talk.client(&[query("begin")]);
    talk.says(&["C BEGIN", "Z T"]);
    talk.client(&[parse("s", &format!("select '{long}'"))]);
    assert_eq!(talk.exchange.loss(), Loss::Unknown);
}

#[test]
fn terminate_is_kept_from_the_server_and_ends_the_turn() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("select 1"), bare('X')]), ["Q select 1"]);
        assert!(talk.exchange.is_terminated() && !talk.exchange.is_over());
        talk.says(&["C SELECT 1", "Z T"]);
        assert!(talk.exchange.is_over());
    });
}

#[test]
fn a_pipeline_without_sync_is_answered_when_its_client_says_terminate() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[parse("", "select 1"), bind("", ""), execute(""), bare('X')]);
        assert_eq!(sent, ["P |select 1", "B |", "E ", "H"]);
        assert!(!talk.exchange.is_over());
        talk.says(&["1", "2", "C SELECT 1"]);
        assert!(talk.exchange.is_over() && !talk.is_releasable());
    });
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[bare('X')]);
        assert!(talk.exchange.is_over());
    });
}

#[test]
fn a_turn_ends_no_sooner_than_its_client_has_said_something() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        assert!(!talk.is_releasable());
        talk.client(&[query("select 1")]);
        talk.says(&["Z I"]);
        assert!(talk.is_releasable());
        talk.exchange.relay_begins();
        assert!(!talk.is_releasable());
    });
}
