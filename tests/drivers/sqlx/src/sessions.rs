//! Steps about what belongs to a session: settings, transactions, listeners, locks, temporary tables.

use futures_util::future::join_all;
use sqlx::{
    AssertSqlSafe, Connection, Executor,
    postgres::{PgAdvisoryLock, PgListener},
};

use crate::{Step, code, connect, lengths, place, pool};

pub const STEPS: &[(&str, Step)] = &[
    ("settings_stay_with_their_connection", || {
        Box::pin(settings_stay_with_their_connection())
    }),
    ("transactions_and_savepoints", || {
        Box::pin(transactions_and_savepoints())
    }),
    ("many_transactions_lose_nothing", || {
        Box::pin(many_transactions_lose_nothing())
    }),
    ("listeners", || Box::pin(listeners())),
    ("advisory_locks", || Box::pin(advisory_locks())),
    ("temporary_tables_are_private", || {
        Box::pin(temporary_tables_are_private())
    }),
];

async fn settings_stay_with_their_connection() {
    let mut pools = Vec::new();
    for number in 0..3 {
        let options = [
            ("search_path", format!("schema_{number}")),
            ("statement_timeout", format!("{}ms", 90_001 + number)),
        ];
        pools.push(
            pool(
                place()
                    .application_name(&format!("sqlx {number}"))
                    .options(options),
            )
            .await,
        );
    }
    let looks = (0..lengths(100, 2_000)).map(|turn| {
        let number = turn % 3;
        let pool = pools[number].clone();
        tokio::spawn(async move {
            let sql = "select concat_ws('|', current_setting('application_name'), current_setting('search_path'), \
                       current_setting('statement_timeout'))";
            let found: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            assert_eq!(found, format!("sqlx {number}|schema_{number}|{}ms", 90_001 + number));
        })
    });
    join_all(looks).await.into_iter().for_each(Result::unwrap);
    let (mut one, mut other) = (
        pools[0].acquire().await.unwrap(),
        pools[1].acquire().await.unwrap(),
    );
    one.execute("set timezone to 'Asia/Tokyo'").await.unwrap();
    let zone: String = sqlx::query_scalar("show timezone")
        .fetch_one(&mut *other)
        .await
        .unwrap();
    assert_ne!(zone, "Asia/Tokyo");
    let zone: String = sqlx::query_scalar("show timezone")
        .fetch_one(&mut *one)
        .await
        .unwrap();
    assert_eq!(zone, "Asia/Tokyo");
}

async fn transactions_and_savepoints() {
    let pool = pool(place()).await;
    pool.execute("create table sqlx_steps (id int primary key)")
        .await
        .unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into sqlx_steps values ($1)")
        .bind(1)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    let twice = sqlx::query("insert into sqlx_steps values ($1)")
        .bind(1)
        .execute(&mut *savepoint)
        .await;
    assert_eq!(code(twice.unwrap_err()), "23505");
    let ignored = sqlx::query("select 1").execute(&mut *savepoint).await;
    assert_eq!(code(ignored.unwrap_err()), "25P02");
    savepoint.rollback().await.unwrap();
    sqlx::query("insert into sqlx_steps values ($1)")
        .bind(2)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let seen: i64 = sqlx::query_scalar("select count(*) from sqlx_steps")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(seen, 0);
    transaction.commit().await.unwrap();
    // Dropped: the pool rolls it back before it lends the connection again.
    let mut dropped = pool
        .begin_with("begin isolation level serializable")
        .await
        .unwrap();
    sqlx::query("insert into sqlx_steps values (3)")
        .execute(&mut *dropped)
        .await
        .unwrap();
    drop(dropped);
    let ids: Vec<i32> = sqlx::query_scalar("select id from sqlx_steps order by id")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(ids, [1, 2]);
    let failed = pool
        .execute("create table sqlx_together (id int); select 1/0")
        .await;
    assert_eq!(code(failed.unwrap_err()), "22012");
    assert!(
        pool.fetch_optional("select 1 from pg_class where relname = 'sqlx_together'")
            .await
            .unwrap()
            .is_none()
    );
}

async fn many_transactions_lose_nothing() {
    let pool = pool(place()).await;
    let table = "create table sqlx_accounts as select n as id, 100 as balance from generate_series(0, 9) n";
    pool.execute(table).await.unwrap();
    let transfers = (0..lengths(100, 1_500)).map(|number: i32| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let (one, two) = (number % 10, (number * 3 + 1) % 10);
            let mut transaction = pool.begin().await.unwrap();
            for (id, amount) in [(one.min(two), number), (one.max(two), -number)] {
                sqlx::query("update sqlx_accounts set balance = balance + $1 where id = $2")
                    .bind(amount)
                    .bind(id)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
            if number % 5 == 0 {
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
            }
        })
    });
    join_all(transfers).await.into_iter().for_each(Result::unwrap);
    let sum: i64 = sqlx::query_scalar("select sum(balance) from sqlx_accounts")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(sum, 1000);
}

async fn listeners() {
    let pool = pool(place()).await;
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("sqlx_news").await.unwrap();
    for number in 0..3 {
        sqlx::query("select pg_notify('sqlx_news', $1)")
            .bind(number.to_string())
            .execute(&pool)
            .await
            .unwrap();
    }
    for number in 0..3 {
        let note = listener.recv().await.unwrap();
        assert_eq!(
            (note.channel(), note.payload()),
            ("sqlx_news", number.to_string().as_str())
        );
    }
    listener.unlisten_all().await.unwrap();
    // Given back with its channel still open, a listener unlistens before the next borrower.
    listener.listen("sqlx_news").await.unwrap();
    drop(listener);
    let channels = "select count(*) from pg_listening_channels()";
    for _ in 0..lengths(6, 12) {
        let heard: i64 = sqlx::query_scalar(channels).fetch_one(&pool).await.unwrap();
        assert_eq!(heard, 0);
    }
}

async fn advisory_locks() {
    let lock = PgAdvisoryLock::new("the lock of sqlx");
    let held = lock.acquire(connect().await).await.unwrap();
    assert!(lock.try_acquire(connect().await).await.unwrap().is_right());
    held.release_now().await.unwrap();
    let held = lock.try_acquire(connect().await).await.unwrap();
    held.left().expect("a free lock").release_now().await.unwrap();
}

async fn temporary_tables_are_private() {
    let mut both = [connect().await, connect().await];
    for (number, connection) in both.iter_mut().enumerate() {
        let sql = format!("create temp table private as select {number}::bigint as number");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    for _ in 0..lengths(4, 20) {
        for (number, connection) in (0_i64..).zip(both.iter_mut()) {
            let found: i64 = sqlx::query_scalar("select number from private")
                .fetch_one(connection)
                .await
                .unwrap();
            assert_eq!(found, number);
        }
    }
}
