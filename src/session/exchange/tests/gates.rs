//! What must have happened before a message may pass, and what may not pass at all.

use super::super::Gate;
use super::talk::*;

#[test]
fn a_strangers_sequences_are_discarded_before_they_are_read() {
    let asking = [query("select lastval()"), parse("", "select currval('s')")];
    for ask in asking {
        each(|mut stage| {
            let mut session = session();
            session.strange_sequences = true;
            let mut talk = stage.turn(&mut session);
            assert_eq!(talk.client(std::slice::from_ref(&ask)), [""; 0]);
            assert!(matches!(talk.exchange.gate(), Some(Gate::Sequences)));
            // It looks the same until somebody has done something about it.
            assert_eq!(talk.again(), [""; 0]);
            let up = std::mem::replace(
                &mut talk.up,
                crate::session::lane::Lane::new(crate::wire::frame::Sender::Client),
            );
            drop(talk);
            session.strange_sequences = false;
            let mut talk = stage.turn(&mut session);
            talk.up = up;
            assert_eq!(talk.again().len(), 1);
            assert!(talk.exchange.gate().is_none());
        });
    }
}

#[test]
fn a_gate_waits_for_the_answers_before_it() {
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[query("select 1"), query("select lastval()"), query("select 2")]);
        assert_eq!(sent, ["Q select 1"]);
        assert!(talk.exchange.gate().is_none());
        talk.says(&["C SELECT 1"]);
        assert!(talk.exchange.gate().is_none());
        talk.says(&["Z T"]);
        assert_eq!(talk.again(), [""; 0]);
        assert!(matches!(talk.exchange.gate(), Some(Gate::Sequences)));
    });
}

#[test]
fn no_gate_stands_in_a_transaction_that_has_failed_meanwhile() {
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("begin")]);
        talk.says(&["C BEGIN", "Z T"]);
        assert_eq!(
            talk.client(&[query("select 1/0"), query("select lastval()")]),
            ["Q select 1/0"]
        );
        talk.says(&["E 22012", "Z E"]);
        assert!(talk.exchange.gate().is_none());
        assert_eq!(talk.again(), ["Q select lastval()"]);
        assert_eq!(talk.says(&["E 25P02", "Z E"]), ["E 25P02", "Z E"]);
    });
}

#[test]
fn within_a_pipeline_a_strangers_sequences_are_discarded_in_it() {
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[parse("", "select 1"), parse("", "select lastval()"), bare('S')]);
        // It may have inserted something before.
        assert_eq!(sent, ["P |select 1", "H"]);
        assert!(talk.exchange.gate().is_none());
        talk.says(&["1"]);
        let discards = [
            "C Spgwake_discard",
            "P pgwake_discard|DISCARD SEQUENCES",
            "B pgwake_discard|pgwake_discard",
            "E pgwake_discard",
            "C Ppgwake_discard",
            "C Spgwake_discard",
        ];
        assert_eq!(
            talk.again(),
            [&discards[..], &["P |select lastval()", "S"]].concat()
        );
        let answers = ["3", "1", "2", "C DISCARD SEQUENCES", "3", "3", "1", "Z I"];
        assert_eq!(talk.says(&answers), ["1", "Z I"]);
        drop(talk);
        assert!(!session.has_strange_sequences());
    });
}

#[test]
fn within_a_pipeline_a_client_reads_the_numbers_that_it_has_drawn() {
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        let mut talk = stage.turn(&mut session);
        let inserts = [parse("", "insert into t values (1)"), bind("", ""), execute("")];
        let sent = talk.client(&[inserts.concat(), parse("", "select lastval()"), bare('S')]);
        assert_eq!(sent.last().unwrap(), "H");
        talk.says(&["1", "2", "C INSERT 0 1"]);
        assert_eq!(talk.again(), ["P |select lastval()", "S"]);
    });
}

