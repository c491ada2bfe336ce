//! Commands that behave, hang, shout, leave children behind, and are given up.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::poll;
use tokio::{sync::Mutex, time::sleep};

use super::*;
use crate::ids::Secret;

/// Longer than anything takes here, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// For what is meant to be too long.
const SHORT: Duration = Duration::from_millis(200);

struct Place {
    folder: tempfile::TempDir,
    commands: Commands,
    turn: Arc<Mutex<()>>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let commands = Commands::new(1, TaskTracker::new(), folder.path().join("commands"));
        Self {
            folder,
            commands,
            turn: Arc::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A script of a shell, which finds the place in `$0`, and further arguments.
    fn order(&self, purpose: Purpose, limit: Duration, script: &str, arguments: &[&str]) -> Order {
        let place = self.folder.path().display().to_string();
        let mut words = vec!["-c".to_owned(), script.to_owned(), place];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let endpoint = EndpointName::parse("demo-main").unwrap();
        let whose = Whose {
            record: Record::new(&self.commands.folder, &endpoint),
            endpoint,
            tenant: TenantName::parse("demo").unwrap(),
            environment: vec![Variable {
                name: "LISTED".into(),
                value: Secret::new("a value"),
            }],
        };
        Order {
            whose: Arc::new(whose),
            purpose,
            line: CommandLine {
                program: "sh".into(),
                arguments: words,
            },
            limit,
        }
    }

    async fn run(&self, limit: Duration, script: &str) -> Result<Ended, ComputeError> {
        let order = self.order(Purpose::Start, limit, script, &[]);
        self.run_order(order).await
    }

    async fn run_order(&self, order: Order) -> Result<Ended, ComputeError> {
        let turn = self.turn.clone().lock_owned().await;
        self.commands.run(order, turn).await
    }

    fn is_recorded(&self) -> bool {
        self.commands.folder.join("demo-main").exists()
    }

    /// The process whose number a script has written into a file.
    async fn process(&self, name: &str) -> Pid {
        let path = self.path(name);
        until(|| fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        Pid::from_raw(self.text(name).trim().parse().unwrap()).unwrap()
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whether nothing is left of it, not even what its parent should have asked for.
fn is_forgotten(pid: Pid) -> bool {
    !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
}

/// Whether it has ended; children of children are reaped by somebody else, sooner or later.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// Which open files of this process go on to the programs that it runs.
fn inherited() -> Vec<i32> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let stays = |number: &i32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|flags| u32::from_str_radix(flags.trim(), 8).unwrap() & CLOSE_ON_EXEC == 0)
    };
    let numbers = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(stays).collect()
}

#[tokio::test]
async fn a_command_gets_its_words_as_they_are_and_finds_what_is_promised_alone() {
    let place = Place::new();
    let script = r#"
        printf '%s\n' "$#" "$@" >"$0/words"
        tr '\0' '\n' </proc/$$/environ | cut -d= -f1 | sort >"$0/names"
        pwd >"$0/pwd"; cat >"$0/input"
        printf '%s\n' "$LISTED" "$PGWAKE_ENDPOINT" "$PGWAKE_TENANT" >"$0/values"
        while read -r line; do case $line in Sig[BI]*) echo "$line" ;; esac; done </proc/$$/status >"$0/signals"
        ps -o pgid= -p $$ >"$0/group"; echo $$ >>"$0/group"
        echo 127.0.0.1:5433"#;
    let words = [
        "a b",
        "$(id)",
        "`id`",
        "; rm -rf /",
        "*",
        "",
        "\"'\\",
        "--",
        "ä\nb",
    ];
    let order = place.order(Purpose::Start, LONG, script, &words);

    let ended = place.run_order(order).await.unwrap();

