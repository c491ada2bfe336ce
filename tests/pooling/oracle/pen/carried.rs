//! What a session carries from turn to turn: settings, roles, prepared statements of SQL.

use super::Pen;
use crate::pooling::act::{Act, Batch};

/// All that is set here somewhere, in one row.
const LOOK: &str = "select current_setting('datestyle'), current_setting('timezone'), \
    current_setting('intervalstyle'), current_setting('search_path'), current_setting('application_name'), \
    current_setting('bytea_output'), current_setting('extra_float_digits'), current_setting('client_encoding'), \
    current_setting('statement_timeout'), current_setting('default_transaction_read_only'), \
    current_setting('standard_conforming_strings'), current_setting('app.mark', true), \
    current_setting('app.other', true), current_setting('app.touched', true), current_user, session_user, \
    current_setting('role'), '01/02/2024'::date, interval '1 day 02:03'";

const SETS: &[&str] = &[
    "set datestyle = 'German'",
    "set datestyle to 'SQL, DMY'",
    "SET DateStyle = ISO, MDY",
    "set timezone = 'Asia/Tokyo'",
    "set time zone 'America/New_York'",
    "set time zone interval '-08:00' hour to minute",
    "set intervalstyle = 'iso_8601'",
    "set search_path = c$c, public",
    "set search_path = \"$user\", 'odd, name', c$c",
    "set application_name = 'client $c'",
    "set application_name = 'quote '' and \\ backslash'",
    "set bytea_output = escape",
    "set extra_float_digits = 0",
    "set client_encoding = 'LATIN1'",
    "set names 'UTF8'",
    "set statement_timeout = '100s'",
    "set standard_conforming_strings = off",
    "set app.mark = 'mark of $c'",
    "set app.other to 'a', 'b'",
    "set app.mark = ''",
    "set session characteristics as transaction read only",
    "set session characteristics as transaction read write",
    "select set_config('app.mark', 'by function', false)",
    "select set_config('datestyle', 'German', false), set_config('app.other', 'x', false)",
    "select set_config('app.other', '', false)",
    "/* hidden */ set app.mark = 'behind a comment'",
    "select 1; set app.mark = 'second in line'; select 2",
    "set app.mark = 'lost'; select 1 / 0",
    "do $$begin perform set_config('app.mark', 'by do', false); end$$",
    "do $$begin set app.other = 'in do'; end$$",
];

const UNSETS: &[&str] = &[
    "reset datestyle",
    "reset timezone",
    "reset application_name",
    "reset app.mark",
    "reset search_path",
    "reset all",
    "RESET ALL",
    "discard all",
    "discard plans",
    "set timezone to default",
    "set datestyle = default",
    "set app.mark = default",
    "reset session authorization",
    "set role none",
];

/// One row of everything.
pub(super) fn look(pen: &mut Pen) {
    pen.query(LOOK);
}

/// Sets and unsets, outside transactions and inside of such that end in one way or the other.
pub(super) fn settings(pen: &mut Pen) {
    for _ in 0..pen.between(1, 3) {
        let unsets = pen.chance(0.3);
        let set = pen.text(if unsets { UNSETS } else { SETS });
        match pen.between(0, 9) {
            0 => {
                pen.query("begin");
                pen.query(&set);
                let inner = pen.text(SETS);
                pen.query(&inner.replacen("set ", "set local ", 1));
                let end = pen.text(&["commit", "rollback"]);
                pen.query(&end);
                pen.query("rollback");
            }
            1 => {
                for sql in ["begin; savepoint a", &set, "rollback to a", "commit", "rollback"] {
                    pen.query(sql);
                }
            }
            2 => pen.query(&format!("begin; {set}; rollback")),
            _ => pen.query(&set),
        }
        if set.eq_ignore_ascii_case("discard all") {
            pen.statements.clear();
        }
        if pen.chance(0.4) {
            look(pen);
        }
    }
    let show = pen.text(&[
        "show datestyle",
        "show timezone",
        "select current_setting('app.mark', true) is null",
        "show app.other",
        "select word from items order by id limit 1",
    ]);
    pen.query(&show);
}

/// Functions and triggers that change the session.
pub(super) fn in_functions(pen: &mut Pen) {
    let mut calls = vec![
        "select kit.mark('by $c')",
        "select kit.mark_once('gone at once')",
        "select kit.style('German')",
        "select kit.guarded()",
        "call kit.marks('by a procedure')",
        "begin; select kit.mark('undone'); rollback",
        "begin; select kit.style('SQL, DMY'); commit",
        "select count(kit.mark(word)) from c$c.items",
    ];
    if pen.is_careful {
        calls.push("insert into c$c.touched values (1, 'by a trigger')");
        calls.push("begin; insert into c$c.touched values (1, 'undone'); rollback");
    }
    let call = pen.text(&calls);
    pen.query(&call);
    look(pen);
}

/// Another role, by SET ROLE or SET SESSION AUTHORIZATION; taken away while it is in use.
pub(super) fn roles(pen: &mut Pen) {
    let client = pen.client;
    let set = if pen.is_superuser && pen.chance(0.5) {
        pen.text(&[
            "set session authorization bob",
            "set session authorization 'alice'",
        ])
    } else {
        pen.text(&[
            "set role limited_$c",
            "set session role 'limited_$c'",
            "begin; set local role limited_$c; commit",
        ])
    };
    pen.query(&set);
    pen.query("select current_user, session_user, current_setting('role')");
    if pen.chance(0.3) && !pen.is_superuser {
        pen.acts
            .push(Act::Beside(format!("revoke limited_{client} from alice, bob")));
        for sql in ["select current_user, session_user", "select 'still there'"] {
            pen.batch(Batch::query(sql).or_end("42501"));
        }
        let unset = pen.text(&["reset role", "set role none"]);
        pen.batch(Batch::query(unset).or_end("42501"));
        pen.acts
            .push(Act::Beside(format!("grant limited_{client} to alice, bob")));
        // Who was ended comes again.
        pen.acts.push(Act::Leave { says_so: true });
        pen.acts.push(Act::Enter);
        pen.statements.clear();
        return;
    }
    let unset = pen.text(&["reset role", "set role none", "discard all", "reset all"]);
    if unset == "discard all" {
        pen.statements.clear();
    }
    pen.query(&unset);
    pen.query("reset session authorization");
    pen.query("select current_user, session_user");
}

/// PREPARE, EXECUTE, DEALLOCATE.
pub(super) fn sql_statements(pen: &mut Pen) {
    for _ in 0..pen.between(2, 4) {
        let sql = pen.text(&[
            "prepare q1 as select 'first'",
            "prepare q2 (int) as select $1 + 1",
            "prepare q3 as insert into c$c.items (word) values ('prepared') returning id",
            "execute q1",
            "execute q2(41)",
            "execute q3",
            "explain (costs off) execute q2(1)",
            "deallocate q1",
            "deallocate prepare q2",
            "deallocate all",
            // Alone in its Query: Postgres remembers the whole Query as the statement's text, and what has other
            // statements around it cannot be prepared again.
            "begin",
            "prepare q1 as select 'in a transaction'",
            "rollback",
            "begin; deallocate q2; rollback",
            "prepare q4 as select '01/02/2024'::date",
            "execute q4",
            "select name, statement, from_sql from pg_prepared_statements where from_sql order by name",
            "create table if not exists c$c.made as execute q1",
        ]);
        if sql == "deallocate all" {
            pen.statements.clear();
        }
        pen.query(&sql);
    }
    pen.query("rollback");
}
