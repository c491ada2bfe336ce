//! The extended protocol: statements and portals by name and without, in pipelines, with errors in every place.

use super::Pen;
use crate::pooling::said::{INT4PL, Kind, Said};

/// Texts, and the values that they take: `i` a number, `t` a text.
const TEXTS: &[(&str, &str)] = &[
    ("select 1", ""),
    ("select $1::int + 1", "i"),
    ("select $1::text, $2::int", "ti"),
    (
        "select id, word from c$c.items where id <= $1::int order by id",
        "i",
    ),
    ("insert into c$c.items (word) values ($1) returning id", "t"),
    ("update c$c.items set word = $1 where id = $2::int", "ti"),
    ("select '01/02/2024'::date, $1::text", "t"),
    ("select '01/02/2024'::date", ""),
    (
        "select interval '1 day 02:03', '2024-03-04 05:06+00'::timestamptz",
        "",
    ),
    ("select 10 / $1::int", "i"),
    ("", ""),
    ("-- nothing", ""),
    ("select generate_series(1, 5)", ""),
    ("select repeat($1, 100)", "t"),
    ("begin", ""),
    ("commit", ""),
    ("rollback", ""),
    ("savepoint a", ""),
    ("set datestyle = 'German'", ""),
    ("set local timezone = 'Asia/Tokyo'", ""),
    ("reset datestyle", ""),
    ("show datestyle", ""),
    ("select current_setting('app.mark', true)", ""),
    ("select set_config('app.mark', $1, false)", "t"),
    ("select kit.mark($1)", "t"),
    ("select kit.fail($1)", "t"),
    ("select kit.notice($1)", "t"),
    ("selec", ""),
    ("select * from nowhere", ""),
    ("select $1", "t"),
    ("insert into c$c.late values (1), (1)", ""),
    ("deallocate s1", ""),
    ("deallocate all", ""),
    ("discard all", ""),
    ("prepare q1 as select 55", ""),
    ("execute q1", ""),
    ("select word from items", ""),
    ("copy c$c.items to stdout", ""),
    ("create table if not exists c$c.made (id int)", ""),
    ("drop table if exists c$c.made", ""),
];

const NAMES: &[&str] = &["s0", "s1", "s2", "s3"];
const PORTALS: &[&str] = &["", "", "p0", "p1"];

/// Some batches of any messages; the last one ends with Sync and outside a transaction.
pub(super) fn messages(pen: &mut Pen) {
    for _ in 0..pen.between(1, 3) {
        let mut said = Vec::new();
        for _ in 0..pen.between(1, 6) {
            one(pen, &mut said);
        }
        match pen.between(0, 9) {
            0 => (),
            1 => said.push(Said::Flush),
            _ => said.push(Said::Sync),
        }
        pen.say(said);
    }
    pen.say(vec![Said::Sync, Said::query("rollback")]);
}

/// Prepared once, used in turns to come with other settings around it, and closed some time.
pub(super) fn over_turns(pen: &mut Pen) {
    let name = pen.pick(&["", "s0", "s1", "long-lived"]);
    let (sql, kinds) = TEXTS[pen.between(0, 12)];
    let sql = pen.text(&[sql]);
    pen.say(vec![
        Said::parse(name, &sql),
        Said::describe(Kind::Statement, name),
        Said::Sync,
    ]);
    for _ in 0..pen.between(1, 3) {
        if pen.chance(0.4) {
            let between = pen.text(&[
                "set datestyle = 'German'",
                "set datestyle = 'SQL, DMY'",
                "set intervalstyle = 'iso_8601'",
                "set timezone = 'Asia/Tokyo'",
                "set search_path = c$c, public",
                "",
                "begin; set datestyle = 'German'; rollback",
            ]);
            pen.query(&between);
        }
        let values = values(pen, kinds);
        let values = values.iter().map(|value| value.as_deref().unwrap_or("1"));
        let values: Vec<&str> = values.collect();
        pen.say(vec![
            Said::bind("", name, &values),
            Said::describe(Kind::Portal, ""),
            Said::execute("", 0),
            Said::Sync,
        ]);
    }
    if pen.chance(0.5) {
        pen.say(vec![Said::close(Kind::Statement, name), Said::Sync]);
    }
    pen.query("rollback");
}

/// A statement that was prepared by a message, named in SQL.
pub(super) fn in_sql(pen: &mut Pen) {
    let name = pen.pick(NAMES);
    let (sql, call) = [
        ("select 'by name'", name.to_owned()),
        ("select $1::int * 2", format!("{name}(21)")),
    ][pen.between(0, 1)]
    .clone();
    pen.say(vec![Said::parse(name, sql), Said::Sync]);
    pen.statements.push((name.to_owned(), sql.matches('$').count()));
    for _ in 0..pen.between(1, 3) {
        match pen.between(0, 4) {
            0 | 1 => pen.query(&format!("execute {call}")),
            2 => pen.query(&format!("explain (costs off) execute {call}")),
            3 => pen.query(&format!("begin; execute {call}; commit")),
            _ => pen.query(&format!("deallocate {name}")),
        }
    }
}

