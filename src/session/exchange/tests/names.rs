//! A client's names and the session's.

use std::sync::Arc;

use super::talk::*;
use crate::session::profile::Profile;
use crate::session::statements::{Seen, Texts};

#[test]
fn a_statement_follows_its_client_and_its_parse_is_answered_once() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select 1", &mut one);
        let mut talk = stage.turn(&mut other);
        assert_eq!(talk.client(&[run("a")]), ["P #1|select 1", "B |#1", "E ", "S"]);
        let read = talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
        // It is there now.
        assert_eq!(talk.client(&[run("a")]), ["B |#1", "E ", "S"]);
        let read = talk.says(&["2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["2", "C SELECT 1", "Z I"]);
    });
}

#[test]
fn a_describe_brings_the_statement_too() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select 1", &mut one);
        let mut talk = stage.turn(&mut other);
        let sent = talk.client(&[describe("Sa"), bare('H')]);
        assert_eq!(sent, ["P #1|select 1", "D S#1", "H"]);
        assert_eq!(talk.says(&["1", "t", "T"]), ["t", "T"]);
        assert!(!talk.is_releasable());
        assert_eq!(talk.client(&[run("a")]), ["B |#1", "E ", "S"]);
    });
}

#[test]
fn two_injected_parses_in_one_batch_are_both_kept_from_the_client() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select 1", &mut one);
        stage.prepared("b", "select 2", &mut one);
        let mut talk = stage.turn(&mut other);
        let sent = talk.client(&[
            bind("p", "a"),
            bind("q", "b"),
            execute("p"),
            execute("q"),
            bind("", "a"),
            bare('S'),
        ]);
        assert_eq!(
            sent,
            [
                "P #1|select 1",
                "B p|#1",
                "P #2|select 2",
                "B q|#2",
                "E p",
                "E q",
                "B |#1",
                "S"
            ]
        );
        let read = talk.says(&["1", "2", "1", "2", "C SELECT 1", "C SELECT 1", "2", "Z I"]);
        assert_eq!(read, ["2", "2", "C SELECT 1", "C SELECT 1", "2", "Z I"]);
    });
}

#[test]
fn the_error_of_an_injected_parse_is_the_reply_to_the_clients_message() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select 1", &mut one);
        let mut talk = stage.turn(&mut other);
        talk.client(&[run("a")]);
        assert_eq!(talk.says(&["E 42P01", "Z I"]), ["E 42P01", "Z I"]);
        assert!(talk.is_releasable());
        // It is tried again, and the name is still there.
        assert_eq!(talk.client(&[run("a")]), ["P #1|select 1", "B |#1", "E ", "S"]);
        assert_eq!(
            talk.says(&["1", "2", "C SELECT 1", "Z I"]),
            ["2", "C SELECT 1", "Z I"]
        );
    });
}

#[test]
fn an_injected_parse_that_was_ignored_is_sent_again() {
    each(|mut stage| {
        let (mut one, mut other) = (session(), session());
        stage.prepared("a", "select 1", &mut one);
        let mut talk = stage.turn(&mut other);
        talk.client(&[bind("", "nobody"), bind("", "a"), bare('S')]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("a")]), ["P #1|select 1", "B |#1", "E ", "S"]);
    });
}

#[test]
fn portals_and_what_follows_the_names_of_a_bind_stay_as_they_are() {
    for length in [0, 1, 200, 40_000, 300_000] {
        each(|mut stage| {
            if stage.at_once < 3 && length > 1000 {
                return;
            }
            let mut session = session();
            stage.prepared("a-long-name-of-a-statement", "select $1", &mut session);
            let mut talk = stage.turn(&mut session);
            let values = vec![7; length];
            let body = [b"a portal\0a-long-name-of-a-statement\0", &values[..]].concat();
            talk.up.push(&message(b'B', &body));
            let sent = raw(&mut talk);
            let name = sent
                .split(|byte| *byte == 0)
                .find(|part| part.starts_with(b"pgwake_"));
            let own = [b"a portal\0", name.unwrap(), b"\0", &values].concat();
            assert!(sent == message(b'B', &own));
        });
    }
}

fn raw(talk: &mut Talk<'_>) -> Vec<u8> {
    use crate::session::lane::Editor as _;
    let _ = talk.exchange.up().edit(&mut talk.up);
    talk.up.take_cleared()
}

