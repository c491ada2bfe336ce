//! Simple Queries, transactions and what belongs to them.

use super::Pen;
use crate::pooling::{
    act::{Act, Batch},
    said::{INT4PL, Kind, Said},
};

const STATEMENTS: &[&str] = &[
    "select 1",
    "select 'one', null, 2.5",
    "select id, word from c$c.items order by id",
    "insert into c$c.items (word) values ('more') returning id",
    "update c$c.items set word = word || '+' where id <= 2",
    "delete from c$c.items where id > 4",
    "select count(*), max(id) from c$c.items",
    "values (1, 'a'), (2, 'b')",
    "select repeat('x', 3000)",
    "select generate_series(1, 4)",
    "select '01/02/2024'::date, '2024-03-04 05:06'::timestamptz",
    "select interval '1 day 02:03'",
    "select '\\x6162'::bytea, 1.1::float8 / 3",
    "select 'déjà vu'",
    "select kit.notice('hello')",
    "explain (costs off) select 1",
    "do $$begin perform 1; end$$",
    "call kit.nothing()",
    "create table if not exists c$c.made (id int)",
    "drop table if exists c$c.made",
    "show search_path",
    "select current_user, session_user",
    "select current_setting('app.mark', true), current_setting('app.other', true)",
    "lock table c$c.rows in access share mode",
    "select pg_advisory_xact_lock(1000 + $c)",
    "notify nobody_hears",
    "comment on table c$c.rows is 'set role of nobody'",
];

const FAILING: &[&str] = &[
    "select 1 / 0",
    "selec",
    "select * from nowhere",
    "select kit.fail('on purpose')",
    "insert into c$c.items (id) values (1)",
    "select current_setting('never.set')",
    "savepoint outside",
    "insert into c$c.late values (1), (1)",
    "set no_such_setting = 1",
    "select 1 from generate_series(1, 3) n where 1 / (3 - n) > 5",
    "declare outside cursor for select 1",
    "copy c$c.rows from '/nowhere'",
    "vacuum c$c.rows; select 1",
];

const BEGINS: &[&str] = &[
    "begin",
    "BEGIN",
    "Begin;",
    "begin work",
    "BEGIN TRANSACTION;",
    "start transaction",
    "START TRANSACTION;",
    " begin ",
    "begin ;",
    "begin;;",
    "begin isolation level serializable",
    "start transaction read only",
    "begin read write",
    "/* first */ begin",
    "begin -- and then",
    "begin; select 1",
    "begin; begin",
    "begin\n",
    "begin transaction isolation level repeatable read",
];

const ENDS: &[&str] = &[
    "commit",
    "COMMIT;",
    "end",
    "commit work",
    "rollback",
    "ROLLBACK;",
    "abort",
    "rollback transaction",
    "end transaction",
    "commit; select 2",
    "select 3; commit",
    " commit",
    "commit and no chain",
];

const CHAINS: &[&str] = &["commit and chain", "rollback and chain"];

fn statement(pen: &mut Pen) -> String {
    let failing = pen.chance(0.12);
    pen.text(if failing { FAILING } else { STATEMENTS })
}

/// One Query or several, each of one statement or several.
pub(super) fn statements(pen: &mut Pen) {
    let mut said = Vec::new();
    let queries = if pen.chance(0.7) { 1 } else { pen.between(2, 4) };
    for _ in 0..queries {
        let count = if pen.chance(0.75) { 1 } else { pen.between(2, 3) };
        let all: Vec<String> = (0..count).map(|_| statement(pen)).collect();
        said.push(Said::Query(all.join("; ")));
    }
    pen.say(said);
}

/// A transaction from its beginning to its end, in batches or in one pipeline.
pub(super) fn transaction(pen: &mut Pen) {
    let mut queries = vec![pen.text(BEGINS)];
    for _ in 0..pen.between(0, 4) {
        let one = match pen.between(0, 11) {
            0 => pen.text(&["savepoint a", "savepoint b"]),
            1 => pen.text(&["rollback to a", "rollback to savepoint b", "release a"]),
            2 => pen.text(BEGINS),
            3 => pen.text(CHAINS),
            4 => pen.text(&["", ";", "-- nothing"]),
            5 => pen.text(&[
                "set local datestyle = 'German'; select '01/02/2024'::date",
                "select set_config('app.mark', 'for now', true)",
                "set app.mark = 'lasts if committed'",
                "set transaction isolation level serializable",
                "select kit.mark_once('once')",
            ]),
            6 => pen.text(&[
                "savepoint a; selec; release a",
                "commit; selec",
                "rollback; select 5",
            ]),
            _ => statement(pen),
        };
        queries.push(one);
    }
    queries.push(pen.text(ENDS));
    // An end that another one preceded, or that failed, is none.
    queries.push("rollback".to_owned());
    if pen.chance(0.2) {
        pen.say(queries.into_iter().map(Said::Query).collect());
    } else {
        for query in queries {
            pen.query(&query);
        }
    }
}

