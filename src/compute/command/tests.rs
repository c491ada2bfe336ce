//! Computes of small scripts: what `status` says is believed, and what nobody knows is left alone.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command},
};

use futures_util::poll;
use rustix::process::Pid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{ServerAddress, ServerTls};

/// Longer than anything takes here, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A compute that "runs" while there is a file `runs`. Each command notes its name in `story`.
struct Place {
    folder: tempfile::TempDir,
    config: config::CommandCompute,
}

fn line(script: &str, place: &str) -> CommandLine {
    CommandLine {
        program: "sh".into(),
        arguments: ["-c", script, place].map(str::to_owned).into(),
    }
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let config = config::CommandCompute {
            start: line("", place),
            stop: Some(line("", place)),
            status: line("", place),
            environment: Vec::new(),
            address: None,
            tls: None,
            start_timeout: Some(LONG),
            stop_timeout: Some(LONG),
            status_timeout: LONG,
            status_every: None,
        };
        let mut place = Self { folder, config };
        place.config.start = place.line("start", r#"cat "$0/address"; touch "$0/runs""#);
        place.config.stop = Some(place.line("stop", r#"rm "$0/runs""#));
        place.config.status = place.line("status", r#"cat "$0/address"; [ -e "$0/runs" ] || exit 3"#);
        place.says("127.0.0.1:1");
        place
    }

    fn line(&self, name: &str, script: &str) -> CommandLine {
        let script = format!("echo {name} >>\"$0/story\"\n{script}");
        line(&script, self.folder.path().to_str().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the commands print.
    fn says(&self, address: &str) {
        fs::write(self.path("address"), address).unwrap();
    }

    fn compute(&self) -> CommandCompute {
        let endpoint = Endpoint::without_compute("demo-main");
        let commands = Commands::new(4, TaskTracker::new(), self.path("commands"));
        CommandCompute::new(&endpoint, &self.config, commands).unwrap()
    }

    fn record(&self) -> Record {
        let name = crate::ids::EndpointName::parse("demo-main").unwrap();
        Record::new(&self.path("commands"), &name)
    }

    /// The commands so far; forgets them.
    fn story(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("story")).unwrap_or_default();
        let _ = fs::remove_file(self.path("story"));
        text.lines().map(str::to_owned).collect()
    }

    /// Somebody who answers as a Postgres without TLS does, and is what the commands say from now on.
    async fn answering(&self) -> Answering {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        self.says(&listener.local_addr().unwrap().to_string());
        Answering(tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 8];
                if stream.read_exact(&mut request).await.is_ok() {
                    let _ = stream.write_all(b"N").await;
                }
            }
        }))
    }
}

struct Answering(JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_is_started_looked_at_and_stopped_at_the_address_that_is_printed() {
    let place = Place::new();
    let _server = place.answering().await;
    let compute = place.compute();
    assert!(compute.can_suspend() && compute.can_start());
    assert!(compute.inspect().await.unwrap().is_none());
    assert_eq!(place.story(), ["status"]);

    let started = compute.start().await.unwrap();
    assert_eq!(place.story(), ["status", "start"]);
    assert!(!started.adopted);
    let names: Vec<_> = started.phases.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["status", "start", "answer"]);
    let ServerAddress::Tcp { port, .. } = started.address.server else {
        panic!("not TCP")
    };
    assert!(
        fs::read_to_string(place.path("address"))
            .unwrap()
            .ends_with(&port.to_string())
    );
    assert_eq!(started.address.tls, ServerTls::Disable, "this machine");

    assert!(compute.inspect().await.unwrap().unwrap().adopted);
    assert!(compute.start().await.unwrap().adopted, "it is not started twice");
    assert_eq!(place.story(), ["status", "status"]);
    compute.stop().await.unwrap();
    assert_eq!(place.story(), ["stop", "status"]);
    assert!(compute.inspect().await.unwrap().is_none());
}

