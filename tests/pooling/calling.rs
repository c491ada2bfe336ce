//! Functions, and definitions that call some: what they do to a session shows in no statement, and reaches nobody else.

use super::{
    leaking::{LOOK, each},
    line::Who,
    pooled::Pooled,
    said::Said,
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::SUPERUSER;

const HIDDEN: &str = "
    drop schema if exists hiding cascade; create schema hiding;
    create function hiding.loops() returns int language plpgsql as
        $$declare r record; begin for r in select 1 loop set datestyle = 'German'; end loop; return 1; end$$;
    create function hiding.runs(sql text) returns int language plpgsql as $$begin execute sql; return 1; end$$;
    create function hiding.step(int, int) returns int language plpgsql as
        $$begin perform set_config('app.mark', 'by an aggregate', false); return 1; end$$;
    create aggregate hiding.total(int) (sfunc = hiding.step, stype = int, initcond = '0');
    create function hiding.atomic() returns text begin atomic select set_config('app.mark', 'atomic', false); end;
    create function hiding.definer() returns int language plpgsql security definer as
        $$begin set session datestyle to 'German'; return 1; end$$;
    create function hiding.undone() returns int language plpgsql as
        $$begin begin set datestyle = 'German'; raise 'no'; exception when others then return 0; end; end$$;
    create function hiding.back() returns int language plpgsql set datestyle = 'German' as
        $$begin perform set_config('app.mark', 'from within', false); return 1; end$$;
    create function hiding.path() returns int language plpgsql as
        $$begin execute 'set search_path = hiding'; return 1; end$$;
    create view hiding.settings as select name, setting from pg_settings;
    create function hiding.prepares() returns int language plpgsql as
        $$begin execute 'prepare hidden as select 1'; return 1; end$$";

#[tokio::test]
async fn what_functions_do_reaches_nobody_else() {
    let sets = [
        "select hiding.loops()",
        "select hiding.runs('set datestyle = ''German''')",
        "select hiding.runs($$set app.mark = 'ran'$$)",
        "select hiding.total(1)",
        "select hiding.atomic()",
        "select hiding.definer()",
        "select hiding.undone()",
        "select hiding.back()",
        "select hiding.path()",
        "update hiding.settings set setting = 'German' where name = 'DateStyle'",
        "select hiding.prepares()",
        "deallocate hidden",
        "select \"hiding\".\"loops\"()",
        "select loops() from (select set_config('search_path', 'hiding', true)) s, hiding.loops()",
    ];
    each("call-functions", HIDDEN, &sets).await;
}

/// Postgres' own functions where no statement names them; nothing in the catalogue depends on these.
#[tokio::test]
async fn what_definitions_do_reaches_nobody_else() {
    let set = "set_config('app.mark', 'hidden', false)";
    let definitions = [
        (
            format!("create view def as select {set} as x"),
            "select count(x) from def",
            "drop view def",
        ),
        (
            format!("create table def (x text default {set}, y int)"),
            "insert into def (y) values (1)",
            "drop table def",
        ),
        (
            format!("create table def (y int check ({set} is not null))"),
            "insert into def values (1)",
            "drop table def",
        ),
        (
            format!("create table def (y int); create rule r as on insert to def do also select {set}"),
            "insert into def values (1)",
            "drop table def",
        ),
        (
            format!("create domain def as int check ({set} is not null)"),
            "select 1::def",
            "drop domain def",
        ),
        (
            "create function fires() returns trigger language plpgsql as \
             $$begin set datestyle = 'German'; return new; end$$; \
             create table def (y int); create trigger t before insert on def for each row execute function fires()"
                .to_owned(),
            "copy def from stdin",
            "drop table def; drop function fires",
        ),
        (
            "create function watches() returns event_trigger language plpgsql as \
             $$begin perform set_config('app.mark', 'by an event', false); end$$; \
             create event trigger e on ddl_command_start when tag in ('CREATE CAST', 'COMMENT') \
             execute function watches(); create table def ()"
                .to_owned(),
            "comment on table def is 'x'",
            "drop event trigger e; drop function watches; drop table def",
        ),
        (
            format!(
                "create function adds(int, int) returns int language sql as $$select 1 from {set}$$; \
                 create operator ### (leftarg = int, rightarg = int, function = adds)"
            ),
            "select 1 ### 2",
            "drop operator ### (int, int); drop function adds",
        ),
    ];
    let mut script = Script::new("call-definitions", 1);
    for (define, call, drop) in &definitions {
        script = script.query(1, define);
        script = if call.starts_with("copy") {
            script.say(0, [Said::query(*call), Said::data("1\n"), Said::CopyDone])
        } else {
            script.query(0, call)
        };
        script = script.query(1, LOOK).query(0, LOOK);
        script = script.query(0, "reset all").query(1, LOOK).query(1, drop);
    }
    script.play().await;
}

/// Prepared under one definition of a function, executed under another.
#[tokio::test]
async fn a_function_that_is_replaced_later_is_looked_at_again() {
    let make = |body: &str| {
        format!(
            "create or replace function turns() returns text language plpgsql as $$begin return {body}; end$$"
        )
    };
    let run = || [Said::bind("", "s", &[]), Said::execute("", 0), Said::Sync];
    Script::new("call-replaced", 1)
        .before(&make("'harmless'"))
        .say(0, [Said::parse("s", "select turns()"), Said::Sync])
        .say(0, run())
        .query(1, LOOK)
        .query(1, &make("set_config('app.mark', 'turned', false)"))
        .say(0, run())
        .query(1, LOOK)
        .query(0, LOOK)
        .play()
        .await;
}

/// Migrations go past transaction pooling, and their functions are called in it.
#[tokio::test]
async fn a_function_that_is_made_in_session_pooling_is_known() {
    const ENDPOINT: &str = "call-migrated";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut client, mut other) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    client.query("select 'its functions are known now'").await;
    let who = Who::new(SUPERUSER, "postgres").with("options", "-c pgwake.pool=session");
    let (mut migrates, _) = pooled.client(ENDPOINT, &who).await;
    let make = "create function migrated() returns text language sql as \
        $$select set_config('app.mark', 'migrated', false)$$";
    for (make, call) in [
        (make, "select migrated()"),
        ("create view def as select migrated()", "select * from def"),
    ] {
        assert!(errors(&migrates.query(make).await).is_empty(), "{make}");
        assert_eq!(values(&client.query(call).await), ["migrated"]);
        let look = "select current_setting('app.mark', true)";
        assert_eq!(values(&other.query(look).await), ["\u{2205}"], "{call}");
        assert_eq!(values(&client.query(look).await), ["migrated"], "{call}");
        client.query("reset all").await;
    }
}

/// What was made before pgwake first came to the database is known to its first statement.
#[tokio::test]
async fn what_functions_do_in_the_first_statement_of_a_wake_is_its_clients_own() {
    const ENDPOINT: &str = "call-at-once";
    const LOOK: &str =
        "select current_setting('datestyle'), coalesce(current_setting('app.mark', true), 'none')";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let direct = pooled.direct().await;
    let define = "create function at_once() returns int language plpgsql as $$begin
            perform set_config('app.mark', 'at once', false); set datestyle = 'German'; return 1;
        end$$";
    direct.batch_execute(define).await.unwrap();
    let mut client = pooled.line(ENDPOINT).await;
    assert_eq!(values(&client.query("select at_once()").await), ["1"]);
    let mut other = pooled.line(ENDPOINT).await;
    assert_eq!(values(&other.query(LOOK).await), ["ISO, MDY", "none"]);
    assert_eq!(values(&client.query(LOOK).await), ["German, DMY", "at once"]);
}
