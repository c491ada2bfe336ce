//! What pgwake adds to a cold start: from a client's first byte to its first answer, against a Postgres that is
//! started by hand on the same data directory and asked every millisecond whether it answers.
//!
//! It prints the figures. They are worth something from a release build on an idle machine:
//! `PGWAKE_ROUNDS=20 cargo test --release --test main waking::latency -- --nocapture`. The bound that fails is far
//! above them: other tests run meanwhile.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config};

use crate::harness::{
    account::Account,
    child::Pgwake,
    directories::Directory,
    gateway::Setup,
    postgres::{PASSWORD, SUPERUSER, Version, programs},
    processes,
    tls_client::connect_plain,
    wait::PATIENCE,
};

const ENDPOINT: &str = "latency";
/// A busy machine's; the goal is 5 ms.
const ADDED_MAX: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_wake_takes_hardly_longer_than_a_direct_start() {
    let rounds = std::env::var("PGWAKE_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let setup = Setup::new().process(ENDPOINT, "suspend_after = \"50ms\"");
    let sockets = Directory::for_postgres();
    let mut pgwake = Pgwake::start(&setup).await;
    // The first wake is pgwake's own, to learn the roles.
    pgwake.running.hear_error(" suspended ").await;
    let (mut woken, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let since = Instant::now();
        answer(&pgwake.connect(ENDPOINT).await).await;
        woken.push(since.elapsed());
        pgwake.running.hear_error(" suspended ").await;
        direct.push(by_hand(&setup.data_dir(ENDPOINT), sockets.path()).await);
    }
    pgwake.signal(Signal::TERM);
    let log = pgwake.end().await.errors;

    report(&log, &woken, &direct);
    let (woken, direct) = (median(woken), median(direct));
    assert!(woken <= direct + ADDED_MAX, "{woken:?} and {direct:?}");
}

/// From the start of the program to the first answer.
async fn by_hand(data_dir: &Path, sockets: &Path) -> Duration {
    let since = Instant::now();
    let mut server = start(data_dir, sockets);
    let mut config = Config::new();
    config
        .host_path(sockets)
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres");
    let client = loop {
        if let Ok(client) = connect_plain(&config).await {
            break client;
        }
        assert!(since.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1)).await;
    };
    answer(&client).await;
    let took = since.elapsed();
    drop(client);
    processes::signal(server.id().cast_signed(), Signal::INT);
    server.wait().unwrap();
    took
}

fn start(data_dir: &Path, sockets: &Path) -> Child {
    let mut command = Command::new(programs(Version::Debian).join("postgres"));
    if let Some(account) = Account::for_postgres() {
        command.uid(account.uid).gid(account.gid);
    }
    command
        .arg("-D")
        .arg(data_dir)
        .args(["-c", "listen_addresses=", "-c"])
        .arg(format!("unix_socket_directories={}", sockets.display()))
        .current_dir(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

async fn answer(client: &Client) {
    assert_eq!(client.simple_query("select 1").await.unwrap().len(), 3);
}

fn median<T: Copy + PartialOrd>(mut figures: Vec<T>) -> T {
    figures.sort_by(|one, other| one.partial_cmp(other).unwrap());
    figures[figures.len() / 2]
}

/// Prints the medians, and where the time of a wake went.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn report(log: &str, woken: &[Duration], direct: &[Duration]) {
    let mut figures = BTreeMap::from([
        ("1 woken by a client", milliseconds(woken)),
        ("2 started by hand", milliseconds(direct)),
    ]);
    for (shown, kind, mark) in [
        ("3 of 1: tls", "session ended", "tls_ms="),
        ("4 of 1: auth", "session ended", "auth_ms="),
        ("5 of 1: hold", "session ended", "hold_ms="),
        ("6 of 5: look", " ready ", "look "),
        ("7 of 5: launch", " ready ", "launch "),
        ("8 of 5: boot", " ready ", "boot "),
        ("9 of 1: connect", "session ended", "connect_ms="),
    ] {
        let lines = log.lines().filter(|line| line.contains(kind));
        figures.insert(shown, lines.map(|line| behind(line, mark)).collect());
    }
    println!("milliseconds, medians of {}:", woken.len());
    for (shown, values) in figures {
        println!("{shown:>24} {:7.1}", median(values));
    }
}

/// The number that stands behind `mark`.
fn behind(line: &str, mark: &str) -> f64 {
    let rest = line.split_once(mark).unwrap().1;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1000.0).collect()
}
