//! Steps about statements: prepared, pipelined, in portals, with types of the database, simple.

use std::sync::Arc;

use futures_util::{TryStreamExt, future::join_all};
use tokio_postgres::{SimpleQueryMessage, error::SqlState, types::Type};

use super::{Means, Step, value};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("pipelines", |means| Box::pin(pipelines(means))),
    ("statements_serve_many_transactions", |means| {
        Box::pin(statements_serve_many_transactions(means))
    }),
    ("statements_are_closed", |means| {
        Box::pin(statements_are_closed(means))
    }),
    ("changed_tables_invalidate_plans", |means| {
        Box::pin(changed_tables_invalidate_plans(means))
    }),
    ("portals", |means| Box::pin(portals(means))),
    ("types_of_the_database", |means| {
        Box::pin(types_of_the_database(means))
    }),
    ("simple_queries", |means| Box::pin(simple_queries(means))),
    ("large_values", |means| Box::pin(large_values(means))),
];

async fn pipelines(means: Arc<Means>) {
    let count = means.lengths(500, 5_000);
    for client in [means.connect().await, means.connect().await] {
        let numbers = client
            .prepare_typed("select $1 + 1", &[Type::INT4])
            .await
            .unwrap();
        let answers = join_all((0..count).map(|n: i32| {
            let (client, numbers) = (&client, &numbers);
            async move { client.query_one(numbers, &[&n]).await.unwrap().get::<_, i32>(0) }
        }));
        assert_eq!(answers.await, (1..=count).collect::<Vec<_>>());
        // An error among them stops only its own.
        let divided = client
            .prepare_typed("select 10 / $1", &[Type::INT4])
            .await
            .unwrap();
        let answers = join_all([5_i32, 0, 2].iter().map(|n| {
            let (client, divided) = (&client, &divided);
            async move {
                client
                    .query_one(divided, &[n])
                    .await
                    .map(|row| row.get::<_, i32>(0))
            }
        }))
        .await;
        assert_eq!(
            (answers[0].as_ref().unwrap(), answers[2].as_ref().unwrap()),
            (&2, &5)
        );
        let error = answers[1].as_ref().unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    }
}

async fn statements_serve_many_transactions(means: Arc<Means>) {
    let mut clients = Vec::new();
    for mut client in means.clients().await {
        // The driver's names are the same in each client; the statements are not.
        let number = i32::try_from(clients.len()).unwrap();
        let statement = client
            .prepare(&format!("select $1::int * {number}"))
            .await
            .unwrap();
        let transaction = client.transaction().await.unwrap();
        let inside = transaction.prepare("select $1::text || 'x'").await.unwrap();
        transaction.commit().await.unwrap();
        clients.push((number, client, statement, inside));
    }
    for round in 0..means.lengths(4, 40) {
        for (number, client, statement, inside) in &mut clients {
            let transaction = client.transaction().await.unwrap();
            let row = transaction.query_one(&*statement, &[&round]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), round * *number);
            transaction.commit().await.unwrap();
            let row = client.query_one(&*inside, &[&"y"]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), "yx");
        }
    }
}

async fn statements_are_closed(means: Arc<Means>) {
    let client = means.connect().await;
    let count = "select count(*) from pg_prepared_statements where statement like '%kept by rust%' \
                 and statement not like '%pg_prepared%'";
    let kept = client.prepare("select 'kept by rust', $1::int").await.unwrap();
    for number in 0..means.lengths(50, 500) {
        let brief = client
            .prepare("select 'not kept by rust', $1::int")
            .await
            .unwrap();
        let row = client.query_one(&brief, &[&number]).await.unwrap();
        assert_eq!(row.get::<_, i32>(1), number);
    }
    if means.own_sessions {
        assert_eq!(value(&client, count).await, "1");
    }
    client.batch_execute("deallocate all").await.unwrap();
    let gone = client.query_one(&kept, &[&1]).await.unwrap_err();
    assert_eq!(gone.code(), Some(&SqlState::INVALID_SQL_STATEMENT_NAME));
    assert_eq!(value(&client, "select 1").await, "1");
}