#[test]
fn names_of_a_bind_may_be_long_and_come_in_pieces() {
    each(|mut stage| {
        let mut session = session();
        let (portal, name) = ("p".repeat(300), "s".repeat(300));
        stage.prepared(&name, "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[bind(&portal, &name), bare('S')]);
        assert_eq!(sent, [format!("B {portal}|#1"), "S".into()]);
        // Names without an end are Postgres' to judge.
        let sent = talk.client(&[message(b'B', &[b'x'; 500]), bare('S')]);
        assert_eq!(sent.len(), 2);
    });
}

#[test]
fn a_name_that_exists_is_refused_by_postgres_and_keeps_its_meaning() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[parse("a", "select 2"), bare('S')]);
        assert_eq!(sent[0], "C Sa");
        assert!(sent[1].starts_with("P a|"), "{sent:?}");
        assert_eq!(sent[2..], ["P a|select 2", "S"]);
        assert_eq!(talk.says(&["3", "1", "E 42P05", "Z I"]), ["E 42P05", "Z I"]);
        assert!(talk.is_releasable());
        assert_eq!(talk.client(&[run("a")]), ["B |#1", "E ", "S"]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        // The second time its name is there already.
        let sent = talk.client(&[parse("a", "select 2"), bare('S')]);
        assert_eq!(sent, ["P a|select 2", "S"]);
        assert_eq!(talk.says(&["E 42P05", "Z I"]), ["E 42P05", "Z I"]);
    });
}

#[test]
fn a_name_that_is_unknown_is_refused_by_postgres_and_the_session_goes_on() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        assert_eq!(talk.client(&[run("nobody")]), ["B |nobody", "E ", "S"]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        assert_eq!(talk.client(&[describe("Snobody"), bare('S')]), ["D Snobody", "S"]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn a_closed_name_is_free_and_the_statement_stays_for_others() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[close("Sa"), close("Pa"), close("Snobody"), bare('S')]);
        assert_eq!(sent, ["C Sa", "C Pa", "C Snobody", "S"]);
        assert_eq!(talk.says(&["3", "3", "3", "Z I"]), ["3", "3", "3", "Z I"]);
        assert!(talk.is_releasable());
        assert_eq!(talk.client(&[run("a")])[0], "B |a");
        talk.says(&["E 26000", "Z I"]);
        drop(talk);
        assert_eq!(stage.client.statements.len(), 0);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        talk.client(&[parse("a", "select 2"), run("a")]);
        talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        assert!(talk.is_releasable());
    });
}

#[test]
fn equal_texts_are_one_statement_and_others_are_not() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let typed = message(b'P', b"t\0select 1\0\0\x01\0\0\0\x17");
        let sent = talk.client(&[parse("a", "select 1"), typed, parse("b", "select 1"), bare('S')]);
        assert_eq!(sent, ["P #1|select 1", "P #2|select 1", "S"]);
        assert_eq!(talk.says(&["1", "1", "Z I"]), ["1", "1", "1", "Z I"]);
    });
}