/// What makes the server do nothing.
pub(super) fn nothing(pen: &mut Pen) {
    let said = match pen.between(0, 8) {
        0 => vec![Said::query("")],
        1 => vec![Said::Sync],
        2 => vec![Said::Flush, Said::Sync],
        3 => vec![Said::close(Kind::Statement, "unknown"), Said::Sync],
        4 => vec![Said::close(Kind::Portal, "unknown"), Said::Sync],
        5 => vec![Said::query(" \n\t"), Said::query(";"), Said::query("-- nothing")],
        6 => vec![Said::close(Kind::Portal, ""), Said::Sync, Said::Sync],
        7 => vec![Said::data("stray"), Said::CopyDone, Said::query("select 1")],
        _ => vec![Said::CopyFail("stray".to_owned()), Said::Sync, Said::query("")],
    };
    pen.say(said);
}

pub(super) fn function_call(pen: &mut Pen) {
    let arguments = if pen.chance(0.8) {
        vec![2, 3]
    } else {
        vec![i32::MAX, 1]
    };
    let function = if pen.chance(0.8) { INT4PL } else { 1 };
    let mut said = vec![Said::Call { function, arguments }];
    if pen.chance(0.5) {
        said.insert(0, Said::query("begin"));
        said.push(Said::query("select 'behind'"));
        said.push(Said::query("rollback"));
    }
    pen.say(said);
}

pub(super) fn large(pen: &mut Pen) {
    match pen.between(0, 3) {
        0 => pen.query("select repeat('large', 40000)"),
        1 => pen.query("select repeat('row', 500) from generate_series(1, 60)"),
        2 => {
            let value = "v".repeat(pen.between(20_000, 120_000));
            let mut said = Said::run("select length($1::text), $1::text", &[&value]).to_vec();
            said.push(Said::Sync);
            pen.say(said);
        }
        _ => {
            let sql = format!("select length('{}')", "text".repeat(12_000));
            pen.query(&sql);
        }
    }
}

/// Numbers that a session has drawn: in its transaction, and after it, where Postgres' own error is as good.
pub(super) fn sequences(pen: &mut Pen) {
    const DRAW: &str = "insert into c$c.items (word) values ('drawn')";
    const OWN: &str = "select currval('c$c.items_id_seq'), lastval()";
    match pen.between(0, 2) {
        0 => pen.query(&format!("{DRAW}; {OWN}")),
        1 => ["begin", DRAW, OWN, "commit"]
            .iter()
            .for_each(|sql| pen.query(sql)),
        _ => {
            pen.query(&format!("{DRAW} returning id"));
            let own = pen.text(&[OWN]);
            pen.batch(Batch::query(own).or_error("55000"));
        }
    }
}

pub(super) fn cursor(pen: &mut Pen) {
    pen.query("begin");
    pen.query("declare walk scroll cursor for select generate_series(1, 9)");
    for _ in 0..pen.between(1, 3) {
        let fetch = pen.text(&[
            "fetch 2 from walk",
            "move 1 in walk",
            "fetch backward 1 from walk",
            "fetch nowhere",
        ]);
        pen.query(&fetch);
    }
    let end = pen.text(&["close walk; commit", "commit", "rollback"]);
    pen.query(&end);
    pen.query("rollback");
    pen.query("fetch 1 from walk");
}

/// The compute is suspended in between: outside a transaction, behind a BEGIN that has taken no session, and between a
/// statement and its use.
pub(super) fn asleep(pen: &mut Pen) {
    match pen.between(0, 2) {
        0 => {
            pen.acts.push(Act::Doze);
            pen.query("select current_setting('app.mark', true), current_setting('datestyle'), current_user");
        }
        1 => {
            let begin = pen.text(&["begin", "START TRANSACTION;", "begin work"]);
            pen.query(&begin);
            pen.acts.push(Act::Doze);
            pen.query("insert into c$c.items (word) values ('after a sleep') returning id");
            let end = pen.text(ENDS);
            pen.query(&end);
        }
        _ => {
            let sql = pen.text(&[
                "select '01/02/2024'::date, $1::text",
                "select word from c$c.items where id = $1::int",
            ]);
            pen.say(vec![
                Said::parse("", &sql),
                Said::describe(Kind::Statement, ""),
                Said::Sync,
            ]);
            pen.acts.push(Act::Doze);
            pen.say(vec![Said::bind("", "", &["1"]), Said::execute("", 0), Said::Sync]);
        }
    }
    pen.query("rollback");
}

/// Begun without a session, where others may hold all of them.
pub(super) fn refused(pen: &mut Pen) {
    let said = ["begin", "select 'finds no session, or one'", "commit"];
    pen.batch(Batch::new(said.map(Said::query).to_vec()).or_refused());
    pen.query("select 'goes on'");
}