    assert_eq!(ended.ending, Ending::Exit(0), "{:?}", ended.tail);
    assert_eq!(ended.line.as_deref(), Some("127.0.0.1:5433"));
    let expected = words.map(|word| format!("{word}\n")).concat();
    assert_eq!(place.text("words"), format!("{}\n{expected}", words.len()));
    let names: Vec<_> = place.text("names").lines().map(str::to_owned).collect();
    assert_eq!(names, ["LISTED", "PATH", "PGWAKE_ENDPOINT", "PGWAKE_TENANT"]);
    assert_eq!(place.text("values"), "a value\ndemo-main\ndemo\n");
    assert_eq!((&*place.text("pwd"), &*place.text("input")), ("/\n", ""));
    let group: Vec<String> = place
        .text("group")
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(group[0], group[1]);
    // Read by the shell itself: it blocks all signals while it starts a program.
    let signals = place.text("signals");
    assert_eq!(signals.lines().count(), 2, "{signals}");
    for line in signals.lines() {
        let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        let pipe = 1 << (Signal::PIPE.as_raw() - 1);
        assert_eq!(bits & pipe, 0, "SIGPIPE is not what programs expect: {line}");
    }
    assert!(!place.is_recorded());
}

#[tokio::test]
async fn a_command_has_no_file_open_that_pgwake_has() {
    let place = Place::new();
    let _listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let _file = fs::File::create(place.path("file")).unwrap();
    let mut order = place.order(Purpose::Start, LONG, "", &[]);
    order.line = CommandLine {
        program: "ls".into(),
        arguments: vec!["/proc/self/fd".into()],
    };

    let ended = place.run_order(order).await.unwrap();

    // What pgwake was started with goes on: others may have meant it for all.
    let inherited = inherited();
    let tail = ended.tail.unwrap();
    let open: Vec<i32> = tail.lines().map(|line| line.parse().unwrap()).collect();
    assert!(open.starts_with(&[0, 1]), "{open:?}");
    let others = open
        .iter()
        .filter(|number| **number > 2 && !inherited.contains(number));
    assert_eq!(others.count(), 1, "but the folder that it lists: {open:?}");
}

