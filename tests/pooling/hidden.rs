//! Words that change a session, where one does not look for them: behind many bytes, in odd spelling, in what is
//! executed only later.

use super::{
    act::Batch,
    said::{Said, execute, prepare},
    script::Script,
};
use crate::pooling::act::Act;

const LOOK: &str = "select current_setting('datestyle'), current_setting('app.mark', true), \
    current_setting('app.other', true), current_setting('search_path')";

/// Each is said by one client; another one looks, then the first one.
async fn each(endpoint: &str, sessions: usize, sets: &[String]) {
    let mut script = Script::new(endpoint, sessions);
    for set in sets {
        script = script.query(0, set).query(1, LOOK).query(0, LOOK);
        let extended = !set.contains(';');
        if extended {
            script = script
                .query(0, "reset all")
                .say(0, Said::run(set, &[]))
                .say(0, [Said::Sync]);
            script = script.query(1, LOOK).query(0, LOOK);
        }
        script = script.query(0, "reset all").query(1, LOOK);
    }
    script.play().await;
}

#[tokio::test]
async fn words_in_odd_spelling_are_seen() {
    let sets = [
        "sEt\n\tapp.mark\n=\n'odd'",
        "set/**/app.mark/* = */ = 'odd'",
        "/* a /* nested */ comment */ set app.mark to 'odd'",
        "-- a line\nset app.mark = 'odd'",
        ";;; set app.mark = 'odd'",
        "(select set_config('app.mark', 'odd', false))",
        "select 1, (select pg_catalog . set_config ( 'app.mark' , 'odd' , false ) )",
        "select \"set_config\"('app.mark', 'odd', false)",
        "select pg_catalog.\"set_config\"('app.mark', 'odd', 'f')",
        "with a as (select set_config('app.mark', 'odd', false)) select * from a",
        "select set_config('app.mark', 'odd', 1 = 2)",
        "values (set_config('app.mark', 'odd', false))",
        "explain (analyze, costs off, timing off, summary off) select set_config('app.mark', 'odd', false)",
        "select case when set_config('app.mark', 'odd', false) = '' then 1 / 0 else 1 end",
        "select set_config('app.mark', 'true', false), set_config('app.other', 'x', true)",
        "select set_config('app.mark', 'x', true), set_config('app.other', 'y', false)",
        "set app.mark = $$dollar 'quoted'$$",
        "set app.mark = e'escaped \\'quote\\''",
        "set app.mark = U&'\\0061'",
        "set session app.mark = 'odd'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; set app.mark = 'odd'",
        "set local app.mark = 'outside'",
        "begin; set local app.mark = 'local'; set app.other = 'lasting'; commit",
        "copy (select set_config('app.mark', 'copied', false)) to stdout",
        "update pg_settings set setting = 'German' where name = 'DateStyle'",
    ];
    each("hidden-spelling", 1, &sets.map(str::to_owned)).await;
}

/// Which setting it is cannot be read in the text: the session may have to stay with its client.
#[tokio::test]
async fn a_setting_whose_name_cannot_be_read_reaches_nobody_else() {
    let sets = [
        "select set_config(name, value, false) from (values ('app.mark', 'a'), ('app.other', 'b')) v (name, value)",
        "select set_config('app.' || 'mark', 'odd', false)",
        "select U&\"set\\005fconfig\"('app.mark', 'odd', false)",
        "select query_to_xml('select set_config(''app.mark'', ''xml'', false)', true, false, '')",
        "do $$begin execute 'set app' || '.mark = ''odd'''; end$$",
        "do $$begin perform set_config('app.' || name, 'odd', false) from (values ('mark'), ('other')) v (name); end$$",
    ];
    for (number, set) in sets.iter().enumerate() {
        each(&format!("hidden-name-{number}"), 2, &[(*set).to_owned()]).await;
    }
}

#[tokio::test]
async fn words_behind_many_bytes_are_seen() {
    let mut sets = Vec::new();
    for size in [100, 8_100, 8_190, 20_000, 70_000] {
        let long = "x".repeat(size);
        sets.push(format!("select length('{long}'); set app.mark = 'behind'"));
        sets.push(format!("/* {long} */ set app.mark = 'behind a comment'"));
        sets.push(format!(
            "select '{long}', set_config('app.mark', 'behind a value', false)"
        ));
        sets.push(format!("set app.mark = '{long}'"));
        sets.push(format!(
            "begin; select length('{long}'); set datestyle = 'German'; commit"
        ));
        sets.push(format!(
            "select length('{long}'); set app.mark = 'undone'; select 1 / 0"
        ));
    }
    each("hidden-long", 1, &sets).await;
}

