//! Session pooling: everything passes as it is, and is only counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Loss, Touched};
use super::talk::*;

/// A client that says messages without a body, and a server that answers.
struct Plain<'a>(Talk<'a>);

impl Plain<'_> {
    fn client(&mut self, tags: &str) -> &mut Self {
        let messages: Vec<_> = tags.chars().map(bare).collect();
        assert_eq!(self.0.client(&messages).len(), tags.len());
        self
    }

    fn client_says(&mut self, message: Vec<u8>) -> &mut Self {
        assert_eq!(self.0.client(&[message]).len(), 1);
        self
    }

    fn server(&mut self, short: &str) -> &mut Self {
        assert_eq!(self.0.says(&[short]).len(), 1);
        self
    }

    fn is_idle(&self) -> bool {
        self.0.exchange.expected.is_idle()
    }
}

/// Plays a scenario with the bytes in pieces of every size.
fn each(play: impl Fn(Plain<'_>)) {
    for at_once in PIECES {
        play(Plain(Talk::plain(&|_| (), at_once)));
    }
}

#[test]
fn a_session_is_idle_when_every_request_has_had_its_answer() {
    each(|mut talk| {
        assert!(talk.is_idle());
        talk.client("QQ");
        assert!(!talk.is_idle());
        talk.server("Z I");
        assert!(!talk.is_idle());
        talk.server("Z I");
        assert!(talk.is_idle());
        // A function call is a request, too.
        talk.client("F");
        assert!(!talk.is_idle());
        talk.server("V").server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn an_open_transaction_or_a_pipeline_without_sync_is_not_idle() {
    each(|mut talk| {
        talk.client("Q").server("Z T");
        assert!(!talk.is_idle());
        talk.client("Q").server("Z I");
        talk.client("PDH").server("1").server("t").server("n");
        assert!(!talk.is_idle());
        talk.client("S").server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn a_flush_alone_begins_nothing() {
    each(|mut talk| {
        talk.client("PBESH");
        for short in ["1", "2", "C SELECT 1", "Z I"] {
            talk.server(short);
        }
        assert!(talk.is_idle());
        talk.client("H");
        assert!(talk.is_idle());
    });
}

#[test]
fn a_simple_query_ends_what_was_begun_without_a_sync() {
    each(|mut talk| {
        talk.client("PQ").server("1").server("C SELECT 1").server("Z I");
        assert!(talk.is_idle());
        // But not where the server ignores it.
        talk.client("PQ").server("E 42601");
        assert!(!talk.is_idle());
        talk.client("Q");
        assert!(!talk.is_idle());
        talk.client("S").server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn a_sync_that_copy_swallows_is_not_waited_for() {
    each(|mut talk| {
        // libpq: Parse, Bind, Describe, Execute, Sync, then data, CopyDone, Sync.
        talk.client("PBDES")
            .server("1")
            .server("2")
            .server("n")
            .server("G");
        assert!(!talk.is_idle());
        talk.client("ddcS").server("C COPY 2").server("Z I");
        assert!(talk.is_idle());
    });
    each(|mut talk| {
        // All of it before the server has said anything.
        talk.client("PBESdcS").server("1").server("2").server("G");
        assert!(!talk.is_idle());
        talk.server("C COPY 1").server("Z I");
        assert!(talk.is_idle());
    });
    each(|mut talk| {
        // Simple protocol, with Syncs where they mean nothing.
        talk.client("Q").server("G").client("dSSdc");
        assert!(!talk.is_idle());
        talk.server("C COPY 2").server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn the_end_of_a_copy_is_kept_for_its_own_request() {
    // A pipeline: a Query or an Execute without COPY, then one with it.
    each(|mut talk| {
        talk.client("QPBESdcS").server("Z I");
        talk.server("1").server("2").server("G");
        assert!(!talk.is_idle());
        talk.server("C COPY 1").server("Z I");
        assert!(talk.is_idle());
    });
    each(|mut talk| {
        talk.client("PBESPBESdcS");
        for short in ["1", "2", "C SELECT 1", "Z I", "1", "2", "G"] {
            talk.server(short);
        }
        assert!(!talk.is_idle());
        talk.server("C COPY 1").server("Z I");
        assert!(talk.is_idle());
    });
    // One Query with two COPYs, and another behind it.
    each(|mut talk| {
        talk.client("Q")
            .server("G")
            .client("dc")
            .server("G")
            .client("dcQ");
        talk.server("Z I");
        assert!(!talk.is_idle());
        talk.server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn a_sync_after_a_failed_copy_counts() {
    each(|mut talk| {
        talk.client("PBE").server("1").server("2").server("G");
        talk.client("d").server("E 22P02");
        talk.client("dcS");
        assert!(!talk.is_idle());
        talk.server("Z I");
        assert!(talk.is_idle());
    });
}

#[test]
fn a_loss_is_unknown_only_where_something_may_have_been_committed() {
    each(|mut talk| {
        let loss = |talk: &Plain<'_>| talk.0.exchange.loss();
        assert_eq!(loss(&talk), Loss::RolledBack);
        talk.client_says(query("insert into t values (1)"));
        assert_eq!(loss(&talk), Loss::Unknown);
        talk.server("Z T").client_says(query("select 1"));
        assert_eq!(loss(&talk), Loss::RolledBack);
        talk.server("Z T").client_says(query("commit"));
        assert_eq!(loss(&talk), Loss::Unknown);
    });
}

#[test]
fn a_prepared_commit_makes_later_executions_unknown() {
    each(|mut talk| {
        talk.client_says(parse("s1", "COMMIT"))
            .client("S")
            .server("1")
            .server("Z I");
        talk.client("Q").server("Z T");
        talk.client_says(bind("", "s1"))
            .client_says(execute(""))
            .client("S");
        assert_eq!(talk.0.exchange.loss(), Loss::Unknown);
    });
}

#[test]
fn changed_roles_are_told_once_and_only_when_committed() {
    let touched = AtomicUsize::new(0);
    let touch = |_: Touched| {
        touched.fetch_add(1, Ordering::Relaxed);
    };
    let mut talk = Plain(Talk::plain(&touch, 1));
    talk.client("Q").server("C CREATE ROLE").server("Z T");
    assert_eq!(touched.load(Ordering::Relaxed), 0);
    talk.client("Q").server("C COMMIT").server("Z I");
    assert_eq!(touched.load(Ordering::Relaxed), 1);
    talk.client("Q").server("C SELECT 1").server("Z I");
    assert_eq!(touched.load(Ordering::Relaxed), 1);
}

#[test]
fn the_servers_last_word_is_remembered() {
    each(|mut talk| {
        talk.server("E 42P01");
        assert!(talk.0.exchange.fatal().is_none());
        talk.server("F 57P01");
        assert_eq!(talk.0.exchange.fatal().unwrap().sqlstate, "57P01");
    });
}

#[test]
fn terminate_passes_and_is_remembered() {
    each(|mut talk| {
        talk.client("X");
        assert!(talk.0.exchange.is_terminated());
    });
}

#[test]
fn no_more_is_read_while_too_much_is_unanswered() {
    let mut talk = Plain(Talk::plain(&|_| (), usize::MAX));
    let many = vec![bare('S'); 70_000];
    let passed = talk.0.client(&many).len();
    assert_eq!(passed, 65_536);
    talk.server("Z I");
    // One answer makes room for one request.
    assert_eq!(talk.0.again().len(), 1);
    let rest = vec![said("Z I"); 65_536];
    talk.0.server(&rest);
    assert_eq!(talk.0.again().len(), 70_000 - 65_537);
}

#[test]
fn what_may_come_at_any_time_ends_nothing() {
    each(|mut talk| {
        talk.client("PBES");
        for short in [
            "N",
            "1",
            "A",
            "S a=b",
            "2",
            "N",
            "D",
            "N",
            "C SELECT 1",
            "S a=b",
            "Z I",
        ] {
            assert!(!talk.is_idle());
            talk.server(short);
        }
        assert!(talk.is_idle());
        talk.server("N").server("A").server("S a=b");
        assert!(talk.is_idle());
    });
}
