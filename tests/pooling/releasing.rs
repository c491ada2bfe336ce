//! When a server session may go to another client, and when it must not.

use std::time::Duration;

use super::{
    line::{Line, Way},
    pooled::Pooled,
    said::{Kind, Said},
    script::Script,
    told::{errors, tags, values},
};

/// For how long somebody who must wait is seen to wait.
const A_WHILE: Duration = Duration::from_millis(150);

/// What a client says and to which message it reads; then what ends it.
type Unfinished = (&'static str, Vec<Said>, u8, Vec<Said>);

fn with(said: &[Said], more: Said) -> Vec<Said> {
    [said, &[more]].concat()
}

fn open_transactions() -> Vec<Unfinished> {
    let query = |sql: &str| vec![Said::query(sql)];
    let end = || vec![Said::query("rollback")];
    let sync = || vec![Said::Sync];
    let parse = vec![Said::parse("", "select 1"), Said::Flush];
    let insert = Said::run("insert into rows values (1)", &[]);
    let synced = with(&Said::run("select 1", &[]), Said::Sync);
    vec![
        ("a transaction", query("begin; select 1"), b'Z', end()),
        ("a failed transaction", query("begin; select 1 / 0"), b'Z', end()),
        (
            "one behind a statement",
            query("select 1; begin; select 2"),
            b'Z',
            end(),
        ),
        (
            "one behind a commit",
            query("begin; select 1; commit and chain"),
            b'Z',
            end(),
        ),
        ("a Parse without Sync", parse.clone(), b'1', sync()),
        (
            "a portal without Sync",
            with(&Said::run("select 1", &[]), Said::Flush),
            b'C',
            sync(),
        ),
        ("a row without Sync", with(&insert, Said::Flush), b'C', sync()),
        (
            "what is behind the last Sync",
            [synced, parse].concat(),
            b'1',
            sync(),
        ),
        (
            "an error without Sync",
            vec![Said::parse("", "selec"), Said::Flush],
            b'E',
            sync(),
        ),
    ]
}

fn open_copies() -> Vec<Unfinished> {
    let copy = "copy rows from stdin";
    let done = vec![Said::data("1\n"), Said::CopyDone];
    let done_sync = with(&done, Said::Sync);
    let twice = vec![Said::query("copy rows from stdin; copy rows from stdin")];
    vec![
        ("a COPY of a Query", vec![Said::query(copy)], b'G', done.clone()),
        (
            "a COPY of an Execute",
            with(&Said::run(copy, &[]), Said::Flush),
            b'G',
            done_sync.clone(),
        ),
        // The server ignores the Sync.
        (
            "a COPY with its Sync too early",
            with(&Said::run(copy, &[]), Said::Sync),
            b'G',
            done_sync,
        ),
        (
            "the first of two COPYs",
            twice,
            b'G',
            [done.clone(), done].concat(),
        ),
    ]
}

async fn table(pooled: &Pooled) {
    let direct = pooled.direct().await;
    direct.batch_execute("create table rows (id int)").await.unwrap();
}

#[tokio::test]
async fn a_session_stays_with_its_client_until_nothing_is_open() {
    const ENDPOINT: &str = "release-open";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    table(&pooled).await;
    for way in [Way::Whole, Way::Bytes] {
        for (what, said, tag, end) in open_transactions().into_iter().chain(open_copies()) {
            let (mut first, mut second) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
            first.say(&said, way).await;
            first.until(tag).await.unwrap();

            second.say(&[Said::query("select 'second'")], way).await;
            assert!(second.is_silent_for(A_WHILE).await, "{what} was cut in two");
            let last = first.ask(&end, way).await;

            assert_eq!(last.last().unwrap().body, b"I", "{what}");
            assert_eq!(values(&second.ready().await), ["second"], "{what}");
            first.leave().await;
            second.leave().await;
        }
    }
}

#[tokio::test]
async fn a_session_is_lent_on_where_nothing_is_open() {
    const ENDPOINT: &str = "release-closed";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    table(&pooled).await;
    let closed: [Vec<Said>; 7] = [
        vec![Said::query("select 1")],
        vec![Said::query("begin; select 1; commit")],
        vec![Said::query("select 1 / 0")],
        with(&Said::run("select 1", &[]), Said::Sync),
        vec![
            Said::parse("", "selec"),
            Said::query("select 'ignored'"),
            Said::Sync,
        ],
        vec![
            Said::query("copy rows from stdin"),
            Said::data("1\n"),
            Said::CopyFail("no".into()),
        ],
        vec![Said::close(Kind::Portal, "unknown"), Said::Sync],
    ];
    for said in closed {
        let (mut first, mut second) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
        first.ask(&said, Way::Whole).await;
        // The first one is still there.
        assert_eq!(
            values(&second.query("select 'second'").await),
            ["second"],
            "{said:?}"
        );
        assert_eq!(
            values(&first.query("select 'first'").await),
            ["first"],
            "{said:?}"
        );
    }
    pooled.has_sessions(1).await;
}

/// One Query with many statements has one ReadyForQuery, and that alone decides.
#[tokio::test]
async fn a_query_of_many_statements_is_one_turn() {
    let stranger = "select 'a stranger'";
    Script::new("release-many", 1)
        .before("drop table if exists told; create table told (what text)")
        .query(
            0,
            "begin; insert into told values ('first'); commit; insert into told values ('second')",
        )
        .query(1, stranger)
        .query(0, "insert into told values ('undone'); select 1 / 0; commit")
        .query(1, stranger)
        .query(0, "begin; insert into told values ('third')")
        .query(0, "select 1; commit; begin; rollback; select count(*) from told")
        .query(1, "select string_agg(what, ',' order by what) from told")
        .play()
        .await;
}

/// The rows of a client that does not read are nobody else's.
#[tokio::test]
async fn answers_that_are_not_read_yet_stay_their_clients() {
    const ENDPOINT: &str = "release-slow";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let (mut slow, mut other) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
    let rows = "select repeat('slow', 1000) from generate_series(1, 10000)";
    slow.say(&[Said::query(rows)], Way::Whole).await;
    slow.until(b'T').await.unwrap();

    other.say(&[Said::query("select 'other'")], Way::Whole).await;
    let read = slow.ready().await;

    assert_eq!(read.iter().filter(|message| message.tag == b'D').count(), 10_000);
    assert_eq!(values(&other.ready().await), ["other"]);

    slow.say(&[Said::query(rows)], Way::Whole).await;
    slow.until(b'T').await.unwrap();
    drop(slow);
    let after = other.query("select 'still the other'").await;
    assert_eq!(
        (tags(&after).as_str(), values(&after)),
        ("TDCZ", vec!["still the other".to_owned()])
    );
}

/// What is half said when the session could be given back is completed as if nobody had been there meanwhile.
#[tokio::test]
async fn a_message_that_is_half_sent_is_nobody_elses() {
    const ENDPOINT: &str = "release-half";
    let pooled = Pooled::start(ENDPOINT, 1).await;
    let whole = super::said::encoded(&[Said::query("select 'first', 1"), Said::query("select 'first', 2")]);
    for cut in 24..whole.len() {
        let (mut first, mut second) = (pooled.line(ENDPOINT).await, pooled.line(ENDPOINT).await);
        first.bytes(&whole[..cut]).await;
        assert_eq!(values(&first.ready().await), ["first", "1"]);

        second.say(&[Said::query("select 'second'")], Way::Whole).await;
        first.bytes(&whole[cut..]).await;

        assert_eq!(values(&first.ready().await), ["first", "2"], "{cut}");
        assert_eq!(values(&second.ready().await), ["second"], "{cut}");
        both_leave(first, second).await;
    }
}

async fn both_leave(first: Line, second: Line) {
    first.leave().await;
    second.leave().await;
}

/// What pgwake says itself to a session stands in nobody's pipeline: an error that is none of the client's would have
/// the server skip what is.
#[tokio::test]
async fn nothing_of_pgwakes_own_stands_in_a_pipeline() {
    let pipeline = |mark: &str| {
        let run = |sql: &str| Said::run(sql, &[]).to_vec();
        [
            run("select current_setting('app.mark')"),
            run("select 1 / 0"),
            run("select 'ignored'"),
            vec![Said::Sync],
            run(&format!("insert into told values ('{mark}') returning what")),
            vec![Said::query("select 2"), Said::Sync],
            run("begin"),
            run("select current_setting('app.mark')"),
            vec![Said::Sync, Said::query("rollback")],
        ]
        .concat()
    };
    let played = Script::new("release-pipeline", 1)
        .before("drop table if exists told; create table told (what text)")
        .query(0, "set app.mark = 'of the first'")
        .query(1, "set app.mark = 'of the second'")
        .say(0, pipeline("first"))
        .say(1, pipeline("second"))
        .say(0, pipeline("first again"))
        .play()
        .await;
    assert_eq!(errors(&played.told(0)), ["22012", "22012"]);
}
