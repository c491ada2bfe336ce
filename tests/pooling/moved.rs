//! A statement that was prepared under other settings is prepared anew on another session, under these: what Postgres
//! says to that, and how long it waits for it, is what it would say and wait without pgwake.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use super::{
    line::{Line, Way, Who},
    pooled::Pooled,
    said::{Said, execute, prepare},
    script::Script,
    told::{errors, tags, values},
};
use crate::{
    harness::{postgres::SUPERUSER, wait::until},
    serving::served::Key,
};

const TABLE: &str =
    "drop table if exists moved; create table moved (at date); insert into moved values ('2020-01-02')";
const TEXT: &str = "select at from moved where at = '2020-01-02'";

/// Said by somebody else: the statement is not on the session any more.
const STRANGER: &str = "discard all";

/// As long as pgwake waits for an answer that needs no lock, and longer.
const LONG: Duration = Duration::from_secs(11);

/// The client ended with a FATAL error, and SQL did not find the statement.
#[tokio::test]
async fn an_error_of_what_is_prepared_anew_is_the_answer_and_the_client_goes_on() {
    let pipeline = [
        Said::bind("", "s", &[]),
        Said::execute("", 0),
        Said::parse("", "select 'ignored'"),
        Said::Sync,
        Said::query("select 'behind it'"),
    ];
    let played = Script::new("moved-error", 1)
        .before(&format!(
            "{TABLE}; drop table if exists kept; create table kept (what text)"
        ))
        .say(0, prepare("s", TEXT))
        .query(0, "set datestyle = 'German'")
        .query(1, "drop table moved")
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .query(1, STRANGER)
        .say(0, pipeline)
        .query(1, STRANGER)
        .query(0, "execute s")
        .query(1, STRANGER)
        .query(0, "begin; insert into kept values ('kept'); commit; execute s")
        .query(1, STRANGER)
        .queries(0, &["begin", "execute s", "select 1", "rollback"])
        .queries(
            0,
            &[
                "begin",
                "select what from kept",
                "execute s",
                "select 1",
                "rollback",
            ],
        )
        .query(
            1,
            "create table moved (at date); insert into moved values ('2020-01-02')",
        )
        .query(1, STRANGER)
        .say(0, execute("s", &[]))
        .query(0, "execute s")
        .query(0, "show datestyle")
        .play()
        .await;
    let told = played.told(0);
    assert_eq!(
        errors(&told),
        [
            "42P01", "42P01", "42P01", "42P01", "42P01", "25P02", "42P01", "25P02"
        ],
        "{}",
        tags(&told)
    );
    let values = values(&told);
    assert_eq!(values[..2], ["behind it", "kept"]);
    assert_eq!(values[2..], ["02.01.2020", "02.01.2020", "German, DMY"]);
}

/// What SQL has prepared and its table is gone for was unknown on another session.
#[tokio::test]
async fn what_sql_has_prepared_is_there_again_whatever_has_become_of_its_table() {
    let make = "create table moved (at date); insert into moved values ('2020-01-02')";
    let played = Script::new("moved-sql", 1)
        .before(TABLE)
        .query(0, &format!("prepare q as {TEXT}"))
        .query(0, "prepare other as select 'other'")
        .query(0, "set datestyle = 'German'")
        .query(1, "drop table moved")
        .query(0, "execute q")
        .queries(
            0,
            &["begin", "explain (costs off) execute q", "select 1", "rollback"],
        )
        .query(0, "select 1 / 0; execute q")
        .query(0, "prepare q as select 1")
        .query(1, STRANGER)
        // It is still there behind a question of what there is.
        .queries(0, &["set app.mark = 'x'; execute other", "deallocate other"])
        .query(1, make)
        .queries(0, &["set app.mark = 'y'", "execute q"])
        .query(1, "drop table moved")
        .queries(0, &["select 'moved'", "deallocate q", "execute q"])
        .query(1, make)
        .query(0, "execute q")
        .query(0, &format!("prepare q as {TEXT}"))
        .query(1, "drop table moved")
        .queries(0, &["select 'moved'", "deallocate all", "execute q"])
        .query(1, make)
        .query(0, "execute q")
        .play()
        .await;
    let told = played.told(0);
    assert_eq!(
        errors(&told),
        [
            "42P01", "42P01", "25P02", "22012", "42P05", "26000", "26000", "26000", "26000"
        ]
    );
    assert_eq!(values(&told), ["other", "02.01.2020", "moved", "moved"]);
}

