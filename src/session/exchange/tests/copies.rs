//! COPY: the server ignores some messages, and takes others for an error.

use super::talk::*;

#[test]
fn a_copy_in_its_common_forms_gives_the_session_back() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        // Simple.
        talk.client(&[query("copy t from stdin")]);
        assert_eq!(talk.says(&["G"]), ["G"]);
        assert!(!talk.is_releasable());
        let data = message(b'd', b"1\n");
        assert_eq!(
            talk.client(&[data.clone(), data.clone(), bare('c')]),
            ["d", "d", "c"]
        );
        talk.says(&["C COPY 2", "Z I"]);
        assert!(talk.is_releasable());
        // libpq: a Sync behind Execute, which is ignored, and one behind CopyDone.
        talk.client(&[parse("", "copy t from stdin"), run("")]);
        talk.says(&["1", "2", "G"]);
        talk.client(&[data.clone(), bare('H'), bare('c'), bare('S')]);
        talk.says(&["C COPY 1", "Z I"]);
        assert!(talk.is_releasable());
        // Everything ahead.
        talk.client(&[
            parse("", "copy t from stdin"),
            run(""),
            data.clone(),
            bare('c'),
            bare('S'),
        ]);
        talk.says(&["1", "2", "G", "C COPY 1"]);
        assert!(!talk.is_releasable());
        talk.says(&["Z I"]);
        assert!(talk.is_releasable());
        // Out.
        talk.client(&[query("copy t to stdout")]);
        let read = talk.says(&["H", "d", "d", "c", "C COPY 2", "Z I"]);
        assert_eq!(read, ["H", "d", "d", "c", "C COPY 2", "Z I"]);
        assert!(talk.is_releasable());
        // Given up by the client.
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[message(b'f', b"no\0")]);
        talk.says(&["E 57014", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn several_copies_in_one_query() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let data = || [message(b'd', b"1\n"), bare('c')].concat();
        talk.client(&[
            query("copy t from stdin; copy t from stdin"),
            data(),
            data(),
            query("select 1"),
        ]);
        talk.says(&["G", "C COPY 1", "G", "C COPY 1"]);
        assert!(!talk.is_releasable());
        talk.says(&["Z I"]);
        assert!(!talk.is_releasable());
        talk.says(&["C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        // One after the other, the second one failing.
        talk.client(&[query("copy t from stdin; copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[data()]);
        talk.says(&["C COPY 1", "G"]);
        talk.client(&[data()]);
        talk.says(&["E 22P02", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn late_data_after_a_failed_copy_is_nothing() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[message(b'd', b"x\n")]);
        talk.says(&["E 22P02", "Z I"]);
        assert!(talk.is_releasable());
        talk.client(&[message(b'd', b"y\n"), bare('c')]);
        assert!(talk.is_releasable());
        talk.client(&[query("select 1")]);
        talk.says(&["C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_failed_copy_in_a_pipeline_is_skipped_to_the_sync_behind_it() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "copy t from stdin"), bind("", ""), execute("")]);
        talk.says(&["1", "2", "G"]);
        talk.client(&[message(b'd', b"x\n")]);
        talk.says(&["E 22P02"]);
        talk.client(&[
            message(b'd', b"y\n"),
            bare('c'),
            parse("a", "select 1"),
            bare('S'),
        ]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        assert_eq!(stage.client.statements.len(), 0);
    });
}

/// A COPY into a view: Postgres says CopyInResponse and then that it cannot, before it reads anything. The Sync behind
/// Execute is answered after all, and the one behind CopyDone, too.
#[test]
fn a_sync_that_a_failed_copy_has_not_read_cannot_answer_another_client() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "copy v from stdin"), run("")]);
        assert_eq!(talk.says(&["1", "2", "G"]), ["1", "2", "G"]);
        talk.client(&[message(b'd', b"1\n"), bare('c'), bare('S')]);
        assert_eq!(talk.says(&["E 42809"]), ["E 42809"]);
        assert_eq!(talk.again(), ["C Ppgwake_begin", "S"]);
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.says(&["3", "Z I"]), [""; 0]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_sync_that_a_failed_copy_has_read_is_waited_for_no_longer() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "copy t from stdin"), run("")]);
        talk.says(&["1", "2", "G"]);
        talk.client(&[message(b'd', b"x\n"), bare('c'), bare('S')]);
        talk.says(&["E 22P02"]);
        assert_eq!(talk.again(), ["C Ppgwake_begin", "S"]);
        assert_eq!(talk.says(&["Z I", "3", "Z I"]), ["Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn the_answer_to_a_sync_that_a_failed_copy_has_not_read_ends_its_skipping() {
    // Drivers that have no more to say once the COPY has failed.
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "copy v from stdin"), run("")]);
        talk.says(&["1", "2", "G", "E 42809"]);
        assert_eq!(talk.again(), [""; 0]);
        assert_eq!(talk.says(&["Z I"]), ["Z I"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.again(), ["C Ppgwake_begin", "S"]);
        assert_eq!(talk.says(&["3", "Z I"]), [""; 0]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_copy_by_the_simple_protocol_with_a_sync_in_it_fails_like_any_other() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[bare('S'), message(b'd', b"x\n")]);
        talk.says(&["E 22P02"]);
        assert!(!talk.is_releasable());
        let mut read = talk.says(&["Z I"]);
        assert_eq!(talk.again(), ["C Ppgwake_begin", "S"]);
        // It was not read by the COPY.
        read.extend(talk.says(&["Z I", "3", "Z I"]));
        assert_eq!(read, ["Z I", "Z I"]);
        assert!(talk.is_releasable());
    });
}

/// pgwake's own Sync had the server go on with a Query that it was to ignore: an error in front of that had no Sync yet.
#[test]
fn nothing_ends_what_an_error_has_the_server_skip_but_the_clients_own_sync() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[
            bare('S'),
            message(b'f', b"no\0"),
            parse("", "selec"),
            query("select 1"),
        ]);
        talk.says(&["E 57014"]);
        assert_eq!(talk.again(), [""; 0]);
        assert_eq!(talk.says(&["Z I", "E 42601"]), ["Z I", "E 42601"]);
        assert_eq!(talk.again(), [""; 0]);
        assert!(!talk.is_releasable());
    });
}

#[test]
fn what_a_copy_cannot_take_is_lost_with_it() {
    // Servers before 14 go on; later ones end the session.
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin"), parse("a", "select 1"), bare('S')]);
        talk.says(&["G", "E 08P01", "Z I"]);
        assert!(!talk.is_releasable());
        talk.says(&["Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        assert_eq!(stage.client.statements.len(), 0);
    });
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[query("select 1")]);
        talk.says(&["E 08P01", "F 08P01"]);
        assert!(talk.exchange.fatal().is_some());
    });
}

#[test]
fn a_session_that_reads_copy_data_is_not_given_back() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("copy t from stdin")]);
        talk.says(&["G"]);
        talk.client(&[bare('S'), bare('H')]);
        assert!(!talk.is_releasable());
        assert!(talk.exchange.expected.is_copying());
    });
}
