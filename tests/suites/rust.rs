//! The suite of tokio-postgres: runs in this process and tells what differs in the words of the other suites.

mod sessions;
mod statements;

use std::{
    fmt::Write,
    os::unix::process::ExitStatusExt,
    pin::Pin,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_postgres::{Client, Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{catalogue::Length, place::Stage};
use crate::harness::{programs::Finished, wait::PATIENCE};

/// How long a step may take.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What a step gets: how to connect, and how much to do.
pub(crate) struct Means {
    config: Config,
    tls: rustls::ClientConfig,
    length: Length,
    /// Whether each client has a server session of its own, with the number that it was told.
    own_sessions: bool,
}

type Step = fn(Arc<Means>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs all steps, the rest too where one differs and the form is long.
pub(crate) async fn run(stage: &Stage, length: Length) -> Finished {
    let means = Arc::new(Means::of(stage, length));
    let (mut output, mut errors) = (String::new(), String::new());
    let mut differences = 0;
    for (name, step) in sessions::STEPS.iter().chain(statements::STEPS) {
        let began = Instant::now();
        let ended = timeout(STEP_LIMIT, tokio::spawn(step(Arc::clone(&means)))).await;
        match ended {
            Ok(Ok(())) => writeln!(output, "ok {name} {:.1} s", began.elapsed().as_secs_f32()).unwrap(),
            Ok(Err(error)) => {
                differences += 1;
                writeln!(output, "DIFFERS {name}: see its panic").unwrap();
                writeln!(errors, "{name}: {error}").unwrap();
            }
            Err(_) => {
                differences += 1;
                writeln!(output, "DIFFERS {name}: not done after {STEP_LIMIT:?}").unwrap();
            }
        }
        if differences > 0 && length == Length::Short {
            break;
        }
    }
    output.push_str(if differences == 0 {
        "all well\n"
    } else {
        "there are differences\n"
    });
    Finished {
        status: ExitStatus::from_raw(i32::from(differences > 0) << 8),
        output,
        errors,
    }
}

impl Means {
    fn of(stage: &Stage, length: Length) -> Self {
        let mut config = Config::new();
        config
            .host(stage.variable("PGHOST"))
            .hostaddr(stage.variable("PGHOSTADDR").parse().unwrap())
            .port(stage.variable("PGPORT").parse().unwrap())
            .user(stage.variable("PGUSER"))
            .password(stage.variable("PGPASSWORD"))
            .dbname(stage.variable("PGDATABASE"))
            .ssl_mode(SslMode::Require)
            .connect_timeout(PATIENCE);
        Self {
            config,
            tls: stage.tls.clone(),
            length,
            own_sessions: stage.variable("SUITE_MODE") != "transaction",
        }
    }

    fn tls(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(self.tls.clone())
    }

    /// A session with what `change` makes of the usual settings.
    async fn connect_with(&self, change: impl FnOnce(&mut Config)) -> Client {
        let mut config = self.config.clone();
        change(&mut config);
        let (client, connection) = config.connect(self.tls()).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn connect(&self) -> Client {
        self.connect_with(|_| ()).await
    }

    /// More clients than the fewest sessions that a suite runs with.
    async fn clients(&self) -> Vec<Client> {
        let count = self.lengths(6, 12);
        futures_util::future::join_all((0..count).map(|_| self.connect())).await
    }

    /// The one that belongs to this run.
    fn lengths<T>(&self, short: T, long: T) -> T {
        match self.length {
            Length::Short => short,
            Length::Long => long,
        }
    }
}

/// The first value of a simple query's answer.
async fn value(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("{sql} gave no value")).to_owned()
}
