//! What keeps a server session with its client, from where it does to where it does no longer.

use super::Pen;
use crate::pooling::act::{Act, Batch};

pub(super) fn any(pen: &mut Pen) {
    match pen.between(0, 6) {
        0 => temporary(pen),
        1 => hidden(pen),
        2 => held_cursor(pen),
        3 => listening(pen),
        4 => locking(pen),
        5 => undone(pen),
        _ => dropped_database(pen),
    }
}

fn pins(pen: &mut Pen, sql: &[&str]) {
    let sql = pen.text(sql);
    pen.batch(Batch::query(sql).pins());
}

fn unpins(pen: &mut Pen, sql: &[&str]) {
    let sql = pen.text(sql);
    if sql == "discard all" {
        pen.statements.clear();
    }
    pen.batch(Batch::query(sql).unpins());
}

fn some(pen: &mut Pen, sql: &[&str]) {
    for _ in 0..pen.between(1, 3) {
        let sql = pen.text(sql);
        pen.query(&sql);
    }
}

fn temporary(pen: &mut Pen) {
    pins(
        pen,
        &[
            "create temp table mine (id int)",
            "create temporary table mine as select 1 as id",
            "select 1 as id into temp mine",
            "begin; create temp table mine (id int); commit",
            "create table pg_temp.mine (id int)",
        ],
    );
    some(
        pen,
        &[
            "insert into mine values (2)",
            "select count(*) from mine",
            "select 1 / 0",
            "begin; delete from mine; rollback",
            "select count(*) from pg_temp.mine",
        ],
    );
    unpins(
        pen,
        &[
            "drop table mine",
            "discard temp",
            "discard all",
            "DISCARD TEMPORARY",
        ],
    );
    pen.query("select count(*) from mine");
}

/// A temp table that a function makes.
fn hidden(pen: &mut Pen) {
    pins(pen, &["select kit.temporary()"]);
    some(pen, &["select kit.temporary()", "select count(*) from hidden"]);
    unpins(pen, &["drop table hidden", "discard temp"]);
}

fn held_cursor(pen: &mut Pen) {
    pins(
        pen,
        &[
            "declare held cursor with hold for select generate_series(1, 9)",
            "begin; declare held scroll cursor with hold for select generate_series(1, 9); commit",
        ],
    );
    some(pen, &["fetch 2 from held", "move 1 in held", "fetch nowhere"]);
    unpins(pen, &["close held", "close all", "discard all"]);
    pen.query("fetch 1 from held");
}

/// Only what the client itself notifies comes at a place that is known.
fn listening(pen: &mut Pen) {
    pins(
        pen,
        &["listen own_$c", "LISTEN own_$c", "select kit.hear('own_$c')"],
    );
    some(
        pen,
        &[
            "notify own_$c, 'hello'",
            "select pg_notify('own_$c', 'by function')",
            "begin; notify own_$c; rollback",
            "select pg_listening_channels()",
            "select 1",
        ],
    );
    unpins(pen, &["unlisten *", "unlisten own_$c", "discard all"]);
    pen.query("notify own_$c, 'nobody hears'");
}

fn locking(pen: &mut Pen) {
    pins(
        pen,
        &[
            "select pg_advisory_lock($c)",
            "select kit.seize($c)",
            "select pg_try_advisory_lock($c)",
        ],
    );
    some(
        pen,
        &[
            "select count(*) from pg_locks where locktype = 'advisory' and objid = $c",
            "select 1",
        ],
    );
    unpins(
        pen,
        &[
            "select pg_advisory_unlock($c)",
            "select pg_advisory_unlock_all()",
            "discard all",
        ],
    );
    pen.query("select pg_advisory_unlock($c)");
}

/// What would pin and does not, because it was rolled back or ends with its transaction. Words foresee otherwise, so
/// a client too many is refused.
fn undone(pen: &mut Pen) {
    for _ in 0..pen.between(1, 2) {
        let sql = pen.text(&[
            "begin read write; create temp table gone (id int); rollback",
            "begin read write; listen own_$c; rollback",
            "begin read write; declare gone cursor with hold for select 1; rollback",
            "begin read write; select kit.hear('own_$c'); rollback",
        ]);
        pen.batch(Batch::query(sql).or_error("53300"));
    }
    some(
        pen,
        &[
            "begin; create temp table gone (id int) on commit drop; insert into gone values (1); commit",
            "select pg_advisory_xact_lock($c)",
            "unlisten *",
            "close all",
        ],
    );
    pen.query("select count(*) from gone");
}

/// Pooled sessions may sit in a database that is to be dropped.
fn dropped_database(pen: &mut Pen) {
    if !pen.is_superuser || pen.chance(0.5) {
        return;
    }
    pen.query("create database guests_$c");
    let database = format!("guests_{}", pen.client);
    pen.acts.push(Act::Visit { database });
    pen.query("drop database guests_$c");
}
