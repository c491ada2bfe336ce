//! What users of sqlx do, with its pool and on connections of their own. Told by environment variables as
//! `tests/drivers/suite.py` says, and ends as that says: each step is a line, the last one is "all well" or not.

mod sessions;
mod statements;

use std::{
    env,
    future::Future,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

/// How long a step may take.
const STEP_LIMIT: Duration = Duration::from_secs(120);

type Step = fn() -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a variable says.
fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The one that belongs to this run.
fn lengths<T>(short: T, long: T) -> T {
    if told("SUITE_LENGTH") == "long" {
        long
    } else {
        short
    }
}

/// How to reach the stage. sqlx takes no address beside the name, so TLS is verified for the address.
fn place() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&told("PGHOSTADDR"))
        .port(told("PGPORT").parse().expect("a port"))
        .username(&told("PGUSER"))
        .password(&told("PGPASSWORD"))
        .database(&told("PGDATABASE"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(told("PGSSLROOTCERT"))
}

/// A pool with more connections than the fewest sessions that a suite runs with.
async fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(lengths(6, 12))
        .acquire_timeout(Duration::from_secs(60))
        .test_before_acquire(true)
        .connect_with(options)
        .await
        .expect("a connection")
}

async fn connect() -> PgConnection {
    PgConnection::connect_with(&place()).await.unwrap()
}

/// The SQLSTATE of an error.
fn code(error: sqlx::Error) -> String {
    let sqlx::Error::Database(error) = error else {
        panic!("no error of the database: {error}")
    };
    error.code().expect("a code").into_owned()
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut differences = 0;
    for (name, step) in sessions::STEPS.iter().chain(statements::STEPS) {
        let began = Instant::now();
        match tokio::time::timeout(STEP_LIMIT, tokio::spawn(step())).await {
            Ok(Ok(())) => println!("ok {name} {:.1} s", began.elapsed().as_secs_f32()),
            Ok(Err(_)) => {
                differences += 1;
                println!("DIFFERS {name}: see its panic");
            }
            Err(_) => {
                differences += 1;
                println!("DIFFERS {name}: not done after {STEP_LIMIT:?}");
            }
        }
    }
    println!(
        "{}",
        if differences == 0 {
            "all well"
        } else {
            "there are differences"
        }
    );
    ExitCode::from(u8::from(differences > 0))
}
