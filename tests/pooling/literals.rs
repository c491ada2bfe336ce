//! What a statement's text means is settled when it is prepared, by all that was set then and however it was set; for
//! its own client, and for everybody else who prepares the same text.

use super::{
    line::{Way, Who},
    pooled::Pooled,
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::SUPERUSER;

const DATE: &str = "select '01/02/2024'::date";

/// `'01/02/2024'::date` becomes a date at Parse: by another client's DateStyle it is another one.
#[tokio::test]
async fn a_text_means_what_the_settings_at_its_parse_make_of_it() {
    let texts = [
        "select '01/02/2024'::date",
        "select '2024-03-04 05:06'::timestamptz at time zone 'UTC'",
        "select '-1 2:03'::interval::text",
        "select 'caf\u{e9}'::text || length('caf\u{e9}')",
    ];
    let mut script = Script::new("statements-settings", 1);
    let sets = [
        "set datestyle = 'ISO, DMY'; set timezone = 'Asia/Tokyo'; set intervalstyle = 'sql_standard'",
        "set datestyle = 'ISO, MDY'; set timezone = 'UTC'; set client_encoding = 'LATIN1'",
    ];
    for (client, set) in sets.iter().enumerate() {
        script = script.query(client, set);
    }
    for (number, text) in texts.iter().enumerate() {
        let name = format!("s{number}");
        script = script.say(0, prepare(&name, text)).say(1, prepare(&name, text));
        for client in [0, 1, 1, 0] {
            script = script.say(client, execute(&name, &[]));
        }
    }
    let played = script.play().await;
    assert!(values(&played.told(0)).contains(&"2024-02-01".to_owned()));
    assert!(values(&played.told(1)).contains(&"2024-01-02".to_owned()));
}

/// The literal was read when the statement was prepared, whatever was set since.
#[tokio::test]
async fn a_statement_keeps_what_it_was_prepared_with_when_the_client_sets_something_else() {
    let played = Script::new("statements-later", 1)
        .query(0, "set datestyle = 'ISO, DMY'")
        .say(
            0,
            prepare("s", "select '01/02/2024'::date, '01/02/2024'::text::date"),
        )
        .say(0, execute("s", &[]))
        .query(0, "set datestyle = 'SQL, MDY'")
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .query(1, "set datestyle = 'German'")
        .query(0, "begin; set local datestyle = 'ISO, YMD'")
        .say(0, execute("s", &[]))
        .query(0, "rollback")
        .play()
        .await;
    assert_eq!(
        values(&played.told(0))[..4],
        ["2024-02-01", "2024-02-01", "02/01/2024", "01/02/2024"]
    );
}

/// Postgres reads all texts of a session anew that it has plans of, once these are discarded, and once the session has come to
/// have temporary tables: under the settings of whoever uses one next.
#[tokio::test]
async fn a_statement_means_the_same_whatever_others_had_postgres_forget_on_its_session() {
    let strangers = [
        "discard plans",
        "begin; create temp table gone () on commit drop; commit",
        "create temp table gone (); drop table gone",
        "do $$begin execute 'create temp table gone () on commit drop'; end$$",
    ];
    // Postgres itself may have all sessions of a database read theirs anew, when the first of some number has temporary
    // tables: this is no comparison.
    const ENDPOINT: &str = "literals-forgotten";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let who = Who::new(SUPERUSER, "postgres");
    for stranger in strangers {
        let (mut line, _) = pooled.client(ENDPOINT, &who).await;
        let (mut other, _) = pooled.client(ENDPOINT, &who).await;
        line.say(&prepare("s", DATE), Way::Whole).await;
        line.until(b'Z').await.unwrap();
        assert!(errors(&other.query(stranger).await).is_empty());
        line.query("set datestyle = 'German'").await;
        line.say(&execute("s", &[]), Way::Whole).await;
        let told = line.until(b'Z').await.unwrap();
        assert_eq!(values(&told), ["02.01.2024"], "{stranger}");
    }
}

/// Equal texts, and no constant in them: columns of other types.
#[tokio::test]
async fn a_text_without_constants_means_what_its_search_path_makes_of_it() {
    let mut script = Script::new("literals-path", 1).before(
        "drop schema if exists a cascade; drop schema if exists b cascade; create schema a; create schema b; \
         create table a.named as select 'text'::text as word, 1 as number; \
         create table b.named as select 7::int as word, 2.5::numeric as number; \
         create function a.told() returns text language sql as $$select 'by a'::text$$; \
         create function b.told() returns int language sql as $$select 2$$",
    );
    for (client, path) in ["a, public", "b, public"].iter().enumerate() {
        script = script.query(client, &format!("set search_path = {path}"));
    }
    let texts = [
        "select word, number from named",
        "select * from named",
        "select told()",
        "select number * 2 from named",
    ];
    for (number, text) in texts.iter().enumerate() {
        let name = format!("s{number}");
        script = script.say(0, prepare(&name, text)).say(1, prepare(&name, text));
        for client in [0, 1, 0, 1] {
            script = script.say(client, execute(&name, &[]));
            script = script
                .say(client, prepare("", text))
                .say(client, execute("", &[]));
        }
    }
    script.play().await;
}

/// Neither quote nor name: a setting of the parser's own.
#[tokio::test]
async fn a_setting_that_changes_what_words_mean_is_heeded() {
    let mut script = Script::new("literals-parser", 1)
        .query(0, "set transform_null_equals = on")
        .query(1, "select 1");
    for client in [0, 1] {
        script = script.say(client, prepare("s", "select 1 = null, null = null"));
    }
    for client in [0, 1, 1, 0] {
        script = script.say(client, execute("s", &[]));
    }
    script.play().await;
}

const FUNCTIONS: &str = "
    create or replace function quietly_german() returns int language plpgsql as
        $$begin perform set_config('datestyle', 'German', false); return 1; end$$;
    create or replace function quietly_german_once() returns int language plpgsql as
        $$begin perform set_config('datestyle', 'German', true); return 1; end$$;
    create or replace function german_trigger() returns trigger language plpgsql as
        $$begin perform quietly_german(); return new; end$$;
    drop table if exists touched; create table touched (id int);
    create trigger german before insert on touched for each row execute function german_trigger()";

/// Set in the very transaction that prepares it, in every way that there is.
#[tokio::test]
async fn a_setting_of_the_same_transaction_counts_and_is_its_clients_own() {
    let sets = [
        "set datestyle = 'German'",
        "set local datestyle = 'German'",
        "select set_config('datestyle', 'German', true)",
        "select set_config('datestyle', 'German', false)",
        "select quietly_german()",
        "select quietly_german_once()",
        "do $$begin perform set_config('datestyle', 'German', true); end$$",
        "insert into touched values (1)",
        "/* hidden */ SET LOCAL DateStyle TO German",
    ];
    let mut script = Script::new("literals-transaction", 1).before(FUNCTIONS);
    for end in ["commit", "rollback"] {
        for (number, set) in sets.iter().enumerate() {
            let name = format!("s{number}{end}");
            // A text of its own: nobody has prepared it before.
            let text = format!("{DATE} /* {number} {end} */");
            script = script
                .queries(0, &["begin", set])
                .say(0, prepare(&name, &text))
                .say(0, execute(&name, &[]))
                .query(0, end)
                // The same text by somebody who has set nothing.
                .say(1, prepare(&name, &text))
                .say(1, execute(&name, &[]))
                .say(0, execute(&name, &[]))
                .say(1, execute(&name, &[]))
                .query(0, "set datestyle = 'ISO, MDY'")
                .say(1, vec![Said::close(Kind::Statement, &name), Said::Sync])
                .say(0, execute(&name, &[]));
        }
    }
    let played = script.play().await;
    assert!(
        values(&played.told(1)).iter().all(|date| date == "2024-01-02"),
        "{:?}",
        values(&played.told(1))
    );
    assert!(values(&played.told(0)).contains(&"2024-02-01".to_owned()));
}

/// Settings that change without a simple Query leave the unnamed statement where it was.
#[tokio::test]
async fn the_unnamed_statement_keeps_what_it_was_prepared_with() {
    let mut script = Script::new("literals-unnamed", 1).before(FUNCTIONS);
    let sets = [
        "set datestyle = 'German'",
        "select set_config('datestyle', 'German', false)",
        "select quietly_german()",
        "reset all",
    ];
    for (number, set) in sets.iter().enumerate() {
        let name = format!("set{number}");
        script = script
            .query(0, "set datestyle = 'ISO, DMY'")
            .say(0, prepare(&name, set))
            .say(0, prepare("", DATE))
            .query(1, STRANGER)
            .say(
                0,
                vec![Said::bind("", &name, &[]), Said::execute("", 0), Said::Sync],
            )
            .query(1, STRANGER)
            .say(0, execute("", &[]))
            .query(1, "set datestyle = 'ISO, MDY'")
            .say(0, execute("", &[]));
    }
    script = script
        .queries(0, &["begin", "set local datestyle = 'German'"])
        .say(0, prepare("", DATE))
        .say(0, [Said::run("commit", &[]).as_slice(), &[Said::Sync]].concat())
        .query(1, STRANGER)
        .say(0, execute("", &[]));
    script.play().await;
}

/// Written in one go with what sets it, and with requests before that one whose answers tell of other settings.
#[tokio::test]
async fn a_setting_of_the_same_pipeline_counts_as_of_its_own_answer() {
    let mut script = Script::new("literals-pipeline", 1).before(FUNCTIONS);
    let sets = [
        "set datestyle = 'German'",
        "select set_config('datestyle', 'German', false)",
        "select quietly_german()",
    ];
    for (number, set) in sets.iter().enumerate() {
        for name in [String::new(), format!("s{number}")] {
            let earlier = vec![Said::Sync, Said::query("select 1"), Said::query(*set)];
            script = script
                .query(0, "set datestyle = 'ISO, MDY'")
                .say(0, [earlier, prepare(&name, DATE)].concat())
                .query(1, STRANGER)
                .say(0, execute(&name, &[]));
        }
    }
    let played = script.play().await;
    assert!(values(&played.told(0)).iter().any(|date| date == "01.02.2024"));
}

/// PREPARE of SQL is no other.
#[tokio::test]
async fn a_prepare_of_sql_keeps_what_it_was_prepared_with() {
    let mut script = Script::new("literals-sql", 1).before(FUNCTIONS);
    let prepares = [
        &[
            "set datestyle = 'ISO, DMY'",
            "prepare q as select '01/02/2024'::date",
        ][..],
        &[
            "begin; set local datestyle = 'ISO, DMY'",
            "prepare q as select '01/02/2024'::date",
            "commit",
        ],
        &[
            "begin",
            "select quietly_german()",
            "prepare q as select '01/02/2024'::date",
            "rollback",
        ],
        &[
            "begin; savepoint a; set datestyle = 'ISO, DMY'",
            "prepare q as select '01/02/2024'::date",
            "rollback to a",
            "commit",
        ],
    ];
    for prepare in prepares {
        script = script
            .queries(0, prepare)
            .query(1, "prepare q as select '01/02/2024'::date")
            .query(0, "set datestyle = 'ISO, MDY'")
            .query(1, "execute q")
            .query(0, "execute q")
            .query(1, "deallocate q")
            .query(0, "deallocate q");
    }
    script.play().await;
}

/// Nobody sees a SET LOCAL but the server, and the session on which it was said is gone.
#[tokio::test]
async fn what_was_set_for_a_transaction_alone_is_known_on_any_session() {
    let pooled = Pooled::start("literals-moved", 1).await;
    let (mut one, mut other) = (
        pooled.line("literals-moved").await,
        pooled.line("literals-moved").await,
    );
    for (number, set) in [
        "set local datestyle = 'German'",
        "select set_config('datestyle', 'German', true)",
        "set datestyle = 'German'",
        "/* hidden */ SET LOCAL DateStyle TO German",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{number}");
        let text = format!("{DATE} as of_{number}");
        one.query("begin").await;
        one.query(set).await;
        one.ask(&prepare(&name, &text), Way::Whole).await;
        one.query(&format!("prepare q{number} as {text}")).await;
        one.ask(&prepare("", &text), Way::Whole).await;
        one.ask(
            &[Said::run("rollback", &[]).as_slice(), &[Said::Sync]].concat(),
            Way::Whole,
        )
        .await;
        one.ask(&prepare("", DATE), Way::Whole).await;
        pooled.end_sessions().await;
        // Of equal texts, the one that somebody else has prepared is another.
        other.ask(&prepare(&name, &text), Way::Whole).await;
        let told = other.ask(&execute(&name, &[]), Way::Whole).await;
        assert_eq!(values(&told), ["2024-01-02"], "{set}");
        let told = one.ask(&execute("", &[]), Way::Whole).await;
        assert_eq!(values(&told), ["2024-01-02"], "{set}");
        for _ in 0..2 {
            let told = one.ask(&execute(&name, &[]), Way::Whole).await;
            assert_eq!(values(&told), ["2024-02-01"], "{set}: {told:?}");
            let told = one.query(&format!("execute q{number}")).await;
            assert_eq!(values(&told), ["2024-02-01"], "{set}: {told:?}");
            pooled.end_sessions().await;
        }
        let told = other.ask(&execute(&name, &[]), Way::Whole).await;
        assert_eq!(values(&told), ["2024-01-02"], "{set}");
    }
}

/// What is set behind a Parse and before the next ReadyForQuery was taken for what it was prepared under; so was what an error
/// or the end of the transaction had undone.
#[tokio::test]
async fn what_is_set_around_a_parse_in_one_batch_does_not_change_it() {
    const DMY: &str = "set datestyle = 'ISO, DMY'";
    let run = |sql: &str| Said::run(sql, &[]).to_vec();
    let parse = || vec![Said::parse("s", DATE)];
    let sync = || vec![Said::Sync];
    let batches = [
        vec![run("select kit_runs()"), parse(), run(DMY), sync()],
        vec![run(DMY), parse(), run("set datestyle = 'ISO, MDY'"), sync()],
        vec![run(DMY), parse(), run("select 1 / 0"), sync()],
        vec![run("set local datestyle = 'ISO, DMY'"), parse(), sync()],
        vec![
            vec![Said::query("begin")],
            run(DMY),
            parse(),
            run("rollback"),
            sync(),
        ],
        vec![
            vec![Said::query(DMY)],
            parse(),
            run("set datestyle = 'ISO, MDY'"),
            sync(),
        ],
    ];
    for (number, batch) in batches.into_iter().enumerate() {
        // Each with sessions of its own: some of these clients keep theirs.
        let played = Script::new(&format!("literals-around-{number}"), 2)
            .before("create or replace function kit_runs() returns int language sql as 'select 1'")
            .query(1, "set datestyle = 'German'")
            .say(0, batch.concat())
            .query(1, STRANGER)
            .say(0, execute("s", &[]))
            .query(0, "set datestyle = 'ISO, MDY'")
            .query(1, STRANGER)
            .query(2, STRANGER)
            .say(0, execute("s", &[]))
            .play()
            .await;
        let dates = values(&played.told(0));
        assert!(
            dates.iter().filter(|date| date.starts_with("2024")).count() >= 2,
            "{dates:?}"
        );
    }
}
