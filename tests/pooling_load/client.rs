//! A client that never waits without an end and always knows why it failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::harness::{certificates::Authority, wait::PATIENCE};

/// A session of tokio-postgres and the end of its connection.
pub(super) struct Session {
    pub(super) client: Client,
    end: JoinHandle<Result<(), Error>>,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    /// Its SQLSTATE; where the connection broke without a word, what the driver says.
    pub(super) code: String,
    /// Whether that was the end of its session.
    pub(super) is_over: bool,
}

/// What errors may say in a test.
pub(super) struct Listed {
    /// That ends a session.
    pub(super) over: &'static [&'static str],
    /// That leaves it as it is.
    pub(super) goes_on: &'static [&'static str],
}

/// All that clients were told.
#[derive(Default)]
pub(super) struct Heard {
    times: BTreeMap<String, usize>,
    /// What nobody should have been told.
    pub(super) unlisted: BTreeSet<String>,
}

impl Heard {
    /// Adds what somebody was told.
    pub(super) fn note(&mut self, when: &str, told: &Told, listed: &Listed) {
        let codes = if told.is_over { listed.over } else { listed.goes_on };
        let text = format!("{told} ({when})");
        if !codes.contains(&&*told.code) {
            self.unlisted.insert(text.clone());
        }
        *self.times.entry(text).or_default() += 1;
    }

    /// Adds what others heard.
    pub(super) fn merge(&mut self, other: Self) {
        for (told, times) in other.times {
            *self.times.entry(told).or_default() += times;
        }
        self.unlisted.extend(other.unlisted);
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.times.iter();
        lines.try_for_each(|(told, times)| writeln!(f, "  {times} times {told}"))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_over { ", disconnected" } else { "" };
        write!(f, "{}{end}", self.code)
    }
}

impl Session {
    /// Logs in over TLS.
    pub(super) async fn connect(config: &Config, authority: &Authority) -> Result<Self, Told> {
        let tls = MakeRustlsConnect::new(authority.client_config(&[]));
        let connected = bounded("login", config.connect(tls)).await;
        let (client, connection) = connected.map_err(|error| Told {
            code: words(&error),
            is_over: true,
        })?;
        Ok(Self {
            client,
            end: tokio::spawn(connection),
        })
    }

    /// Logs in without TLS.
    pub(super) async fn plain(config: &Config) -> Self {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        let end = tokio::spawn(connection);
        Self { client, end }
    }

    /// Why something failed, and whether the session is over: an error that ends it may have come before anything was
    /// asked, and the driver then tells it to the connection alone.
    pub(super) async fn told(&mut self, error: &Error) -> Told {
        if error
            .as_db_error()
            .is_some_and(|error| error.severity() == "ERROR")
        {
            return Told {
                code: words(error),
                is_over: false,
            };
        }
        let what = format!("end of a session after {error:?}");
        let end = bounded(&what, &mut self.end).await;
        let code = match (error.code(), end.unwrap()) {
            (None, Err(end)) => words(&end),
            _ => words(error),
        };
        Told { code, is_over: true }
    }
}

/// The SQLSTATE, else all that the driver says.
fn words(error: &Error) -> String {
    error
        .code()
        .map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())
}

/// Nobody waits for longer than this.
pub(super) async fn bounded<T>(what: &str, wait: impl Future<Output = T>) -> T {
    bounded_by(PATIENCE, what, wait).await
}

/// The same with another bound.
pub(super) async fn bounded_by<T>(limit: Duration, what: &str, wait: impl Future<Output = T>) -> T {
    let Ok(done) = timeout(limit, wait).await else {
        panic!("not within {limit:?}: {what}");
    };
    done
}
