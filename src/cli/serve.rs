//! `pgwake serve`: loads, starts, and ends with a signal.

use std::{path::Path, process::ExitCode};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{EXIT_CONFIG, fail};
use crate::config::load;
use crate::listener::BoundAddress;
use crate::server::{Server, raise_file_limit};

/// Serves until SIGTERM or Ctrl-C.
pub(super) fn run(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(problems) => return fail(&problems, EXIT_CONFIG),
    };
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    runtime.block_on(async {
        raise_file_limit();
        let mut signals = match Signals::watch() {
            Ok(signals) => signals,
            Err(error) => return fail(&error, 1),
        };
        let endpoints = config.endpoints.len();
        let server = match Server::start(config).await {
            Ok(server) => server,
            Err(error) => return fail(&error, 1),
        };
        for address in server.addresses() {
            tracing::info!(address = %shown(address), "listening");
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), endpoints, "pgwake serves");
        end_with_signal(&server, &mut signals).await;
        ExitCode::SUCCESS
    })
}

/// The runtime of everything but clients: they have threads of their own.
pub(super) fn control_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
}

pub(super) fn shown(address: &BoundAddress) -> String {
    match address {
        BoundAddress::Tcp(address) => address.to_string(),
        BoundAddress::Unix(path) => path.display().to_string(),
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

/// Drains at the first signal; a second one does not wait for transactions. Either way the computes are stopped.
pub(super) async fn end_with_signal(server: &Server, signals: &mut Signals) {
    signals.next().await;
    tracing::info!(
        clients = server.clients(),
        "draining: idle clients are ended, transactions may finish"
    );
    let mut draining = std::pin::pin!(server.drain());
    tokio::select! {
        () = &mut draining => (),
        () = signals.next() => {
            tracing::info!("second signal: ending every session now");
            tokio::join!(draining, server.stop());
        }
    }
    tracing::info!("ended; no compute is left running");
}
