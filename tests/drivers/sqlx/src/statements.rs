//! Steps about statements: prepared, described, streamed, COPY, types of the database.

use std::time::Duration;

use futures_util::{TryStreamExt, future::join_all};
use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqlSafeStr, postgres::PgPoolCopyExt};

use crate::{Step, code, connect, lengths, place, pool};

pub const STEPS: &[(&str, Step)] = &[
    ("statements_are_cached_and_evicted", || {
        Box::pin(statements_are_cached_and_evicted())
    }),
    ("statements_are_described_and_explained", || {
        Box::pin(statements_are_described_and_explained())
    }),
    ("changed_tables_invalidate_plans", || {
        Box::pin(changed_tables_invalidate_plans())
    }),
    ("types_of_the_database", || Box::pin(types_of_the_database())),
    ("streams_and_copy", || Box::pin(streams_and_copy())),
    ("dropped_futures", || Box::pin(dropped_futures())),
];

async fn statements_are_cached_and_evicted() {
    let pool = pool(place().statement_cache_capacity(3)).await;
    let asks = (0..lengths(200, 3_000)).map(|turn: i32| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let number = turn % 8;
            let sql = format!("select $1::int * {number}");
            let found: i32 = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(turn)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(found, turn * number);
        })
    });
    join_all(asks).await.into_iter().for_each(Result::unwrap);
    let mut connection = connect().await;
    for number in 0..20_i32 {
        let once = sqlx::query_scalar::<_, i32>("select $1::int")
            .bind(number)
            .persistent(false);
        assert_eq!(once.fetch_one(&mut connection).await.unwrap(), number);
        let kept = sqlx::query_scalar::<_, i32>("select $1::int + 1").bind(number);
        assert_eq!(kept.fetch_one(&mut connection).await.unwrap(), number + 1);
    }
    connection.clear_cached_statements().await.unwrap();
    assert_eq!(connection.cached_statements_size(), 0);
    let left: i64 =
        sqlx::query_scalar("select count(*) from pg_prepared_statements where statement like '%int + 1%'")
            .persistent(false)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    // The statement that asks is one of them.
    assert!(left <= 1, "{left} statements left");
}

async fn statements_are_described_and_explained() {
    let mut connection = connect().await;
    connection
        .execute("create table sqlx_described (id int primary key, note text)")
        .await
        .unwrap();
    for _ in 0..lengths(3, 30) {
        let mut other = connect().await;
        // Sends EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE of the statement that it has just prepared.
        let sql = "select id, note from sqlx_described where id = $1";
        let described = (&mut other).describe(sql.into_sql_str()).await.unwrap();
        assert_eq!(
            (described.nullable(0), described.nullable(1)),
            (Some(false), Some(true))
        );
        connection.execute("select 1").await.unwrap();
        let sql = "select d.note from sqlx_described s left join sqlx_described d on d.id = s.id + $1";
        let described = (&mut other).describe(sql.into_sql_str()).await.unwrap();
        assert_eq!(described.nullable(0), Some(true));
        other.close().await.unwrap();
    }
}

async fn streams_and_copy() {
    let pool = pool(place()).await;
    let count: i32 = lengths(1_000, 50_000);
    let rows = sqlx::query("select generate_series(1, $1)")
        .bind(count)
        .fetch(&pool);
    let sum = rows.try_fold(0_i64, |sum, row| async move {
        Ok(sum + i64::from(row.get::<i32, _>(0)))
    });
    assert_eq!(sum.await.unwrap(), i64::from(count) * (i64::from(count) + 1) / 2);
    let mut given_up = sqlx::query("select generate_series(1, 100000)").fetch(&pool);
    given_up.try_next().await.unwrap();
    drop(given_up);
    pool.execute("create table sqlx_copied (id int primary key, note text)")
        .await
        .unwrap();
    let mut copy = pool.copy_in_raw("copy sqlx_copied from stdin").await.unwrap();
    for id in 0..count {
        copy.send(format!("{id}\tsome text\n").into_bytes())
            .await
            .unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), u64::from(count.cast_unsigned()));
    let mut copy = pool.copy_in_raw("copy sqlx_copied from stdin").await.unwrap();
    copy.send(b"-1\tx\n".as_slice()).await.unwrap();
    copy.abort("changed my mind").await.unwrap();
    let mut copy = pool.copy_in_raw("copy sqlx_copied from stdin").await.unwrap();
    copy.send(b"no number\tx\n".as_slice()).await.unwrap();
    assert_eq!(code(copy.finish().await.unwrap_err()), "22P02");
    let out = pool.copy_out_raw("copy sqlx_copied to stdout").await.unwrap();
    let lines = out.try_fold(0, |lines, chunk| async move {
        Ok(lines + chunk.split(|byte| *byte == b'\n').count() - 1)
    });
    assert_eq!(lines.await.unwrap(), usize::try_from(count).unwrap());
}

async fn dropped_futures() {
    let pool = pool(place()).await;
    for _ in 0..lengths(2, 10) {
        let slept =
            tokio::time::timeout(Duration::from_millis(50), pool.execute("select pg_sleep(0.3)")).await;
        assert!(slept.is_err());
        let all = (0..lengths(6, 24)).map(|n: i32| {
            let pool = pool.clone();
            async move {
                sqlx::query_scalar::<_, i32>("select $1::int")
                    .bind(n)
                    .fetch_one(&pool)
                    .await
                    .unwrap()
                    == n
            }
        });
        assert!(join_all(all).await.into_iter().all(|right| right));
    }
}

async fn changed_tables_invalidate_plans() {
    let (mut connection, mut other) = (connect().await, connect().await);
    connection
        .execute("create table sqlx_changing as select 1 as id")
        .await
        .unwrap();
    let query = || sqlx::query("select * from sqlx_changing where id = $1").bind(1);
    assert_eq!(query().fetch_one(&mut connection).await.unwrap().len(), 1);
    other
        .execute("alter table sqlx_changing add column extra int")
        .await
        .unwrap();
    let refused = query().fetch_one(&mut connection).await;
    assert_eq!(code(refused.map(|_| ()).unwrap_err()), "0A000");
    connection.clear_cached_statements().await.unwrap();
    assert_eq!(query().fetch_one(&mut connection).await.unwrap().len(), 2);
}

#[derive(sqlx::Type, Debug, PartialEq)]
#[sqlx(type_name = "sqlx_mood", rename_all = "lowercase")]
enum Mood {
    Sad,
    Happy,
}

async fn types_of_the_database() {
    let pool = pool(place()).await;
    pool.execute("create type sqlx_mood as enum ('sad', 'happy')")
        .await
        .unwrap();
    for _ in 0..lengths(6, 24) {
        let mood: Mood = sqlx::query_scalar("select $1::sqlx_mood")
            .bind(Mood::Happy)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(mood, Mood::Happy);
        let moods: Vec<Mood> = sqlx::query_scalar("select '{sad,happy}'::sqlx_mood[]")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(moods, [Mood::Sad, Mood::Happy]);
    }
    let text = "äöü€".repeat(lengths(100_000, 2_000_000));
    let same: String = sqlx::query_scalar("select $1::text")
        .bind(&text)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(same == text, "the large text came back changed");
}