#[test]
fn one_statement_too_many_takes_the_place_of_the_one_used_longest_ago() {
    each(|mut stage| {
        stage.endpoint.limits.statements_max = 2;
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        stage.prepared("b", "select 2", &mut session);
        let mut talk = stage.turn(&mut session);
        talk.client(&[run("a")]);
        talk.says(&["2", "C SELECT 1", "Z I"]);
        drop(talk);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        let sent = talk.client(&[parse("c", "select 3"), bare('S')]);
        assert_eq!(sent, ["C S#1", "P #2|select 3", "S"]);
        assert_eq!(talk.says(&["3", "1", "Z I"]), ["1", "Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        // `b` is brought again, instead of `a`.
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[run("b")]);
        assert_eq!(sent, ["C S#1", "P #2|select 2", "B |#2", "E ", "S"]);
        let read = talk.says(&["3", "1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["2", "C SELECT 1", "Z I"]);
    });
}

/// Their number alone was limited: one client's thousand long texts took a GiB, and another's thousand the next.
#[test]
fn texts_beyond_what_all_clients_may_have_together_keep_their_session() {
    each(|mut stage| {
        stage.endpoint.texts = Arc::new(Texts::within(45));
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let long = "select 1, 2, 3, 4, 5, 6, 7, 8, 9, 10";
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        // What somebody has already takes no more.
        assert_eq!(talk.client(&[parse("b", "select 1"), bare('S')]), ["S"]);
        assert_eq!(talk.says(&["Z I"]), ["1", "Z I"]);
        let sent = talk.client(&[parse("c", long), bare('S')]);
        assert_eq!(sent, [format!("P c|{long}"), "S".to_owned()]);
        assert_eq!(talk.says(&["1", "Z I"]), ["1", "Z I"]);
        drop(talk);
        assert!(other.statements.has_long_named());
        // What nobody has any more makes room.
        drop((std::mem::take(&mut other), std::mem::take(&mut stage.client)));
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[parse("d", long), bare('S')]);
        assert_eq!(sent, [format!("P #1|{long}"), "S".to_owned()]);
    });
}

/// What somebody has prepared already was no copy of its own, but under settings that nobody knew yet it was: each took as
/// much as the first.
#[test]
fn a_text_that_is_known_takes_no_room_unless_it_would_be_a_copy() {
    each(|mut stage| {
        stage.endpoint.texts = Arc::new(Texts::within(15));
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        talk.client(&[query("begin; set x.y = 1")]);
        talk.says(&["C BEGIN", "C SET", "Z T"]);
        let sent = talk.client(&[parse("b", "select 1"), bare('S')]);
        assert_eq!(sent, ["P b|select 1", "S"]);
    });
}

/// A thousand short texts, each under settings of its own, kept a thousand times 256 KiB.
#[test]
fn large_settings_count_and_with_each_text_that_was_prepared_under_them() {
    let texts = Arc::new(Texts::within(25_000));
    let under = |bytes| Profile::of_startup("x".repeat(bytes).as_bytes());
    let text = b"select 1\0\0\0";
    let kept = [1, 2].map(|_| texts.own_statement(text.as_slice().into(), &under(10_000), Seen::default()));
    assert!(!texts.has_room(text, &under(10_000)));
    assert!(texts.has_room(text, &under(10)));
    assert!(texts.hold_profile(&under(10_000)).is_none() && texts.hold_profile(&under(10)).is_some());
    drop(kept);
    assert!(texts.has_room(text, &under(10_000)));
    let _other = texts.hold_profile(&under(20_000)).expect("room");
    assert!(!texts.has_room(text, &under(10_000)));
}

#[test]
fn what_a_batch_uses_is_not_taken_away_in_it() {
    each(|mut stage| {
        stage.endpoint.limits.statements_max = 2;
        let mut session = session();
        let mut other = Client::default();
        stage.prepared("a", "select 1", &mut session);
        stage.prepared("b", "select 2", &mut session);
        let mut talk = stage.turn_of(&mut other, &mut session);
        let sent = talk.client(&[
            parse("c", "select 1"),
            parse("d", "select 2"),
            bind("", "c"),
            parse("e", "select 3"),
            bind("", "d"),
            bare('S'),
        ]);
        assert_eq!(sent, ["B |#1", "P e|select 3", "B |#2", "S"]);
    });
}

/// Only one of them was taken away for each that came: a session that had many once kept as many.
#[test]
fn what_a_batch_has_used_beyond_the_limit_is_taken_away_behind_it() {
    each(|mut stage| {
        stage.endpoint.limits.statements_max = 2;
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        let mut batch = Vec::new();
        for number in 0..5 {
            let name = format!("a{number}");
            batch.extend([
                parse(&name, &format!("select {number}")),
                close(&format!("S{name}")),
            ]);
        }
        batch.push(bare('S'));
        assert_eq!(talk.client(&batch).len(), 11);
        talk.says(&["1", "3", "1", "3", "1", "3", "1", "3", "1", "3", "Z I"]);
        let sent = talk.client(&[parse("b", "select 1, 2"), bare('S')]);
        assert_eq!(
            sent.iter().filter(|text| text.starts_with("C S")).count(),
            4,
            "{sent:?}"
        );
        let read = talk.says(&["3", "3", "3", "3", "1", "Z I"]);
        assert_eq!(read, ["1", "Z I"]);
    });
}

#[test]
fn an_eviction_that_was_ignored_has_not_happened() {
    each(|mut stage| {
        stage.endpoint.limits.statements_max = 1;
        let mut session = session();
        let mut other = Client::default();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn_of(&mut other, &mut session);
        let sent = talk.client(&[bind("", "nobody"), parse("b", "select 2"), bare('S')]);
        assert_eq!(sent, ["B |nobody", "C S#1", "P #2|select 2", "S"]);
        assert_eq!(talk.says(&["E 26000", "Z I"]), ["E 26000", "Z I"]);
        drop(talk);
        let mut talk = stage.turn(&mut session);
        let sent = talk.client(&[run("a")]);
        // Whatever is sent, its name must be free before it is given again.
        let given = sent.iter().position(|text| text.starts_with("P #1"));
        let freed = sent.iter().position(|text| text == "C S#1");
        assert!(given.is_none() || freed < given && freed.is_some(), "{sent:?}");
        assert!(sent.contains(&"B |#1".to_owned()));
    });
}

#[test]
fn a_statement_that_is_not_there_after_all_is_brought_again() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        let mut talk = stage.turn(&mut session);
        talk.client(&[run("a")]);
        assert_eq!(talk.says(&["E 26000 #1", "Z I"]), ["E 26000", "Z I"]);
        assert_eq!(talk.client(&[run("a")])[..2], ["P #1|select 1", "B |#1"]);
        talk.says(&["1", "2", "C SELECT 1", "Z I"]);
        // A Describe finds it out, too; not what SQL does not find.
        talk.client(&[describe("Sa"), bare('S')]);
        talk.says(&["E 26000 b", "Z I"]);
        assert_eq!(talk.client(&[run("a")])[0], "B |#1");
        talk.says(&["2", "C SELECT 1", "Z I"]);
        talk.client(&[describe("Sa"), bare('S')]);
        talk.says(&["E 26000 #1", "Z I"]);
        assert_eq!(talk.client(&[run("a")])[..2], ["P #1|select 1", "B |#1"]);
    });
}

