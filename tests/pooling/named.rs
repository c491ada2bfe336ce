//! Statements of the protocol that SQL speaks of by their names: which of them it means, and which names are taken.

use super::{
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, tags, values},
};

/// A DEALLOCATE in a string or in a comment was taken for the one that Postgres had answered.
#[tokio::test]
async fn a_text_takes_away_the_names_of_its_statements_and_not_what_it_says_of_others() {
    let texts = [
        "select 'deallocate s'; deallocate t",
        "select $a$; deallocate s$a$; deallocate t",
        "/* deallocate s; /* */ */ deallocate t",
        "-- deallocate s\ndeallocate prepare t",
        "select 1 as \"deallocate s\"; deallocate t; select deallocate s from (select 1 as deallocate) d",
        "do $$begin if false then execute 'deallocate s'; end if; end$$; deallocate t",
    ];
    let mut script = Script::new("named-said", 1);
    for text in texts {
        script = script
            .say(0, prepare("s", "select 'kept'"))
            .say(0, prepare("t", "select 'taken'"))
            .query(1, STRANGER)
            .query(0, text)
            .query(1, STRANGER)
            .say(0, execute("s", &[]))
            .say(0, execute("t", &[]))
            .query(0, "deallocate all");
    }
    // The same by the extended protocol.
    let played = script
        .say(0, prepare("s", "select 'kept'"))
        .say(0, prepare("t", "select 'taken'"))
        .say(0, Said::run("/* deallocate s */ deallocate t", &[]))
        .say(0, [Said::Sync])
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .say(0, execute("t", &[]))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), vec!["26000"; texts.len() + 1]);
    assert!(!values(&played.told(0)).contains(&"taken".to_owned()));
}

/// To take a name away its statement was prepared first, which its table had to be there for, and free.
#[tokio::test]
async fn a_name_is_taken_away_whatever_has_become_of_its_table() {
    let remade = "drop table if exists held; create table held (word text); insert into held values ('new')";
    let mut script = Script::new("named-gone", 1).before("drop table if exists held");
    let takes: [Vec<Said>; 3] = [
        vec![Said::query("deallocate s")],
        [&Said::run("deallocate s", &[])[..], &[Said::Sync]].concat(),
        vec![Said::query("rollback; deallocate s")],
    ];
    for take in takes {
        let fails = take == [Said::query("rollback; deallocate s")];
        script = script
            .query(1, remade)
            .say(0, prepare("s", "select word from held"))
            .query(1, "drop table held")
            .query(0, if fails { "begin; select 1 / 0" } else { "select 1" })
            .say(0, take)
            .query(0, "deallocate s")
            .say(0, execute("s", &[]));
    }
    // What stands in for it is never run.
    let played = script
        .query(1, remade)
        .say(0, prepare("s", "select word from held"))
        .query(1, "alter table held add column more text")
        .query(0, "select 1 / 0; deallocate s")
        .say(0, [Said::parse("s", "select 2"), Said::Sync])
        .query(0, "prepare s as select 3")
        .query(0, "execute s")
        .query(1, STRANGER)
        .query(0, "execute s; deallocate s")
        .query(0, "execute s")
        .play()
        .await;
    let told = played.told(0);
    assert_eq!(values(&told), ["1", "1", "new", "new"]);
    let gone = errors(&told);
    assert_eq!(
        gone.iter().filter(|code| **code == "42P01").count(),
        0,
        "{gone:?}"
    );
}

/// A Parse of a name that SQL had prepared in the same turn was answered as if the name were free.
#[tokio::test]
async fn a_name_that_sql_has_just_prepared_is_taken() {
    let taken = [Said::parse("c", "select 'by message'"), Said::Sync];
    let pipeline = |sql: &str| [&[Said::query(sql)][..], &taken].concat();
    let extended = [&Said::run("prepare c as select 'by sql'", &[])[..], &taken].concat();
    let played = Script::new("named-taken", 1)
        .say(0, pipeline("prepare c as select 'by sql'"))
        .query(0, "execute c")
        .query(1, STRANGER)
        .query(0, "execute c; deallocate c")
        .query(0, "begin; prepare c as select 'by sql'")
        .say(0, taken.clone())
        .query(0, "rollback; execute c; deallocate c")
        .say(0, extended)
        .query(0, "deallocate c")
        // Where SQL fails before it the name is free.
        .say(0, pipeline("select 1 / 0; prepare c as select 'by sql'"))
        .query(0, "execute c")
        .query(1, STRANGER)
        .query(0, "execute c")
        .say(0, execute("c", &[]))
        .say(0, [Said::close(Kind::Statement, "c"), Said::Sync])
        .query(0, "execute c")
        .play()
        .await;
    let told = played.told(0);
    assert!(tags(&told).contains("EZ"), "{told:?}");
    let codes = errors(&told);
    assert_eq!(
        codes.iter().filter(|code| **code == "42P05").count(),
        3,
        "{codes:?}"
    );
}

