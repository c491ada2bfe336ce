//! `wake`: one client comes to a sleeping compute, again and again, beside a direct start of the same Postgres.
//!
//! The direct start is the floor: a server process from its start to its first answer, with nobody in between.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    asleep, millis,
    proxy_log::{self, ProxyLog},
    sleeper_of, take_down,
};
use crate::{
    connection::{Connection, Door, Steps},
    failure::Failure,
    progress::Progress,
    results::{Measurement, median},
    tally::Tally,
    target::Target,
    workload::query,
};

/// How long a direct start may take.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How often a starting server's status is looked at. A look is a read of a small file.
const LOOK_EVERY: Duration = Duration::from_micros(250);
/// The port in the name of a Unix socket.
const PORT: u16 = 5432;

/// A server to be started without a proxy.
#[derive(Debug, Clone)]
pub(crate) struct DirectStart {
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) socket_dir: PathBuf,
    /// User and group that it runs as, where this program is root.
    pub(crate) account: Option<(u32, u32)>,
    /// How it is reached: role, password, database.
    pub(crate) target: Target,
}

/// Wakes each target `count` times, in turn with direct starts.
///
/// # Errors
/// A target does not fall asleep, or cannot be told apart from an awake one.
pub(crate) async fn run(
    targets: &[Target],
    direct: Option<&DirectStart>,
    count: usize,
    progress: &Progress,
) -> Result<Vec<Measurement>, String> {
    let mut measurements: Vec<Measurement> = targets
        .iter()
        .map(|target| &target.name)
        .chain(direct.map(|direct| &direct.target.name))
        .map(|name| Measurement::new("wake", "one client", name))
        .collect();
    let mut tallies: Vec<Tally> = measurements.iter().map(|_| Tally::new()).collect();
    let mut phases: Vec<Vec<Vec<(String, f64)>>> = vec![Vec::new(); measurements.len()];
    for round in 0..count {
        progress.step(&format!("wake: {} of {count}", round + 1));
        for (index, target) in targets.iter().enumerate() {
            let (result, seen) = wake_once(target).await?;
            take_down(&mut measurements[index], &mut tallies[index], result);
            phases[index].extend(seen);
        }
        if let Some(direct) = direct {
            let last = targets.len();
            let (result, seen) = start_once(direct).await?;
            take_down(&mut measurements[last], &mut tallies[last], result);
            phases[last].extend(seen);
        }
    }
    for (index, measurement) in measurements.iter_mut().enumerate() {
        measurement.count(&tallies[index]);
        measurement.keep_curve(&tallies[index]);
        measurement.phases = medians(&phases[index]);
    }
    Ok(measurements)
}

type Phases = Vec<(String, f64)>;

async fn wake_once(target: &Target) -> Result<(Result<Duration, Failure>, Option<Phases>), String> {
    let sleeper = sleeper_of(target)?;
    asleep(sleeper).await?;
    let mut log = sleeper.proxy_log.as_deref().map(ProxyLog::from_now);
    let door = Door::new(target)?;
    let began = Instant::now();
    let (connection, steps) = match Connection::open(&door).await {
        Ok(open) => open,
        Err(failure) => return Ok((Err(failure), None)),
    };
    let mut connection = connection;
    let answer = connection.exchange(&query("SELECT 1")).await;
    let took = began.elapsed();
    connection.close().await;
    if let Err(failure) = answer {
        return Ok((Err(failure), None));
    }
    let seen = match &mut log {
        Some(log) => told(log, &sleeper.endpoint, steps, took).await,
        None => None,
    };
    Ok((Ok(took), Some(seen.unwrap_or_else(|| own_phases(steps, took)))))
}

/// What the client alone can tell.
fn own_phases(steps: Steps, took: Duration) -> Phases {
    vec![
        ("TCP".into(), millis(steps.tcp)),
        ("TLS".into(), millis(steps.tls)),
        ("login".into(), millis(steps.auth)),
        ("greeting".into(), millis(steps.greeting)),
        ("first answer".into(), millis(took.saturating_sub(steps.total()))),
    ]
}

