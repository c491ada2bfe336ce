//! What a client was told of a statement's rows holds on every session, or Postgres' own error says that it does not.

use super::talk::*;

/// A RowDescription of columns by name and type.
fn columns(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, of) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend(of.to_be_bytes());
        body.extend([0; 8]);
    }
    message(b'T', &body)
}

fn one() -> Vec<u8> {
    columns(&[("id", 23)])
}

fn two() -> Vec<u8> {
    columns(&[("id", 23), ("more", 25)])
}

fn parameters() -> Vec<u8> {
    message(b't', b"\0\0")
}

impl Stage {
    /// The client has prepared a statement of one column and has had it described.
    fn described(&mut self, session: &mut crate::session::carried::Carried) {
        let mut talk = self.turn(session);
        talk.client(&[parse("a", "select * from t"), describe("Sa"), bare('S')]);
        talk.server(&[said("1"), parameters(), one(), said("Z I")]);
        assert!(talk.is_releasable());
    }
}

#[test]
fn a_session_that_lacks_a_statement_is_asked_once_what_its_rows_are() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        stage.described(&mut first);
        let mut talk = stage.turn(&mut second);
        let asked = talk.client(&[run("a")]);
        assert_eq!(asked, ["P #1|select * from t", "D S#1", "H"]);
        assert_eq!(talk.again(), [""; 0]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.server(&[said("1"), parameters(), one()]), [""; 0]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.again(), ["B |#1", "E ", "S"]);
        let read = talk.says(&["2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        // Now it is known.
        assert_eq!(talk.client(&[run("a")]), ["B |#1", "E ", "S"]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        drop(talk);
        // And so it is where it was described first.
        let mut talk = stage.turn(&mut first);
        assert_eq!(talk.client(&[run("a")]), ["B |#1", "E ", "S"]);
    });
}

#[test]
fn rows_of_another_shape_are_postgres_own_error() {
    for ask in [bind("", "a"), describe("Sa")] {
        each(|mut stage| {
            let (mut first, mut second) = (session(), session());
            stage.described(&mut first);
            let mut talk = stage.turn(&mut second);
            let mut sent = talk.client(&[ask.clone(), bare('S')]);
            assert_eq!(sent, ["P #1|select * from t", "D S#1", "H"]);
            let mut read = talk.server(&[said("1"), parameters(), two()]);
            sent = talk.again();
            assert_eq!(sent, ["P pgwake|pgwake", "S"]);
            read.extend(talk.says(&["E 42601", "Z I"]));
            assert_eq!(read, ["E 0A000", "Z I"]);
            assert!(talk.is_releasable());
            // What drivers do then.
            let again = [
                close("Sa"),
                parse("a", "select * from t"),
                describe("Sa"),
                bare('S'),
            ];
            assert_eq!(
                talk.client(&again),
                ["C Sa", "P #2|select * from t", "D S#2", "S"]
            );
            talk.server(&[said("3"), said("1"), parameters(), two(), said("Z I")]);
            assert_eq!(talk.client(&[run("a")]), ["B |#2", "E ", "S"]);
        });
    }
}

#[test]
fn a_plan_that_is_older_than_its_client_gives_way_to_a_new_one() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        stage.described(&mut first);
        // Somebody has prepared the same on another session, and was told of one column more.
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut second);
        talk.client(&[parse("mine", "select * from t"), describe("Smine"), bare('S')]);
        talk.server(&[said("1"), parameters(), two(), said("Z I")]);
        drop(talk);
        let mut talk = stage.turn_of(&mut other, &mut first);
        let asked = talk.client(&[run("mine")]);
        assert_eq!(asked, ["C S#1", "P #1|select * from t", "D S#1", "H"]);
        talk.server(&[said("3"), said("1"), parameters(), two()]);
        assert_eq!(talk.again(), ["B |#1", "E ", "S"]);
    });
}

#[test]
fn a_described_portal_tells_as_well() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        let mut talk = stage.turn(&mut first);
        talk.client(&[
            parse("a", "select * from t"),
            bind("p", "a"),
            describe("Pp"),
            execute("p"),
            bare('S'),
        ]);
        talk.server(&[said("1"), said("2"), one(), said("C SELECT 0"), said("Z I")]);
        drop(talk);
        let mut talk = stage.turn(&mut second);
        let asked = talk.client(&[run("a")]);
        assert_eq!(asked, ["P #1|select * from t", "D S#1", "H"]);
        talk.server(&[said("1"), parameters(), two()]);
        assert_eq!(talk.again(), ["P pgwake|pgwake", "E ", "S"]);
    });
}