#[test]
fn a_plan_that_does_not_fit_its_tables_any_more_is_nobodys() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select * from t", &mut session);
        let mut talk = stage.turn(&mut session);
        talk.client(&[run("a")]);
        assert_eq!(talk.says(&["E 0A000", "Z I"]), ["E 0A000", "Z I"]);
        // What drivers do then.
        let sent = talk.client(&[close("Sa"), parse("a", "select * from t"), run("a")]);
        assert_eq!(sent, ["C Sa", "P #2|select * from t", "B |#2", "E ", "S"]);
        let read = talk.says(&["3", "1", "2", "C SELECT 1", "Z I"]);
        assert_eq!(read, ["3", "1", "2", "C SELECT 1", "Z I"]);
        drop(talk);
        let mut other = Client::default();
        let mut talk = stage.turn_of(&mut other, &mut session);
        assert_eq!(talk.client(&[parse("b", "select * from t"), bare('S')]), ["S"]);
    });
}

#[test]
fn nobody_has_a_name_after_discard_all() {
    for tag in ["C DISCARD ALL", "C DEALLOCATE ALL"] {
        each(|mut stage| {
            let (mut session, mut second) = (session(), session());
            stage.prepared("a", "select 1", &mut session);
            let mut other = Client::default();
            let mut talk = stage.turn_of(&mut other, &mut session);
            talk.client(&[parse("mine", "select 1"), query(&tag[2..])]);
            talk.says(&[tag, "Z I"]);
            assert!(talk.is_releasable());
            assert_eq!(talk.client(&[run("mine")])[0], "B |mine");
            talk.says(&["E 26000", "Z I"]);
            drop(talk);
            // Others have lost the session's, not their own.
            let mut talk = stage.turn(&mut session);
            assert_eq!(talk.client(&[run("a")])[..2], ["P #1|select 1", "B |#1"]);
            talk.says(&["1", "2", "C SELECT 1", "Z I"]);
            drop(talk);
            let mut talk = stage.turn(&mut second);
            assert_eq!(talk.client(&[run("a")])[..2], ["P #1|select 1", "B |#1"]);
        });
    }
}

/// What a session has, as a server would: from what is sent to it, without errors.
#[derive(Default)]
struct Names(std::collections::HashSet<String>);

impl Names {
    /// Takes in what is sent; says what fails.
    fn take(&mut self, sent: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        for text in sent {
            let (tag, rest) = text.split_at(2.min(text.len()));
            let (one, other) = rest.split_once('|').unwrap_or((rest, ""));
            let is_right = match tag {
                "P " => self.0.insert(one.to_owned()),
                "B " => self.0.contains(other),
                "Q " if rest.eq_ignore_ascii_case("discard all") => {
                    self.0.clear();
                    true
                }
                "C " => {
                    self.0.remove(rest.strip_prefix('S').unwrap_or_default());
                    true
                }
                _ => true,
            };
            if !is_right {
                wrong.push(text.clone());
            }
        }
        wrong
    }
}

