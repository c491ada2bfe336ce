//! COPY in every way: simple and extended, whole, failed, given up, with what comes too late.

use super::Pen;
use crate::pooling::said::Said;

/// One COPY, and a look at what it left.
pub(super) fn any(pen: &mut Pen) {
    match pen.between(0, 7) {
        0 => out(pen),
        1..=3 => simple(pen),
        4..=6 => extended(pen),
        _ => twice(pen),
    }
    pen.query("select count(*), count(distinct word) from c$c.rows");
}

fn out(pen: &mut Pen) {
    let sql = pen.text(&[
        "copy c$c.items to stdout",
        "copy (select generate_series(1, 50)) to stdout (format binary)",
        "copy (select 1 / (3 - n) from generate_series(1, 5) n) to stdout",
        "begin; copy c$c.items to stdout; rollback",
        "copy c$c.items to stdout; copy c$c.rows to stdout; select 1",
        "copy nowhere to stdout",
    ]);
    if pen.chance(0.6) {
        pen.query(&sql);
    } else {
        let mut said = Said::run(&sql, &[]).to_vec();
        said.push(Said::Sync);
        pen.say(said);
    }
}

/// Data and how it ends: the rest of a COPY whose first answer was read or not.
fn data(pen: &mut Pen) -> Vec<Said> {
    let line = format!("{}\tline\n", pen.between(1, 99));
    let mut said = Vec::new();
    for _ in 0..pen.between(0, 3) {
        said.push(Said::data(line.repeat(pen.between(1, 4))));
        if pen.chance(0.1) {
            said.push(Said::Flush);
        }
    }
    match pen.between(0, 9) {
        0..=4 => said.push(Said::CopyDone),
        5 | 6 => said.push(Said::CopyFail("given up".to_owned())),
        _ => {
            said.push(Said::wrong_data());
            // Too late.
            said.push(Said::data(&line));
            said.push(if pen.chance(0.5) {
                Said::CopyDone
            } else {
                Said::CopyFail("too late".to_owned())
            });
        }
    }
    said
}

fn simple(pen: &mut Pen) {
    let sql = pen.text(&[
        "copy c$c.rows from stdin",
        "copy c$c.rows (id, word) from stdin",
        "begin; copy c$c.rows from stdin",
        "copy c$c.rows from stdin; select 'behind'",
        "select 'before'; copy c$c.rows from stdin",
        "copy nowhere from stdin",
    ]);
    let data = data(pen);
    let mut said = vec![Said::Query(sql)];
    if pen.chance(0.5) {
        pen.say(said);
        said = Vec::new();
    }
    said.extend(data);
    pen.say(said);
    pen.query("commit");
}

fn twice(pen: &mut Pen) {
    pen.query("copy c$c.rows from stdin; copy c$c.rows from stdin; select 'both'");
    pen.say(vec![Said::data("1\tfirst\n"), Said::CopyDone]);
    let end = data(pen);
    pen.say(end);
    pen.query("select 'after both'");
}

/// libpq sends a Sync right behind Execute, which the server ignores where it reads COPY data.
fn extended(pen: &mut Pen) {
    let sql = pen.text(&[
        "copy c$c.rows from stdin",
        "copy c$c.rows (id) from stdin",
        "copy nowhere from stdin",
    ]);
    let mut said = Said::run(&sql, &[]).to_vec();
    said.push(if pen.chance(0.5) { Said::Sync } else { Said::Flush });
    if pen.chance(0.5) {
        pen.say(said);
        said = Vec::new();
    }
    said.extend(data(pen));
    if pen.chance(0.3) {
        said.extend(Said::run("select 'behind the copy'", &[]));
    }
    said.push(Said::Sync);
    if pen.chance(0.3) {
        said.push(Said::Sync);
    }
    pen.say(said);
}
