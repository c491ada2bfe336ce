//! Computes that commands start, look at and stop: real Postgres behind a script, real clients in front.

mod crashing;
mod failing;
mod hanging;
mod lost;
mod serving;

use std::{collections::BTreeMap, path::Path};

use tokio_postgres::Client;

use crate::harness::{
    logs::{self, Line},
    raw::Raw,
    wait::until,
};

/// How a client that waits is refused.
async fn refusal(client: &mut Raw) -> BTreeMap<char, String> {
    // Ahead of it there may be notices that it is held.
    let messages = client.until(b'E').await;
    let fields = messages.last().unwrap().fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"), "{fields:?}");
    client.closed().await;
    fields
}

/// The number in the name of the socket through which a session came.
async fn port(client: &Client) -> i32 {
    let row = client.query_one("show port", &[]).await.unwrap();
    row.get::<_, &str>(0).parse().unwrap()
}

/// The lines of the log that say this of an endpoint.
fn told(endpoint: &str, message: &str) -> Vec<Line> {
    let lines = logs::of_endpoint(endpoint).into_iter();
    lines.filter(|line| line.field("message") == message).collect()
}

/// Waits for a number that a script has written.
async fn number(path: &Path) -> i32 {
    let read = || {
        std::fs::read_to_string(path)
            .ok()?
            .strip_suffix('\n')?
            .parse()
            .ok()
    };
    until("a script to begin", async || read().is_some()).await;
    read().unwrap()
}