/// Postgres tells names apart by 63 bytes, and cuts off what SQL says: a longer one was known to one of them alone.
#[tokio::test]
async fn long_names_are_the_same_where_postgres_takes_them_for_the_same() {
    let name = |end: &str| format!("{}{end}", "n".repeat(63));
    let played = Script::new("named-long", 1)
        .say(0, prepare(&name("one"), "select 'long'"))
        .query(1, STRANGER)
        .say(0, execute(&name("other"), &[]))
        .say(0, prepare(&name("third"), "select 'taken already'"))
        .query(1, STRANGER)
        .say(0, [Said::describe(Kind::Statement, &name("")), Said::Sync])
        .query(0, &format!("execute {}", name("fourth")))
        .query(1, STRANGER)
        .query(0, &format!("deallocate {}", name("fifth")))
        .say(0, execute(&name("one"), &[]))
        .say(0, prepare(&name("one"), "select 'again'"))
        .say(0, [Said::close(Kind::Statement, &name("six")), Said::Sync])
        .say(0, execute(&name("one"), &[]))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["42P05", "26000", "26000"]);
}

/// In a failed transaction Postgres said that the name was taken, and not that the transaction had failed.
#[tokio::test]
async fn what_fails_under_any_name_is_refused_before_its_name_is() {
    let parse = |sql: &str| [Said::parse("q", sql), Said::Sync];
    let played = Script::new("named-failed", 1)
        .query(0, "begin")
        .query(0, "prepare q as select 1")
        .say(0, parse("nonsense"))
        .say(0, parse("select 2"))
        .say(0, parse("rollback"))
        .query(0, "rollback")
        .say(0, parse("select 'there already'"))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["42601", "25P02", "42P05", "42P05"]);
}

/// Behind extended messages without a Sync nothing was put on the session, and EXECUTE knew no such statement.
#[tokio::test]
async fn a_query_runs_a_statement_of_the_protocol_behind_messages_without_a_sync() {
    let remade = "drop table if exists held; create table held (word text)";
    let no_sync = || Said::run("select 'no sync'", &[]).to_vec();
    let behind = |sql: &str| [no_sync(), vec![Said::query(sql)]].concat();
    let failing = Said::run("select 1 / 0", &[]).to_vec();
    let played = Script::new("named-unsynced", 1)
        .before("drop table if exists held")
        .say(0, [Said::parse("s", "select 'known'"), Said::query("execute s")])
        .query(1, STRANGER)
        .say(0, behind("execute s; select 'behind it'"))
        .query(1, STRANGER)
        .say(0, behind("begin"))
        .say(0, behind("explain (costs off) execute s"))
        .say(0, behind("commit; execute s"))
        // Whether it is run at all is decided by what comes before it.
        .query(1, STRANGER)
        .say(0, [failing, vec![Said::query("execute s"), Said::Sync]].concat())
        .say(
            0,
            [Said::parse("t", "selec"), Said::query("execute t"), Said::Sync],
        )
        .query(0, "begin; select 1 / 0")
        .say(
            0,
            [&Said::run("rollback", &[])[..], &[Said::query("execute s")]].concat(),
        )
        // It cannot be put there: that is the Query's answer, and the next one is read.
        .query(1, remade)
        .say(0, prepare("u", "select word from held"))
        .query(1, "drop table held")
        .say(
            0,
            [behind("execute u"), vec![Said::query("select 'goes on'")]].concat(),
        )
        .say(0, execute("", &[]))
        .play()
        .await;
    let told = played.told(0);
    let codes = errors(&told);
    assert_eq!(codes, ["22012", "42601", "22012", "42P01", "26000"]);
    assert!(values(&told).contains(&"goes on".to_owned()));
}

