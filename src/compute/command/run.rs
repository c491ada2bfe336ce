//! Runs one command: in a process group of its own, within its time, heard and bounded, and never left behind.
//!
//! A task of its own looks after each command until the system has forgotten it, whatever becomes of whoever asked
//! for it: it holds the endpoint's turn and one of the places that there are for commands at once. It decides nothing
//! about computes. Called by `command`.
//!
//! **Invariant:** signals go to a group only while its leader has not been reaped: until then its number means no other.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    process::{Pid, Signal, kill_process_group},
};
use tokio::{
    join,
    sync::{OwnedMutexGuard, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{
        ComputeError,
        process::{
            blocking,
            os_process::{Ending, OsProcess},
        },
    },
    output::{Output, tail},
    places::{Place, Places},
    record::Record,
};
use crate::config::{CommandLine, Variable};
use crate::ids::{EndpointName, TenantName};

/// Between SIGTERM and SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(3);
/// After SIGKILL only the kernel is left to wait for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Where programs are where pgwake's own PATH says nothing.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all endpoints' commands share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    /// Places for those that start and stop; they may take long, and must not keep others from being looked at.
    changes: Places,
    /// Places for those that look.
    looks: Places,
    tasks: TaskTracker,
    /// Where those that run are written down.
    pub(super) folder: PathBuf,
    /// The endpoints that have a compute now.
    claimed: Arc<Mutex<BTreeSet<EndpointName>>>,
}

/// That an endpoint's commands are run by one compute alone, as long as it lives.
#[derive(Debug)]
pub(super) struct Claim {
    endpoint: EndpointName,
    claimed: Arc<Mutex<BTreeSet<EndpointName>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.endpoint);
    }
}

impl Commands {
    /// None runs yet; `folder` belongs to this pgwake.
    pub(crate) fn new(at_once: usize, tasks: TaskTracker, folder: PathBuf) -> Self {
        Self {
            changes: Places::new(at_once),
            looks: Places::new(at_once),
            tasks,
            folder,
            claimed: Arc::default(),
        }
    }

    /// The right to run an endpoint's commands; `None`: an earlier compute of this endpoint has it still.
    pub(super) fn claim(&self, endpoint: &EndpointName) -> Option<Claim> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(endpoint.clone()).then(|| Claim {
            endpoint: endpoint.clone(),
            claimed: self.claimed.clone(),
        })
    }
}

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Start,
    Stop,
    Status,
}

impl Purpose {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
        }
    }
}

/// For whom commands run, and what they find.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) endpoint: EndpointName,
    pub(super) tenant: TenantName,
    pub(super) environment: Vec<Variable>,
    pub(super) record: Record,
}

/// A command to be run.
pub(super) struct Order {
    pub(super) whose: Arc<Whose>,
    pub(super) purpose: Purpose,
    pub(super) line: CommandLine,
    pub(super) limit: Duration,
}

/// A command that has ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// The only line of its output; see [`Output::line`].
    pub(super) line: Option<String>,
    /// The last lines of what it said.
    pub(super) tail: Option<String>,
}

impl Commands {
    /// Runs a command to its end, or ends it. Cancel safe: a command whose caller has left is ended, and its turn
    /// with it.
    ///
    /// # Errors
    /// It could not be run, or did not end in time; then its whole group has been killed.
    pub(super) async fn run(&self, order: Order, turn: OwnedMutexGuard<()>) -> Result<Ended, ComputeError> {
        let places = match order.purpose {
            Purpose::Start | Purpose::Stop => &self.changes,
            Purpose::Status => &self.looks,
        };
        let place = places.take(&order.whose.tenant).await;
        let (answer, answered) = oneshot::channel();
        let unwanted = CancellationToken::new();
        let held = (turn, place);
        let task = attend(order, unwanted.clone(), held, answer);
        self.tasks.spawn(task);
        let _unwanted_when_dropped = unwanted.drop_guard();
        let ended = answered.await;
        ended.unwrap_or_else(|_| {
            Err(ComputeError::new(
                "an unfinished command; pgwake's log says where",
            ))
        })
    }
}

/// The whole life of a command. `held` is given back before the answer, so that the next one may run at once.
async fn attend(
    order: Order,
    unwanted: CancellationToken,
    held: (OwnedMutexGuard<()>, Place),
    answer: oneshot::Sender<Result<Ended, ComputeError>>,
) {
    let order = Arc::new(order);
    let spawned = match unwanted.is_cancelled() {
        false => spawn(order.clone()).await,
        true => return,
    };
    let ended = match spawned {
        Ok(mut running) => {
            let end = Box::pin(running.end(order.limit, &unwanted)).await;
            running.result(end, &order).await
        }
        Err(error) => Err(error),
    };
    drop(held);
    // Whoever left has been told of in the log.
    let _ = answer.send(ended);
}

async fn spawn(order: Arc<Order>) -> Result<Running, ComputeError> {
    let purpose = order.purpose.as_str();
    let program = order.line.program.clone();
    let failed = |error: io::Error| {
        ComputeError::new(format!("its {purpose} command cannot be run"))
            .with_detail(format!("{program}: {error}"))
    };
    let record = order.whose.record.clone();
    let started = blocking(move || start(&order)).await?;
    let (process, mut child) = started.map_err(failed)?;
    match Running::listen(&mut child) {
        Ok((output, errors)) => Ok(Running {
            process,
            output,
            errors,
        }),
        Err(error) => {
            end_group(&process).await;
            process.ending();
            blocking(move || record.end()).await?;
            Err(failed(error))
        }
    }
}

