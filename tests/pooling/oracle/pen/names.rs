//! The same names by SQL's PREPARE, EXECUTE and DEALLOCATE and by the protocol's messages, in one pipeline and over turns; and
//! statements that are prepared between settings.

use super::{Pen, carried::look};
use crate::pooling::said::{Kind, Said};

const NAMES: &[&str] = &["s0", "s1", "q1", "Odd name"];

/// What is prepared under either kind of name; none takes values, and none has constants that settings may give another
/// meaning.
const TEXTS: &[&str] = &[
    "select 1 as first",
    "select 2 as word",
    "select word from c$c.items order by id limit 1",
    "insert into c$c.items (word) values (5::text) returning id",
    "select 1 / 0",
    "selec",
];

/// What may be anywhere in SQL, `$n` being a name as SQL has it.
const IN_SQL: &[&str] = &[
    "prepare $n as select 3 as sql",
    "prepare $n as select word from c$c.items order by id desc limit 1",
    "execute $n",
    "execute $n",
    "execute $n",
    "explain (costs off) execute $n",
    "deallocate $n",
    "deallocate prepare $n",
    "deallocate all",
    "discard all",
    "create table if not exists c$c.made as execute $n",
    "select 1",
    "select 1 / 0",
    "set datestyle = 'German'",
    "begin",
    "commit",
    "rollback",
];

/// Batches of both kinds; the last one ends outside a transaction.
pub(super) fn of_both(pen: &mut Pen) {
    for _ in 0..pen.between(2, 5) {
        let mut said = Vec::new();
        for _ in 0..pen.between(1, 5) {
            one(pen, &mut said);
        }
        if pen.chance(0.8) {
            said.push(Said::Sync);
        }
        pen.say(said);
    }
    pen.say(vec![Said::Sync, Said::query("rollback")]);
    if pen.chance(0.5) {
        pen.query("select name, from_sql from pg_prepared_statements where from_sql order by name");
    }
    pen.query("reset datestyle");
    pen.query("deallocate all");
    pen.statements.clear();
}

fn one(pen: &mut Pen, said: &mut Vec<Said>) {
    let name = pen.pick(NAMES);
    match pen.between(0, 11) {
        0..=2 => said.push(Said::parse(name, &pen.text(TEXTS))),
        3 => said.push(Said::close(Kind::Statement, name)),
        4 => said.push(Said::describe(Kind::Statement, name)),
        5..=6 => said.extend([Said::bind("", name, &[]), Said::execute("", 0)]),
        7 => said.extend(Said::run(&sql(pen, name), &[])),
        8 => {
            let other = pen.pick(NAMES);
            said.push(Said::parse(name, &sql(pen, other)));
        }
        _ => {
            // A PREPARE stands alone: see `carried::sql_statements`.
            let first = sql(pen, name);
            let second = pen.chance(0.2).then(|| sql(pen, name));
            match second {
                Some(second) if !format!("{first}{second}").contains("prepare ") => {
                    said.push(Said::query(format!("{first}; {second}")));
                }
                _ => said.push(Said::query(first)),
            }
        }
    }
}

fn sql(pen: &mut Pen, name: &str) -> String {
    let quoted = format!("\"{name}\"");
    let in_sql = if name.contains(' ') { &quoted } else { name };
    pen.text(IN_SQL).replace("$n", in_sql)
}

const SETS: &[&str] = &[
    "set datestyle = 'German'",
    "set datestyle = 'SQL, DMY'",
    "set timezone = 'Asia/Tokyo'",
    "set intervalstyle = 'iso_8601'",
    "select set_config('datestyle', 'German', false)",
    "select kit.style('German')",
    "reset datestyle",
    "reset all",
    "select 1",
];

/// What may stand only behind a Parse: in front of one it would have nobody know what that was prepared under.
const SETS_BEHIND: &[&str] = &[
    "set local datestyle = 'SQL, DMY'",
    "set local intervalstyle = 'iso_8601'",
    "select 1 / 0",
    "rollback",
];

