//! Somebody who is no client of a case: the superuser at a Postgres itself, or coming through pgwake each time where a
//! connection of its own would not outlive a suspend.

use std::{collections::HashMap, path::PathBuf};

use tokio::{net::UnixStream, sync::Mutex, time::Instant};
use tokio_postgres::{Client, Config, NoTls};

use crate::harness::{
    postgres::{PASSWORD, Postgres, SUPERUSER},
    wait::PATIENCE,
};

pub(crate) struct Beside {
    socket: PathBuf,
    /// What is connected, by database; `None`: nothing stays.
    kept: Option<Mutex<HashMap<String, Client>>>,
}

impl Beside {
    /// At a Postgres that is always there.
    pub(crate) fn at(postgres: &Postgres) -> Self {
        Self {
            socket: postgres.socket(),
            kept: Some(Mutex::default()),
        }
    }

    /// At one that sleeps, by pgwake's socket.
    pub(crate) fn through(socket: PathBuf) -> Self {
        Self { socket, kept: None }
    }

    /// Runs SQL that must not fail.
    pub(crate) async fn does(&self, database: &str, sql: &str) {
        let Some(kept) = &self.kept else {
            return self.connect(database).await.batch_execute(sql).await.unwrap();
        };
        let mut kept = kept.lock().await;
        if !kept.contains_key(database) {
            kept.insert(database.to_owned(), self.connect(database).await);
        }
        kept[database].batch_execute(sql).await.unwrap();
    }

    async fn connect(&self, database: &str) -> Client {
        let mut config = Config::new();
        config.user(SUPERUSER).password(PASSWORD).dbname(database);
        if self.kept.is_none() {
            config.options("-c pgwake.pool=session");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = UnixStream::connect(&self.socket).await.unwrap();
            match config.connect_raw(stream, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                // A compute may be slow to start.
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }
}
