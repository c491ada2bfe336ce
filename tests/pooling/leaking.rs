//! Ways to leave something in a session for whoever uses it next: each is said by one client, and another one looks
//! for it at once.

use super::{
    act::{Act, Batch},
    line::{Way, Who},
    pooled::Pooled,
    said::Said,
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::PASSWORD;

/// What a stranger may find.
pub(super) const LOOK: &str = "select current_setting('datestyle'), current_setting('app.mark', true), \
    current_setting('search_path'), current_setting('local.mark', true), current_setting('work_mem'), \
    current_setting('timezone'), current_setting('client_encoding'), current_user, session_user, \
    current_setting('default_transaction_isolation'), current_setting('xmloption'), \
    current_setting('statement_timeout'), (select count(*) from pg_prepared_statements where from_sql), \
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
    (select count(*) from pg_listening_channels()), (select count(*) from pg_cursors where is_holdable), \
    pg_my_temp_schema() <> 0 and exists (select from pg_depend \
        where refclassid = 'pg_namespace'::regclass and refobjid = pg_my_temp_schema())";

/// Makes a role, unless it is there.
fn may_log_in(role: &str) -> String {
    let password = PASSWORD.replace('\'', "''");
    format!(
        "do $do$begin create role {role} login password '{password}'; \
         exception when duplicate_object then null; end$do$"
    )
}

/// Each is said by client 0, on the only session; client 1 looks, then client 0 does.
pub(super) async fn each(endpoint: &str, before: &str, sets: &[&str]) {
    let mut script = Script::new(endpoint, 1).before(before);
    for set in sets {
        script = script.query(0, set).query(1, LOOK).query(0, LOOK);
        script = script.query(0, "reset all").query(1, LOOK);
    }
    script.play().await;
}

/// Words that look like those of a transaction's own SET, and are none.
#[tokio::test]
async fn a_set_that_looks_local_is_carried() {
    let sets = [
        "set local.mark = 'x'",
        "set \"local\".mark = 'x'",
        "set /* local */ app.mark = 'x'",
        "set -- transaction\n datestyle = 'German'",
        "set /* transaction */ datestyle = 'German'",
        "set session characteristics as transaction isolation level serializable",
        "set time zone 'Asia/Tokyo'",
        "set names 'LATIN1'",
        "set xml option document",
        "begin; set local app.mark = 'a'; set /* local */ work_mem = '5MB'; commit",
        "do $$declare r record; begin for r in update t set x = 1 returning * loop set app.mark = 'in a loop'; end loop; end$$",
        "update pg_settings set setting = 'German' where name = 'DateStyle'",
        "update pg_catalog . \"pg_settings\" set setting = 'German' where name = 'DateStyle'",
        "with u as (select set_config('app.mark', 'with', false)) select * from u",
        "copy (select set_config('app.mark', 'copied', false)) to stdout",
        "explain (analyze, costs off, timing off, summary off) select set_config('app.mark', 'explained', false)",
        "select set_config('statement_timeout', '77s', (select false))",
        "alter role postgres set work_mem = '9MB'; alter role postgres reset work_mem; set work_mem = '7MB'",
    ];
    each(
        "leak-words",
        "drop table if exists t; create table t (x int); insert into t values (0)",
        &sets,
    )
    .await;
}

fn call(function: u32, arguments: &[&str]) -> Said {
    Said::CallTexts {
        function,
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// The name of what is set comes with Bind, or with a call by number.
#[tokio::test]
async fn what_values_name_reaches_nobody_else() {
    let set = |name: &str, value: &str| {
        let run = Said::run("select set_config($1, $2, false)", &[name, value]);
        run.into_iter().chain([Said::Sync]).collect::<Vec<_>>()
    };
    Script::new("leak-values", 1)
        .say(0, set("app.mark", "bound"))
        .query(1, LOOK)
        .query(0, LOOK)
        .say(0, set("DateStyle", "German"))
        .query(1, LOOK)
        .query(0, LOOK)
        .say(0, [call(2078, &["app.mark", "called", "f"])])
        .query(1, LOOK)
        .query(0, LOOK)
        .play()
        .await;
}

/// A seed that no setting shows, in every way that it can be set.
#[tokio::test]
async fn a_seed_reaches_nobody_else() {
    const ENDPOINT: &str = "leak-seed";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let mut other = pooled.line(ENDPOINT).await;
    let bound = |name: &str| {
        let run = Said::run("select set_config($1, '0.5', false)", &[name]);
        run.into_iter().chain([Said::Sync]).collect::<Vec<_>>()
    };
    for seed in [
        vec![Said::query("set seed = 0.5")],
        vec![Said::query("set session \"seed\" to 0.5")],
        vec![Said::query("select set_config('seed', '0.5', false)")],
        vec![Said::query("do $$begin perform setseed(0.5); end$$")],
        bound("seed"),
        bound("SEED"),
        vec![call(1599, &["0.5"])],
        vec![call(2078, &["seed", "0.5", "f"])],
    ] {
        let mut client = pooled.line(ENDPOINT).await;
        let answer = client.ask(&seed, Way::Whole).await;
        assert!(errors(&answer).is_empty(), "{seed:?}");
        client.leave().await;
        let strange = values(&other.query("select random()").await);
        let mut again = pooled.line(ENDPOINT).await;
        let first = values(&again.query("select setseed(0.5); select random()").await);
        again.leave().await;
        assert_ne!(strange[0], first[1], "a stranger goes on behind {seed:?}");
    }
}

/// A setting that the role which logged in may not take back is taken back all the same, and ends nobody.
#[tokio::test]
async fn what_another_role_has_set_ends_nobody() {
    let before = format!(
        "do $$begin create role operates superuser; exception when duplicate_object then null; end$$; {}; \
         grant operates to ordinary",
        may_log_in("ordinary")
    );
    let who = || Who::new("ordinary", "postgres");
    let look = "select current_user, current_setting('log_min_duration_statement')";
    let mut script = Script::new("leak-privileged", 2)
        .before(&before)
        .who(who())
        .who(who())
        .who(who());
    for _ in 0..2 {
        script = script
            .query(0, "set role operates")
            .act(
                0,
                Act::Say(Batch::query("set log_min_duration_statement = 123456").pins()),
            )
            .query(0, look)
            .query(1, look)
            .query(0, "reset role")
            .act(0, Act::Leave { says_so: true })
            .query(1, look)
            .query(2, look)
            .query(1, look);
    }
    script.play().await;
}

/// Who is started with a role of its own keeps it, and may leave it.
#[tokio::test]
async fn a_role_that_the_session_starts_with_is_the_clients_own() {
    let before = format!(
        "do $$begin create role acts; exception when duplicate_object then null; end$$; {}; \
         grant acts to starts; alter role starts set role = 'acts'; alter role starts set app.mark = 'started'",
        may_log_in("starts")
    );
    let who = || Who::new("starts", "postgres");
    let look = "select current_user, session_user, current_setting('role'), current_setting('app.mark')";
    let mut script = Script::new("leak-role", 1).before(&before).who(who()).who(who());
    for set in [
        "select 1",
        "set work_mem = '5MB'",
        "set role none",
        "set app.mark = ''",
        "set app.mark = 'x'",
        "reset role",
        "set role none; reset app.mark",
        "reset role; reset all",
    ] {
        script = script.query(0, set).query(1, look).query(0, look);
    }
    script.play().await;
}

/// A limit that one client has set is no limit for what pgwake does for the next one.
#[tokio::test]
async fn short_time_limits_end_nobody() {
    let pooled = Pooled::start("leak-limits", 1).await;
    let (mut hasty, mut other) = (pooled.line("leak-limits").await, pooled.line("leak-limits").await);
    other.query("set datestyle = 'German'").await;
    let look = values(&other.query(LOOK).await);
    assert_eq!(look[0], "German, DMY");
    for _ in 0..5 {
        for sql in [
            "set statement_timeout = 1; set lock_timeout = 1",
            "set statement_timeout = 0",
            "reset all",
        ] {
            // The client's own limit may end its own statement, and that alone.
            let told = hasty.query(sql).await;
            assert!(
                errors(&told).iter().all(|code| code == "57014"),
                "{sql}: {told:?}"
            );
            assert_eq!(values(&other.query(LOOK).await), look, "after {sql}");
        }
    }
}

/// A statement of SQL's PREPARE that cannot be prepared again is missing, and ends nobody.
#[tokio::test]
async fn a_prepare_whose_table_is_gone_ends_nobody() {
    Script::new("leak-prepare", 1)
        .before("drop table if exists gone; create table gone (id int)")
        .query(0, "prepare walks as select * from gone")
        .query(0, "prepare stays as select 'still there'")
        .query(1, "drop table gone")
        .query(0, "execute stays")
        .query(1, LOOK)
        .query_or(0, "execute walks", "26000")
        .query(0, "execute stays")
        .play()
        .await;
}

/// Whoever leaves in the middle leaves nothing.
#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing() {
    let mut script = Script::new("leak-middle", 1);
    for begun in [
        "begin; set app.mark = 'left'",
        "begin; select set_config('app.' || 'mark', 'left', false)",
        "begin; do $$begin execute 'set app' || '.mark = 1'; end$$",
        "begin; set local datestyle = 'German'",
        "begin; select pg_advisory_lock(1); listen news; create temp table mine ()",
        "begin; select setseed(0.5)",
        "begin; prepare left_behind as select 1",
    ] {
        script = script
            .query(0, begun)
            .act(0, Act::Leave { says_so: false })
            .query(1, LOOK);
    }
    script.play().await;
}

/// A name that was only mentioned at first, and is there later.
#[tokio::test]
async fn a_name_that_comes_late_reaches_nobody_else() {
    let ask = "select current_setting('app.late', true) is null";
    Script::new("leak-late", 1)
        .query(1, ask)
        .query(0, "begin; select 1 / 0; set local app.late = 'x'; commit")
        .query(0, "rollback")
        .query(1, ask)
        .query(0, "begin; set local app.late = 'x'; commit")
        .query(1, ask)
        .query(0, ask)
        .play()
        .await;
}

/// Who keeps its session has its own name there after a reset, not that of the client who opened it.
#[tokio::test]
async fn a_reset_on_a_kept_session_returns_to_ones_own_name() {
    let named = |name: &str| Who::new("postgres", "postgres").with("application_name", name);
    let look = "select current_setting('application_name')";
    Script::new("leak-name", 1)
        .who(named("opens"))
        .who(named("keeps"))
        .query(0, look)
        .act(0, Act::Leave { says_so: true })
        .act(1, Act::Say(Batch::query("listen news").pins()))
        .query(1, "set application_name = 'changed'")
        .query(1, look)
        .query(1, "reset all")
        .query(1, look)
        .query(1, "notify news")
        .query(1, "discard all")
        .query(1, look)
        .play()
        .await;
}

/// A session that its client's own limit ends while it is kept is no loss.
#[tokio::test]
async fn a_kept_session_that_ends_by_its_clients_limit_is_no_loss() {
    const ENDPOINT: &str = "leak-idle";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut client, mut other) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    client
        .query("set idle_session_timeout = 100; set app.mark = 'mine'")
        .await;
    pooled.has_sessions(0).await;
    let look = "select current_setting('idle_session_timeout'), current_setting('app.mark', true)";
    assert_eq!(values(&client.query(look).await), ["100ms", "mine"]);
    assert_eq!(values(&other.query(look).await), ["0", "\u{2205}"]);
    assert_eq!(values(&client.query(look).await), ["100ms", "mine"]);
}