#[tokio::test]
async fn where_start_prints_nothing_status_is_asked_for_the_address() {
    let mut place = Place::new();
    let _server = place.answering().await;
    place.config.start = place.line("start", r#"touch "$0/runs""#);
    place.compute().start().await.unwrap();
    assert_eq!(place.story(), ["status", "start", "status"]);
}

#[tokio::test]
async fn what_nobody_knows_is_neither_started_nor_taken_for_running() {
    let mut place = Place::new();
    for (script, how) in [
        ("exit 1", "ended with exit status 1"),
        ("exit 4", "ended with exit status 4"),
        ("kill -9 $$", "was ended by signal 9 (SIGKILL)"),
    ] {
        place.config.status = place.line("status", script);
        let compute = place.compute();
        for error in [
            compute.inspect().await.unwrap_err(),
            compute.start().await.unwrap_err(),
        ] {
            let expected = format!("its status command {how}: neither 0 (it runs) nor 3 (it does not)");
            assert_eq!(error.reason, expected);
        }
        assert_eq!(place.story(), ["status", "status"]);
    }
    place.config.status_timeout = Duration::from_millis(100);
    place.config.status = place.line("status", "while :; do sleep 1; done");
    let error = place.compute().start().await.unwrap_err();
    assert_eq!(
        error.reason,
        "its status command had not ended after 100ms and was killed"
    );
    assert_eq!(place.story(), ["status"]);
}

#[tokio::test]
async fn a_start_that_fails_or_prints_no_address_leaves_nothing_running_and_tells_clients_no_output() {
    let mut place = Place::new();
    for (address, reason) in [
        ("secret words", "its command printed no address"),
        ("127.0.0.1:1\n127.0.0.1:2", "its command printed no address"),
        (
            "192.0.2.1:5432",
            "its command printed an address of another machine",
        ),
    ] {
        place.says(address);
        let error = place.compute().start().await.unwrap_err();
        assert!(error.reason.starts_with(reason), "{address}: {error}");
        assert!(!error.reason.contains("secret"), "{error}");
        assert_eq!(place.story(), ["status", "start", "stop", "status"]);
    }
    place.config.start = place.line("start", r#"touch "$0/runs"; echo no room left >&2; exit 1"#);
    let error = place.compute().start().await.unwrap_err();
    assert_eq!(error.reason, "its start command ended with exit status 1");
    assert_eq!(error.detail.as_deref(), Some("no room left"));
    assert_eq!(place.story(), ["status", "start", "stop", "status"]);
    assert!(!place.path("runs").exists());
}

#[tokio::test]
async fn a_stop_is_done_when_status_says_so() {
    let mut place = Place::new();
    let _server = place.answering().await;
    // It ends before what it stops.
    place.config.stop = Some(place.line("stop", r#"(sleep 0.2; rm "$0/runs") >/dev/null 2>&1 &"#));
    let compute = place.compute();
    compute.start().await.unwrap();
    compute.stop().await.unwrap();
    assert!(!place.path("runs").exists());

    place.config.stop = Some(place.line("stop", "echo cannot >&2; exit 1"));
    place.compute().start().await.unwrap();
    let error = place.compute().stop().await.unwrap_err();
    assert_eq!(error.reason, "its stop command ended with exit status 1");
    place.config.stop = Some(place.line("stop", ""));
    place.config.stop_timeout = Some(Duration::from_millis(50));
    let error = place.compute().stop().await.unwrap_err();
    assert!(error.reason.ends_with("says that it still runs"), "{error}");
}

#[tokio::test]
async fn without_a_stop_command_it_is_never_suspended() {
    let mut place = Place::new();
    place.config.stop = None;
    let _server = place.answering().await;
    let compute = place.compute();
    assert!(!compute.can_suspend() && compute.can_start());
    compute.start().await.unwrap();
    compute.stop().await.unwrap();
    assert!(place.path("runs").exists());
}

#[tokio::test]
async fn one_that_was_reached_and_answers_nobody_is_not_taken_for_running() {
    let place = Place::new();
    let server = place.answering().await;
    let compute = place.compute();
    compute.start().await.unwrap();
    drop(server);
    let error = compute.inspect().await.unwrap_err();
    assert!(
        error.reason.ends_with("nothing answers at its address"),
        "{error}"
    );
    // Nothing is known of it after a restart of pgwake: it may still be starting.
    assert!(place.compute().inspect().await.unwrap().is_some());
}

#[tokio::test]
async fn its_death_is_noticed_by_looking_now_and_then() {
    let mut place = Place::new();
    place.config.status_every = Some(Duration::from_millis(20));
    let _server = place.answering().await;
    let started = place.compute().start().await.unwrap();
    let mut died = started.died;
    place.story();
    tokio::select! {
        reason = &mut died => panic!("{reason}"),
        () = until(|| fs::read_to_string(place.path("story")).is_ok_and(|story| story.lines().count() > 2)) => (),
    }
    fs::remove_file(place.path("runs")).unwrap();
    assert_eq!(died.await, "its status command says that it does not run");
}

/// A start that an earlier pgwake has left running; it is written down as that would have.
fn left_behind(place: &Place, script: &str) -> Child {
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(place.folder.path())
        .process_group(0)
        .spawn()
        .unwrap();
    let record = place.record();
    record.begin().unwrap();
    record.is_led_by(Pid::from_child(&child)).unwrap();
    child
}

#[tokio::test]
async fn a_start_that_a_killed_pgwake_has_left_is_waited_for_and_not_repeated() {
    let place = Place::new();
    let _server = place.answering().await;
    let script = r#"while [ ! -e "$0/go" ]; do sleep 0.02; done; touch "$0/runs""#;
    let mut left = left_behind(&place, script);
    let compute = place.compute();
    let mut start = compute.start();
    for _ in 0..20 {
        assert!(poll!(&mut start).is_pending());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(place.story(), Vec::<String>::new());

    fs::write(place.path("go"), "").unwrap();
    assert!(start.await.unwrap().adopted);
    assert_eq!(place.story(), ["status"]);
    assert!(left.wait().unwrap().success());
    assert!(matches!(place.record().left().unwrap().0, Left::Nothing));
}

#[tokio::test]
async fn one_that_a_killed_pgwake_has_left_hanging_is_ended_with_its_children() {
    let mut place = Place::new();
    place.config.start_timeout = Some(Duration::from_millis(100));
    place.config.stop_timeout = Some(Duration::from_millis(100));
    let mut left = left_behind(&place, r#"sleep 1000 & echo $! >"$0/child"; wait"#);
    let child = place.path("child");
    until(|| fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n'))).await;
    assert!(place.compute().inspect().await.unwrap().is_none());
    assert_eq!(place.story(), ["status"]);
    assert!(!left.wait().unwrap().success());
    let child = fs::read_to_string(&child).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    until(|| fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))).await;
}

#[tokio::test]
async fn one_that_may_have_been_left_is_given_its_time() {
    let mut place = Place::new();
    place.config.start_timeout = Some(Duration::from_millis(300));
    place.config.stop_timeout = Some(Duration::from_millis(100));
    place.record().begin().unwrap();
    let since = Instant::now();
    assert!(place.compute().inspect().await.unwrap().is_none());
    assert!(
        since.elapsed() >= Duration::from_millis(150),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn an_endpoint_has_one_compute_at_a_time() {
    let place = Place::new();
    let endpoint = Endpoint::without_compute("demo-main");
    let commands = Commands::new(4, TaskTracker::new(), place.path("commands"));
    let compute = || CommandCompute::new(&endpoint, &place.config, commands.clone());
    let first = compute().unwrap();
    assert!(compute().unwrap_err().reason.contains("still being stopped"));
    drop(first);
    compute().unwrap();
}

#[test]
fn programs_that_are_not_there_are_told_before_anybody_needs_them() {
    let mut place = Place::new();
    place.compute().check().unwrap();
    place.config.start.program = "pgwake-no-such-program".into();
    let error = place.compute().check().unwrap_err();
    assert_eq!(error.reason, "there is no program pgwake-no-such-program to run");
}