/// A function that takes all statements away took those of the clients to come, too: their BEGIN failed with 26000, and so
/// did their statements, once.
#[tokio::test]
async fn what_a_function_takes_away_is_its_own_clients() {
    let takes = [
        "do $$begin deallocate all; end$$",
        "select forget_all()",
        "do $$begin execute 'dealloc' || 'ate all'; end$$",
    ];
    let mut script = Script::new("named-function", 1).before(
        "create or replace function forget_all() returns int language plpgsql as $$begin deallocate all; return 1; end$$",
    );
    for take in takes {
        script = script
            .queries(1, &["begin", "select 'with a session'", "commit"])
            .say(1, prepare("s", "select 'not taken'"))
            .say(0, prepare("s", "select 'taken'"))
            .query(0, take)
            .say(1, execute("s", &[]))
            .query(0, take)
            .queries(1, &["begin", "select 'begun'", "commit"])
            .query(1, "deallocate all")
            .query(0, "deallocate all");
    }
    let played = script
        // Their own, where a word of it is seen.
        .say(0, prepare("s", "select 'taken'"))
        .query(0, takes[0])
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .play()
        .await;
    assert_eq!(errors(&played.told(1)), Vec::<String>::new());
    assert_eq!(errors(&played.told(0)), ["26000"]);
}

/// A client's statement stood in the way of pgwake's BEGIN where it had the same name: its transactions failed, or it was
/// what they began with.
#[tokio::test]
async fn a_client_may_use_the_names_that_pgwake_might() {
    let transaction = ["begin", "select 'within'", "commit"];
    let mut script = Script::new("named-begin", 1)
        .before("drop table if exists begun; create table begun (id int)")
        .queries(1, &transaction)
        .query(0, "deallocate pgwake_begin")
        .queries(1, &transaction);
    for name in ["pgwake_begin", "pgwake_discard"] {
        let execute = format!("execute {name}");
        let insert = format!("prepare {name} as insert into begun values (1)");
        let deallocate = format!("deallocate {name}");
        script = script
            .queries(0, &[&insert, "begin", "select 'nothing is begun'", "rollback"])
            .queries(1, &transaction)
            .queries(0, &["begin", &execute, "commit", &deallocate])
            .say(0, prepare(name, "select 'of the protocol'"))
            .queries(0, &[&execute, "begin", &execute, "commit"])
            .queries(1, &transaction)
            .query(0, &deallocate);
    }
    script.query(0, "select count(*) from begun").play().await;
}

/// A Close that an error had the server ignore was still believed in what stood behind the next Sync of the same write: SQL found
/// no statement of that name.
#[tokio::test]
async fn what_is_ignored_takes_no_name_from_the_sql_behind_it() {
    let ignored = || {
        let close = Said::close(Kind::Statement, "s");
        vec![Said::parse("", "selec"), close, Said::Sync]
    };
    let run = |sql: &str| [&Said::run(sql, &[])[..], &[Said::Sync]].concat();
    let no_sync = |sql: &str| [&Said::run("select 'no sync'", &[])[..], &[Said::query(sql)]].concat();
    let mut script = Script::new("named-ignored", 1);
    for behind in [
        run("deallocate s"),
        run("execute s"),
        vec![Said::query("deallocate s")],
        vec![Said::query("execute s")],
        no_sync("execute s"),
        no_sync("deallocate s"),
    ] {
        script = script
            .say(0, prepare("s", "select 'still there'"))
            .query(1, STRANGER)
            .say(0, [ignored(), behind].concat())
            .query(0, "deallocate all");
    }
    let played = script.play().await;
    assert_eq!(errors(&played.told(0)), vec!["42601"; 6]);
}

/// What SQL had prepared under the name was gone, and the Parse went to the server as it was: nobody remembered it.
#[tokio::test]
async fn a_name_that_sql_has_let_go_of_in_the_same_turn_can_be_had_by_the_protocol() {
    // Without a row, and long enough for what is in front of it to be answered while it runs.
    let slowly = Said::query("select 1 from pg_sleep(0.1) slept where slept::text = 'x'");
    for (number, free) in ["deallocate s", "deallocate all", "discard all"]
        .into_iter()
        .enumerate()
    {
        let run = [Said::bind("", "s", &[]), Said::execute("", 0), Said::Sync];
        let parse = |text: &str| Said::parse("s", text);
        let played = Script::new(&format!("named-freed-{number}"), 1)
            .query(0, "prepare s as select 'sql'")
            .say(0, [parse("select 'taken'"), Said::Sync])
            .query(1, STRANGER)
            .say(
                0,
                [
                    Said::query(free),
                    slowly.clone(),
                    parse("select 'protocol'"),
                    Said::Sync,
                ],
            )
            .query(1, "deallocate all")
            .say(0, run.clone())
            .say(0, [parse("select 'taken again'"), Said::Sync])
            .say(1, [parse("select 'other'"), Said::Sync])
            .say(0, run)
            .play()
            .await;
        assert_eq!(values(&played.told(0)), ["protocol", "protocol"]);
        assert_eq!(errors(&played.told(0)), ["42P05", "42P05"]);
        assert_eq!(errors(&played.told(1)), [""; 0]);
    }
}
