//! How far the server is read in a turn of transaction pooling: up to its last answer.

use super::super::Exchange;
use super::talk::*;
use crate::session::lane::{Editing, Editor, Lane};

/// How the editor of answers goes on behind these, while nothing of the client's is half sent.
fn behind(exchange: &mut Exchange<'_>, down: &mut Lane, answers: &[&[u8]]) -> Editing {
    down.push(&answers.concat());
    let editing = exchange.down_to_the_last_answer().edit(down);
    down.take_cleared();
    editing
}

#[test]
fn no_more_is_read_behind_the_last_answer() {
    let (mut stage, mut session) = (Stage::default(), session());
    let mut talk = stage.turn(&mut session);
    talk.client(&[query("begin"), query("commit")]);
    let (exchange, down) = (&mut talk.exchange, &mut talk.down);
    let (tag, open, ready) = (said("C BEGIN"), said("Z T"), said("Z I"));
    let notice = said("N");

    assert_eq!(
        behind(exchange, down, &[&tag, &open]),
        Editing::Open,
        "more is owed"
    );
    assert_eq!(
        behind(exchange, down, &[&tag, &ready, &notice[..3]]),
        Editing::Open,
        "half a message"
    );
    assert_eq!(behind(exchange, down, &[&notice[3..]]), Editing::Paused);
}

#[test]
fn a_session_that_is_its_clients_is_read_on() {
    let mut talk = Talk::plain(&|_| (), 1);
    talk.client(&[query("a")]);
    let ready = said("Z I");

    let editing = behind(&mut talk.exchange, &mut talk.down, &[&ready]);

    assert_eq!(editing, Editing::Open);
}
