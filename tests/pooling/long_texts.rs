//! A statement that is too long to be remembered: it is on the session that it was prepared on, which stays with its client
//! until the statement is gone, and no longer. One without a name is gone when its client prepares or says something else.

use std::time::Duration;

use super::{
    line::Way,
    pooled::{Pooled, pool},
    said::{Kind, STRANGER, Said, execute, prepare},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::{Postgres, Version};

const A_WHILE: Duration = Duration::from_millis(150);

/// Sets something in its midst.
fn long(bytes: usize) -> String {
    let some = "set by nobody ".repeat(bytes / 28);
    format!("select length('{some}'), set_config('app.long', 'mine', false), length('{some}')")
}

#[tokio::test]
async fn a_long_unnamed_statement_keeps_its_session_until_there_is_another() {
    const ENDPOINT: &str = "long-unnamed";
    let postgres = Postgres::start(Version::Debian).await;
    let rules = pool(1, "pinned_max = 1, statement_bytes_max = \"1KiB\"");
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &rules)]).await;
    let (mut line, mut stranger) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    let mine = "select current_setting('app.long', true)";
    let ends = [
        vec![Said::query("select 'next'")],
        [&Said::run("select 'next'", &[])[..], &[Said::Sync]].concat(),
    ];
    for (end, way) in ends.iter().zip([Way::Whole, Way::Bytes]) {
        assert_eq!(errors(&line.ask(&prepare("", &long(3000)), way).await), [""; 0]);
        stranger.say(&[Said::query(STRANGER)], Way::Whole).await;
        assert!(stranger.is_silent_for(A_WHILE).await, "nothing keeps the session");
        for _ in 0..2 {
            let told = line.ask(&execute("", &[]), way).await;
            assert_eq!(values(&told)[1], "mine", "{told:?}");
            assert!(stranger.is_silent_for(A_WHILE).await);
        }
        line.ask(&prepare("named", "select 'named'"), way).await;
        line.ask(&[Said::close(Kind::Statement, "named"), Said::Sync], way)
            .await;
        assert!(stranger.is_silent_for(A_WHILE).await);

        assert_eq!(values(&line.ask(end, way).await), ["next"]);

        assert_eq!(values(&stranger.ready().await), ["a stranger"]);
        assert_eq!(values(&line.query(mine).await), ["mine"]);
        line.query("reset all").await;
    }
    let fresh = "select current_setting('app.long', true) is null";
    assert_eq!(values(&stranger.query(fresh).await), ["t"]);
    line.leave().await;
}

/// What a client leaves behind that goes with one is taken away like anything else.
#[tokio::test]
async fn what_a_long_statement_has_set_is_its_clients_and_leaves_with_it() {
    let text = long(1_200_000);
    let mine = "select current_setting('app.long', true), current_setting('datestyle')";
    let mut script = Script::new("long-set", 2)
        .say(0, prepare("", &text))
        .query(1, STRANGER)
        .say(0, execute("", &[]))
        .query(1, STRANGER)
        .say(0, prepare("german", "set datestyle = 'German'"))
        .say(0, execute("german", &[]))
        .say(0, prepare("late", "select '01.02.2024'::date"))
        .say(0, execute("", &[]))
        .query(0, "select 'short'");
    for client in [1, 2, 0, 2] {
        script = script.query(client, STRANGER).query(client, mine);
    }
    script = script.say(0, execute("late", &[])).say(2, prepare("", &text));
    let played = script.say(2, execute("", &[])).play().await;
    let told = values(&played.told(0));
    assert_eq!(told[told.len() - 3..], ["mine", "German, DMY", "01.02.2024"]);
}

/// Its client kept the session for good, whatever became of the statement.
#[tokio::test]
async fn a_long_statement_with_a_name_keeps_its_session_until_it_is_gone() {
    const ENDPOINT: &str = "long-named";
    let postgres = Postgres::start(Version::Debian).await;
    let rules = pool(
        1,
        "pinned_max = 1, statements_max = 1, statement_bytes_max = \"1KiB\"",
    );
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &rules)]).await;
    let (mut line, mut stranger) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    let one_too_many = "select set_config('app.long', 'mine', false), 'mine'".to_owned();
    let ends = [
        (vec![Said::close(Kind::Statement, "s"), Said::Sync], "mine"),
        (vec![Said::query("deallocate s")], "mine"),
        (vec![Said::query("deallocate first; deallocate all")], "mine"),
        (vec![Said::query("discard all")], ""),
    ];
    for ((end, left), way) in ends.iter().zip([Way::Whole, Way::Bytes].repeat(2)) {
        for text in [&long(3000), &one_too_many] {
            line.ask(&prepare("first", "select 1"), Way::Whole).await;
            assert_eq!(errors(&line.ask(&prepare("s", text), way).await), [""; 0]);
            stranger.say(&[Said::query(STRANGER)], Way::Whole).await;
            assert!(stranger.is_silent_for(A_WHILE).await, "nothing keeps the session");
            assert_eq!(values(&line.ask(&execute("s", &[]), way).await)[1], "mine");
            assert!(stranger.is_silent_for(A_WHILE).await);

            assert_eq!(errors(&line.ask(end, way).await), [""; 0]);

            assert_eq!(values(&stranger.ready().await), ["a stranger"], "{end:?}");
            let mine = "select current_setting('app.long', true)";
            assert_eq!(values(&line.query(mine).await), [*left]);
            assert_eq!(errors(&line.ask(&execute("s", &[]), way).await), ["26000"]);
        }
    }
    // One that Postgres refuses keeps nothing.
    let refused = long(3000).replace("select", "selec");
    assert_eq!(
        errors(&line.ask(&prepare("s", &refused), Way::Whole).await),
        ["42601"]
    );
    assert_eq!(values(&stranger.query(STRANGER).await), ["a stranger"]);
    // One that is left behind goes with its session.
    line.ask(&prepare("s", &long(3000)), Way::Whole).await;
    line.leave().await;
    let left = "select count(*) from pg_prepared_statements where name = 's'";
    assert_eq!(values(&stranger.query(left).await), ["0"]);
}

/// Each took the name beside the other, and was what the client meant by it.
#[tokio::test]
async fn a_long_statement_and_a_short_one_never_have_the_same_name() {
    let text = long(1_200_000);
    let close = vec![Said::close(Kind::Statement, "s"), Said::Sync];
    let anew = |text: &str| [&close[..1], &prepare("s", text)[..]].concat();
    let mut script = Script::new("long-names", 2);
    for (first, second) in [("select 'short'", &*text), (&*text, "select 'short'")] {
        script = script
            .say(0, prepare("s", first))
            .say(0, prepare("s", second))
            .query(1, STRANGER)
            .say(0, execute("s", &[]))
            .query(0, "execute s")
            .say(0, anew(second))
            .say(0, execute("s", &[]))
            .say(0, prepare("s", first))
            .say(0, close.clone())
            .query(1, STRANGER)
            .say(0, prepare("s", first))
            .say(0, execute("s", &[]))
            .say(0, close.clone());
    }
    let played = script.play().await;
    assert_eq!(errors(&played.told(0)), vec!["42P05"; 4]);
}
