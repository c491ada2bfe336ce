//! What a message costs does not depend on how many stand before it without their answer.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::talk::*;

/// So many times as much is asked for.
const MORE: u32 = 8;
/// And may take so many times as long, as this thread's own time goes. Walking along the queue takes 64 times as long.
const LONGER_MAX: u32 = 20;
/// Something else may make the processor slow just then.
const TRIES: usize = 4;

fn time_of_thread() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// Plays a scenario of some size, and one that is [`MORE`] times as large.
fn assert_is_linear(play: impl Fn(u32)) {
    let time = |size| {
        let begin = time_of_thread();
        play(size);
        time_of_thread() - begin
    };
    let mut times = Vec::new();
    let is_linear = (0..TRIES).any(|_| {
        let (small, large) = (time(2000), time(2000 * MORE));
        times.push((small, large));
        large < small * LONGER_MAX
    });
    assert!(is_linear, "{times:?}");
}

/// A client says all of this at once; then its server gives all of these answers, if there are any.
fn pipelined(messages: impl Iterator<Item = Vec<u8>>, answers: &[Vec<u8>]) {
    let mut stage = Stage {
        at_once: usize::MAX,
        ..Stage::default()
    };
    stage.endpoint.limits.statements_max = usize::MAX;
    let mut session = session();
    let mut talk = stage.turn(&mut session);
    let messages: Vec<_> = messages.collect();
    let sent: usize = messages.iter().map(Vec::len).sum();
    assert!(talk.client_bytes(&messages) >= sent, "all of them pass");
    if !answers.is_empty() {
        assert_eq!(talk.server(answers).len(), answers.len());
        assert!(talk.is_releasable());
    }
}

/// Each Bind walked along all that were sent before it: rows that were sent in one pipeline cost a processor for seconds.
#[test]
fn a_long_pipeline_of_one_statement_costs_no_more_for_each_bind() {
    assert_is_linear(|size| {
        let rows = (0..size).flat_map(|_| [bind("", "a"), execute("")]);
        pipelined(
            [parse("a", "insert into t values (1)")].into_iter().chain(rows),
            &[],
        );
    });
}

#[test]
fn a_long_pipeline_of_many_statements_costs_no_more_for_each() {
    assert_is_linear(|size| {
        let parse = |number| parse(&format!("s{number}"), &format!("select {number}"));
        pipelined(
            (0..size).flat_map(|number| [parse(number), bind("", &format!("s{number}"))]),
            &[],
        );
    });
}

#[test]
fn a_long_pipeline_of_many_transactions_costs_no_more_for_each() {
    assert_is_linear(|size| {
        let parse = |number| parse(&format!("s{number}"), &format!("select {number}"));
        pipelined((0..size).flat_map(|number| [parse(number), bare('S')]), &[]);
    });
}

#[test]
fn a_long_pipeline_of_copies_costs_no_more_for_each() {
    assert_is_linear(|size| {
        let copies = (0..size).flat_map(|_| [execute(""), bare('c')]);
        let answers = (0..size).flat_map(|_| [said("G"), said("C COPY 1")]);
        let answers: Vec<_> = answers.chain([said("Z I")]).collect();
        pipelined(copies.chain([bare('S')]), &answers);
    });
}

#[test]
fn a_long_pipeline_of_errors_costs_no_more_for_each() {
    assert_is_linear(|size| {
        let texts = (0..size).flat_map(|_| [parse("", "selct"), bare('S')]);
        let answers: Vec<_> = (0..size).flat_map(|_| [said("E 42601"), said("Z I")]).collect();
        pipelined(texts, &answers);
    });
}