#[test]
fn statements_behind_a_discard_all_in_one_write_are_kept() {
    // A driver that resets a connection in the same write as its first statement.
    each(|mut stage| {
        let mut session = session();
        let mut names = Names::default();
        let mut talk = stage.turn(&mut session);
        names.take(&talk.client(&[parse("old", "select 1"), bare('S')]));
        talk.says(&["1", "Z I"]);
        // The text that is there already, and one that is not.
        let mut sent = talk.client(&[
            query("DISCARD ALL"),
            parse("a", "select 1"),
            parse("b", "select 2"),
            bind("", "a"),
            bare('S'),
        ]);
        let mut read = talk.says(&["C DISCARD ALL", "Z I"]);
        assert_eq!(talk.again(), [""; 0]);
        // What the settings are now is asked first.
        assert!(talk.is_releasable());
        let rest = talk.ends();
        stage.client.facts = Default::default();
        let mut talk = stage.turn(&mut session);
        talk.goes_on(rest);
        sent.extend(talk.again());
        assert_eq!(names.take(&sent), [""; 0], "{sent:?}");
        let replies = sent[1..].iter().map(|text| match text.split_at(1).0 {
            "P" => "1",
            "B" => "2",
            "C" => "3",
            _ => "Z I",
        });
        read.extend(talk.says(&replies.collect::<Vec<_>>()));
        assert_eq!(read, ["C DISCARD ALL", "Z I", "1", "1", "2", "Z I"]);
        assert!(talk.is_releasable());
        let sent = talk.client(&[run("a"), run("b"), run("old")]);
        assert_eq!(names.take(&sent), ["B |old"], "{sent:?}");
    });
}

#[test]
fn a_discard_all_that_fails_takes_nothing_away() {
    each(|mut stage| {
        let mut session = session();
        let mut names = Names::default();
        let mut talk = stage.turn(&mut session);
        names.take(&talk.client(&[parse("a", "select 1"), bare('S')]));
        talk.says(&["1", "Z I"]);
        talk.client(&[query("begin")]);
        talk.says(&["C BEGIN", "Z T"]);
        // Not within a transaction.
        talk.client(&[query("DISCARD ALL")]);
        talk.says(&["E 25001", "Z E"]);
        talk.client(&[query("rollback")]);
        talk.says(&["C ROLLBACK", "Z I"]);
        let sent = talk.client(&[run("a")]);
        assert_eq!(names.take(&sent), [""; 0], "{sent:?}");
    });
}

#[test]
fn sql_takes_a_name_away_by_either_protocol() {
    each(|mut stage| {
        let mut session = session();
        stage.prepared("a", "select 1", &mut session);
        stage.prepared("b", "select 2", &mut session);
        let mut talk = stage.turn(&mut session);
        // Whatever has become of its text: an empty one stands in for it.
        let sent = talk.client(&[query("deallocate a")]);
        assert_eq!(sent, ["C Sa", "P a|", "Q deallocate a"]);
        talk.says(&["3", "1", "C DEALLOCATE", "Z I"]);
        drop(talk);
        session.prepared.aliases.put_statement(b"b"[..].into());
        let mut talk = stage.turn(&mut session);
        talk.client(&[parse("", "deallocate b"), run("")]);
        talk.says(&["1", "2", "C DEALLOCATE", "Z I"]);
        assert!(talk.is_releasable());
        drop(talk);
        assert_eq!(stage.client.statements.len(), 0);
        assert_eq!(session.prepared.aliases.take().count(), 0);
    });
}

/// Each was remembered to the end of its transaction, and looked for among all of them: 50,000 took 35 s instead of 3.
#[test]
fn what_is_gone_is_not_waited_for_until_its_settings_are_known() {
    each(|mut stage| {
        let mut session = session();
        let mut talk = stage.turn(&mut session);
        talk.client(&[query("begin; set datestyle = 'German'")]);
        talk.says(&["C BEGIN", "C SET", "Z T"]);
        talk.client(&[parse("a", "select '1'"), bare('S')]);
        talk.says(&["1", "Z T"]);
        assert!(!talk.exchange.facts().unsettled.is_empty());
        talk.client(&[close("Sa"), bare('S')]);
        talk.says(&["3", "Z T"]);
        assert!(talk.exchange.facts().unsettled.is_empty(), "closed");
        for (text, tag) in [
            ("deallocate b", "C DEALLOCATE"),
            ("deallocate all", "C DEALLOCATE ALL"),
        ] {
            talk.client(&[parse("b", "select '1'"), bare('S')]);
            talk.says(&["1", "Z T"]);
            let sent = talk.client(&[query(text)]);
            let in_front = ["3", "1"].iter().take(sent.len() - 1);
            let says: Vec<_> = in_front.chain(&[tag, "Z T"]).copied().collect();
            talk.says(&says);
            assert!(talk.exchange.facts().unsettled.is_empty(), "{text}: {sent:?}");
        }
    });
}