#[test]
fn within_a_pipeline_no_statement_of_others_is_shown() {
    each(|mut stage| {
        let mut session = session();
        let (mut other, endpoint) = (Client::default(), &stage.endpoint);
        let mut talk = Talk::new(&mut other, &mut session, endpoint, stage.at_once);
        talk.client(&[parse("a", "select 1"), bare('S')]);
        talk.says(&["1", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut session);
        let shows = parse("", "select * from pg_prepared_statements");
        let sent = talk.client(&[parse("", "select 1"), shows]);
        assert_eq!(
            sent,
            ["P |select 1", "C S#1", "P |select * from pg_prepared_statements"]
        );
    });
}

#[test]
fn behind_the_end_of_a_failed_transaction_no_stranger_is_read() {
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("begin isolation level serializable"), query("select 1/0")]);
        talk.says(&["C BEGIN", "Z T", "E 22012", "Z E"]);
        let sent = talk.client(&[query("rollback; select lastval()")]);
        assert_eq!(sent, ["Q pgwake"]);
        assert_eq!(talk.says(&["E 42601", "Z E"]), ["E 25P02", "Z E"]);
        assert_eq!(talk.client(&[query("rollback")]), ["Q rollback"]);
    });
}

#[test]
fn idle_sessions_make_way_for_a_statement_about_databases() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("drop database d")]), [""; 0]);
        assert!(matches!(talk.exchange.gate(), Some(Gate::Databases)));
        talk.exchange.facts().databases_closed = true;
        assert_eq!(talk.again(), ["Q drop database d"]);
        talk.says(&["C DROP DATABASE", "Z I"]);
        // Once more for the next one.
        assert_eq!(talk.client(&[query("drop database e")]), [""; 0]);
    });
}

#[test]
fn sql_finds_a_statement_that_the_protocol_has_named() {
    for text in ["execute a", "explain execute a"] {
        each(|mut stage| {
            let mut session = session();
            stage.prepared("a", "select 1", &mut session);
            let mut talk = stage.turn(&mut session);
            assert_eq!(talk.client(&[query(text)]), [""; 0]);
            let Some(Gate::Alias(name, statement)) = talk.exchange.gate() else {
                panic!("no gate");
            };
            assert_eq!(**name, *b"a");
            assert!(statement.behind_name.starts_with(b"select 1\0"));
        });
    }
}

#[test]
fn an_empty_text_stands_in_for_a_statement_that_sql_does_not_run() {
    for text in ["deallocate a", "prepare a as select 1"] {
        each(|mut stage| {
            let mut session = session();
            stage.prepared("a", "select 1", &mut session);
            let mut talk = stage.turn(&mut session);
            let sent = talk.client(&[query(text)]);
            assert_eq!(sent, ["C Sa", "P a|", &format!("Q {text}")]);
            assert_eq!(talk.says(&["3", "1", "E 42601", "Z I"]), ["E 42601", "Z I"]);
            // It is never run.
            assert_eq!(talk.client(&[query("execute a")]), [""; 0]);
            assert!(matches!(talk.exchange.gate(), Some(Gate::Alias(..))));
        });
    }
}

#[test]
fn a_client_too_many_that_would_pin_its_session_is_refused_in_its_place() {
    each(|mut stage| {
        let mut session = session();
        let _permit = stage.endpoint.pins.permit().unwrap();
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[query("listen c"), query("select 1")]);
        assert_eq!(sent, ["Q pgwake", "Q select 1"]);
        let read = talk.says(&["E 42601", "Z I", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["E 53300", "Z I", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        // By the extended protocol, when it is to be executed; the rest is ignored.
        talk.client(&[parse("", "listen c"), bare('S')]);
        talk.says(&["1", "Z I"]);
        let sent = talk.client(&[run("")]);
        assert_eq!(sent, ["P pgwake|pgwake", "E ", "S"]);
        assert_eq!(talk.says(&["E 42601", "Z I"]), ["E 53300", "Z I"]);
        // What was refused was not the unnamed statement.
        assert_eq!(talk.client(&[describe("S"), bare('S')]), ["D S", "S"]);
    });
}

#[test]
fn a_client_too_many_waits_for_one_that_may_just_have_let_go() {
    each(|mut stage| {
        let mut session = session();
        let permit = stage.endpoint.pins.permit().unwrap();
        let settling = stage.endpoint.pins.settling();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("listen c")]), [""; 0]);
        assert!(matches!(talk.exchange.gate(), Some(Gate::Pins)));
        drop((permit, settling));
        talk.exchange.facts().pins_awaited = true;
        assert_eq!(talk.again(), ["Q listen c"]);
    });
}