/// One message, or the few that belong together.
fn one(pen: &mut Pen, said: &mut Vec<Said>) {
    match pen.between(0, 24) {
        0..=6 => run(pen, said),
        7..=10 => parse(pen, said),
        11..=13 => bind(pen, said),
        14..=15 => {
            // Never the unnamed one that a failed Query has left behind: in a failed transaction Postgres 15 looks at
            // its statements, which are gone, and crashes.
            let rows = i32::try_from(pen.between(0, 2)).unwrap();
            said.push(Said::execute(pen.pick(&["p0", "p1", "none"]), rows));
        }
        16 => said.push(Said::describe(
            Kind::Statement,
            pen.pick(&["", "s0", "s1", "s2", "none"]),
        )),
        17 => said.push(Said::describe(Kind::Portal, pen.pick(&["", "p0", "none"]))),
        18 => said.push(Said::close(
            Kind::Statement,
            pen.pick(&["", "s0", "s1", "s3", "none"]),
        )),
        19 => said.push(Said::close(Kind::Portal, pen.pick(&["", "p0", "none"]))),
        20 => said.push(Said::Flush),
        21 => said.push(Said::Sync),
        22 => said.push(Said::Query(pen.text(&[
            "select 'in between'",
            "select 1 / 0",
            "begin",
            "commit",
            "",
            "set datestyle = 'German'",
        ]))),
        23 => said.push(Said::Call {
            function: INT4PL,
            arguments: vec![4, 5],
        }),
        _ => said.push(Said::data("stray")),
    }
}

/// Parse, Bind, Describe, Execute of one name or another.
fn run(pen: &mut Pen, said: &mut Vec<Said>) {
    let (sql, kinds) = TEXTS[pen.between(0, TEXTS.len() - 1)];
    let portal = pen.pick(PORTALS);
    said.push(Said::Parse {
        name: String::new(),
        sql: pen.text(&[sql]),
        types: types(pen, kinds),
    });
    said.push(bound(pen, portal, "", kinds));
    if pen.chance(0.5) {
        said.push(Said::describe(Kind::Portal, portal));
    }
    let rows = if pen.chance(0.3) { 2 } else { 0 };
    said.push(Said::execute(portal, rows));
    if rows > 0 && pen.chance(0.6) {
        said.push(Said::execute(portal, 0));
    }
}

/// Among settings of one batch nobody would know what a constant of a text that lasts was read under: see
/// `names::beside_settings`.
fn parse(pen: &mut Pen, said: &mut Vec<Said>) {
    let name = if pen.chance(0.8) { pen.pick(NAMES) } else { "" };
    let is_open = |sql: &str| sql.starts_with("select") && sql.contains('\'');
    let (mut sql, mut kinds) = TEXTS[pen.between(0, TEXTS.len() - 1)];
    while !name.is_empty() && is_open(sql) {
        (sql, kinds) = TEXTS[pen.between(0, TEXTS.len() - 1)];
    }
    said.push(Said::Parse {
        name: name.to_owned(),
        sql: pen.text(&[sql]),
        types: types(pen, kinds),
    });
    pen.statements.retain(|(known, _)| known != name);
    pen.statements.push((name.to_owned(), kinds.len()));
}

/// Of a statement that may be there; sometimes with too few values.
fn bind(pen: &mut Pen, said: &mut Vec<Said>) {
    let portal = pen.pick(PORTALS);
    if pen.statements.is_empty() || pen.chance(0.1) {
        said.push(Said::bind(portal, pen.pick(&["none", ""]), &[]));
        return;
    }
    let at = pen.between(0, pen.statements.len() - 1);
    let (name, count) = pen.statements[at].clone();
    let kinds = if pen.chance(0.05) { "" } else { &"iiii"[..count] };
    said.push(bound(pen, portal, &name, kinds));
    if pen.chance(0.6) {
        said.push(Said::execute(portal, 0));
    }
}

fn bound(pen: &mut Pen, portal: &str, statement: &str, kinds: &str) -> Said {
    let values = values(pen, kinds);
    let bytes = |value: Option<String>| value.map(String::into_bytes);
    let results = match pen.between(0, 5) {
        0 => vec![1],
        1 => vec![0],
        _ => Vec::new(),
    };
    Said::Bind {
        portal: portal.to_owned(),
        statement: statement.to_owned(),
        values: values.into_iter().map(bytes).collect(),
        results,
    }
}

fn values(pen: &mut Pen, kinds: &str) -> Vec<Option<String>> {
    let one = |kind| {
        if pen.chance(0.05) {
            return None;
        }
        let texts: &[&str] = if kind == 'i' {
            &["0", "1", "2", "7", "no number"]
        } else {
            &["x", "", "5", "German", "a longer text"]
        };
        Some(pen.text(texts))
    };
    kinds.chars().map(one).collect()
}

/// Given or left to the server.
fn types(pen: &mut Pen, kinds: &str) -> Vec<u32> {
    if pen.chance(0.6) {
        return Vec::new();
    }
    kinds
        .chars()
        .map(|kind| if kind == 'i' { 23 } else { 25 })
        .collect()
}