/// A client whose session somebody else has used since, at a table that is locked.
struct Locked {
    pooled: Pooled,
    endpoint: &'static str,
    lock: Client,
}

impl Locked {
    async fn start(endpoint: &'static str) -> (Self, Line, Key) {
        let pooled = Pooled::start(endpoint, 1).await;
        let lock = pooled.direct().await;
        lock.batch_execute(TABLE).await.unwrap();
        let who = Who::new(SUPERUSER, "postgres");
        let (mut client, key) = pooled.client(endpoint, &who).await;
        client.say(&prepare("s", TEXT), Way::Whole).await;
        client.ready().await;
        client.query(&format!("prepare q as {TEXT}")).await;
        client.query("set datestyle = 'German'").await;
        pooled.line(endpoint).await.query(STRANGER).await;
        lock.batch_execute("begin; lock table moved").await.unwrap();
        let locked = Self {
            pooled,
            endpoint,
            lock,
        };
        (locked, client, key)
    }

    /// Waits until so many wait for the lock.
    async fn waits(&self, count: i64) {
        let sql = "select count(*) from pg_locks where not granted and relation = 'moved'::regclass";
        until("the lock to be waited for", async || {
            self.lock.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == count
        })
        .await;
    }

    /// Somebody else uses the session.
    async fn stranger(&self) {
        self.pooled.line(self.endpoint).await.query(STRANGER).await;
    }
}

fn both() -> [Vec<Said>; 2] {
    [execute("s", &[]), vec![Said::query("execute s")]]
}

/// The client ended with a FATAL error, or read that there is no such statement.
#[tokio::test]
async fn a_cancel_reaches_what_is_prepared_anew_and_the_client_goes_on() {
    let (locked, mut client, key) = Locked::start("moved-cancel").await;
    for said in both() {
        client.say(&said, Way::Whole).await;
        locked.waits(1).await;
        locked.pooled.cancel(&key).await;
        let answer = client.ready().await;
        assert_eq!(errors(&answer), ["57014"], "{}", tags(&answer));
        assert_eq!(values(&client.query("show datestyle").await), ["German, DMY"]);
        locked.stranger().await;
    }
    locked.lock.batch_execute("rollback").await.unwrap();
    for said in both() {
        client.say(&said, Way::Whole).await;
        assert_eq!(values(&client.ready().await), ["02.01.2020"]);
    }
}

/// After ten seconds the client ended with a FATAL error; what SQL had prepared was unknown after a moment.
#[tokio::test]
async fn a_lock_is_waited_for_as_long_as_it_takes() {
    let mut waiting = Vec::new();
    let by_sql = vec![Said::query("execute q")];
    let all = both().into_iter().chain([by_sql]);
    for (endpoint, said) in ["moved-wait", "moved-wait-named", "moved-wait-sql"]
        .into_iter()
        .zip(all)
    {
        let (locked, mut client, _) = Locked::start(endpoint).await;
        client.say(&said, Way::Whole).await;
        locked.waits(1).await;
        waiting.push((locked, client));
    }
    sleep(LONG).await;
    for (locked, mut client) in waiting {
        locked.waits(1).await;
        locked.lock.batch_execute("rollback").await.unwrap();
        assert_eq!(values(&client.ready().await), ["02.01.2020"]);
    }
}

#[tokio::test]
async fn who_leaves_while_a_lock_is_waited_for_leaves_nobody_behind() {
    let (locked, mut client, _) = Locked::start("moved-leave").await;
    client.say(&execute("s", &[]), Way::Whole).await;
    locked.waits(1).await;
    drop(client);
    locked.waits(0).await;
    // The only session that there may be is somebody else's.
    locked.stranger().await;
}
