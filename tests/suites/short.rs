//! The short form of each suite, at every place of [`SHORT`].

use super::{
    catalogue::{Length, Suite},
    place::{SHORT, Stage},
};

async fn finds_no_difference(name: &str) {
    assert!(!SHORT.is_empty());
    for place in SHORT {
        let stage = Stage::start(*place).await;
        let finished = Suite::named(name).run(&stage, Length::Short).await;
        assert!(
            finished.status.success() && finished.output.trim_end().ends_with("all well"),
            "{name} at {place}: {finished:#?}"
        );
    }
}

#[tokio::test]
async fn psql_finds_no_difference() {
    finds_no_difference("psql").await;
}

#[tokio::test]
async fn pgbench_finds_no_difference() {
    finds_no_difference("pgbench").await;
}

#[tokio::test]
async fn psycopg_finds_no_difference() {
    finds_no_difference("psycopg").await;
}

#[tokio::test]
async fn the_pools_of_psycopg_find_no_difference() {
    finds_no_difference("psycopg_pool").await;
}

#[tokio::test]
async fn asyncpg_finds_no_difference() {
    finds_no_difference("asyncpg").await;
}

#[tokio::test]
async fn pg8000_finds_no_difference() {
    finds_no_difference("pg8000").await;
}

#[tokio::test]
async fn sqlalchemy_finds_no_difference() {
    finds_no_difference("sqlalchemy").await;
}

#[tokio::test]
async fn node_pg_finds_no_difference() {
    finds_no_difference("pg").await;
}

#[tokio::test]
async fn postgres_js_finds_no_difference() {
    finds_no_difference("postgres_js").await;
}

#[tokio::test]
async fn tokio_postgres_finds_no_difference() {
    finds_no_difference("tokio_postgres").await;
}