/// It blocks for a fork.
fn start(order: &Order) -> io::Result<(OsProcess, Child)> {
    let Whose {
        endpoint,
        tenant,
        environment,
        record,
    } = &*order.whose;
    let recorded = order.purpose != Purpose::Status;
    let warn = |error: io::Error| {
        tracing::warn!(%endpoint, %error, "a pgwake that is killed now would not find its command again");
    };
    if recorded {
        record.begin().unwrap_or_else(warn);
    }
    let mut command = Command::new(&order.line.program);
    command
        .args(&order.line.arguments)
        .env_clear()
        .env("PATH", path());
    for variable in environment {
        command.env(&variable.name, variable.value.reveal());
    }
    command
        .env("PGWAKE_ENDPOINT", endpoint.as_str())
        .env("PGWAKE_TENANT", tenant.as_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let spawned = command.spawn().and_then(|mut child| {
        let pid = Pid::from_child(&child);
        match OsProcess::open(pid) {
            Ok(process) => Ok((process, child)),
            Err(error) => {
                signal_group(pid, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    });
    match &spawned {
        Ok((process, _)) if recorded => record.is_led_by(process.pid()).unwrap_or_else(warn),
        Err(_) if recorded => record.end(),
        _ => (),
    }
    spawned
}

/// A command that runs, or has ended and is not reaped yet.
struct Running {
    process: OsProcess,
    output: Output,
    errors: Output,
}

/// Why it is not waited for any longer.
enum End {
    ByItself,
    Late,
    Unwanted,
}

impl Running {
    fn listen(child: &mut Child) -> io::Result<(Output, Output)> {
        let taken = (child.stdout.take(), child.stderr.take());
        let (Some(output), Some(errors)) = taken else {
            return Err(io::Error::other("it has no pipes"));
        };
        Ok((Output::new(output.into())?, Output::new(errors.into())?))
    }

    /// Waits for its end, and sees to it where it does not come in time.
    async fn end(&mut self, limit: Duration, unwanted: &CancellationToken) -> End {
        let Self {
            process,
            output,
            errors,
        } = self;
        let deadline = Instant::now() + limit;
        let listening = async { join!(output.drain(), errors.drain()) };
        let ending = async {
            let end = tokio::select! {
                // What has ended in time has, also where this task came late to look.
                biased;
                () = process.ended() => return End::ByItself,
                () = unwanted.cancelled() => End::Unwanted,
                () = sleep_until(deadline) => End::Late,
            };
            end_group(process).await;
            end
        };
        tokio::select! {
            end = ending => end,
            (never, _) = listening => match never {},
        }
    }

    /// What came of it; the system forgets it now.
    async fn result(mut self, end: End, order: &Arc<Order>) -> Result<Ended, ComputeError> {
        self.output.finish();
        self.errors.finish();
        let ending = self.process.ending();
        let tail = tail(&self.output, &self.errors);
        if order.purpose != Purpose::Status && self.process.has_ended() {
            let record = order.whose.record.clone();
            // Nothing to be done where not even a thread can be had.
            let _ = blocking(move || record.end()).await;
        }
        let purpose = order.purpose.as_str();
        let endpoint = &order.whose.endpoint;
        if !self.process.has_ended() {
            tracing::error!(%endpoint, purpose, "a command does not end, not even by SIGKILL");
        }
        let reason = match end {
            End::ByItself => {
                let line = self.output.line().map(str::to_owned);
                return Ok(Ended { ending, line, tail });
            }
            End::Late => format!(
                "its {purpose} command had not ended after {:?} and was killed",
                order.limit
            ),
            End::Unwanted => {
                tracing::warn!(%endpoint, purpose, detail = tail, "a command was killed that nobody waits for any more");
                format!("its {purpose} command is not waited for any more and was killed")
            }
        };
        let error = ComputeError::new(reason);
        Err(match tail {
            Some(tail) => error.with_detail(tail),
            None => error,
        })
    }
}

/// Ends a group whose leader has not been reaped: asks, then forces. Cancel safe, but then it may go on.
pub(super) async fn end_group(leader: &OsProcess) {
    signal_group(leader.pid(), Signal::TERM);
    let _ = timeout(TERM_PATIENCE, leader.ended()).await;
    // Also where the leader has ended: others of the group may not have.
    signal_group(leader.pid(), Signal::KILL);
    let _ = timeout(KILL_PATIENCE, leader.ended()).await;
}

fn signal_group(leader: Pid, signal: Signal) {
    // Only its end can be in the way, or a missing right: whoever waits sees that it stays.
    let _ = kill_process_group(leader, signal);
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into())
}

/// Whether a program is where it is looked for. It blocks for a few looks.
pub(super) fn is_there(program: &str, environment: &[Variable]) -> bool {
    let is_program = |path: PathBuf| access(&path, Access::EXEC_OK).is_ok() && path.is_file();
    if program.contains('/') {
        return is_program(program.into());
    }
    let own = environment.iter().find(|variable| variable.name == "PATH");
    let path = own.map_or_else(path, |variable| variable.value.reveal().into());
    std::env::split_paths(&path).any(|folder| is_program(folder.join(program)))
}

#[cfg(test)]
mod tests;
