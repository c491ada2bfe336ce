//! Runs a program as a user would: nothing of the environment leaks in, everything it says is kept, it ends in time.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

use super::wait::PATIENCE;

/// A program that is about to run.
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    limit: Duration,
}

/// A program that runs, in a process group of its own; all of the group is killed when this is dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    group: Pid,
    input: Option<ChildStdin>,
    output: Pipe,
    errors: Pipe,
    limit: Duration,
}

/// What a program says on one of its outputs, and how much of it was listened to.
struct Pipe {
    said: watch::Receiver<String>,
    heard: usize,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// All of its standard output.
    pub(crate) output: String,
    /// All of its standard error.
    pub(crate) errors: String,
}

impl Program {
    /// One with nothing in its environment but PATH and a home that does not exist (no `~/.pgpass`, no `~/.psqlrc`).
    pub(crate) fn new(path: impl AsRef<Path>) -> Self {
        let environment = [
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", "/nonexistent".into()),
            ("LC_ALL", "C.UTF-8".into()),
        ];
        Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: environment.map(|(name, value)| (name.into(), value)).into(),
            limit: PATIENCE,
        }
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// Sets a variable.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// How long it may take until it ends, in place of [`PATIENCE`].
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end without input; panics where it does not end in time.
    pub(crate) async fn run(self) -> Finished {
        self.start().end().await
    }

    /// Starts it with its input open.
    pub(crate) fn start(self) -> Running {
        let name = self.path.display().to_string();
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let pid = child.id().unwrap();
        Running {
            name,
            group: Pid::from_raw(pid.cast_signed()).unwrap(),
            input: child.stdin.take(),
            output: Pipe::listen(child.stdout.take().unwrap()),
            errors: Pipe::listen(child.stderr.take().unwrap()),
            child,
            limit: self.limit,
        }
    }
}

impl Pipe {
    /// Collects what a program says; ends with the pipe.
    fn listen(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, said) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            while pipe.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                sender.send_replace(String::from_utf8_lossy(&bytes).into_owned());
            }
        });
        Self { said, heard: 0 }
    }

    /// Waits for `text` behind what was heard before; how it failed where it does not come.
    async fn hear(&mut self, text: &str, limit: Duration) -> Result<String, &'static str> {
        let from = self.heard;
        let position = |said: &String| said.get(from..)?.find(text);
        let said = self.said.wait_for(|said| position(said).is_some());
        let heard = timeout(limit, async { said.await.map(|said| said.clone()) }).await;
        let said = heard.map_err(|_| "in time")?.map_err(|_| "before its end")?;
        self.heard = from + position(&said).unwrap() + text.len();
        Ok(said[from..self.heard].to_owned())
    }

    fn all(&self) -> String {
        self.said.borrow().clone()
    }
}

impl Running {
    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().cast_unsigned()
    }

    /// Writes a line to its standard input.
    pub(crate) async fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Waits until its standard output contains `text` behind what was heard before; gives all from there on up to
    /// the end of `text`.
    pub(crate) async fn hear(&mut self, text: &str) -> String {
        let heard = self.output.hear(text, self.limit).await;
        heard.unwrap_or_else(|how| self.did_not_say(text, how))
    }

    /// The same of its standard error.
    pub(crate) async fn hear_error(&mut self, text: &str) -> String {
        let heard = self.errors.hear(text, self.limit).await;
        heard.unwrap_or_else(|how| self.did_not_say(text, how))
    }

    fn did_not_say(&self, text: &str, how: &str) -> ! {
        panic!("{} did not say {text:?} {how}; {}", self.name, self.said());
    }

    /// Sends a signal to the process alone, as `kill` does.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.group, signal).unwrap();
    }

    /// Sends a signal to all of its process group, as Ctrl-C does.
    pub(crate) fn signal_group(&self, signal: Signal) {
        kill_process_group(self.group, signal).unwrap();
    }

    /// Closes its input and waits for its end; panics where it does not end in time.
    pub(crate) async fn end(mut self) -> Finished {
        self.input.take();
        let Ok(status) = timeout(self.limit, self.child.wait()).await else {
            panic!(
                "{} did not end within {:?}; {}",
                self.name,
                self.limit,
                self.said()
            );
        };
        // What it started may hold the pipes open for longer; that is an end that is not clean.
        for pipe in [&mut self.output, &mut self.errors] {
            let closed = timeout(self.limit, async { while pipe.said.changed().await.is_ok() {} }).await;
            assert!(
                closed.is_ok(),
                "{} left something behind that holds its output",
                self.name
            );
        }
        Finished {
            status: status.unwrap(),
            output: self.output.all(),
            errors: self.errors.all(),
        }
    }

    fn said(&self) -> String {
        format!(
            "it said: {}\nand on its standard error: {}",
            self.output.all(),
            self.errors.all()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group may be gone already.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.start_kill();
    }
}

impl Finished {
    /// Its standard output without the last line's end; panics with all it said where it failed.
    pub(crate) fn succeeded(self) -> String {
        assert!(self.status.success(), "{self:#?}");
        self.output.trim_end().to_owned()
    }

    /// Its standard error; panics with all it said where it did not fail.
    pub(crate) fn failed(self) -> String {
        assert!(!self.status.success(), "{self:#?}");
        self.errors
    }
}
