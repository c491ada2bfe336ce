//! What a client has set stays with it over all its turns, and reaches nobody else.

use super::{
    act::{Act, Batch},
    line::Who,
    pooled::{Pooled, pool},
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::{PASSWORD, Postgres, Version};

pub(super) const LOOK: &str = "select current_setting('datestyle'), current_setting('search_path'), \
    current_setting('application_name'), current_setting('app.tenant_id', true), '01/02/2024'::date";

pub(super) fn who(user: &str) -> Who {
    Who::new(user, "postgres")
}

#[tokio::test]
async fn a_set_stays_with_its_client_and_reaches_no_other() {
    let mut script = Script::new("carry-set", 2);
    for client in 0..6 {
        script = script.queries(
            client,
            &[
                &format!("set app.tenant_id = 'tenant {client}'"),
                &format!("set application_name = 'client {client}'"),
                &format!("set search_path = schema_{client}, public"),
                [
                    "set datestyle = 'ISO, DMY'",
                    "select 1",
                    "set datestyle = 'German'",
                ][client % 3],
            ],
        );
    }
    for client in [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0] {
        script = script.query(client, LOOK);
    }
    // Who comes later finds nothing of it.
    let played = script.query(6, LOOK).play().await;
    assert_eq!(values(&played.told(6))[3], "\u{2205}");
}

/// The session rests with the name of a client that has left; the next one came without a name.
#[tokio::test]
async fn nobody_is_told_the_application_name_of_a_client_that_has_left() {
    let leaves = || Act::Leave { says_so: true };
    let mut script = Script::new("carry-name", 1)
        .who(who("postgres").with("application_name", "first"))
        .who(who("postgres"))
        .who(who("postgres").with("application_name", "third"))
        .who(who("postgres"));
    for client in [0, 1, 2, 1, 0, 3] {
        script = script
            .query(client, LOOK)
            .query(client, "select 1")
            .act(client, leaves());
        script = script.act(client, Act::Enter).act(client, leaves());
    }
    script
        .query(1, "set application_name = 'set'")
        .query(3, LOOK)
        .query(1, "reset all")
        .query(3, LOOK)
        .query(1, LOOK)
        .act(1, leaves())
        .query(2, LOOK)
        .play()
        .await;
}

#[tokio::test]
async fn a_set_in_a_transaction_goes_the_way_of_its_transaction() {
    let mut script = Script::new("carry-transaction", 1);
    let ends = [
        &[
            "begin",
            "set app.tenant_id = 'a'; set datestyle = 'German'",
            "commit",
        ][..],
        &["begin; set app.tenant_id = 'b'", "rollback"],
        &["begin; set app.tenant_id = 'c'", "select 1 / 0", "commit"],
        &["begin; savepoint a; set app.tenant_id = 'd'; rollback to a; commit"],
        &["begin; savepoint a; set app.tenant_id = 'e'; release a; commit"],
        &[
            "begin",
            "set local app.tenant_id = 'f'; set local datestyle = 'ISO'",
            "commit",
        ],
        &["begin; select set_config('app.tenant_id', 'g', true); commit"],
        &["select set_config('app.tenant_id', 'h', true)"],
        &["set app.tenant_id = 'i'; select 1 / 0"],
        &[
            "begin; set app.tenant_id = 'j'; commit and chain",
            "set app.tenant_id = 'k'; rollback",
        ],
        &["begin; set local app.tenant_id = 'l'; set app.tenant_id = 'm'; commit"],
    ];
    for end in ends {
        script = script
            .queries(0, end)
            .query(1, STRANGER)
            .query(0, LOOK)
            .query(1, LOOK);
    }
    script.play().await;
}

#[tokio::test]
async fn values_are_carried_whole_and_as_they_were_written() {
    let long = "long ".repeat(4_000);
    let mut script = Script::new("carry-values", 1);
    for set in [
        "set search_path = \"$user\", 'with space', \"quo\"\"te\", public",
        "set search_path = ''",
        "set app.tenant_id = 'it''s \\ and \"'",
        "set app.tenant_id to 'a', 'list'",
        &format!("set app.tenant_id = '{long}'"),
        "set datestyle = 'SQL'",
        "set timezone = '<-03>+03'",
        "set time zone interval '-08:30' hour to minute",
        "set work_mem = '1234kB'",
        "set statement_timeout = '100s'",
        "set \"app\".\"MixedCase\" = 'x'",
        "set session characteristics as transaction isolation level serializable, read only",
        "set client_encoding = 'LATIN1'",
        "set temp_tablespaces = ''",
        "set default_text_search_config = 'pg_catalog.german'",
    ] {
        script = script
            .query(0, set)
            .query(1, STRANGER)
            .query(0, LOOK)
            .query(
                0,
                "select current_setting('timezone'), current_setting('work_mem'), current_setting('statement_timeout'), \
                 current_setting('app.MixedCase', true), current_setting('default_transaction_isolation'), \
                 current_setting('default_transaction_read_only'), current_setting('client_encoding'), \
                 current_setting('default_text_search_config'), length(current_setting('app.tenant_id', true))",
            )
            .query(1, LOOK);
    }
    script.play().await;
}

const FUNCTIONS: &str = "
    create or replace function quietly_set(text) returns int language plpgsql as
        $$begin perform set_config('app.tenant_id', $1, false); perform set_config('datestyle', 'German', false); return 1; end$$;
    create or replace function quietly_called(text) returns int language sql as $$select quietly_set($1)$$;
    create or replace procedure quietly() language plpgsql as $$begin perform quietly_set('by procedure'); end$$;
    create or replace function quiet_trigger() returns trigger language plpgsql as
        $$begin perform quietly_set('by trigger'); return new; end$$;
    drop table if exists watched;
    create table watched (id int default quietly_called('by default'));
    create table if not exists plain (id int);
    create or replace view looked as select quietly_set('by view')";

/// `SELECT f()` shows a proxy no word of what f does.
#[tokio::test]
async fn what_a_function_sets_stays_with_its_client_and_reaches_no_other() {
    let mut script = Script::new("carry-functions", 1).before(FUNCTIONS);
    let calls = [
        "select quietly_set('directly')",
        "select quietly_called('through another')",
        "call quietly()",
        "insert into watched default values",
        "select * from looked",
        "insert into watched select quietly_set('in a list') from generate_series(1, 3)",
        "begin; select quietly_set('undone'); rollback",
        "select \"quietly_set\"('by a quoted name')",
    ];
    for call in calls {
        script = script.query(0, call).query(1, LOOK).query(0, LOOK);
    }
    script.play().await;
}

/// Where no trigger and no other function calls it, its name alone tells.
#[tokio::test]
async fn what_a_function_sets_is_known_by_its_name_where_nothing_hides_it() {
    let mut script = Script::new("carry-function", 1).before(
        "create or replace function plainly_set(text) returns int language plpgsql as \
         $$begin perform set_config('app.tenant_id', $1, false); return 1; end$$; create table if not exists plain (id int)",
    );
    for call in [
        "select plainly_set('directly')",
        "insert into plain select plainly_set('in a list') from generate_series(1, 3)",
        "begin; select plainly_set('undone'); rollback",
        "select \"plainly_set\"('by a quoted name')",
    ] {
        script = script.query(0, call).query(1, LOOK).query(0, LOOK);
    }
    script.play().await;
}

#[tokio::test]
async fn what_a_trigger_sets_stays_with_its_client_and_reaches_no_other() {
    let trigger =
        "create trigger quiet before insert on watched for each row execute function quiet_trigger()";
    Script::new("carry-triggers", 1)
        .before(FUNCTIONS)
        .before(trigger)
        .query(0, "insert into watched values (1)")
        .query(1, LOOK)
        .query(0, LOOK)
        .query(1, "begin; insert into watched values (1); rollback")
        .query(0, LOOK)
        .query(1, LOOK)
        .play()
        .await;
}

/// A function that is made while clients are served is as good as one that was there.
#[tokio::test]
async fn a_function_that_is_new_is_known() {
    let make = "create or replace function brand_new() returns text language plpgsql as \
                $$begin return set_config('app.tenant_id', 'brand new', false); end$$";
    Script::new("carry-new", 1)
        .before("drop function if exists brand_new")
        .queries(0, &["select 1", make, "select brand_new()"])
        .query(1, LOOK)
        .query(0, LOOK)
        .play()
        .await;
}

#[tokio::test]
async fn a_role_is_carried_and_reaches_no_other() {
    let roles = "do $$begin create role limited; exception when duplicate_object then null; end$$; \
                 do $$begin create role other login; exception when duplicate_object then null; end$$; \
                 drop table if exists hidden; create table hidden (id int)";
    let me = "select current_user, session_user, current_setting('role'), current_setting('is_superuser')";
    let mut script = Script::new("carry-role", 1).before(roles);
    for set in [
        "set role limited",
        "reset role",
        "set session authorization other",
        "set role none",
        "reset session authorization",
        "begin; set local role limited; commit",
        "begin; set role limited; rollback",
        "set role limited; set session authorization default",
        "set session authorization other; set role other",
        "discard all",
        "set role limited; reset all",
        "select set_config('role', 'limited', false)",
        "set role none",
    ] {
        script = script
            .query(0, set)
            .query(1, me)
            .query(0, me)
            .query(0, "select count(*) from hidden")
            .query(1, "select count(*) from hidden");
    }
    script.play().await;
}

/// Numbers of a sequence that another client has drawn are never told; Postgres' own error is as good.
#[tokio::test]
async fn a_strangers_sequence_numbers_are_never_told() {
    let before = "drop table if exists numbered; create table numbered (id serial, who text)";
    let mut script = Script::new("carry-sequences", 1).before(before);
    for client in [0, 1, 2] {
        let insert = format!("insert into numbered (who) values ('{client}')");
        script = script.query(client, &insert);
    }
    for client in [0, 1, 2, 3] {
        script = script
            .query_or(client, "select lastval()", "55000")
            .query_or(client, "select currval('numbered_id_seq')", "55000")
            .query_or(client, "/* x */ SELECT LastVal(), 1", "55000");
    }
    let played = script
        .query(0, "begin; insert into numbered (who) values ('0')")
        .query(
            0,
            "select lastval() = max(id), currval('numbered_id_seq') = max(id) from numbered",
        )
        .query(0, "commit")
        .play()
        .await;
    assert_eq!(errors(&played.told(3)), ["55000", "55000", "55000"]);
}

/// PREPARE of SQL belongs to the client, too.
#[tokio::test]
async fn statements_that_sql_prepared_are_carried() {
    let list = "select name, statement from pg_prepared_statements where from_sql order by name";
    let mut script = Script::new("carry-prepare", 1);
    for (client, date) in [(0, "German"), (1, "SQL, MDY")] {
        script = script.queries(
            client,
            &[
                &format!("set datestyle = '{date}'"),
                &format!("prepare mine as select 'of {client}', '01/02/2024'::date"),
                "prepare with_values (int, text) as select $1 + 1, $2;",
            ],
        );
    }
    for sql in [
        "execute mine",
        "execute with_values(41, 'it''s')",
        "explain (costs off) execute with_values(1, 'x')",
        list,
        "begin; deallocate mine; rollback",
        "execute mine",
        "deallocate with_values",
        "prepare mine as select 'twice'",
        list,
        "deallocate all",
        "execute mine",
        list,
    ] {
        script = script.query(0, sql).query(1, list).query(2, list);
    }
    script.query(1, "execute mine").play().await;
}

/// What shows prepared statements shows no stranger's, and none that pgwake has for itself.
#[tokio::test]
async fn a_client_is_shown_its_own_statements_alone() {
    let list = "select statement, from_sql from pg_prepared_statements order by 1";
    let extended = || {
        vec![
            Said::parse("", list),
            Said::bind("", "", &[]),
            Said::execute("", 0),
            Said::Sync,
        ]
    };
    Script::new("carry-shown", 1)
        .say(1, prepare("theirs", "select 'of a stranger'"))
        .query(0, list)
        .queries(0, &["begin", "select 1", "commit", list])
        .queries(0, &["begin", list, list, "commit"])
        .say(0, prepare("mine", "select 'mine'"))
        .query(0, list)
        .query(0, "begin")
        .say(0, extended())
        .query(0, "commit")
        .say(0, execute("mine", &[]))
        .say(0, vec![Said::close(Kind::Statement, "mine"), Said::Sync])
        .query(0, list)
        .say(1, execute("theirs", &[]))
        .query(0, "begin")
        .say(0, extended())
        .query(0, "commit")
        // pgwake has none of the names that it had before.
        .queries(0, &["begin", "select 2", "commit"])
        .play()
        .await;
}

/// As a session of Postgres does: what has changed holds for those that are opened afterwards.
#[tokio::test]
async fn a_clients_session_stays_as_it_is_when_roles_change() {
    Script::new("carry-roles", 4)
        .before("drop table if exists vanishing; create table vanishing (id int)")
        .queries(0, &["show datestyle", "prepare p as select * from vanishing"])
        .query(1, "alter role postgres set datestyle = 'German'")
        .query(1, "drop table vanishing")
        .queries(0, &["execute p", "show datestyle"])
        .query(2, "show datestyle")
        .query(1, "show datestyle")
        .act(1, Act::Leave { says_so: true })
        .query(3, "show datestyle")
        .query(0, "show datestyle")
        .query(3, "alter role postgres reset datestyle")
        .play()
        .await;
}

/// A role that was taken away meanwhile cannot be set again: the client is ended and never runs as the stronger one
/// that it logged in as.
#[tokio::test]
async fn a_role_that_was_revoked_meanwhile_ends_its_client() {
    const ENDPOINT: &str = "carry-revoked";
    let postgres = Postgres::start(Version::Debian).await;
    let password = PASSWORD.replace('\'', "''");
    let roles = format!("create role taken; create role taker login password '{password}'");
    postgres.connect().await.batch_execute(&roles).await.unwrap();
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(1, ""))]).await;
    let or_ended = |said: &[Said]| Act::Say(Batch::new(said.to_vec()).or_end("42501"));
    let me = Said::query("select current_user");
    Script::new(ENDPOINT, 1)
        .before("grant taken to taker")
        .who(who("postgres"))
        .who(who("taker"))
        .query(0, "select 1")
        .query(1, "set role taken")
        .act(0, Act::Beside("revoke taken from taker".to_owned()))
        .query(0, STRANGER)
        .act(1, or_ended(&[me.clone(), me.clone()]))
        .act(1, or_ended(&[me]))
        .play_on(&pooled)
        .await;
}