/// Who asked so late in a text was shown what strangers have prepared.
#[tokio::test]
async fn a_client_is_shown_its_own_statements_alone_however_long_it_asks() {
    let mut script = Script::new("hidden-shown", 1)
        .say(0, prepare("mine", "select 'mine'"))
        .say(1, prepare("theirs", "select 'of a stranger'"));
    for size in [8_100, 20_000, 70_000, 1_100_000] {
        let long = "x".repeat(size);
        let shown = format!("select length('{long}'), statement from pg_prepared_statements order by 2");
        script = script
            .query(0, &shown)
            .queries(0, &["begin", &shown, "commit"])
            .queries(1, &["select 1", "begin", "select 1", "commit"])
            .queries(0, &["begin", "select 1 / 0", &format!("rollback; {shown}")])
            .say(1, execute("theirs", &[]));
    }
    let shows = "create or replace function shown() returns setof text language sql as \
        $$select statement from pg_prepared_statements order by 1$$; \
        create or replace view inner_view as select statement as what from pg_prepared_statements; \
        create or replace view shown_too as select what from inner_view";
    script = script.before(shows);
    for sql in ["select shown()", "select what from shown_too order by 1"] {
        script = script.say(1, execute("theirs", &[])).query(0, sql);
    }
    script
        .say(1, execute("theirs", &[]))
        .query(
            0,
            "create or replace view made as select statement as what from pg_prepared_statements",
        )
        .say(1, execute("theirs", &[]))
        .query(0, "select what from made order by 1")
        .play()
        .await;
}

/// A long BEGIN is one, a long end is one, and what is in between is whose it is.
#[tokio::test]
async fn long_statements_pin_and_end_as_short_ones_do() {
    let long = "x".repeat(20_000);
    let pins = |sql: String| Act::Say(Batch::query(sql).pins());
    Script::new("hidden-pins", 2)
        .query(0, &format!("/* {long} */ begin"))
        .query(1, LOOK)
        .query(0, &format!("commit /* {long} */"))
        .act(
            0,
            pins(format!(
                "select length('{long}'); create temp table mine (id int)"
            )),
        )
        .query(1, "select 'a stranger'")
        .query(0, "select count(*) from mine")
        .query(0, &format!("drop /* {long} */ table mine"))
        .query(1, "select 'a stranger'")
        .act(0, pins(format!("listen /* {long} */ news")))
        .query(1, "select 'a stranger'")
        .query(0, "notify news, 'heard'")
        .query(0, &format!("/* {long} */ unlisten *"))
        .query(0, "notify news, 'not heard'")
        .play()
        .await;
}

/// Prepared in one turn, executed in another: what it does is done then.
#[tokio::test]
async fn what_is_executed_later_is_seen_then() {
    let mut script = Script::new("hidden-later", 1);
    let later = [
        "set app.mark = 'later'",
        "select set_config('app.mark', $1, false)",
        "select set_config($1, 'bound name', false)",
        "reset all",
        "discard all",
        "set local app.mark = 'outside'",
    ];
    for (number, sql) in later.iter().enumerate() {
        let name = format!("s{number}");
        let values: &[&str] = match number {
            1 => &["bound"],
            2 => &["app.other"],
            _ => &[],
        };
        script = script
            .say(0, [Said::parse(&name, sql), Said::Sync])
            .query(1, LOOK)
            .say(
                0,
                [Said::bind("", &name, values), Said::execute("", 0), Said::Sync],
            )
            .query(1, LOOK)
            .query(0, LOOK);
    }
    for sql in [
        "prepare p as select set_config('app.mark', 'by execute', false)",
        "execute p",
        "deallocate p",
        "prepare p (text) as select set_config('app.other', $1, false)",
        "execute p('by value')",
        "begin; declare c cursor for select set_config('app.mark', 'by cursor', false)",
        "fetch 1 from c",
        "commit",
        "create or replace temp view v as select 1; drop view v",
    ] {
        script = script.query(0, sql);
        if !sql.starts_with("begin") && !sql.starts_with("fetch") {
            script = script.query(1, LOOK);
        }
        script = script.query(0, LOOK);
    }
    script.play().await;
}

/// What had committed in a block that failed stayed on the session, and its client was given back what it had before.
#[tokio::test]
async fn what_a_block_commits_before_it_fails_stays() {
    let block = "do $$begin set datestyle = 'ISO, DMY'; commit; perform 1 / 0; end$$";
    let shown = "select '2024-02-01'::date";
    Script::new("hidden-block", 1)
        .queries(0, &["set datestyle = 'German'", block])
        .query(1, shown)
        .queries(0, &[shown, "reset datestyle"])
        .say(0, [Said::run(block, &[]).to_vec(), vec![Said::Sync]].concat())
        .query(1, shown)
        .query(0, shown)
        .play()
        .await;
}
