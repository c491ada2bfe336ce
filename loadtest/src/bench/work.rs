//! The folder of a run, the user that servers run as, and processes that end with their value.

use std::{
    fs::{self, File, Permissions},
    io,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// How long a process may take until it listens.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A temporary folder that other users can pass through.
#[derive(Debug)]
pub(super) struct Work {
    folder: TempDir,
    pub(super) account: Option<(u32, u32)>,
}

impl Work {
    pub(super) fn new() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("pgwake-bench-")
            .tempdir_in("/tmp")
            .map_err(|error| format!("no temporary folder: {error}"))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let account = if geteuid().is_root() {
            Some(account()?)
        } else {
            None
        };
        Ok(Self { folder, account })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder that belongs to the servers' user.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.own(&path)?;
        Ok(path)
    }

    /// A file that belongs to the servers' user, which nobody else can read.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.own_file(name, text)?;
        self.own(&path)?;
        Ok(path)
    }

    /// A copy of a program that may lie where the servers' user cannot reach it.
    pub(super) fn program(&self, program: &Path, name: &str) -> Result<PathBuf, String> {
        let path = self.path(name);
        let copied =
            fs::copy(program, &path).and_then(|_| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        copied.map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(path)
    }

    /// A file of the user who runs this, which nobody else can read.
    pub(super) fn own_file(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.path(name);
        let written =
            fs::write(&path, text).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn own(&self, path: &Path) -> Result<(), String> {
        match self.account {
            None => Ok(()),
            Some((user, group)) => {
                chown(path, Some(user), Some(group)).map_err(|error| format!("{}: {error}", path.display()))
            }
        }
    }

    /// A program of the servers' user.
    pub(super) fn as_servers(&self, program: &Path, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", signal]);
        if let Some((user, group)) = self.account {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".into(),
            ]);
        }
        command.arg(program).current_dir(self.folder.path());
        command
    }

    /// A program of the user who runs this.
    pub(super) fn as_ourselves(&self, program: &Path, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", signal])
            .arg(program)
            .current_dir(self.folder.path());
        command
    }
}

fn account() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = ["postgres", "nobody"].iter().find_map(|name| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_named = fields.first() == Some(name);
            is_named.then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    });
    found.ok_or_else(|| "neither a user postgres nor nobody: Postgres does not run as root".into())
}

/// A port that nobody listens on in this moment.
pub(super) fn free_port() -> Result<u16, String> {
    let port = |listener: TcpListener| listener.local_addr().map(|address| address.port());
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(port)
        .map_err(|error| format!("no free port: {error}"))
}

/// A process that ends with this value.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    end_signal: Signal,
    log: PathBuf,
}

impl Running {
    /// Starts it, with both outputs in `log`.
    pub(super) fn start(mut command: Command, log: PathBuf, end_signal: Signal) -> Result<Self, String> {
        let program = format!("{:?}", command.get_program());
        let spawn = || -> io::Result<Child> {
            let file = File::create(&log)?;
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()
        };
        let mut spawn = spawn;
        let child = spawn().map_err(|error| format!("{program}: {error}"))?;
        Ok(Self {
            child,
            end_signal,
            log,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it listens.
    pub(super) async fn listens(&mut self, port: u16) -> Result<(), String> {
        let deadline = Instant::now() + READY_PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("{} does not listen:\n{log}", self.log.display()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_PATIENCE;
        let _ = kill_process(Pid::from_child(&self.child), self.end_signal);
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// Runs a program to its end.
pub(super) fn complete(mut command: Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The first line that a program says of its version.
pub(super) fn version(program: &Path) -> String {
    let mut command = Command::new(program);
    command.arg("--version");
    let said = complete(command).unwrap_or_default();
    said.lines().next().unwrap_or_default().to_owned()
}
