//! Databases, roles and startup parameters: each has sessions of its own, and idle ones are in nobody's way.

use super::{
    act::Act,
    line::Who,
    pooled::{Pooled, pool},
    said::{STRANGER, Said},
    script::Script,
    told::{errors, values},
};
use crate::harness::postgres::{PASSWORD, Postgres, Version};

fn who() -> Who {
    Who::new("postgres", "postgres")
}

/// Sessions that pgwake keeps or rests in a database are no other users of it.
#[tokio::test]
async fn a_database_can_be_dropped_renamed_and_copied_though_sessions_sat_in_it() {
    let clean = "drop database if exists guests with (force)";
    let again = "drop database if exists moved with (force)";
    let copied = "drop database if exists copied with (force)";
    // DROP DATABASE stands alone.
    const ENDPOINT: &str = "db-dropped";
    let pooled = Pooled::start(ENDPOINT, 3).await;
    let direct = pooled.direct().await;
    for way in [
        "drop database guests",
        "alter database guests rename to moved",
        "create database copied template guests",
    ] {
        for sql in [clean, again, copied, "create database guests"] {
            direct.batch_execute(sql).await.unwrap();
        }
        let mut owner = pooled.line(ENDPOINT).await;
        let (mut guest, _) = pooled.client(ENDPOINT, &Who::new("postgres", "guests")).await;
        assert_eq!(
            values(&guest.query("select current_database()").await),
            ["guests"]
        );
        // A session rests there, one is kept for a client that is still there.
        let (resting, _) = pooled.client(ENDPOINT, &Who::new("postgres", "guests")).await;
        resting.leave().await;

        let answer = owner.query(way).await;

        assert!(errors(&answer).is_empty(), "{way}: {answer:?}");
        let said = [Said::run("select 'still there'", &[]).as_slice(), &[Said::Sync]].concat();
        assert_eq!(
            values(&owner.ask(&said, super::line::Way::Whole).await),
            ["still there"]
        );
    }
}

/// What is read after it was dropped and made again is the new one.
#[tokio::test]
async fn a_database_that_is_made_again_is_the_new_one() {
    let made = "drop database if exists guests with (force)";
    Script::new("db-again", 2)
        .before(made)
        .query(0, "create database guests")
        .act(
            0,
            Act::Visit {
                database: "guests".to_owned(),
            },
        )
        .query(1, STRANGER)
        .query(0, "drop database guests")
        .act(
            0,
            Act::Visit {
                database: "guests".to_owned(),
            },
        )
        .query(0, "/* again */ CREATE DATABASE guests")
        .act(
            0,
            Act::Visit {
                database: "guests".to_owned(),
            },
        )
        .query(0, "Drop Database if exists guests")
        .play()
        .await;
}

/// A session never crosses roles, databases or startup parameters.
#[tokio::test]
async fn whoever_comes_is_who_he_is() {
    const ENDPOINT: &str = "db-who";
    let postgres = Postgres::start(Version::Debian).await;
    let password = PASSWORD.replace('\'', "''");
    let direct = postgres.connect().await;
    for sql in [
        &*format!("create role alice login password '{password}'"),
        &format!("create role bob login password '{password}'"),
        "create database other",
        "alter role bob set datestyle = 'German'",
        "alter database other set intervalstyle = 'iso_8601'",
        "alter role alice in database other set timezone = 'Asia/Tokyo'",
    ] {
        direct.batch_execute(sql).await.unwrap();
    }
    let pooled = Pooled::with(postgres, &[(ENDPOINT, &pool(1, ""))]).await;
    let me = "select current_user, session_user, current_database(), current_setting('datestyle'), \
              current_setting('intervalstyle'), current_setting('timezone'), current_setting('search_path'), \
              current_setting('application_name'), current_setting('work_mem'), current_setting('is_superuser')";
    let whos = [
        Who::new("alice", "postgres"),
        Who::new("alice", "other"),
        Who::new("bob", "postgres"),
        Who::new("bob", "other").with("DateStyle", "SQL"),
        who(),
        who().with(
            "options",
            "-c work_mem=1234kB -csearch_path=a,b --intervalstyle=postgres_verbose",
        ),
        who()
            .with("search_path", "'quoted, one', public")
            .with("application_name", "odd 'name'"),
        Who::new("alice", "postgres").with("options", "-c datestyle=German"),
    ];
    let count = whos.len();
    let mut script = whos.into_iter().fold(Script::new(ENDPOINT, 1), Script::who);
    for client in (0..count).chain((0..count).rev()) {
        script = script.query(client, me);
    }
    for reset in ["reset all", "discard all"] {
        for client in 0..count {
            script = script
                .query(
                    client,
                    "set datestyle = 'ISO, YMD'; set work_mem = '2MB'; set search_path = c",
                )
                .query((client + 3) % count, me)
                .query(client, reset)
                .query(client, me);
        }
    }
    script.play_on(&pooled).await;
}

/// What Postgres refuses at a login it refuses through pgwake, in the same words.
#[tokio::test]
async fn what_postgres_refuses_at_startup_is_refused_in_its_words() {
    let wrong = [
        who().with("DateStyle", "nonsense"),
        who().with("options", "-c no_such_setting=1"),
        who().with("options", "-c work_mem=huge"),
        who().with("client_encoding", "nonsense"),
        who().with("no_such_parameter", "1"),
        who().with("max_connections", "7"),
        Who::new("postgres", "nowhere"),
    ];
    let count = wrong.len();
    let mut script = Script::new("db-refused", 2).who(who());
    script = wrong.into_iter().fold(script, Script::who);
    for client in 1..=count {
        // They come in and hear why not; the first one goes on.
        script = script.act(client, Act::Enter).query(0, STRANGER);
    }
    script.play().await;
}