const SET_WORDS: &[&str] = &[
    "select '01/02/2024'::date",
    "select '01/02/2024'::date, '2024-03-04 05:06'::timestamptz",
    "select interval '1 day 02:03', $1::text",
    "select $1::date",
];

/// Parsed in front of settings or behind them in one batch, and used in turns to come.
pub(super) fn beside_settings(pen: &mut Pen) {
    let name = pen.pick(&["s0", "s1", ""]);
    let text = pen.pick(SET_WORDS);
    let parse = Said::parse(name, text);
    let is_first = pen.chance(0.5);
    let mut said = Vec::new();
    if is_first {
        said.extend(Said::run("select 1", &[]));
        said.push(parse.clone());
    }
    for _ in 0..pen.between(1, 3) {
        let is_behind = is_first && pen.chance(0.4);
        let set = pen.text(if is_behind { SETS_BEHIND } else { SETS });
        if pen.chance(0.3) {
            said.push(Said::query(set));
        } else {
            said.extend(Said::run(&set, &[]));
        }
        if pen.chance(0.3) {
            said.push(Said::Sync);
        }
    }
    said.extend((!is_first).then_some(parse));
    said.push(Said::Sync);
    pen.say(said);
    use_over_turns(pen, name, text);
    pen.query("reset all");
    look(pen);
}

/// Parsed while a path is set that ends with the transaction.
pub(super) fn beside_a_path(pen: &mut Pen) {
    let name = pen.pick(&["s0", "s1", ""]);
    let text = pen.pick(&[
        "select word from items order by id limit 1",
        "select count(*) from rows",
        "select guarded()",
    ]);
    let path = pen.text(&[
        "set local search_path = c$c",
        "set local search_path = c$c, kit",
        "set search_path = c$c",
        "select set_config('search_path', 'c$c', true)",
    ]);
    let parse = Said::parse(name, text);
    match pen.between(0, 3) {
        0 => {
            pen.query(&format!("begin; {path}"));
            pen.say(vec![parse, Said::describe(Kind::Statement, name), Said::Sync]);
        }
        1 => {
            let run = |sql: &str| Said::run(sql, &[]);
            let said = [&run("begin")[..], &run(&path), &[parse, Said::Sync]];
            pen.say(said.concat());
        }
        2 => pen.say(vec![Said::query("begin"), Said::query(path), parse, Said::Sync]),
        _ => pen.say([&Said::run(&path, &[])[..], &[parse, Said::Sync]].concat()),
    }
    if pen.chance(0.5) {
        pen.say(vec![Said::bind("", name, &[]), Said::execute("", 0), Said::Sync]);
    }
    let end = pen.text(&["commit", "rollback", "commit; select 2"]);
    pen.query(&end);
    pen.query("rollback");
    use_over_turns(pen, name, text);
    pen.query("reset search_path");
}

fn use_over_turns(pen: &mut Pen, name: &str, text: &str) {
    let values: &[&str] = if text.contains('$') { &["01.02.2024"] } else { &[] };
    // Postgres reads constants anew under another path.
    let paths = if text.contains('\'') {
        "select 1"
    } else {
        "set search_path = c$c, public"
    };
    for _ in 0..pen.between(1, 3) {
        if pen.chance(0.4) {
            let between = pen.text(&[
                "set datestyle = 'German'",
                paths,
                "begin; set local datestyle = 'German'; commit",
                "select 1",
            ]);
            pen.query(&between);
        }
        let described = pen.chance(0.5).then(|| Said::describe(Kind::Portal, ""));
        let said = [Said::bind("", name, values)].into_iter().chain(described);
        pen.say(said.chain([Said::execute("", 0), Said::Sync]).collect());
    }
    // One of a path that is gone is refused before whatever else is wrong with a message, and Postgres reads constants anew
    // once a session has had temporary tables.
    pen.say(vec![Said::close(Kind::Statement, name), Said::Sync]);
}