/// With the greeting split up by what the proxy's log says: waiting for the start and the login at the server.
async fn told(log: &mut ProxyLog, endpoint: &str, steps: Steps, took: Duration) -> Option<Phases> {
    let ready = log.line("ready", endpoint).await?;
    let ended = log.line("session ended", endpoint).await?;
    let number = |line: &Value, field: &str| line[field].as_f64().unwrap_or(0.0);
    let start = proxy_log::phases(ready["phases"].as_str()?);
    let of = |name: &str| {
        start
            .iter()
            .filter(|(phase, _)| phase == name)
            .map(|(_, ms)| ms)
            .sum::<f64>()
    };
    let login = number(&ended, "connect_ms");
    let hold = number(&ended, "hold_ms");
    let started = of("look") + of("launch") + of("boot");
    let rest = took.saturating_sub(steps.total());
    // A greeting from memory does not wait: then it is the first answer that does.
    let waited = millis(steps.greeting.max(rest));
    // And the session's line does not say how long it waited: the start's own line does.
    let held = hold.max(started);
    Some(vec![
        ("TCP".into(), millis(steps.tcp)),
        ("TLS".into(), millis(steps.tls)),
        ("login".into(), millis(steps.auth)),
        ("queue".into(), (hold - started).max(0.0)),
        ("look".into(), of("look")),
        ("launch".into(), of("launch")),
        ("boot".into(), of("boot")),
        ("server login".into(), login),
        ("relay".into(), (waited - held - login).max(0.0)),
        ("first answer".into(), millis(steps.greeting.min(rest))),
    ])
}

async fn start_once(direct: &DirectStart) -> Result<(Result<Duration, Failure>, Option<Phases>), String> {
    let began = Instant::now();
    let server = Server::spawn(direct)?;
    let launched = began.elapsed();
    let pid_file = direct.data_dir.join("postmaster.pid");
    let waited = tokio::task::spawn_blocking(move || wait_ready(&pid_file)).await;
    waited.map_err(|error| error.to_string())??;
    let ready = began.elapsed();
    let mut door = Door::new(&direct.target)?;
    door.socket = Some(direct.socket_dir.join(format!(".s.PGSQL.{PORT}")));
    let answered = async {
        let (mut connection, _) = Connection::open(&door).await?;
        let login = began.elapsed();
        connection.exchange(&query("SELECT 1")).await?;
        Ok((login, began.elapsed()))
    };
    let result = answered.await;
    drop(server);
    Ok(match result {
        Err(failure) => (Err(failure), None),
        Ok((login, took)) => {
            let phases = vec![
                ("launch".into(), millis(launched)),
                ("boot".into(), millis(ready - launched)),
                ("server login".into(), millis(login - ready)),
                ("first answer".into(), millis(took - login)),
            ];
            (Ok(took), Some(phases))
        }
    })
}

/// Until the last line of `postmaster.pid` says `ready`: a connect before that costs the server a fork.
fn wait_ready(pid_file: &std::path::Path) -> Result<(), String> {
    let deadline = Instant::now() + START_PATIENCE;
    while Instant::now() < deadline {
        let text = fs::read_to_string(pid_file).unwrap_or_default();
        if text
            .lines()
            .nth(7)
            .is_some_and(|status| status.trim_end() == "ready")
        {
            return Ok(());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    Err(format!("{}: no server became ready", pid_file.display()))
}

struct Server(Child);

impl Server {
    fn spawn(direct: &DirectStart) -> Result<Self, String> {
        let mut command = Command::new(&direct.program);
        command
            .current_dir(&direct.data_dir)
            .arg("-D")
            .arg(&direct.data_dir)
            .args(["-c", "listen_addresses=", "-c", &format!("port={PORT}"), "-c"])
            .arg(format!("unix_socket_directories={}", direct.socket_dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some((user, group)) = direct.account {
            command.uid(user).gid(group);
        }
        let child = command.spawn();
        child
            .map(Self)
            .map_err(|error| format!("{}: {error}", direct.program.display()))
    }
}

impl Drop for Server {
    /// A fast stop, waited for: the next start must find none.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

/// The median of each phase over all wakes.
fn medians(all: &[Phases]) -> Phases {
    let Some(first) = all.first() else {
        return Vec::new();
    };
    let middle = |name: &String| {
        let numbers: Vec<f64> = all
            .iter()
            .flatten()
            .filter(|(phase, _)| phase == name)
            .map(|(_, ms)| *ms)
            .collect();
        median(&numbers).unwrap_or(0.0)
    };
    first
        .iter()
        .map(|(name, _)| (name.clone(), middle(name)))
        .collect()
}
