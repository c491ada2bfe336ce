//! `pgwake serve`: loads, starts, and ends with a signal.

use std::{ffi::OsString, path::Path, process::ExitCode, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{EXIT_CONFIG, fail};
use crate::config::{Config, load};
use crate::listener::BoundAddress;
use crate::runtime::Own;
use crate::server::{Program, Server, raise_file_limit};
use crate::supervisor::Supervisor;

/// The argument that has it take another's place.
const REPLACE: &str = "--replace";

/// All is done by then: what still reads from a disk that does not answer is left to itself.
const READING_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether another pgwake may serve the same folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Then this one does not begin.
    Alone,
    /// Then this one takes its place.
    InPlace,
}

/// Serves what a file says until SIGTERM or Ctrl-C; SIGHUP and changes of the file have it read again.
pub(super) fn run(file: &Path, beginning: Beginning) -> ExitCode {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(problems) => return fail(&problems, EXIT_CONFIG),
    };
    let endpoints = config.endpoints.len();
    serve(config, beginning, |server| {
        if let Some(program) = successor() {
            server.succeeded_by(program);
        }
        if let Err(error) = server.follow(file) {
            tracing::warn!(%error, "changes of the configuration are not noticed; SIGHUP has it read again");
        }
        for address in server.addresses() {
            tracing::info!(address = %shown(address), "listening");
        }
        if let Some(address) = server.admin_address() {
            tracing::info!(url = %format_args!("http://{address}/"), "operators may look");
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), endpoints, "pgwake serves");
    })
}

/// This program as it is found by its path when it is needed, with what has this one's place taken.
fn successor() -> Option<Program> {
    let path = std::env::current_exe()
        .inspect_err(|error| tracing::warn!(%error, "`pgwake replace` will not find this program"))
        .ok()?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|argument| argument == REPLACE) {
        arguments.push(REPLACE.into());
    }
    Some(Program { path, arguments })
}

/// Told now, and not when they come.
fn tell_of_too_few(files: Option<u64>, clients_max: usize) {
    let is_too_few = |files: &u64| usize::try_from(*files).is_ok_and(|files| files < clients_max);
    if let Some(files) = files.filter(is_too_few) {
        tracing::warn!(
            files,
            clients_max,
            "fewer files may be open here than limits.clients_max clients need, and each server session needs one more: raise \
             the limit of the system (LimitNOFILE, ulimit -n), or lower limits.clients_max"
        );
    }
}

/// Serves until SIGTERM or Ctrl-C, or until another takes its place; says `begun` once clients may come.
pub(super) fn serve(config: Config, beginning: Beginning, begun: impl FnOnce(&mut Server)) -> ExitCode {
    let served = control_runtime()
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let served = runtime.block_on(async {
                tell_of_too_few(raise_file_limit(), config.limits.clients_max);
                let supervisor = Arc::new(Supervisor::of_environment());
                let mut signals = Signals::watch().map_err(|error| error.to_string())?;
                let server = match beginning {
                    Beginning::Alone => Server::start(config).await,
                    Beginning::InPlace => Server::replace(config).await,
                };
                let mut server = server.map_err(|error| error.to_string())?;
                begun(&mut server);
                server.report_to(supervisor);
                end_with_signal(&server, &mut signals).await;
                Ok(())
            });
            runtime.end(READING_TIMEOUT);
            served
        });
    served.map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
}

/// The runtime of everything but clients: they have threads of their own.
fn control_runtime() -> std::io::Result<Own> {
    Own::build(
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control"),
    )
}

fn shown(address: &BoundAddress) -> String {
    match address {
        BoundAddress::Tcp(address) => address.to_string(),
        BoundAddress::Unix(path) => path.display().to_string(),
    }
}

/// SIGTERM and SIGINT, and SIGHUP.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
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

/// Reads the configuration again at each SIGHUP, until a signal ends pgwake, an operator's word does, or another pgwake
/// has taken its place.
async fn serve_until_signal(server: &Server, signals: &mut Signals) {
    // Beside the others: files on a disk that does not answer keep pgwake from no end.
    let reload = async {
        while signals.hangup.recv().await.is_some() {
            // What came of it is logged there.
            let _ = server.reload().await;
        }
    };
    tokio::select! {
        _ = signals.terminate.recv() => (),
        _ = signals.interrupt.recv() => (),
        () = server.drain_ordered() => (),
        _ = server.replaced() => (),
        () = reload => (),
    }
}

/// Drains at the first signal; a second one does not wait for transactions. Either way the computes are stopped.
async fn end_with_signal(server: &Server, signals: &mut Signals) {
    serve_until_signal(server, signals).await;
    let mut draining = std::pin::pin!(server.drain());
    tokio::select! {
        () = &mut draining => (),
        () = signals.next() => {
            tracing::info!("second signal: ending every session now");
            tokio::join!(draining, server.stop());
        }
    }
    match server.replaced().now_or_never() {
        Some(pid) => tracing::info!(pid, "ended; another pgwake has taken its place"),
        None => match server.house().wakes.left() {
            0 => tracing::info!("ended; no compute is left running"),
            computes => tracing::warn!(computes, "ended; these could not be stopped, and may run on"),
        },
    }
}