#[test]
fn who_has_waited_once_for_the_others_is_refused() {
    each(|mut stage| {
        let mut session = session();
        let _permit = stage.endpoint.pins.permit().unwrap();
        let _settling = stage.endpoint.pins.settling();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("listen c")]), [""; 0]);
        talk.exchange.facts().pins_awaited = true;
        assert_eq!(talk.again(), ["Q pgwake"]);
    });
}

#[test]
fn a_refusal_that_the_server_ignores_is_not_read() {
    each(|mut stage| {
        let mut session = session();
        let _permit = stage.endpoint.pins.permit().unwrap();
        let mut talk = stage.turn(&mut session);
        talk.client(&[bind("", "nobody"), query("listen c"), bare('S')]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_client_that_may_pin_has_its_permit_for_the_turn() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("listen c"), query("listen d")]).len(), 2);
        talk.says(&["C LISTEN", "Z I", "C LISTEN", "Z I"]);
        drop(talk);
        assert!(stage.client.facts.pin.is_some());
        assert_eq!(stage.endpoint.pins.pinned(), 1);
    });
}

#[test]
fn a_permit_to_pin_outlives_the_failure_of_what_came_before_it() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("begin isolation level serializable"), query("select 1 / 0")]);
        talk.client(&[query("rollback"), query("listen c")]);
        talk.says(&["C BEGIN", "Z T", "E 22012", "Z E"]);
        talk.says(&["C ROLLBACK", "Z I", "C LISTEN", "Z I"]);
        drop(talk);
        assert!(stage.client.facts.pin.is_some());
    });
}

#[test]
fn a_refusal_is_of_any_size_and_passes_whole() {
    let long = format!("listen c; {}", "x".repeat(10_000));
    each(|mut stage| {
        let mut session = session();
        let _permit = stage.endpoint.pins.permit().unwrap();
        let mut talk = stage.turn(&mut session);
        let refused = [query(&long), query("select 1")];
        assert_eq!(talk.client(&refused), ["Q pgwake", "Q select 1"]);
        let read = talk.says(&["E 42601", "Z I", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["E 53300", "Z I", "C SELECT 1", "Z I"]);
    });
}

#[test]
fn what_was_refused_before_a_message_is_its_answer() {
    let error = said("E 42P01").split_off(5);
    each(|mut stage| {
        let mut session = session();
        session.strange_sequences = true;
        for (ask, sent, read) in [
            (query("select lastval()"), "Q pgwake", ["E 42P01", "Z I"]),
            (run("a"), "P pgwake|pgwake", ["E 42P01", "Z I"]),
        ] {
            stage.client.facts.refused = Some(error.clone().into());
            let mut talk = stage.turn(&mut session);
            assert_eq!(talk.client(&[ask])[0], sent);
            assert_eq!(talk.says(&["E 42601", "Z I"]), read);
            // Of that message alone.
            assert_eq!(talk.client(&[query("select 1")]), ["Q select 1"]);
            assert_eq!(talk.says(&["C SELECT 1", "Z I"]), ["C SELECT 1", "Z I"]);
        }
    });
}

#[test]
fn what_was_said_of_a_name_is_the_answer_to_what_calls_it() {
    let error = said("E 42P01").split_off(5);
    let unknown = || {
        message(
            b'E',
            b"SERROR\0C26000\0Mprepared statement \"a\" does not exist\0\0",
        )
    };
    for (text, answer) in [("execute a", "E 42P01"), ("deallocate a; execute a", "E 26000")] {
        each(|mut stage| {
            let mut session = session();
            stage.prepared("a", "select 1", &mut session);
            let mut talk = stage.turn(&mut session);
            assert_eq!(talk.client(&[query(text)]), [""; 0]);
            talk.exchange
                .facts()
                .note_unaliased(b"a"[..].into(), error.clone().into());
            assert_eq!(talk.again(), [format!("Q {text}")]);
            assert_eq!(talk.server(&[unknown(), said("Z I")]), [answer, "Z I"]);
            // Not of what comes behind it.
            talk.client(&[bind("", "b"), bare('S')]);
            assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        });
    }
}
