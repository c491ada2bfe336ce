//! pgwake as it is run for real: the program, in a process and a process group of its own, that gets signals.
//!
//! What the process starts ends with the test's `Setup`, whatever becomes of the process.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio_postgres::Client;

use super::{
    gateway::{DOMAIN, Setup, config_at, prove},
    programs::{Finished, Program, Running},
    raw::Raw,
    tls_client,
};

/// A `pgwake serve` that serves.
pub(crate) struct Pgwake<'a> {
    pub(crate) running: Running,
    setup: &'a Setup,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

/// `pgwake serve` on what `setup` says.
pub(crate) fn program(setup: &Setup) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pgwake"))
        .arguments(&["serve", "--config"])
        .argument(setup.write())
}

/// The same, started by another program that becomes it.
pub(crate) fn program_with(setup: &Setup, before: &[&str]) -> Program {
    Program::new(before[0])
        .arguments(&before[1..])
        .arguments(&[env!("CARGO_BIN_EXE_pgwake"), "serve", "--config"])
        .argument(setup.write())
}

impl<'a> Pgwake<'a> {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(setup: &'a Setup) -> Self {
        Self::start_as(program(setup), setup).await
    }

    /// Starts this program and waits until it serves.
    pub(crate) async fn start_as(program: Program, setup: &'a Setup) -> Self {
        let mut running = program.start();
        // As text or as JSON.
        running.hear_error("listening").await;
        running.hear_error("127.0.0.1:").await;
        let line = running.hear_error("\n").await;
        let port = line.split(|letter: char| !letter.is_ascii_digit()).next();
        let port: u16 = port.unwrap().parse().unwrap();
        let told = running.hear_error("pgwake serves").await;
        let admin = told.split("http://127.0.0.1:").nth(1).map(|rest| {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            ([127, 0, 0, 1], port.parse().unwrap()).into()
        });
        Self {
            running,
            admin,
            setup,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    /// Where operators look, if it has said so.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where clients come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A session of the superuser of an endpoint. Where its roles have not been learnt yet the login is tried again.
    pub(crate) async fn connect(&self, endpoint: &str) -> Client {
        self.try_connect(endpoint).await.unwrap()
    }

    /// The same where a refusal is no surprise.
    pub(crate) async fn try_connect(&self, endpoint: &str) -> Result<Client, tokio_postgres::Error> {
        let config = config_at(self.address, endpoint);
        tls_client::connect(&config, &self.setup.authority).await
    }

    /// A connection over TLS to an endpoint, with nothing said yet.
    pub(crate) async fn raw_to(&self, endpoint: &str) -> Raw {
        let config = self.setup.authority.client_config(&[]);
        Raw::tcp(self.address)
            .await
            .request_tls(config, &format!("{endpoint}.{DOMAIN}"))
            .await
    }

    /// The superuser of an endpoint, who has had its AuthenticationOk.
    pub(crate) async fn raw_proved(&self, endpoint: &str) -> Raw {
        let mut client = self.raw_to(endpoint).await;
        prove(&mut client).await;
        client
    }

    /// Sends a signal to the process alone, as a service manager does.
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> Finished {
        self.running.end().await
    }

    /// Ends it as a service manager does; gives its log.
    pub(crate) async fn ends_cleanly(self) -> String {
        self.signal(Signal::TERM);
        let ended = self.end().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        ended.errors
    }
}