#[tokio::test]
async fn how_it_ended_is_told_with_its_last_words() {
    let place = Place::new();
    let ended = place
        .run(LONG, "echo said; echo went wrong >&2; exit 7")
        .await
        .unwrap();
    assert_eq!(ended.ending, Ending::Exit(7));
    assert_eq!(ended.tail.as_deref(), Some("said\nwent wrong"));
    let ended = place.run(LONG, "kill -9 $$").await.unwrap();
    assert_eq!(ended.ending, Ending::Signal(9));
    assert_eq!((ended.line.as_deref(), ended.tail), (Some(""), None));

    let mut order = place.order(Purpose::Start, LONG, "", &[]);
    order.line.program = "pgwake-no-such-program".into();
    let error = place.run_order(order).await.unwrap_err();
    assert_eq!(error.reason, "its start command cannot be run");
    assert!(error.detail.unwrap().starts_with("pgwake-no-such-program: "));
    assert!(!place.is_recorded());
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children_and_forgotten() {
    let place = Place::new();
    // Nobody of them heeds SIGTERM.
    let script = r#"trap '' TERM; sleep 1000 & echo $! >"$0/child"; echo $$ >"$0/leader"; echo so far >&2
        while :; do sleep 1; done"#;

    let error = place.run(SHORT, script).await.unwrap_err();

    assert_eq!(
        error.reason,
        "its start command had not ended after 200ms and was killed"
    );
    assert_eq!(error.detail.as_deref(), Some("so far"));
    assert!(is_forgotten(place.process("leader").await));
    let child = place.process("child").await;
    until(|| has_ended(child)).await;
    assert!(!place.is_recorded());
    assert!(place.turn.try_lock().is_ok());
}

#[tokio::test]
async fn one_that_hangs_may_clear_up_and_what_outlives_it_in_its_group_is_killed() {
    let place = Place::new();
    let script = r#"trap 'echo yes >"$0/cleared"; exit 0' TERM
        (trap '' TERM; echo $$ >"$0/ready"; while :; do sleep 1; done) & echo $! >"$0/child"
        while :; do sleep 0.05; done"#;
    let order = place.order(Purpose::Stop, SHORT, script, &[]);

    let error = place.run_order(order).await.unwrap_err();

    assert!(
        error.reason.starts_with("its stop command had not ended"),
        "{error}"
    );
    assert_eq!(place.text("cleared"), "yes\n");
    let child = place.process("child").await;
    until(|| has_ended(child)).await;
}

#[tokio::test]
async fn what_it_leaves_running_lives_on_and_may_hold_its_output_open() {
    let place = Place::new();
    let script = r#"sleep 1000 & echo $! >"$0/child"; echo here"#;

    let ended = place.run(LONG, script).await.unwrap();

    assert_eq!(ended.line.as_deref(), Some("here"));
    let child = place.process("child").await;
    assert!(!has_ended(child));
    rustix::process::kill_process(child, Signal::KILL).unwrap();
}

#[tokio::test]
async fn one_that_shouts_is_heard_out_and_its_last_lines_are_kept() {
    let place = Place::new();
    let script = r"i=0; while [ $i -lt 200 ]; do i=$((i+1)); printf '%010000d\n' $i; done; echo last >&2";
    let ended = place.run(LONG, script).await.unwrap();
    assert_eq!(ended.ending, Ending::Exit(0));
    assert_eq!(ended.line, None, "that is no address");
    let tail = ended.tail.unwrap();
    assert!(tail.ends_with("last") && tail.len() < 20_000, "{}", tail.len());
    // Without an end it has its time, like any other.
    place.run(SHORT, "while :; do echo more; done").await.unwrap_err();
}

#[tokio::test]
async fn one_that_nobody_waits_for_is_ended_before_the_next_has_its_turn() {
    let place = Place::new();
    let script = r#"echo $$ >"$0/leader"; while :; do sleep 1; done"#;
    let order = place.order(Purpose::Start, LONG, script, &[]);
    let turn = place.turn.clone().lock_owned().await;
    let mut run = Box::pin(place.commands.run(order, turn));
    let leader = async {
        tokio::select! {
            _ = &mut run => unreachable!("it hangs"),
            leader = place.process("leader") => leader,
        }
    }
    .await;
    assert!(place.is_recorded());

    drop(run);
    drop(place.turn.lock().await);

    assert!(is_forgotten(leader));
    assert!(!place.is_recorded());
    place.commands.tasks.close();
    place.commands.tasks.wait().await;
}

#[tokio::test]
async fn there_are_no_more_at_once_than_may_be_and_looks_have_places_of_their_own() {
    let place = Place::new();
    let script = r#"while [ ! -e "$0/go" ]; do sleep 0.02; done"#;
    let slow = place.order(Purpose::Start, LONG, script, &[]);
    let turn = place.turn.clone().lock_owned().await;
    let mut slow = Box::pin(place.commands.run(slow, turn));
    assert!(poll!(&mut slow).is_pending());
    // Another endpoint's, so with a turn of its own.
    let other = Arc::new(Mutex::new(()));
    let next = place.order(Purpose::Stop, LONG, "", &[]);
    let mut next = Box::pin(place.commands.run(next, other.clone().lock_owned().await));
    assert!(poll!(&mut next).is_pending());
    assert_eq!(place.commands.changes.free(), 0);

    let third = Arc::new(Mutex::new(())).lock_owned().await;
    let look = place.order(Purpose::Status, LONG, "exit 3", &[]);
    let look = place.commands.run(look, third).await.unwrap();
    assert_eq!(look.ending, Ending::Exit(3));
    assert!(poll!(&mut next).is_pending());

    fs::write(place.path("go"), "").unwrap();
    slow.await.unwrap();
    next.await.unwrap();
    assert_eq!(place.commands.changes.free(), 1);
}

#[test]
fn programs_are_looked_for_where_they_will_be() {
    let folder = tempfile::tempdir().unwrap();
    let own = Variable {
        name: "PATH".into(),
        value: Secret::new(folder.path().to_str().unwrap()),
    };
    assert!(is_there("sh", &[]) && is_there("/bin/sh", &[]));
    assert!(!is_there("sh", std::slice::from_ref(&own)));
    std::os::unix::fs::symlink("/bin/sh", folder.path().join("own-shell")).unwrap();
    assert!(is_there("own-shell", &[own]) && !is_there("own-shell", &[]));
}
