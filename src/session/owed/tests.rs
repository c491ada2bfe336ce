//! Exchanges written out message by message.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::wire::scan::Scanner;

/// A client and a server that exchange messages written as (tag, body).
#[derive(Default)]
struct Exchange {
    owed: Owed,
    up: Scanner,
    down: Scanner,
    touched: AtomicUsize,
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

impl Exchange {
    fn client(&mut self, tags: &[u8]) -> &mut Self {
        for tag in tags {
            self.client_says(*tag, b"");
        }
        self
    }

    fn client_says(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        self.up
            .scan(&message(tag, body), &mut FromClient(&mut self.owed))
            .unwrap();
        self
    }

    fn server(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        let touched = || {
            self.touched.fetch_add(1, Ordering::Relaxed);
        };
        let mut observer = FromServer {
            owed: &mut self.owed,
            roles_touched: &touched,
        };
        self.down.scan(&message(tag, body), &mut observer).unwrap();
        self
    }
}

#[test]
fn a_session_is_idle_when_every_request_has_had_its_answer() {
    let mut exchange = Exchange::default();
    assert!(exchange.owed.is_idle());
    exchange.client(b"QQ");
    assert!(!exchange.owed.is_idle());
    exchange.server(b'Z', b"I");
    assert!(!exchange.owed.is_idle());
    exchange.server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
}

#[test]
fn an_open_transaction_or_a_pipeline_without_sync_is_not_idle() {
    let mut exchange = Exchange::default();
    exchange.client(b"Q").server(b'Z', b"T");
    assert!(!exchange.owed.is_idle());
    exchange.client(b"Q").server(b'Z', b"I");
    exchange.client(b"PDH");
    assert!(!exchange.owed.is_idle());
    exchange.client(b"S").server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
}

#[test]
fn a_sync_that_copy_swallows_is_not_waited_for() {
    // libpq: Parse, Bind, Describe, Execute, Sync, then data, CopyDone, Sync.
    let mut exchange = Exchange::default();
    exchange.client(b"PBDES").server(b'G', b"\0\0\0");
    assert!(!exchange.owed.is_idle());
    exchange.client(b"ddcS").server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
    // All of it before the server has said anything.
    let mut exchange = Exchange::default();
    exchange.client(b"PBESdcS").server(b'G', b"\0\0\0");
    assert!(!exchange.owed.is_idle());
    exchange.server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
    // Simple protocol, with Syncs where they mean nothing.
    let mut exchange = Exchange::default();
    exchange
        .client(b"Q")
        .server(b'G', b"\0\0\0")
        .client(b"dSSdc")
        .server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
}

#[test]
fn the_end_of_a_copy_is_kept_for_its_own_request() {
    // A pipeline: a Query or an Execute without COPY, then one with it.
    for first in [&b"Q"[..], b"PBES"] {
        let mut exchange = Exchange::default();
        exchange
            .client(first)
            .client(b"PBESdcS")
            .server(b'Z', b"I")
            .server(b'G', b"\0\0\0");
        assert!(!exchange.owed.is_idle());
        exchange.server(b'Z', b"I");
        assert!(exchange.owed.is_idle());
    }
    // One Query with two COPYs, and another behind it.
    let mut exchange = Exchange::default();
    exchange
        .client(b"Q")
        .server(b'G', b"\0\0\0")
        .client(b"dc")
        .server(b'G', b"\0\0\0")
        .client(b"dcQ");
    exchange.server(b'Z', b"I");
    assert!(!exchange.owed.is_idle());
    exchange.server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
}

#[test]
fn a_sync_after_a_failed_copy_counts() {
    let mut exchange = Exchange::default();
    exchange
        .client(b"PBES")
        .server(b'G', b"\0\0\0")
        .client(b"d")
        .server(b'E', b"VERROR\0\0");
    exchange.client(b"dcS");
    assert!(!exchange.owed.is_idle());
    exchange.server(b'Z', b"I");
    assert!(exchange.owed.is_idle());
}

#[test]
fn a_loss_is_unknown_only_where_something_may_have_been_committed() {
    let mut exchange = Exchange::default();
    assert_eq!(exchange.owed.loss(), Loss::RolledBack);
    exchange.client_says(b'Q', b"insert into t values (1)\0");
    assert_eq!(exchange.owed.loss(), Loss::Unknown);
    exchange.server(b'Z', b"T").client_says(b'Q', b"select 1\0");
    assert_eq!(exchange.owed.loss(), Loss::RolledBack);
    exchange.server(b'Z', b"T").client_says(b'Q', b"commit\0");
    assert_eq!(exchange.owed.loss(), Loss::Unknown);
}

#[test]
fn a_prepared_commit_makes_later_executions_unknown() {
    let mut exchange = Exchange::default();
    exchange
        .client_says(b'P', b"s1\0COMMIT\0\0\0")
        .client(b"S")
        .server(b'Z', b"I");
    exchange.client(b"Q").server(b'Z', b"T");
    exchange.client(b"BES");
    assert_eq!(exchange.owed.loss(), Loss::Unknown);
}

#[test]
fn changed_roles_are_told_once_and_only_when_committed() {
    let mut exchange = Exchange::default();
    exchange
        .client(b"Q")
        .server(b'C', b"CREATE ROLE\0")
        .server(b'Z', b"T");
    assert_eq!(exchange.touched.load(Ordering::Relaxed), 0);
    exchange.client(b"Q").server(b'C', b"COMMIT\0").server(b'Z', b"I");
    assert_eq!(exchange.touched.load(Ordering::Relaxed), 1);
    exchange
        .client(b"Q")
        .server(b'C', b"SELECT 1\0")
        .server(b'Z', b"I");
    assert_eq!(exchange.touched.load(Ordering::Relaxed), 1);
}

#[test]
fn the_servers_last_word_is_remembered() {
    let mut exchange = Exchange::default();
    exchange.server(b'E', b"SERROR\0VERROR\0C42P01\0\0");
    assert!(exchange.owed.fatal().is_none());
    exchange.server(b'E', b"SFATAL\0VFATAL\0C57P01\0\0");
    assert_eq!(exchange.owed.fatal().unwrap().sqlstate, "57P01");
}
