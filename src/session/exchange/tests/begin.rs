//! A BEGIN that the client has had the answer to goes in front of its first request.

use super::talk::*;
use crate::session::expected::Asker;

const BEGIN: [&str; 3] = ["P pgwake_begin|BEGIN", "B |pgwake_begin", "E "];

#[test]
fn it_goes_in_front_and_its_answers_are_kept_from_the_client() {
    let firsts = [
        (
            query("select 1"),
            "Q select 1",
            vec!["T", "D", "C SELECT 1", "Z T"],
        ),
        (bare('F'), "F", vec!["V", "Z T"]),
        (
            [parse("", "select 1"), bare('S')].concat(),
            "P |select 1",
            vec!["1", "Z T"],
        ),
        (
            [bind("", "nobody"), bare('S')].concat(),
            "B |nobody",
            vec!["E 26000", "Z E"],
        ),
        (
            [describe("Snobody"), bare('S')].concat(),
            "D Snobody",
            vec!["E 26000", "Z E"],
        ),
        (
            [execute("nobody"), bare('S')].concat(),
            "E nobody",
            vec!["E 34000", "Z E"],
        ),
        (
            [message(b'B', &[b'x'; 5]), bare('S')].concat(),
            "B xxxxx|",
            vec!["E 08P01", "Z E"],
        ),
        (
            [message(b'P', b"no end"), bare('S')].concat(),
            "P no end|",
            vec!["E 08P01", "Z E"],
        ),
    ];
    for (first, shown, answers) in firsts {
        each(|mut stage| {
            let mut session = session();
            stage.client.facts.begins = true;
            let mut talk = stage.turn(&mut session);
            let sent = talk.client(std::slice::from_ref(&first));
            assert_eq!(sent[..3], BEGIN);
            assert_eq!(talk.says(&["1", "2", "C BEGIN"]), [""; 0]);
            if shown.starts_with('Q') {
                assert_eq!(sent[3], shown);
            } else {
                // A simple Query would have left no portal.
                assert_eq!(sent[3..5], ["C P", shown]);
                assert_eq!(talk.says(&["3"]), [""; 0]);
            }
            assert_eq!(talk.says(&answers), answers);
            assert!(!talk.is_releasable());
            talk.client(&[query("rollback")]);
            talk.says(&["C ROLLBACK", "Z I"]);
            assert!(talk.is_releasable());
        });
    }
}

#[test]
fn it_is_prepared_once_for_a_session() {
    each(|mut stage| {
        let mut session = session();
        for first in [true, false] {
            stage.client.facts.begins = true;
            let mut talk = stage.turn(&mut session);
            let sent = talk.client(&[query("select 1")]);
            assert_eq!(sent[0] == BEGIN[0], first);
            assert_eq!(sent[sent.len() - 3..], ["B |pgwake_begin", "E ", "Q select 1"]);
            let own: &[&str] = if first {
                &["1", "2", "C BEGIN"]
            } else {
                &["2", "C BEGIN"]
            };
            assert_eq!(talk.says(own), [""; 0]);
            assert_eq!(talk.says(&["C SELECT 1", "Z T"]), ["C SELECT 1", "Z T"]);
            talk.client(&[query("commit")]);
            talk.says(&["C COMMIT", "Z I"]);
        }
        // Not any more after this.
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("deallocate all")]);
        talk.says(&["C DEALLOCATE ALL", "Z I"]);
        drop(talk);
        stage.client.facts.begins = true;
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[query("select 1")])[..3], BEGIN);
    });
}

#[test]
fn a_parse_of_what_is_there_already_is_answered_behind_it() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        other.facts.begins = true;
        let mut talk = stage.turn_of(&mut other, &mut session);
        let sent = talk.client(&[parse("mine", "select 1"), run("mine")]);
        assert_eq!(sent[..3], BEGIN);
        assert_eq!(sent[3..], ["C P", "B |#1", "E ", "S"]);
        assert_eq!(talk.says(&["1", "2", "C BEGIN", "3"]), ["1"]);
        assert_eq!(talk.says(&["2", "C SELECT 1", "Z T"]), ["2", "C SELECT 1", "Z T"]);
    });
}

#[test]
fn a_begin_that_fails_leaves_all_to_be_answered_elsewhere() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("old", "select 0", &mut session);
        stage.client.facts.begins = true;
        let mut talk = stage.turn(&mut session);
        let requests = [
            close("Sold"),
            parse("a", "select 1"),
            run("a"),
            query("select 2"),
            bare('S'),
        ];
        talk.client(&requests);
        assert_eq!(talk.says(&["N", "1", "2", "E 57014"]), ["N"]);
        assert!(talk.exchange.has_begin_failed());
        // Its answers to the Syncs that are on their way are no answers of pgwake's.
        assert_eq!(talk.says(&["Z I", "N", "Z I"]), [""; 0]);
        // Nothing more is sent.
        assert_eq!(talk.client(&[query("select 3")]), [""; 0]);
        let owed = talk.exchange.expected.take_owed();
        let owed = owed.iter().filter(|(asker, _)| *asker == Asker::Client);
        // Close, Parse, Bind, Execute, Sync, Query, Sync.
        assert_eq!(owed.count(), 7);
        drop(talk);
        // Nothing of it has happened.
        assert!(stage.client.statements.get(b"a").is_none());
        assert!(stage.client.statements.get(b"old").is_some());
        assert!(stage.client.facts.begin_failed.is_some());
    });
}

#[test]
fn a_message_of_which_a_part_has_passed_comes_to_its_end_behind_a_begin_that_failed() {
    let long = "x".repeat(50_000);
    let messages = [
        query(&long),
        parse("", &long),
        message(b'B', &[&b"\0\0"[..], long.as_bytes()].concat()),
        message(b'd', &[7; 50_000]),
    ];
    for message in messages {
        let mut stage = Stage {
            at_once: usize::MAX,
            ..Stage::default()
        };
        stage.endpoint.limits.statement_bytes_max = 1000;
        stage.client.facts.begins = true;
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let (first, rest) = message.split_at(30_000);
        let mut at = 0;
        // Asked as by the relay: one look for each piece that comes.
        for piece in first.chunks(5000) {
            talk.up.push(piece);
            at += look(&mut talk);
        }
        talk.says(&["1", "2", "E 57014"]);
        assert!(talk.exchange.has_begin_failed());
        for piece in rest.chunks(5000) {
            talk.up.push(piece);
            at += look(&mut talk);
        }
        assert!(at > message.len(), "{at} bytes");
        assert!(talk.up.is_at_rest() && talk.up.is_empty());
        assert_eq!(talk.client(&[query("select 3")]), [""; 0]);
    }
}

fn look(talk: &mut Talk<'_>) -> usize {
    use crate::session::lane::Editor as _;
    let _ = talk.exchange.up().edit(&mut talk.up);
    talk.up.take_cleared().len()
}