#[test]
fn who_was_never_told_is_not_made_to_wait() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        stage.prepared("a", "select * from t", &mut first);
        let mut talk = stage.turn(&mut second);
        let sent = talk.client(&[run("a")]);
        assert_eq!(sent, ["P #1|select * from t", "B |#1", "E ", "S"]);
    });
}

#[test]
fn an_error_of_what_is_asked_is_the_answer() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        stage.described(&mut first);
        let mut talk = stage.turn(&mut second);
        talk.client(&[run("a")]);
        let mut read = talk.says(&["E 42P01"]);
        // All of it is ignored by the server.
        assert_eq!(talk.again()[1..], ["B |#1", "E ", "S"]);
        read.extend(talk.says(&["Z I"]));
        assert_eq!(read, ["E 42P01", "Z I"]);
        assert!(talk.is_releasable());
        // It is asked again the next time.
        let asked = talk.client(&[run("a")]);
        assert_eq!(asked, ["P #1|select * from t", "D S#1", "H"]);
    });
}

#[test]
fn within_a_pipeline_it_is_no_other() {
    each(|mut stage| {
        let (mut first, mut second) = (session(), session());
        stage.described(&mut first);
        let mut talk = stage.turn(&mut second);
        let sent = talk.client(&[parse("", "select 1"), bind("", ""), execute(""), run("a")]);
        let asked = ["P #1|select * from t", "D S#1", "H"];
        assert_eq!(sent, [&["P |select 1", "B |", "E "][..], &asked].concat());
        let answers = ["1", "2", "C SELECT 1", "1"].map(said);
        let read = talk.server(&[&answers[..], &[parameters(), one()]].concat());
        assert_eq!(read, ["1", "2", "C SELECT 1"]);
        assert_eq!(talk.again(), ["B |#1", "E ", "S"]);
    });
}

#[test]
fn what_a_pipeline_deallocates_is_waited_for_before_its_name_is_used_again() {
    for (text, tag) in [
        ("deallocate all", "C DEALLOCATE ALL"),
        ("deallocate a", "C DEALLOCATE"),
    ] {
        each(|mut stage| {
            let mut session = session();
            stage.prepared("a", "select 1", &mut session);
            session.prepared.aliases.put_statement(b"a"[..].into());
            let mut talk = stage.turn(&mut session);
            let mut sent = talk.client(&[
                parse("", text),
                bind("", ""),
                execute(""),
                parse("a", "select 2"),
                run("a"),
            ]);
            assert_eq!(sent, [&format!("P |{text}"), "B |", "E ", "H"]);
            assert_eq!(talk.again(), [""; 0]);
            talk.says(&["1", "2", tag]);
            sent = talk.again();
            assert_eq!(sent, ["P #1|select 2", "B |#1", "E ", "S"]);
            talk.says(&["1", "2", "C SELECT 1", "Z I"]);
            assert!(talk.is_releasable());
        });
    }
}

/// A ReadyForQuery ends the portals of its transaction, not those that have been bound behind its Sync.
#[test]
fn an_earlier_answer_takes_nothing_from_what_was_bound_behind_it() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("select 1"), parse("", "discard all"), bind("", "")]);
        talk.says(&["C SELECT 1", "Z I"]);
        let sent = talk.client(&[execute(""), parse("a", "select 2"), bare('S')]);
        assert_eq!(sent, ["E ", "H"]);
        talk.says(&["1", "2", "C DISCARD ALL"]);
        assert_eq!(talk.again(), ["P #1|select 2", "S"]);
        assert_eq!(talk.says(&["1", "Z I"]), ["1", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn sql_finds_a_statement_of_its_own_pipeline() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[
            parse("a", "select 1"),
            parse("", "execute a"),
            bind("", ""),
            execute(""),
            bare('S'),
        ]);
        assert_eq!(
            sent,
            ["P #1|select 1", "P a|select 1", "P |execute a", "B |", "E ", "S"]
        );
        let read = talk.says(&["1", "1", "1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["1", "1", "2", "C SELECT 1", "Z I"]);
    });
}