async fn changed_tables_invalidate_plans(means: Arc<Means>) {
    let (client, other) = (means.connect().await, means.connect().await);
    client
        .batch_execute("create table rust_changing as select 1 as id")
        .await
        .unwrap();
    let statement = client.prepare("select * from rust_changing").await.unwrap();
    assert_eq!(client.query_one(&statement, &[]).await.unwrap().len(), 1);
    other
        .batch_execute("alter table rust_changing add column extra int")
        .await
        .unwrap();
    let refused = client.query_one(&statement, &[]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let again = client.prepare("select * from rust_changing").await.unwrap();
    assert_eq!(client.query_one(&again, &[]).await.unwrap().len(), 2);
}

async fn portals(means: Arc<Means>) {
    let mut client = means.connect().await;
    let transaction = client.transaction().await.unwrap();
    let one = transaction
        .bind("select generate_series(1, 100)", &[])
        .await
        .unwrap();
    let two = transaction
        .bind("select generate_series(1, 10)", &[])
        .await
        .unwrap();
    let mut counts = Vec::new();
    for portal in [&one, &two, &one, &two, &one] {
        counts.push(transaction.query_portal(portal, 40).await.unwrap().len());
    }
    assert_eq!(counts, [40, 10, 40, 0, 20]);
    transaction.commit().await.unwrap();
    let rows = client
        .query_raw("select generate_series(1, $1)", [means.lengths(1_000, 200_000)])
        .await
        .unwrap();
    let sum = rows.try_fold(0_i64, |sum, row| async move {
        Ok(sum + i64::from(row.get::<_, i32>(0)))
    });
    let count = i64::from(means.lengths(1_000, 200_000));
    assert_eq!(sum.await.unwrap(), count * (count + 1) / 2);
}

async fn types_of_the_database(means: Arc<Means>) {
    let owner = means.connect().await;
    let types =
        "create type rust_mood as enum ('sad', 'ok'); create type rust_pair as (x int, moods rust_mood[])";
    owner.batch_execute(types).await.unwrap();
    for client in means.clients().await {
        let statement = client.prepare("select $1::rust_mood, (1, '{ok}')::rust_pair, '{1,2}'::int[]");
        let statement = statement.await.unwrap();
        assert_eq!(statement.params()[0].name(), "rust_mood");
        assert_eq!(statement.columns()[1].type_().name(), "rust_pair");
        let typed = client
            .query_typed("select $1 + 1", &[(&41_i32, Type::INT4)])
            .await
            .unwrap();
        assert_eq!(typed[0].get::<_, i32>(0), 42);
    }
}

async fn simple_queries(means: Arc<Means>) {
    let client = means.connect().await;
    let messages = client
        .simple_query("select 1; select 2 where false; ; select 'three'")
        .await
        .unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(rows.collect::<Vec<_>>(), ["1", "three"]);
    assert!(client.simple_query("").await.unwrap().len() <= 1);
    let failed = client
        .batch_execute("create table rust_together (id int); select 1/0")
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Some(&SqlState::DIVISION_BY_ZERO));
    assert_eq!(
        value(&client, "select (to_regclass('rust_together') is null)::text").await,
        "true"
    );
    client
        .batch_execute("begin; create table rust_together (id int); commit")
        .await
        .unwrap();
    assert_eq!(value(&client, "select count(*) from rust_together").await, "0");
}

async fn large_values(means: Arc<Means>) {
    let client = means.connect().await;
    let text = "äöü€".repeat(means.lengths(100_000, 3_000_000));
    let row = client.query_one("select $1::text", &[&text]).await.unwrap();
    assert!(row.get::<_, &str>(0) == text);
    let long = format!("select length('{}')", "x".repeat(1_500_000));
    assert_eq!(
        client.query_one(&long, &[]).await.unwrap().get::<_, i32>(0),
        1_500_000
    );
}
